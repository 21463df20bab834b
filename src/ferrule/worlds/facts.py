"""A generated encyclopaedia: a few common facts that a model can know, and endless rare ones that must be searched.

Common entities (names of two syllables) are the same for every seed and split. Rare ones (three syllables) are drawn
per task and stand only in that task's passages. The held-out split holds by construction: a rare name belongs to
``test`` when its CRC-32 is divisible by five, so none of them is ever drawn for training, not even as a distractor;
of the four wordings of a common question one is kept for ``test``. Levels: 1 a common fact; 2 a common or a rare
one; 3 a rare one among passages on similar names; 4 two hops; 5 two hops on two sides, then a comparison or a
difference.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Task, Tool
from ferrule.tools.bm25 import BM25
from ferrule.tools.budget import Budget
from ferrule.tools.calculator import calculator
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["WORLD", "Book", "Fact", "Facts", "common", "passages", "split_of"]

_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u")
_ENDS = ("l", "m", "n", "r", "s", "t")
_COLOURS = ("red", "blue", "green", "white", "black", "yellow", "grey", "pink")
_JOBS = ("baker", "doctor", "farmer", "judge", "miner", "painter", "poet", "sailor", "smith", "teacher")
_COMMON = 12

_WORDINGS = {
    "capital": (
        "What is the capital of {}?",
        "Name the capital of {}.",
        "Which town is the capital of {}?",
        "{} has which capital?",
    ),
    "colour": ("What is the colour of {}?", "Name the colour of {}.", "Which colour has {}?", "{} has which colour?"),
    "population": (
        "How many people live in {}?",
        "What is the population of {}?",
        "Name the population of {}.",
        "{} has how many people?",
    ),
    "founder": ("Who founded {}?", "Who is the founder of {}?", "Name the founder of {}.", "By whom was {} founded?"),
    "year": (
        "When was {} founded?",
        "In which year was {} founded?",
        "What is the year of {}?",
        "Name the year of {}.",
    ),
    "river": (
        "Which river flows through {}?",
        "What is the river of {}?",
        "Name the river of {}.",
        "{} lies on which river?",
    ),
    "birthplace": (
        "Where was {} born?",
        "What is the birthplace of {}?",
        "Name the birthplace of {}.",
        "In which town was {} born?",
    ),
    "job": ("What is the job of {}?", "Name the job of {}.", "Which job has {}?", "{} has which job?"),
}
_KINDS = {
    "land": ("capital", "colour", "population"),
    "town": ("founder", "year", "river"),
    "person": ("birthplace", "job"),
}
_LINKS = {"capital": "town", "founder": "person", "birthplace": "town"}
_NUMBERS = ("population", "year")


def split_of(name: str) -> str:
    """Return the split that a rare name belongs to."""
    return "test" if zlib.crc32(name.encode()) % 5 == 0 else "train"


@dataclass(frozen=True)
class Fact:
    """One attribute of one entity; its passage is ``The {attribute} of {entity} is {value}.``"""

    entity: str
    attribute: str
    value: str

    @property
    def passage(self) -> str:
        """The sentence that states the fact."""
        return f"The {self.attribute} of {self.entity} is {self.value}."


@dataclass
class Book:
    """Facts under construction: an entity gets all attributes of its kind; the names they link to may have no facts."""

    rng: random.Random
    syllables: int
    split: str = ""
    facts: dict[tuple[str, str], Fact] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def fresh(self, like: str = "") -> str:
        """Return a new name of the split; ``like`` keeps all but one syllable of another name."""
        while True:
            parts = [self.rng.choice(_ONSETS) + self.rng.choice(_VOWELS) for _ in range(self.syllables)]
            end = self.rng.choice(_ENDS)
            if like:
                kept = self.rng.randrange(self.syllables)
                parts = [p if i == kept else like[2 * i : 2 * i + 2].lower() for i, p in enumerate(parts)]
                end = like[-1]
            name = "".join(parts).capitalize() + end
            if name not in self.names and self.split in ("", split_of(name)):
                self.names.add(name)
                return name

    def add(self, kind: str, name: str = "") -> str:
        """Add an entity of a kind with all its attributes and return its name."""
        name = name or self.fresh()
        for attribute in _KINDS[kind]:
            self.facts[name, attribute] = Fact(name, attribute, self._value(attribute))
        return name

    def _value(self, attribute: str) -> str:
        if attribute == "colour":
            return self.rng.choice(_COLOURS)
        if attribute == "job":
            return self.rng.choice(_JOBS)
        if attribute == "year":
            return str(self.rng.randint(1000, 1999))
        return str(self.rng.randint(100, 999)) if attribute == "population" else self.fresh()

    def value(self, name: str, attribute: str) -> str:
        """Return the value of a fact."""
        return self.facts[name, attribute].value

    def chain(self, kind: str, first: str, second: str) -> tuple[str, str, str]:
        """Add an entity and the one that ``first`` leads to; return both names and the value of ``second``."""
        name = self.add(kind)
        middle = self.add(_LINKS[first], self.value(name, first))
        return name, middle, self.value(middle, second)


@lru_cache(maxsize=1)
def common() -> tuple[Fact, ...]:
    """Return the common facts: twelve lands, their capitals, and the founders of those, 96 facts in all."""
    book = Book(random.Random("common facts"), syllables=2)
    for _ in range(_COMMON):
        land = book.add("land")
        town = book.add("town", book.value(land, "capital"))
        book.add("person", book.value(town, "founder"))
    return tuple(book.facts.values())


@dataclass(frozen=True)
class _Plan:
    """One generated task: prompt, answer, what to search in order, the closing expression, and the rare facts."""

    prompt: str
    answer: str
    numeric: bool
    queries: tuple[str, ...]
    facts: tuple[Fact, ...] = ()
    expression: str = ""


def _query(attribute: str, name: str) -> str:
    return f"{attribute} of {name}"


def _common(rng: random.Random, split: str) -> _Plan:
    fact = rng.choice(common())
    wordings = list(_WORDINGS[fact.attribute])
    held_out = wordings.pop(zlib.crc32(fact.passage.encode()) % len(wordings))
    wording = held_out if split == "test" else rng.choice(wordings)
    numeric = fact.attribute in _NUMBERS
    return _Plan(wording.format(fact.entity), fact.value, numeric, (_query(fact.attribute, fact.entity),))


def _rare(rng: random.Random, split: str, similar: int) -> _Plan:
    book = Book(rng, 3, split)
    kind = rng.choice(sorted(_KINDS))
    attribute = rng.choice(_KINDS[kind])
    name = book.add(kind)
    for _ in range(similar):
        book.add(kind, book.fresh(like=name))
    for other in _KINDS:
        book.add(other)
    prompt = rng.choice(_WORDINGS[attribute]).format(name)
    facts = tuple(book.facts.values())
    return _Plan(prompt, book.value(name, attribute), attribute in _NUMBERS, (_query(attribute, name),), facts)


def _one(rng: random.Random, split: str) -> _Plan:
    return _common(rng, split)


def _two(rng: random.Random, split: str) -> _Plan:
    return _common(rng, split) if rng.random() < 0.5 else _rare(rng, split, similar=0)


def _three(rng: random.Random, split: str) -> _Plan:
    return _rare(rng, split, similar=4)


def _hops(rng: random.Random) -> tuple[str, str, str]:
    """Draw kind, link and attribute of a two-hop question."""
    kind, first = rng.choice((("land", "capital"), ("town", "founder"), ("person", "birthplace")))
    return kind, first, rng.choice(_KINDS[_LINKS[first]])


def _four(rng: random.Random, split: str) -> _Plan:
    book = Book(rng, 3, split)
    kind, first, second = _hops(rng)
    name, middle, answer = book.chain(kind, first, second)
    for _ in range(2):
        book.add(kind, book.fresh(like=name))
        book.add(_LINKS[first], book.fresh(like=middle))
    prompt = rng.choice(_WORDINGS[second]).format(f"the {first} of {name}")
    queries = (_query(first, name), _query(second, middle))
    return _Plan(prompt, answer, second in _NUMBERS, queries, tuple(book.facts.values()))


def _five(rng: random.Random, split: str) -> _Plan:
    """Compare the years of two towns, each reached from a land or a person, or take their difference."""
    book = Book(rng, 3, split)
    kind, first = rng.choice((("land", "capital"), ("person", "birthplace")))
    one, one_town, one_year = book.chain(kind, first, "year")
    two, two_town, two_year = book.chain(kind, first, "year")
    while one_year == two_year:
        two, two_town, two_year = book.chain(kind, first, "year")
    for name in (one, two):
        book.add(kind, book.fresh(like=name))
    queries = (_query(first, one), _query(first, two), _query("year", one_town), _query("year", two_town))
    facts = tuple(book.facts.values())
    if rng.random() < 0.5:
        older = one_town if int(one_year) < int(two_year) else two_town
        return _Plan(f"Which is older, the {first} of {one} or the {first} of {two}?", older, False, queries, facts)
    early, late = sorted((one_year, two_year), key=int)
    prompt = f"How many years lie between the {first} of {one} and the {first} of {two}?"
    return _Plan(prompt, str(int(late) - int(early)), True, queries, facts, f"{late} - {early}")


_LEVELS: dict[int, Callable[[random.Random, str], _Plan]] = {1: _one, 2: _two, 3: _three, 4: _four, 5: _five}


def _plan(key: str) -> _Plan:
    """Rebuild a task's plan from its id ``name/split/level/seed/index``."""
    parts = key.split("/")
    if len(parts) != 5 or parts[1] not in ("train", "test") or parts[2] not in "12345":
        raise ValueError(f"{key!r} is not a task of the facts world; take tasks from Facts().tasks(...)")
    return _LEVELS[int(parts[2])](random.Random(key), parts[1])


