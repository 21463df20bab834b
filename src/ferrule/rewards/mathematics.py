r"""Mathematical answers: what of a text is the answer, and whether it equals the expected one (``math-verify``).

``math-verify`` reads LaTeX between marks (``$...$``, ``\boxed{...}``). Data sets hold it bare, where the library takes
the first or last number and leaves the rest: here a bare answer is taken as a whole, of a sentence its last formula.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["equal", "formula", "library", "text_of"]

_MARKED = re.compile(r"\$[^$]+\$|\\boxed|\\\(|\\\[|\\begin\{(?:equation|align|gather|math)")
_WORD_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_PART = re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}")
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)")
_WORD = re.compile(r"[^\W\d_]{2,}")
_SAYS = re.compile(r"(?:\b(?:is|are|be|equals|answer|gives|get|so|therefore|hence)\b|:|\u2234)\s*", re.IGNORECASE)
_JOINED = re.compile(r"\s+(?:or|and)\s+")
_LAYOUT = re.compile(r"\\(?:left|right|displaystyle)(?![A-Za-z])|\\[!,;: ]|\\(?=%)|\$")
_SPACE = re.compile(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])")
_FUNCTIONS = {
    *("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan"),
    *("ln", "log", "exp", "sqrt", "pi", "inf", "infty", "max", "min", "gcd", "lcm", "mod", "det"),
}


def library() -> Any:
    """Return the ``math_verify`` module; raises ``ImportError`` with the command that installs it."""
    try:
        import math_verify
    except ImportError as error:
        raise ImportError("verifier 'math-verify' needs math-verify: pip install \"ferrule[data]\"") from error
    return math_verify


def _bare(text: str) -> str:
    """Return an answer without blanks around it, a final stop, the sign of a currency, and marks around the whole."""
    text = text.strip().removesuffix(".").strip()
    for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        inner = text[len(left) : len(text) - len(right)]
        if len(text) > len(left + right) and text.startswith(left) and text.endswith(right) and left not in inner:
            text = inner.strip()
    if text.startswith("\\boxed{") and text.endswith("}") and text.count("\\boxed") == 1:
        text = text[len("\\boxed{") : -1].strip()
    text = text.replace("\\$", "")
    return text.replace("$", "") if text.count("$") == 1 else text


def text_of(text: str) -> str:
    r"""Return what a text says without its layout: spaces, ``$``, ``\left``, and the commands of plain words."""
    plain = _WORD_COMMAND.sub(r"\1", _bare(text)).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    return " ".join(_SPACE.sub("", _LAYOUT.sub("", plain)).split())


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _words(text: str) -> list[tuple[int, int]]:
    """Return the ranges of the words that are no part of a formula."""
    rest = _COMMAND.sub(_blank, _PART.sub(_blank, _WORD_COMMAND.sub(_blank, text)))
    return [word.span() for word in _WORD.finditer(rest) if word[0].lower() not in _FUNCTIONS]


def _is_word(text: str) -> bool:
    """Say whether an answer is one word, a name for example."""
    said = text_of(text)
    return len(said) > 1 and said.isalpha() and said.lower() not in _FUNCTIONS


def formula(text: str) -> str:
    """Return the part of a text that is the answer: all of it, or what a sentence says last."""
    said = _JOINED.sub(", ", _bare(text))
    if not _words(said):
        return said
    parts = [part for part in _SAYS.split(said) if part.strip()]
    said = _bare(parts[-1]) if parts else said
    edges = [0, *(edge for span in _words(said) for edge in span), len(said)]
    pieces = [said[a:b].strip(" ,;.!?") for a, b in zip(edges[::2], edges[1::2], strict=True)]
    told = [piece for piece in pieces if re.search(r"\d|\\", piece)]
    return told[-1] if told else said


def _marked(text: str) -> str:
    """Return a text in which the library finds the answer as a whole."""
    return text if _MARKED.search(_bare(text)) else f"${formula(text)}$"


def equal(answer: str, gold: str) -> bool:
    """Say whether two answers are the same text or mathematically equal. There is no time limit here."""
    wanted = text_of(gold)
    for said in (text_of(answer), text_of(formula(answer))):
        if said == wanted or (_letters(said) and _letters(said) == _letters(wanted)):
            return True
    if _is_word(gold) or _is_word(formula(answer)):
        return False
    if {_shape(answer), _shape(gold)} == {"tuple", "set"}:  # the library takes them for the same
        return False
    module = library()
    expected = module.parse(_marked(gold), parsing_timeout=None)
    got = module.parse(_marked(answer), parsing_timeout=None)
    return bool(module.verify(expected, got, timeout_seconds=None))


def _shape(text: str) -> str:
    """Return ``tuple`` or ``set`` for an answer in brackets that say so."""
    said = text_of(formula(text))
    return "set" if said.startswith("\\{") else "tuple" if said.startswith("(") and said.endswith(")") else ""


def _letters(text: str) -> str:
    """Return a name or the letter of a choice in one form, empty for anything else."""
    word = text.removeprefix("(").removesuffix(")").casefold()
    return word if word.replace(" ", "").isalpha() else ""
