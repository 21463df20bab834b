"""Make the embedded model's word list and synonym pairs from SCOWL and WordNet: ``words.py SCOWL WORDNET OUT``.

``SCOWL`` is a folder with ``english-words.10`` and the like, ``WORDNET`` one with ``index.noun`` and the like; the
results may be shipped with the notices of both (``corpus/NOTICE.txt``). Words that the package ``better_profanity``
knows, and those of ``left_out.txt``, are left out: vulgar ones, and ones that read badly in an invented sentence.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

_SIZES = ("english-words.10", "english-words.20", "american-words.10", "american-words.20")
_MORE = ("english-words.35",)
_KINDS = ("noun", "verb", "adj")
_SENSES = 2
"""A pair counts when the shared meaning is among so many first senses of both words."""


def _left_out() -> set[str]:
    """Return the words of ``better_profanity`` and those of ``left_out.txt``."""
    profanity = files("better_profanity") / "profanity_wordlist.txt"
    return {*profanity.read_text().split(), *Path(__file__).with_name("left_out.txt").read_text().split()}


def words(scowl: Path, names: tuple[str, ...]) -> list[str]:
    """Return plain lower-case words of three to ten letters in the named lists, in order, without those left out."""
    left_out = _left_out()
    kept: dict[str, None] = {}
    for name in names:
        for line in (scowl / name).read_text(encoding="latin-1").split():
            stem = re.sub(r"(s|es|ed|ing|er|ers|y)$", "", line)
            if re.fullmatch(r"[a-z]{3,10}", line) and not {line, stem} & left_out:
                kept[line] = None
    return list(kept)


def synsets(wordnet: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield every lemma with the synsets of its first senses."""
    for kind in _KINDS:
        for line in (wordnet / f"index.{kind}").read_text().splitlines():
            parts = line.split()
            if line.startswith(" ") or "_" in parts[0]:
                continue
            count = int(parts[2])
            yield parts[0], [f"{kind}{offset}" for offset in parts[-count:][:_SENSES]]


def attributes(wordnet: Path) -> Iterator[tuple[str, str]]:
    """Yield pairs of an adjective and the noun whose value it is (tall, height), and of derived forms of verbs."""
    head: dict[str, list[str]] = {}
    lines = [(kind, line) for kind in _KINDS for line in (wordnet / f"data.{kind}").read_text().splitlines()]
    rows = [(kind, line.split(" | ")[0].split()) for kind, line in lines if not line.startswith(" ")]
    for kind, parts in rows:
        count = int(parts[3], 16)
        head[f"{kind}{parts[0]}"] = [parts[4 + 2 * i].split("(")[0].lower() for i in range(count)]
    names = {"n": "noun", "v": "verb", "a": "adj", "s": "adj"}
    for kind, parts in rows:
        count = int(parts[3], 16)
        at = 4 + 2 * count
        for i in range(int(parts[at])):
            sign, offset, pos, _ = parts[at + 1 + 4 * i : at + 5 + 4 * i]
            if sign == "=" and kind == "adj" and pos in names:
                for left in head[f"{kind}{parts[0]}"][:1]:
                    yield from ((left, right) for right in head[names[pos] + offset][:2])


def pairs(wordnet: Path, known: set[str]) -> list[tuple[str, str]]:
    """Return unlike words of one meaning, both known, each pair once."""
    members: dict[str, list[str]] = {}
    for lemma, offsets in synsets(wordnet):
        if lemma in known:
            for offset in offsets:
                members.setdefault(offset, []).append(lemma)
    alike = {tuple(sorted((a, b))) for group in members.values() for a in group for b in group if a < b}
    alike |= {tuple(sorted(pair)) for pair in attributes(wordnet) if set(pair) <= known}
    return sorted((a, b) for a, b in alike if a[:4] != b[:4] and a != b)


def main(scowl: str, wordnet: str, out: str) -> None:
    """Write ``words.txt`` and ``pairs.txt``."""
    common = words(Path(scowl), _SIZES)
    both = pairs(Path(wordnet), {*common, *words(Path(scowl), _MORE)})
    (Path(out) / "words.txt").write_text("\n".join(common) + "\n")
    (Path(out) / "pairs.txt").write_text("\n".join(f"{a} {b}" for a, b in both) + "\n")
    print(len(common), "words,", len(both), "pairs")


if __name__ == "__main__":
    main(*sys.argv[1:])
