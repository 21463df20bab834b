"""Runs that a critic reviews: corrected and uncorrected ones, tries that fail, and judges that say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.toys import Bench, layout, tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.agents.resume import Resume, rewritten
from ferrule.agents.reviewed import Reviewed, Ruling, by_roles
from ferrule.agents.search import Budget, Node
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, Trajectory, plain_text
from ferrule.data.corrections import correction_of, corrections, run_corrections, uncorrected_run
from ferrule.data.trees import Tree, tree_of
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import adrive, drive
from ferrule.rollout.record import Episode, dump, parse


def line(text: str) -> Message:
    return Message("assistant", "", (Call("write", {"line": text}),))


def said(message: Any) -> str:
    """A step by its line or its text."""
    return str(message.calls[0].arguments["line"]) if message.calls else plain_text(message)


def steps(messages: Any) -> list[str]:
    return [said(message) for message in messages if message.role == "assistant"]


def solver(request: Ask, sample: int) -> str | Message:
    """Plan p0; after it t1 and t2, after the better plan p0* s1 and s2, and after s2* finish."""
    done = steps(request.messages)
    ways: Mapping[str, str | Message] = {
        "p0": line("t1"), "t1": line("t2"), "t2": "lost", "p0*": line("s1"), "s1": line("s2"), "s2*": "finish",
    }  # fmt: skip
    return ways[done[-1]] if done else "p0"


BETTER = {"p0": Message("assistant", "p0*"), "s2": line("s2*")}


def critic(task: Task, node: Node) -> Ruling:
    assert node.reply is not None
    return BETTER.get(said(node.reply.message), True)


def played(agent: Any, script: Any = solver, **roles: Any) -> tuple[Bench, Episode]:
    world = Bench()
    (episode,) = drive(agent, world.tasks("train", 1), world, {"solver": Scripted(script, renderer=layout()), **roles})
    assert not episode.problem
    return world, episode


def tree(episode: Episode) -> Tree:
    return tree_of(episode.of_role("solver"), lambda path: path.answer == "finish", task="t")


REVIEWED = Reviewed(critic, plan="Write a plan first.")


def test_the_worked_tree() -> None:
    """The plan and the second step are rewritten: ([], p0* > p0) and ([p0*, s1], s2* > s2), and both whole runs."""
    _, episode = played(REVIEWED)
    pairs = corrections(tree(episode))
    assert [(steps(p.prompt), steps(p.chosen), steps(p.rejected)) for p in pairs] == [
        ([], ["p0*"], ["p0"]), (["p0*", "s1"], ["s2*"], ["s2"]),
    ]  # fmt: skip
    assert [dict(pair.origin) for pair in pairs] == [
        {"task": "t", "step": 0, "level": "plan"}, {"task": "t", "step": 2, "level": "step"},
    ]  # fmt: skip
    (run,) = run_corrections(tree(episode))
    assert (steps(run.chosen), steps(run.rejected)) == (["p0*", "s1", "s2*", "finish"], ["p0", "t1", "t2", "lost"])
    first = episode.trajectories[0]
    assert (first.answer, dict(first.final)) == ("finish", {"lines": ["s1", "s2*"]})
    assert [said(turn.reply) for turn in first.turns] == ["p0", "s1", "s2", "finish"]  # what the model wrote itself


def test_tools_run_in_the_world_as_it_stood_and_the_model_reads_their_results() -> None:
    """The better step is the second line in its branch, as the step that it replaced was in its own."""
    world, episode = played(REVIEWED)
    _, pair = corrections(tree(episode))
    (run,) = run_corrections(tree(episode))
    assert [plain_text(m) for m in run.chosen if isinstance(m, Message) and m.role in ("user", "tool")] == [
        REVIEWED.go_on, "1", "2",
    ]  # fmt: skip
    assert isinstance(pair.prompt, tuple)
    assert "Write a plan first." in plain_text(pair.prompt[0])
    assert [state.written for state in world.states] == [[]]  # branches of the session, never the session itself


def test_ids_before_the_step_stay_and_nothing_rewritten_is_trained() -> None:
    _, episode = played(REVIEWED)
    assert not episode.drifted
    p0, s1, s2, finish = episode.trajectories[0].turns
    assert (s1.parent, s2.parent, finish.parent) == (None, s1.id, s1.id)  # s2 is no part of what the model saw then
    assert bytes(i for i in finish.given if i < 256).decode().count("s2*") == 1
    assert b"s2*" not in bytes(i for turn in (p0, s1, s2, finish) for i in turn.sampled if i < 256)
    assert parse(dump(episode))[0] == episode


def test_every_driver_leaves_the_same_record() -> None:
    world = Bench()
    _, episode = played(REVIEWED)
    policy = Scripted(solver, renderer=layout())
    (other,) = asyncio.run(adrive(REVIEWED, world.tasks("train", 1), world, policy))
    assert other == episode


def test_a_last_step_can_be_rewritten() -> None:
    def last(task: Task, node: Node) -> Ruling:
        assert node.reply is not None
        return Message("assistant", "42") if not node.reply.message.calls else True

    _, episode = played(Reviewed(last), lambda request, sample: "41" if len(request.messages) > 1 else line("a"))
    assert episode.trajectories[0].answer == "42"
    (run,) = run_corrections(tree(episode))
    assert (steps(run.chosen), steps(run.rejected)) == (["a", "42"], ["a", "41"])
    assert len(episode.trajectories[0].turns) == 2


def test_without_a_critic_nothing_is_known() -> None:
    _, episode = played(Reviewed(plan="Plan."), lambda request, sample: solver(request, sample))
    assert episode.trajectories[0].answer == "lost"
    assert corrections(tree(episode)) == run_corrections(tree(episode)) == []
    whole = uncorrected_run(tree(episode))
    assert whole is not None
    assert steps(whole.messages) == ["p0", "t1", "t2", "lost"]


def test_a_step_of_which_nothing_is_known_leaves_the_run_out() -> None:
    def unsure(task: Task, node: Node) -> Ruling:
        assert node.reply is not None
        return None if said(node.reply.message) == "s1" else critic(task, node)

    _, episode = played(Reviewed(unsure, plan="Plan."))
    assert len(corrections(tree(episode))) == 2
    assert run_corrections(tree(episode)) == []


def test_a_wrong_step_that_nobody_rewrote_ends_the_review() -> None:
    def wrong(task: Task, node: Node) -> Ruling:
        assert node.reply is not None
        return False if said(node.reply.message) == "s1" else critic(task, node)

    _, episode = played(
        Reviewed(wrong, plan="Plan."),
        lambda request, sample: "end" if steps(request.messages)[-1:] == ["s2"] else solver(request, sample),
    )
    assert [steps(pair.chosen) for pair in corrections(tree(episode))] == [["p0*"]]
    assert [turn.notes.get("ruling") for turn in episode.trajectories[0].turns] == [None, "wrong", None, None]


def test_failed_replies_are_drawn_again_and_runs_begun_anew() -> None:
    """Two tries a step: an empty reply is drawn again once, then the run begins anew, once."""
    replies = iter(["", "", line("a"), "", "done"])
    _, episode = played(Reviewed(retries=1, restarts=1), lambda request, sample: next(replies))
    assert episode.trajectories[0].answer == "done"
    _, lost = played(Reviewed(retries=1, restarts=1), lambda request, sample: "")
    assert (lost.trajectories[0].answer, lost.spent["solver"].asks) == (None, 4)


def test_budgets_and_turns_end_a_run() -> None:
    _, short = played(Reviewed(turns=3), lambda request, sample: line("a"))
    assert (short.trajectories[0].finish, short.spent["solver"].asks) == ("turns", 3)
    _, poor = played(Reviewed(critic, plan="Plan.", budget=Budget(calls=1)))
    assert poor.trajectories[0].answer is None


def test_a_judge_and_a_writer_correct() -> None:
    judge = Scripted(lambda request, sample: "Wrong." if "s2'" in plain_text(request.messages[0])[-100:] else "right")
    writer = Scripted(lambda request, sample: BETTER["s2"])
    agent = Reviewed(by_roles())
    script = {"s1": line("s2"), "s2": "lost", "s2*": "finish"}
    _, episode = played(
        agent, lambda request, sample: script[steps(request.messages)[-1]] if len(request.messages) > 1 else line("s1"),
        judge=judge, annotator=writer,
    )  # fmt: skip
    (pair,) = corrections(tree(episode))
    assert (steps(pair.chosen), steps(pair.rejected)) == (["s2*"], ["s2"])
    assert (episode.spent["judge"].asks, episode.spent["annotator"].asks) == (3, 1)


@pytest.mark.parametrize("text", ["Let it pass!", "not wrong"])
def test_a_judge_who_says_nothing_readable_lets_nothing_pass(text: str) -> None:
    agent = Reviewed(by_roles())
    _, episode = played(agent, lambda request, sample: "done", judge=Scripted(lambda request, sample: text))
    assert [turn.notes["ruling"] for turn in episode.trajectories[0].turns] == ["unknown"]
    assert corrections(tree(episode)) == []


def test_a_judge_is_told_the_whole_task_and_the_steps_alone() -> None:
    """The task is asked by messages, after a system text; there is no step before the first."""
    questions: list[str] = []

    def judge(request: Ask, sample: int) -> str:
        questions.append(plain_text(request.messages[0]))
        return "right"

    task = Task("t", "", "done", messages=(Message("user", "The plane"), Message("user", "How high?")))
    roles = {"solver": Scripted(["done"]), "judge": Scripted(judge)}
    drive(Reviewed(by_roles(), system="Be brief."), [task], Bench(), roles)
    assert questions[0].startswith("Task:\nThe plane\nHow high?\n\nSteps so far, all of them right:\nnone\n\n")


def test_a_step_that_is_rewritten_in_the_same_words_is_no_correction() -> None:
    """The critic hands back p0 and t1 as they were, in calls of another id, and nothing else."""
    same = {"p0": Message("assistant", "p0"), "t1": Message("assistant", "", (Call("write", {"line": "t1"}, id="x"),))}

    def repeating(task: Task, node: Node) -> Ruling:
        assert node.reply is not None
        return same.get(said(node.reply.message), True)

    _, episode = played(replace(REVIEWED, critic=repeating))
    run = tree(episode)
    assert ["rewritten" in turn.notes for turn in episode.trajectories[0].turns][:2] == [True, True]
    assert corrections(run) == run_corrections(run) == []


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Reviewed\.retries is -1; the least is 0"):
        Reviewed(retries=-1)


# ----------------------------------------------------------------------------------------------- recorded episodes


def three(request: Ask, sample: int) -> str | Message:
    done = steps(request.messages)
    return line("abc"[len(done)]) if len(done) < 3 else ",".join(done)


def recorded(policy: Any, agent: Any) -> tuple[Bench, Trajectory]:
    world = Bench()
    (episode,) = drive(agent, world.tasks("train", 1), world, policy)
    return world, episode.trajectories[0]


def test_a_recorded_episode_goes_on_from_a_better_step() -> None:
    policy = Scripted(three, renderer=layout())
    world, whole = recorded(policy, ToolLoop())
    task = rewritten(whole, 1, line("B"), label="better")
    (episode,) = drive(Resume(rounds=5), [task], world, policy)
    (path,) = episode.trajectories
    assert (path.answer, dict(path.final)) == ("a,B,c", {"lines": ["a", "B", "c"]})
    known = [i for turn in whole.turns[:1] for i in (*turn.given, *turn.sampled)]
    assert list(path.turns[0].given[: len(known)]) == known
    pair = correction_of(whole, 1, line("B"))
    assert (steps(pair.prompt), steps(pair.chosen), steps(pair.rejected)) == (["a"], ["B"], ["b"])
    again = rewritten(path, 0, line("C"), label="twice")  # of the episode that went on: its prefix is kept
    (twice,) = drive(Resume(rounds=5), [again], world, policy)
    assert twice.trajectories[0].answer == "a,B,C"


def test_a_better_answer_ends_the_episode() -> None:
    world, whole = recorded(Scripted(three), ToolLoop())
    task = rewritten(whole, 3, Message("assistant", "abc"), label="better")
    (episode,) = drive(Resume(), [task], world, Scripted([]))
    assert (episode.trajectories[0].answer, episode.trajectories[0].turns) == ("abc", ())
    with pytest.raises(ValueError, match="turn 4 does not exist"):
        rewritten(whole, 4, line("x"), label="none")


def test_ids_of_a_model_are_kept_when_a_step_is_rewritten(one_thread: None) -> None:
    """All that the model was fed before the step is fed again, id for id, and the better step is fed behind it."""
    policy = tiny_policy(max_tokens=6)
    world, whole = recorded(policy, ToolLoop(max_tokens=6))
    task = rewritten(whole, 0, line("a"), label="better")
    (episode,) = drive(Resume(max_tokens=6), [task], world, policy)
    assert not episode.problem
    fed = episode.trajectories[0].turns[0].given
    assert fed[: len(whole.turns[0].given)] == whole.turns[0].given
    assert '"a"' in policy.stops.text(fed[len(whole.turns[0].given) :])
