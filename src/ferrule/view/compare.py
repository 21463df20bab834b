"""Before against after: the rows of the report's table and the one sentence above it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ferrule.view.load import number

__all__ = ["Block", "Measure", "Other", "Row", "blocks", "measure", "verdict"]

_BESIDE = ("interval", "count", "num_generations", "by_level", "levels", "by_world", "worlds", "arms")
# What an evaluation measures beside success: label, and whether it is a share of one.
_OTHERS = {
    "calls": ("tool calls per episode", False),
    "malformed": ("calls that cannot be read", True),
    "failed": ("calls that did not end in ok", True),
    "productivity": ("right answers per call", False),
    "turns": ("turns per episode", False),
    "tokens": ("tokens per episode", False),
    "answered": ("episodes with an answer", True),
    "problems": ("episodes that broke", False),
    "loss": ("loss", False),
    "accuracy": ("pairs whose chosen row leads", True),
    "margin": ("lead of the chosen row, mean (nats)", False),
}


@dataclass(frozen=True)
class Measure:
    """One measured share (0 to 1) with its 95 % interval and the number of tasks; None where not recorded."""

    value: float | None = None
    interval: tuple[float, float] | None = None
    count: int | None = None


@dataclass(frozen=True)
class Row:
    """A row of the table: what was measured before and after, and which of the two intervals lies higher."""

    label: str
    before: Measure
    after: Measure
    main: bool = False

    @property
    def change(self) -> float | None:
        """After minus before, in shares; None when either is not recorded."""
        if self.before.value is None or self.after.value is None:
            return None
        return self.after.value - self.before.value

    @property
    def apart(self) -> bool:
        """True when both intervals are recorded and do not touch."""
        if self.before.interval is None or self.after.interval is None:
            return False
        return self.before.interval[1] < self.after.interval[0] or self.after.interval[1] < self.before.interval[0]


@dataclass(frozen=True)
class Other:
    """Any other number that was measured before and after; ``share`` says that it is a share of one."""

    label: str
    share: bool
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Block:
    """The rows of one arm or world, and its other numbers."""

    title: str
    rows: tuple[Row, ...]
    others: tuple[Other, ...]


def measure(data: Any) -> Measure:
    """Read ``{"success": x, "interval": [lo, hi], "count": n}``; missing or odd entries become None."""
    if not isinstance(data, Mapping):
        return Measure(value=number(data))
    ends = data.get("interval")
    interval = None
    if isinstance(ends, (list, tuple)) and len(ends) == 2:
        low, high = number(ends[0]), number(ends[1])
        interval = None if low is None or high is None else (low, high)
    count = number(data.get("count"))
    return Measure(number(data.get("success")), interval, None if count is None else int(count))


def _mapping(data: Any, *keys: str) -> Mapping[str, Any]:
    """Return the first of ``keys`` that holds a mapping, else an empty one."""
    if isinstance(data, Mapping):
        for key in keys:
            if isinstance(data.get(key), Mapping):
                mapping: Mapping[str, Any] = data[key]
                return mapping
    return {}


def _both(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield every key of the two mappings with its two values, in order of first appearance."""
    for key in dict.fromkeys([*before, *after]):
        yield key, before.get(key), after.get(key)


def _block(title: str, before: Any, after: Any, *, worlds: bool = True) -> Block:
    """Build the rows of one arm: the whole, its worlds, its levels, and whatever other numbers it carries."""
    rows = [Row("all tasks", measure(before), measure(after), main=True)]
    if worlds:
        for name, *pair in _both(_mapping(before, "by_world", "worlds"), _mapping(after, "by_world", "worlds")):
            rows.append(Row(name, measure(pair[0]), measure(pair[1])))
    for name, *pair in _both(_mapping(before, "by_level", "levels"), _mapping(after, "by_level", "levels")):
        rows.append(Row(f"level {name}", measure(pair[0]), measure(pair[1])))
    others = []
    left = before if isinstance(before, Mapping) else {}
    right = after if isinstance(after, Mapping) else {}
    for key, old, new in _both(left, right):
        if key != "success" and key not in _BESIDE and (number(old), number(new)) != (None, None):
            label, share = _OTHERS.get(key, (key, False))
            others.append(Other(label, share, number(old), number(new)))
    return Block(title, tuple(rows), tuple(others))


def blocks(evaluations: Mapping[str, Any]) -> list[Block]:
    """Return one block per arm, then one per world that was evaluated on its own, then that of held-out rows."""
    before, after = _mapping(evaluations, "before"), _mapping(evaluations, "after")
    result = [_block(name, *pair) for name, *pair in _both(_mapping(before, "arms"), _mapping(after, "arms"))]
    if not result and ("success" in before or "success" in after):
        result.append(_block("held-out tasks", before, after, worlds=False))
    for name, old, new in _both(_mapping(before, "worlds"), _mapping(after, "worlds")):
        arms = list(_both(_mapping(old, "arms"), _mapping(new, "arms")))
        result += [_block(f"{name}, {arm}", *pair) for arm, *pair in arms]
        if not arms:
            result.append(_block(name, old, new))
    rows = _mapping(before, "rows"), _mapping(after, "rows")
    if any(rows):
        result.append(replace(_block("held-out rows", *rows), rows=()))
    return result


def _plain(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:.4g}"


def verdict(blocks: list[Block]) -> str:
    """Say in one sentence what the first block shows; its intervals decide, not the difference alone."""
    if not blocks:
        return "Success before and after was not recorded."
    if not blocks[0].rows:
        told = (f"{each.label} {_plain(each.before)} before, {_plain(each.after)} after" for each in blocks[0].others)
        return f"On {blocks[0].title}: {'; '.join(told)}."
    row, where = blocks[0].rows[0], blocks[0].title
    if row.after.value is None or row.before.value is None:
        side = "before" if row.before.value is None else "after"
        known = row.after if row.before.value is None else row.before
        if known.value is None:
            return "Success before and after was not recorded."
        return f"Success ({where}) is {known.value:.1%}; the evaluation {side} training was not recorded."
    sizes = {m.count for m in (row.before, row.after) if m.count is not None}
    tasks = f" on {sizes.pop()} held-out tasks" if len(sizes) == 1 else ""
    change = 100 * (row.after.value - row.before.value)
    moved = "rose" if change > 0 else "fell" if change < 0 else "stayed"
    points = f"{abs(change):.1f} points"
    if row.before.interval is None or row.after.interval is None:
        judged = "no intervals were recorded, so chance is not excluded"
    elif row.apart:
        judged = "the 95% intervals lie apart"
    else:
        judged = "the 95% intervals overlap, so this may be chance"
    span = f"from {row.before.value:.1%} to {row.after.value:.1%}"
    if moved == "stayed":
        return f"Success ({where}) stayed at {row.after.value:.1%}{tasks}; {judged}."
    return f"Success ({where}) {moved} by {points}, {span}{tasks}; {judged}."
