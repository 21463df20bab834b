"""Depth-first search: the order of proposals on the worked trees, what back-tracking skips, budgets and hints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.toys import Bench, layout

from ferrule.agents.depth_first import DepthFirst
from ferrule.agents.search import Budget, Node
from ferrule.core.flows import Ask, Flow
from ferrule.core.records import Call, Message, Task, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode

Tree = Mapping[str, Any]
ANSWER, GIVE_UP = "answer", ""
"""Ends of a tree; a reply without text and calls is one that gives up."""


class Growing:
    """A model whose proposals are the children of a tree, in their order, and that gives up where there is none."""

    def __init__(self, tree: Tree) -> None:
        self.tree, self.proposals, self.asks = tree, list[str](), list[Ask]()
        self._drawn: Counter[tuple[str, ...]] = Counter()

    def __call__(self, request: Ask, sample: int) -> Message:
        self.asks.append(request)
        way = tuple(name for m in request.messages if m.role == "assistant" for name in [plain_text(m)])
        here: Any = self.tree
        for name in way:
            here = here[name]
        left = list(here)[self._drawn[way] :]
        if not left:
            return Message("assistant", "")
        name = left[0]
        self._drawn[way] += 1
        self.proposals.append(name)
        if here[name] == ANSWER:
            return Message("assistant", f"found {name}")
        if here[name] == GIVE_UP:
            return Message("assistant", "")
        return Message("assistant", name, (Call("write", {"line": name}),))


def steps(*names: str) -> Tree:
    return {name: {} for name in names}


ONE: Tree = {"a": {"a1": GIVE_UP, "a2": ANSWER}, "b": {"b1": {"b11": ANSWER, "b12": {}}, "b2": {}}}
TWO: Tree = {"a": steps("a1", "a2"), "b": {"b1": {}, "b2": ANSWER}}
UNLIMITED = Budget(asks=200)


def played(agent: DepthFirst, tree: Tree) -> tuple[Episode, Growing]:
    world, script = Bench(), Growing(tree)
    (episode,) = drive(agent, world.tasks("train", 1), world, Scripted(script, renderer=layout()))
    assert not episode.problem
    assert not episode.drifted
    assert all(state.closed >= 1 for state in world.states)
    return episode, script


@pytest.mark.parametrize(
    ("tree", "agent", "proposals", "answer"),
    [
        # a1 gives up: two levels back from it is the beginning, so a2 is never proposed
        (ONE, DepthFirst(width=2, depth=4), ["a", "a1", "b", "b1", "b11"], "found b11"),
        # steps at depth 2 are gone back from by one level: both of a are proposed
        (TWO, DepthFirst(width=2, depth=2), ["a", "a1", "a2", "b", "b1", "b2"], "found b2"),
        # the third ask uses the budget up, and its step is not gone on from
        (ONE, DepthFirst(width=2, depth=4, budget=Budget(asks=3)), ["a", "a1", "b"], None),
        # a give-up right below the beginning
        ({"a": GIVE_UP, "b": ANSWER}, DepthFirst(reference=True), ["a"], None),
        ({"a": GIVE_UP, "b": ANSWER}, DepthFirst(), ["a", "b"], "found b"),
        # two answers: two levels back from the first leave out what stands beside it
        (
            {"a": {"a1": ANSWER, "a2": ANSWER}, "b": {"b1": ANSWER, "b2": ANSWER}},
            DepthFirst(answers=2),
            ["a", "a1", "b", "b1"],
            "found a1",
        ),
        # the last ask of the budget draws an answer
        ({"a": ANSWER}, DepthFirst(budget=Budget(asks=1)), ["a"], "found a"),
        ({"a": ANSWER}, DepthFirst(budget=Budget(asks=1), reference=True), ["a"], None),
    ],
)
def test_worked_trees(tree: Tree, agent: DepthFirst, proposals: list[str], answer: str | None) -> None:
    episode, script = played(agent, tree)
    assert script.proposals == proposals
    assert episode.trajectories[0].answer == answer


def test_a_chain_tried_again() -> None:
    """Width 1: every start draws the next child of the beginning, until one leads to an answer."""
    tree = {"a": {"a1": GIVE_UP}, "b": {"b1": GIVE_UP}, "c": {"c1": ANSWER}, "d": {}}
    episode, script = played(DepthFirst(width=1, restarts=5), tree)
    assert script.proposals == ["a", "a1", "b", "b1", "c", "c1"]
    assert episode.trajectories[0].answer == "found c1"
    assert not any("tried here" in plain_text(request.messages[-1]) for request in script.asks)
    assert len(episode.trajectories) == 3


def test_the_record_is_the_tree() -> None:
    """Turns stand along their paths, what was given up is kept as discarded, and every step says how it ended."""
    episode, script = played(DepthFirst(width=2, depth=2), TWO)
    paths = [[plain_text(turn.reply) for turn in path.turns] for path in episode.trajectories]
    assert paths[0] == ["b", "found b2"]
    assert sorted(paths[1:]) == [["a", "a1"], ["a", "a2"], ["b", "b1"]]
    assert [path.finish for path in episode.trajectories] == ["answer", "discarded", "discarded", "discarded"]
    last = episode.trajectories[0].turns[-1]
    assert last.notes["state"] == "answer"
    assert last.notes["hinted"] is True
    assert len({turn.id for path in episode.trajectories for turn in path.turns}) == len(script.asks) == 6


def test_a_hint_is_shown_and_kept_out_of_what_follows() -> None:
    _, script = played(DepthFirst(width=2, depth=2), TWO)
    hinted = [request for request in script.asks if "tried here before" in plain_text(request.messages[-1])]
    assert len(hinted) == 3  # a2, b, b2
    assert "write({'line': 'a'})" in plain_text(hinted[1].messages[-1])
    below_b = [request for request in script.asks if any(plain_text(m) == "b" for m in request.messages)]
    assert below_b
    for request in below_b:
        texts = [plain_text(m) for m in request.messages if m.role == "user"][1:]
        assert all("write({'line': 'a'})" not in text for text in texts)


def test_the_world_branches() -> None:
    """Each path writes into its own lines: the answer's state holds its own steps and nothing of the others."""
    tree = {"a": steps("a1", "a2"), "b": {"b1": {}, "b2": {"b21": ANSWER}}}
    episode, _ = played(DepthFirst(width=2, depth=3), tree)
    assert episode.trajectories[0].final["lines"] == ["b", "b2"]


