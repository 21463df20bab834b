"""An agent whose branches ask and act side by side. Workers of other processes import this: it imports little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ferrule.agents.flow import acted, opening, together
from ferrule.core.flows import Ask, Flow, Leaf, Leaves, Session, Use, ask
from ferrule.core.records import Call, Message, Reply, Task, plain_text


def two_calls(session: Session) -> tuple[Call, ...]:
    """Return a call of the first tool with fitting arguments, and one of a tool that does not exist."""
    if not session.tools:
        return (Call("nobody", {}, id="call_0"),)
    tool = session.tools[0]
    values = {"integer": 1, "number": 1.0, "string": "1 + 1", "boolean": True, "array": []}
    arguments = {
        name: values.get(entry.get("type", "string"), "1") for name, entry in tool.parameters["properties"].items()
    }
    return (Call(tool.name, arguments, id="call_0"), Call("nobody", {}, id="call_1"))


@dataclass(frozen=True)
class Fanout:
    """``width`` paths from one opening, the k-th of k + 1 rounds, each in a branch; then a tuple of both requests."""

    width: int = 3
    max_tokens: int = 8

    def __call__(self, task: Task, session: Session) -> Flow[Leaves]:
        first = opening(task, "Be brief.")
        branches = [session.fork() for _ in range(self.width)]
        try:
            lasts: Sequence[Reply] = yield from together(
                *(self._path(list(first), branch, k + 1) for k, branch in enumerate(branches))
            )
            request = Ask((*first, lasts[0].message, Message("user", "again")), n=2, max_tokens=self.max_tokens)
            replies, seen = yield (request, Use(two_calls(session)))
            told = f"{plain_text(replies[0].message)}/{seen[0].text}"
            ends = [replies[0], *lasts[1:]]
            return Leaves(tuple(Leaf(end.message, told if k == 0 else str(k)) for k, end in enumerate(ends)))
        finally:
            for branch in branches:
                branch.close()

    def _path(self, messages: list[Message], branch: Session, rounds: int) -> Flow[Reply]:
        for left in range(rounds, 0, -1):
            (reply,) = yield from ask(Ask(tuple(messages), tools=branch.tools, max_tokens=self.max_tokens))
            if left > 1:
                yield from acted(messages, reply.message, calls=two_calls(branch), session=branch)
        return reply
