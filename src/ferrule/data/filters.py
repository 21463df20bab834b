"""Which traces are worth learning from: what the tool adds, and how their text looks.

Sources: "Teaching Thinking Models to Reason with Tools: A Full-Pipeline Recipe for Tool-Integrated Reasoning" (paper
01) for ``refused``, "THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning" (paper 39) for
the checks of texts and ``solution_flaw``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Trace", "effective_lines", "paired_dollars", "refused", "repeats", "solution_flaw", "substantial_code",
    "tool_advantage",
]  # fmt: skip

_PYTHON = re.compile(r"```[ \t]*(?:python|py)[ \t]*\r?\n(.*?)```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Trace:
    """One teacher trace: pass rates of its problem with and without the tool, and what the trace itself looks like.

    ``length`` in tokens; ``calls`` that were executed; ``unresolved`` calls that could not be executed.
    """

    p_tool: float
    p_text: float
    length: int
    correct: bool
    calls: int
    unresolved: int = 0


def tool_advantage(p_tool: float, p_text: float) -> float:
    """What the tool adds to a problem's pass rate: ``p_tool - p_text``."""
    return p_tool - p_text


def refused(trace: Trace, *, least_gain: float = 0.0, longest: int = 32_000) -> str:
    """Return why a trace is left out of training, "" when it is kept.

    Asked in this order: is its problem ever solved with the tool, and does the tool add more than ``least_gain``; is
    the answer right, was a call executed, was every call resolved, is it at most ``longest`` tokens long?
    """
    checks = {
        "no gain": trace.p_tool > 0 and tool_advantage(trace.p_tool, trace.p_text) > least_gain,
        "wrong answer": trace.correct,
        "no call": trace.calls > 0,
        "unresolved call": not trace.unresolved,
        "overlong": trace.length <= longest,
    }
    return next((reason for reason, good in checks.items() if not good), "")


def effective_lines(code: str) -> int:
    """Number of lines that are neither blank nor a comment alone."""
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in code.splitlines())


def substantial_code(text: str, *, share: float = 0.4, lines: int = 5) -> bool:
    """Say whether at most ``ceil(share * blocks)`` of a text's Python blocks have ``lines`` effective lines or fewer.

    A text without blocks has none that are too short.
    """
    blocks = [effective_lines(code) for code in _PYTHON.findall(text)]
    return sum(count <= lines for count in blocks) <= math.ceil(share * len(blocks) - 1e-9)


def paired_dollars(text: str) -> bool:
    r"""Say whether dollar signs outside code are paired; ``\$`` does not count."""
    bare = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return len(re.findall(r"(?<!\\)\$", bare)) % 2 == 0


def repeats(text: str, *, size: int = 20, most: int = 20) -> bool:
    """Say whether a run of ``size`` characters occurs more than ``most`` times (how long a run is, is a choice).

    Raises ``ValueError`` on a ``size`` below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}; the least is 1")
    counts = Counter(text[i : i + size] for i in range(len(text) - size + 1))
    return max(counts.values(), default=0) > most


def solution_flaw(
    text: str, *, answered: bool, passes: Sequence[bool], correct: bool, tokens: int = 0, least_tokens: int = 0,
    share: float = 0.4, lines: int = 5, size: int = 20, most: int = 20,
) -> str:  # fmt: skip
    """Return why a solution with code in fences is left out of training, "" when it is kept.

    Asked in this order: does it give an answer; did it call anything, and did every call pass; is the answer right; do
    its code (``share``, ``lines``), its dollar signs and its repetitions (``size``, ``most``) pass the checks of this
    module; does it have at least ``least_tokens`` tokens (3,000 for data of long thinking)?
    """
    checks = {
        "no answer": answered,
        "no call": bool(passes),
        "failed call": all(passes),
        "wrong answer": correct,
        "short code": substantial_code(text, share=share, lines=lines),
        "unpaired dollars": paired_dollars(text),
        "repetition": not repeats(text, size=size, most=most),
        "too short": tokens >= least_tokens,
    }
    return next((reason for reason, good in checks.items() if not good), "")
