from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toys import Bench, own_world, tiny_policy
from tests.train.pieces import LETTERS, Speller, lowness, recipe

from ferrule.core.arrays import chain
from ferrule.core.records import Score, Task, Trajectory
from ferrule.credit.group import whiten
from ferrule.credit.returns import gae, value_targets
from ferrule.objectives.penalty import add, weighted, with_kl
from ferrule.objectives.supervised import value_loss
from ferrule.objectives.surrogate import reinforce, surrogate
from ferrule.rollout.record import load
from ferrule.train.loop import Stream, train
from ferrule.train.monitor import Health
from ferrule.train.settings import Settings
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.session import Toolbox

pytestmark = pytest.mark.usefixtures("one_thread")


def settings(**changes: Any) -> Settings:
    base: dict[str, Any] = {
        "max_steps": 2,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
    }
    return Settings(**{**base, **changes})


def rows(folder: Path, phase: str = "train") -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["phase"] == phase]


SPELL = recipe(agent=Speller(), reward=lowness, num_generations=8)


# ------------------------------------------------------------------------------------------------------------- learning


def test_a_tiny_model_learns_what_is_rewarded(tiny: Any, tmp_path: Path) -> None:
    """Say one of 13 letters: about one sample in twenty does so by chance, nearly all after 30 steps."""
    train(SPELL, LETTERS, tiny, settings(max_steps=30, per_device_train_batch_size=64), tmp_path)
    reward = [row["reward/mean"] for row in rows(tmp_path)]
    assert sum(reward[:3]) / 3 < 0.3
    assert sum(reward[-3:]) / 3 > 0.8
    logged = [extra["scores"][0]["value"] for _, extra in load(tmp_path / "episodes.jsonl")]
    assert len(logged) == 30 * 64
    assert sum(logged[-64:]) / 64 == pytest.approx(reward[-1])


def test_without_reward_nothing_is_learnt(tiny: Any, tmp_path: Path) -> None:
    """The control: equal rewards give zero advantages and leave the weights where they are."""
    before = tiny.model.lm_head.weight.detach().clone()
    flat = replace(SPELL, reward=lambda task, ts: [Score(1.0) for _ in ts])
    train(flat, LETTERS, tiny, settings(), tmp_path)
    assert torch.equal(tiny.model.lm_head.weight, before)
    assert [row["groups/zero_spread"] for row in rows(tmp_path)] == [1.0, 1.0]


def test_adapters_learn_and_nothing_else_changes(tiny: Any, tmp_path: Path) -> None:
    tiny.add_adapter(lora_r=8)
    before = {n: p.detach().clone() for n, p in tiny.model.named_parameters()}
    train(SPELL, LETTERS, tiny, settings(max_steps=25, per_device_train_batch_size=64, learning_rate=3e-2), tmp_path)
    reward = [row["reward/mean"] for row in rows(tmp_path)]
    assert sum(reward[-3:]) > 2 * sum(reward[:3])
    for name, p in tiny.model.named_parameters():
        if "lora_" not in name:
            assert torch.equal(p, before[name]), name


CRITIC = {
    "credit": chain(gae, whiten),
    "critic": value_targets,
    "objective": add(surrogate, partial(value_loss, clip=None), 0.5),
}


def test_a_critic_learns_the_mean_reward(tiny: Any, tmp_path: Path) -> None:
    """The reward is 0.7 whatever is said: the value loss falls from 0.49 (the critic begins at 0)."""
    losses: list[float] = []

    def watched(value_NT: Any, target_NT: Any, turn_NT: Any) -> Any:
        mine = turn_NT >= 0
        losses.append(float((value_NT - target_NT).detach()[mine].square().mean()))
        return torch.where(mine, (value_NT - target_NT).square(), torch.zeros_like(value_NT))

    flat = replace(SPELL, reward=lambda task, ts: [Score(0.7) for _ in ts], **{**CRITIC, "objective": watched})
    train(flat, LETTERS, tiny, settings(max_steps=40, learning_rate=3e-2), tmp_path)
    assert losses[0] == pytest.approx(0.49, abs=1e-6)
    assert losses[-1] < 0.05


def test_an_actor_with_a_critic_learns(tiny: Any, tmp_path: Path) -> None:
    train(replace(SPELL, **CRITIC), LETTERS, tiny, settings(max_steps=30, per_device_train_batch_size=64), tmp_path)
    reward = [row["reward/mean"] for row in rows(tmp_path)]
    assert sum(reward[-3:]) / 3 > 0.8


def test_a_penalty_keeps_the_model_near_its_start(tmp_path: Path) -> None:
    """The same steps with a heavy KL penalty end nearer to the reference."""
    from tests.train.pieces import draw

    from ferrule.train.sample import sample

    def distance(beta: float) -> float:
        policy = tiny_policy()
        policy.keep_reference()
        kept = replace(SPELL, objective=with_kl(surrogate, beta), reference=True, num_iterations=2)
        train(kept, LETTERS, policy, settings(max_steps=8, per_device_train_batch_size=32), tmp_path / str(beta))
        batch = sample(kept, draw, 4, LETTERS, policy)
        assert batch.signals.ref_NT is not None
        return float(batch.signals.logp_NT.sum() - batch.signals.ref_NT.sum())

    assert distance(1.0) < 0.5 * distance(0.001)


