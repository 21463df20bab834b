"""Testing and timing programs in the sandbox: what a program does is compared here, with what the original does."""

from __future__ import annotations

import ast
import inspect
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.settings import Isolation, Settings
from ferrule.worlds.pyopt import inside
from ferrule.worlds.pyopt.functions import SlowFunction
from ferrule.worlds.pyopt.rules import broken
from ferrule.worlds.pyopt.timing import ClassTimes

__all__ = ["Clock", "Measuring", "Sandboxed", "Tester"]

Clock = Literal["seconds", "instructions"]
_SOURCE = inspect.getsource(inside)
_TIMING = threading.Lock()  # what is timed beside each other disturbs each other


@dataclass(frozen=True)
class Measuring:
    """How programs are tested and timed.

    ``cases`` random inputs of every class are tested. Times are medians of ``repeats``, each a mean over ``inputs``
    fresh inputs, which are gone over for ``least`` seconds. The clock counts ``seconds`` of the processor, or executed
    ``instructions`` of the interpreter: the same on every run, and blind to what built-ins take.
    ``seconds`` is the time limit of a test or timing.
    """

    cases: int = 50
    repeats: int = 7
    inputs: int = 3
    least: float = 0.001
    clock: Clock = "seconds"
    seconds: float = 20.0

    def __post_init__(self) -> None:
        """Refuse counts below one and an unknown clock."""
        for name in ("cases", "repeats", "inputs"):
            if getattr(self, name) < 1:
                raise ValueError(f"Measuring.{name} is {getattr(self, name)}; the least is 1")
        if self.clock not in ("seconds", "instructions"):
            raise ValueError(f"Measuring.clock is {self.clock!r}; valid: seconds, instructions")


class Tester(Protocol):
    """Who tests programs and times them."""

    def refuse(self, program: str) -> str:
        """Return why a program is no replacement, empty for one that is."""
        ...

    def times(self, programs: Mapping[str, str], draw: int) -> Mapping[str, ClassTimes] | str:
        """Return times of programs by label, or why there are none; another ``draw`` has other inputs."""
        ...


class Sandboxed:
    """Tests and times programs in isolated interpreters, the original in one of its own.

    A program never runs where results are compared, and never gets to know those that are expected: it returns its own.
    Raises ``ValueError`` for an original that fails on its inputs or returns what cannot be compared.
    """

    def __init__(
        self, function: SlowFunction, *, how: Measuring | None = None, seed: str = "0", isolation: Isolation = "auto"
    ) -> None:
        self.function, self.how, self.seed, self.isolation = function, how or Measuring(), seed, isolation
        self._settings = Settings(isolation=isolation, seconds=self.how.seconds, memory_mb=512, output_limit=1_000_000)
        self._places = {place: Interpreter(self._settings) for place in ("original", "program")}
        self._expected: list[str] = []
        self._tested: dict[str, str] = {}
        self._lock = threading.RLock()

    def refuse(self, program: str) -> str:
        """Return which rule a program breaks, or on which input it does something else; empty for one that is equal."""
        with self._lock:
            if program not in self._tested:
                rule = broken(program, self.function.source, self.function.name)
                self._tested[program] = f"The program breaks a rule: {rule}." if rule else self._differs(program)
            return self._tested[program]

    def expected(self) -> list[str]:
        """Return what the original does on every case."""
        with self._lock:
            if not self._expected:
                outcome = self._answers(self.function.source, "original")
                if isinstance(outcome, str):
                    raise ValueError(f"the original of {self.function.name!r} cannot be run: {outcome}")
                if any(inside.NO_DATA in text for text in outcome):
                    raise ValueError(f"{self.function.name!r} returns what is no plain data, so it cannot be compared")
                self._expected = outcome
            return self._expected

    def _differs(self, program: str) -> str:
        expected, outcome = self.expected(), self._answers(program, "program")
        if isinstance(outcome, str):
            return f"The program could not be tested: {outcome}."
        if len(outcome) != len(expected):
            return "The program could not be tested: its answers are not all there."
        wrong = [place for place, pair in enumerate(zip(expected, outcome, strict=True)) if pair[0] != pair[1]]
        if not wrong:
            return ""
        wanted = self._answers(self.function.source, "original", only=wrong[0])
        given = self._answers(program, "program", only=wrong[0])
        if isinstance(wanted, str) or isinstance(given, str):
            return f"{len(wrong)} of {len(expected)} tests fail."
        first = f"{self.function.name}({wanted[0]}) {given[1]}; the original {wanted[1]}."
        return f"{len(wrong)} of {len(expected)} tests fail. The first: {first}"

    def _answers(self, source: str, place: str, only: int = -1) -> list[str] | str:
        answers: list[str] | str = self._ask(
            place,
            {
                **{"do": "answers", "source": source, "name": self.function.name, "seed": self.seed, "only": only},
                **{"inputs": dict(self.function.inputs), "edges": list(self.function.edges), "count": self.how.cases},
            },
        )
        return answers

    def times(self, programs: Mapping[str, str], draw: int) -> Mapping[str, ClassTimes] | str:
        """Return times of programs by label, interleaved in one process; or why there are none.

        The inputs are fresh, and on these, too, all programs must do the same.
        """
        how, function = self.how, self.function
        request = {
            **{"do": "times", "programs": dict(programs), "name": function.name, "inputs": dict(function.inputs)},
            **{"seed": f"{self.seed}/times/{draw}", "repeats": how.repeats, "count": how.inputs},
            **{"least": how.least, "clock": how.clock},
        }
        with _TIMING, self._lock:
            outcome = self._ask("program", request)
        if isinstance(outcome, str):
            return f"The program could not be timed: {outcome}."
        if not outcome["same"]:
            return "The program does something else than the original on the inputs that it was timed with."
        times: Mapping[str, ClassTimes] = outcome["times"]
        return times

    def _ask(self, place: str, request: Mapping[str, Any]) -> Any:
        """Return what the code in the sandbox says, or as a text why it says nothing."""
        observation = self._places[place].run(f"{_SOURCE}\n\nmain({request!r})")
        if observation.status != "ok":
            data = observation.data or {}
            last = str(data.get("exception") or observation.text).strip().splitlines()
            return last[-1] if last else observation.status
        return json.loads(ast.literal_eval(observation.data["value"]))

    def close(self) -> None:
        """End the interpreters; may be called twice."""
        for place in self._places.values():
            place.close()
