"""Trees of steps: the worked pairs, trees of recorded searches, and what gives no pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.toys import Bench, layout

from ferrule.agents.depth_first import DepthFirst
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, plain_text
from ferrule.data.formats import Pair
from ferrule.data.layout import laid_out
from ferrule.data.trees import Branch, Tree, path_preferences, solutions, step_preferences, successful, tree_of
from ferrule.policies.scripted import Scripted, encode
from ferrule.rollout.drive import drive

ASKED = (Message("user", "?"),)
GOOD = "good"


def grown(shape: Mapping[str, Any]) -> tuple[Branch, ...]:
    return tuple(
        Branch(Message("assistant", name), children=() if below == GOOD else grown(below), solved=below == GOOD)
        for name, below in shape.items()
    )


def named(pairs: Any) -> list[tuple[str, str, str]]:
    """Pairs as (what stands before, chosen, rejected), by the names of the steps."""

    def spelled(messages: Any) -> str:
        return ",".join(plain_text(m) for m in messages if m.role == "assistant")

    return [(spelled(pair.prompt), spelled(pair.chosen), spelled(pair.rejected)) for pair in pairs]


WORKED = {"a": {"a1": {}, "a2": {}}, "b": {"b1": {}, "b2": {"c": GOOD}, "b3": {}}}


def test_steps_on_the_way_against_those_beside() -> None:
    """The worked tree: nothing below a, which is not on the way, and nothing for c, an only child."""
    tree = Tree(ASKED, grown(WORKED))
    assert named(step_preferences(tree)) == [("", "b", "a"), ("b", "b2", "b1"), ("b", "b2", "b3")]
    assert [pair.origin["step"] for pair in step_preferences(tree)] == [0, 1, 1]


def test_whole_paths() -> None:
    pairs = named(path_preferences(Tree(ASKED, grown(WORKED))))
    assert pairs == [("", "b,b2,c", way) for way in ("a,a1", "a,a2", "b,b1", "b,b3")]


def test_ways_to_success_are_conversations() -> None:
    (way,) = solutions(Tree(ASKED, grown(WORKED)))
    assert [plain_text(message) for message in way.messages] == ["?", "b", "b2", "c"]
    assert solutions(Tree(ASKED, grown({"a": {"a1": {}}}))) == []


@pytest.mark.parametrize("shape", [{"a": {"b": GOOD}}, {"a": {"a1": {}}, "b": {}}])
def test_a_single_chain_and_a_tree_without_success_give_no_pairs(shape: Mapping[str, Any]) -> None:
    assert step_preferences(Tree(ASKED, grown(shape))) == []


def test_two_ways_to_success_are_never_set_against_each_other() -> None:
    tree = Tree(ASKED, grown({"u": GOOD, "v": {"v1": GOOD}, "w": {}}))
    assert named(step_preferences(tree)) == [("", "u", "w"), ("", "v", "w")]


def test_the_same_text_twice_gives_no_pair() -> None:
    first, second = (Branch(Message("assistant", "", (Call("f", {}, id=i),)), solved=i == "1") for i in "12")
    assert step_preferences(Tree(ASKED, (first, second))) == []


def test_failures_that_do_not_count() -> None:
    tree = Tree(ASKED, grown({"a": {}, "b": {}, "c": GOOD}))
    pairs = step_preferences(tree, rejects=lambda branch: plain_text(branch.reply) == "b")
    assert named(pairs) == [("", "c", "b")]


def test_a_recorded_search_gives_its_pairs() -> None:
    """First steps a and b, of which b leads to the answer: the hint that b was written after is in no pair."""

    def script(request: Ask, sample: int) -> Message:
        way = [plain_text(m) for m in request.messages if m.role == "assistant"]
        if not way:
            name = "b" if "tried here before" in plain_text(request.messages[-1]) else "a"
            return Message("assistant", name, (Call("write", {"line": name}, id=name),))
        return Message("assistant", "found" if way == ["b"] else "")

    world = Bench()
    (episode,) = drive(DepthFirst(), world.tasks("train", 1), world, Scripted(script, renderer=layout()))
    session = world.start(episode.task)
    tree = tree_of(episode.trajectories, lambda path: path.answer == "found", tools=session.tools, task=episode.task.id)
    assert [plain_text(branch.reply) for branch in tree.branches] == ["a", "b"]
    assert [successful(branch) for branch in tree.branches] == [False, True]
    assert tree.branches[1].results == (Message("tool", "1", name="write", call_id="call_0"),)
    (pair,) = step_preferences(tree)
    assert named([pair]) == [("", "b", "a")]
    assert pair.prompt == (Message("user", "task 0"),)
    assert pair.origin == {"task": episode.task.id, "step": 0}
    rows = laid_out(pair, layout(), lambda text: encode(text, "<|end|>"))
    assert isinstance(rows, Pair)
    assert b"tried" not in bytes(i for i in rows.chosen.ids if i < 256)
    assert rows.chosen.turn.count(-1) == rows.rejected.turn.count(-1)


def test_an_episode_without_a_turn_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one turn"):
        tree_of((), lambda path: True)
