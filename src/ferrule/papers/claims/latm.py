"""LATM: tools that a maker tests before a weak user calls them, on drawn meetings, with scripts in place of models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Agent, Policy
from ferrule.core.records import Task
from ferrule.papers.latm import cost, made_tools
from ferrule.policies.scripted import Scripted
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive
from ferrule.rollout.spent import added
from ferrule.studies.conditions import at_least, less, over
from ferrule.studies.standins.tool_makers import answering, calling, making, sorting
from ferrule.studies.study import Study
from ferrule.worlds.reasoning import Reasoning
from ferrule.worlds.session import Toolbox

__all__ = ["STUDY", "direct", "made", "mixed"]

PRICES = {"maker": 15.0, "strong": 15.0, "solver": 1.0, "dispatcher": 1.0}
"""Of one ask, by role."""
KIND, UNSEEN = "scheduling", "word_sorting"


def _drawn(kind: str, count: int, seed: int) -> list[Task]:
    return Reasoning(classes=(kind,)).tasks("train", count, seed=seed, levels=(2, 3))


def _played(agent: Agent, tasks: Sequence[Task], policies: dict[str, Policy], seed: int) -> dict[str, float]:
    """Return how many tasks are right, and what their asks cost."""
    episodes = drive(agent, tasks, Toolbox(()), policies, seed=seed)
    scores = [outcome(task, episode.trajectories)[0].value for task, episode in zip(tasks, episodes, strict=True)]
    spent = added([episode.spent for episode in episodes])
    return {"accuracy": sum(scores) / len(tasks), "cost": cost(spent, PRICES)}


def direct(*, seed: int, questions: int, role: str, right: float) -> dict[str, float]:
    """Answer at once, right with a chance."""
    tasks = _drawn(KIND, questions, seed)
    policies: dict[str, Policy] = {role: Scripted(answering(tasks, seed, right=right))}
    return _played(ToolLoop(turns=1, role=role), tasks, policies, seed)


def made(*, seed: int, questions: int, verify: bool, makes: int = 3) -> dict[str, float]:
    """Make a tool from six tasks, and let a user call it for all others."""
    tasks = _drawn(KIND, questions + 6, seed)
    policies: dict[str, Policy] = {"maker": Scripted(making(tasks, seed)), "solver": Scripted(calling(tasks, seed))}
    tools = made_tools({KIND: tasks[:6]}, policies, dispatch=False, verify=verify, makes=makes, seed=seed)
    numbers = _played(tools.user, tasks[6:], policies, seed)
    return {**numbers, "cost": numbers["cost"] + cost(tools.spent, PRICES)}


def mixed(*, seed: int, questions: int, slips: float = 0.1) -> dict[str, float]:
    """Dispatch questions of which half are of a class without a tool; ``precision`` and ``recall`` are of unknown."""
    seen, unseen = _drawn(KIND, questions // 2 + 6, seed), _drawn(UNSEEN, questions // 2, seed)
    tasks = [*seen, *unseen]
    policies: dict[str, Policy] = {
        "maker": Scripted(making(tasks, seed)),
        "solver": Scripted(calling(tasks, seed)),
        "dispatcher": Scripted(sorting(tasks, seed, [KIND], slips=slips)),
    }
    tools = made_tools({KIND: seen[:6]}, policies, makes=3, seed=seed)
    episodes = drive(tools.user, tasks[6:], Toolbox(()), policies, seed=seed)
    given_up = ["solver" not in episode.spent for episode in episodes]
    unknown = [task.meta["class"] != KIND for task in tasks[6:]]
    both = sum(a and b for a, b in zip(given_up, unknown, strict=True))
    return {"precision": both / max(1, sum(given_up)), "recall": both / max(1, sum(unknown))}


VERIFIED, UNVERIFIED, STRONG, WEAK = "LATM", "tool without tests", "strong model", "weak model"
STUDY = Study(
    paper="latm",
    statement="Tools that are tested before use let a weak user beat the strong model at a fifth of its cost.",
    falsifier="Tests add less than 0.1 to the accuracy of tools, or the cost is not under 20 % of the strong model's.",
    grade="C",
    trained="nothing: scripts in the place of models, whose sources and calls are run for real",
    arms={
        WEAK: partial(direct, role="solver", right=0.25),
        STRONG: partial(direct, role="strong", right=0.6),
        UNVERIFIED: partial(made, verify=False),
        VERIFIED: partial(made, verify=True),
        "dispatcher": mixed,
    },
    asks=(
        at_least("accuracy that tests add to tools", less("accuracy", VERIFIED, UNVERIFIED), 0.1),
        at_least(
            "share of the strong model's cost that LATM saves", over("cost", VERIFIED, STRONG, factor=-1, plus=1), 0.8
        ),
        at_least("accuracy of LATM minus that of the strong model", less("accuracy", VERIFIED, STRONG), 0.0),
    ),
    sizes={"small": {"questions": 100}, "tiny": {"questions": 4}},
    seeds=tuple(range(100, 140)),
    setup={"prices": PRICES, "a maker is right": 0.5, "a user slips": 0.05, "makes": 3},
)
