"""Going on from the middle of an episode: context, restored world, a reply begun again, and what is trained."""

from __future__ import annotations

import asyncio
import pickle
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.continuing import DRIVERS, goes_on_from_any_token, pocket_episodes, real_model_goes_on
from tests.toys import Bench, layout, tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.agents.resume import Prefix, Resume, prefix_of, resumed
from ferrule.core.arrays import pack
from ferrule.core.flows import Ask, Flow, Session, ask, use
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn, plain_text
from ferrule.policies.local import Local, load
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
    episodes = drive(Resume(), tasks, world, Scripted(three_lines), num_generations=3)
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
    batched = drive(agent, tasks, world, tiny_policy(), num_generations=2, seed=3)
    assert batched == asyncio.run(adrive(agent, tasks, world, tiny_policy(), num_generations=2, seed=3))
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


# ---------------------------------------------------------------------------------------- from the middle of a reply


@pytest.fixture(scope="module")
def recorded_pocket() -> Any:
    return pocket_episodes()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_reply_goes_on_from_any_of_its_tokens(recorded_pocket: Any, driver: str) -> None:
    goes_on_from_any_token(recorded_pocket, DRIVERS[driver])


def test_the_ids_up_to_the_cut_have_the_log_probs_they_were_sampled_with(recorded_pocket: Any) -> None:
    """Scored in the place where they are gone on from, in every turn."""
    world, policy, episodes = recorded_pocket
    whole = episodes[0].trajectories[0]
    with closing(world.start(episodes[0].task)) as session:
        offered = tuple(session.tools)
    for k, turn in enumerate(whole.turns):
        prefix = prefix_of(whole, k, cut=len(turn.sampled) - 1)
        request = Ask(
            prefix.messages, begun=prefix.begun, context=prefix.given[: prefix.known], fresh=prefix.fresh,
            tools=offered, max_tokens=0, temperature=1.0, want=("score",),
        )  # fmt: skip
        ((scored,),) = policy.generate([request])
        assert scored.given == (*prefix.given, *prefix.begun)
        assert scored.extras["score"] == pytest.approx(turn.logps[:-1], abs=1e-4)


@pytest.fixture(scope="module")
def real(smollm: Path) -> Local:
    """The real model, loaded once for all drivers."""
    return load(smollm)


@pytest.mark.integration
@pytest.mark.timeout(900)  # where the model has to be fetched first
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_reply_of_a_real_model_goes_on_from_its_middle(real: Local, driver: str) -> None:
    real_model_goes_on(real, DRIVERS[driver])


def test_sampled_continuations_are_the_same_under_every_driver() -> None:
    world, policy = Bench(), tiny_policy()
    task = world.tasks("train", 1)[0]
    (episode,) = drive(ToolLoop(turns=1, max_tokens=40), [task], world, policy, temperature=1.0)
    whole = episode.trajectories[0]
    tasks = [resumed(task, prefix_of(whole, 0, cut=cut), label=f"{cut}") for cut in range(len(whole.turns[0].sampled))]
    assert len(tasks) > 20
    runs = [
        run(Resume(rounds=2, max_tokens=40), tasks, Bench(), tiny_policy(), num_generations=2, temperature=1.0)
        for run in DRIVERS.values()
    ]
    assert runs[0] == runs[1]
    assert not any(e.problem or e.drifted for e in runs[0])
    assert len({e.trajectories[0].turns[0].sampled for e in runs[0]}) > 2


def test_begun_ids_are_not_trained_on_again() -> None:
    world = Bench()
    policy = Scripted(lambda a, s: "whole answer"[len(a.begun) :], renderer=layout())
    task = world.tasks("train", 1)[0]
    (episode,) = drive(ToolLoop(), [task], world, policy)
    again = resumed(task, prefix_of(episode.trajectories[0], 0, cut=6), label="again")
    ((path,),) = [e.trajectories for e in drive(Resume(), [again], world, policy)]
    assert path.answer == "whole answer"
    packed = pack([path], [Score(1.0)], [0])
    assert bytes(packed.ids_NT[0][packed.turn_NT[0] >= 0].tolist()[:-1]).decode() == "answer"
    assert b"whole " in bytes(i for i in packed.ids_NT[0].tolist() if 0 <= i < 256)
    assert parse(dump(episode))[0] == episode


