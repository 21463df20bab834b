"""Losses and gradients of the first steps, beside those of TRL's trainers on the same files and weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.peers import ROOT, peer_python

from ferrule.agents.depth_first import DepthFirst
from ferrule.agents.monte_carlo import MonteCarlo, separated
from ferrule.agents.search import Budget
from ferrule.cli import main
from ferrule.core.records import Trajectory
from ferrule.data.fragments import forks_of, fragment_pairs
from ferrule.data.layout import laid_out
from ferrule.data.records import Preference
from ferrule.data.trees import step_preferences, tree_of
from ferrule.data.written import spelled_out, write_preferences
from ferrule.policies.local import Local
from ferrule.policies.named import load
from ferrule.rollout.drive import drive
from ferrule.worlds.apis import Apis

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900), pytest.mark.usefixtures("undrawn")]

_FLAGS = {"max_steps": 3, "per_device_train_batch_size": 6, "learning_rate": 1e-4}
"""Every step holds all rows, so that no order of rows can matter."""
_TOOL = {"type": "function", "function": {"name": "times", "description": "Multiply.", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}}}  # fmt: skip


def talk(i: int) -> list[dict[str, Any]]:
    arguments = json.dumps({"a": i, "b": 7})
    return [
        {"role": "user", "content": f"What is {i} times 7?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "times", "arguments": arguments}}]},
        {"role": "tool", "content": str(7 * i)},
        {"role": "assistant", "content": f"It is {7 * i}." + " Sure." * i},
    ]


def question(i: int) -> str:
    return f"Question: what comes after {i}?\nAnswer:"


_WRONG = [{"role": "assistant", "content": "I do not know."}]
CASES: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "conversations": ("sft", lambda i: {"messages": talk(i), "tools": [_TOOL]}, ("--loss-on", "all")),
    "replies": ("sft", lambda i: {"prompt": talk(i)[:3], "completion": talk(i)[3:], "tools": [_TOOL]}, ()),
    "completions": ("sft", lambda i: {"prompt": question(i), "completion": f" {i + 1}." + " Yes." * i}, ()),
    "texts": ("sft", lambda i: {"text": f"{question(i)} {i + 1}." + " Yes." * i}, ()),
    "pairs of messages": (
        "dpo",
        lambda i: {"prompt": talk(i)[:3], "chosen": talk(i)[3:], "rejected": _WRONG, "tools": [_TOOL]},
        (),
    ),
    "pairs of texts": (
        "dpo",
        lambda i: {"prompt": question(i), "chosen": f" {i + 1}.", "rejected": " No." * (i + 1)},
        (),
    ),
}


def _searched(policy: Local) -> list[Preference]:
    """Return pairs of steps of searches, those with a call in front."""
    world, pairs = Apis(), list[Preference]()
    agent = DepthFirst(width=3, depth=6, answers=4, back=1, budget=Budget(tokens=300), max_tokens=64)
    for episode in drive(agent, world.tasks("train", 16, levels=(2, 3, 4)), world, policy, temperature=1.2):
        right = partial(_right, episode.task.answer)
        with closing(world.start(episode.task)) as session:
            pairs += step_preferences(tree_of(episode.trajectories, right, tools=session.tools, task=episode.task.id))
    return sorted(pairs, key=lambda pair: not any(m.calls for m in (*pair.chosen, *pair.rejected)))  # type: ignore[union-attr]


def _right(answer: Any, path: Trajectory) -> bool:
    return path.turns[-1].notes.get("answer") == answer


def _spelled(policy: Local) -> list[Preference | None]:
    pairs = ((pair, laid_out(pair, policy.renderer, policy.encode)) for pair in _searched(policy))
    return [spelled_out(ids, policy.encode, policy.tokenizer.decode, **pair.origin) for pair, ids in pairs]  # type: ignore[arg-type]


def _fragments(policy: Local) -> list[Preference | None]:
    """Return pairs of the first and the last fragment at the places of searches inside replies."""
    agent = MonteCarlo(iterations=4, depth=4, max_tokens=64, split=partial(separated, step_limit=1))
    played = drive(agent, Apis().tasks("train", 6, levels=(2, 3, 4)), Apis(), policy, temperature=1.2)
    forks = [fork for episode in played for fork in forks_of(episode.trajectories, task=episode.task.id)]
    return [
        spelled_out(pair, policy.encode, policy.tokenizer.decode, **fork.origin)
        for fork in forks
        for pair in fragment_pairs([fork], lambda fragments: (0, len(fragments) - 1) if len(fragments) > 1 else None)
    ]


DRAWN: dict[str, Callable[[Local], Sequence[Preference | None]]] = {
    "pairs of searches": _searched,
    "pairs of searches, spelled out": _spelled,
    "pairs of fragments": _fragments,
}


def theirs(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Return what TRL's trainers log; TRL comes from an environment of its own, all else from this one."""
    (packages,) = (peer_python("trl")["trl"].parents[1] / "lib").glob("python*/site-packages")
    kinds = {name: kind for name, (kind, _, _) in CASES.items()} | dict.fromkeys(DRAWN, "dpo")
    cases = {name: (kind, str(folder / f"{name}.jsonl"), _FLAGS) for name, kind in kinds.items()}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/integration/trl_losses.py"), str(folder / "model"), str(folder / "out"),
         json.dumps(cases)],
        env=os.environ | {"PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("told: "))
    return json.loads(line.removeprefix("told: "))  # type: ignore[no-any-return]


def ours(folder: Path, name: str) -> list[dict[str, float]]:
    kind, _, flags = CASES.get(name, ("dpo", None, ()))
    given = [word for flag, value in _FLAGS.items() for word in (f"--{flag}", str(value))]
    command = ["sft"] if kind == "sft" else ["prefer", "--method", "dpo"]
    data = ["--dataset", str(folder / f"{name}.jsonl"), "--eval-rows", "0", "--output-dir", str(folder / name)]
    done = CliRunner().invoke(main, [*command, "--model", str(folder / "model"), *data, *given, *flags])
    assert done.exit_code == 0, done.output
    logged = map(json.loads, (folder / name / "metrics.jsonl").read_text().splitlines())
    return [row for row in logged if row["phase"] == "train"]


def test_losses_and_gradients_of_the_first_steps_agree_with_those_of_trl(tmp_path: Path) -> None:
    policy = load("pocket")
    policy.save(tmp_path / "model")
    for name, (_, row, _) in CASES.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row(i)) + "\n" for i in range(6)))
    for name, draw in DRAWN.items():
        pairs = [pair for pair in draw(policy) if pair is not None][:6]
        assert write_preferences(tmp_path / f"{name}.jsonl", pairs) == 6
        assert all(pair.origin["task"] for pair in pairs)
    told = theirs(tmp_path)
    for name in (*CASES, *DRAWN):
        steps = ours(tmp_path, name)
        for key, allowed in (("loss", 1e-4), ("grad_norm", 1e-3)):
            expected = [step[key] for step in told[name]]
            assert len(expected) == 3
            assert [step[key] for step in steps] == pytest.approx(expected, abs=allowed), (name, key)
