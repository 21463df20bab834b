"""Episodes that branch: leaves, what is given up, calls in branches of the world, and groups, drops and masks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from tests.toys import WORLDS, Bench, layout, tiny_policy, two_calls
from tests.train.pieces import LETTERS, Speller, draw, fixed, recipe

from ferrule.agents.tree import TreeLoop
from ferrule.core.arrays import pack
from ferrule.core.flows import Ask, Flow, Leaf, Leaves, Session, Use, ask, use
from ferrule.core.records import Call, Message, Reply, Score, Task, Trajectory, plain_text
from ferrule.credit.group import group_relative
from ferrule.policies.scripted import Scripted, nonsense
from ferrule.rollout.drive import Limits, adrive, drive
from ferrule.rollout.record import Episode, dump, parse
from ferrule.train.sample import Batch, Group, credit, groups_of, masked, sample, segments, stats
from ferrule.train.update import sequences

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Forks:
    """Draw two first replies, act on each in a branch of its own, go on ``keep`` of them, and give the rest up."""

    keep: int = 2
    max_tokens: int = 12
    broken: str = ""

    def __call__(self, task: Task, session: Session) -> Flow[Leaves]:
        root = (Message("user", task.prompt),)
        replies = yield from ask(Ask(root, n=2, tools=session.tools, max_tokens=self.max_tokens))
        leaves, branches = [], []
        try:
            for place, reply in enumerate(replies):
                branches.append(session.fork())
                calls = reply.message.calls or two_calls(branches[-1])
                seen = yield from use(*calls, session=branches[-1])
                if place >= self.keep:
                    continue
                shown = [Message("tool", o.text, name=c.name, call_id=c.id) for c, o in zip(calls, seen, strict=True)]
                messages = (*root, reply.message, *shown)
                (last,) = yield from ask(Ask(messages, tools=session.tools, max_tokens=self.max_tokens))
                leaves.append(Leaf(last.message, plain_text(last.message), final=branches[-1].final()))
            if self.broken == "raise":
                raise RuntimeError("on purpose")
            return Leaves(tuple(leaves)) if self.broken != "strange" else Leaves((Leaf(Message("assistant", "x")),))
        finally:
            for branch in branches:
                branch.close()


def writes(request: Ask, sample: int) -> Message:
    if len(request.messages) == 1:
        return Message("assistant", f"path {sample}", (Call("write", {"line": f"line {sample}"}),))
    return Message("assistant", plain_text(request.messages[1]).replace("path", "answer"))


def played(agent: Any, policy: Any = None, **more: Any) -> Episode:
    world = Bench()
    (episode,) = drive(agent, world.tasks("train", 1), world, policy or Scripted(writes), **more)
    return episode


# --------------------------------------------------------------------------------------------------------------- leaves


def test_every_leaf_is_a_trajectory() -> None:
    episode = played(Forks())
    assert [(t.answer, t.finish) for t in episode.trajectories] == [("answer 0", "answer"), ("answer 1", "answer")]
    assert [t.final for t in episode.trajectories] == [{"lines": ["line 0"]}, {"lines": ["line 1"]}]
    assert [[turn.id for turn in t.turns] for t in episode.trajectories] == [[0, 2], [1, 3]]
    assert [t.turns[0].observations[0].text for t in episode.trajectories] == ["1", "1"]
    assert not episode.problem


def test_what_leads_to_no_leaf_is_discarded() -> None:
    episode = played(Forks(keep=1))
    kept, dropped = episode.trajectories
    assert (kept.answer, dropped.finish, dropped.answer) == ("answer 0", "discarded", None)
    assert dropped.turns[0].observations[0].status == "ok"
    assert [t.turns[0].reply.content for t in (kept, dropped)] == ["path 0", "path 1"]


def test_discarded_branches_cost_tokens_but_are_not_scored() -> None:
    seen: list[int] = []

    def reward(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        seen.append(len(trajectories))
        return [Score(float(i)) for i, _ in enumerate(trajectories)]

    policy = Scripted(writes, renderer=layout())
    own = recipe(agent=Forks(keep=1, max_tokens=80), reward=reward, num_generations=2)
    batch = sample(own, draw, 1, LETTERS, policy)
    assert seen == [2]
    (group,) = batch.groups
    assert [len(e.trajectories) for e in group.episodes] == [2, 2]
    assert group.owners == (0, 1)
    shown = stats(batch)
    trained = sum(t.sampled_count for t in group.trajectories)
    assert shown["tokens"] == trained < shown["tokens/sampled"]


def test_shared_turns_count_once() -> None:
    """Two leaves behind one shared first turn: three turns were written, not four."""

    def shared(task: Task, session: Session) -> Flow[Leaves]:
        root = (Message("user", task.prompt),)
        (first,) = yield from ask(Ask(root, tools=session.tools))
        context = (*root, first.message, Message("user", "on"))
        replies = yield from ask(Ask(context, n=2, tools=session.tools))
        return Leaves(tuple(Leaf(r.message, plain_text(r.message)) for r in replies))

    def speak(request: Ask, sample: int) -> str:
        return "abc" if len(request.messages) == 1 else f"leaf {sample}"

    episode = played(shared, Scripted(speak, renderer=layout()))
    assert episode.sampled_count == 4 + 2 * 7
    both = pack(episode.trajectories, [Score(1.0), Score(0.0)], [0, 0], episodes=[0, 0])
    assert both.node_NK[0, 0] == both.node_NK[1, 0]
    assert both.node_NK[0, 1] != both.node_NK[1, 1]
    assert [t.turns[1].parent for t in episode.trajectories] == [0, 0]


def test_samples_of_one_ask_are_one_turn_of_the_limit() -> None:
    """Three asks for 1, 4 and 4 replies: nine turns in the record, three of the limit."""

    def speak(request: Ask, sample: int) -> Message:
        return Message("assistant", f"{len(request.messages)} {sample}", (Call("write", {"line": "x"}),))

    tree = TreeLoop(samples=1, branch=4, depth=3)
    for limit, problem in ((3, ""), (2, "more than 2 model turns")):
        episode = played(tree, Scripted(speak), limits=Limits(turns=limit))
        assert episode.problem == problem
        assert len({t.id for path in episode.trajectories for t in path.turns}) == 9


def test_leaves_come_in_the_order_of_the_agent() -> None:
    def backwards(task: Task, session: Session) -> Flow[Leaves]:
        replies = yield from ask(Ask((Message("user", task.prompt),), n=3))
        return Leaves(tuple(Leaf(r.message, str(i), "length") for i, r in reversed(list(enumerate(replies)))))

    episode = played(backwards, Scripted(lambda a, s: f"reply {s}"))
    assert [(t.answer, t.finish, t.turns[0].id) for t in episode.trajectories] == [
        ("2", "length", 2), ("1", "length", 1), ("0", "length", 0),
    ]  # fmt: skip


@pytest.mark.parametrize("deep", [False, True])
def test_an_ask_that_is_made_again_opens_a_branch(deep: bool) -> None:
    """The same messages once more, at the root or behind a turn: the first attempt is given up, not gone on with."""

    def retry(task: Task, session: Session) -> Flow[Leaves]:
        messages: tuple[Message, ...] = (Message("user", task.prompt),)
        if deep:
            (first,) = yield from ask(Ask(messages))
            messages = (*messages, first.message, Message("user", "on"))
        for prefill in ("", "again "):
            (reply,) = yield from ask(Ask(messages, prefill=prefill))
        (last,) = yield from ask(Ask((*messages, reply.message, Message("user", "end"))))
        return Leaves((Leaf(last.message, "done"),))

    kept, dropped = played(retry, Scripted(lambda a, s: f"said {len(a.messages)}")).trajectories
    said = [plain_text(turn.reply) for turn in kept.turns]
    assert said == (["said 1", "again said 3", "said 5"] if deep else ["again said 1", "said 3"])
    assert plain_text(dropped.turns[-1].reply) == ("said 3" if deep else "said 1")
    assert (kept.answer, dropped.finish, len(dropped.turns)) == ("done", "discarded", 1 + deep)


@pytest.mark.parametrize(
    ("broken", "problem"), [("raise", "RuntimeError: on purpose"), ("strange", "pass Reply.message itself")]
)
def test_trouble_ends_the_episode_as_data_and_closes_its_branches(broken: str, problem: str) -> None:
    world = Bench()
    (episode,) = drive(Forks(broken=broken), world.tasks("train", 1), world, Scripted(writes))
    assert problem in episode.problem
    assert {t.finish for t in episode.trajectories} == {"error", "cancelled"}
    assert all(t.answer is None for t in episode.trajectories)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_run_that_breaks_off_closes_the_branches_of_its_episodes(asynchronous: bool) -> None:
    ended: list[int] = []

    def holding(task: Task, session: Session) -> Flow[Leaves]:
        branch = session.fork()
        try:
            for _ in range(3):
                (reply,) = yield from ask(Ask((Message("user", task.prompt),)))
            return Leaves((Leaf(reply.message),))
        finally:
            branch.close()
            ended.append(1)

    world, policy = Bench(), Scripted(["one", "two", "three"])
    tasks = world.tasks("train", 2)
    with pytest.raises(IndexError, match="the script has 3 replies"):
        asyncio.run(adrive(holding, tasks, world, policy)) if asynchronous else drive(holding, tasks, world, policy)
    assert ended == [1, 1]
    assert [state.closed for state in world.states] == [1, 1]


def test_no_leaves_at_all_is_a_problem() -> None:
    def none(task: Task, session: Session) -> Flow[Leaves]:
        yield from ask(Ask((Message("user", task.prompt),)))
        return Leaves(())

    assert "leaves" in played(none).problem


def test_episodes_with_leaves_reload_to_equal_objects() -> None:
    episode = played(Forks(keep=1), Scripted(writes, renderer=layout()))
    assert parse(dump(episode))[0] == episode


# ----------------------------------------------------------------------------------------------------- sessions of calls


def test_calls_run_in_their_branch_and_nowhere_else() -> None:
    world = Bench()

    def agent(task: Task, session: Session) -> Flow[str]:
        (reply,) = yield from ask(Ask((Message("user", task.prompt),), tools=session.tools))
        branch = session.fork()
        yield from use(Call("write", {"line": "in the branch"}), session=branch)
        yield from use(*reply.message.calls)
        seen = [str(s.final()["lines"]) for s in (session, branch)]
        branch.close()
        return " | ".join(seen)

    (episode,) = drive(agent, world.tasks("train", 1), world, Scripted(writes))
    assert episode.trajectories[0].answer == "['line 0'] | ['in the branch']"
    assert episode.trajectories[0].final == {"lines": ["line 0"]}
    assert Use((), world.start(world.tasks("train", 1)[0])) == Use(())  # a session is no part of what was asked


def test_a_branch_has_a_budget_of_its_own() -> None:
    world = Bench(calls=2)

    def agent(task: Task, session: Session) -> Flow[str]:
        branch = session.fork()
        call = Call("write", {"line": "x"})
        out = []
        for place in (branch, branch, branch, None, None, None):
            (seen,) = yield from use(call, session=place)
            out.append(seen.status)
        branch.close()
        return ",".join(out)

    (episode,) = drive(agent, world.tasks("train", 1), world, Scripted(writes))
    assert episode.trajectories[0].answer == "ok,ok,refused,ok,ok,refused"


# -------------------------------------------------------------------------------------------------------------- drivers

AGENTS = {"forks": Forks(), "gives up": Forks(keep=1), "tree": TreeLoop(samples=3, branch=2, depth=2, max_tokens=12)}


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(("world", "policy"), [*((name, "scripted") for name in WORLDS), ("apis", "local")])
def test_both_drivers_leave_equal_records(world: str, policy: str, agent: str) -> None:
    make = {"scripted": lambda: nonsense(1, renderer=layout()), "local": tiny_policy}[policy]
    tasks = WORLDS[world].tasks("train", 2)
    more: dict[str, Any] = {"num_generations": 2, "seed": 3, "temperature": 1.0}
    batched = drive(AGENTS[agent], tasks, WORLDS[world], make(), **more)
    assert batched == asyncio.run(adrive(AGENTS[agent], tasks, WORLDS[world], make(), **more))
    few = asyncio.run(adrive(AGENTS[agent], tasks, WORLDS[world], make(), limits=Limits(episodes=3), **more))
    assert [shape(e) for e in batched] == [shape(e) for e in few]
    assert not any(e.problem for e in batched)
    assert all(len([t for t in e.trajectories if t.finish != "discarded"]) >= 1 for e in batched)


def shape(episode: Episode) -> list[Any]:
    return [[(t.given, t.sampled, t.observations) for t in path.turns] for path in episode.trajectories]


@pytest.mark.slow
def test_workers_leave_the_records_of_the_asyncio_driver() -> None:
    from tests.rollout.ray_kit import two_nodes

    from ferrule.rollout.cluster import RayWorkers

    world, agent = WORLDS["apis"], TreeLoop(samples=3, branch=2, depth=2, max_tokens=12)
    more: dict[str, Any] = {"num_generations": 2, "seed": 3, "temperature": 1.0}
    here = asyncio.run(adrive(agent, world.tasks("train", 2), world, nonsense(1, renderer=layout()), **more))
    with two_nodes(), RayWorkers(count=2, patience=240) as workers:
        there = workers.drive(agent, world.tasks("train", 2), world, nonsense(1, renderer=layout()), **more)
    assert here == there


# ------------------------------------------------------------------------------------------ groups, drops, masks, carry


def scored(*scores: Score, **changes: Any) -> Batch:
    """Rows of two tokens with the given scores, credited by the group's mean."""
    rows = tuple(fixed([[(1, 2)]] * len(scores)))
    own = recipe(credit=group_relative, num_generations=len(scores), **changes)
    return credit(own, [Group(rows[0].task, (), rows, scores, tuple(range(len(scores))))], None)


