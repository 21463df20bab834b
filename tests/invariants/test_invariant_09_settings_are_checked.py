"""Invariant 9: unknown settings, and settings that would do nothing, are refused with the valid ones."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ferrule.chat.codec import codec
from ferrule.cli import main
from ferrule.core.recipe import vary
from ferrule.rewards.verify import verify
from ferrule.train.grpo import grpo
from ferrule.train.loop import train
from ferrule.train.settings import Settings
from ferrule.worlds.apis import Apis
from ferrule.worlds.arithmetic import Arithmetic


def refused(*arguments: str) -> str:
    found = CliRunner().invoke(main, list(arguments))
    assert found.exit_code == 2, found.output
    return found.output


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (("trian",), "'train'"),
        (("train", "--max-stpes", "3"), "--max-steps"),
        (("train", "--learning-rat", "3"), "--learning-rate"),
        (("train", "--world", "arithmetc"), "'arithmetic'"),
        (("train", "--recipe", "ferrule.papers.otc:recipee"), "'recipe'"),
        (("train", "--loss-type", "dapoo"), "'dapo'"),
        (("train", "--lr-scheduler-type", "cosin"), "'cosine'"),
        (("train", "--model", "pockte"), "'pocket'"),
        (("eval", "arithmetik"), "'arithmetic'"),
        (("papers", "show", "otcc"), "'otc'"),
        (("models", "get", "smollm2-135"), "'smollm2-135m'"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(arguments: tuple[str, ...], nearest: str) -> None:
    assert nearest in refused(*arguments)


def test_a_typo_in_a_settings_file_or_a_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"max_stepps": 3}))
    assert "'max_steps'" in refused("train", "--settings", str(tmp_path / "settings.json"))
    (tmp_path / "tasks.jsonl").write_text('{"promt": "2 + 2?", "answer": "4"}\n')
    told = refused("train", "--tasks", str(tmp_path / "tasks.jsonl"))
    assert "prompt" in told
    assert "line 1" in told


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("train", "--lora-r", "4"), "would do nothing"),
        (("train", "--tools", "tools.py"), "--dataset"),
        (("train", "--world", "apis", "--tasks", "x.jsonl"), "data (--dataset) would do nothing"),
        (("eval", "arithmetic", "--tools", "tools.py"), "would do nothing"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(arguments: tuple[str, ...], why: str) -> None:
    assert why in refused(*arguments)


def test_refusals_of_the_pieces(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="would do nothing without"):
        replace(grpo(), refill=2)
    with pytest.raises(TypeError, match="'reward'"):
        vary(grpo(), rewards=None)
    with pytest.raises(ValueError, match="eval_steps would do nothing"):
        train(grpo(), Arithmetic(), None, Settings(eval_steps=2), tmp_path)
    with pytest.raises(ValueError, match="choose a multiple"):
        train(grpo(num_generations=3), Arithmetic(), None, Settings(gradient_accumulation_steps=1), tmp_path)
    with pytest.raises(ValueError, match="valid: train, test"):
        Apis().tasks("tests", 1)
    with pytest.raises(ValueError, match="valid levels"):
        Apis().tasks("test", 1, levels=(6,))
    with pytest.raises(ValueError, match="'numeric'"):
        verify("numerik", "1", "1")
    with pytest.raises(ValueError, match="'hermes'"):
        codec("herms")
    with pytest.raises(ValueError, match="least is 1"):
        Settings(max_steps=0)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Arithmetic(form="wrds"), "'words'"),
        (lambda: Arithmetic(tools=("calculater",)), "'calculator'"),
        (lambda: Arithmetic(isolation="nonne"), "'none'"),
        (lambda: Arithmetic(tools=("calculator",), isolation="none"), "would do nothing"),
        (lambda: Arithmetic().tasks("validation", 1), "valid: train, test"),
        (lambda: Settings(lr_scheduler_type="lineer"), "'linear'"),
        (lambda: Settings(save_total_limit=0), "least is 1"),
        (lambda: Settings(learning_rate=float("nan")), "finite"),
        (lambda: codec("hermes", styl="json"), "'style'"),
        (lambda: codec("hermes", shape="wide"), "'tight'"),
        (lambda: grpo(loss_type="gpro"), "'grpo'"),
        (lambda: grpo(scale_rewards="groups"), "'group'"),
        (lambda: vary(grpo(), num_generation=3), "'num_generations'"),
        (lambda: vary(grpo(), temperature=0.0), "above 0"),
        (lambda: replace(grpo(), refill=1), "would do nothing"),
    ],
)
def test_invariant_09_unknown_names_and_idle_settings_are_refused(make, told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=told.replace("'", ".")):
        make()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reference": True}, "reference would do nothing"),
        ({"critic": lambda reward_N: reward_N}, "critic would do nothing"),
        ({"objective": lambda logp_NT, ref_NT: logp_NT}, "set Recipe.reference"),
        ({"objective": lambda logp_NT, target_NT: logp_NT}, "set Recipe.critic"),
        ({"objective": lambda logp_NT, advantage_NT: logp_NT}, "reads 'advantage_NT'"),
        ({"credit": lambda reward_N, group: reward_N}, "did you mean 'group_N'"),
    ],
)
def test_invariant_09_pieces_that_do_not_fit_are_refused_before_the_first_step(changes, told, tmp_path) -> None:
    with pytest.raises(ValueError, match=told):
        train(replace(grpo(), **changes), Arithmetic(), None, Settings(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_invariant_09_trackers_and_tools_of_tasks(tmp_path: Path) -> None:
    from tests.toys import tiny_policy

    (task,) = Apis().tasks("train", 1, levels=(1,))
    name = Apis().start(task).tools[0].name
    with pytest.raises(ValueError, match=f"did you mean '{name}'"):
        Apis().start(replace(task, tools=(f"{name}e",)))
    with pytest.raises(ValueError, match="'wandb'"):
        train(grpo(), Arithmetic(), tiny_policy(), Settings(report_to=("wandbb",)), tmp_path / "run")


def test_invariant_09_evaluation_settings_without_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same through the command line: nothing is trained and the reason is said."""
    from tests.toys import tiny_policy

    monkeypatch.chdir(tmp_path)
    tiny_policy().save(tmp_path / "model")
    told = refused("train", "--model", "model", "--eval-steps", "5", "--eval-tasks", "0", "--max-steps", "1")
    assert "eval_steps would do nothing" in told
    # With held-out tasks to measure first, and a run of that name to overwrite: neither happens.
    (tmp_path / "runs" / "train").mkdir(parents=True)
    (tmp_path / "runs" / "train" / "metrics.jsonl").write_text("kept")
    uneven = ("--num-generations", "3", "--per-device-train-batch-size", "16", "--gradient-accumulation-steps", "1")
    told = refused("train", "--model", "model", *uneven, "--overwrite", "--max-steps", "1")
    assert "choose a multiple" in told
    assert [p.name for p in tmp_path.glob("runs/*/*")] == ["metrics.jsonl"]
    assert (tmp_path / "runs" / "train" / "metrics.jsonl").read_text() == "kept"
