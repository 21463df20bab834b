"""DRAFT: documents of tools with hidden rules, written anew from trials of requests that must differ, or need not."""

from __future__ import annotations

from functools import partial

from ferrule.studies.conditions import at_least, less
from ferrule.studies.standins.rulebooks import FORMS, SKEW, TOPICS, written
from ferrule.studies.study import Study

__all__ = ["STUDY"]

DAMAGE = 0.1
RIGHT = partial(less, "right")
STUDY = Study(
    paper="draft",
    statement="Documents written anew from trials state more rules rightly, and more so where requests must differ.",
    falsifier="Five rounds gain less than 0.1, or requests that must differ gain nothing at as many rounds or asks.",
    grade="C",
    trained="nothing: a scripted explorer and writer, and tools whose rules are drawn by the seed",
    arms={
        "first documents": partial(written, rounds=0),
        "5 rounds": written,
        "5 rounds, free requests": partial(written, diverse=False),
        "6 rounds, free requests": partial(written, diverse=False, rounds=6),
        "one rewrite of 5 trials": partial(written, at_once=True),
        "5 rounds, damage": partial(written, damage=DAMAGE),
        "5 rounds, free requests, damage": partial(written, diverse=False, damage=DAMAGE),
        "one rewrite of 5 trials, damage": partial(written, at_once=True, damage=DAMAGE),
    },
    asks=(
        at_least("rules stated rightly, 5 rounds minus the first documents", RIGHT("5 rounds", "first documents"), 0.1),
        at_least("the same, 5 rounds minus 5 with free requests", RIGHT("5 rounds", "5 rounds, free requests"), 0.02),
        at_least(
            "the same, 5 rounds minus 6 with free requests, which ask no less",
            RIGHT("5 rounds", "6 rounds, free requests"),
            0.0,
        ),
        at_least(
            "the same with damage, 5 rounds minus 5 with free requests",
            RIGHT("5 rounds, damage", "5 rounds, free requests, damage"),
            0.02,
            decides=False,
        ),
        at_least(
            "the same with damage, 5 rounds minus one rewrite of 5 trials",
            RIGHT("5 rounds, damage", "one rewrite of 5 trials, damage"),
            0.0,
            decides=False,
        ),
        at_least(
            "the same, 5 rounds minus one rewrite of 5 trials",
            RIGHT("5 rounds", "one rewrite of 5 trials"),
            0.0,
            decides=False,
        ),
    ),
    sizes={"small": {"tools": 400}, "tiny": {"tools": 12}},
    setup={"rules": len(TOPICS), "forms": len(FORMS), "stated rightly": 0.43, "stated wrongly": 0.3, "skew": SKEW},
)