def test_a_score_may_set_groups_apart() -> None:
    """Groups a (1, 0) and b (5, 3) are compared within themselves: +-.5 and +-1."""
    batch = scored(Score(1.0, group="a"), Score(5.0, group="b"), Score(0.0, group="a"), Score(3.0, group="b"))
    assert batch.signals.group_N.tolist() == [0, 1, 0, 1]
    assert batch.adv[:, -1].tolist() == [0.5, 1.0, -0.5, -1.0]


def test_groups_of_different_tasks_stay_apart_whatever_their_names() -> None:
    rows = fixed([[(1, 1)]] * 4)
    found = pack(rows, [Score(1.0, group=g) for g in ("a", "", "a", "")], [0, 0, 1, 1])
    assert len(set(found.group_N.tolist())) == 4
    assert pack(rows, [Score(1.0)] * 4, [0, 0, 7, 7]).group_N.tolist() == [0, 0, 7, 7]


def test_dropped_rows_are_compared_with_nobody() -> None:
    batch = scored(Score(1.0), Score(100.0, drop=True), Score(0.0))
    assert batch.adv[:, -1].tolist() == [0.5, -0.5]
    assert batch.signals.episode_N.tolist() == [0, 2]
    assert len(sequences(batch).ids) == 2
    assert len(batch.groups[0].trajectories) == 3
    assert stats(batch)["groups"] == 1.0


