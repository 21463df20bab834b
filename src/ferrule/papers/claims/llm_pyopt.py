"""LLM-PyOpt: one shot, blind repeats, and the loop with and without feedback and an expert, at equal proposals."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from statistics import fmean
from typing import Any

from ferrule.agents.best_of import BestOf
from ferrule.agents.refine import Checked
from ferrule.agents.refiner import block_or_text
from ferrule.agents.values import largest
from ferrule.core.flows import Agent
from ferrule.core.records import Message, Reply
from ferrule.papers.llm_pyopt import claimed, expert, optimiser
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive, seed_of
from ferrule.rollout.record import Episode
from ferrule.studies.conditions import at_least, less, of
from ferrule.studies.study import Study
from ferrule.worlds.pyopt import Pyopt
from ferrule.worlds.pyopt.bank import families, slow_function
from ferrule.worlds.pyopt.functions import SlowFunction
from ferrule.worlds.pyopt.testing import Measuring, Sandboxed
from ferrule.worlds.pyopt.timing import accepts

__all__ = ["STUDY", "arm", "blind", "loop"]


def blind(rounds: int, *, samples: int | None = None) -> Agent:
    """Return who proposes ``samples`` times (None: ``rounds`` times) and takes what claims most, untested."""
    return BestOf(samples=samples or rounds, turns=1, pick=largest(claimed))


def loop(rounds: int, **settings: Any) -> Agent:
    """Return the loop, which goes on for ``rounds`` proposals whether they gain something or not."""
    return optimiser(rounds=rounds, patience=0, temperatures=None, **settings)


def arm(
    *, seed: int, keys: Sequence[str], rounds: int, how: Mapping[str, Any], audit: int, play: Callable[[int], Agent]
) -> dict[str, float]:
    """Optimise a function of every family and return what became of the proposals.

    ``wrong`` counts final programs that differ from their original on ``audit`` further inputs of every class,
    ``right`` is the share of proposals that do not, ``turn`` the mean number of the proposal that was kept (0: none),
    and ``log speed-up`` the mean log of what final programs gain, 0 where they are wrong.
    """
    draw = random.Random(f"pyopt/{seed}")
    chosen = [family for family in families() if not keys or family.key in keys]
    functions = tuple(slow_function(f, draw.choice(f.names), draw.choice(f.sizes)) for f in chosen)
    world, policy = Pyopt(functions=functions, how=Measuring(**how)), Scripted(Pyopt().proposer(seed))
    rows = []
    for task, function in zip(world.tasks("train", len(functions)), functions, strict=True):
        (episode,) = drive(play(rounds), [task], world, policy, seed=seed_of(seed, task.id))
        rows.append(_row(function, episode, Measuring(**{**how, "cases": audit}), f"audit/{seed}"))
    return {name: fmean(row[name] for row in rows) for name in rows[0]} | {"wrong": sum(row["wrong"] for row in rows)}


def _row(function: SlowFunction, episode: Episode, how: Measuring, seed: str) -> dict[str, float]:
    """Return what one episode gave, by tests and times of its own."""
    turns = {turn.id: turn for path in episode.trajectories for turn in path.turns}
    proposals = [block_or_text(Reply(turns[place].reply)) for place in sorted(turns)]
    program = block_or_text(Reply(Message("assistant", episode.trajectories[0].answer or "")))
    with closing(Sandboxed(function, how=how, seed=seed)) as tester:
        right = [not tester.refuse(proposal) for proposal in proposals]
        wrong = bool(tester.refuse(program))
        times = {} if wrong else tester.times({"original": function.source, "program": program}, 0)
    gain = accepts(times["original"], times["program"]).gain if isinstance(times, Mapping) and times else 1.0
    return {
        "wrong": float(wrong),
        "right": fmean(right),
        "turn": float(proposals.index(program) + 1 if program in proposals else 0),
        "proposals": float(len(proposals)),
        "log speed-up": math.log(gain),
    }


def silent(checked: Checked) -> str:
    """Tell an author nothing of a check."""
    return "Write another one."


ONE, BLIND, LOOP, SILENT, EXPERT = "one shot", "blind repeats", "loop", "loop, no feedback", "loop, expert"
GAIN = partial(less, "log speed-up")
STUDY = Study(
    paper="llm-pyopt",
    statement="Tests and measured feedback accept no wrong program and gain more than a proposer's own claims.",
    falsifier="Blind repeats reach the loop's correct speed-up, or feedback leaves the share of right proposals alone.",
    grade="C",
    trained="nothing; a script draws from written rewrites, and what feedback does to its draws is written down",
    arms={
        ONE: partial(arm, play=partial(blind, samples=1)),
        BLIND: partial(arm, play=blind),
        LOOP: partial(arm, play=loop),
        SILENT: partial(arm, play=partial(loop, tell=silent)),
        EXPERT: partial(arm, play=partial(loop, critic=expert())),
    },
    asks=(
        at_least("wrong programs kept (of 8), blind repeats", of(BLIND, "wrong"), 0.5),
        at_least("minus wrong programs kept, loop", of(LOOP, "wrong", factor=-1.0), 0.0),
        at_least("minus wrong programs kept, loop with an expert", of(EXPERT, "wrong", factor=-1.0), 0.0),
        at_least("log of the correct speed-up, loop minus blind repeats", GAIN(LOOP, BLIND), 0.1),
        at_least("log of the correct speed-up, loop minus one shot", GAIN(LOOP, ONE), 0.1),
        at_least("log of the correct speed-up, expert minus loop", GAIN(EXPERT, LOOP), -0.05),
        at_least("share of right proposals, loop minus loop without feedback", less("right", LOOP, SILENT), 0.02),
        at_least("5 minus the kept proposal, loop", of(LOOP, "turn", factor=-1.0, plus=5.0), 0.0, decides=False),
    ),
    sizes={
        "small": {"keys": (), "rounds": 5, "audit": 200, "how": {}},
        "tiny": {
            "keys": ("extrema", "squares", "power"), "rounds": 3, "audit": 20,
            "how": {"cases": 10, "repeats": 1, "inputs": 2, "clock": "instructions"},
        },
    },
    machine=("log speed-up",),
)  # fmt: skip
