"""Interpreter persistence: students of both regimes, run in both runtimes, told the truth about the runtime or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ferrule.agents.code import CodeAct
from ferrule.core.flows import Policy
from ferrule.core.records import Task, Trajectory
from ferrule.papers.interpreter_persistence import paired_traces, per_thousand
from ferrule.rollout.drive import Limits, drive, seed_of
from ferrule.sandbox.restricted import Restricted
from ferrule.studies.conditions import at_least, less, of, over, within
from ferrule.studies.students import messages_of, rows_of, shuffled, student, texts_of
from ferrule.studies.study import Study
from ferrule.worlds.knapsack import Knapsack

__all__ = ["CELLS", "STUDY", "cell", "has_name_error", "two_by_two"]

CELLS: Mapping[str, tuple[bool, bool]] = {
    "P->P": (True, True),
    "P->S": (True, False),
    "S->P": (False, True),
    "S->S": (False, False),
}
"""Cells by name: whether the interpreter was persistent in training, and whether it is in use."""
WORLD = Knapsack(face="code", interpret=Restricted)
AGENT = CodeAct(system="", max_tokens=200, runtime=False)
"""The agent of the claim: only the system message says which runtime it is."""


def has_name_error(trajectory: Trajectory) -> bool:
    """Say whether a block of the episode failed because a name was missing."""
    return any(isinstance(o.data, dict) and o.data.get("kind") == "NameError" for _, o in trajectory.calls)


def cell(
    policy: Policy, world: Knapsack, agent: CodeAct, tasks: Sequence[Task], *, stated: bool, seed: int
) -> dict[str, float]:
    """Play every task once, greedily, in the runtime of ``world``, and return means over tasks.

    The system message states the runtime ``stated``. Scores (0 to 100) come from the world's state, never from what the
    agent says. ``tokens`` counts what the model wrote, ``length`` all tokens of the conversation, and ``per_1k`` is the
    score per thousand of those; ``globals`` is the largest number of names that outlived a block.
    """
    speaker = replace(agent, persistent=stated)
    limits = Limits(patience=60.0)  # batches, and so last digits, do not depend on how quick the blocks are
    played = drive(speaker, tasks, world, policy, seed=seed, temperature=0.0, limits=limits)
    episodes = [episode.trajectories[0] for episode in played]
    score = 100 * float(np.mean([float(t.final.get("score", 0.0)) for t in episodes]))
    length = float(np.mean([sum(len(turn.given) + len(turn.sampled) for turn in t.turns) for t in episodes]))
    return {
        "score": score,
        "solved": float(np.mean([bool(t.final.get("solved")) for t in episodes])),
        "steps": float(np.mean([len(t.turns) for t in episodes])),
        "tokens": float(np.mean([t.sampled_count for t in episodes])),
        "length": length,
        "per_1k": per_thousand(score, length),
        "name_errors": float(np.mean([has_name_error(t) for t in episodes])),
        "globals": float(np.mean([max((len(o.data["globals"]) for _, o in t.calls), default=0) for t in episodes])),
        "errors": float(np.mean([any(o.status != "ok" for _, o in t.calls) for t in episodes])),
        "finished": float(np.mean([bool(t.final.get("finished")) for t in episodes])),
    }


def _taught(
    *, seed: int, traces: int, steps: int, rows: int, rate: float, levels: tuple[int, ...]
) -> tuple[dict[bool, Any], dict[str, dict[str, float]]]:
    """Train one student per regime on the teacher's paired traces and return both with figures of the traces.

    Both start from the same weights and tokenizer and learn from the same tasks. Each trace states either runtime in
    its system message, drawn at random, so only the outcomes of blocks can tell the regime.
    """
    from ferrule.train.settings import Settings
    from ferrule.train.stage import fit, sft

    tasks = WORLD.tasks("train", traces, seed=seed_of("persistence", seed), levels=levels)
    shown = paired_traces(WORLD, tasks, replace(AGENT, turns=20))
    tools = WORLD.start(tasks[0]).tools
    conversations = {regime: [messages_of(t) for t in episodes] for regime, episodes in shown.items()}
    systems = [conversations[regime][0][0] for regime in (True, False)]
    texts = texts_of([*conversations[True][:200], *conversations[False][:200]], tools)
    settings = Settings(
        max_steps=steps, learning_rate=rate, per_device_train_batch_size=rows, warmup_steps=min(20, steps),
        lr_scheduler_type="cosine", seed=seed,
    )  # fmt: skip
    students: dict[bool, Any] = {}
    figures: dict[str, dict[str, float]] = {}
    for persistent in (True, False):
        policy = student(texts, seed=seed)
        data = rows_of(policy, shuffled(conversations[persistent], systems, seed), tools)
        losses = fit(policy, sft(data), settings)
        students[persistent] = policy
        figures[f"traces, {'persistent' if persistent else 'reset'}"] = {
            "score": 100 * float(np.mean([t.final["score"] for t in shown[persistent]])),
            "tokens": float(np.mean([sum(k >= 0 for k in row.turn) for row in data])),
            "length": float(np.mean([len(row.ids) for row in data])),
            "loss": float(np.mean(losses[-10:])),
        }
    return students, figures


def two_by_two(
    *, seed: int, traces: int, steps: int, rows: int, tasks: int, turns: int, rate: float, levels: tuple[int, ...]
) -> Mapping[str, Mapping[str, float]]:
    """Train both students and run them in both runtimes, and in the other one with their own regime stated."""
    students, figures = _taught(seed=seed, traces=traces, steps=steps, rows=rows, rate=rate, levels=levels)
    agent = replace(AGENT, turns=turns)
    drawn = WORLD.tasks("test", tasks, seed=seed_of("persistence test", seed), levels=levels)
    cells: dict[str, dict[str, float]] = {}
    for name, (trained, runs) in CELLS.items():
        world = replace(WORLD, persistent=runs)
        cells[name] = cell(students[trained], world, agent, drawn, stated=runs, seed=seed)
        if trained is not runs:
            cells[f"{name}, told otherwise"] = cell(students[trained], world, agent, drawn, stated=not runs, seed=seed)
    return {**cells, **figures}


STUDY = Study(
    paper="interpreter-persistence",
    statement="Students keep the runtime they were trained in: a mismatch costs crashes or tokens, not quality.",
    falsifier="S->P adapts (tokens within 1.2 times those of P->P), or P->S recovers without errors.",
    trained="two students of 0.6 M parameters from nothing on a teacher's traces, run on unseen tasks",
    grade="B",
    arms={"two by two": two_by_two},
    asks=(
        at_least("share of P->S episodes with a NameError", of("P->S", "name_errors"), 0.6),
        at_least(
            "a tenth less the share of P->P episodes with a NameError",
            of("P->P", "name_errors", factor=-1.0, plus=0.1),
            0.0,
        ),
        at_least(
            "a tenth less the share of S->S episodes with a NameError",
            of("S->S", "name_errors", factor=-1.0, plus=0.1),
            0.0,
        ),
        at_least("tokens written, S->P by P->P", over("tokens", "S->P", "P->P"), 2.0),
        within("score (0 to 100), P->P minus S->S: alike within 5 points", less("score", "P->P", "S->S"), 5.0),
        at_least(
            "share of P->S episodes with a NameError, told otherwise",
            of("P->S, told otherwise", "name_errors"),
            0.6,
            decides=False,
        ),
        at_least(
            "tokens written, S->P told otherwise by P->P",
            over("tokens", "S->P, told otherwise", "P->P"),
            2.0,
            decides=False,
        ),
    ),
    sizes={
        "small": {
            "traces": 1200, "steps": 300, "rows": 4, "tasks": 100, "turns": 9, "rate": 2e-3, "levels": (1, 2),
        },
        "tiny": {"traces": 48, "steps": 40, "rows": 2, "tasks": 2, "turns": 5, "rate": 6e-3, "levels": (1,)},
    },
    seeds=tuple(range(100, 106)),  # six students of each regime
    machine=("loss",),  # its last digits depend on the processor
)  # fmt: skip
