"""The checks of split and levels that every generated world shares."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["check_split"]


def check_split(split: str, levels: Sequence[int]) -> None:
    """Refuse a split other than train and test, and levels outside 1 to 5."""
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; valid: train, test")
    wrong = [level for level in levels if level not in (1, 2, 3, 4, 5)]
    if wrong or not levels:
        raise ValueError(f"levels are {list(levels)}; valid levels are 1, 2, 3, 4, 5 and at least one is needed")
