"""ATC: tools probed in rounds beside picked helpers, and programs over documents with and without result schemas."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from ferrule.agents.attribution import first_failed
from ferrule.agents.chained import ChainProgram
from ferrule.agents.probe import Probed, Trial, probe_in_rounds
from ferrule.agents.probe_program import DOCUMENTED, documented
from ferrule.agents.refine import settled
from ferrule.chat.codec import codec
from ferrule.core.flows import Flow
from ferrule.core.records import Call, Observation, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.studies.conditions import Rows, at_least, less
from ferrule.studies.standins.nested_tools import Chains, drawn_needs, guessing, naming, reading
from ferrule.studies.study import Study
from ferrule.tools.overlay import ToolText

__all__ = ["STUDY", "chains", "probing"]

PICKS, WORKS, TRIES, ROUNDS = 0.8, 0.9, 3, 4
"""How often a needed tool is picked, how often a program that can work does, tries of a probe, and rounds."""


def probing(*, seed: int, tools: int, tasks: int, picked: bool) -> dict[str, float]:
    """Probe tools that need one another; the share that is documented after each round.

    ``picked`` helpers are the needed ones, each with a chance, else three at random among the documented.
    """
    rng = random.Random(seed)
    needs = drawn_needs(rng, tools)
    laps: dict[str, int] = {}

    def one(tool: Tool, worked: Sequence[Probed]) -> Flow[Probed]:
        laps[tool.name] = laps.get(tool.name, -1) + 1
        known = [each.tool for each in worked]
        if picked:
            helpers = {name for name in needs[tool.name] if name in known and rng.random() < PICKS}
        else:
            helpers = set(rng.sample(known, min(3, len(known))))
        yield from ()
        works = helpers >= set(needs[tool.name]) and any(rng.random() < WORKS for _ in range(TRIES))
        return Probed(tool.name, (Trial(tool.name, ""),), (ToolText(),), DOCUMENTED if works else "tries")

    offered = [Tool(name, "", {"type": "object", "properties": {}}, dict) for name in needs]
    worked = settled(probe_in_rounds(offered, one, documented, rounds=ROUNDS))
    return {f"after round {lap}": sum(laps[each.tool] <= lap for each in worked) / tools for lap in range(ROUNDS + 1)}


def chains(*, seed: int, tools: int, tasks: int, described: bool, tries: int, reviewer: str = "") -> dict[str, float]:
    """Let a programmer write programs over chains of tools; the share that gives the last value.

    With a ``reviewer`` errors are attributed: ``named`` is how often it names the tool of the first call that failed.
    """
    world = Chains(documented=described)
    todo = world.tasks("test", tasks, seed=seed)
    names = {f"step_{number + 1}": () for number in range(world.length)}
    said = naming(names) if reviewer == "reads" else guessing(seed)
    policies = {"solver": Scripted(reading(seed), codec("fence")), "reviewer": Scripted(said)}
    agent = ChainProgram(tries=tries, attribute=bool(reviewer))
    episodes = drive(agent, todo, world, policies, seed=seed)
    right = [outcome(task, episode.trajectories)[0].value for task, episode in zip(todo, episodes, strict=True)]
    numbers = {"success": sum(right) / tasks}
    if reviewer:
        both = [pair for episode in episodes for pair in _reviews(episode)]
        numbers["named"] = sum(truth in named for truth, named in both) / len(both) if both else 0.0
    return numbers


def _reviews(episode: Episode) -> list[tuple[str, str]]:
    """Return for every review of a program with a failed call the tool of that call, and what the reviewer said."""
    programs = [turn for path in episode.of_role("solver") for turn in path.turns]
    reviews = [turn for path in episode.of_role("reviewer") for turn in path.turns]
    pairs = []
    for program, review in zip(programs, reviews, strict=False):
        data: Any = program.observations[0].data if program.observations else {}
        calls = [(Call(row["name"]), Observation(row["text"], row["status"])) for row in data.get("calls", ())]
        if failed := first_failed(calls):
            pairs.append((failed, plain_text(review.reply)))
    return pairs


def _gain(rows: Rows) -> float:
    return float(rows[PICKED]["after round 2"]) - float(rows[PICKED]["after round 0"])


def _half(rows: Rows) -> float:
    """Return half of the success with schemas minus that without: at least 0 where schemas double it."""
    return 0.5 * float(rows[SCHEMAS]["success"]) - float(rows[WITHOUT]["success"])


PICKED, RANDOM = "picked helpers", "random helpers"
SCHEMAS, WITHOUT, ONCE, REVIEWED = "schemas of results", "no schemas", "schemas, one try", "schemas, reviewer"
STUDY = Study(
    paper="atc",
    statement="Probing beside picked helpers documents tools that need others; schemas of results make chains work.",
    falsifier="Two rounds add less than 0.25 to the coverage, or over random helpers; schemas do not double success.",
    grade="C",
    trained="nothing: scripts in the place of models; programs, errors and repairs are run for real",
    arms={
        PICKED: partial(probing, picked=True),
        RANDOM: partial(probing, picked=False),
        SCHEMAS: partial(chains, described=True, tries=3),
        WITHOUT: partial(chains, described=False, tries=3),
        ONCE: partial(chains, described=True, tries=1),
        REVIEWED: partial(chains, described=True, tries=3, reviewer="reads"),
        "schemas, guessing reviewer": partial(chains, described=True, tries=3, reviewer="guesses"),
    },
    asks=(
        at_least("coverage after two rounds minus before them", _gain, 0.25),
        at_least("coverage of picked minus random helpers", less("after round 2", PICKED, RANDOM), 0.25),
        at_least("half the success with schemas minus that without", _half, 0.0),
        at_least("success after three tries minus after one", less("success", SCHEMAS, ONCE), 0.1),
    ),
    sizes={"small": {"tools": 40, "tasks": 40}, "tiny": {"tools": 12, "tasks": 4}},
    setup={"picks": PICKS, "works": WORKS, "tries of a probe": TRIES, "slips of a programmer": 0.15},
)
