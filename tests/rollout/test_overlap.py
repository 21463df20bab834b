"""Replies, tool calls and scoring go on at the same time; what is quick keeps its order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.train.pieces import recipe

from ferrule.core.flows import Ask, use
from ferrule.core.flows import ask as asking
from ferrule.core.records import Call, Message, Observation, Reply, Score, Task, Tool, plain_text
from ferrule.rollout.calls import Calls
from ferrule.rollout.drive import Limits, adrive, drive
from ferrule.train.sample import groups_of

TASKS = [Task(f"t{i}", str(i)) for i in range(3)]


class OneByOne:
    """A policy whose stream answers one ask at a time, in the order in which they came."""

    def __init__(self) -> None:
        self.begun: list[list[int]] = []
        self.batches = 0

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        self.batches += 1
        return [[self.say(ask)] for ask in asks]

    def say(self, ask: Ask) -> Reply:
        return Reply(Message("assistant", f"reply to {plain_text(ask.messages[-1])}"))

    def stream(self) -> Any:
        policy = self

        class Stream:
            def __init__(self) -> None:
                self.waiting: dict[int, Ask] = {}

            def begin(self, asks: Sequence[tuple[int, Ask]]) -> None:
                policy.begun.append([number for number, _ in asks])
                self.waiting |= dict(asks)

            def advance(self) -> list[tuple[int, list[Reply]]]:
                number = next(iter(self.waiting))
                return [(number, [policy.say(self.waiting.pop(number))])]

            def close(self) -> None:
                self.waiting = {}

        return Stream()


class World:
    """Calls are carried out by a function of the task."""

    name = "toy"

    def __init__(self, act: Any) -> None:
        self.act = act

    def start(self, task: Task, seed: int = 0) -> Any:
        act = self.act

        class Session:
            tools = ()

            def act(self, call: Call) -> Observation:
                return Observation(act(task, call))

            def final(self) -> dict[str, Any]:
                return {}

            def close(self) -> None: ...

        return Session()


def agent(task: Task, session: Any) -> Any:
    """Ask, call, ask again."""
    messages = (Message("user", task.prompt),)
    (first,) = yield from asking(Ask(messages))
    (seen,) = yield from use(Call("look", {}))
    again = (*messages, first.message, Message("user", seen.text))
    (second,) = yield from asking(Ask(again))
    return plain_text(second.message)


def test_a_slow_call_does_not_hold_the_others_up() -> None:
    """The first task's call comes back only when the second task has ended: in lock-step nobody would."""
    ended = threading.Event()

    def act(task: Task, call: Call) -> str:
        return f"{ended.wait(20)}" if task.id == "t0" else "quick"

    def done(finished: int, total: int) -> None:
        ended.set()

    episodes = drive(agent, TASKS, World(act), OneByOne(), done=done)  # type: ignore[arg-type]
    assert [e.trajectories[0].answer for e in episodes] == ["reply to True", "reply to quick", "reply to quick"]


def test_quick_calls_keep_their_order() -> None:
    """All three ask; each reply's call is back before the next reply, so the asks come in the order 0, 1, 2, 0, 1, 2."""
    policy = OneByOne()
    episodes = drive(agent, TASKS, World(lambda task, call: "x"), policy)  # type: ignore[arg-type]
    assert policy.begun == [[0, 1, 2], [0], [1], [2]]
    assert [len(e.trajectories[0].turns) for e in episodes] == [2, 2, 2]
    assert policy.batches == 0


def test_a_policy_whose_generate_was_replaced_is_asked_through_it() -> None:
    class Careful(OneByOne):
        def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
            return [[Reply(Message("assistant", "careful"))] for _ in super().generate(asks)]

    class Around:
        def __init__(self, policy: OneByOne) -> None:
            self.policy = policy

        def __getattr__(self, name: str) -> Any:
            return getattr(self.policy, name)

        def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
            return [[Reply(Message("assistant", "around"))] for _ in self.policy.generate(asks)]

    patched = OneByOne()
    patched.generate = lambda asks: [[Reply(Message("assistant", "patched"))] for _ in asks]  # type: ignore[method-assign]
    for policy, expected in ((Careful(), "careful"), (patched, "patched"), (Around(OneByOne()), "around")):
        episodes = drive(agent, TASKS, World(lambda task, call: "x"), policy)  # type: ignore[arg-type]
        assert [e.trajectories[0].answer for e in episodes] == [expected] * 3


