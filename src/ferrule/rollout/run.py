"""One running episode: what its agent waits for, and how results are recorded and handed over."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ferrule.chat.reply import broken_off
from ferrule.core.acting import Place, act
from ferrule.core.flows import Agent, Ask, Leaves, Session, Use, World
from ferrule.core.records import Answer, Call, Finish, Observation, Reply, Task, Trajectory
from ferrule.rollout.record import Asked, Episode, Recorder
from ferrule.rollout.spent import spent_by_role

__all__ = ["CALLED_OFF", "Limits", "Run", "call_off", "episode_seed", "let_go", "never_played", "seed_of"]

CALLED_OFF = "called off: enough episodes of its batch had ended"
"""The problem of an episode that was not waited for."""


def _finished(reply: Reply) -> Reply:
    """Return a reply whose call is malformed when a limit broke it off, whatever policy it comes from."""
    if reply.finish in ("stop", "answer"):
        return reply
    message = broken_off(reply.message)
    return reply if message is reply.message else replace(reply, message=message)


@dataclass(frozen=True)
class Limits:
    """Bounds of a rollout: episodes alive at once, tool calls at once, and model turns of one episode.

    ``turns`` counts along the longest path of an episode that branches, which may ask 16 times as often in all; it
    bounds the rounds of tool calls that follow each other without a model turn as well. ``patience`` is how
    long (seconds) generation waits for calls that were just started: tools quicker than that keep a run reproducible to
    the last bit, slower ones overlap with generation.
    """

    episodes: int = 256
    calls: int = 16
    turns: int = 64
    patience: float = 0.05


_ASKS_PER_TURN = 16
_REQUESTS = (Ask, Use)


def seed_of(*parts: object) -> int:
    """Return a 63-bit seed that depends on all parts and nothing else."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def never_played(task: Task, sample: int, seed: int) -> Episode:
    """Return the record of an episode that was called off before it began; ``seed`` is that of the rollout."""
    paths = (Trajectory(task, (), None, "discarded", problem=CALLED_OFF),)
    return Episode(task, sample, episode_seed(seed, task, sample), paths, CALLED_OFF)


def episode_seed(seed: int, task: Task, sample: int) -> int:
    """Return the seed of one episode of a rollout."""
    return seed_of(seed, task.id, task.meta.get("pass", 0), sample)


def _holds_calls(request: Use) -> bool:
    return isinstance(request.calls, Sequence) and all(isinstance(call, Call) for call in request.calls)


@dataclass(frozen=True)
class _Used:
    """A request to run calls, and the place of each call in the episode."""

    request: Use
    places: tuple[Place, ...]


def _only_read(session: Session, calls: Sequence[Call]) -> bool:
    """Tell whether none of the calls is of a tool that may change state."""
    try:
        changing = {tool.name for tool in session.tools if tool.effects != "read"}
    except Exception:  # a session that cannot say runs its calls in order
        return False
    return not any(call.name in changing for call in calls)


def _in_order(session: Session, pairs: Sequence[tuple[Call, Place]]) -> list[Observation]:
    return [act(session, call, place) for call, place in pairs]


