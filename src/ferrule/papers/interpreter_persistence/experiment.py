"""The two by two: students of both regimes, run in both runtimes, told the truth about the runtime or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ferrule.agents.code import CodeAct
from ferrule.core.records import Policy, Task, Trajectory
from ferrule.papers.interpreter_persistence.language import Restricted
from ferrule.papers.interpreter_persistence.students import messages_of, rows_of, shuffled, student, texts_of
from ferrule.papers.interpreter_persistence.teacher import paired_traces
from ferrule.rollout.drive import drive, seed_of
from ferrule.worlds.knapsack import Knapsack

__all__ = [
    "CELLS",
    "DRAWS",
    "SCALES",
    "Cell",
    "Scale",
    "cell",
    "compare_tokens",
    "has_name_error",
    "per_thousand",
    "run_seed",
    "teach_students",
]

DRAWS = 5000
"""Resamples of a bootstrap interval."""
CELLS: Mapping[str, tuple[bool, bool]] = {
    "P->P": (True, True),
    "P->S": (True, False),
    "S->P": (False, True),
    "S->S": (False, False),
}
"""Cells by name: whether the interpreter was persistent in training, and whether it is in use."""


@dataclass(frozen=True)
class Scale:
    """Size of the experiment: trace pairs, training steps of ``rows`` traces, test tasks, turns of an episode."""

    traces: int
    steps: int
    rows: int
    tasks: int
    turns: int
    rate: float = 2e-3
    levels: tuple[int, ...] = (1, 2)


SCALES: Mapping[str, Scale] = {"small": Scale(1200, 300, 4, 100, 9), "tiny": Scale(8, 2, 4, 2, 2)}
"""The claim's scale (every trace is seen once) and one to try the machinery."""


@dataclass(frozen=True)
class Cell:
    """What the episodes of one cell came to, one entry per task: score 0 to 1, turns, tokens, and NameErrors.

    ``written`` counts the tokens that the model wrote, ``length`` all tokens of the conversation.
    """

    scores: tuple[float, ...]
    solved: tuple[bool, ...]
    steps: tuple[int, ...]
    written: tuple[int, ...]
    length: tuple[int, ...]
    name_errors: tuple[bool, ...]
    errors: tuple[bool, ...]
    finished: tuple[bool, ...]

    def summary(self) -> dict[str, float]:
        """Return means over tasks; ``per_1k`` is the mean score (0 to 100) per thousand tokens of the conversation."""
        score, length = 100 * float(np.mean(self.scores)), float(np.mean(self.length))
        return {
            "score": score,
            "solved": float(np.mean(self.solved)),
            "steps": float(np.mean(self.steps)),
            "tokens": float(np.mean(self.written)),
            "length": length,
            "per_1k": per_thousand(score, length),
            "name_errors": float(np.mean(self.name_errors)),
            "errors": float(np.mean(self.errors)),
            "finished": float(np.mean(self.finished)),
        }


def per_thousand(score: float, tokens: float) -> float:
    """Return the efficiency ``1000 score / tokens`` for a score from 0 to 100; 0 without tokens."""
    return 1000 * score / tokens if tokens else 0.0


def has_name_error(trajectory: Trajectory) -> bool:
    """Say whether a block of the episode failed because a name was missing."""
    return any(isinstance(o.data, dict) and o.data.get("kind") == "NameError" for _, o in trajectory.calls)


