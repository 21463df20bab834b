"""Programs on grids, refined by what they make of the demonstrations; the test grids are never compared.

Source: "ARC Prize 2025: Technical Report" (16), its program libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ferrule.agents.code import blocks_of
from ferrule.agents.flow import opening, prefixed
from ferrule.agents.refine import Candidate, Check, Checked, from_model, ranked, refine, sampled
from ferrule.agents.refiner import read_check
from ferrule.core.flows import Flow, Leaf, Leaves, Session, Step, use
from ferrule.core.records import Call, Message, Reply, Task, plain_text
from ferrule.worlds.grids import PROPOSAL
from ferrule.worlds.puzzles import Grid, Pair, differences, similarity

__all__ = ["ProgramLibrary", "Run", "by_demonstrations", "digits", "program_of"]

Run: TypeAlias = Callable[[str, Sequence[Grid]], Sequence[Grid | None]]
"""Returns what a program (its text) makes of each grid, None where it makes none."""


def by_demonstrations(pairs: Sequence[Pair], run: Run) -> Check:
    """Return a check of programs by demonstrations.

    The score is the number of exact pairs plus the mean similarity (0 to 1) of all, so that more exact pairs always
    win: a pair that is exact has similarity 1. Solved is a program that is exact on all; feedback are differing cells.
    """

    def check(text: str) -> Checked:
        outputs = run(text, [before for before, _ in pairs])
        alike = [similarity(output, after) for output, (_, after) in zip(outputs, pairs, strict=True)]
        told = [differences(output, after) for output, (_, after) in zip(outputs, pairs, strict=True)]
        exact, mean = alike.count(1.0), sum(alike) / len(pairs)
        return Checked(exact + mean, exact == len(pairs), "\n\n".join(told), (float(exact), mean))

    return check


def digits(task: Task) -> str:
    """Return the pairs of a puzzle as rows of digits, with their shapes: another view than that of the prompt."""
    lines: list[str] = []
    for place, pair in enumerate(task.meta.get("puzzle", {}).get("train", ()), start=1):
        for name, grid in zip(("before", "after"), pair, strict=True):
            lines += [
                f"Pair {place}, {name}, {len(grid)} by {len(grid[0])}:",
                *(" ".join(map(str, row)) for row in grid),
            ]
    return "\n".join(lines)


def program_of(message: Message) -> str:
    """Return the program in a reply: its first fenced block, else all of it; an empty reply is the program ``pass``."""
    blocks = blocks_of(Reply(message)) if not message.calls else ()
    code = str(blocks[0].arguments.get("code", "")) if blocks else plain_text(message)
    return code.strip() or "pass"


@dataclass(frozen=True)
class ProgramLibrary:
    """Write programs for a puzzle, check them on its pairs, revise those that nearly fit, and hand the best ones in.

    In each of at most ``rounds`` rounds the model writes ``samples`` programs, shown ``parents`` earlier ones, which
    are drawn by their scores (``ferrule.agents.refine.sampled``), with what was wrong about them. ``library`` are
    programs of earlier puzzles, which are checked first, so the world must allow that many calls. ``views`` are further
    ways to show the puzzle. The session is one of the world ``grids``; without its tools the answer is a program. Every
    turn notes the score of its program as ``value``.
    """

    samples: int = 5
    rounds: int = 2
    parents: int = 2
    library: tuple[str, ...] = ()
    views: tuple[Callable[[Task], str], ...] = field(default=(digits,), repr=False)
    system: str = PROPOSAL
    max_tokens: int = 512
    seed: int = 0

    def __call__(self, task: Task, session: Session) -> Flow[Any]:
        """Refine programs for one puzzle; where a program of the library solves it, the answer has no turn."""
        shown = "".join(f"{text}\n\n" for view in self.views if (text := view(task)))
        messages = prefixed(opening(task, self.system), shown)
        start: list[Candidate] = []
        for text in dict.fromkeys(self.library):
            start.append(Candidate(text, (yield from _checked(text)), len(start)))
        replies: list[Message] = []

        def read(reply: Message) -> str:
            replies.append(reply)
            return program_of(reply)

        refined = yield from refine(
            from_model(messages, samples=self.samples, max_tokens=self.max_tokens, read=read), _checked,
            select=sampled(self.parents, seed=f"{self.seed}/{task.id}"), rounds=self.rounds, start=start,
        )  # fmt: skip
        best = [candidate.text for candidate in ranked(refined)]
        (observation,) = yield from use(Call("submit_programs", {"programs": best[:5]}))
        answer = observation.text if observation.terminal else best[0]
        if not replies:
            return answer
        scores = {candidate.text: candidate.checked.score for candidate in refined.candidates}
        last = max(replies, key=lambda reply: scores[program_of(reply)])
        notes = [
            {"state": "answer" if reply is last else "open", "value": scores[program_of(reply)]} for reply in replies
        ]
        steps = tuple(Step(reply, notes=note) for reply, note in zip(replies, notes, strict=True))
        return Leaves((Leaf(last, answer, final=dict(session.final())),), steps)


def _checked(code: str) -> Flow[Checked]:
    """Check a program by the tool of the world."""
    (observation,) = yield from use(Call("check_program", {"code": code}))
    return read_check(observation)


AGENTS = {"program-library": ProgramLibrary}
