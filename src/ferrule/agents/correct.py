"""A tool loop that rewrites the end of its thought when a call fails.

Source: "THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning" (paper 39).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.agents.flow import answered, cut_off, ended, opening, results
from ferrule.agents.repair import Pieces, passed, shortened, thought_size, words
from ferrule.core.flows import Ask, Flow, Leaf, Leaves, Session, ask, use
from ferrule.core.records import Call, Finish, Message, Observation, Reply, Task, plain_text

__all__ = ["SelfCorrect", "corrected"]


def corrected(attempts: Iterable[bool], *, most: int = 4) -> list[tuple[int, bool]]:
    """Read a stream of attempts as calls: per call the retries it took (at most ``most``) and whether it passed."""
    if most < 0:
        raise ValueError(f"most is {most}; the least is 0")
    calls, retries = [], 0
    for good in attempts:
        if good or retries == most:
            calls.append((retries, good))
            retries = 0
        else:
            retries += 1
    return calls


@dataclass(frozen=True)
class SelfCorrect:
    """The tool loop that, when a call fails, takes back the code and the end of the thought and writes them again.

    At most ``rounds`` replies with calls are kept, and one more may answer. An attempt fails when one of its calls does
    not pass; it is repeated up to ``most`` times, then the failure is kept and shown. What is left of the thought are
    the very ids that were sampled, less the last ``suffix`` tokens; of a policy that does not tell ids, or which of
    them are a call, it is the text less as many ``pieces``. Every attempt acts in a branch of the session, and only the
    branch of the kept one is gone on with. The record holds the attempts that were given up as discarded branches.
    ``system``, ``max_tokens`` and ``stop`` are as in ``ToolLoop``.
    """

    rounds: int = 10
    most: int = 4
    suffix: int = 100
    pieces: Pieces = words
    silent: bool = False
    system: str = ""
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a loop without rounds, and negative counts."""
        for name, least in (("rounds", 1), ("most", 0), ("suffix", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"SelfCorrect.{name} is {getattr(self, name)}; the least is {least}")

    def __call__(self, task: Task, session: Session) -> Flow[Leaves]:
        """Play one episode."""
        messages = opening(task, self.system)
        branches: list[Session] = []
        here = session
        try:
            for left in range(self.rounds, -1, -1):
                reply, observations, here = yield from self._attempt(messages, here, branches, act=left > 0)
                if not reply.message.calls:
                    return _leaf(reply, answered(reply), reply.finish if cut_off(reply) else "answer", here)
                if not left:
                    break
                answer = ended(observations)
                if answer is not None:
                    return _leaf(reply, answer, "answer", here)
                messages += [reply.message, *results(reply.message.calls, observations)]
            return _leaf(reply, None, "turns", here)
        finally:
            for branch in branches:
                branch.close()

    def _attempt(
        self, messages: Sequence[Message], before: Session, branches: list[Session], *, act: bool
    ) -> Flow[tuple[Reply, tuple[Observation, ...], Session]]:
        """Write one reply and run its calls, again while they fail; return what is kept, and the branch it acted in.

        Calls are left alone unless ``act``.
        """
        prefill, begun = "", tuple[int, ...]()
        for retry in range(self.most + 1):
            how: dict[str, Any] = {"tools": before.tools, "stop": self.stop, "max_tokens": self.max_tokens}
            request = Ask(tuple(messages), prefill=prefill, begun=begun, **how)
            (reply,) = yield from ask(request)
            calls: tuple[Call, ...] = reply.message.calls
            if not calls or not act:
                return reply, (), before
            branches.append(before.fork())
            observations = yield from use(*calls, session=branches[-1])
            if retry == self.most or all(passed(observation, silent=self.silent) for observation in observations):
                break
            size = thought_size(reply)
            if size is None:
                prefill, begun = shortened(plain_text(reply.message), self.suffix, self.pieces), ()
            else:
                thought = (*begun, *reply.sampled[:size])
                begun = thought[: max(0, len(thought) - self.suffix)]
        return reply, observations, branches[-1]


def _leaf(reply: Reply, answer: str | None, finish: Finish, session: Session) -> Leaves:
    return Leaves((Leaf(reply.message, answer, finish, dict(session.final())),))


AGENTS = {"self-correct": SelfCorrect}
