"""A tiny language model that adds numbers, the language it writes, and how it is trained and played.

A prompt is a mode (tools on or off) and two numbers of three digits, lowest digits first and interleaved. The model
may write thoughts, call the adder once (its result is inserted), and answers with three digits and an end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ferrule.core.arrays import by_name
from ferrule.core.recipe import Recipe
from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.data.formats import Row, pad
from ferrule.objectives.reduce import token_mean, totals
from ferrule.objectives.supervised import nll
from ferrule.train.sample import Group, credit, scored

__all__ = ["Problem", "Student", "fit", "learn", "play", "text_row", "tool_row"]

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


class Student(nn.Module):
    """A recurrent language model of about 20,000 parameters."""

    def __init__(self, width: int = 72) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.core = nn.GRU(16, width, batch_first=True)
        self.head = nn.Linear(width, WRITABLE)

    def forward(self, ids_NT: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits after every token, and the state."""
        hidden, state = self.core(self.embed(ids_NT.clamp(min=0)), state)
        return self.head(hidden), state

    def logps(self, ids_NT: Tensor, turn_NT: Tensor) -> Tensor:
        """Log-prob of every token the model wrote, 0 elsewhere (nats)."""
        logits, _ = self(ids_NT[:, :-1])
        chosen = logits.log_softmax(-1).gather(2, ids_NT[:, 1:].clamp(0, WRITABLE - 1)[..., None]).squeeze(2)
        chosen = torch.cat([torch.zeros(len(ids_NT), 1), chosen], 1)
        return torch.where(turn_NT >= 0, chosen, torch.zeros(()))


def text_row(problem: Problem, *, think: int = 0) -> Row:
    """Return a text-only trace: no tool in the prompt, thoughts, the answer."""
    own = [THINK] * think + [ANSWER, *problem.digits, END]
    return Row((*problem.prompt(False), *own), (*[-1] * 7, *[0] * len(own)))


def tool_row(problem: Problem, *, think: int, answer: Sequence[int]) -> Row:
    """Return a tool trace: thoughts, a call, its result, and an answer; the result carries no loss."""
    first, last = [THINK] * think + [CALL], [ANSWER, *answer, END]
    ids = (*problem.prompt(True), *first, *problem.result, *last)
    return Row(ids, (*[-1] * 7, *[0] * len(first), *[-1] * 4, *[1] * len(last)))


def fit(student: Student, rows: Sequence[Row], tokens: int, *, seed: int, rate: float, watch: Any = None) -> None:
    """Train on shuffled batches of 64 rows until ``tokens`` own tokens were seen; ``watch(loss)`` follows each step."""
    rng, spent = np.random.default_rng(seed), 0
    optimiser = torch.optim.Adam(student.parameters(), lr=rate)
    while spent < tokens:
        picked = rng.integers(0, len(rows), 64)
        ids, turn = (torch.from_numpy(array) for array in pad([rows[int(i)] for i in picked]))
        loss = token_mean(nll(student.logps(ids, turn), turn), turn, totals(turn))
        _step(student, optimiser, loss)
        spent += int((turn >= 0).sum())
        if watch is not None:
            watch(float(loss.detach()))