def test_everything_dropped_is_an_empty_batch() -> None:
    batch = scored(Score(1.0, drop=True), Score(0.0, drop=True), mask=lambda turn_NT: turn_NT >= 0)
    assert batch.adv.shape == (0, 0)
    assert sequences(batch).ids == []
    assert stats(batch)["groups"] == 1.0


def test_masked_tokens_are_no_model_tokens_any_more() -> None:
    """Rows of given 2, sampled 3: the first sampled token is masked, so two count, and attention is untouched."""
    found = pack(fixed([[(2, 3)], [(2, 3)]]), [Score(1.0), Score(0.0)], [0, 0])
    kept = masked(found, lambda ids_NT: ids_NT != 12)
    assert kept.turn_NT.tolist() == [[-1, -1, -1, 0, 0]] * 2
    assert kept.ids_NT.tolist() == found.ids_NT.tolist()
    rows = masked(found, lambda reward_N: reward_N > 0)
    assert (rows.turn_NT >= 0).sum(1).tolist() == [3, 0]
    assert [n for n, _ in segments(rows)] == [0]
    with pytest.raises(ValueError, match=r"the mask has shape \(3,\)"):
        masked(found, lambda: np.ones(3, dtype=bool))
    batch = scored(Score(1.0), Score(0.0), mask=lambda reward_N: reward_N > 0)
    assert batch.adv.tolist() == [[0.0, 0.5, 0.5], [0.0, 0.0, 0.0]]


