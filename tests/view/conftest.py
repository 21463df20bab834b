"""A run folder as the training loop leaves it, made of real records, with hostile text in it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.rollout.record import Episode, append

HOSTILE = "</pre></details><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
SYSTEM = "You can call tools.\n" + "\n".join(
    f'{{"name": "tool_{i}", "description": "Looks up row {i} of the table", "parameters": {{"row": "integer"}}}}'
    for i in range(14)
)


def _episode(index: int, solved: bool, *, observed: str = "", said: str = "") -> Episode:
    """One task solved by the calculator, or answered wrongly after a malformed and a failing call."""
    left, right = 37 + index, 86 - index
    task = Task(
        id=f"arithmetic-test-{index}",
        prompt=f"A crate holds {left} rows of {right} nails. How many nails is that?",
        answer=str(left * right),
        world="arithmetic",
        meta={"level": 2 + index % 3},
    )
    opening = (Message("system", SYSTEM), Message("user", task.prompt))
    if solved:
        call = Call("calculator", {"expression": f"{left} * {right}"}, "call_0", "<tool_call>...</tool_call>")
        seen = Observation(observed or str(left * right))
        told = Message("tool", seen.text, name="calculator", call_id="call_0")
        turns = (
            Turn(0, None, (1, 2, 3), (4, 5), (-0.1, -0.2), Message("assistant", said, (call,)), opening, (seen,)),
            Turn(1, 0, (6,), (7,), (-0.3,), Message("assistant", str(left * right)), (told,)),
        )
        answer = str(left * right)
    else:
        broken = Call(
            "", raw='<tool_call>{"name": "calculator", "argu</tool_call>', problem="arguments: no closing brace"
        )
        code = Call("python", {"code": f"total = {left} * {right}\nprint(totl)"}, "call_1", repairs=("single quotes",))
        failed = Observation("Traceback (most recent call last):\nNameError: name 'totl' is not defined", "error")
        refused = Observation(observed or "the call could not be read: arguments: no closing brace", "malformed")
        both = Message("assistant", said or "Let me compute that.", (broken, code))
        told = (Message("tool", refused.text), Message("tool", failed.text))
        turns = (
            Turn(0, None, (1, 2, 3), (4, 5), (-0.1, -0.2), both, opening, (refused, failed)),
            Turn(1, 0, (6,), (7,), (-0.3,), Message("assistant", "About 3000."), told, finish="length"),
        )
        answer = "About 3000."
    path = Trajectory(task, turns, answer=answer, finish="answer")
    return Episode(task, sample=0, seed=11 + index, trajectories=(path,))


def _arm(success: float, count: int, calls: float) -> dict[str, Any]:
    def part(share: float, of: int) -> dict[str, Any]:
        wide = 1.96 * math.sqrt(max(share * (1 - share), 0.01) / of)
        return {"success": share, "interval": [max(0.0, share - wide), min(1.0, share + wide)], "count": of}

    levels = {str(level): part(min(1.0, max(0.0, success + 0.12 * (3 - level))), count // 5) for level in range(1, 6)}
    worlds = {"arithmetic": part(min(1.0, success + 0.04), count // 2), "apis": part(success - 0.04, count // 2)}
    other = {"calls": calls, "malformed": 0.31 - 0.3 * success, "tokens": None, "finish": {"answer": count}}
    return {**part(success, count), **other, "by_level": levels, "by_world": worlds}


def make_run(folder: Path, *, seed: int = 0, steps: int = 90) -> Path:
    """Write a whole run folder."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    settings = {
        "model": "pocket",
        "world": "arithmetic+apis",
        "learning_rate": 3e-4,
        "num_generations": 8,
        "max_steps": steps,
        "seed": seed,
        "recipe": {"credit": "group_mean", "objective": "surrogate(lo=0.2, hi=0.28)", "keep": None},
        "endpoint": {"url": "none", "api_key": "sk-not-for-pages"},
    }
    versions = {"python": "3.11.7", "ferrule": "0.1.0", "cores": 2, "torch": "2.13.0"}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "versions.json").write_text(json.dumps(versions), encoding="utf-8")
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for step in range(1, steps + 1):
            skill = 0.32 + 0.52 / (1 + math.exp(-(step - 35) / 12))
            row = {
                "step": step,
                "phase": "train",
                "seconds": 2.5 * step,
                "seconds/sample": 1.7 + 0.3 * rng.standard_normal(),
                "success": float(np.clip(skill + 0.07 * rng.standard_normal(), 0, 1)),
                "reward/mean": float(skill + 0.05 * rng.standard_normal()),
                "calls/mean": float(1.9 - 0.6 * skill + 0.1 * rng.standard_normal()),
                "malformed/share": float(np.clip(0.3 * (1 - skill) + 0.02 * rng.standard_normal(), 0, 1)),
                "groups/zero_spread": float(np.clip(skill - 0.2 + 0.08 * rng.standard_normal(), 0, 1)),
                "loss": float(0.02 * rng.standard_normal()),
                "entropy": float(0.9 * math.exp(-step / 60) + 0.02 * rng.standard_normal()),
                "grad_norm": float("nan") if step == 7 else float(abs(0.8 + 0.2 * rng.standard_normal())),
                "tokens": int(9000 + 400 * rng.standard_normal()),
                "queue/<depth>": int(step % 4),
            }
            file.write(json.dumps(row) + "\n")
            if step % 30 == 0:
                file.write(json.dumps({"step": step, "phase": "eval", "success": float(skill)}) + "\n")
    evaluations = {
        side: {
            "arms": {"with tools": _arm(share, 240, 1.7), "without tools": _arm(0.21, 240, 0.0)},
            "temperature": 1.0,
        }
        for side, share in (("before", 0.36), ("after", 0.78))
    }
    (folder / "evaluations.json").write_text(json.dumps(evaluations), encoding="utf-8")
    table = "\n".join(f"row {i}: \x1b[31m{i * i}\u202e" for i in range(60))
    for phase, solved in (("before", (0, 0, 1, 1, 0, 0, 1)), ("after", (1, 1, 1, 0, 0, 1, 1))):
        episodes, extras = [], []
        for index, good in enumerate(solved):
            observed, said = {1: (HOSTILE, HOSTILE), 2: (table, "")}.get(index, ("", ""))
            episodes.append(_episode(index, bool(good), observed=observed, said=said))
            scores = [{"value": float(good), "parts": {"outcome": float(good), "format": 0.5}}]
            extras.append({"phase": f"{phase}, with tools", "scores": scores})
        append(folder / "evaluation.jsonl", episodes, extras)
    text = "61% of the groups have equal rewards and teach nothing"
    warned = [{"step": s, "phase": "warning", "text": text} for s in (70, 72, 80)]
    (folder / "warnings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in warned), encoding="utf-8")
    return folder


@pytest.fixture
def build() -> Callable[..., Path]:
    """Return the builder of synthetic run folders."""
    return make_run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A complete run folder."""
    return make_run(tmp_path / "first-run")