# ---------------------------------------------------------------------------------------------------------- the records


def test_a_run_leaves_its_records(tiny: Any, tmp_path: Path) -> None:
    shown: list[Any] = []
    summary = train(SPELL, LETTERS, tiny, settings(), tmp_path / "run", show=shown.append)
    assert summary["steps"] == 2
    assert summary["stopped_by"] == "max_steps"
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2]
    assert shown == rows(tmp_path / "run")
    assert {"loss", "grad_norm", "kl", "entropy", "learning_rate", "reward/mean", "seconds/sample"} <= set(shown[0])
    episodes = list(load(tmp_path / "run" / "episodes.jsonl"))
    assert len(episodes) == 16
    assert [extra["step"] for _, extra in episodes] == [1] * 8 + [2] * 8
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"], "kept unless refused"


def test_steps_and_seeds_decide_what_is_sampled(tmp_path: Path) -> None:
    def run(name: str, seed: int) -> list[dict[str, Any]]:
        train(SPELL, LETTERS, tiny_policy(), settings(seed=seed), tmp_path / name)
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows(tmp_path / name)]

    assert run("a", 0) == run("b", 0)
    assert run("c", 1) != run("a2", 0)


def test_evaluation_happens_every_few_steps(tiny: Any, tmp_path: Path) -> None:
    def evaluate(policy: Any, step: int) -> dict[str, float]:
        assert policy is tiny
        return {"success": step / 10}

    train(SPELL, LETTERS, tiny, settings(max_steps=5, eval_steps=2), tmp_path, evaluate=evaluate)
    assert [(row["step"], row["success"]) for row in rows(tmp_path, "eval")] == [(2, 0.2), (4, 0.4)]


def test_the_rate_follows_the_schedule(tiny: Any, tmp_path: Path) -> None:
    train(
        SPELL,
        LETTERS,
        tiny,
        settings(max_steps=4, warmup_steps=2, lr_scheduler_type="linear", learning_rate=0.5),
        tmp_path,
    )
    assert [row["learning_rate"] for row in rows(tmp_path)] == [0.25, 0.5, 0.5, 0.25]


def test_warnings_are_written_and_shown_and_may_end_the_run(tiny: Any, tmp_path: Path) -> None:
    shown: list[Any] = []
    flat = replace(SPELL, reward=lambda task, ts: [Score(1.0) for _ in ts])
    summary = train(
        flat, LETTERS, tiny, settings(max_steps=9), tmp_path, show=shown.append, health=Health(window=2, stop=True)
    )
    assert (summary["steps"], summary["stopped_by"]) == (2, "health")
    warning = json.loads((tmp_path / "warnings.jsonl").read_text())
    assert (warning["step"], warning["phase"]) == (2, "warning")
    assert "equal rewards" in warning["text"]
    assert warning in shown