def test_arrays_beside_are_laid_out_per_token() -> None:
    batch = scored(
        Score(1.0), Score(0.0), beside={"row_NT": lambda reward_N: reward_N + 2, "token_NT": lambda adv_NT: adv_NT * 4}
    )
    assert batch.beside["row_NT"].tolist() == [[0, 3, 3], [0, 2, 2]]
    assert batch.beside["token_NT"].tolist() == [[0, 2, 2], [0, -2, -2]]
    found = sequences(batch)
    assert [a.tolist() for a in found.beside["row_NT"]] == [[0, 3, 3], [0, 2, 2]]
    with pytest.raises(ValueError, match=r"Recipe.beside\['x_NT'\] has shape \(3,\); expected one number per row"):
        scored(Score(1.0), beside={"x_NT": lambda: np.ones(3)})
    with pytest.raises(ValueError, match="names 'weight'; the name of an array per token ends in '_NT'"):
        recipe(beside={"weight": lambda reward_N: reward_N})
    assert scored(Score(1.0, drop=True), beside={"x_NT": lambda reward_N: reward_N}).beside["x_NT"].shape == (0, 0)


@dataclass
class Counted:
    """Tasks with running numbers, and how many were drawn each time."""

    drawn: list[int] = field(default_factory=list)

    def __call__(self, count: int) -> list[Task]:
        first = sum(self.drawn)
        self.drawn.append(count)
        return [replace(t, id=str(first + i)) for i, t in enumerate(draw(count))]