def test_a_group_is_scored_while_later_ones_are_played() -> None:
    """The last task's call waits until the first group has its score; groups are scored in order all the same."""
    scored = threading.Event()
    order: list[str] = []

    def reward(task: Task, trajectories: Sequence[Any]) -> list[Score]:
        order.append(task.id)
        scored.set()
        return [Score(float(str(t.answer).endswith("True"))) for t in trajectories]

    def act(task: Task, call: Call) -> str:
        return str(scored.wait(20)) if task.id == "t2" else "quick"

    made = groups_of(recipe(agent=agent, reward=reward, num_generations=2), TASKS, World(act), OneByOne())  # type: ignore[arg-type]
    assert order == ["t0", "t1", "t2"]
    assert [[s.value for s in group.scores] for group in made] == [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]


def test_what_the_reward_raises_is_raised() -> None:
    def reward(task: Task, trajectories: Sequence[Any]) -> list[Score]:
        return []

    with pytest.raises(ValueError, match="0 scores for 2 trajectories of 't0'"):
        groups_of(recipe(agent=agent, reward=reward, num_generations=2), TASKS, World(lambda t, c: ""), OneByOne())  # type: ignore[arg-type]


def test_a_tool_that_was_slow_is_not_waited_for_again() -> None:
    gate = threading.Event()

    def slow() -> list[Observation]:
        gate.wait(20)
        return [Observation("late")]

    with ThreadPoolExecutor(4) as pool:
        calls = Calls(pool, patience=0.2)
        calls.start(0, ["slow"], [slow])
        calls.start(1, ["quick"], [lambda: [Observation("now")]])
        assert [(i, seen[0].text) for i, seen in calls.ready()] == [(1, "now")]
        assert calls._slow == {"slow"}
        calls.start(2, ["slow"], [slow])
        assert calls.ready() == []
        gate.set()
        found = calls.next()
        while len(calls):
            found += calls.next()
        assert sorted(i for i, _ in found) == [0, 2]


def test_limits_say_how_long_quick_is() -> None:
    assert Limits().patience == 0.05


class Ledger:
    """A session with one tool that changes state and one that only reads; a first call is slower than a second."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.running, self.together = 0, False
        self.lock = threading.Lock()
        schema = {"type": "object", "properties": {"text": {"type": "string"}}}
        self.tools = (
            Tool("add", "Add an entry.", schema, run=print, effects="write"),
            Tool("look", "Look.", schema, run=print),
        )

    def act(self, call: Call) -> Observation:
        with self.lock:
            self.running += 1
            self.together |= self.running > 1
        if call.arguments["text"] == "first":
            time.sleep(0.2)
        with self.lock:
            self.entries.append(str(call.arguments["text"]))
            self.running -= 1
            return Observation(str(len(self.entries)))

    def fork(self) -> Any:
        return self

    def final(self) -> dict[str, Any]:
        return {"entries": tuple(self.entries), "together": self.together}

    def close(self) -> None: ...


class Ledgers:
    name = "ledgers"

    def start(self, task: Task, seed: int = 0) -> Ledger:
        return Ledger()

    def tasks(self, split: str, count: int, **_: Any) -> list[Task]:
        return TASKS[:count]


def _asyncio(*given: Any) -> Any:
    return asyncio.run(adrive(*given))


@pytest.mark.parametrize(
    ("names", "together"), [(("add", "add"), False), (("look", "add"), False), (("look", "look"), True)]
)
@pytest.mark.parametrize("driver", [drive, _asyncio])
def test_calls_that_may_change_state_run_in_their_order(names: tuple[str, str], together: bool, driver: Any) -> None:
    """The first call is slower, so that side by side the second would end before it; observations keep their places."""

    def agent(task: Task, session: Any) -> Any:
        calls = tuple(Call(name, {"text": text}) for name, text in zip(names, ("first", "second"), strict=True))
        observations = yield from use(*calls)
        return " ".join(observation.text for observation in observations)

    (episode,) = driver(agent, TASKS[:1], Ledgers(), OneByOne())
    (trajectory,) = episode.trajectories
    assert trajectory.final["together"] is together
    assert trajectory.final["entries"] == (("second", "first") if together else ("first", "second"))
    assert trajectory.answer == ("2 1" if together else "1 2")
