"""What a model is shown of code that ran: its output or the last line of its error, shortened.

Source: "THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning" (paper 39).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ferrule.core.flows import World
from ferrule.core.records import Observation
from ferrule.worlds.shown import shown
from ferrule.worlds.wrap import Wrapped

__all__ = ["as_observed", "observed", "observing"]

_LIMIT, _KEPT = 256, 128


def observed(
    stdout: str, stderr: str, code: int, *, silent: bool = False, reference: bool = False,
    late: str = "TimeoutError: the code ran too long",
) -> tuple[str, bool]:  # fmt: skip
    """Return what a model is shown of a run, and whether the run passed.

    Passed means a return code of 0 and some output (``silent``: output or not). A failure shows ``stderr``, of one that
    holds the word "Error" the last line, and ``late`` where it is blank. Of a text of 256 characters or more the first
    and last 128 are shown. ``reference`` reduces passed output that holds "Error" to its last line as well.
    """
    good = code == 0 and (silent or bool(stdout.strip()))
    text = stdout if good else stderr
    if "Error" in text and (reference or not good):
        text = text.strip().splitlines()[-1]
    text = text.strip()
    if not text and not good:
        text = late
    return (text if len(text) < _LIMIT else f"{text[:_KEPT]}...{text[-_KEPT:]}"), good


def as_observed(observation: Observation, *, silent: bool = False, reference: bool = False) -> Observation:
    """Return an observation with the text and the success that ``observed`` gives it; its data stay.

    The streams are those of an interpreter (``data``); of other tools the text is the output of a call that came out
    ``ok`` and the error of one that failed. A status of ``ok`` becomes ``error`` where nothing was printed, unless
    ``silent``.
    """
    if not observation.executed or observation.terminal:
        return observation
    ran, data = observation.status == "ok", observation.data
    if isinstance(data, Mapping) and "stdout" in data:
        stdout, stderr = (_joined(data.get(a), data.get(b)) for a, b in (("stdout", "value"), ("stderr", "exception")))
    else:
        stdout, stderr = (observation.text, "") if ran else ("", observation.text)
    stderr = "" if observation.status == "timeout" else stderr
    text, good = observed(stdout, stderr, 0 if ran else 1, silent=silent, reference=reference)
    return replace(observation, text=text, status="error" if ran and not good else observation.status)


def _joined(first: Any, second: Any) -> str:
    """Join what a run has written and what came last, on lines of their own."""
    return "\n".join(part for part in (str(first or "").removesuffix("\n"), str(second or "")) if part)


def observing(world: World, *, silent: bool = False, reference: bool = False) -> Wrapped:
    """Return ``world`` whose calls show what ``observed`` makes of them; its keywords are those of ``as_observed``."""
    return shown(world, partial(as_observed, silent=silent, reference=reference))