def cell(
    policy: Policy, world: Knapsack, agent: CodeAct, tasks: Sequence[Task], *, told: bool | None = None, seed: int = 0
) -> Cell:
    """Play every task once, greedily, in the runtime of ``world``, and measure.

    The system message states the runtime ``told`` (None: the truth). Scores come from the world's state, never from
    what the agent says.
    """
    speaker = replace(agent, persistent=world.persistent if told is None else told)
    played = [e.trajectories[0] for e in drive(speaker, tasks, world, policy, seed=seed, temperature=0.0)]
    return Cell(
        scores=tuple(float(t.final.get("score", 0.0)) for t in played),
        solved=tuple(bool(t.final.get("solved")) for t in played),
        steps=tuple(len(t.turns) for t in played),
        written=tuple(t.sampled_count for t in played),
        length=tuple(sum(len(turn.given) + len(turn.sampled) for turn in t.turns) for t in played),
        name_errors=tuple(has_name_error(t) for t in played),
        errors=tuple(any(o.status != "ok" for _, o in t.calls) for t in played),
        finished=tuple(bool(t.final.get("finished")) for t in played),
    )


def compare_tokens(one: Cell, other: Cell) -> float:
    """Return how many times as many tokens the model wrote in ``one`` as in ``other``, by their means."""
    return float(np.mean(one.written) / np.mean(other.written))


def teach_students(scale: Scale, seed: int) -> tuple[dict[bool, Any], dict[str, Any]]:
    """Train one student per regime on the teacher's paired traces and return both with figures of the traces.

    Both start from the same weights and tokenizer and learn from the same tasks. Each trace states either runtime in
    its system message, drawn at random, so only what blocks come to can tell the regime. Needs the extra ``train``.
    """
    from ferrule.train.settings import Settings
    from ferrule.train.stage import fit, sft

    world, agent = Knapsack(face="code", interpret=Restricted), replace(agent_of(scale), turns=20)
    tasks = world.tasks("train", scale.traces, seed=seed_of("persistence", seed), levels=scale.levels)
    traces = paired_traces(world, tasks, agent)
    tools = world.start(tasks[0]).tools
    told = {regime: [messages_of(t) for t in episodes] for regime, episodes in traces.items()}
    systems = [told[regime][0][0] for regime in (True, False)]
    texts = texts_of([*told[True][:200], *told[False][:200]], tools)
    students: dict[bool, Any] = {}
    facts: dict[str, Any] = {}
    for persistent in (True, False):
        policy = student(texts, seed=seed)
        rows = rows_of(policy, shuffled(told[persistent], systems, seed), tools)
        settings = Settings(
            max_steps=scale.steps,
            learning_rate=scale.rate,
            per_device_train_batch_size=scale.rows,
            warmup_steps=min(20, scale.steps),
            lr_scheduler_type="cosine",
            seed=seed,
        )
        losses = fit(policy, sft(rows), settings)
        students[persistent] = policy
        facts["persistent" if persistent else "reset"] = {
            "loss": float(np.mean(losses[-10:])),
            "tokens": float(np.mean([sum(k >= 0 for k in row.turn) for row in rows])),
            "length": float(np.mean([len(row.ids) for row in rows])),
            "score": 100 * float(np.mean([t.final["score"] for t in traces[persistent]])),
        }
    return students, facts


def agent_of(scale: Scale) -> CodeAct:
    """Return the agent of the claim: only the system message says which runtime it is."""
    return CodeAct(system="", turns=scale.turns, max_tokens=200, runtime=False)


def run_seed(scale: Scale, seed: int) -> dict[str, Any]:
    """Train both students with one seed and return ``{"cells", "untrue", "teacher"}``, the cells by name.

    ``untrue`` holds the cells of students in the other runtime again, with their own regime's statement in the system
    message.
    """
    students, facts = teach_students(scale, seed)
    world, agent = Knapsack(face="code", interpret=Restricted), agent_of(scale)
    tasks = world.tasks("test", scale.tasks, seed=seed_of("persistence test", seed), levels=scale.levels)
    cells, untrue = {}, {}
    for name, (trained, runs) in CELLS.items():
        runtime = replace(world, persistent=runs)
        cells[name] = cell(students[trained], runtime, agent, tasks, seed=seed)
        if trained is not runs:
            untrue[name] = cell(students[trained], runtime, agent, tasks, told=not runs, seed=seed)
    return {"cells": cells, "untrue": untrue, "teacher": facts, "scale": asdict(scale)}
