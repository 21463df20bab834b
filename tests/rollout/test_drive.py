"""What the drivers do with agents, calls and policies of every kind; each test runs under both drivers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.toys import Bench, Prober, layout, tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask, Use
from ferrule.core.records import Call, Message, Observation, Reply, Task, Tool
from ferrule.policies.scripted import Scripted, nonsense
from ferrule.rollout.drive import Limits, adrive, drive, seed_of
from ferrule.rollout.record import Episode

Driver = Callable[..., list[Episode]]


def under_asyncio(*args: Any, **more: Any) -> list[Episode]:
    return asyncio.run(adrive(*args, **more))


@pytest.fixture(params=[drive, under_asyncio], ids=["batched", "asyncio"])
def driver(request: pytest.FixtureRequest) -> Driver:
    return request.param  # type: ignore[no-any-return]


def says(*texts: str) -> Scripted:
    """A policy that says the texts in order, by the number of assistant messages in the ask."""
    return Scripted(lambda ask, sample: texts[sum(m.role == "assistant" for m in ask.messages)], renderer=layout())


WRITE = '<tool_call>{"name":"write","arguments":{"line":"x"}}</tool_call>'


def one(driver: Driver, agent: Any, policy: Any = None, world: Bench | None = None, **more: Any) -> Episode:
    world = world or Bench()
    (episode,) = driver(agent, world.tasks("train", 1), world, policy or says("yes"), **more)
    return episode


# ------------------------------------------------------------------------------------------------------ whole episodes


def test_a_tool_loop_from_start_to_end(driver: Driver) -> None:
    world = Bench()
    episode = one(driver, ToolLoop(), says(WRITE, "done"), world)
    (path,) = episode.trajectories
    assert (path.answer, path.finish, dict(path.final)) == ("done", "answer", {"lines": ["x"]})
    assert [(c.name, o.text, o.status) for c, o in path.calls] == [("write", "1", "ok")]
    assert not episode.problem
    assert [state.closed for state in world.states] == [1]


def test_samples_of_a_task_come_side_by_side(driver: Driver) -> None:
    world, seen = Bench(), []
    episodes = driver(
        ToolLoop(),
        world.tasks("train", 3),
        world,
        says("yes"),
        num_generations=2,
        done=lambda a, b: seen.append((a, b)),
    )
    assert [(e.task.id[-1], e.sample) for e in episodes] == [(t, s) for t in "012" for s in (0, 1)]
    assert seen == [(i, 6) for i in range(1, 7)]
    assert len({e.seed for e in episodes}) == 6


def test_no_tasks_no_episodes(driver: Driver) -> None:
    assert driver(ToolLoop(), [], Bench(), says("yes")) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_the_number_of_live_episodes_changes_nothing(driver: Driver, limit: int) -> None:
    def run(episodes: int) -> list[Episode]:
        world = Bench()
        return driver(
            Prober(), world.tasks("train", 4), world, nonsense(renderer=layout()), limits=Limits(episodes=episodes)
        )

    assert run(limit) == run(256)


def test_no_more_episodes_live_than_allowed(driver: Driver) -> None:
    world, most = Bench(), [0]

    def agent(task: Task, session: Any) -> Any:
        most[0] = max(most[0], len(world.states) - sum(s.closed for s in world.states))
        yield Ask((Message("user", task.prompt),))
        return "x"

    driver(agent, world.tasks("train", 6), world, says("yes"), limits=Limits(episodes=2))
    assert most == [2]


def test_seeds_depend_on_all_their_parts() -> None:
    assert seed_of(1, "a") == seed_of(1, "a")
    assert len({seed_of(1, "a"), seed_of(2, "a"), seed_of(1, "b"), seed_of("1a"), seed_of(1, "a", 0)}) == 5
    assert 0 <= seed_of("x") < 2**63


def test_the_temperature_of_a_run_fills_asks_without_one(driver: Driver) -> None:
    heats: list[float | None] = []

    def speak(request: Ask, sample: int) -> str:
        heats.append(request.temperature)
        return "x"

    def agent(task: Task, session: Any) -> Any:
        yield Ask((Message("user", "a"),))
        yield Ask((Message("user", "b"),), temperature=0.0)
        return "x"

    one(driver, agent, Scripted(speak, renderer=layout()), temperature=0.7)
    assert heats == [0.7, 0.0]


# -------------------------------------------------------------------------------------------------------------- rounds


def test_the_calls_of_a_round_run_at_the_same_time(driver: Driver) -> None:
    """Four calls of two episodes wait for each other: one after the other they would never meet."""
    meet = threading.Barrier(4, timeout=20)
    schema = {"type": "object", "properties": {}}
    world = Bench((Tool("meet", "", schema, run=lambda: f"met {meet.wait() >= 0}", seconds=30),))

    def agent(task: Task, session: Any) -> Any:
        yield Ask((Message("user", "x"),))
        seen = yield Use((Call("meet", id="call_0"), Call("meet", id="call_1")))
        return " ".join(o.text for o in seen)

    episodes = driver(agent, world.tasks("train", 2), world, says("yes"), limits=Limits(calls=4))
    assert [e.trajectories[0].answer for e in episodes] == ["met True met True"] * 2


def test_no_more_calls_at_once_than_allowed(driver: Driver) -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def run() -> str:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.01)
        with lock:
            now[0] -= 1
        return "x"

    world = Bench((Tool("t", "", {"type": "object", "properties": {}}, run=run),), calls=100)

    def agent(task: Task, session: Any) -> Any:
        yield Use(tuple(Call("t", id=f"call_{i}") for i in range(6)))
        return "x"

    driver(agent, world.tasks("train", 2), world, says("yes"), limits=Limits(calls=2))
    assert most[0] <= 2


def test_live_episodes_are_asked_in_one_batch(driver: Driver) -> None:
    """Three episodes of two turns each: two batches of three."""
    sizes: list[int] = []

    class Counting(Scripted):
        def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
            sizes.append(len(asks))
            return super().generate(asks)

    world = Bench()
    policy = Counting(lambda ask, s: WRITE if len(ask.messages) == 1 else "done", renderer=layout())
    driver(ToolLoop(), world.tasks("train", 3), world, policy)
    assert sizes == [3, 3]


def test_an_async_policy_is_asked_as_episodes_get_there() -> None:
    class Async(Scripted):
        asked = 0

        async def agenerate(self, request: Ask) -> list[Reply]:
            self.asked += 1
            await asyncio.sleep(0)
            return self.generate([request])[0]

    world = Bench()
    policy = Async(lambda ask, s: WRITE if len(ask.messages) == 1 else "done", renderer=layout())
    episodes = under_asyncio(ToolLoop(), world.tasks("train", 3), world, policy)
    assert policy.asked == 6
    assert episodes == drive(ToolLoop(), world.tasks("train", 3), world, Scripted(policy._script, renderer=layout()))


def test_several_samples_of_one_ask(driver: Driver) -> None:
    def agent(task: Task, session: Any) -> Any:
        replies = yield Ask((Message("user", task.prompt),), n=3)
        return "+".join(str(r.message.content) for r in replies)

    policy = Scripted(lambda ask, sample: f"s{sample}", renderer=layout())
    episode = one(driver, agent, policy)
    assert [t.answer for t in episode.trajectories] == ["s0+s1+s2", None, None]
    assert [[t.id for t in p.turns] for p in episode.trajectories] == [[2], [1], [0]]


def panel(task: Task, session: Any) -> Any:
    """A solver answers, two judges look at it, the solver goes on."""
    user = Message("user", task.prompt)
    (first,) = yield Ask((user,), max_tokens=6)
    votes = yield Ask((Message("user", f"right? {first.message.content}"),), n=2, role="judge", max_tokens=6)
    text = ", ".join(str(v.message.content) for v in votes)
    (last,) = yield Ask((user, first.message, Message("user", text)), max_tokens=6)
    return str(last.message.content)


def test_roles_are_played_by_their_policies(driver: Driver) -> None:
    policies = {"solver": says("a", "b"), "judge": Scripted(lambda ask, s: f"vote {s}", renderer=layout())}
    episode = one(driver, panel, policies)
    assert [(t.role, t.answer) for t in episode.trajectories] == [("solver", "b"), ("judge", None), ("judge", None)]
    assert [t.reply.content for t in episode.trajectories[0].turns] == ["a", "b"]


def test_a_role_without_a_policy_is_named(driver: Driver) -> None:
    world = Bench()
    with pytest.raises(KeyError, match="no policy for role 'judge'"):
        driver(panel, world.tasks("train", 1), world, {"solver": says("a", "b"), "jury": says("c")})
    assert [s.closed for s in world.states] == [1]


@pytest.mark.parametrize("limit", [2, 256])
def test_mixed_roles_leave_equal_records_under_both_drivers(limit: int) -> None:
    def run(driver: Driver) -> list[Episode]:
        world = Bench()
        policies = {"solver": tiny_policy(1), "judge": nonsense(3, renderer=layout())}
        return driver(
            panel, world.tasks("train", 3), world, policies, num_generations=2, seed=5, limits=Limits(episodes=limit)
        )

    assert run(drive) == run(under_asyncio)


# ------------------------------------------------------------------------------------------------------- wrong agents


def raising(task: Task, session: Any) -> Any:
    yield Ask((Message("user", "x"),))
    raise RuntimeError("agent trouble")


def raising_at_once(task: Task, session: Any) -> Any:
    if task.id:
        raise RuntimeError("agent trouble")
    yield


def yielding_junk(task: Task, session: Any) -> Any:
    yield Ask((Message("user", "x"),))
    yield "junk"


def yielding_nothing(task: Task, session: Any) -> Any:
    yield


def no_generator(task: Task, session: Any) -> Any:
    return "an answer at once"


def raising_when_called(task: Task, session: Any) -> Any:
    raise RuntimeError("agent trouble")


def refusing_to_end(task: Task, session: Any) -> Iterator[Any]:
    try:
        yield "junk"
    finally:
        raise RuntimeError("not even closing works")


WRONG = {
    "agent raised RuntimeError: agent trouble": (raising, raising_at_once, raising_when_called),
    "agent yielded str": (yielding_junk, refusing_to_end),
    "agent yielded NoneType": (yielding_nothing,),
    "agent returned str": (no_generator,),
}


@pytest.mark.parametrize(("says_", "agent"), [(k, a) for k, agents in WRONG.items() for a in agents])
def test_a_wrong_agent_ends_as_data(driver: Driver, says_: str, agent: Any) -> None:
    world = Bench()
    episode = one(driver, agent, world=world)
    assert episode.problem.startswith(says_)
    assert episode.trajectories[0].finish == "error"
    assert episode.trajectories[0].answer is None
    assert episode.trajectories[0].problem == episode.problem
    assert [s.closed for s in world.states] == [1]


def test_one_wrong_agent_does_not_disturb_the_others(driver: Driver) -> None:
    def agent(task: Task, session: Any) -> Any:
        yield Ask((Message("user", "x"),))
        if task.id.endswith("1"):
            raise RuntimeError("agent trouble")
        return "fine"

    world = Bench()
    episodes = driver(agent, world.tasks("train", 3), world, says("yes"))
    assert [e.trajectories[0].answer for e in episodes] == ["fine", None, "fine"]
    assert [bool(e.problem) for e in episodes] == [False, True, False]


def asking_for_ever(task: Task, session: Any) -> Any:
    messages = [Message("user", "x")]
    while True:
        (reply,) = yield Ask(tuple(messages))
        messages += [reply.message, Message("user", "again")]


def asking_for_nothing(task: Task, session: Any) -> Any:
    while True:
        yield Ask((Message("user", "x"),), n=0)


def using_for_ever(task: Task, session: Any) -> Any:
    while True:
        yield Use((Call("write", {"line": "x"}),))


def using_nothing(task: Task, session: Any) -> Any:
    while True:
        yield Use(())


@pytest.mark.timeout(60)
@pytest.mark.parametrize("agent", [asking_for_ever, asking_for_nothing, using_for_ever, using_nothing])
def test_an_agent_that_never_ends_is_ended(driver: Driver, agent: Any) -> None:
    world = Bench()
    episode = one(driver, agent, Scripted(lambda ask, s: "x", renderer=layout()), world, limits=Limits(turns=5))
    assert "more than 5" in episode.problem
    assert episode.trajectories[0].finish == "turns"
    assert len(episode.trajectories[0].turns) <= 6
    assert [s.closed for s in world.states] == [1]


# ------------------------------------------------------------------------------------- wrong worlds, tools and policies


@dataclass
class BadSession:
    """A session whose methods fail as told."""

    acts: Any = None
    ends: Any = None
    closes: Any = None
    tools: tuple[Tool, ...] = ()
    closed: int = 0

    def act(self, call: Call) -> Any:
        return self.acts() if callable(self.acts) else self.acts

    def fork(self) -> Any:
        return replace(self)

    def final(self) -> Any:
        return self.ends() if callable(self.ends) else (self.ends or {})

    def close(self) -> None:
        self.closed += 1
        if self.closes:
            self.closes()


@dataclass
class BadWorld:
    session: BadSession
    name: str = "bad"

    def tasks(self, split: str, count: int, **_: Any) -> list[Task]:
        return [Task("t", "p")]

    def start(self, task: Task, seed: int = 0) -> Any:
        return self.session


def crash(kind: type[BaseException] = RuntimeError) -> Callable[[], Any]:
    def run() -> Any:
        raise kind("world trouble")

    return run


def calling(task: Task, session: Any) -> Any:
    yield Ask((Message("user", "x"),))
    (seen,) = yield Use((Call("a", id="call_0"),))
    return f"{seen.status}: {seen.text}"


@pytest.mark.parametrize(
    ("acts", "answer"),
    [
        (crash(), "error: RuntimeError: world trouble"),
        (crash(SystemExit), "error: SystemExit: world trouble"),
        (crash(MemoryError), "error: MemoryError: world trouble"),
        ("a text", "error: the session answered with str, not Observation"),
        (None, "error: the session answered with NoneType, not Observation"),
    ],
)
def test_whatever_a_session_does_is_an_observation(driver: Driver, acts: Any, answer: str) -> None:
    world = BadWorld(BadSession(acts))
    (episode,) = driver(calling, world.tasks("train", 1), world, says("yes"))
    assert episode.trajectories[0].answer == answer
    assert world.session.closed == 1


@pytest.mark.parametrize("ends", [crash(), "no mapping"])
def test_a_final_state_that_cannot_be_read_is_a_problem_of_the_episode(driver: Driver, ends: Any) -> None:
    world = BadWorld(BadSession(Observation("x"), ends))
    (episode,) = driver(calling, world.tasks("train", 1), world, says("yes"))
    assert "session.final" in episode.problem
    assert dict(episode.trajectories[0].final) == {}
    assert world.session.closed == 1


def test_a_session_that_cannot_be_closed_is_a_problem_of_the_episode(driver: Driver) -> None:
    world = BadWorld(BadSession(Observation("x"), closes=crash()))
    (episode,) = driver(calling, world.tasks("train", 1), world, says("yes"))
    assert "session.close raised RuntimeError" in episode.problem
    assert episode.trajectories[0].answer == "ok: x"


class Failing(Scripted):
    """Fails at its second batch."""

    batches = 0

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        self.batches += 1
        if self.batches == 2:
            raise ConnectionError("policy trouble")
        return super().generate(asks)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("limit", [1, 2, 256])
def test_a_policy_that_raises_ends_the_run_and_closes_every_session(driver: Driver, limit: int) -> None:
    world = Bench()
    policy = Failing(lambda ask, s: WRITE if len(ask.messages) == 1 else "done", renderer=layout())
    with pytest.raises(ConnectionError, match="policy trouble"):
        driver(ToolLoop(), world.tasks("train", 4), world, policy, limits=Limits(episodes=limit))
    assert world.states
    assert all(state.closed for state in world.states)


@pytest.mark.timeout(60)
def test_a_world_that_cannot_start_ends_the_run_and_closes_every_session(driver: Driver) -> None:
    @dataclass(frozen=True)
    class Half(Bench):
        def start(self, task: Task, seed: int = 0) -> Any:
            if task.id.endswith("2"):
                raise OSError("no such world")
            return super().start(task, seed)

    world = Half()
    with pytest.raises(OSError, match="no such world"):
        driver(ToolLoop(), world.tasks("train", 4), world, says("yes"))
    assert all(state.closed for state in world.states)


@pytest.mark.timeout(60)
def test_an_async_policy_that_raises_closes_every_session_before_the_error_is_seen() -> None:
    class Async(Scripted):
        async def agenerate(self, request: Ask) -> list[Reply]:
            if request.messages[0].content == "task 1":
                raise ConnectionError("policy trouble")
            await asyncio.sleep(3600)
            return []

    world = Bench()

    async def run() -> None:
        with pytest.raises(ConnectionError):
            await adrive(ToolLoop(), world.tasks("train", 3), world, Async(["x"]))
        assert [state.closed for state in world.states] == [1, 1, 1]
        assert len(asyncio.all_tasks()) == 1  # nothing is left running in the caller's loop

    asyncio.run(run())


def test_too_few_replies_are_the_policys_fault(driver: Driver) -> None:
    class Few(Scripted):
        def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
            return [replies[:-1] for replies in super().generate(asks)]

    world = Bench()
    with pytest.raises(ValueError, match="1 replies to an ask for 2"):
        driver(Prober(n=2), world.tasks("train", 1), world, Few(lambda ask, s: "x", renderer=layout()))
    assert [s.closed for s in world.states] == [1]


def test_a_policy_that_makes_ids_again_from_text_is_found_out(driver: Driver) -> None:
    class Again(Scripted):
        def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
            return super().generate([replace(ask, context=(), fresh=0) for ask in asks])

    world = Bench()
    (episode,) = driver(ToolLoop(), world.tasks("train", 1), world, Again(
        lambda ask, s: f" {WRITE}" if len(ask.messages) == 1 else "done", renderer=layout()
    ))  # fmt: skip
    assert episode.drifted
    assert episode.trajectories[0].finish == "drift"
    assert [s.closed for s in world.states] == [1]


# ----------------------------------------------------------------------------------------------------- the tool loop


def test_the_tool_loop_gives_up_after_its_turns(driver: Driver) -> None:
    episode = one(driver, ToolLoop(turns=2), says(WRITE, WRITE, "late"))
    assert (episode.trajectories[0].answer, episode.trajectories[0].finish) == (None, "turns")
    assert len(episode.trajectories[0].turns) == 2


def test_a_reply_that_is_cut_off_is_no_answer(driver: Driver) -> None:
    episode = one(driver, ToolLoop(max_tokens=3), says("a long answer"))
    assert (episode.trajectories[0].answer, episode.trajectories[0].finish) == (None, "length")


def test_a_terminal_tool_ends_the_episode_with_its_text(driver: Driver) -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    world = Bench((Tool("finish", "", schema, run=lambda text: f"<{text}>", terminal=True),))
    good = '<tool_call>{"name":"finish","arguments":{"text":"42"}}</tool_call>'
    bad = '<tool_call>{"name":"finish","arguments":{}}</tool_call>'
    assert one(driver, ToolLoop(), says(good, "late"), world).trajectories[0].answer == "<42>"
    # Arguments that do not fit did not end anything: the model may try again.
    path = one(driver, ToolLoop(), says(bad, good, "late"), world).trajectories[0]
    assert path.answer == "<42>"
    assert [o.status for _, o in path.calls] == ["malformed", "ok"]
