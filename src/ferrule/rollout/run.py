"""One episode on its way: what its agent waits for, and what becomes of what comes back."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ferrule.core.acting import Place, act
from ferrule.core.records import Agent, Answer, Ask, Finish, Leaf, Leaves, Observation, Reply, Task, Use, World
from ferrule.rollout.record import Episode, Recorder

__all__ = ["Limits", "Run", "seed_of"]


@dataclass(frozen=True)
class Limits:
    """Bounds of a rollout: episodes alive at once, tool calls at once, and model turns of one episode.

    ``turns`` counts along the longest path of an episode that branches, which may ask 16 times as often in all; it
    bounds the rounds of tool calls that follow each other without a model turn as well. ``patience`` is how
    long (seconds) generation waits for calls that were just made: tools quicker than that keep a run reproducible to
    the last bit, slower ones overlap with generation.
    """

    episodes: int = 256
    calls: int = 16
    turns: int = 64
    patience: float = 0.05


_ASKS_PER_TURN = 16


def seed_of(*parts: object) -> int:
    """Return a 63-bit seed that depends on all parts and nothing else."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Run:
    """The state machine of one episode: a generator, its session, and its recorder."""

    def __init__(
        self, agent: Agent, task: Task, sample: int, world: World, seed: int, temperature: float | None
    ) -> None:
        self.task, self.sample, self.seed = task, sample, seed_of(seed, task.id, task.meta.get("pass", 0), sample)
        self.temperature = temperature
        # A continued episode starts in the world of the one it goes on from.
        self.session = world.start(task, task.meta.get("world_seed", self.seed))
        self.recorder = Recorder(task)
        self.asked = self.used = self.made = 0
        self.pending: Ask | Use | None = None
        self.parent: int | None = None
        self.answer: Answer = None
        self.leaves: tuple[Leaf, ...] = ()
        self.finish: Finish = "answer"
        self.problem = ""
        self.began = time.perf_counter()
        self._flow: Any = None
        self._begin(agent)

    def _begin(self, agent: Agent) -> None:
        try:
            self._flow = agent(self.task, self.session)
        except Exception as error:
            self._fail(f"agent raised {type(error).__name__}: {error}")
            return
        if hasattr(self._flow, "send"):
            self.advance(None)
        else:
            self._fail(f"agent returned {type(self._flow).__name__}; an agent is a generator that yields Ask or Use")

    def advance(self, value: Any) -> None:
        """Send a value into the agent and keep what it yields next; an exception ends the episode as data."""
        self.pending = None
        try:
            request: object = self._flow.send(value)
        except StopIteration as stop:
            self._end(stop.value)
            return
        except Exception as error:
            self._fail(f"agent raised {type(error).__name__}: {error}")
            return
        if isinstance(request, Ask):
            request = replace(
                request,
                seed=seed_of(self.seed, self.asked),
                temperature=self.temperature if request.temperature is None else request.temperature,
            )
            self.asked, self.used, self.made = self.asked + 1, 0, 0
            self.pending, self.parent = self.recorder.extend(request)
        elif isinstance(request, Use):
            self.used += 1
            self.pending = request
        else:
            self._fail(f"agent yielded {type(request).__name__}; an agent may yield Ask or Use")

    def _end(self, value: Any) -> None:
        """Keep what the agent returned: an answer, or how each of its branches ended."""
        if not isinstance(value, Leaves):
            self.answer = value if value is None else str(value)
            self.finish = self._ending()
            return
        known = {id(turn.reply) for turn in self.recorder.turns}
        if not value.leaves or any(id(leaf.reply) not in known for leaf in value.leaves):
            self._fail("agent returned leaves whose reply is none that it was given; pass Reply.message itself")
            return
        self.leaves = value.leaves
        self.answer, self.finish = value.leaves[0].answer, value.leaves[0].finish

    def _ending(self) -> Finish:
        if self.answer is not None:
            return "answer"
        last = self.recorder.turns[-1].finish if self.recorder.turns else "stop"
        return last if last in ("length", "cancelled", "error") else "turns"

    def _fail(self, problem: str) -> None:
        self.pending, self.answer, self.finish, self.problem = None, None, "error", problem
        with contextlib.suppress(Exception):  # a generator may raise while it is closed; there is nobody to tell
            self._flow.close()

    def take_replies(self, replies: Sequence[Reply], limit: int) -> None:
        """Record the replies to the pending ask and hand them to the agent."""
        request = self.pending
        assert isinstance(request, Ask)
        if len(replies) != request.n:
            raise ValueError(f"the policy gave {len(replies)} replies to an ask for {request.n}")
        for reply in replies:
            self.recorder.add(request, self.parent, reply)
        if self.recorder.drifted:
            self._fail("token ids were not append-only")
            self.finish = "drift"
        elif self.recorder.depth > limit or self.asked > _ASKS_PER_TURN * limit:
            self._fail(f"more than {limit} model turns")
            self.finish = "turns"
        else:
            self.advance(tuple(replies))

    def take_observations(self, observations: Sequence[Observation], limit: int) -> None:
        """Record the observations of the pending calls and hand them to the agent."""
        request = self.pending
        assert isinstance(request, Use)
        self.recorder.observe(zip(request.calls, observations, strict=True))
        if self.used > limit:
            self._fail(f"more than {limit} rounds of tool calls without a model turn")
            self.finish = "turns"
        else:
            self.advance(tuple(observations))

    def acts(self) -> list[Callable[[], Observation]]:
        """Return one function for each pending call, which runs it; whatever goes wrong is an observation."""
        request = self.pending
        assert isinstance(request, Use)
        first, self.made = self.made, self.made + len(request.calls)
        session = self.session if request.session is None else request.session
        return [partial(act, session, call, Place(self.asked, first + i)) for i, call in enumerate(request.calls)]

    def give_up(self) -> None:
        """End the agent, which closes the branches it opened, and the session, whatever either says to it."""
        for part in (self._flow, self.session):
            with contextlib.suppress(Exception):  # whatever ended the run is what the caller should see
                part.close()

    def close(self) -> Episode:
        """Close the session and return the record."""
        try:
            final = dict(self.session.final()) if not self.problem else {}
        except Exception as error:
            final, self.problem = {}, f"session.final raised {type(error).__name__}: {error}"
        try:
            self.session.close()
        except Exception as error:
            self.problem = self.problem or f"session.close raised {type(error).__name__}: {error}"
        trajectories = self.recorder.paths(self.answer, self.finish, final, self.problem, self.leaves)
        seconds = time.perf_counter() - self.began
        return Episode(self.task, self.sample, self.seed, trajectories, self.problem, self.recorder.drifted, seconds)