def test_a_run_ends_when_its_minutes_are_over(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps 40 seconds at every look: at most one step fits into a minute."""
    now = [0.0]

    def clock() -> float:
        now[0] += 40.0
        return now[0]

    import ferrule.train.loop as loop

    monkeypatch.setattr(loop.time, "perf_counter", clock)
    summary = train(SPELL, LETTERS, tiny, settings(max_steps=9, max_minutes=1.0), tmp_path)
    monkeypatch.undo()
    assert summary["stopped_by"] == "max_minutes"
    assert summary["steps"] == 1
    assert time.perf_counter() > 0


def test_groups_that_are_all_dropped_make_an_empty_step(tiny: Any, tmp_path: Path) -> None:
    before = tiny.model.lm_head.weight.detach().clone()
    train(replace(SPELL, keep=lambda ts, ss: False, refill=1), LETTERS, tiny, settings(max_steps=1), tmp_path)
    (row,) = rows(tmp_path)
    assert (row["groups"], row["dropped"], row["loss"]) == (0.0, 2.0, 0.0)
    assert torch.equal(tiny.model.lm_head.weight, before)


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_generations": 3}, r"8 samples per step .* groups of num_generations=3; choose a multiple"),
        ({"reference": True}, "Recipe.reference would do nothing"),
        ({"critic": value_targets}, "Recipe.critic would do nothing"),
        ({"objective": with_kl(surrogate, 0.1)}, "objective reads 'ref_NT'.*set Recipe.reference"),
        ({"objective": value_loss}, "objective reads 'value_NT'.*set Recipe.critic"),
        ({"objective": weighted(surrogate, "w_NT")}, "objective reads 'w_NT'"),
        ({"beside": {"w_NT": lambda reward_N: reward_N}}, r"Recipe.beside\['w_NT'\] would do nothing"),
        ({"beside": {"adv_NT": lambda reward_N: reward_N}}, "names 'adv_NT', which objectives get in any case"),
        (
            {"beside": {"w_NT": lambda rewards_N: rewards_N}, "objective": weighted(surrogate, "w_NT")},
            r"rule for w_NT reads 'rewards_N'.*did you mean 'reward_N'\?",
        ),
        ({"credit": gae}, "credit reads 'value_NT'.*set Recipe.critic"),
        ({"objective": lambda logps_NT: logps_NT}, r"objective reads 'logps_NT'.*did you mean 'logp_NT'\?"),
        ({"credit": lambda rewards_N: rewards_N}, r"credit reads 'rewards_N'.*did you mean 'reward_N'\?"),
    ],
)
def test_pieces_that_do_not_fit_are_refused_before_the_first_step(
    tiny: Any, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train(replace(SPELL, **changes), LETTERS, tiny, settings(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert not tiny.heads


@pytest.mark.parametrize(
    "changes",
    [
        CRITIC,
        {**CRITIC, "objective": add(reinforce, partial(value_loss, clip=None), 0.5), "credit": gae},
        {"objective": with_kl(surrogate, 0.1), "reference": True},
        {"credit": chain(lambda reward_N, turn_NT: turn_NT * 0.0, whiten), "objective": reinforce},
        {"objective": partial(surrogate, lo=0.1)},
        {"objective": weighted(surrogate, "w_NT"), "beside": {"w_NT": lambda adv_NT: adv_NT > 0}},
    ],
)
def test_pieces_that_fit_are_taken(tiny: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    assert train(replace(SPELL, **changes), LETTERS, tiny, settings(max_steps=1), tmp_path)["steps"] == 1


def test_evaluation_without_tasks_would_do_nothing(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="eval_steps would do nothing"):
        train(SPELL, LETTERS, tiny, settings(eval_steps=1), tmp_path)


def test_nothing_to_resume(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no run"):
        train(SPELL, LETTERS, tiny, settings(), tmp_path, resume=True)


def test_a_world_without_tasks_is_named(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="world 'toolbox' has no tasks in split 'train'"):
        train(SPELL, Toolbox(()), tiny, settings(), tmp_path)


def test_a_finished_run_can_be_resumed_and_has_nothing_to_do(tiny: Any, tmp_path: Path) -> None:
    train(SPELL, LETTERS, tiny, settings(save_steps=1), tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    assert train(SPELL, LETTERS, tiny_policy(), settings(save_steps=1), tmp_path, resume=True)["steps"] == 2
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_old_checkpoints_go_and_the_last_step_is_always_kept(tiny: Any, tmp_path: Path) -> None:
    train(SPELL, LETTERS, tiny, settings(max_steps=5, save_steps=2, save_total_limit=2), tmp_path)
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-5"]


# --------------------------------------------------------------------------------------------------------------- stream


def test_a_stream_goes_on_where_it_was() -> None:
    whole = Stream(Arithmetic(), "train", (1, 2), 3)(500)
    first = Stream(Arithmetic(), "train", (1, 2), 3)
    parts = first(7) + first(300) + Stream(Arithmetic(), "train", (1, 2), 3, position=307)(193)
    assert parts == whole
    assert len({t.id for t in whole}) == 500


def test_a_stream_is_shuffled_by_its_seed() -> None:
    def ids(seed: int) -> list[str]:
        return [t.id for t in Stream(own_world(), "train", (1,), seed)(3)]

    assert sorted(ids(0)) == ["train1", "train2", "train3"]
    assert len({tuple(ids(seed)) for seed in range(8)}) > 1


def test_a_small_data_set_is_gone_through_again_with_other_seeds() -> None:
    """Every pass brings each task once; ``meta["pass"]`` keeps its samples apart from those of the pass before."""
    stream = Stream(own_world(), "train", (1,), 0)
    drawn = stream(9)
    for lap in range(3):
        part = drawn[3 * lap : 3 * lap + 3]
        assert sorted(t.id for t in part) == ["train1", "train2", "train3"]
        assert {t.meta.get("pass", 0) for t in part} == {lap}
    later = [t for t in stream(600) if t.id == "train1"]
    passes = [t.meta.get("pass", 0) for t in later]
    assert len(set(passes)) == len(passes) == 200


def test_the_samples_of_a_repeated_task_differ(tiny: Any) -> None:
    from ferrule.train.sample import sample

    def one(count: int) -> Sequence[Task]:
        (task,) = Bench().tasks("train", 1)
        return [task, replace(task, meta={"pass": 1})]

    batch = sample(recipe(agent=Speller(tokens=8)), one, 2, LETTERS, tiny)
    said = [[t.turns[0].sampled for t in g.trajectories] for g in batch.groups]
    assert said[0] != said[1]


def test_trajectories_of_a_run_are_the_ones_trained_on(tiny: Any, tmp_path: Path) -> None:
    """The ids on disk are the ids of the update: one row per episode, in the order of the file."""
    seen: list[tuple[int, ...]] = []

    def looking(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        seen.extend(t.turns[0].sampled for t in trajectories)
        return lowness(task, trajectories)

    train(replace(SPELL, reward=looking), LETTERS, tiny, settings(max_steps=1), tmp_path)
    assert [e.trajectories[0].turns[0].sampled for e, _ in load(tmp_path / "episodes.jsonl")] == seen
