"""A tool loop that branches: several paths share their beginnings, and the paths together are one episode."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ferrule.agents.flow import acted, answered, cut_off, opening, together
from ferrule.core.flows import Ask, Flow, Leaf, Leaves, Session, ask
from ferrule.core.records import Answer, Finish, Message, Reply, Task, plain_text

__all__ = ["Select", "TreeLoop"]

Select: TypeAlias = Literal["random", "round_robin"]
"""How candidates are chosen."""


@dataclass
class _Path:
    """An unfinished branch: its messages, its branch of the world, and its last reply."""

    messages: list[Message]
    session: Session
    reply: Reply
    finish: Finish = "turns"
    answer: Answer = None
    ended: bool = False

    def leaf(self) -> Leaf:
        return Leaf(self.reply.message, self.answer, self.finish, dict(self.session.final()))


_Candidate: TypeAlias = tuple[list[Message], Session, Reply]
"""What a reply goes on from, the branch of the world it would act in, and the reply."""


def _written(candidate: _Candidate) -> str:
    """What a candidate says and does, as one text."""
    message = candidate[2].message
    return plain_text(message) + str([(call.raw, call.name, call.arguments) for call in message.calls])


@dataclass(frozen=True)
class TreeLoop:
    """Answer a task along ``samples`` paths that share prefixes; the episode is a tree with one leaf per path.

    The first step is drawn ``samples`` times. At every further depth each open path is continued ``branch`` times, and
    of all candidates as many are kept as paths are open: evenly at random (``select="random"``), or in turns over the
    paths (``"round_robin"``). Dropped candidates run no calls; what they wrote stays in the record as discarded. Every
    path acts in its own branch of the world (``Session.fork``); all paths ask and act at the same time, so that a tree
    takes as many rounds as it is deep. Paths still open after ``depth`` steps have no answer.
    ``system``, ``max_tokens`` and ``stop`` are as in ``ToolLoop``. Source: "PORTool: Tool-Use LLM Training with
    Rewarded Tree" (31).
    """

    samples: int = 8
    branch: int = 2
    depth: int = 8
    select: Select = "random"
    system: str = ""
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a tree without paths, branches or steps, and an unknown selection."""
        for name in ("samples", "branch", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"TreeLoop.{name} is {getattr(self, name)}; the least is 1")
        if self.select not in ("random", "round_robin"):
            raise ValueError(f"TreeLoop.select is {self.select!r}; known: random, round_robin")

    def __call__(self, task: Task, session: Session) -> Flow[Leaves]:
        """Play one tree."""
        root = opening(task, self.system)
        open_paths: list[_Path] = []
        closed: list[_Path] = []
        branches: list[Session] = []
        try:
            replies = yield from ask(self._ask(root, session, self.samples))
            chosen: list[_Candidate] = [(root, session, reply) for reply in replies]
            for depth in range(self.depth):
                paths = []
                for messages, before, reply in chosen:
                    branches.append(before.fork())
                    paths.append(_Path(list(messages), branches[-1], reply))
                yield from together(*(self._step(path) for path in paths))
                closed += [path for path in paths if path.ended]
                open_paths = [path for path in paths if not path.ended]
                if not open_paths or depth + 1 == self.depth:
                    break
                chosen = yield from self._expand(open_paths, f"{task.id}/{depth}")
            return Leaves(tuple(path.leaf() for path in (*closed, *open_paths)))
        finally:
            for branch in branches:
                branch.close()

    def _ask(self, messages: list[Message], session: Session, n: int) -> Ask:
        return Ask(tuple(messages), n=n, tools=session.tools, stop=self.stop, max_tokens=self.max_tokens)

    def _step(self, path: _Path) -> Flow[None]:
        """Run the calls of a path's newest reply; a reply without calls, or a terminal call, ends the path."""
        if not path.reply.message.calls:
            path.answer, path.ended = answered(path.reply), True
            path.finish = path.reply.finish if cut_off(path.reply) else "answer"
            return
        path.answer = yield from acted(path.messages, path.reply.message, session=path.session)
        if path.answer is not None:
            path.ended, path.finish = True, "answer"

    def _expand(self, paths: list[_Path], place: str) -> Flow[list[_Candidate]]:
        """Draw ``branch`` next replies of every open path and keep as many as there are open paths."""
        asks = [ask(self._ask(path.messages, path.session, self.branch)) for path in paths]
        answers = yield from together(*asks)
        drawn: list[list[_Candidate]] = [
            [(path.messages, path.session, reply) for reply in replies]
            for path, replies in zip(paths, answers, strict=True)
        ]
        if self.select == "round_robin":
            candidates = [of_path[i] for i in range(self.branch) for of_path in drawn]
            return candidates[: len(paths)]
        candidates = [candidate for of_path in drawn for candidate in of_path]
        # The replies seed the draw, so that the same replies make the same tree under every driver.
        rng = random.Random("\x1f".join([place, *map(_written, candidates)]))
        return [candidates[i] for i in sorted(rng.sample(range(len(candidates)), len(paths)))]
