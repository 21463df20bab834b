"""Tasks of binary features, some with a hidden pitfall, and a scripted modeller who must know of it.

A task shows 8 of 40 features. Three in four hold one of 25 pitfalls, drawn by Zipf's law, each marked by 2 features of
its own. The modeller solves a task without a pitfall, and one whose pitfall an insight before it names; each of up to 3
insights on other pitfalls derails it with probability 0.5. Insights are extracted wrongly with probability 0.2, and
their first condition is two features of the task that say nothing.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ferrule.core.records import Task
from ferrule.memory.conditions import Fared, conditioned, fared_of
from ferrule.memory.entries import Change, Entry
from ferrule.memory.insights import Solved

__all__ = ["Modeller", "Pitfalls", "applies_to", "retrieved"]

FEATURES, SHOWN, PITFALLS, HELD = 40, 8, 25, 0.75
DERAILS, MOST, SLIPS = 0.5, 3, 0.2


@dataclass(frozen=True)
class Pitfalls:
    """Which two features mark each pitfall, drawn by a seed."""

    seed: int

    def tasks(self, split: str, count: int) -> list[Task]:
        """Return tasks; ``meta["pitfall"]`` is the hidden one, -1 for none. More tasks begin with fewer."""
        rng = random.Random(f"pitfalls/{self.seed}")
        marks = [rng.sample(range(FEATURES), 2) for _ in range(PITFALLS)]
        chances = [1 / (place + 1) for place in range(PITFALLS)]
        rng, tasks = random.Random(f"pitfalls/{self.seed}/{split}"), []
        for number in range(count):
            pitfall = rng.choices(range(PITFALLS), chances)[0] if rng.random() < HELD else -1
            core = marks[pitfall] if pitfall >= 0 else []
            others = rng.sample([f for f in range(FEATURES) if f not in core], SHOWN - len(core))
            prompt = " ".join(f"f{feature}" for feature in sorted([*core, *others]))
            tasks.append(Task(f"{split}/{number}", prompt, meta={"pitfall": pitfall}))
        return tasks


@lru_cache(maxsize=100_000)
def _parsed(when: str) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """Return the sets of features of which one must be there as a whole, and the features that must not be there.

    A paragraph on what an insight applies to is read in place of the first one.
    """
    first, *rest = when.split("\n")
    applies = next((line for line in rest if line.startswith("Applies: ")), "")
    apart = next((line for line in rest if line.startswith("Does not apply: ")), "")
    groups = (re.findall(r"f\d+", part) for part in (applies or first).split(";"))
    return tuple(frozenset(group) for group in groups if group), frozenset(re.findall(r"f\d+", apart))


def applies_to(entry: Entry, prompt: str) -> bool:
    """Tell whether the condition of an entry holds for the features of a task."""
    groups, apart = _parsed(entry.when)
    shown = frozenset(prompt.split())
    return not apart & shown and any(group <= shown for group in groups)


def retrieved(task: Task, entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries whose condition holds."""
    return [entry for entry in entries if applies_to(entry, task.prompt)]


@dataclass
class Modeller:
    """Who solves, extracts, labels and rewrites: everything by a script, with chance drawn from ``rng``."""

    rng: random.Random
    prompts: dict[str, str] = field(default_factory=dict)

    def solve(self, task: Task, entries: Sequence[Entry]) -> Solved:
        """Solve a task with entries before it; ``text`` names the pitfall that was stumbled into."""
        needed = f"pitfall {task.meta['pitfall']}"
        used = tuple(entry.id for entry in entries if entry.text == needed)
        known = task.meta["pitfall"] < 0 or bool(used)
        wrong = [entry for entry in entries if entry.text != needed][:MOST]
        derailed = any(self.rng.random() < DERAILS for _ in wrong)
        return Solved(known and not derailed, "" if known else needed, used)

    def extract(self, task: Task, failure: Solved) -> list[Change]:
        """Propose the pitfall of a task, or by a slip another one, under two of its features."""
        if not failure.text:
            return []
        slip = self.rng.random() < SLIPS
        text = f"pitfall {self.rng.randrange(PITFALLS)}" if slip else failure.text
        return [Change("add", text=text, when=" ".join(self.rng.sample(task.prompt.split(), 2)))]

    def label(self, task: Task, failure: Solved, entry: Entry) -> Fared:
        """Say how an entry fared on a task that was not solved."""
        return "positive" if entry.text == f"pitfall {task.meta['pitfall']}" else "negative"

    def missing(self, entries: Sequence[Entry], task: Task, failure: Solved) -> list[list[Entry]]:
        """Return, for the pitfall that was stumbled into, the entries that name it."""
        return [[entry for entry in entries if entry.text == failure.text]] if failure.text else []

    def features(self, entry: Entry, task: str) -> str:
        """Return the features of a labelled task."""
        return self.prompts[task]

    def vary(self, entry: Entry, applies: Sequence[str], apart: Sequence[str]) -> list[str]:
        """Propose 5 conditions: what all wanted tasks share, less of what most share, and without unwanted features."""
        tasks = (*fared_of(entry, "positive"), *fared_of(entry, "unretrieved"))
        shared = Counter(feature for task in tasks for feature in self.prompts[task].split())
        unwanted = Counter(feature for prompt in apart for feature in prompt.split())
        ranked = sorted(shared, key=lambda feature: (-shared[feature], unwanted[feature], feature))
        by_all = [feature for feature in ranked if shared[feature] == len(tasks)]
        rare = sorted((f for f in unwanted if not shared[f]), key=lambda feature: (-unwanted[feature], feature))[:2]
        first = entry.when.split("\n")[0]
        narrow = [" ".join(features) for features in (by_all, ranked[:3], ranked[:2]) if features]
        variants = [conditioned(first, applies=[features]) for features in narrow]
        variants.append(conditioned(first, applies=narrow[-1:], not_applies=rare))
        return [*variants, conditioned(first, not_applies=rare)]
