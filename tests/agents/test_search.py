"""Searches over steps: best of n, beam, best-first; what they draw together, keep, and answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.toys import Bench, layout

from ferrule.agents.best_of import BestOf
from ferrule.agents.depth_first import DepthFirst
from ferrule.agents.frontier import Beam, BestFirst
from ferrule.agents.search import Budget, Node
from ferrule.agents.values import calls_that_ran, first, largest, likelihood, majority
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Call, Message, Observation, Reply, Task, plain_text
from ferrule.policies.scripted import Scripted, nonsense
from ferrule.rollout.drive import adrive, drive
from ferrule.rollout.record import Episode, dump, parse

TASK = Task("t", "?")


def spoken(request: Ask, sample: int) -> Message:
    """Two steps of digits, then an answer: every reply is the number of its sample, and the answer spells the way."""
    way = "".join(plain_text(m) for m in request.messages if m.role == "assistant")
    if len(way) == 2:
        return Message("assistant", f"way {way}{sample}")
    return Message("assistant", str(sample), (Call("write", {"line": way + str(sample)}),))


class Batches(Scripted):
    """A scripted policy that remembers how many replies each batch asked for."""

    def __init__(self, script: Any) -> None:
        super().__init__(script, renderer=layout())
        self.sizes: list[int] = []

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        self.sizes.append(sum(request.n for request in asks))
        return super().generate(asks)


def played(agent: Any, script: Any = spoken) -> tuple[Episode, list[int]]:
    world, policy = Bench(), Batches(script)
    (episode,) = drive(agent, world.tasks("train", 1), world, policy)
    assert not episode.problem
    assert not episode.drifted
    assert all(state.closed for state in world.states)
    assert parse(dump(episode))[0] == episode
    return episode, policy.sizes


def by_way(task: Task, node: Node) -> float:
    """The digits on the way to a step, read as a number: the larger the better."""
    replies = [plain_text(step.reply.message).split()[-1][-1] for step in node.path() if step.reply is not None]
    return float("".join(reversed(replies))) * 10.0 ** (3 - node.depth)


def test_best_of_n_plays_its_attempts_side_by_side() -> None:
    """The first step is one ask for four replies; afterwards all attempts ask in one batch."""
    episode, sizes = played(BestOf(samples=4, pick=largest(by_way)))
    assert sizes == [4, 4, 4]
    assert episode.trajectories[0].answer == "way 300"
    assert episode.trajectories[0].final["lines"] == ["3", "30"]
    assert len(episode.trajectories) == 4


def test_beam_keeps_the_best_of_every_depth() -> None:
    """Width 2, two steps each: of 0 and 1 both stay; of 00, 01, 10, 11 the last two; of their answers 110 and 111."""
    episode, sizes = played(Beam(width=2, branch=2, depth=3, value=by_way))
    assert sizes == [2, 4, 4]
    assert episode.trajectories[0].answer == "way 111"
    assert episode.trajectories[0].turns[-1].notes["value"] == 111.0


def test_best_first_goes_on_from_the_best_open_step() -> None:
    """A value that prefers early steps makes it broad, one that prefers late ones goes straight down."""
    _, down = played(BestFirst(branch=2, value=lambda task, node: float(node.depth)))
    assert down == [2, 2, 2]
    _, broad = played(BestFirst(branch=2, value=lambda task, node: -float(node.depth)))
    assert broad == [2] * (1 + 2 + 1)


@pytest.mark.parametrize("agent", [Beam(depth=1), BestOf(turns=1), BestFirst(depth=1)])
def test_without_an_answer_the_episode_has_none(agent: Any) -> None:
    episode, _ = played(agent)
    assert (episode.trajectories[0].answer, episode.trajectories[0].finish) == (None, "turns")


@pytest.mark.parametrize("tokens", [1, 7, 60, 200])
def test_no_search_writes_more_than_its_tokens(tokens: int) -> None:
    for kind in (BestOf, Beam, BestFirst, DepthFirst):
        world = Bench()
        agent = kind(budget=Budget(tokens=tokens))
        for episode in drive(agent, world.tasks("train", 3), world, nonsense(1, renderer=layout())):
            assert not episode.problem
            assert 0 < episode.sampled_count <= tokens


@pytest.mark.parametrize("agent", [DepthFirst(), BestOf(), Beam(), BestFirst(), DepthFirst(order=None, width=3)])
def test_drivers_record_the_same(agent: Any) -> None:
    world = Bench()
    tasks = world.tasks("train", 3)
    together = drive(agent, tasks, world, Scripted(spoken, renderer=layout()), seed=3)
    apart = asyncio.run(adrive(agent, tasks, world, Scripted(spoken, renderer=layout()), seed=3))
    assert together == apart
    alone = [drive(agent, [task], world, Scripted(spoken, renderer=layout()), seed=3)[0] for task in tasks]
    assert together == alone


def node(text: str, *, logps: tuple[float, ...] = (), statuses: Sequence[Any] = (), above: Node | None = None) -> Node:
    reply = Reply(Message("assistant", text), logps=logps, sampled=tuple(range(len(logps))))
    observations = tuple(Observation("x", status) for status in statuses)
    return Node((), Bench().start(TASK), reply, above, observations, answer=text)


def test_values() -> None:
    above = node("a", logps=(-1.0, -3.0), statuses=["ok", "error"])
    below = node("b", logps=(-2.0,), statuses=["ok"], above=above)
    assert likelihood(TASK, below) == pytest.approx(-2.0)  # (-1 - 3 - 2) / 3
    assert calls_that_ran(TASK, below) == pytest.approx(2 / 3)
    assert likelihood(TASK, node("c")) == 0.0
    assert calls_that_ran(TASK, node("c")) == 1.0


def test_picks() -> None:
    nodes = [node("Oslo"), node("Rome "), node("rome"), node("Bergen")]
    assert first(TASK, nodes) == 0
    assert majority(TASK, nodes) == 1
    assert majority(TASK, nodes[::3]) == 0  # among equals the first


def test_a_value_may_ask_a_model() -> None:
    """All steps that are compared are judged in one batch, under the role of the judge."""

    def judge(task: Task, node: Node) -> Flow[float]:
        assert node.reply is not None
        (reply,) = yield from ask(Ask((Message("user", plain_text(node.reply.message)),), role="judge", max_tokens=8))
        return float(plain_text(reply.message))

    solver, judging = Batches(spoken), Batches(lambda request, sample: plain_text(request.messages[0])[-1])
    world = Bench()
    (episode,) = drive(
        Beam(width=2, branch=3, depth=3, value=judge),
        world.tasks("train", 1),
        world,
        {"solver": solver, "judge": judging},
    )
    assert judging.sizes == [3, 6, 6]
    assert episode.trajectories[0].answer == "way 222"
    assert set(episode.spent) == {"solver", "judge"}
