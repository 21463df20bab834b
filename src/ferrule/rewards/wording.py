r"""Words in mathematical answers: numbers written out, units and other words, and what is no formula.

A comparison of formulas drops words, so that ``5 km`` would equal ``5 miles``. Here stands what must not be dropped.
"""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["FUNCTIONS", "WORD", "conflict", "figures", "no_formula", "spelled", "without_units", "word_ranges"]

FUNCTIONS = frozenset({
    *("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan"),
    *("ln", "log", "exp", "sqrt", "pi", "inf", "infty", "max", "min", "gcd", "lcm", "mod", "det"),
})  # fmt: skip
"""Words that are part of a formula."""
WORD = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
"""A command around plain words."""

_PART = re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}")
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)")
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_GLUED = frozenset({
    *("am", "cm", "db", "deg", "ft", "g", "gb", "hr", "hrs", "hz", "in", "kb", "kg", "khz", "km", "kw", "lb", "lbs"),
    *("m", "mb", "mg", "mi", "min", "ml", "mm", "mph", "ms", "nd", "nm", "oz", "pm", "rd", "sec", "st", "th", "yd"),
})  # fmt: skip
"""Units and endings that stand right behind a number; other letters there are factors."""
_SHORT = frozenset({
    *("by", "cm", "dr", "ft", "hr", "kg", "km", "lb", "mg", "ml", "mm", "mph", "mr", "mrs", "ms", "my", "st", "th"),
    *("hrs", "lbs", "try", "why", "yd"),
})  # fmt: skip
"""Words without a vowel."""
_BEFORE = re.compile(r"(?:[-+*/^=<>]\s*|[({})|_])\Z")
_BEHIND = re.compile(r"\s*(?:[-+*/^=<>]|\\(?:cdot|times|div|pm)\b)|[({})|_\\]")

_SCIENTIFIC = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([-+]?\d{1,3})(?![\w.])")
_SPACED = re.compile(r"(?<![\d.,^_])(\d{1,3})((?:(?: |\\,|\\ |\u00a0|\u202f)\d{3})+)(?![\d])")
_MIXED = re.compile(r"(?<![\d/.,^_])(\d+)\s+(\d+)\s*/\s*(\d+)(?!\d)")
_NEGATIVE = re.compile(r"\b(?:negative|minus)\s+(?=[\d\\.])", re.IGNORECASE)
_DASH = re.compile(r"(?<![^\s(\[,{])[\u2013\u2014]\s*(?=[\d.\\])")
_PERCENT = re.compile(r"\s*\b(?:percent|per cent)\b", re.IGNORECASE)
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALED = re.compile(rf"(?<![\w.,])(\d[\d,]*(?:\.\d+)?)\s*({'|'.join(_SCALES)})s?\b", re.IGNORECASE)

_NO_FORMULA = re.compile(
    r"""\b\d{4}-\d{1,2}-\d{1,2}\b | \b\d{1,2}/\d{1,2}/\d{4}\b  # days
    | \b\d{1,2}:0\d\b | \b\d{1,2}:\d\d:\d\d\b | \b\d{1,2}(?::\d\d)?\s?[aApP]\.?[mM]\b  # times
    | \d+\.\d+\.\d | \b0[xXbBoO][0-9a-fA-F]+\b  # versions, addresses, other bases
    | \d\s*(?:\b(?:to|through|out\ of|in|of|per|times|by)\b|\u2013|\u2014)\s*\\?\$?\d  # ranges and shares
    """,
    re.VERBOSE,
)
_BEHIND_NUMBER = re.compile(rf"\s*{WORD.pattern}(?:\^\{{?\d\}}?)?\s*\Z|(?<=\d)\s+[mgshlLNJWV](?:\^\{{?\d\}}?)?\s*\Z")
_SCORE = re.compile(r"(?<![-\d])\d+-\d+(?![-\w])")
_COMPOUND = re.compile(
    r"\D{0,3}[\d.,]+\s*[^\W\d_]{2,}[.,]?\s+(?:and\s+|,\s*)?\$?[\d.,]+\s*[^\W\d_]{2,}\W*", re.IGNORECASE
)

_UNIT = re.compile(
    r"(?<![\\A-Za-z])(?P<word>[^\W\d_]{2,}|(?<=\d )[mgshlLNJWV](?![\w(]))\.?"
    r"(?:\^\{?(?P<power>\d)\}?|(?P<raised>[\u00b2\u00b3]))?"
)
_SQUARE = re.compile(r"\b(square|sq|cubic|cu)\.?\s+([^\W\d_]+)", re.IGNORECASE)
_SPEED = re.compile(r"\b(?:miles?|mi) (?:per|an) hour\b", re.IGNORECASE)
_SAME = {
    **dict.fromkeys(("meter", "metre"), "m"), **dict.fromkeys(("centimeter", "centimetre"), "cm"),
    **dict.fromkeys(("millimeter", "millimetre"), "mm"), **dict.fromkeys(("kilometer", "kilometre"), "km"),
    **dict.fromkeys(("kilogram", "kilo"), "kg"), **dict.fromkeys(("gram", "gramme"), "g"), "milligram": "mg",
    **dict.fromkeys(("liter", "litre"), "l"), **dict.fromkeys(("milliliter", "millilitre"), "ml"),
    **dict.fromkeys(("hour", "hr"), "h"), "minute": "min", **dict.fromkeys(("second", "sec"), "s"),
    **dict.fromkeys(("inch", "inche"), "in"), **dict.fromkeys(("foot", "feet"), "ft"), "yard": "yd", "mile": "mi",
    "pound": "lb", "ounce": "oz", **dict.fromkeys(("dollar", "buck"), "usd"), "degree": "deg", "metric": "",
    **{word: word for word in ("cent", "euro", "day", "week", "month", "year", "ton", "gallon", "quart", "pint")},
}  # fmt: skip
_UNITS = frozenset(_GLUED | {word + power for word in _SAME.values() for power in ("", "2", "3")} - {"", "in"})
_LAST = re.compile(r"(?<![\^_\w])(?<!\^\{)(?<!_\{)\d[\d.,]*")
_FILLERS = frozenset({
    *("a", "about", "an", "and", "answer", "approximately", "are", "around", "at", "be", "but", "equal", "equals"),
    *("exactly", "final", "get", "gives", "hence", "in", "is", "it", "just", "most", "only", "or", "roughly", "so"),
    *("that", "the", "then", "there", "therefore", "thus", "total", "unit", "us", "value", "we", "which"),
})  # fmt: skip


