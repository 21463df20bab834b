"""DRAFT: what rules that end probing save of the rounds, and what they lose."""

from __future__ import annotations

from functools import partial

from ferrule.agents.documenter import unchanged
from ferrule.agents.probe import Ended
from ferrule.core.records import Tool
from ferrule.papers.draft import change
from ferrule.studies.conditions import at_least, less, over
from ferrule.studies.standins.rulebooks import FORMS, SKEW, TOPICS, written
from ferrule.studies.study import Study

__all__ = ["STUDY"]


def _still(tool: Tool, limit: float) -> Ended:
    return unchanged(tool, change, limit=limit)


ALL, SETTLED, FIRST = "5 rounds", "settled", "first unchanged"
STUDY = Study(
    paper="draft",
    part="stop",
    statement="Ending a tool's probing once a rewrite changes little saves a third of the rounds and loses little.",
    falsifier="It saves less than 30 % of the rounds, or loses more than 0.05 of the rules stated rightly.",
    grade="C",
    trained="nothing: a scripted explorer and writer, and tools whose rules are drawn by the seed",
    arms={
        ALL: written,
        SETTLED: partial(written, ended=partial(_still, limit=0.75)),
        FIRST: partial(written, ended=partial(_still, limit=1 - 1e-9)),
    },
    asks=(
        at_least("relative fall of rounds, settled", over("rounds", SETTLED, ALL, factor=-1, plus=1), 0.3),
        at_least("rules stated rightly, settled minus all rounds", less("right", SETTLED, ALL), -0.05),
        at_least(
            "relative fall of rounds, first unchanged",
            over("rounds", FIRST, ALL, factor=-1, plus=1),
            0.3,
            decides=False,
        ),
        at_least(
            "rules stated rightly, first unchanged minus all rounds", less("right", FIRST, ALL), -0.05, decides=False
        ),
    ),
    sizes={"small": {"tools": 400}, "tiny": {"tools": 12}},
    setup={"rules": len(TOPICS), "forms": len(FORMS), "stated rightly": 0.43, "stated wrongly": 0.3, "skew": SKEW},
)
