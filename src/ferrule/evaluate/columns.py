"""The columns of an arena: worlds that one training mixture is made of, each measured by itself.

Which levels of a world make up its column is decided by a rule that stands here, before anything is measured: a level
is kept where the untrained model gets pass@8 between ``LOW`` and ``HIGH``, so that it can be learned and is not yet,
and where plain GRPO ends below ``CEILING``, so that there is room to be better. It is applied on development seeds
(``benchmarks/arena_cells.py``); a column none of whose levels is kept is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ferrule.core.arrays import nearest
from ferrule.core.flows import World
from ferrule.worlds.levelled import Levelled
from ferrule.worlds.mixed import Mixed
from ferrule.worlds.named import world, world_names

__all__ = [
    "CANDIDATES",
    "CEILING",
    "CHOSEN",
    "COLUMNS",
    "HIGH",
    "LOW",
    "Column",
    "Level",
    "columns_of",
    "kept",
    "mixture",
]

LOW, HIGH, CEILING = 0.10, 0.90, 0.85


@dataclass(frozen=True)
class Column:
    """A name, the world behind it (as ``--world`` names it), and the levels that its tasks are drawn from."""

    name: str
    world: str
    levels: tuple[int, ...] = (1, 2, 3, 4, 5)

    def tasks_from(self) -> Levelled:
        """Return the world at the column's levels."""
        return Levelled(world(self.world), self.levels)


CANDIDATES: Mapping[str, Column] = {
    column.name: column
    for column in (
        Column("renamed", "renamed:of=chains"),
        Column("priced", "priced"),
        Column("chains", "chains"),
        Column("apps", "apps:narrow=true,docs=false", (1, 2, 3)),
        Column("failing", "failing"),
        Column("two-tool", "two_tools"),
        Column("unneeded", "unneeded"),
    )
}
"""All columns with all levels that the rule chooses from: other names, priced calls, chains, apps, tools that fail, two
tools, tools to be left alone."""
CHOSEN: Mapping[str, tuple[int, ...]] = {
    "renamed": (2,),
    "priced": (1,),
    "chains": (2,),
    "failing": (1, 2),
    "unneeded": (2,),
}
"""The levels that make up a column, by the rule. The untrained model solves no task of the other columns."""
COLUMNS: Mapping[str, Column] = {name: replace(CANDIDATES[name], levels=levels) for name, levels in CHOSEN.items()}
"""The columns that are left, by name."""


def columns_of(names: Iterable[str]) -> tuple[Column, ...]:
    """Return columns by name: those of ``COLUMNS``, or any world with its levels as digits, ``chains@23``.

    Raises ``ValueError`` for an unknown world, levels that are none, a name that comes twice, and two columns of one
    world, which a mixture could not tell apart.
    """
    columns: list[Column] = []
    for name in names:
        place, at, digits = name.partition("@")
        if not at and name in COLUMNS:
            columns.append(COLUMNS[name])
            continue
        if at and (not digits or set(digits) - set("12345") or len(set(digits)) < len(digits)):
            raise ValueError(f"column {name!r}: levels are digits from 1 to 5 such as {place}@23")
        try:
            world(place)
        except ValueError as error:
            raise ValueError(f"no column {name!r}; {nearest(place, [*COLUMNS, *world_names()])} ({error})") from None
        columns.append(Column(name, place, tuple(map(int, digits)) or (1, 2, 3, 4, 5)))
    if not columns:
        raise ValueError(f"no columns; valid: {', '.join(COLUMNS)}, or WORLD@LEVELS such as chains@23")
    mixture(columns)
    return tuple(columns)


def mixture(columns: Sequence[Column]) -> World:
    """Return the one world that every run trains on: the columns in equal shares, each at its levels."""
    return Mixed(tuple(column.tasks_from() for column in columns))


@dataclass(frozen=True)
class Level:
    """What was seen of one level of a column on development seeds; ``end`` is plain GRPO's success, None untried."""

    column: str
    level: int
    pass_at_8: float
    end: float | None = None


def kept(levels: Iterable[Level]) -> dict[str, tuple[int, ...]]:
    """Return the levels of each column that the rule keeps; columns without any are not there."""
    chosen: dict[str, tuple[int, ...]] = {}
    for seen in levels:
        if LOW <= seen.pass_at_8 <= HIGH and (seen.end is None or seen.end < CEILING):
            chosen[seen.column] = (*chosen.get(seen.column, ()), seen.level)
    return chosen
