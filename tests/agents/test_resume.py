"""Going on from the middle of an episode: context, restored world, a reply begun again, and what is trained."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from tests.toys import Bench, layout, tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.agents.resume import Prefix, Resume, prefix_of, resumed
from ferrule.core.arrays import pack
from ferrule.core.records import (
    Ask,
    Call,
    Flow,
    Message,
    Observation,
    Score,
    Session,
    Task,
    Trajectory,
    Turn,
    ask,
    plain_text,
    use,
)
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import adrive, drive
from ferrule.rollout.record import dump, parse
from ferrule.tools.tool import tool
from ferrule.worlds.arithmetic import Arithmetic


def line(text: str, said: str = "") -> Message:
    return Message("assistant", said, (Call("write", {"line": text}),))


def three_lines(request: Ask, sample: int) -> Message:
    """Write a, b and c, one a turn, and then answer."""
    done = sum(m.role == "assistant" for m in request.messages)
    return line("abc"[done], f"step {done}") if done < 3 else Message("assistant", "yes")


def recorded(world: Bench, agent: Any = None) -> tuple[Task, Trajectory, int]:
    task = world.tasks("train", 1)[0]
    (episode,) = drive(agent or ToolLoop(system="Be brief."), [task], world, Scripted(three_lines))
    return task, episode.trajectories[0], episode.seed


def test_the_prefix_is_what_the_reply_answered() -> None:
    world = Bench()
    _, whole, _ = recorded(world)
    seen: list[tuple[Message, ...]] = []

    def watch(request: Ask, sample: int) -> Message:
        seen.append(request.messages)
        return three_lines(request, sample)

    drive(ToolLoop(system="Be brief."), world.tasks("train", 1), world, Scripted(watch))
    assert [prefix_of(whole, k).messages for k in range(4)] == seen
    assert [len(prefix_of(whole, k).calls) for k in range(4)] == [0, 1, 2, 3]
    assert prefix_of(whole, 2, prefill="step").prefill == "step"


@pytest.mark.parametrize("turn", [-1, 4])
def test_a_turn_that_does_not_exist_is_named(turn: int) -> None:
    _, whole, _ = recorded(Bench())
    with pytest.raises(ValueError, match=f"turn {turn} does not exist; the trajectory has 4"):
        prefix_of(whole, turn)


def test_the_world_stands_where_it_stood() -> None:
    world = Bench(calls=4)
    task, whole, seed = recorded(world)
    again = resumed(task, prefix_of(whole, 2), label="again", world_seed=seed)
    (episode,) = drive(Resume(rounds=1), [again], world, Scripted(lambda a, s: line("d")))
    assert episode.trajectories[0].final == {"lines": ["a", "b", "d"]}
    assert episode.trajectories[0].answer is None
    assert [o.text for _, o in episode.trajectories[0].calls] == ["3"]
    # Two calls of the budget of four were made again: two are left, and the third is refused.
    busy = Resume(rounds=9)
    (episode,) = drive(busy, [again], world, Scripted(lambda a, s: line("d")))
    assert [o.status for _, o in episode.trajectories[0].calls][:3] == ["ok", "ok", "refused"]


def test_the_record_holds_the_new_turns_only() -> None:
    world = Bench()
    task, whole, _ = recorded(world)
    again = resumed(task, prefix_of(whole, 2, prefill="step "), label="again")
    policy = Scripted(lambda a, s: "2 anew", renderer=layout())
    (episode,) = drive(Resume(), [again], world, policy)
    (path,) = episode.trajectories
    assert len(path.turns) == 1
    assert path.answer == plain_text(path.turns[0].reply) == "step 2 anew"
    packed = pack([path], [Score(1.0)], [0])
    own = packed.ids_NT[0][packed.turn_NT[0] >= 0].tolist()
    assert bytes(own[:-1]).decode() == "2 anew"  # neither the prefix nor the beginning of the reply is trained


def test_several_rounds_go_on_like_the_tool_loop() -> None:
    world = Bench()
    task, whole, seed = recorded(world)
    again = resumed(task, prefix_of(whole, 1), label="again", world_seed=seed)
    (episode,) = drive(Resume(rounds=5), [again], world, Scripted(three_lines))
    (path,) = episode.trajectories
    assert (path.answer, path.finish) == ("yes", "answer")
    assert path.final == whole.final == {"lines": ["a", "b", "c"]}


def test_without_a_prefix_it_starts_at_the_prompt() -> None:
    world = Bench()
    (episode,) = drive(Resume(rounds=4), world.tasks("train", 1), world, Scripted(three_lines))
    assert episode.trajectories[0].final == {"lines": ["a", "b", "c"]}
    assert episode.trajectories[0].turns[0].messages == (Message("user", "task 0"),)


def test_a_cut_off_reply_has_no_answer_and_answers_may_be_read() -> None:
    world = Bench()
    tasks = world.tasks("train", 1)
    (cut,) = drive(Resume(max_tokens=3), tasks, world, Scripted(lambda a, s: "too long", renderer=layout()))
    assert (cut.trajectories[0].answer, cut.trajectories[0].finish) == (None, "length")
    upper = Resume(answer=lambda message: plain_text(message).upper())
    (episode,) = drive(upper, tasks, world, Scripted(lambda a, s: "yes"))
    assert episode.trajectories[0].answer == "YES"


def test_a_terminal_call_ends_a_continuation() -> None:
    @tool(terminal=True)
    def submit(answer: str) -> str:
        """Hand an answer in."""
        return answer

    world = Bench(more=(submit,))
    ends = Message("assistant", "", (Call("submit", {"answer": "done"}),))
    (episode,) = drive(Resume(rounds=3), world.tasks("train", 1), world, Scripted(lambda a, s: ends))
    assert episode.trajectories[0].answer == "done"


def test_labels_set_episodes_apart_and_the_world_seed_does_not_move() -> None:
    world = Bench()
    task, whole, seed = recorded(world)
    prefix = prefix_of(whole, 1)
    tasks = [resumed(task, prefix, label=name, world_seed=seed) for name in ("a", "b")]
    assert {t.id for t in tasks} == {task.id}
    episodes = drive(Resume(), tasks, world, Scripted(three_lines), samples=3)
    assert len({e.seed for e in episodes}) == 6


def test_a_refused_call_is_not_made_again() -> None:
    """An agent that passes over the first call of a reply leaves it refused: it never ran."""

    def second_only(task: Task, session: Session) -> Flow[str]:
        messages: list[Message] = [Message("user", task.prompt)]
        (reply,) = yield from ask(Ask(tuple(messages), tools=session.tools))
        (seen,) = yield from use(reply.message.calls[1])
        messages += [reply.message, Message("tool", seen.text, name="write")]
        (last,) = yield from ask(Ask(tuple(messages), tools=session.tools))
        return plain_text(last.message)

    world = Bench()
    both = Message("assistant", "", (Call("write", {"line": "no"}), Call("write", {"line": "yes"})))
    task = world.tasks("train", 1)[0]
    (episode,) = drive(second_only, [task], world, Scripted([both, Message("assistant", "end")]))
    whole = episode.trajectories[0]
    assert [o.status for _, o in whole.calls] == ["refused", "ok"]
    again = resumed(task, prefix_of(whole, 1), label="again")
    (episode,) = drive(Resume(), [again], world, Scripted(lambda a, s: line("new")))
    assert episode.trajectories[0].final == {"lines": ["yes", "new"]}


def test_a_rewritten_context_is_the_one_that_is_gone_on_with() -> None:
    """A turn that starts a new segment was shown its own messages only; the calls before still made the world."""

    def folding(task: Task, session: Session) -> Flow[str]:
        first = (Message("user", task.prompt),)
        (reply,) = yield from ask(Ask(first, tools=session.tools))
        yield from use(*reply.message.calls)
        folded = (Message("user", "summary: a is written"),)
        (reply,) = yield from ask(Ask(folded, tools=session.tools))
        yield from use(*reply.message.calls)
        (reply,) = yield from ask(Ask((*folded, reply.message, Message("user", "on")), tools=session.tools))
        return plain_text(reply.message)

    world = Bench()
    script = [line("a"), line("b"), Message("assistant", "end")]
    task = world.tasks("train", 1)[0]
    (episode,) = drive(folding, [task], world, Scripted(script))
    whole = episode.trajectories[0]
    assert prefix_of(whole, 1).messages == (Message("user", "summary: a is written"),)
    last = prefix_of(whole, 2)
    assert [plain_text(m) for m in last.messages] == ["summary: a is written", "", "on"]
    assert len(last.calls) == 2


def test_branches_of_a_tree_keep_their_own_path() -> None:
    turns = tuple(
        Turn(i, parent, (), (), (), Message("assistant", f"r{i}"), messages=(Message("user", f"m{i}"),),
             observations=(Observation("x"),))
        for i, parent in ((0, None), (3, 0), (7, 3))
    )  # fmt: skip
    prefix = prefix_of(Trajectory(Task("t", "p"), turns), 2)
    assert [plain_text(m) for m in prefix.messages] == ["m0", "r0", "m3", "r3", "m7"]


@pytest.mark.usefixtures("one_thread")
def test_both_drivers_leave_equal_records() -> None:
    world = Arithmetic(tools=("calculator",))
    task = world.tasks("train", 1)[0]
    call = Message("assistant", "so", (Call("calculator", {"expression": "1 + 1"}, id="call_0"),))
    prefix = Prefix((Message("user", task.prompt), call, Message("tool", "2", name="calculator", call_id="call_0")),
                    ((call.calls[0],),), "now")  # fmt: skip
    tasks = [resumed(task, prefix, label=str(i), world_seed=5) for i in range(2)]
    agent = Resume(rounds=2, max_tokens=8)
    batched = drive(agent, tasks, world, tiny_policy(), samples=2, seed=3)
    assert batched == asyncio.run(adrive(agent, tasks, world, tiny_policy(), samples=2, seed=3))
    assert all(plain_text(e.trajectories[0].turns[0].reply).startswith("now") for e in batched)


def test_tasks_with_a_prefix_travel_and_reload() -> None:
    """They can be sent to other processes; a reloaded episode goes on from the same prefix."""
    world = Bench()
    task, whole, seed = recorded(world)
    again = resumed(task, prefix_of(whole, 2, prefill="so"), label="again", world_seed=seed)
    assert pickle.loads(pickle.dumps(again)) == again
    (episode,) = drive(Resume(), [again], world, Scripted(lambda a, s: line("d")))
    loaded, _ = parse(dump(episode))
    (second,) = drive(Resume(), [loaded.task], world, Scripted(lambda a, s: line("d")))
    assert second.trajectories[0].final == episode.trajectories[0].final == {"lines": ["a", "b", "d"]}