def passages(task: Task) -> tuple[str, ...]:
    """Return the passages that the task's ``search`` can reach: its rare facts, shuffled, then the common ones."""
    rare = [fact.passage for fact in _plan(task.id).facts]
    random.Random(f"order of {task.id}").shuffle(rare)
    return (*rare, *(fact.passage for fact in common()))


@dataclass(frozen=True)
class Facts:
    """Seeded questions with the tool ``search``, and ``calculator`` when ``tools`` names it.

    ``top`` is the number of passages one search returns, ``calls`` caps the tool calls of an episode.
    """

    tools: tuple[str, ...] = ("search",)
    top: int = 2
    calls: int = 8
    name: str = "facts"

    def __post_init__(self) -> None:
        """Refuse unknown tools and sizes that no search could use."""
        for tool in self.tools:
            if tool not in ("search", "calculator"):
                raise ValueError(f"Facts.tools has {tool!r}; {nearest(tool, ['search', 'calculator'])}")
        if self.top < 1 or self.calls < 0:
            raise ValueError(f"Facts.top is {self.top} (least 1) and Facts.calls is {self.calls} (least 0)")

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns.

        Numbers are compared as numbers, names exactly. Level 1 holds a few hundred questions and no more.
        """
        check_split(split, levels)
        return different(lambda level, place, key: self._task(split, level, f"{seed}/{key}"), count, levels)

    def _task(self, split: str, level: int, drawn: str) -> Task:
        key = f"{self.name}/{split}/{level}/{drawn}"
        plan = _plan(key)
        meta = {
            "verifier": "numeric" if plan.numeric else "exact",
            "level": level,
            "split": split,
            "rare": bool(plan.facts),
        }
        return Task(id=key, prompt=plan.prompt, answer=plan.answer, world=self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session whose search covers the passages of the task."""
        built = {"search": _search(passages(task), self.top), "calculator": calculator}
        offered: tuple[Tool, ...] = tuple(built[name] for name in self.tools)
        return ToolSession(task, lambda state: offered, budget=Budget(total=self.calls))

    def demonstrate(self, task: Task) -> Demonstration:
        """Return one search per round, the difference of years where there is a calculator, and the answer."""
        plan = _plan(task.id)
        rounds = [(Call("search", {"query": query}),) for query in plan.queries]
        if "calculator" in self.tools and plan.expression:
            rounds.append((Call("calculator", {"expression": plan.expression}),))
        return Demonstration(tuple(rounds), plan.answer)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _search(sentences: Sequence[str], top: int) -> Tool:
    """Build the search tool: the ``top`` best passages as they stand, one per line, without titles or ranks."""
    index: list[BM25] = []

    def search(query: str) -> str:
        if not index:
            index.append(BM25([_words(sentence) for sentence in sentences]))
        best = index[0].best(_words(query), top)
        return "\n".join(sentences[place] for place, _ in best) or "nothing found"

    parameters = {
        "type": "object",
        "properties": {"query": {"type": "string"}},
        "required": ["query"],
        "additionalProperties": False,
    }
    return Tool("search", "find facts", parameters, search)


WORLD = Facts
