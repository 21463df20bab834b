"""``ferrule bench`` and ``ferrule plan`` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ferrule.cli import main
from ferrule.core.flows import Ask
from ferrule.core.records import Message
from ferrule.policies.local import Local, load
from ferrule.policies.pocket import WEIGHTS
from ferrule.speed.measure import Bench, made_up, timed_rollout, timed_update
from ferrule.train.optimiser import optimiser_of
from ferrule.train.settings import Settings

QUICK = ("bench", "--model", "pocket", "--quick", "--rows", "1x2,2x2", "--prompt", "16", "--new", "4", "--threads", "1")


def ran(*arguments: str) -> str:
    found = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


def refused(*arguments: str) -> str:
    found = CliRunner().invoke(main, list(arguments))
    assert found.exit_code == 2, found.output
    return " ".join(found.output.split())


@pytest.fixture(scope="module")
def bench_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of one quick bench."""
    path = tmp_path_factory.mktemp("bench") / "deep" / "bench.json"
    text = ran(*QUICK, "--json", str(path))
    for word in ("rollout", "decode", "update", "roofline", "GB/s"):
        assert word in text
    return path


def test_bench_writes_what_it_measured(bench_file: Path) -> None:
    found = json.loads(bench_file.read_text())
    assert (found["model"], found["dtype"], found["threads"]) == ("pocket", "float32", 1)
    # The counts from the config are those of the module: the roofline is that of this model.
    assert found["parameters"]["counted"] == found["parameters"]["model"]
    assert [(row["prompts"], row["samples"]) for row in found["rollout"]] == [(1, 2), (2, 2)]
    for row in found["rollout"]:
        spent = row["seconds"]["median"]
        tokens = row["prompts"] * row["samples"] * 4
        assert row["tokens_per_second"] == pytest.approx(tokens / spent)
        assert row["fraction"] == pytest.approx(row["tokens_per_second"] / row["ideal_tokens_per_second"])
        assert row["decode_fraction"] > 0
        assert row["decode_bound"] in ("memory", "compute")
    made = found["update"]
    # Two rows of 16 + 4 tokens; packed, their prompt counts once.
    assert (made["row_tokens"], made["packed_tokens"]) == (40, 24)
    assert made["fraction"] == pytest.approx(made["row_tokens_per_second"] / made["ideal_row_tokens_per_second"])
    assert set(found["reached"]) == {"decode", "prefill", "train"}
    assert {"ferrule", "torch", "python"} <= set(found["versions"])
    assert set(found["load"]) == {"before", "after"}
    assert "device" in found
    assert str(Path.home()) not in bench_file.read_text()


def test_plan_takes_measured_rates(bench_file: Path) -> None:
    found = json.loads(bench_file.read_text())
    load = (
        "--episodes",
        "2",
        "--num-generations",
        "2",
        "--turns",
        "1",
        "--prompt",
        "16",
        "--new",
        "4",
        "--tool-seconds",
        "0",
    )
    (made,) = json.loads(
        ran("plan", "--model", str(WEIGHTS), "--rates", str(bench_file), "--gpus", "1", *load, "--json")
    )
    assert made["device"] == found["device"]
    assert made["settings"]["setup"]["fractions"]["decode"] == min(found["reached"]["decode"], 1)
    assert made["generation"]["tokens_per_second"] > 0
    assert "name the --device" in refused("plan", "--rates", str(bench_file), "--gpus", "1,2")
    given = ("plan", "--model", "smollm2-135m", "--rates", str(bench_file), "--device", "h100", "--gpus", "2", "--json")
    (linked,) = json.loads(ran(*given))
    assert linked["device"] == "h100"
    assert linked["training_memory"]["usable"] == 0.9 * 80e9
    (sheet,) = json.loads(ran("plan", "--model", "smollm2-135m", "--gpus", "2", "--json"))
    # The links are those of the data sheet; measured in fp32, weights have twice the bytes.
    assert linked["network"]["push_seconds"] == pytest.approx(2 * sheet["network"]["push_seconds"])
    assert linked["update"]["seconds"] > sheet["update"]["seconds"]


def test_plan_in_words_and_in_json() -> None:
    text = ran("plan", "--model", "qwen3-8b", "--gpus", "1,8")
    assert "episodes per hour" in text
    assert "would fit" in text
    plans: list[dict[str, Any]] = json.loads(ran("plan", "--model", "Qwen3-8B", "--gpus", "1,8", "--json"))
    assert [(one["gpus"], one["fits"]) for one in plans] == [(1, False), (8, True)]
    fewer = json.loads(ran("plan", "--gpus", "8", "--turns", "1", "--decode", "0.3", "--json"))
    assert fewer[0]["settings"]["workload"]["turns"] == 1
    assert fewer[0]["settings"]["setup"]["fractions"]["decode"] == 0.3


def test_wrong_words_are_refused(tmp_path: Path) -> None:
    assert "did you mean 'qwen3-8b'" in refused("plan", "--model", "qwen3-8")
    assert "did you mean 'mi300x'" in refused("plan", "--device", "mi300")
    assert "not a list of numbers" in refused("plan", "--gpus", "many")
    assert "turns is 0" in refused("plan", "--turns", "0")
    (tmp_path / "other.json").write_text("{}")
    assert "not a result of 'ferrule bench" in refused("plan", "--rates", str(tmp_path / "other.json"))
    assert "prompts x samples" in refused("bench", "--rows", "8")
    assert "prompts x samples" in refused("bench", "--rows", "0x8")
    assert "new is 1" in refused("bench", "--new", "1")
    assert "positions" in refused("bench", "--prompt", "5000")
    assert "did you mean 'pocket'" in refused("bench", "--model", "pockt")
    assert "is a server" in refused("bench", "--model", "http://localhost:1/v1")


@pytest.fixture
def policy(one_thread: None) -> Local:
    return load(WEIGHTS)


def test_every_row_makes_all_its_tokens(policy: Local) -> None:
    """End tokens are drawn and end no row."""
    head = policy.model.get_output_embeddings()
    head.weight.data.zero_()  # all logits are equal: ids are drawn at random, the end among them
    prompts = made_up(policy, 2, 5)
    assert prompts == made_up(policy, 2, 5)
    assert len(set(prompts)) == 2
    found = timed_rollout(policy, prompts, 40, 30)
    assert 0 < found["first"] < found["seconds"]
    # Both prompts fit into one step, so every row's first token comes with them: 29 later ones for each of 80 rows.
    assert found["later"] == 80 * 29
    # The same weights do draw the end; the seed is fixed, and 96 x 30 draws of 640 ids miss one of them with 1%.
    (replies,) = policy.generate([Ask((Message("user", "x"),), n=96, max_tokens=30, seed=1)])
    assert "stop" in {reply.finish for reply in replies}


def test_an_update_takes_one_step_over_all_rows(policy: Local) -> None:
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    optimiser = optimiser_of(policy, Settings())
    assert timed_update(policy, made_up(policy, 1, 6), 2, 3, optimiser) > 0
    assert [float(state["step"]) for state in optimiser.state.values()] == [1.0] * len(before)
    changed = [name for name, p in policy.model.named_parameters() if not np.array_equal(before[name], p.detach())]
    assert len(changed) == len(before)


def test_settings_of_a_bench_are_checked() -> None:
    with pytest.raises(ValueError, match="rows is"):
        Bench(rows=())
    with pytest.raises(ValueError, match="repeats is 0"):
        Bench(repeats=0)