def _unwrapped(text: str) -> str:
    r"""Return a text with the words of ``\text{...}`` and its kind as they are."""
    return WORD.sub(lambda word: f" {word[1].strip()}", text)


def _blanked(text: str) -> str:
    r"""Return a text of the same length without what holds letters but says no words: commands, and ``\text{...}``."""

    def blank(match: re.Match[str]) -> str:
        return " " * len(match[0])

    return _COMMAND.sub(blank, _PART.sub(blank, WORD.sub(blank, text)))


def word_ranges(text: str) -> list[tuple[int, int]]:
    """Return the ranges of the words that are no part of a formula.

    Letters right behind a number are factors unless they are a unit, and so are short ones without a vowel or beside an
    operator.
    """
    return [word.span() for word in _LETTERS.finditer(_blanked(text)) if not _is_factor(word, text)]


def _is_factor(word: re.Match[str], text: str) -> bool:
    said = word[0].lower()
    if said in FUNCTIONS:
        return True
    if word.start() and text[word.start() - 1].isdigit():
        return said not in _GLUED and len(said) < 6
    if len(said) > 3 or said in _SHORT:
        return False
    beside = _BEFORE.search(text[: word.start()]) or _BEHIND.match(text, word.end())
    return bool(beside) or not re.search("[aeiou]", said)


def figures(text: str) -> str:
    r"""Write numbers as formulas: ``1.5e3``, ``3 1/2``, ``1 000``, ``3 million``, ``negative 5``, ``20 percent``."""
    text = text.replace("\\langle", "(").replace("\\rangle", ")")
    text = _SCIENTIFIC.sub(lambda m: rf"{m[1]} \times 10^{{{int(m[2])}}}", text)
    text = _SPACED.sub(lambda m: m[1] + re.sub(r"\D", "", m[2]), _MIXED.sub(r"\1\\frac{\2}{\3}", text))
    return spelled(_DASH.sub("-", text))


def spelled(text: str) -> str:
    r"""Write the words of numbers as figures: ``3 million``, ``2 dozen``, ``negative 5``, ``20 percent`` (``20\%``)."""
    return _SCALED.sub(_scaled, _PERCENT.sub(r"\\%", _NEGATIVE.sub("-", text)))


def _scaled(match: re.Match[str]) -> str:
    value = Fraction(match[1].replace(",", "").rstrip(".")) * _SCALES[match[2].lower()]
    return str(value) if value.denominator == 1 else str(float(value))


def without_units(text: str) -> str:
    r"""Return a formula without the unit behind it: ``\text{cm}^2``, or a letter behind a blank (``10 m``)."""
    bare = _BEHIND_NUMBER.sub("", text).rstrip()
    return bare or text


def no_formula(text: str) -> bool:
    """Say whether a text with digits is compared as text: a day, a time, a version, a range, a score."""
    plain = _unwrapped(text)
    if _NO_FORMULA.search(plain) or _COMPOUND.fullmatch(plain):
        return True
    return bool(_SCORE.search(plain)) and bool(word_ranges(text) or WORD.search(text))


def conflict(first: str, second: str) -> bool:
    """Say whether two answers speak of different things: other units behind the number, or other words.

    Words conflict where neither answer has all those of the other; what stands before the number and what stands behind
    it are compared apart, so that ``It takes 15`` and ``15 minutes`` agree. Units count by any of their names, with
    their powers, and beside a word that is none they do not count; words such as ``about`` never do.
    """
    for one, two in zip(_around(first), _around(second), strict=True):
        units = {bool(words & _UNITS) for words in (one, two)}
        if one and two and len(units) == 1 and not (one <= two or two <= one):
            return True
    return False


def _around(text: str) -> tuple[set[str], set[str]]:
    """Return the words before the last number of a text and those behind it; powers are part of the words."""
    plain = _unwrapped(text)
    last = None
    for last in _LAST.finditer(plain):  # noqa: B007 - the last one counts
        pass
    return (_said(plain[: last.end()]), _said(f"0{plain[last.end() :]}")) if last else (_said(plain), set())


def _said(text: str) -> set[str]:
    """Return the words of a text in their common forms."""
    plain = _SQUARE.sub(lambda m: f"{m[2]}^{2 if m[1].lower().startswith('s') else 3}", _unwrapped(text))
    plain = _SPEED.sub("mph", plain.replace("\u00b0", " "))
    ranges, words = set(word_ranges(plain)), set[str]()
    for match in _UNIT.finditer(plain):
        start, stop = match.span("word")
        if stop - start > 1 and (start, stop) not in ranges:
            continue
        written = match["word"].lower()
        word = written.removesuffix("s") if len(written) > 2 and not written.endswith("ss") else written
        word = _SAME.get(word, word)
        if word and not {written, word} & _FILLERS:
            words.add(word + (match["power"] or {"\u00b2": "2", "\u00b3": "3"}.get(match["raised"] or "", "")))
    return words
