r"""Mathematical answers: what of a text is the answer, and whether it equals the expected one (``math-verify``).

``math-verify`` reads LaTeX between marks (``$...$``, ``\boxed{...}``). Data sets hold it bare, where the library takes
the first or last number and leaves the rest: here a bare answer is taken as a whole, of a sentence its last formula.
"""

from __future__ import annotations

import re
from typing import Any

from ferrule.chat.answer import boxed
from ferrule.rewards.wording import FUNCTIONS, WORD, conflict, figures, no_formula, without_units, word_ranges

__all__ = ["equal", "formula", "library", "text_of"]

_MARKED = re.compile(r"\\begin\{(?:equation|align|gather|math)")
_MARKS = re.compile(r"\$|\\[()\[\]]")
_BETWEEN_BOXES = re.compile(r"[\s,;.$]*(?:and|or)?[\s,;$]*")
_SAYS = re.compile(r"(?:\b(?:is|are|be|equals|answer|gives|get|so|therefore|hence)\b|:(?!\d)|\u2234)\s*", re.IGNORECASE)
_JOINED = re.compile(r"\s+(?:or|and)\s+")
_LAYOUT = re.compile(r"\\(?:left|right|displaystyle)(?![A-Za-z])|\\[!,;: ]|\\(?=%)|\$")
_SPACE = re.compile(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])")
_NOT = re.compile(r"\b(?:not|never)\s*\Z|n't\s*\Z", re.IGNORECASE)
_STOPS = re.compile(r"\A(?:[\s,;!?]|\.(?!\d))+|[\s,;.!?]+\Z")
_BASE = re.compile(r"\d_\{?(\d{1,2})\}?\s*\Z")
_NAMED = re.compile(r"\s*([A-Za-z](?:_\{?\w\}?)?)\s*=(?!=)(.*)", re.DOTALL)
_REPEATING = re.compile(r"(?<![\d.])(\d*)\.(\d*)\\overline\{?(\d+)\}?")
_DEGREES = re.compile(
    r"(\\?(?:sin|cos|tan|cot|sec|csc)\s*)(?:\(|\{|\\left\()?\s*(-?\d+(?:\.\d+)?)\s*\^\s*\{?\\circ\}?\s*(?:\)|\}|\\right\))?"
)
_BINOMIAL = re.compile(r"\\[dt]?binom\s*(\d)\s*(\d)")
_INFINITY = re.compile(r"(?<![A-Za-z\\])(?:infinity|inf)(?![A-Za-z])")
_PLAIN = re.compile(r"\*\*|(?<![A-Za-z\\])pi(?![A-Za-z])")
_WRITTEN = {"**": "^", "pi": "\\pi "}
_SIGNS = re.compile(r"\\(?:pm|mp)(?![A-Za-z])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def library() -> Any:
    """Return the ``math_verify`` module; raises ``ImportError`` with the command that installs it."""
    try:
        import math_verify
    except ImportError as error:
        raise ImportError("verifier 'math-verify' needs math-verify: pip install \"ferrule[data]\"") from error
    return math_verify


def _bare(text: str) -> str:
    """Return an answer without blanks around it, a final stop, the sign of a currency, and marks."""
    text = _boxes(text.strip().removesuffix(".").strip())
    for mark in ("**", "`", '"'):
        inner = text[len(mark) : -len(mark)]
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark) and mark not in inner:
            text = inner.strip()
    text = _MARKS.sub(" ", text.replace("\\$", "")).strip().removesuffix(".").rstrip()
    words = WORD.fullmatch(text)
    return _INFINITY.sub(r"\\infty", words[1].strip() if words else text)


def _boxes(text: str) -> str:
    """Return what stands in the last boxes of a text, those with words between them aside; the text without any."""
    before, _, _ = text.rpartition("\\boxed{")
    inner = boxed(text)
    if inner is None:
        return text
    shut = before.rfind("}")
    if "\\boxed{" in before and shut >= 0 and _BETWEEN_BOXES.fullmatch(before, shut + 1):
        return f"{_boxes(before[: shut + 1])}, {inner.strip()}"
    return inner.strip()