class Run:
    """The state machine of one episode: a generator, its session, and its recorder.

    ``pending`` holds what the agent waits for, by slot: one entry, or one for each request of a tuple. It is empty when
    the episode has ended. Results may come in any order; they are recorded and handed over when all are back, in the
    order of the slots, so that the record does not show who was quicker.
    """

    def __init__(
        self, agent: Agent, task: Task, sample: int, world: World, seed: int, temperature: float | None
    ) -> None:
        self.task, self.sample, self.seed = task, sample, episode_seed(seed, task, sample)
        self.temperature = temperature
        # A continued episode starts in the world of the one it goes on from.
        self.session = world.start(task, task.meta.get("world_seed", self.seed))
        self.recorder = Recorder(task)
        self.asked = self.used = self.acted = 0
        self.pending: dict[int, Ask | Use] = {}
        self._round: list[Asked | _Used] = []
        self._results: list[tuple[Any, ...]] = []
        self._alone = True
        self.answer: Answer = None
        self.tree: Leaves | None = None
        self.finish: Finish = "answer"
        self.problem = ""
        self.began = self._round_began = time.perf_counter()
        self._waits: list[tuple[str, float]] = []
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
        try:
            wanted: object = self._flow.send(value)
        except StopIteration as stop:
            self._end(stop.value)
            return
        except Exception as error:
            self._fail(f"agent raised {type(error).__name__}: {error}")
            return
        self._alone = not isinstance(wanted, tuple)
        requests: tuple[object, ...] = wanted if isinstance(wanted, tuple) else (wanted,)
        if not requests:
            self._fail("agent yielded an empty tuple; leave the yield out when there is nothing to wait for")
            return
        asked, placed = self.asked, []
        for request in requests:
            if not isinstance(request, _REQUESTS):
                self._fail(f"agent yielded {type(request).__name__}; an agent may yield Ask, Use, or a tuple of them")
                return
            if isinstance(request, Use) and not _holds_calls(request):
                self._fail(f"agent yielded a Use of {request.calls!r:.80}; it holds a tuple of calls: use(*calls)")
                return
            placed.append(self._placed(request))
        self.used = self.used + 1 if self.asked == asked else 0
        self._round, self._results, self._round_began = placed, [()] * len(placed), time.perf_counter()
        self.pending = {slot: entry.request for slot, entry in enumerate(placed)}

    def _placed(self, request: Ask | Use) -> Asked | _Used:
        """Give an ask its seed and its context, or calls their places; both count on in the order of the requests."""
        if isinstance(request, Use):
            first, self.acted = self.acted, self.acted + len(request.calls)
            return _Used(request, tuple(Place(self.asked, first + i) for i in range(len(request.calls))))
        temperature = self.temperature if request.temperature is None else request.temperature
        request = replace(request, seed=seed_of(self.seed, self.asked), temperature=temperature)
        self.asked, self.acted = self.asked + 1, 0
        return self.recorder.extend(request)

    def _end(self, value: Any) -> None:
        """Keep what the agent returned: an answer, or how each of its branches ended."""
        if not isinstance(value, Leaves):
            self.answer = value if value is None else str(value)
            self.finish = self._ending()
            return
        known = {id(turn.reply) for turn in self.recorder.turns}
        told = [*(leaf.reply for leaf in value.leaves), *(step.reply for step in value.steps)]
        told += [step.after for step in value.steps if step.after is not None]
        if not value.leaves or any(id(reply) not in known for reply in told):
            self._fail("agent returned leaves or steps with an unknown reply; pass Reply.message itself")
            return
        self.tree = value
        self.answer, self.finish = value.leaves[0].answer, value.leaves[0].finish

    def _ending(self) -> Finish:
        if self.answer is not None:
            return "answer"
        last = self.recorder.turns[-1].finish if self.recorder.turns else "stop"
        return last if last in ("length", "cancelled", "error") else "turns"

    def _fail(self, problem: str, finish: Finish = "error") -> None:
        self.pending, self.answer, self.finish, self.problem = {}, None, finish, problem
        with contextlib.suppress(Exception):  # a generator may raise while it is closed; nobody waits for the error
            self._flow.close()

    def take(self, slot: int, results: Sequence[Any], limit: int) -> None:
        """Take the replies or observations of one slot; the last one that is missing brings the agent on."""
        request = self.pending.pop(slot)
        if isinstance(request, Ask) and len(results) != request.n:
            raise ValueError(f"the policy gave {len(results)} replies to an ask for {request.n}")
        if isinstance(request, Ask):
            self._waits.append((request.role, time.perf_counter() - self._round_began))
        self._results[slot] = tuple(map(_finished, results)) if isinstance(request, Ask) else tuple(results)
        if not self.pending:
            self._record(limit)

    def _record(self, limit: int) -> None:
        """Record the results of a round in the order of its requests and hand them to the agent."""
        results = self._results
        for placed, result in zip(self._round, results, strict=True):
            if isinstance(placed, Asked):
                for reply in result if placed.request.max_tokens != 0 else ():  # without new tokens there is no turn
                    self.recorder.add(placed, reply)
            else:
                self.recorder.observe(zip(placed.request.calls, result, strict=True))
        if self.recorder.drifted:
            self._fail("token ids were not append-only", "drift")
        elif self.recorder.depth > limit or self.asked > _ASKS_PER_TURN * limit:
            self._fail(f"more than {limit} model turns", "turns")
        elif self.used > limit:
            self._fail(f"more than {limit} rounds of tool calls without a model turn", "turns")
        else:
            self.advance(results[0] if self._alone else tuple(results))

    def acts(self, slot: int) -> list[Callable[[], list[Observation]]]:
        """Return functions that may run at the same time; each runs calls of a slot and returns their observations.

        Calls that only read run side by side. When one of them may change state all run in their order, so that the
        results do not depend on which was quicker. Every failure is an observation.
        """
        used = self._round[slot]
        assert isinstance(used, _Used)
        session = self.session if used.request.session is None else used.request.session
        pairs = list(zip(used.request.calls, used.places, strict=True))
        if len(pairs) > 1 and not _only_read(session, used.request.calls):
            return [partial(_in_order, session, pairs)]
        return [partial(_in_order, session, [pair]) for pair in pairs]

    def give_up(self) -> None:
        """End the agent, which closes the branches it opened, and the session; what either raises is ignored."""
        for part in (self._flow, self.session):
            with contextlib.suppress(Exception):  # whatever ended the run is what the caller should see
                part.close()

    def call_off(self, *, close: bool = False) -> Episode:
        """Return the record of an episode that nobody waits for any more: discarded, neither scored nor trained on.

        Calls may still be under way in its session; ``close`` says that none is and closes it, else ``give_up`` does.
        """
        self.pending, self.answer, self.finish, self.problem = {}, None, "discarded", CALLED_OFF
        if close:
            self.give_up()
        episode = self._episode({})
        return replace(episode, trajectories=tuple(replace(t, finish="discarded") for t in episode.trajectories))

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
        return self._episode(final)

    def _episode(self, final: Mapping[str, Any]) -> Episode:
        trajectories = self.recorder.paths(self.answer, self.finish, final, self.problem, self.tree)
        seconds = time.perf_counter() - self.began
        drifted, spent = self.recorder.drifted, spent_by_role(self._waits, self.recorder.turns)
        return Episode(self.task, self.sample, self.seed, trajectories, self.problem, drifted, seconds, spent)


def call_off(
    live: dict[int, Run],
    finished: dict[int, Episode],
    todo: Sequence[tuple[Task, int]],
    seed: int,
    take: Callable[[int, Episode], None] | None,
) -> list[Run]:
    """End all episodes of a rollout that have not ended, those that have not begun included.

    Return those that had begun: their sessions are still open.
    """
    late = list(live.values())
    for place in (place for place in range(len(todo)) if place not in finished):
        finished[place] = live.pop(place).call_off() if place in live else never_played(*todo[place], seed)
        if take:
            take(place, finished[place])
    return late


def let_go(pool: ThreadPoolExecutor, late: Sequence[Run], behind: bool) -> None:
    """Close the sessions of episodes that were called off, once the calls that are under way have ended.

    Calls that have not begun are not made. With ``behind`` a thread waits for the others, and the caller goes on.
    """

    def end() -> None:
        pool.shutdown(cancel_futures=True)
        for run in late:
            run.give_up()

    if behind:
        threading.Thread(target=end, name="ferrule-called-off", daemon=True).start()
    else:
        end()
