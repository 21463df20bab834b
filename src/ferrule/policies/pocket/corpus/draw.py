"""Words, names and numbers of one conversation, drawn anew each time; an eighth of all words is kept for measuring."""

from __future__ import annotations

import random
import re
import string
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

__all__ = ["POOLS", "Draw", "english", "held_out", "in_words", "listed", "synonyms"]

_CONSONANTS, _VOWELS = "bdfgklmnprstvzhjcwxy", "aeiou"
_CLUSTERS = ("br", "cl", "dr", "fl", "gr", "kr", "pl", "sk", "st", "tr", "sh", "ch", "th")
_HERE = Path(__file__).parent
POOLS = {
    name: tuple(words.split())
    for name, words in (line.split(":") for line in (_HERE / "pools.txt").read_text(encoding="utf-8").splitlines())
}
"""Short word lists by name; cities, people, nouns and fields hold no word of a shipped world's tools."""


@cache
def english() -> tuple[str, ...]:
    """Return common English words that may be shipped, but for function words and nouns of shipped worlds."""
    left_out = {*POOLS["function"], *POOLS["shipped"]}
    return tuple(w for w in (_HERE / "words.txt").read_text().split() if w not in left_out)


@cache
def synonyms() -> dict[str, tuple[str, ...]]:
    """Return unlike words of the same meaning by word."""
    table: dict[str, list[str]] = {}
    for line in (_HERE / "pairs.txt").read_text().splitlines():
        first, second = line.split()
        table.setdefault(first, []).append(second)
        table.setdefault(second, []).append(first)
    return {word: tuple(others) for word, others in table.items() if word not in POOLS["shipped"]}


@cache
def paired() -> tuple[str, ...]:
    """Return the words that have a synonym."""
    return tuple(sorted(synonyms()))


def held_out(word: str) -> bool:
    """Tell whether a word is kept for measuring."""
    return zlib.crc32(word.lower().encode()) % 8 == 0


@cache
def printed() -> frozenset[str]:
    """Return all words of the texts that training shows as they stand, which measuring therefore cannot hold."""
    texts = " ".join(path.read_text(encoding="utf-8") for path in sorted(_HERE.glob("*.json")))
    return frozenset(re.findall(r"[a-z]+", texts.lower()))