def _step(student: Student, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimiser.step()


@torch.no_grad()
def play(student: Student, problems: Sequence[Problem], *, tools: bool, generator: torch.Generator) -> list[Trajectory]:
    """Play one episode per problem, all at once; a call without tools, or a second one, is refused and seen as 0s."""
    prompts = torch.tensor([p.prompt(tools) for p in problems])
    refused = torch.tensor([RESULT, RESULT + 1, RESULT + 1, RESULT + 1])
    shown = torch.tensor([p.result for p in problems]) if tools else refused.expand(len(problems), 4)
    count = len(problems)
    at, calls = torch.full((count,), 4), torch.zeros(count, dtype=torch.int64)
    done = torch.zeros(count, dtype=torch.bool)
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    logits, state = student(prompts)
    for _ in range(LONGEST):
        logp = logits[:, -1].log_softmax(-1)
        drawn = torch.multinomial(logp.exp(), 1, generator=generator).squeeze(1)
        own = (at >= 4) & ~done
        observed = torch.where(
            calls == 1, shown.gather(1, at.clamp(max=3)[:, None]).squeeze(1), refused[at.clamp(max=3)]
        )
        token = torch.where(own, drawn, observed)
        columns.append((torch.where(done, -1, token), own, logp.gather(1, drawn[:, None]).squeeze(1)))
        called = own & (drawn == CALL)
        calls += called.long()
        at = torch.where(called, 0, at + 1)
        done = done | (own & (drawn == END))
        if bool(done.all()):
            break
        logits, state = student(token[:, None], state)
    ids, owned, logps = (torch.stack(column, 1).tolist() for column in zip(*columns, strict=True))
    return [_record(p, tools, *row) for p, *row in zip(problems, ids, owned, logps, strict=True)]


def _record(problem: Problem, tools: bool, ids: list[int], own: list[bool], logps: list[float]) -> Trajectory:
    """Cut one row into turns: what was given, what was written, and what came back."""
    task = Task(f"{problem.a}+{problem.b}", "?", " ".join(map(str, problem.digits)))
    turns: list[Turn] = []
    given, start, calls = problem.prompt(tools), 0, 0
    live = ids.index(-1) if -1 in ids else len(ids)
    while start < live:
        while start < live and not own[start]:
            given.append(ids[start])
            start += 1
        stop = start
        while stop < live and own[stop]:
            stop += 1
        if stop == start:
            break
        made = ids[stop - 1] == CALL
        calls += made
        seen = (Observation("sum", "ok" if tools and calls == 1 else "unknown_tool"),) if made else ()
        reply = Message("assistant", "", calls=(Call("add"),) if made else ())
        number = len(turns)
        turns.append(
            Turn(
                number, number - 1 if number else None, tuple(given), tuple(ids[start:stop]),
                tuple(logps[start:stop]), reply, observations=seen,
            )
        )  # fmt: skip
        given, start = [], stop
    last = list(turns[-1].sampled) if turns else []
    ended = bool(last) and last[-1] == END
    answer = " ".join(map(str, last[last.index(ANSWER) + 1 : -1])) if ended and ANSWER in last else None
    return Trajectory(task, tuple(turns), answer, "answer" if ended else "length")


def learn(
    student: Student,
    recipe: Recipe,
    problems: Callable[[int], Sequence[Problem]],
    *,
    steps: int,
    rate: float,
    generator: torch.Generator,
    groups: int = 8,
) -> None:
    """Train by rewards with tools on: ``steps`` batches of ``groups`` problems, one optimiser step each."""
    optimiser = torch.optim.Adam(student.parameters(), lr=rate)
    for step in range(steps):
        chosen = problems(groups)
        played = play(student, [p for p in chosen for _ in range(recipe.samples)], tools=True, generator=generator)
        made = []
        for i in range(len(chosen)):
            own = tuple(played[i * recipe.samples : (i + 1) * recipe.samples])
            scores = scored(recipe, own[0].task, own, step)
            if recipe.keep is None or recipe.keep(own, scores):
                made.append(Group(own[0].task, (), own, scores, tuple(range(len(own))), step))
        batch = credit(recipe, made, None, step=step)
        if not len(batch.signals.reward_N):
            continue
        arrays = {"turn_NT": batch.signals.turn_NT, "old_NT": batch.signals.logp_NT, "adv_NT": batch.adv}
        known = {name: torch.from_numpy(array) for name, array in arrays.items()}
        logp_NT = student.logps(torch.from_numpy(batch.signals.ids_NT), known["turn_NT"])
        loss_NT = by_name(recipe.objective, {**known, "logp_NT": logp_NT})
        _step(student, optimiser, recipe.reduce(loss_NT, known["turn_NT"], totals(known["turn_NT"])))
