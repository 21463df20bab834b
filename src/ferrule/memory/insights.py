"""Insights that are proved on the task they come from, and whose conditions are rewritten by how they fare.

A ``Solve`` solves a task with some entries before it. Learning keeps what makes its source task solvable; diagnosis
says of each entry whether it helped, misled or was missing; refinement rewrites conditions. Source: "AlphaOPT:
Formulating Optimization Programs with Self-Improving LLM Experience Library" (46).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice, product
from typing import Any, TypeAlias

from ferrule.agents.flow import returned
from ferrule.core.flows import Flow
from ferrule.core.records import Task
from ferrule.memory.checks import Check, admit, no_orders
from ferrule.memory.conditions import Fared, best_condition, fared_of, note_fared
from ferrule.memory.entries import Change, Entry, Origin
from ferrule.memory.library import Library, preview

__all__ = [
    "Diagnosed", "Evolution", "Extract", "Retrieve", "Solve", "Solved", "diagnose", "evolve", "largest_passing",
    "learn_from", "refine_condition",
]  # fmt: skip


@dataclass(frozen=True)
class Solved:
    """A solution: whether it is right, the text of it, and the ids of the entries it used (None: nobody knows)."""

    right: bool
    text: str = ""
    used: tuple[str, ...] | None = None


Solve: TypeAlias = Callable[[Task, Sequence[Entry]], "Flow[Solved] | Solved"]
"""Solves a task with some entries before it."""
Extract: TypeAlias = Callable[[Task, Solved], "Flow[list[Change]] | list[Change]"]
"""Proposes insights from a failed solution, by comparing it with a right one."""
Retrieve: TypeAlias = Callable[[Task, Sequence[Entry]], "Flow[Sequence[Entry]] | Sequence[Entry]"]
"""Picks the entries that apply to a task."""


def largest_passing(items: Sequence[Any], passes: Callable[[Sequence[Any]], Flow[bool] | bool]) -> Flow[list[Any]]:
    """Return the first subset that passes, from the largest to those of one item, in order; empty where none does."""
    for size in range(len(items), 0, -1):
        for subset in combinations(items, size):
            if (yield from returned(passes(subset))):
                return list(subset)
    return []


def learn_from(
    library: Library, task: Task, solve: Solve, extract: Extract, retrieve: Retrieve, *, attempts: int = 3,
    tries: int = 3, check: Check = no_orders, writer: str = "writer",
) -> Flow[list[Entry]]:  # fmt: skip
    """Solve a task several times, learn from every failure, and add what makes the task solvable.

    What does not pass ``check`` is left out before anything is proved. An insight is kept only if the task is solved
    with it beside the entries that were retrieved at first; it is extracted up to ``tries`` times. A task that all
    attempts solve teaches nothing. Return what was added.
    """
    old = list((yield from returned(retrieve(task, library.entries()))))
    failed = []
    for _ in range(attempts):
        solved: Solved = yield from returned(solve(task, old))
        failed += [] if solved.right else [solved]
    added: list[Entry] = []
    for failure in failed:
        for _ in range(tries):
            origin = (Origin(task.id, writer=writer),)
            proposed = yield from returned(extract(task, failure))
            changes = []
            for change in (replace(change, origins=origin) for change in proposed):
                if not (yield from returned(check(preview(change, ()), ()))):
                    changes.append(change)
            if not changes:
                continue
            fresh = [preview(change, (), id=f"E{-place}") for place, change in enumerate(changes, 1)]
            again: Solved = yield from returned(solve(task, [*old, *fresh]))
            if again.right:
                admitted = yield from admit(library, changes, check)
                added += [one.entry for one in admitted if one.entry is not None]
                break
    return added


@dataclass(frozen=True)
class Diagnosed:
    """What a task says of entries: how each fared, and whether the task is solved in the end, and with which ones."""

    fared: dict[str, Fared]
    solved: bool
    entries: tuple[Entry, ...] = ()


def diagnose(
    library: Library, task: Task, solve: Solve, retrieve: Retrieve, *, label: Callable[[Task, Solved, Entry], Any],
    missing: Callable[[Task, Solved, Sequence[Entry]], Any], most: int = 8,
) -> Flow[Diagnosed]:  # fmt: skip
    """Solve a task with what is retrieved, and say how each entry fared; nothing is written.

    Entries that a right solution used are positive, others irrelevant. After a failure ``label`` names how each one
    fared. Where one neither helped nor was right, the task is solved again with the positive ones alone. Else,
    ``missing(task, solution, entries)`` returns, for each issue, the entries that would apply and were not retrieved;
    up to ``most`` combinations of one for each issue are tried, and those of the first that solves the task are
    unretrieved.
    """
    entries = list((yield from returned(retrieve(task, library.entries()))))
    solved: Solved = yield from returned(solve(task, entries))
    if solved.right:
        used = [entry.id for entry in entries] if solved.used is None else solved.used
        helped: dict[str, Fared] = {e.id: "positive" if e.id in used else "irrelevant" for e in entries}
        return Diagnosed(helped, True, tuple(entries))
    fared: dict[str, Fared] = {}
    for entry in entries:
        fared[entry.id] = yield from returned(label(task, solved, entry))
    good = [entry for entry in entries if fared[entry.id] == "positive"]
    if any(how not in ("positive", "invalid") for how in fared.values()):
        again: Solved = yield from returned(solve(task, good))
        if again.right:
            return Diagnosed(fared, True, tuple(good))
    issues = yield from returned(missing(task, solved, entries))
    choices = [list(candidates) for candidates in issues if candidates]
    for chosen in islice(product(*choices), most) if choices else ():
        tried: Solved = yield from returned(solve(task, [*good, *chosen]))
        if tried.right:
            return Diagnosed({**fared, **{e.id: "unretrieved" for e in chosen}}, True, (*good, *chosen))
    return Diagnosed(fared, False, tuple(entries))


def refine_condition(
    library: Library, id: str, *, exclude: Callable[[Entry, str], Any], include: Callable[[Entry, str], Any],
    vary: Callable[[Entry, Sequence[str], Sequence[str]], Any],
    retrieves: Callable[[Entry, str], Flow[bool] | bool], check: Check = no_orders,
) -> Flow[Entry | None]:  # fmt: skip
    """Rewrite the condition of an entry that misled or was missing, where that retrieves it better.

    ``exclude(entry, task)`` says what of a negative task the entry does not apply to, ``include`` what of an
    unretrieved one it applies to, and ``vary(entry, applies, not_applies)`` proposes conditions
    (``conditions.conditioned`` words one). The best by ``best_condition`` of those that pass ``check`` becomes a new
    version; None where none is better than the present one.
    """
    entry = library[id]
    negative, unretrieved = fared_of(entry, "negative"), fared_of(entry, "unretrieved")
    if not negative and not unretrieved:
        return None
    apart, inside = [], []
    for task in negative:
        apart.append((yield from returned(exclude(entry, task))))
    for task in unretrieved:
        inside.append((yield from returned(include(entry, task))))
    variants: list[str] = []
    for when in dict.fromkeys((yield from returned(vary(entry, inside, apart)))):
        if not (yield from returned(check(replace(entry, when=when), [entry]))):
            variants.append(when)
    hits: set[tuple[str, str]] = set()
    for when in variants:
        changed = replace(entry, when=when)
        for task in (*fared_of(entry, "positive"), *unretrieved, *negative):
            if (yield from returned(retrieves(changed, task))):
                hits.add((when, task))
    best = best_condition(entry, variants, lambda changed, task: (changed.when, task) in hits)
    return library.modify(id, when=best[0]) if best is not None else None


@dataclass(frozen=True)
class Evolution:
    """Who does what in ``evolve``: the parts of ``diagnose`` and of ``refine_condition``; each may be a flow.

    With ``extract`` a task that stays unsolved is learned from, as in ``learn_from``.
    """

    solve: Solve
    retrieve: Retrieve
    label: Callable[[Task, Solved, Entry], Any]
    missing: Callable[[Task, Solved, Sequence[Entry]], Any]
    exclude: Callable[[Entry, str], Any]
    include: Callable[[Entry, str], Any]
    vary: Callable[[Entry, Sequence[str], Sequence[str]], Any]
    retrieves: Callable[[Entry, str], Flow[bool] | bool]
    extract: Extract | None = None


def evolve(library: Library, tasks: Sequence[Task], by: Evolution, *, passes: int = 4) -> Flow[list[float]]:
    """Diagnose every task and rewrite the conditions of entries that misled or were missing, ``passes`` times.

    Return the share of the tasks that were solved in each pass, before conditions were rewritten.
    """
    shares = []
    for _ in range(passes):
        fared: dict[str, dict[str, Fared]] = {}
        right = 0
        for task in tasks:
            said = yield from diagnose(library, task, by.solve, by.retrieve, label=by.label, missing=by.missing)
            right += said.solved
            if by.extract is not None and not said.solved:
                yield from learn_from(library, task, by.solve, by.extract, by.retrieve, attempts=1)
            for id, how in said.fared.items():
                fared.setdefault(id, {})[task.id] = how
        live = {entry.id for entry in library.entries()}  # others may have taken entries out meanwhile
        for id, labels in ((id, labels) for id, labels in fared.items() if id in live):
            note_fared(library, id, labels)
            yield from refine_condition(
                library, id, exclude=by.exclude, include=by.include, vary=by.vary, retrieves=by.retrieves
            )
        shares.append(right / len(tasks) if tasks else 0.0)
    return shares
