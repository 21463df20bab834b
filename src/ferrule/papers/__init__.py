"""Published methods: one module each, found by being there, and their studies below ``claims``."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ferrule.core.arrays import nearest
from ferrule.studies.paper import Paper
from ferrule.studies.study import Study, Unit

if TYPE_CHECKING:
    from ferrule.evaluate.methods import Known
    from ferrule.evaluate.taught import Teach

__all__ = ["discover", "find", "known", "measure", "slugs", "studies", "study", "ways"]


def slugs() -> list[str]:
    """Return the slugs of all papers, from the names of their modules."""
    return [entry.name.replace("_", "-") for entry in pkgutil.iter_modules(__path__) if entry.name != "claims"]


def _module(slug: str, known: list[str], kind: str, below: str = "") -> ModuleType:
    if slug not in known:
        raise KeyError(f"unknown {kind} {slug!r}; {nearest(slug, known)}")
    return importlib.import_module(f"{__name__}.{below}{slug.replace('-', '_')}")


def find(slug: str) -> Paper:
    """Return the paper of that slug; an unknown one is refused with the nearest valid slug (``KeyError``)."""
    paper = getattr(_module(slug, slugs(), "paper"), "PAPER", None)
    if not isinstance(paper, Paper) or paper.slug != slug:
        raise TypeError(f"the module of {slug!r} has no PAPER of that slug (ferrule.studies.paper.Paper)")
    return paper


def discover() -> list[Paper]:
    """Import every paper module and return their papers by number (tests, docs and listings only)."""
    return sorted(map(find, slugs()), key=lambda paper: paper.number)


def known() -> Known:
    """Return the recipes and methods of all papers by name, as an arena takes them."""
    from ferrule.evaluate.methods import known_of

    return known_of(discover())


def ways() -> dict[str, Teach]:
    """Return the ways to teach an agent by name, for arenas: papers with a piece ``teach``, and ``calls``."""
    from ferrule.evaluate.taught import by_calls

    return {"calls": by_calls, **{each.slug: each.pieces["teach"] for each in discover() if "teach" in each.pieces}}


def studies(paper: str | None = None) -> list[str]:
    """Return the slugs of all studies, or of those of one paper: ``otc`` and ``otc-pocket``, for example."""
    from ferrule.papers import claims

    names = [entry.name.replace("_", "-") for entry in pkgutil.iter_modules(claims.__path__)]
    if paper is None:
        return names
    return [name for name in names if f"{name}-".startswith(f"{paper}-") and study(name).paper == paper]


def study(slug: str) -> Study:
    """Return a study by its slug: that of its paper, or ``PAPER-PART`` (``KeyError`` for an unknown one)."""
    value = getattr(_module(slug, studies(), "study", "claims."), "STUDY", None)
    if not isinstance(value, Study) or value.slug != slug:
        raise TypeError(f"ferrule.papers.claims has no STUDY of {slug!r} (ferrule.studies.study.Study)")
    return value


def measure(unit: Unit) -> dict[str, dict[str, Any]]:
    """Run one unit of a study."""
    return study(unit.study).measure(unit)
