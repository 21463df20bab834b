"""Sums as the smallest language in which a tool helps: its prompts and traces, and episodes of a tiny model.

A prompt is a mode (tools on or off) and two numbers of three digits, lowest digits first and interleaved. The model
may write thoughts, call the adder once (its result is inserted), and answers with three digits and an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.data.formats import Row
from ferrule.studies.recurrent import Recurrent

__all__ = ["Problem", "draw", "play", "student", "text_row", "tool_row"]

ANSWER, CALL, THINK, END, RESULT, TOOLS, PLAIN = 10, 11, 12, 13, 14, 25, 26
"""Token ids: digits 0 to 9 and these; a result is ``RESULT`` and three digits, each ``RESULT + 1 + d``."""
WRITABLE, VOCABULARY, LONGEST = 14, 27, 24


@dataclass(frozen=True)
class Problem:
    """Two numbers below 1000."""

    a: int
    b: int

    @property
    def digits(self) -> list[int]:
        """The sum's three lowest digits, lowest first."""
        total = (self.a + self.b) % 1000
        return [total % 10, total // 10 % 10, total // 100]

    @property
    def result(self) -> list[int]:
        """The observation of a call."""
        return [RESULT, *(RESULT + 1 + d for d in self.digits)]

    def prompt(self, tools: bool) -> list[int]:
        """The ids that the model is shown."""
        pairs = [(self.a // 10**k % 10, self.b // 10**k % 10) for k in range(3)]
        return [TOOLS if tools else PLAIN, *(digit for pair in pairs for digit in pair)]


def draw(count: int, rng: np.random.Generator, *, long: bool) -> list[Problem]:
    """Draw sums of numbers with one digit, or with three."""
    low, high = (100, 500) if long else (0, 10)
    return [Problem(int(a), int(b)) for a, b in rng.integers(low, high, (count, 2))]


def student(width: int = 72) -> Recurrent:
    """Return an untrained model that writes this language: about 20,000 parameters."""
    return Recurrent(VOCABULARY, WRITABLE, width)


def text_row(problem: Problem, *, think: int = 0) -> Row:
    """Return a text-only trace: no tool in the prompt, thoughts, the answer."""
    written = [THINK] * think + [ANSWER, *problem.digits, END]
    return Row((*problem.prompt(False), *written), (*[-1] * 7, *[0] * len(written)))


def tool_row(problem: Problem, *, think: int, answer: Sequence[int]) -> Row:
    """Return a tool trace: thoughts, a call, its result, and an answer; the result carries no loss."""
    first, last = [THINK] * think + [CALL], [ANSWER, *answer, END]
    ids = (*problem.prompt(True), *first, *problem.result, *last)
    return Row(ids, (*[-1] * 7, *[0] * len(first), *[-1] * 4, *[1] * len(last)))


@torch.no_grad()
def play(model: Recurrent, problems: Sequence[Problem], *, tools: bool, generator: torch.Generator) -> list[Trajectory]:
    """Play one episode per problem, all at once; a call without tools, or a second one, is refused and seen as 0s."""
    prompts = torch.tensor([p.prompt(tools) for p in problems])
    refused = torch.tensor([RESULT, RESULT + 1, RESULT + 1, RESULT + 1])
    shown = torch.tensor([p.result for p in problems]) if tools else refused.expand(len(problems), 4)
    count = len(problems)
    at, calls = torch.full((count,), 4), torch.zeros(count, dtype=torch.int64)
    done = torch.zeros(count, dtype=torch.bool)
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    logits, state = model(prompts)
    for _ in range(LONGEST):
        logp = logits[:, -1].log_softmax(-1)
        drawn = torch.multinomial(logp.exp(), 1, generator=generator).squeeze(1)
        written = (at >= 4) & ~done
        observed = torch.where(
            calls == 1, shown.gather(1, at.clamp(max=3)[:, None]).squeeze(1), refused[at.clamp(max=3)]
        )
        token = torch.where(written, drawn, observed)
        columns.append((torch.where(done, -1, token), written, logp.gather(1, drawn[:, None]).squeeze(1)))
        called = written & (drawn == CALL)
        calls += called.long()
        at = torch.where(called, 0, at + 1)
        done = done | (written & (drawn == END))
        if bool(done.all()):
            break
        logits, state = model(token[:, None], state)
    ids, owned, logps = (torch.stack(column, 1).tolist() for column in zip(*columns, strict=True))
    return [_record(p, tools, *row) for p, *row in zip(problems, ids, owned, logps, strict=True)]


def _record(problem: Problem, tools: bool, ids: list[int], written: list[bool], logps: list[float]) -> Trajectory:
    """Cut one row into turns: what was given, what was written, and what was observed."""
    task = Task(f"{problem.a}+{problem.b}", "?", " ".join(map(str, problem.digits)))
    turns: list[Turn] = []
    given, start, calls = problem.prompt(tools), 0, 0
    live = ids.index(-1) if -1 in ids else len(ids)
    while start < live:
        while start < live and not written[start]:
            given.append(ids[start])
            start += 1
        stop = start
        while stop < live and written[stop]:
            stop += 1
        if stop == start:
            break
        called = ids[stop - 1] == CALL
        calls += called
        observations = (Observation("sum", "ok" if tools and calls == 1 else "unknown_tool"),) if called else ()
        reply = Message("assistant", "", calls=(Call("add"),) if called else ())
        number = len(turns)
        turns.append(
            Turn(
                number, number - 1 if number else None, tuple(given), tuple(ids[start:stop]),
                tuple(logps[start:stop]), reply, observations=observations,
            )
        )  # fmt: skip
        given, start = [], stop
    last = list(turns[-1].sampled) if turns else []
    ended = bool(last) and last[-1] == END
    answer = " ".join(map(str, last[last.index(ANSWER) + 1 : -1])) if ended and ANSWER in last else None
    return Trajectory(task, tuple(turns), answer, "answer" if ended else "length")