def in_words(number: int) -> str:
    """Return a number below a thousand million in words; others stay digits."""
    if not 0 <= number < 10**9:
        return str(number)
    for size, name in ((10**6, "million"), (1000, "thousand")):
        if number >= size:
            rest = number % size
            join = " and " if 0 < rest < 100 else " " if rest else ""
            return f"{in_words(number // size)} {name}{join}{in_words(rest) if rest else ''}"
    if number < 20:
        return POOLS["ones"][number]
    if number < 100:
        return POOLS["tens"][number // 10] + (f"-{POOLS['ones'][number % 10]}" if number % 10 else "")
    return f"{POOLS['ones'][number // 100]} hundred" + (f" and {in_words(number % 100)}" if number % 100 else "")


def listed(items: Sequence[object]) -> str:
    """Return ``a, b and c``."""
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


class Draw:
    """One conversation's source of words and numbers; a word is never given twice."""

    def __init__(self, rng: random.Random, split: str) -> None:
        self.rng, self.split = rng, split
        self._taken: set[str] = {*POOLS["shipped"], *(printed() if split == "test" else ())}

    def chance(self, share: float) -> bool:
        """Return True with this probability."""
        return self.rng.random() < share

    def one(self, *options: str) -> str:
        """Return one of the texts."""
        return self.rng.choice(options)

    def _fresh(self, word: str) -> bool:
        if word.lower() in self._taken or held_out(word) != (self.split == "test"):
            return False
        self._taken.add(word.lower())
        return True

    def may_say(self, word: str) -> bool:
        """Tell whether a text may hold a word that was not drawn; training never holds one kept for measuring."""
        return self.split == "test" or not held_out(word)

    def gave(self, word: str) -> bool:
        """Tell whether a word was drawn before."""
        return word in self._taken and word not in POOLS["shipped"] and word not in printed()

    def synonyms(self, word: str) -> list[str]:
        """Return unlike words of the same meaning that a text may hold."""
        return [other for other in synonyms().get(word, ()) if self.may_say(other)]

    def _sounds(self, least: int, most: int) -> str:
        """Return so many syllables."""
        rng = self.rng
        return "".join(
            (rng.choice(_CONSONANTS) if rng.random() < 0.85 else rng.choice(_CLUSTERS))
            + rng.choice(_VOWELS)
            + (rng.choice("nlrskm") if rng.random() < 0.15 else "")
            for _ in range(rng.randint(least, most))
        )

    def syllables(self, least: int = 2, most: int = 4) -> str:
        """Return an invented word that can be spoken."""
        while True:
            word = self._sounds(least, most)[:12]
            if self._fresh(word):
                return word

    def near(self, word: str) -> str:
        """Return an invented word that begins like another one."""
        while True:
            other = word[: self.rng.randint(2, 4)] + self._sounds(1, 2)
            if self._fresh(other):
                return other

    def letters(self) -> str:
        """Return random letters, now and then with digits."""
        rng = self.rng
        while True:
            rest = string.ascii_lowercase if rng.random() < 0.6 else string.ascii_lowercase + string.digits
            word = rng.choice(string.ascii_lowercase) + "".join(rng.choices(rest, k=rng.randint(2, 8)))
            if self._fresh(word):
                return word

    def repeating(self) -> str:
        """Return a word or number in which a piece stands twice or three times: ``banana``, ``1001001``."""
        rng = self.rng
        while True:
            if rng.random() < 0.6:
                piece, edge = self._sounds(1, 2)[:4], rng.choice(("", rng.choice(string.ascii_lowercase)))
            else:
                piece, edge = str(self.number(2, 3)), rng.choice(("", str(rng.randint(1, 9))))
            word = edge + piece * rng.choice((2, 2, 3)) + ("" if edge and rng.random() < 0.7 else piece[:1])
            if len(word) <= 12 and self._fresh(word):
                return word

    def doubled(self) -> tuple[str, str]:
        """Return an English word and the same with its end or its beginning twice: ``election``, ``electionion``."""
        while True:
            word, size = self.english(), self.rng.randint(2, 4)
            other = word + word[-size:] if self.chance(0.7) else word[:size] + word
            if 4 <= len(word) <= 9 and self._fresh(other):
                return word, other

    def word(self) -> str:
        """Return a word without meaning."""
        return self.syllables() if self.chance(0.65) else self.letters()

    def english(self) -> str:
        """Return an English word."""
        while True:
            word = self.rng.choice(english())
            if self._fresh(word):
                return word

    def paired(self) -> str:
        """Return an English word that has a synonym."""
        while True:
            word = self.rng.choice(paired())
            if self._fresh(word):
                return word

    def content(self) -> str:
        """Return a content word of a description."""
        chance = self.rng.random()
        return self.english() if chance < 0.5 else self.paired() if chance < 0.8 else self.syllables(2, 3)

    def _stock(self, pool: Sequence[str]) -> str:
        if self.chance(0.6):
            for _ in range(12):
                word = self.rng.choice(pool)
                if self._fresh(word):
                    return word
        return self.english() if self.chance(0.7) else self.syllables(2, 3)

    def noun(self) -> str:
        """Return a kind of thing."""
        return self.english() if self.chance(0.35) else self._stock(POOLS["nouns"])

    def field(self) -> str:
        """Return a property of things."""
        return self.english() if self.chance(0.35) else self._stock(POOLS["fields"])

    def name(self) -> str:
        """Return a proper name or a code."""
        chance = self.rng.random()
        if chance < 0.5:
            return self.syllables(2, 4).capitalize()
        if chance < 0.62:
            return f"{self.syllables(2, 3).capitalize()} {self.syllables(2, 3).capitalize()}"
        if chance < 0.72:
            return self.letters()
        if chance < 0.8:
            letters = "".join(self.rng.choices("ABCDEFGHKLMNPQRSTXZ", k=self.rng.randint(1, 3)))
            return f"{letters}-{self.number(1, 4)}"
        if chance < 0.88:
            return self.english().capitalize()
        return self.syllables(2, 4)

    def digits(self) -> str:
        """Return a text of digits only: a zip, a phone number, an id such as ``0042``."""
        size = self.rng.choice((3, 4, 4, 5, 5, 6, 7, 9))
        return ("0" if self.chance(0.4) else "") + str(self.number(size, size))

    def label(self) -> str:
        """Return a text that stands for a thing: a name or a code, in a fifth of the cases digits only."""
        return self.digits() if self.chance(0.2) else self.name()

    def city(self) -> str:
        """Return a place."""
        return self.rng.choice(POOLS["cities"]) if self.chance(0.4) else self.syllables(2, 3).capitalize()

    def person(self) -> str:
        """Return a first name."""
        return self.rng.choice(POOLS["people"]) if self.chance(0.5) else self.syllables(2, 3).capitalize()

    def number(self, least: int = 1, most: int = 5) -> int:
        """Return a number of ``least`` to ``most`` digits."""
        digits = self.rng.randint(least, most)
        return self.rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)

    def decimal(self) -> float:
        """Return a number with one digit after the point."""
        return self.number(1, 3) + self.rng.randint(1, 9) / 10

    def value(self) -> int | str | float:
        """Return what a look-up yields: mostly a number, else a word, now and then an English one or digits as text."""
        chance = self.rng.random()
        if chance < 0.65:
            return self.number(1, 4) if chance < 0.58 else self.decimal()
        return self.english() if chance < 0.73 else self.digits() if chance < 0.77 else self.word()

    def day(self) -> str:
        """Return a date as YYYY-MM-DD."""
        return f"{self.rng.randint(2020, 2035)}-{self.rng.randint(1, 12):02d}-{self.rng.randint(1, 28):02d}"