def keep_odd(trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> bool:
    return int(trajectories[0].task.id) % 2 == 1


def constant(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    return [Score(1.0) for _ in trajectories]


def test_a_draw_takes_more_and_what_is_too_much_waits() -> None:
    """Two groups are wanted: ceil(2 * 2.5) = 5 are drawn, 1 and 3 kept. Then 4 of ceil: 5, 7, 9 are kept, 9 waits."""
    own = recipe(agent=Speller(tokens=4), reward=constant, keep=keep_odd, refill=2, oversample=2.5, num_generations=2)
    counted, carry, policy = Counted(), list[Group](), Scripted(lambda a, s: "x", renderer=layout())
    first = sample(own, counted, 2, LETTERS, policy, step=0, carry=carry)
    assert (counted.drawn, [g.task.id for g in first.groups], carry) == ([5], ["1", "3"], [])
    second = sample(own, counted, 2, LETTERS, policy, step=1, carry=carry)
    assert (counted.drawn, [g.task.id for g in second.groups]) == ([5, 5], ["5", "7"])
    assert [g.task.id for g in carry] == ["9"]
    third = sample(own, counted, 1, LETTERS, policy, step=2, carry=carry)
    assert (counted.drawn, [g.task.id for g in third.groups], carry) == ([5, 5], ["9"], [])


def test_what_waited_too_long_is_dropped() -> None:
    own = recipe(agent=Speller(tokens=4), reward=constant, keep=keep_odd, refill=1, oversample=4.0, num_generations=2)
    counted, carry, policy = Counted(), list[Group](), Scripted(lambda a, s: "x", renderer=layout())
    sample(own, counted, 1, LETTERS, policy, step=0, carry=carry)
    assert [g.task.id for g in carry] == ["3"]
    late = sample(own, counted, 1, LETTERS, policy, step=5, carry=carry)
    assert [g.task.id for g in late.groups] == ["5"]


def test_without_a_place_to_wait_the_rest_is_dropped() -> None:
    own = recipe(agent=Speller(tokens=4), reward=constant, keep=keep_odd, refill=1, oversample=4.0, num_generations=2)
    batch = sample(own, Counted(), 1, LETTERS, Scripted(lambda a, s: "x", renderer=layout()))
    assert [g.task.id for g in batch.groups] == ["1"]


def test_groups_keep_their_step() -> None:
    own = recipe(agent=Speller(tokens=4), reward=constant, num_generations=2)
    policy: Any = Scripted(lambda a, s: "x", renderer=layout())
    (group,) = groups_of(own, draw(1), LETTERS, policy, step=4)
    assert group.step == 4
    assert isinstance(policy.generate([Ask((Message("user", "x"),))])[0][0], Reply)
