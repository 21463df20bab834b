"""Tags in a model's text: how often they are opened and closed, and what an element holds."""

from __future__ import annotations

import re

__all__ = ["balanced", "element", "tag_counts"]


def tag_counts(text: str, tag: str) -> tuple[int, int]:
    """Return how often ``<tag>`` and ``</tag>`` stand in a text."""
    return text.count(f"<{tag}>"), text.count(f"</{tag}>")


def balanced(text: str, *tags: str) -> bool:
    """Say whether each of the tags is closed as often as it is opened; order and nesting are not looked at."""
    return all(opened == closed for opened, closed in (tag_counts(text, tag) for tag in tags))


def element(text: str, tag: str) -> str | None:
    """Return what stands between the first ``<tag>`` that is closed and its ``</tag>``, None without such a pair."""
    pair = re.search(f"<{re.escape(tag)}>(.*?)</{re.escape(tag)}>", text, re.DOTALL)
    return None if pair is None else pair[1]
