"""Plans of tasks, rebuilt from their ids, what their reference programs come to, and the verdict on a final state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ferrule.core.records import Call, Tool
from ferrule.worlds.apps.calling import bound
from ferrule.worlds.apps.catalogue import APPS, apis, app_of
from ferrule.worlds.apps.level1 import LEVEL_1
from ferrule.worlds.apps.level2 import LEVEL_2
from ferrule.worlds.apps.level3 import LEVEL_3
from ferrule.worlds.apps.making import Doing, Maker, Solve, Template
from ferrule.worlds.apps.store import FREE, Rows, Store, changes

__all__ = ["LEVELS", "Plan", "Reference", "api_tools", "judge", "plan_of", "reference_of", "same_answer"]

LEVELS: Mapping[int, tuple[Template, ...]] = {1: LEVEL_1, 2: LEVEL_2, 3: LEVEL_3}
"""The templates by level."""


@dataclass(frozen=True)
class Plan:
    """One task: its template, what is asked, the database it starts with, and its reference program."""

    template: Template
    text: str
    base: Store
    solve: Solve


@dataclass(frozen=True)
class Reference:
    """The result of a reference program: its calls, its answer, and its changes to the rows at the start."""

    calls: tuple[Call, ...]
    answer: Any
    start: Rows
    changes: Counter[tuple[Any, ...]]


def api_tools(store: Store, apps: tuple[str, ...]) -> tuple[Tool, ...]:
    """Return the APIs of these apps as tools over a store."""
    apps_by_name = {name: APPS[name](store) for name in apps}
    return tuple(
        bound(pattern, apps_by_name[app_of(name)], store)
        for name, pattern in apis().items()
        if app_of(name) in apps_by_name
    )


@lru_cache(maxsize=128)
def plan_of(id: str) -> Plan:
    """Rebuild a plan from a task's id ``name/split/level/seed/index/template``."""
    _, split, level, _, _, name = id.rsplit("/", 5)
    (template,) = (template for template in LEVELS[int(level)] if template.name == name)
    maker = Maker(id, split)
    text, solve = template.make(maker)
    maker.close()
    return Plan(template, text, Store(maker.me, maker.today, maker.tables), solve)


@lru_cache(maxsize=128)
def reference_of(id: str) -> Reference:
    """Run the reference program of a task on its own database."""
    plan = plan_of(id)
    store = plan.base.fork()
    tools = {tool.name: tool for tool in api_tools(store, plan.template.apps)}
    calls: list[Call] = []

    def run(api: str, arguments: Mapping[str, Any]) -> Any:
        calls.append(Call(api, dict(arguments)))
        return tools[api].run(**arguments)

    answer, start = plan.solve(Doing(run)), plan.base.snapshot()
    effect = changes(start, store.snapshot(), plan.template.loose)
    store.close()
    return Reference(tuple(calls), answer, start, effect)


def _folded(value: Any) -> str:
    return " ".join(str(value).split()).strip("\"'.").casefold()


def same_answer(given: Any, wanted: Any) -> bool:
    """Compare an answer with the wanted one: numbers as numbers, texts without case, quotes and a final stop.

    Anything is right where nothing was asked for.
    """
    if wanted is None:
        return True
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(wanted, int):
        try:
            return float(_folded(given).removeprefix("$").removesuffix("dollars").replace(",", "")) == wanted
        except ValueError:
            return False
    return _folded(given) == _folded(wanted)


def judge(id: str, store: Store) -> dict[str, Any]:
    """Return the verdict on the state of an episode.

    There is a check for each change that the reference program made, and one for the ending: the episode was
    completed, with the right answer where one is asked for, and after some wanted change where none is. Every further
    change is a stray and takes a check away, so ``partial = max(0, held - stray) / checks``: an untouched state has 0,
    and ``passed`` is ``partial == 1``.
    """
    reference, loose = reference_of(id), plan_of(id).template.loose
    effect = changes(reference.start, store.snapshot(), loose)
    matching = reference.changes & effect
    stray = Counter(
        {
            change: count
            for change, count in (effect - reference.changes).items()
            if change[0] != "changed" or (change[1], change[3]) not in FREE
        }
    )
    right = store.finished and same_answer(store.answer, reference.answer)
    ended = right and (reference.answer is not None or matching.total() > 0)
    checks = reference.changes.total() + 1
    partial = max(0, matching.total() + ended - stray.total()) / checks
    return {
        "passed": partial == 1.0,
        "partial": partial,
        "checks": checks,
        "held": matching.total() + ended,
        "stray": stray.total(),
        "stray_tables": sorted({change[1] for change in stray}),
        "missing_tables": sorted({change[1] for change in reference.changes - effect}),
        "completed": store.finished,
        "answer": store.answer,
        "answer_right": right if reference.answer is not None else None,
    }
