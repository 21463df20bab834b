"""HAIChart with a person: how often hints lead to the chart that is wanted, by how they are chosen."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from statistics import fmean
from typing import Any

from ferrule.agents.charts import Hinting, Recommend, Rounds, rating
from ferrule.agents.graph import KeyOf, by_choice, by_way
from ferrule.core.records import plain_text
from ferrule.evaluate.ranking import hit
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.studies.conditions import at_least, less
from ferrule.studies.study import Study
from ferrule.worlds.charts import Charts
from ferrule.worlds.charts.grammar import SlotChoice, chart_text
from ferrule.worlds.charts.making import draw_table
from ferrule.worlds.charts.people import DONE, Person, charts_in, hints_in
from ferrule.worlds.charts.world import table_task

__all__ = ["STUDY", "arm", "hints_by_score", "random_hints"]

LEVEL, ERRS, LOOKS = 5, 0.1, 3
Covers = Mapping[SlotChoice, Mapping[Hashable, float]]


def random_hints(covers: Covers, *, most: int, **rest: Any) -> list[SlotChoice]:
    """Choose hints of good charts evenly."""
    offered = [choice for choice, views in covers.items() if views]
    return random.Random(repr(offered)).sample(offered, min(most, len(offered)))


def hints_by_score(covers: Covers, *, most: int, **rest: Any) -> list[SlotChoice]:
    """Choose the hints whose good charts have the largest scores together."""
    offered = [choice for choice, views in covers.items() if views]
    return sorted(offered, key=lambda choice: -sum(covers[choice].values()))[:most]


def arm(
    *, seed: int, tables: int, rounds: int, simulations: int, node_key: KeyOf = by_choice, most: int = 9,
    choose: Callable[..., list[SlotChoice]] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Let a person look for a planted chart of each table, and return how often it was shown in the first three.

    ``start`` is the share before any pick, ``found`` that after ``rounds`` rounds, ``asked`` the mean number of
    questions, those without an end counted as one more, and ``offered`` the mean number of hints in one.
    """
    hinting = Hinting(most=most) if choose is None else Hinting(most=most, choose=choose)
    how = Rounds(simulations=simulations, node_key=node_key, seed=seed)
    agent = Recommend(rounds, LOOKS, rating(ranker=0.0), how, hinting)
    start = found = asked = offered = 0.0
    for number in range(tables):
        rng = random.Random(f"haichart/{seed}/{number}")
        planted = draw_table(rng, LEVEL)
        want = rng.choice([*planted.charts])
        person = Person({want: 1.0}, looks=LOOKS, errs=ERRS, seed=number)
        (episode,) = drive(agent, [table_task(planted.table)], Charts(), {"user": Scripted(person.script)})
        turns = episode.trajectories[0].turns
        done = plain_text(turns[-1].reply) == DONE
        start += hit(charts_in(plain_text(turns[0].messages[-1])), {chart_text(want.drawn)}, LOOKS)
        found += done
        asked += len(turns) + (not done)
        offered += fmean(len(hints_in(plain_text(turn.messages[-1]))) for turn in turns)
    numbers = {"start": start, "found": found, "asked": asked, "offered": offered}
    return {name: number / tables for name, number in numbers.items()}


COVER, RANDOM, SCORE, NONE, TREE = (
    "covering hints",
    "random hints",
    "hints by score",
    "no hints",
    "covering hints, tree",
)
FOUND = partial(less, "found")
STUDY = Study(
    paper="haichart",
    part="hints",
    statement="Hints that cover good and distinctive charts lead a person to their chart more often than others do.",
    falsifier="No more are shown their chart within six questions than without hints, or with random ones.",
    grade="C",
    trained="nothing: a script that wants a planted chart of a drawn table; the seed draws the tables",
    arms={
        COVER: arm,
        RANDOM: partial(arm, choose=random_hints),
        SCORE: partial(arm, choose=hints_by_score),
        NONE: partial(arm, most=0),
        TREE: partial(arm, node_key=by_way),
    },
    asks=(
        at_least("share who are shown their chart, covering hints minus random ones", FOUND(COVER, RANDOM), 0.02),
        at_least("share who are shown their chart, covering hints minus none", FOUND(COVER, NONE), 0.1),
        at_least("the same, covering hints minus those by score", FOUND(COVER, SCORE), 0.0, decides=False),
        at_least("the same, graph minus tree", FOUND(COVER, TREE), 0.0, decides=False),
    ),
    sizes={
        "small": {"tables": 24, "rounds": 6, "simulations": 100},
        "tiny": {"tables": 6, "rounds": 4, "simulations": 60},
    },
    setup={"columns": 8, "picks at random": ERRS, "hints": 9},
)
