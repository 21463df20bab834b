"""Chains of named sums: every sum is a lemma to state, and a tool gives the value of several at once.

A chain belongs to the split ``test`` when the CRC-32 of its text is divisible by five. The reference steps of a task
are exact, so that what a solution misses and which of its steps are right is known by rule.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from ferrule.core.flows import Session
from ferrule.core.records import Call, Message, Task
from ferrule.rewards.derivation import reference_steps
from ferrule.studies.learner import Conversation
from ferrule.tools.tool import tool
from ferrule.worlds.session import Toolbox
from ferrule.worlds.splits import check_split, different

__all__ = ["Lemmas", "after", "right_lemmas", "solved"]

_STEP = re.compile(r"[-+]\d+")
_STATED = re.compile(r"\b[a-z] = -?\d+ [-+] \d+ = -?\d+\b")


def after(start: int, steps: str) -> list[int]:
    """Return the value after every step: ``after(7, "+2 -5")`` is [9, 4]. Raises ``ValueError`` for other text."""
    parts = steps.split()
    if not parts or not all(map(_STEP.fullmatch, parts)):
        raise ValueError(f"steps are {steps!r}; give one or more, such as '+2 -5'")
    return list(accumulate(map(int, parts), initial=start))[1:]


@tool
def chain(start: int, steps: str) -> str:
    """Return the value after all steps.

    Args:
        start: the number to start with
        steps: steps such as "+2 -5"
    """
    return str(after(start, steps)[-1])


@dataclass(frozen=True)
class Lemmas:
    """Tasks of ``steps`` named sums from a number, with a tool that takes any number of them at once.

    Values lie between 0 and ``largest``, and each is at most a third of that away from the one before.
    """

    steps: int = 4
    largest: int = 99
    name: str = "lemmas"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks of a split, the same for the same seed."""
        check_split(split, levels)
        return different(lambda level, place, key: self._drawn(split, f"{seed}/{key}"), count, (1,))

    def _drawn(self, split: str, key: str) -> Task:
        rng, reach = random.Random(f"{split}/{self.steps}/{self.largest}/{key}"), self.largest // 3
        while True:
            values = [rng.randint(0, self.largest)]
            for _ in range(self.steps):
                low, high = max(0, values[-1] - reach), min(self.largest, values[-1] + reach)
                values.append(rng.choice([number for number in range(low, high + 1) if number != values[-1]]))
            parts = [f"{later - value:+d}" for value, later in pairwise(values)]
            text = f"{values[0]} {' '.join(parts)}"
            if (zlib.crc32(text.encode()) % 5 == 0) == (split == "test"):
                return self._task(values[0], parts, text)

    def _task(self, start: int, parts: Sequence[str], text: str) -> Task:
        values = [start, *after(start, " ".join(parts))]
        names = [chr(ord("a") + place) for place in range(len(parts))]
        sums = [f"{part[0]} {part[1:]}" for part in parts]
        asked = ", ".join(
            f"{name} = {before} {added}" for name, before, added in zip(names, [str(start), *names], sums, strict=False)
        )
        lemmas = tuple(
            f"{name} = {values[place]} {sums[place]} = {values[place + 1]}" for place, name in enumerate(names)
        )
        meta = {"verifier": "numeric", "start": start, "parts": tuple(parts), "solution_steps": lemmas}
        prompt = f"{asked}. State every sum. What is {names[-1]}?"
        return Task(text, prompt, str(values[-1]), self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session with the tool."""
        return Toolbox((chain,)).start(task, seed)


def solved(task: Task, rng: random.Random, *, tools: bool, myopic: float = 0.0, again: float = 0.1) -> Conversation:
    """Return a solution of a task: every lemma and the answer, or a call for the chain.

    With the chance ``again`` the chain is cut into two parts with a call for each. The lemmas of a part stand after the
    result of its call; with the chance ``myopic``, drawn for each part, the result stands in their place.
    """
    said, lemmas = [Message("user", task.prompt)], [f"{step}." for step in reference_steps(task)]
    answer = f"The answer is {task.answer}."
    if not tools:
        return (*said, Message("assistant", " ".join([*lemmas, answer]))), ()
    parts: Sequence[str] = task.meta["parts"]
    ends = [rng.randrange(1, len(parts)), len(parts)] if rng.random() < again else [len(parts)]
    value, begin, text = int(task.meta["start"]), 0, ""
    for number, end in enumerate(ends):
        steps = " ".join(parts[begin:end])
        call = Call("chain", {"start": value, "steps": steps}, id=f"call_{number}")
        value = after(value, steps)[-1]
        said += [Message("assistant", text, (call,)), Message("tool", str(value), name="chain", call_id=call.id)]
        text = "" if rng.random() < myopic else " ".join(lemmas[begin:end])
        begin = end
    return (*said, Message("assistant", f"{text} {answer}".strip())), (chain,)


def right_lemmas(task: Task, steps: Sequence[str]) -> list[float | None]:
    """Score every step of a solution that states values: 1 where all are the reference's; None for other steps."""
    known, stated = set(reference_steps(task)), [_STATED.findall(step) for step in steps]
    return [float(known.issuperset(lemmas)) if lemmas else None for lemmas in stated]
