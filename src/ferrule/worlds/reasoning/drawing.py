"""Drawing the problems of each class: the question in words, the arguments of its solver, and the answer."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any

from ferrule.worlds.reasoning import solvers

__all__ = [
    "Problem",
    "chinese_remainder",
    "dyck",
    "logical_deduction",
    "scheduling",
    "shuffled_objects",
    "word_sorting",
]

_WORDS = (
    "anchor", "apple", "arrow", "autumn", "basil", "beacon", "bottle", "branch", "butter", "candle", "canyon",
    "castle", "cedar", "cherry", "copper", "cotton", "coral", "cricket", "dagger", "desert", "dragon", "eagle",
    "ember", "engine", "falcon", "feather", "fiddle", "forest", "garden", "ginger", "glacier", "granite", "hammer",
    "harbor", "hazel", "helmet", "island", "ivory", "jacket", "jasmine", "kettle", "ladder", "lantern", "lemon",
    "lilac", "maple", "marble", "meadow", "mirror", "nectar", "needle", "nutmeg", "oasis", "orchard", "oyster",
    "paddle", "pebble", "pepper", "pilot", "quartz", "quiver", "ribbon", "rocket", "saddle", "salmon", "shadow",
    "silver", "spruce", "tailor", "temple", "thicket", "timber", "tulip", "turtle", "velvet", "violet", "walnut",
    "willow", "zephyr",
)  # fmt: skip
_THINGS = ("red book", "blue book", "green book", "black book", "white book", "grey book", "orange book")
_PEOPLE = ("Alice", "Bob", "Claire", "Dave", "Eve", "Fred", "Gertrude")
_ITEMS = ("red ball", "blue ball", "green ball", "pink ball", "white ball", "black ball", "yellow ball")
_PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
_PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_SLOTS = [f"{8 + i // 2:02d}:{30 * (i % 2):02d}" for i in range(21)]


@dataclass(frozen=True)
class Problem:
    """A question, what its solver would be called with, and the answer; ``options`` are those of a choice."""

    question: str
    arguments: Mapping[str, Any] = field(hash=False)
    answer: str
    options: tuple[str, ...] = ()


def _chosen(question: str, arguments: Mapping[str, Any], answer: str, options: Sequence[str]) -> Problem:
    """Return a problem whose answer is the letter of an option."""
    lines = [f"({chr(65 + i)}) {option}" for i, option in enumerate(options)]
    letter = f"({chr(65 + list(options).index(answer))})"
    return Problem("\n".join([question, "Options:", *lines]), arguments, letter, tuple(options))


def word_sorting(rng: random.Random, level: int) -> Problem:
    """Words to be sorted, 4 at level 1 and 12 at level 5."""
    words = rng.sample(_WORDS, 2 + 2 * level)
    return Problem(
        f"Sort the following words alphabetically: {' '.join(words)}", {"words": words}, solvers.word_sorting(words)
    )


def dyck(rng: random.Random, level: int) -> Problem:
    """The beginning of a text of brackets, to be completed; from 4 brackets to about 20."""
    waiting: list[str] = []
    text = ""
    while len(text) < 4 * level or not waiting:
        if waiting and rng.random() < 0.4:
            text += waiting.pop()
        else:
            text += (mark := rng.choice(list(_PAIRS)))
            waiting.append(_PAIRS[mark])
    question = (
        "Complete the sequence so that all brackets are closed, and write only the brackets that are missing. "
        f"Sequence: {text}"
    )
    return Problem(question, {"text": text}, solvers.dyck(text))


def logical_deduction(rng: random.Random, level: int) -> Problem:
    """Things on a shelf in one order that the clues leave, 3 at level 1 and 7 at level 5."""
    things = rng.sample(_THINGS, 2 + level)
    order = rng.sample(things, len(things))
    end = rng.random() < 0.5
    known: list[list[object]] = [["at", order[-1], -1] if end else ["at", order[0], 1]]
    clues = known + [["before", first, second] for first, second in pairwise(order)]
    rng.shuffle(clues)
    said = {
        "before": "The {0} stands to the left of the {1}.",
        1: "The {0} is the leftmost.",
        -1: "The {0} is the rightmost.",
    }
    told = [said[c[2] if c[0] == "at" else "before"].format(c[1], c[2]) for c in clues]
    place = rng.randint(1, len(things))
    question = (
        f"On a shelf stand {len(things)} books: {', '.join(f'a {thing}' for thing in things)}. {' '.join(told)} "
        f"Which book is the {_PLACES[place - 1]} from the left?"
    )
    arguments = {"things": things, "clues": clues, "place": place}
    return _chosen(question, arguments, solvers.logical_deduction(things, clues, place), things)


def shuffled_objects(rng: random.Random, level: int) -> Problem:
    """People who swap what they hold, 3 at level 1 and 7 at level 5, in as many swaps and some more."""
    people, items = _PEOPLE[: 2 + level], rng.sample(_ITEMS, 2 + level)
    holds = dict(zip(people, items, strict=True))
    swaps = [rng.sample(people, 2) for _ in range(2 + 2 * level)]
    who = rng.choice(people)
    begins = ", ".join(f"{person} has the {item}" for person, item in holds.items())
    told = " Then ".join(f"{first} and {second} swap." for first, second in swaps)
    question = f"At first, {begins}. {told} In the end, which one does {who} have?"
    arguments = {"holds": holds, "swaps": swaps, "who": who}
    return _chosen(question, arguments, solvers.shuffled_objects(holds, swaps, who), sorted(items))


def chinese_remainder(rng: random.Random, level: int) -> Problem:
    """A number of apples known by what remains; two divisors at levels 1 and 2, then three."""
    choice = (3, 5, 7) if level == 1 else (5, 7, 8, 9, 11) if level < 4 else (11, 13, 17, 19, 23)
    moduli = sorted(rng.sample(choice, 2 if level < 3 else 3))
    most = prod(moduli) - 1
    apples = rng.randint(most // 2, most)
    remainders = [apples % modulus for modulus in moduli]
    told = "; ".join(f"among {m} people, {r} are left" for m, r in zip(moduli, remainders, strict=True))
    question = (
        f"A basket holds at most {most} apples. When the apples are shared equally: {told}. How many apples are in the "
        "basket?"
    )
    arguments = {"moduli": moduli, "remainders": remainders, "most": most}
    return Problem(question, arguments, str(solvers.chinese_remainder(moduli, remainders, most)))


def scheduling(rng: random.Random, level: int) -> Problem:
    """People with free half hours from 08:00 to 18:00 who want to meet for 0.5, 1 or 1.5 hours.

    Each has 5 to 15 free half hours, as in the paper; 2 people at levels 1 to 3, and one more at each further.
    """
    people, hours = _PEOPLE[: max(2, level - 1)], rng.choice((0.5, 1.0, 1.5))
    free = [_spans(sorted(rng.sample(range(20), rng.randint(5, 15)))) for _ in people]
    told = "\n".join(f"{person}: {', '.join(spans)}" for person, spans in zip(people, free, strict=True))
    question = (
        f"{', '.join(people[:-1])} and {people[-1]} want to meet for {hours:g} hours. Their free times:\n{told}\n"
        "When is the earliest time at which all can meet? Answer like 09:00 - 10:00, or: No time slot works."
    )
    return Problem(question, {"free": free, "hours": hours}, solvers.scheduling(free, hours))


def _spans(slots: Sequence[int]) -> list[str]:
    """Return half hours as stretches of time, neighbours joined."""
    spans: list[list[int]] = []
    for slot in slots:
        if spans and spans[-1][1] == slot:
            spans[-1][1] = slot + 1
        else:
            spans.append([slot, slot + 1])
    return [f"{_SLOTS[begin]} - {_SLOTS[end]}" for begin, end in spans]
