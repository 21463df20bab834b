"""Modular expressions that need one of eight named procedures, weakly indicated by a cue, played by a table.

The proposer reads a hint in the problem, which tells the procedure in most cases, and names a procedure. The solver
makes nothing of the hint: it picks a procedure for the cue and the abstraction it was given, and writes it out, or
slips; the calculator runs what it wrote. The solver's own leaning by cue is shared by its rows with and without an
abstraction, as the weights of a model would be.

Source: a stand-in for the problems of "RLAD: Training LLMs to Discover Abstractions for Solving Reasoning Problems"
(paper 49).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ferrule.core.arrays import FloatArray
from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.studies.table import Player
from ferrule.tools.calculator import calculate

__all__ = [
    "CUES", "HINTS", "NONE", "PICK", "RUN", "World", "expected", "make_task", "make_world", "propose", "solve", "tie",
    "value_of",
]  # fmt: skip

NAMES = "ABCDEFGH"
FORMS = (
    "({a} * {b}) % 97", "({a} + {b}) ** 2 % 97", "({a} ** 2 + {b}) % 97", "({a} + {b} ** 2) % 97",
    "({a} * {b} + {a}) % 97", "({a} ** 3 - {b}) % 97", "(7 * {a} + 5 * {b}) % 97", "({a} ** 2 * {b}) % 97",
)  # fmt: skip
SLIPS = ("{} + 1", "{} - 1", "2 * ({})")
CUES, NONE, HINTS = 12, len(NAMES), len(NAMES)
TOLD = 0.8
"""How often the hint of a problem is that of its procedure; else it is any other."""
PROPOSE, PICK, RUN = 0, HINTS, HINTS + CUES * (1 + NONE)
"""First state of each decision: proposals by hint, picks by cue and abstraction (or none), writing by procedure."""


@lru_cache(maxsize=200_000)
def value_of(code: str) -> str:
    """Run an expression on the calculator."""
    return str(calculate(code))


def tie(parameters: torch.Tensor) -> torch.Tensor:
    """Make the logits: proposals, then the sum of the leaning by cue and the pull of an abstraction, then writing."""
    propose, lean, pull, write = torch.split(parameters, [HINTS, CUES, NONE + 1, NONE])
    pick = (lean[:, None] + pull[None]).reshape(-1, NONE)
    return torch.cat([propose, pick, write])


@dataclass(frozen=True)
class World:
    """Which procedure is right how often under a cue (cues by procedures), and the untrained players' parameters.

    ``hints`` says how often a problem of a procedure has a hint (procedures by hints).
    """

    posterior: FloatArray
    hints: FloatArray
    start: FloatArray


def make_world(rng: np.random.Generator) -> World:
    """Draw a world: the likeliest procedure of a cue is right in 45 % of its problems, and the players do not know it.

    Each procedure has a hint of its own, which four in five of its problems have. An abstraction that names a procedure
    is followed in about 85 %, and a procedure is written out right in 85 %.
    """
    weights = np.asarray([0.45, 0.2, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05])
    posterior = np.stack([weights[rng.permutation(NONE)] for _ in range(CUES)])
    lean, guess = rng.normal(0.0, 0.7, (CUES, NONE)), rng.normal(0.0, 0.7, (HINTS, NONE))
    hints = np.full((NONE, HINTS), (1 - TOLD) / (HINTS - 1))
    hints[np.arange(NONE), rng.permutation(HINTS)] = TOLD
    pull = np.concatenate([np.eye(NONE) * 4.0, np.zeros((1, NONE))])
    write = np.full((NONE, NONE), -30.0)
    write[:, : len(SLIPS) + 1] = np.log([0.85, 0.05, 0.05, 0.05])
    return World(posterior, hints, np.concatenate([guess, lean, pull, write]))


def make_task(world: World, number: int, rng: np.random.Generator) -> Task:
    """Draw a problem."""
    cue = int(rng.integers(CUES))
    a, b = (int(x) for x in rng.integers(2, 90, 2))
    right = int(rng.choice(NONE, p=world.posterior[cue]))
    hint = int(rng.choice(HINTS, p=world.hints[right]))
    meta = {"cue": cue, "hint": hint, "a": a, "b": b}
    return Task(
        f"problem/{number}", f"cue {cue}, hint {hint}: {a}, {b}", value_of(FORMS[right].format(a=a, b=b)), meta=meta
    )


def propose(task: Task, player: Player) -> Trajectory:
    """Name a procedure."""
    name = NAMES[player.decide(PROPOSE + task.meta["hint"])]
    return player.trajectory(task, f"procedure {name}", role="proposer")


def solve(task: Task, player: Player) -> Trajectory:
    """Pick a procedure, write it out and run it."""
    given = task.meta.get("abstraction")
    named = NAMES.index(given[-1]) if given else NONE
    pick = player.decide(PICK + task.meta["cue"] * (NONE + 1) + named)
    slip = player.decide(RUN + pick)
    code = FORMS[pick].format(a=task.meta["a"], b=task.meta["b"])
    code = SLIPS[slip - 1].format(code) if slip else code
    value = value_of(code)
    player.turn(NAMES[pick], [(Call("calculator", {"expression": code}), Observation(value))])
    return player.trajectory(task, value)


def expected(world: World, chance: FloatArray, proposals: FloatArray) -> dict[str, float]:
    """Expected accuracies and chances to solve within 16 tries, over cues, right procedures and hints.

    ``proposals`` are the abstractions' chances by hint. Right is who picks the right procedure and writes it out right.
    ``named`` is how often the abstraction names the right procedure.
    """
    pick = chance[PICK:RUN].reshape(CUES, NONE + 1, NONE)
    right = pick * chance[RUN:, 0]  # chance to solve, by cue, abstraction and right procedure
    aided, alone = right[:, :NONE], right[:, NONE]

    def mean(by: FloatArray) -> float:
        return float((world.posterior * by).sum(1).mean())

    def by_procedure(of_hint: FloatArray) -> FloatArray:
        """Average what depends on cue, procedure and hint over the hints of a procedure."""
        return np.asarray((of_hint * world.hints).sum(-1))

    def with_proposals(solved: FloatArray, named: FloatArray) -> FloatArray:
        return np.asarray(np.einsum("hz,czp->cph", named, solved))

    # The hint of a problem under another cue says nothing of this one.
    hint_of_cue = world.posterior @ world.hints
    others = ((hint_of_cue.sum(0) - hint_of_cue) / (CUES - 1)) @ proposals
    by_cue = (world.posterior * by_procedure(with_proposals(aided, proposals))).sum(1)
    by_cue_alone = (world.posterior * alone).sum(1)
    drawn = np.random.default_rng(0).random((2000, 4))
    named = [np.minimum(np.searchsorted(np.cumsum(row), drawn, side="right"), NONE - 1) for row in proposals]
    best = np.stack([aided[:, z].max(2).mean(1) for z in named], axis=-1)
    numbers = {
        "without": mean(alone),
        "with": float(by_cue.mean()),
        "named": float(np.einsum("cp,ph,hp->", world.posterior, world.hints, proposals) / CUES),
        "best of 4": mean(by_procedure(best)),
        "swapped": mean(np.einsum("cz,czp->cp", others, aided)),
        "harder without": _pairs(by_cue_alone),
        "harder with": _pairs(by_cue),
        "16 without": mean(1 - (1 - alone) ** 16),
    }
    for many, tries in ((1, 16), (4, 4), (16, 1)):
        missed = with_proposals((1 - aided) ** tries, proposals)  # by one abstraction and all tries with it
        numbers[f"{many}x{tries}"] = mean(by_procedure(1 - missed**many))
    return numbers


def _pairs(by_cue: FloatArray) -> float:
    """Accuracy on problems of two procedures under different cues."""
    return float((by_cue.sum() ** 2 - (by_cue**2).sum()) / (CUES * (CUES - 1)))
