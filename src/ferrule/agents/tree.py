"""A tool loop that branches: several paths share their beginnings, and the paths together are one episode."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ferrule.core.records import Answer, Ask, Finish, Flow, Leaf, Leaves, Message, Session, Task, ask, plain_text, use

__all__ = ["Select", "TreeLoop"]

Select: TypeAlias = Literal["random", "round_robin"]
"""How candidates are chosen."""


def _written(reply: Message) -> str:
    """What a reply says and does, as one text."""
    return plain_text(reply) + str([(call.raw, call.name, call.arguments) for call in reply.calls])


@dataclass
class _Path:
    """One branch on its way: its messages, its own branch of the world, and its last reply."""

    messages: list[Message]
    session: Session
    reply: Message
    finish: Finish = "turns"
    answer: Answer = None
    ended: bool = False

    def leaf(self) -> Leaf:
        return Leaf(self.reply, self.answer, self.finish, dict(self.session.final()))


@dataclass(frozen=True)
class TreeLoop:
    """Answer a task along ``samples`` paths that share prefixes; the episode is a tree with one leaf per path.

    The first step is drawn ``samples`` times. At every further depth each open path is continued ``branch`` times, and
    of all candidates as many are kept as paths are open: evenly at random (``select="random"``), or in turns over the
    paths (``"round_robin"``). Dropped candidates run no calls; what they wrote stays in the record as discarded. Every
    path acts in its own branch of the world (``Session.fork``). Paths still open after ``depth`` steps have no answer.
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
        root = [Message("system", self.system)] if self.system else []
        root.append(Message("user", task.prompt))
        open_paths: list[_Path] = []
        closed: list[_Path] = []
        branches: list[Session] = []
        try:
            replies = yield from ask(self._ask(root, session, self.samples))
            chosen: list[tuple[list[Message], Session, Message, Finish]] = [
                (root, session, reply.message, reply.finish) for reply in replies
            ]
            for depth in range(self.depth):
                for messages, before, reply, finish in chosen:
                    branches.append(before.fork())
                    path = _Path([*messages, reply], branches[-1], reply)
                    yield from self._step(path, finish)
                    (closed if path.ended else open_paths).append(path)
                if not open_paths or depth + 1 == self.depth:
                    break
                chosen = yield from self._expand(open_paths, f"{task.id}/{depth}")
                open_paths = []
            return Leaves(tuple(path.leaf() for path in (*closed, *open_paths)))
        finally:
            for branch in branches:
                branch.close()

    def _ask(self, messages: list[Message], session: Session, n: int) -> Ask:
        return Ask(tuple(messages), n=n, tools=session.tools, stop=self.stop, max_tokens=self.max_tokens)

    def _step(self, path: _Path, finish: Finish) -> Flow[None]:
        """Run the calls of a path's newest reply; a reply without calls, or a terminal call, ends the path."""
        if not path.reply.calls:
            cut = finish not in ("stop", "answer")
            path.answer = None if cut else plain_text(path.reply).strip()
            path.ended, path.finish = True, finish if cut else "answer"
            return
        observations = yield from use(*path.reply.calls, session=path.session)
        for call, observation in zip(path.reply.calls, observations, strict=True):
            path.messages.append(Message("tool", observation.text, name=call.name, call_id=call.id))
            if observation.terminal:
                path.answer, path.ended, path.finish = observation.text, True, "answer"
                return

    def _expand(self, paths: list[_Path], place: str) -> Flow[list[tuple[list[Message], Session, Message, Finish]]]:
        """Draw ``branch`` next replies of every open path and keep as many as there are open paths."""
        drawn = []
        for path in paths:
            replies = yield from ask(self._ask(path.messages, path.session, self.branch))
            drawn.append([(path.messages, path.session, reply.message, reply.finish) for reply in replies])
        if self.select == "round_robin":
            candidates = [own[i] for i in range(self.branch) for own in drawn]
            return candidates[: len(paths)]
        candidates = [candidate for own in drawn for candidate in own]
        # The replies seed the draw, so that the same replies make the same tree under every driver.
        rng = random.Random("\x1f".join([place, *(_written(reply) for _, _, reply, _ in candidates)]))
        return [candidates[i] for i in sorted(rng.sample(range(len(candidates)), len(paths)))]
