"""Benchmarks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from ferrule.core.arrays import nearest
from ferrule.core.flows import World
from ferrule.worlds.mixed import Mixed
from ferrule.worlds.suites.api_bank import api_bank
from ferrule.worlds.suites.bfcl import CATEGORIES, bfcl
from ferrule.worlds.suites.bfcl_turns import DIALOGUES, bfcl_dialogues
from ferrule.worlds.suites.restbench import APIS, restbench
from ferrule.worlds.suites.tau import DOMAINS, tau

__all__ = ["suite_names", "suite_world"]

_BASIC = ("simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance")


def _basic(*, data: str | Path | None = None) -> World:
    """The five basic categories of BFCL in equal shares."""
    return Mixed(tuple(bfcl(category, data=data) for category in _BASIC))


_SUITES: Mapping[str, Callable[..., World]] = {
    "api_bank": api_bank,
    "bfcl": _basic,
    **{f"bfcl:{category}": partial(bfcl, category) for category in CATEGORIES},
    **{f"bfcl:{category}": partial(bfcl_dialogues, category) for category in DIALOGUES},
    **{f"tau:{domain}": partial(tau, domain) for domain in DOMAINS},
    **{f"restbench:{api}": partial(restbench, api) for api in APIS},
}


def suite_names() -> list[str]:
    """Return the names of all benchmarks."""
    return list(_SUITES)


def suite_world(name: str, *, data: str | Path | None = None) -> World:
    """Return a benchmark as a world; ``data`` is the folder that holds its files, or one file of rows.

    Raises ``ValueError`` for an unknown name, ``FileNotFoundError`` with what gets the data where there is none.
    """
    if name not in _SUITES:
        raise ValueError(f"no benchmark {name!r}; {nearest(name, suite_names())}")
    return _SUITES[name](data=data)
