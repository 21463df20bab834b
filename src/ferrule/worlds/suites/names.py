"""Benchmarks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.flows import World
from ferrule.worlds.mixed import Mixed
from ferrule.worlds.suites.api_bank import api_bank
from ferrule.worlds.suites.bfcl import CATEGORIES, bfcl
from ferrule.worlds.suites.bfcl_turns import DIALOGUES, bfcl_dialogues
from ferrule.worlds.suites.declared import declared
from ferrule.worlds.suites.draft_docs import VERSIONS, draft_docs
from ferrule.worlds.suites.optima import OPTIMA, optima
from ferrule.worlds.suites.questions import QUESTIONS, questions
from ferrule.worlds.suites.restbench import APIS, restbench
from ferrule.worlds.suites.ste import ste
from ferrule.worlds.suites.tau import DOMAINS, tau

__all__ = ["suite_names", "suite_world", "suites_of"]

_BASIC = ("simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance")


def _basic(*, data: str | Path | None = None) -> World:
    """The five basic categories of BFCL in equal shares."""
    return Mixed(tuple(bfcl(category, data=data) for category in _BASIC))


_SUITES: Mapping[str, Callable[..., World]] = {
    "api_bank": api_bank,
    "bfcl": _basic,
    **{name: partial(questions, name) for name in QUESTIONS},
    **{f"bfcl:{category}": partial(bfcl, category) for category in CATEGORIES},
    **{f"bfcl:{category}": partial(bfcl_dialogues, category) for category in DIALOGUES},
    **{f"tau:{domain}": partial(tau, domain) for domain in DOMAINS},
    **{f"restbench:{api}": partial(restbench, api) for api in APIS},
    **{f"draft_docs:{api}_{version}": partial(draft_docs, api, version) for api in APIS for version in VERSIONS},
    **{name: partial(optima, name) for name in OPTIMA},
    "nl4opt_declared": declared,
    "ste": ste,
}


def suite_names() -> list[str]:
    """Return the names of all benchmarks."""
    return list(_SUITES)


def suites_of(origin: str) -> list[str]:
    """Return the names of the benchmarks that one folder of data serves (``ferrule.worlds.suites.origins``)."""
    family = {"tau_bench": "tau"}.get(origin, origin)
    return [
        name for name in _SUITES if (QUESTIONS[name].origin if name in QUESTIONS else name.partition(":")[0]) == family
    ]


def suite_world(name: str, *, data: str | Path | None = None, **options: Any) -> World:
    """Return a benchmark as a world; ``data`` is the folder that holds its files, or one file of rows.

    ``options`` are those of ``ferrule.worlds.suites.questions.questions``, for benchmarks that it returns. Raises
    ``ValueError`` for an unknown name and for options that would do nothing, ``FileNotFoundError`` with what gets the
    data where there is none.
    """
    if name not in _SUITES:
        raise ValueError(f"no benchmark {name!r}; {nearest(name, suite_names())}")
    given = {option: value for option, value in options.items() if value is not None}
    if given and name not in QUESTIONS:
        raise ValueError(f"{', '.join(given)} would do nothing: {name!r} is a benchmark with its own tools")
    return _SUITES[name](data=data, **given)
