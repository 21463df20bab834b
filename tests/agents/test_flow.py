"""What agents have in common: openings, answers, acting, and bodies that run side by side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.branching import Fanout, two_calls
from tests.rollout.test_replay import record, replay
from tests.toys import Bench, layout

from ferrule.agents.flow import acted, answered, cut_off, ended, opening, prefixed, results, together
from ferrule.core.flows import Ask, Flow, Leaf, Leaves, Session, Use, ask, use
from ferrule.core.records import Call, Image, Message, Observation, Reply, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted, nonsense
from ferrule.rollout.drive import adrive, drive
from ferrule.rollout.record import Episode


def driven(agent: Any, policy: Any, world: Any = None) -> Episode:
    """Play one episode under both drivers, which must leave the same record."""
    made = []
    for asynchronous in (False, True):
        own = world() if world else Bench()
        tasks = own.tasks("train", 1)
        played = (
            asyncio.run(adrive(agent, tasks, own, policy())) if asynchronous else drive(agent, tasks, own, policy())
        )
        made += played
    assert made[0] == made[1]
    return made[0]


def echo() -> Scripted:
    return Scripted(lambda request, sample: f"{plain_text(request.messages[-1])}!")


def talk(word: str, rounds: int, session: Session | None = None) -> Flow[str]:
    """Say ``word`` and go on with what comes back, ``rounds`` times; with a session every reply is written down."""
    said = word
    for _ in range(rounds):
        (reply,) = yield from ask(Ask((Message("user", said),)))
        said = plain_text(reply.message)
        if session is not None:
            yield from use(Call("write", {"line": said}, id="c"), session=session)
    return said


def test_openings() -> None:
    task, example = Task("t", "What?"), Message("assistant", "so")
    assert opening(task) == [Message("user", "What?")]
    assert opening(task, "Be brief.", (example,)) == [Message("system", "Be brief."), example, Message("user", "What?")]


@pytest.mark.parametrize(("finish", "answer"), [("stop", "4"), ("answer", "4"), ("length", None), ("cancelled", None)])
def test_answers(finish: Any, answer: str | None) -> None:
    reply = Reply(Message("assistant", " 4 "), finish=finish)
    assert answered(reply) == answer
    assert cut_off(reply) == (answer is None)
    assert answered(reply, lambda message: "read") == (None if answer is None else "read")
    assert answered(Reply(Message("assistant", "4", (Call("f"),)))) is None


def test_results_name_their_calls_and_the_first_terminal_one_is_the_answer() -> None:
    calls = (Call("f", id="a"), Call("g", id="b"), Call("h", id="c"))
    seen = (Observation("x"), Observation("", terminal=True), Observation("z", terminal=True))
    assert results(calls[:1], seen[:1], str.upper) == [Message("tool", "X", name="f", call_id="a")]
    assert [(m.name, m.call_id) for m in results(calls, seen)] == [("f", "a"), ("g", "b"), ("h", "c")]
    assert ended(seen) == ""
    assert ended(seen[:1]) is None


def test_acting_runs_in_the_branch_and_shows_what_it_is_told_to() -> None:
    def agent(task: Task, session: Session) -> Flow[str]:
        branch, messages = session.fork(), opening(task)
        (reply,) = yield from ask(Ask(tuple(messages)))
        answer = yield from acted(messages, reply.message, session=branch, show=lambda text: f"({text})")
        assert answer is None
        lines = branch.final()["lines"]
        branch.close()
        return f"{messages[-1].content} {lines} {session.final()['lines']}"

    call = Message("assistant", "", (Call("write", {"line": "a"}),))
    episode = driven(agent, lambda: Scripted([call]))
    assert episode.trajectories[0].answer == "(1) ['a'] []"


def test_a_tuple_is_answered_in_its_order() -> None:
    def agent(task: Task, session: Session) -> Flow[str]:
        first, seen, second = yield (
            Ask((Message("user", "a"),)),
            Use((Call("write", {"line": "x"}, id="c"),)),
            Ask((Message("user", "b"),), n=2),
        )
        return "/".join([plain_text(first[0].message), seen[0].text, *(plain_text(r.message) for r in second)])

    assert driven(agent, echo).trajectories[0].answer == "a!/1/b!/b!"


def test_each_flow_goes_at_its_own_pace_and_returns_in_its_place() -> None:
    """Flows of 3, 1 and 2 replies, of which the second acts after each.

    Round 1 is all asks; in round 2 the call of the second goes with the asks of the others. It ends then, so that the
    asks of the rounds are 3, 2, 1.
    """
    batches: list[int] = []

    class Batches(Scripted):
        def generate(self, asks: Any) -> Any:
            batches.append(len(asks))
            return super().generate(asks)

    def agent(task: Task, session: Session) -> Flow[str]:
        said = yield from together(talk("a", 3), talk("b", 1, session), talk("c", 2))
        return f"{' '.join(said)} {session.final()['lines']}"

    def policy() -> Batches:
        return Batches(lambda request, sample: f"{plain_text(request.messages[-1])}!")

    episode = driven(agent, policy)
    assert episode.trajectories[0].answer == "a!!! b! c!! ['b!']"
    assert batches == [3, 2, 1] * 2


def test_flows_may_be_side_by_side_themselves() -> None:
    def pair(first: str, second: str) -> Flow[str]:
        return "+".join((yield from together(talk(first, 1), talk(second, 2))))

    def agent(task: Task, session: Session) -> Flow[str]:
        return " ".join((yield from together(pair("a", "b"), pair("c", "d"), talk("e", 1))))

    assert driven(agent, echo).trajectories[0].answer == "a!+b!! c!+d!! e!"


def test_without_flows_nothing_is_waited_for() -> None:
    def agent(task: Task, session: Session) -> Flow[str]:
        assert (yield from together()) == ()
        return "done"

    assert driven(agent, echo).trajectories[0].answer == "done"


def test_an_exception_closes_the_other_flows_and_is_raised() -> None:
    closed: list[str] = []

    def waits(name: str) -> Flow[None]:
        try:
            yield from talk(name, 9)
        finally:
            closed.append(name)

    def breaks() -> Flow[None]:
        yield from talk("x", 1)
        raise ZeroDivisionError("broken")

    def agent(task: Task, session: Session) -> Flow[str]:
        yield from together(waits("a"), breaks(), waits("b"))
        return "never"

    episode = driven(agent, echo)
    assert episode.problem == "agent raised ZeroDivisionError: broken"
    assert sorted(closed) == ["a", "a", "b", "b"]


def test_an_exception_may_be_caught_around_the_flows() -> None:
    def breaks() -> Flow[str]:
        yield from talk("x", 1)
        raise ZeroDivisionError("broken")

    def agent(task: Task, session: Session) -> Flow[str]:
        try:
            yield from together(talk("a", 5), breaks())
        except ZeroDivisionError as error:
            said = yield from talk("b", 1)
            return f"{error} {said}"
        return "never"

    assert driven(agent, echo).trajectories[0].answer == "broken b!"


def test_flows_that_open_alike_are_siblings_and_go_on_from_the_same_turn() -> None:
    """Turn 0 opens; two flows go on from it (1, 2) and each once more (3, 4): neither comes before the other."""

    def more(messages: tuple[Message, ...]) -> Flow[Leaf]:
        for _ in range(2):
            messages = (*messages, Message("user", "more"))
            (reply,) = yield from ask(Ask(messages))
            messages = (*messages, reply.message)
        return Leaf(reply.message, "x")

    def agent(task: Task, session: Session) -> Flow[Leaves]:
        first = tuple(opening(task))
        (reply,) = yield from ask(Ask(first))
        return Leaves((yield from together(*(more((*first, reply.message)) for _ in range(2)))))

    episode = driven(agent, lambda: Scripted(echo()._script, renderer=layout()))
    assert [[turn.id for turn in path.turns] for path in episode.trajectories] == [[0, 1, 3], [0, 2, 4]]
    assert not episode.drifted


def test_two_openings_at_once_stand_beside_each_other() -> None:
    """Asks of one tuple that extend nothing are branches, though one is written down before the other."""

    def agent(task: Task, session: Session) -> Flow[str]:
        yield (Ask((Message("user", "a"),)), Ask((Message("user", "b"),)))
        return "done"

    episode = driven(agent, echo)
    assert [[turn.id for turn in path.turns] for path in episode.trajectories] == [[1], [0]]


def test_seeds_count_on_through_a_tuple() -> None:
    """Two asks in a tuple have the seeds of two asks one after the other."""
    seeds: list[list[int]] = []

    def watch(request: Ask, sample: int) -> str:
        seeds[-1].append(request.seed)
        return "x"

    def asks(at_once: bool) -> Any:
        def agent(task: Task, session: Session) -> Flow[str]:
            requests = tuple(Ask((Message("user", word),)) for word in "ab")
            if at_once:
                yield requests
            else:
                for request in requests:
                    yield from ask(request)
            return "done"

        return agent

    for at_once in (True, False):
        seeds.append([])
        world = Bench()
        drive(asks(at_once), world.tasks("train", 1), world, Scripted(watch))
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 2


def test_calls_of_a_tuple_run_at_the_same_time() -> None:
    """Two calls that wait for each other end only when both run."""
    both = threading.Barrier(2, timeout=20)

    def meet() -> str:
        both.wait()
        return "met"

    schema = {"type": "object", "properties": {}}
    call = Call("meet", id="c")

    def agent(task: Task, session: Session) -> Flow[str]:
        back = yield (Use((call,)), Use((call,)))
        return " ".join(seen.text for (seen,) in back)

    def world() -> Bench:
        return Bench(more=(Tool("meet", "wait for the other", schema, run=meet),))

    assert driven(agent, echo, world).trajectories[0].answer == "met met"


def test_rounds_of_tuples_without_an_ask_are_limited() -> None:
    def agent(task: Task, session: Session) -> Flow[str]:
        while True:
            yield (Use(()), Use(()))

    episode = driven(agent, echo)
    assert episode.problem == "more than 64 rounds of tool calls without a model turn"


def test_branches_that_a_failing_run_leaves_behind_are_closed() -> None:
    world = Bench()
    with pytest.raises(IndexError):
        drive(Fanout(), world.tasks("train", 1), world, Scripted(["one", "two"]))
    assert all(state.closed for state in world.states)


@pytest.mark.parametrize("again", [drive, lambda *args, **more: asyncio.run(adrive(*args, **more))])
def test_a_recording_is_played_again(again: Any, tmp_path: Path) -> None:
    """The tape is recorded by one driver and played by either; the worlds, calls and replies are all on it."""
    first = record(
        tmp_path / "tape", drive, Fanout(), Bench(), nonsense(2, renderer=layout()), num_generations=2, seed=3
    )
    assert first == replay(tmp_path / "tape", again, Fanout(), Bench(), num_generations=2, seed=3)
    assert all(len(episode.trajectories) >= 3 for episode in first)


def test_roles_of_one_tuple_are_answered_by_their_own_policies() -> None:
    def agent(task: Task, session: Session) -> Flow[str]:
        back = yield (Ask((Message("user", "a"),)), Ask((Message("user", "a"),), role="judge"))
        return "/".join(plain_text(reply.message) for (reply,) in back)

    def policies() -> dict[str, Any]:
        return {"solver": Scripted(["mine"]), "judge": Scripted(["yours"])}

    assert driven(agent, policies).trajectories[0].answer == "mine/yours"


def test_an_endpoint_and_a_batched_policy_in_one_tuple() -> None:
    """Under asyncio one of the two is asked alone and the other gathered: neither waits for ever."""

    class Alone(Scripted):
        async def agenerate(self, request: Ask) -> list[Reply]:
            await asyncio.sleep(0.01)
            return self.generate([request])[0]

    def agent(task: Task, session: Session) -> Flow[str]:
        back = yield (Ask((Message("user", "a"),)), Ask((Message("user", "a"),), role="judge"), Use(two_calls(session)))
        return "/".join([plain_text(back[0][0].message), plain_text(back[1][0].message), back[2][0].text])

    def policies() -> dict[str, Any]:
        return {"solver": Alone(["mine"] * 3), "judge": Scripted(["yours"] * 3)}

    def three() -> Iterator[Episode]:
        world = Bench()
        yield from asyncio.run(adrive(agent, world.tasks("train", 3), world, policies()))

    assert [episode.trajectories[0].answer for episode in three()] == ["mine/yours/1"] * 3


def test_a_text_goes_before_the_last_question_of_a_conversation() -> None:
    asked = (Message("user", "a"), Message("assistant", "b"), Message("user", (Image("ring.png"), "c")))
    assert prefixed(asked, "Rules.\n") == [*asked[:2], Message("user", ("Rules.\n", Image("ring.png"), "c"))]
    assert prefixed(asked[:1], "Rules.\n") == [Message("user", "Rules.\na")]


def test_a_task_of_messages_opens_with_all_of_them() -> None:
    asked = (Message("system", "own"), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    task = Task("t", "c", messages=asked)
    assert opening(task) == list(asked)
    shown = [Message("user", "x"), Message("assistant", "y")]
    assert opening(task, "Rules.", shown) == [Message("system", "Rules.\n\nown"), *shown, *asked[1:]]
    assert opening(replace(task, messages=asked[1:]), "Rules.") == [Message("system", "Rules."), *asked[1:]]
