"""What every generated world shares: the checks of split and levels, and the drawing of tasks that all differ."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from ferrule.core.records import Task

__all__ = ["check_split", "different", "task_seeds"]

_DRAWS = 500


def check_split(split: str, levels: Sequence[int]) -> None:
    """Refuse a split other than train and test, and levels outside 1 to 5."""
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; valid: train, test")
    wrong = [level for level in levels if level not in (1, 2, 3, 4, 5)]
    if wrong or not levels:
        raise ValueError(f"levels are {list(levels)}; valid levels are 1, 2, 3, 4, 5 and at least one is needed")


def task_seeds(split: str, count: int, seed: int) -> list[int]:
    """Return a seed per task for worlds whose tasks are resets: even ones for ``train``, odd ones for ``test``."""
    return [2 * (seed * 1_000_003 + number) % 2**31 + (split == "test") for number in range(count)]


def different(draw: Callable[[int, int, str], Task], count: int, levels: Sequence[int]) -> list[Task]:
    """Return at most ``count`` tasks whose levels take turns, no two with the same prompt and answer.

    ``draw(level, place, key)`` makes the task of a place; ``key`` is the place as text, with a further number
    (``"7.1"``) for each draw after the first that only repeated an earlier task. A level that gives nothing new in 500
    draws in a row is used up: the others go on without it, and fewer tasks come back when none is left.
    """
    tasks: list[Task] = []
    known: set[str] = set()
    used_up: set[int] = set()
    for place in itertools.count():
        level = levels[place % len(levels)]
        if len(tasks) == count or used_up.issuperset(levels):
            return tasks
        for again in range(0 if level in used_up else _DRAWS):
            task = draw(level, place, f"{place}.{again}" if again else str(place))
            content = repr((task.prompt, task.answer))
            if content not in known:
                known.add(content)
                tasks.append(task)
                break
        else:
            used_up.add(level)
    raise AssertionError("places never end")
