"""Tool learning: plans with and without feedback, and flat lists of tools beside helpers, by a scripted controller."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import fmean

from ferrule.agents.helpers import Helper
from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Agent
from ferrule.papers.tool_foundation import extrospective, introspective, two_level
from ferrule.rollout.drive import drive
from ferrule.studies.conditions import Value, at_least, less, within
from ferrule.studies.standins.controllers import KINDS, Chains, policies, program
from ferrule.studies.study import Study

__all__ = ["STUDY", "arm"]

STEPS, COUNTS, ERRORS = (1, 2, 3, 4), (2, 6, 12), (0.0, 0.2)
SLIP, LOST = 0.02, 0.05
"""Chance to pick each other tool on a list, and to get the number of a request wrong."""


def _plan(world: Chains) -> Agent:
    return introspective(program(), k=world.count)


def _loop(world: Chains) -> Agent:
    return extrospective(turns=12)


def _helpers(world: Chains) -> Agent:
    tools = {kind: tuple(name for name in world.tools if name.startswith(kind)) for kind in KINDS}
    helpers = [Helper(kind, f"Does {kind}.", ToolLoop(turns=4), names) for kind, names in tools.items() if names]
    return two_level(helpers, turns=12)


def arm(*, seed: int, tasks: int, play: Callable[[Chains], Agent]) -> dict[str, float]:
    """Solve chains of 1 to 4 steps on 6 tools, with and without errors, and chains of 2 steps on 2, 6 and 12 tools.

    Numbers are shares of right answers, by errors and steps or by errors and tools, and asks per task.
    """
    numbers: dict[str, float] = {}
    for errors in ERRORS:
        worlds = {f"{steps} steps": Chains(6, steps, errors) for steps in STEPS}
        worlds |= {f"{count} tools": Chains(count, 2, errors) for count in COUNTS}
        for name, world in worlds.items():
            todo = world.tasks("test", tasks, seed=seed)
            episodes = drive(play(world), todo, world, policies(seed, slip=SLIP, lost=LOST), seed=seed)
            right = [episode.trajectories[0].answer == episode.task.answer for episode in episodes]
            numbers[f"{name}, errors {errors:g}"] = fmean(right)
            asks = [sum(spent.asks for spent in episode.spent.values()) for episode in episodes]
            numbers[f"asks, {name}, errors {errors:g}"] = fmean(asks)
    return numbers


PLAN, LOOP, HELPERS = "plan", "loop", "helpers"


_ASKS = less("asks, 4 steps, errors 0", LOOP, PLAN)


def _ahead(errors: float, *steps: int) -> Value:
    """Return how far the loop is ahead of the plan, over tasks of these numbers of steps."""
    gains = [less(f"{step} steps, errors {errors:g}", LOOP, PLAN) for step in steps]
    return lambda rows: fmean(gain(rows) for gain in gains)


STUDY = Study(
    paper="tool-foundation",
    statement="A loop that reads what came back beats a plan that does not, with errors or from three steps on, and "
    "asks the model more often; helpers help only with many tools.",
    falsifier="Errors that say what is wrong do not help the loop by 20 points, or helpers help with two tools.",
    grade="C",
    trained="nothing; a script plans, loops and hands requests on, and slips as often as it is told",
    arms={PLAN: partial(arm, play=_plan), LOOP: partial(arm, play=_loop), HELPERS: partial(arm, play=_helpers)},
    asks=(
        within("loop minus plan, one step without errors", _ahead(0, 1), 0.03),
        at_least("loop minus plan, 2 to 4 steps with errors", _ahead(0.2, 2, 3, 4), 0.2),
        at_least("loop minus plan, 3 and 4 steps without errors", _ahead(0, 3, 4), 0.2),
        at_least("asks per task, loop minus plan, 4 steps without errors", _ASKS, 1.0),
        at_least("helpers minus flat list, 12 tools", less("12 tools, errors 0.2", HELPERS, LOOP), 0.05),
        at_least("flat list minus helpers, 2 tools", less("2 tools, errors 0.2", LOOP, HELPERS), 0.0),
        at_least("loop minus plan, one step with errors", _ahead(0.2, 1), 0.2, decides=False),
        at_least("helpers minus flat list, 6 tools", less("6 tools, errors 0.2", HELPERS, LOOP), 0.0, decides=False),
    ),
    sizes={"small": {"tasks": 200}, "tiny": {"tasks": 6}},
    setup={"slip per other tool": SLIP, "requests with a wrong number": LOST},
)
