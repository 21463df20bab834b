"""Published methods: one module each, found by being there."""

from __future__ import annotations

import importlib
import pkgutil

from ferrule.core.arrays import nearest
from ferrule.studies.paper import Paper

__all__ = ["discover", "find"]


def discover() -> list[Paper]:
    """Import every paper module and return their papers by number (tests, docs and listings only)."""
    papers = []
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        paper = getattr(module, "PAPER", None)
        if not isinstance(paper, Paper):
            raise TypeError(f"{module.__name__} has no PAPER of type ferrule.studies.paper.Paper")
        papers.append(paper)
    return sorted(papers, key=lambda paper: paper.number)


def find(slug: str) -> Paper:
    """Return the paper of that slug; an unknown one is refused with the nearest valid slug."""
    papers = {paper.slug: paper for paper in discover()}
    if slug not in papers:
        raise KeyError(f"no paper {slug!r}; {nearest(slug, list(papers))}")
    return papers[slug]