def test_steps_drawn_together_are_visited_by_their_scores() -> None:
    def longest(task: Task, nodes: Any) -> Flow[list[float]]:
        return [float(len(plain_text(node.reply.message))) for node in nodes]
        yield

    tree = {"a": steps("a1", "a2"), "bbb": {"b1": {}, "b22": ANSWER}}
    episode, script = played(DepthFirst(width=2, depth=2, order=longest), tree)
    assert script.proposals == ["a", "bbb", "b1", "b22"]
    assert episode.trajectories[0].answer == "found b22"
    assert [request.n for request in script.asks] == [2, 2, 2, 2]  # one ask per place, seen once per sample


@pytest.mark.parametrize(("budget", "calls"), [(Budget(calls=2), 2), (Budget(calls=1), 1), (Budget(tokens=9), None)])
def test_budgets_hold(budget: Budget, calls: int | None) -> None:
    episode, _ = played(DepthFirst(width=2, depth=3, budget=budget), ONE)
    made = [o for path in episode.trajectories for turn in path.turns for o in turn.observations]
    if calls is not None:
        assert len({id(o) for o in made}) <= calls
    else:
        assert episode.sampled_count <= 9
    assert episode.trajectories[0].finish == "budget"
    assert episode.trajectories[0].answer is None


def in_order(task: Task, nodes: Any) -> Flow[list[float]]:
    return [0.0] * len(nodes)
    yield


def test_an_answer_drawn_in_the_last_ask_is_taken_whatever_its_score() -> None:
    """The one ask draws a, which scores as well and comes first, and b, an answer, which the release leaves out."""
    tree = {"a": steps("a1"), "b": ANSWER}
    agent = DepthFirst(order=in_order, budget=Budget(asks=1))
    assert played(agent, tree)[0].trajectories[0].answer == "found b"
    assert played(replace(agent, reference=True), tree)[0].trajectories[0].answer is None


def test_a_new_start_closes_what_the_one_before_never_visited() -> None:
    """The give-up ends the first start, so b is drawn beside it and not visited; its branch is closed all the same."""
    world, script = Bench(), Growing({"a": GIVE_UP, "b": {}, "c": ANSWER})
    states: list[Any] = []

    def noted(task: Task, nodes: Any) -> Flow[list[float]]:
        states.extend(node.session._state for node in nodes)
        return [0.0] * len(nodes)
        yield

    agent = DepthFirst(order=noted, reference=True, restarts=1)
    (episode,) = drive(agent, world.tasks("train", 1), world, Scripted(script, renderer=layout()))
    assert episode.trajectories[0].answer == "found c"
    assert len({id(state) for state in states}) == 2  # the beginning, and b
    assert all(state.closed for state in states)


def test_the_end_of_a_failed_search_is_read_before_it_is_closed() -> None:
    """Both steps stand at the depth limit; the state after the last of them is the episode's."""

    class Once(Bench):
        def start(self, task: Task, seed: int = 0) -> Any:
            session = super().start(task, seed)

            def final(state: Any) -> Mapping[str, Any]:
                assert not state.closed, "the state was closed"
                return {"lines": list(state.written)}

            session._final = final  # type: ignore[attr-defined]
            return session

    world, script = Once(), Growing(steps("a", "b"))
    (episode,) = drive(DepthFirst(depth=1), world.tasks("train", 1), world, Scripted(script, renderer=layout()))
    assert not episode.problem
    assert episode.trajectories[0].final == {"lines": ["b"]}


def test_steps_at_the_depth_limit_are_noted() -> None:
    episode, _ = played(DepthFirst(width=2, depth=2), TWO)
    turns = {plain_text(turn.reply): turn for path in episode.trajectories for turn in path.turns}
    assert sorted(name for name, turn in turns.items() if turn.notes.get("pruned")) == ["a1", "a2", "b1"]


def test_what_gives_up_is_settable() -> None:
    def says_no(node: Node) -> bool:
        return node.answer == "found a"

    episode, script = played(DepthFirst(stuck=says_no), {"a": ANSWER, "b": ANSWER})
    assert script.proposals == ["a", "b"]
    assert episode.trajectories[0].answer == "found b"


def test_settings_that_allow_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="width is 0; the least is 1"):
        DepthFirst(width=0)
    with pytest.raises(ValueError, match="tokens is 0; the least is 1"):
        replace(UNLIMITED, tokens=0)
