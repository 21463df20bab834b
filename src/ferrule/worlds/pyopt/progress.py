"""The state of a task of ``pyopt``: the best program so far, and what becomes of a new one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ferrule.core.records import Observation
from ferrule.worlds.pyopt.testing import Tester
from ferrule.worlds.pyopt.timing import ClassTimes, Decision, accepts, median_interval, ratios

__all__ = ["Progress"]

_STEADY = 0.03  # the least difference from 1 of the original against itself that counts as noise
_TRIES = 3


class Progress:
    """The fastest program that was accepted, and counts of those that were tried.

    A program is tested first; one that differs from the original is not timed. A program that is equal is timed beside
    the original and the best, and takes the place of the best by ``accepts``. Before the first of them the original is
    timed against itself, up to three times until it agrees within 3 %; a difference that stays is added to what the
    gain must be.
    """

    def __init__(
        self, original: str, tester: Tester, *, target: float = 2.0, least_gain: float = 1.05,
        most_regression: float = 0.05,
    ) -> None:  # fmt: skip
        self.original, self.best, self.tester = original, original, tester
        self.target, self.least_gain, self.most_regression = target, least_gain, most_regression
        self.speedup = 1.0
        self.tried = self.wrong = self.accepted = self.draws = 0
        self.noise: float | None = None
        self._owns = True

    def run_tests(self, code: str) -> Observation:
        """Say whether a program does the same as the original."""
        refused = self.tester.refuse(code)
        return Observation(refused or "All tests pass.", data={"right": not refused})

    def benchmark(self, code: str) -> Observation:
        """Test and time a program, and keep it where it is accepted.

        ``data`` holds ``score`` (the log of the speed-up of an accepted program, 0 for an equal one that is not
        accepted, -1 for one that differs), ``decision``, and the ``times`` as they were measured.
        """
        self.tried += 1
        refused = self.tester.refuse(code)
        if refused:
            self.wrong += 1
            return self._said(refused, "wrong", -1.0)
        noise = self._steadied()
        outcome = noise if isinstance(noise, str) else self._timed({"new": code, "best": self.best})
        if isinstance(outcome, str):
            self.wrong += 1
            return self._said(outcome, "wrong", -1.0)
        least = self.least_gain * (1 + float(noise))
        how = accepts(outcome["best"], outcome["new"], least_gain=least, most_regression=self.most_regression)
        overall = accepts(outcome["original"], outcome["new"])
        if how.accepted:
            self.best, self.accepted = code, self.accepted + 1
            self.speedup *= how.gain
        score = math.log(self.speedup) if how.accepted else 0.0
        return self._said(_table(how, overall, outcome), how.why, score, outcome, how.gain)

    def _timed(self, programs: Mapping[str, str]) -> Mapping[str, ClassTimes] | str:
        self.draws += 1
        return self.tester.times({"original": self.original, **programs}, self.draws)

    def _steadied(self) -> float | str:
        """Return by what share the original differs from itself, 0 within 3 %; a text where it cannot be timed."""
        for _ in range(_TRIES if self.noise is None else 0):
            outcome = self._timed({"again": self.original})
            if isinstance(outcome, str):
                return outcome
            gain = accepts(outcome["original"], outcome["again"]).gain
            off = max(gain, 1 / gain) - 1
            self.noise = min(off if self.noise is None else self.noise, off)
            if self.noise <= _STEADY:
                break
        return 0.0 if self.noise is None or self.noise <= _STEADY else self.noise

    def _said(
        self, text: str, decision: str, score: float, times: Mapping[str, ClassTimes] | None = None, gain: float = 1.0
    ) -> Observation:
        data = {"score": score, "decision": decision, "gain": gain, "speedup": self.speedup, "times": times}
        return Observation(text, data=data)

    def fork(self) -> Progress:
        """Return a branch: it tests and times by the same tester, which the first of them closes."""
        twin = Progress.__new__(Progress)
        twin.__dict__.update(self.__dict__, _owns=False)
        return twin

    def final(self) -> dict[str, Any]:
        """Return the best program and its speed-up."""
        counts = {"tried": self.tried, "wrong": self.wrong, "accepted": self.accepted}
        solved = self.speedup >= self.target
        return {"program": self.best, "speedup": self.speedup, "solved": solved, **counts}

    def close(self) -> None:
        """Close the tester, unless this is a branch."""
        if self._owns and hasattr(self.tester, "close"):
            self.tester.close()


_WORDS = {
    "gain": "Accepted: this is the best program so far.",
    "too small": "Not accepted: the gain over the best program so far is too small.",
    "regression": "Not accepted: a class of inputs becomes slower.",
}


def _table(how: Decision, overall: Decision, times: Mapping[str, ClassTimes]) -> str:
    """Say how fast a program is, by class: against the best before it, and against the original with an interval."""
    low, high = median_interval(ratios(times["original"], times["new"]))
    lines = [
        f"{_WORDS[how.why]} All tests pass.",
        f"times as fast as the original: {overall.gain:.3g} (95 % interval {low:.3g} to {high:.3g}), "
        f"as the best before: {how.gain:.3g}",
    ]
    for kind in how.by_class:
        slower = ", slower" if how.why == "regression" and kind == how.worst else ""
        lines.append(f"- {kind}: {overall.by_class[kind]:.3g} and {how.by_class[kind]:.3g}{slower}")
    return "\n".join(lines)