def test_world_and_budget_stand_where_they_stood_at_the_cut() -> None:
    """Two of four calls were made before the cut reply; the reply makes one, one more is left, the next is refused."""
    world = Bench(calls=4)
    policy = Scripted(three_lines, renderer=layout())
    task = world.tasks("train", 1)[0]
    (episode,) = drive(ToolLoop(), [task], world, policy)
    whole = episode.trajectories[0]
    assert whole.final == {"lines": ["a", "b", "c"]}
    text = policy.codec.write(line("d", "step 2"))
    cut = 9  # inside the call's first words

    def rest(request: Ask, sample: int) -> str:
        return text[cut:] if request.begun else text

    again = resumed(task, prefix_of(whole, 2, cut=cut), label="again", world_seed=episode.seed)
    (episode,) = drive(Resume(rounds=3), [again], world, Scripted(rest, renderer=layout()))
    (path,) = episode.trajectories
    assert [(o.status, o.text) for _, o in path.calls][:2] == [("ok", "3"), ("ok", "4")]
    assert path.calls[2][1].status == "refused"
    assert path.final == {"lines": ["a", "b", "d", "d"]}
    first = path.turns[0].reply
    assert (plain_text(first), first.calls[0].arguments, first.calls[0].problem) == ("step 2", {"line": "d"}, "")


def test_a_continuation_is_gone_on_with_in_turn() -> None:
    """Cut at 3, gone on with for 4 ids, cut again behind 2 of those: the ids of all three stay in one reply."""
    world = Bench()
    said = "a fairly long answer"
    policy = Scripted(lambda a, s: said[len(a.begun) :], renderer=layout())
    task = world.tasks("train", 1)[0]
    (episode,) = drive(ToolLoop(), [task], world, policy)
    first = resumed(task, prefix_of(episode.trajectories[0], 0, cut=3), label="first")
    (episode,) = drive(Resume(max_tokens=4), [first], world, policy)
    assert episode.trajectories[0].turns[0].sampled == tuple(said[3:7].encode())
    prefix = prefix_of(episode.trajectories[0], 0, cut=2)
    assert prefix.begun == tuple(said[:5].encode())
    (episode,) = drive(Resume(), [resumed(task, prefix, label="second")], world, policy)
    assert episode.trajectories[0].answer == said
    assert episode.trajectories[0].turns[0].given == (*prefix.given, *prefix.begun)


def test_calls_before_a_continuation_are_made_again_with_its_own() -> None:
    """The second continuation restores what the first one restored, and what it did itself."""
    world = Bench()
    task, whole, seed = recorded(world)
    first = resumed(task, prefix_of(whole, 1), label="first", world_seed=seed)
    (episode,) = drive(Resume(rounds=2), [first], world, Scripted(three_lines))
    prefix = prefix_of(episode.trajectories[0], 1)
    assert [call.arguments["line"] for (call,) in prefix.calls] == ["a", "b"]


def test_cuts_are_checked() -> None:
    world = Bench()
    task, whole, _ = recorded(world)
    with pytest.raises(ValueError, match="turn 1 was recorded without token ids"):
        prefix_of(whole, 1, cut=0)
    (episode,) = drive(ToolLoop(), [task], world, Scripted(three_lines, renderer=layout()))
    length = len(episode.trajectories[0].turns[1].sampled)
    for cut in (-1, length + 1):
        with pytest.raises(ValueError, match=f"cut {cut} does not exist; turn 1 has {length} sampled ids"):
            prefix_of(episode.trajectories[0], 1, cut=cut)


def test_another_layout_of_the_messages_is_told() -> None:
    """Ids are gone on from under the very context they were sampled in, or not at all."""
    world = Bench()
    task = world.tasks("train", 1)[0]
    (episode,) = drive(ToolLoop(), [task], world, Scripted(["some answer"], renderer=layout()))
    again = resumed(task, prefix_of(episode.trajectories[0], 0, cut=4), label="again")
    other = Scripted(["x"], renderer=replace(layout(), default_system="Be brief."))
    (episode,) = drive(Resume(), [again], world, other)
    assert "lays the messages out in other ids than the record has" in episode.problem


def test_a_policy_that_takes_no_ids_is_refused_before_it_is_asked() -> None:
    world = Bench()
    task = world.tasks("train", 1)[0]
    (episode,) = drive(ToolLoop(), [task], world, Scripted(["some answer"], renderer=layout()))
    again = resumed(task, prefix_of(episode.trajectories[0], 0, cut=4), label="again")
    without = Scripted(["x"])
    with pytest.raises(ValueError, match="'Scripted' cannot go on from ids that were sampled before"):
        drive(Resume(), [again], world, without)
    assert without.served == 0