def text_of(text: str) -> str:
    r"""Return what a text says without its layout: spaces, ``$``, ``\left``, and the commands of plain words."""
    plain = WORD.sub(r"\1", _bare(text)).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    plain = plain.replace("\\varnothing", "\\emptyset")
    return " ".join(_SPACE.sub("", _LAYOUT.sub("", plain)).split())


def _is_word(text: str) -> bool:
    """Say whether an answer is one word, a name for example."""
    said = text_of(text)
    return len(said) > 1 and said.isalpha() and said.lower() not in FUNCTIONS


def _last(text: str) -> str:
    """Return what a sentence says last: what stands behind its last word that says so, where that has digits."""
    parts = [part for part in _SAYS.split(text) if part.strip()]
    told = [part for part in parts if re.search(r"\d|\\", part)]
    return _bare((told or parts or [text])[-1])


def formula(text: str) -> str:
    """Return the part of a text that is the answer, empty without one: all of it, or what a sentence says last."""
    said = _JOINED.sub(", ", figures(_bare(text)))
    said = _last(said) if word_ranges(said) else said
    if no_formula(said):
        return ""
    if not word_ranges(said):
        return without_units(said)
    edges = [0, *(edge for span in word_ranges(said) for edge in span), len(said)]
    pieces = [(a, _STOPS.sub("", said[a:b])) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    told = [(a, piece) for a, piece in pieces if re.search(r"\d|\\", piece)]
    if not told:
        return said if len(pieces) == 1 else ""
    return "" if _NOT.search(said[: told[-1][0]]) else without_units(told[-1][1])


def _entries(said: str) -> list[str]:
    """Return the entries of a list without brackets; a single one is the whole."""
    said, entries, depth, begin = _THOUSANDS.sub("", said), list[str](), 0, 0
    for i, letter in enumerate(said):
        depth += (letter in "([{") - (letter in ")]}")
        if letter in ",;" and depth == 0:
            entries.append(said[begin:i])
            begin = i + 1
    return [entry.strip() for entry in (*entries, said[begin:])]


def equal(answer: str, gold: str) -> bool:
    """Say whether two answers are the same text or mathematically equal. There is no time limit here.

    Words that differ make answers differ (``5 km`` and ``5 miles``); one without words equals one with them. A list
    without brackets has no order, unless its entries have names.
    """
    wanted = text_of(gold)
    for said in map(text_of, (answer, formula(answer), _last(figures(_bare(answer))))):
        if said == wanted or (_letters(said) and _letters(said) == _letters(wanted)):
            return True
        if no_formula(said) and said.casefold() == wanted.casefold():  # a time, for example
            return True
    if _is_word(gold) or _is_word(_last(_bare(answer))):
        return False
    ours, theirs = (text if _marks(text) else formula(text) for text in (answer, gold))
    if not ours or not theirs or conflict(*(_last(figures(_bare(text))) for text in (answer, gold))):
        return False
    return _same(ours, theirs)


def _same(ours: str, theirs: str) -> bool:
    """Compare two formulas, or texts with marks around theirs."""
    ours, theirs = (text if _marks(text) else _both_signs(text) for text in (ours, theirs))
    shapes = {_shape(ours), _shape(theirs)}
    if shapes == {"tuple", "set"}:  # the library takes them for the same
        return False
    bases = {base[1] for text in (ours, theirs) if (base := _BASE.search(text))}
    if len(bases) > 1:
        return False
    if not _marks(ours) and not _marks(theirs):
        lists = _entries(_inner(ours, theirs)), _entries(_inner(theirs, ours))
        if min(map(len, lists)) > 1 and not any(map(_shape, (ours, theirs))):
            return _same_lists(*lists)
        if min(map(len, lists)) > 1 and any(_names(entries) for entries in lists):
            return _same_lists(*lists)
        if shapes == {"tuple", ""} and min(map(len, lists)) == 1:  # a tuple has an order, also beside a list
            one, other = (_entries(text.strip()[1:-1] if _shape(text) else text) for text in (ours, theirs))
            if min(len(one), len(other)) > 1:
                return len(one) == len(other) and all(map(_same, one, other))
    expected, got = (_parsed(text) for text in (theirs, ours))
    # The library lets only one of them be the interval that the other, an inequality, stands for.
    return any(library().verify(*pair, timeout_seconds=None) for pair in ((expected, got), (got, expected)))


def _both_signs(text: str) -> str:
    r"""Return a formula with ``\pm`` as the list of both; in the second every ``\pm`` and ``\mp`` is turned round."""
    if not _SIGNS.search(text) or _shape(text):
        return text
    signs = {"\\pm": "+-", "\\mp": "-+"}
    return ", ".join(_SIGNS.sub(lambda sign, i=i: signs[sign[0]][i], text) for i in (0, 1))  # type: ignore[misc]


def _parsed(text: str) -> Any:
    """Return what the library reads; units are gone already, and letters that look like some are factors."""
    from latex2sympy2_extended import NormalizationConfig

    module, text = library(), _REPEATING.sub(_fraction, text)
    text = _BINOMIAL.sub(r"\\binom{\1}{\2}", _DEGREES.sub(r"\1(\\frac{\2\\pi}{180})", text))
    text = _PLAIN.sub(lambda word: _WRITTEN[word[0]], text)
    norms = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all")
    reading = [module.LatexExtractionConfig(normalization_config=norms), module.ExprExtractionConfig()]
    return [_complex(one) for one in module.parse(text if _marks(text) else f"${text}$", reading, parsing_timeout=None)]


def _complex(read: Any) -> Any:
    """Return what was read with the letter i as the imaginary unit."""
    from sympy import Basic, I

    letters = [symbol for symbol in read.free_symbols if symbol.name == "i"] if isinstance(read, Basic) else []
    return read.subs(dict.fromkeys(letters, I)) if letters else read


def _fraction(number: re.Match[str]) -> str:
    r"""Return a repeating decimal number as a fraction: ``0.1\overline{6}`` is ``\frac{15}{90}``."""
    whole, once, again = number.groups()
    return f"\\frac{{{int(whole + once + again) - int(whole + once or 0)}}}{{{'9' * len(again)}{'0' * len(once)}}}"


def _inner(text: str, other: str) -> str:
    """Return what stands in the brackets of a tuple that is compared with a list of named values, else the text."""
    return text.strip()[1:-1] if _shape(text) == "tuple" and _names(_entries(other)) else text


def _same_lists(ours: list[str], theirs: list[str]) -> bool:
    """Compare lists entry by entry, in any order or by their names."""
    if len(ours) != len(theirs):
        return False
    names = _names(ours), _names(theirs)
    if all(names):
        pairs = dict(zip(names[1], theirs, strict=True))
        return set(names[0]) == set(pairs) and all(
            _same(one, pairs[name]) for name, one in zip(names[0], ours, strict=True)
        )
    if any(names):
        return all(_same(one, other) for one, other in zip(ours, theirs, strict=True))
    left = list(theirs)
    for one in ours:
        place = next((i for i, other in enumerate(left) if text_of(one) == text_of(other) or _same(one, other)), -1)
        if place < 0:
            return False
        del left[place]
    return True


def _names(entries: list[str]) -> list[str]:
    """Return the names of values where every entry gives a value to a name of its own, else nothing."""
    names = [named[1] for entry in entries if (named := _NAMED.fullmatch(entry))]
    return names if len(set(names)) == len(entries) > 1 else []


def _marks(text: str) -> bool:
    """Say whether a text has marks by which the library finds the answer in it."""
    return bool(_MARKED.search(_bare(text)))


def _shape(text: str) -> str:
    """Return ``tuple`` or ``set`` for an answer in brackets that say so."""
    said = text_of(text)
    return "set" if said.startswith("\\{") else "tuple" if said.startswith("(") and said.endswith(")") else ""


def _letters(text: str) -> str:
    """Return a name or the letter of a choice in one form, empty for anything else."""
    word = text.removeprefix("(").removesuffix(")").casefold()
    return word if word.replace(" ", "").isalpha() else ""
