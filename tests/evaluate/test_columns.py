"""Columns of an arena: their names, the one mixture of them, and the rule that keeps their levels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ferrule.core.demonstration import Demonstrates
from ferrule.evaluate.columns import CANDIDATES, CHOSEN, COLUMNS, Column, Level, columns_of, kept, mixture
from ferrule.worlds.apis import Apis
from ferrule.worlds.levelled import Levelled
from ferrule.worlds.session import Toolbox

ROOT = Path(__file__).parents[2]


def test_the_seven_columns_are_one_mixture_of_seven_worlds() -> None:
    columns = tuple(CANDIDATES.values())
    tasks = mixture(columns).tasks("train", 28, levels=(1,))
    assert len(columns) == 7
    assert all(sum(task.world == column.world.partition(":")[0] for task in tasks) == 4 for column in columns)


def test_every_column_keeps_its_levels_whatever_is_asked_for() -> None:
    world = mixture((Column("a", "chains", (2,)), Column("b", "priced", (3, 4))))
    tasks = world.tasks("test", 24, levels=(1, 5))
    assert {(task.world, task.meta["level"]) for task in tasks} == {("chains", 2), ("priced", 3), ("priced", 4)}
    assert isinstance(world, Demonstrates)
    assert len(world.demonstrate(next(task for task in tasks if task.world == "chains")).calls) == 2


def test_a_world_without_solutions_says_so() -> None:
    world = Levelled(Toolbox(()), (1,))
    task = Apis().tasks("test", 1)[0]
    with pytest.raises(ValueError, match="world 'toolbox' has no reference solutions"):
        world.demonstrate(task)


def test_a_column_is_named_or_written_as_a_world_and_its_levels() -> None:
    assert columns_of(["chains"]) == (COLUMNS["chains"],)
    assert columns_of(["apis@35", "facts"]) == (
        Column("apis@35", "apis", (3, 5)),
        Column("facts", "facts", (1, 2, 3, 4, 5)),
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no columns; valid: renamed, priced"),
        (["chians"], "did you mean 'chains'"),
        (["apis@"], "levels are digits from 1 to 5 such as apis@23"),
        (["apis@36"], "levels are digits from 1 to 5"),
        (["apis@33"], "levels are digits from 1 to 5"),
        (["apis@1", "apis@2"], "two worlds named 'apis'"),
    ],
)
def test_columns_that_are_none_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        columns_of(names)


def test_the_rule_keeps_what_can_be_learned_and_is_not_yet() -> None:
    """The ends of the interval belong to it, the ceiling does not."""
    levels = [
        Level("a", 1, 0.95), Level("a", 2, 0.90, 0.84), Level("a", 3, 0.10), Level("a", 4, 0.09),
        Level("b", 1, 0.5, 0.85), Level("b", 2, 0.5, 0.1), Level("c", 1, 0.0),
    ]  # fmt: skip
    assert kept(levels) == {"a": (2, 3), "b": (2,)}


def test_a_column_has_the_levels_that_the_rule_keeps() -> None:
    """As long as some of the levels were not seen, none is left out."""
    data = json.loads((ROOT / "docs/records/arena-profile/cells.json").read_text(encoding="utf-8"))
    levels = [Level(row["column"], row["level"], row["pass_at_8"], row.get("end")) for row in data["levels"]]
    everything = {name: column.levels for name, column in CANDIDATES.items()}
    assert dict(CHOSEN) == (kept(levels) if "curve" in data else everything)
