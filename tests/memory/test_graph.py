"""Graphs of tools: the worked examples of paper 20, and runs as entries of a library."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn
from ferrule.memory.graph import (
    RUN,
    Edge,
    Summary,
    ToolGraph,
    aligned,
    by_library,
    graph_memory,
    graph_of,
    learned,
    ranked,
    run_of,
    watching,
    word_overlap,
)
from ferrule.memory.library import Library
from ferrule.rollout.record import Episode

A = ("find_user", "get_order", "cancel")
B = ("find_user", "get_order", Summary("user wants refund for damaged item"), "refund")
C = ("find_user", Summary("s1"), Summary("s2"), "get_order")
STATE = "customer asks refund because item damaged"


def graph(*runs: tuple[str | Summary, ...]) -> ToolGraph:
    built = ToolGraph()
    for run in runs:
        built = learned(built, run)
    return built


def test_counts_and_weights() -> None:
    """find_user -> get_order: 1 + 1/3 of A, 1 + 1/4 of B, and two summaries of C at 1 + 1/4 each."""
    edges = graph(A, B, C).edges
    first = edges["find_user", "get_order"]
    assert (first.count, first.weight, first.summaries) == (4, pytest.approx(5.083333), ("s1", "s2"))
    assert edges["get_order", "cancel"] == Edge(1, pytest.approx(1.333333))
    assert edges["get_order", "refund"] == Edge(1, pytest.approx(1.25), ("user wants refund for damaged item",))
    assert graph(A, B, C).nodes == ("find_user", "get_order", "cancel", "refund")


def test_efficiency_is_a_weight() -> None:
    assert learned(ToolGraph(), A, efficiency=3.0).edges["get_order", "cancel"].weight == pytest.approx(2.0)


def test_ranking_with_and_without_the_state() -> None:
    """The overlap is 3 of 9 words; weights are divided by 500."""
    built = graph(A, B, C)
    offered = ["cancel", "refund"]
    with_state = ranked(built, "get_order", offered, state=STATE)
    assert with_state == [("refund", pytest.approx(1 / 3)), ("cancel", pytest.approx(0.002667, abs=1e-6))]
    without = ranked(built, "get_order", offered)
    assert without == [("cancel", pytest.approx(0.002667, abs=1e-6)), ("refund", pytest.approx(0.0025))]
    assert ranked(built, "get_order", ["refund"])[0][0] == "refund"
    assert ranked(built, "cancel", offered) == []


def test_no_likeness_falls_back_to_the_weight() -> None:
    assert dict(ranked(graph(B), "get_order", ["refund"], state="zzz"))["refund"] == pytest.approx(1.25 / 500)


def test_a_large_weight_beats_a_likeness_unless_weights_are_shares() -> None:
    """600 / 500 = 1.2 is more than any likeness; as a share of all weights it is 600 / 601.25."""
    built = ToolGraph(("a", "b", "c"), {("a", "b"): Edge(480, 600.0), ("a", "c"): Edge(1, 1.25, ("same words",))})
    raw = ranked(built, "a", "bc", state="same words")
    assert raw == [("b", pytest.approx(1.2)), ("c", pytest.approx(1.0))]
    shares = ranked(built, "a", "bc", state="same words", normalise=True)
    assert shares == [("c", pytest.approx(1.0)), ("b", pytest.approx(600 / 601.25))]


def test_runs_without_edges() -> None:
    """A summary at either end makes no edge, a single call only a node, and summaries alone nothing."""
    ends = graph((Summary("x"), "a", "b", Summary("y")))
    assert list(ends.edges) == [("a", "b")]
    assert ends.edges["a", "b"].summaries == ()
    assert graph(("a",)) == ToolGraph(("a",))
    assert graph((Summary("x"), Summary("y"))) == graph(()) == ToolGraph()


def test_tools_of_other_names_are_aligned_one_to_one() -> None:
    nodes = {"find_user": "look a user up", "cancel": "cancel an order"}
    tools = {"cancel": "x", "user_lookup": "look up a user by name", "other": "look a user up now", "far": "zzz"}
    assert aligned(nodes, tools) == {"cancel": "cancel", "other": "find_user"}
    assert word_overlap("a b", ["b c", ""]) == [pytest.approx(1 / 3), 0.0]


def path(*calls: tuple[str, dict[str, str], str]) -> Trajectory:
    made = tuple(Call(name, arguments) for name, arguments, _ in calls)
    seen = tuple(Observation("x", status) for *_, status in calls)  # type: ignore[arg-type]
    turn = Turn(0, None, (), (), (), Message("assistant", "", made), observations=seen)
    return Trajectory(Task("t", "cancel my order"), (turn,), "done")


NOTED = path(
    ("find_user", {}, "ok"), ("typo", {}, "unknown_tool"), ("summarize_the_task", {"summary": "s1"}, "ok"),
    ("get_order", {}, "error"),
)  # fmt: skip


def test_a_run_is_read_off_an_episode() -> None:
    assert run_of(NOTED) == ("find_user", Summary("s1"), "get_order")


def test_runs_that_worked_are_kept_and_a_retired_one_is_gone(tmp_path: Path) -> None:
    library = Library(tmp_path / "runs.sqlite")
    memory, now = graph_memory(library), watching(library)
    episode = Episode(Task("t", "cancel my order"), 2, 0, (NOTED,))
    memory.keep(episode, [Score(0.55)])
    assert graph_of(library) == ToolGraph()
    memory.keep(episode, [Score(1.0)])
    memory.keep(episode, [Score(0.6)])
    (entry, again) = library.entries(kind=RUN)
    assert (entry.origins[0].task, entry.origins[0].sample) == ("t", 2)
    assert now().edges["find_user", "get_order"].count == 2
    assert memory.counts is not None
    assert memory.counts() == {"graph/runs": 2.0, "graph/edges": 1.0}
    library.retire(entry.id)
    assert now() == graph_of(library)
    assert now().edges["find_user", "get_order"].count == 1
    other = Library(tmp_path / "runs.sqlite")  # another process sees the same
    assert graph_of(other) == graph_of(library)
    state = library.state()
    library.retire(again.id)
    assert now() == ToolGraph()
    library.load(state)
    assert now().edges["find_user", "get_order"].count == 1
    assert by_library(library)("a cancelled order", ["order a cancelled", "zzz"])[0] > 0.3


def test_nothing_is_recalled_before_an_episode() -> None:
    from ferrule.memory.memory import Recalled

    assert graph_memory(Library()).recall(Task("t", "?"), ()) == Recalled()


def test_an_entry_that_holds_no_run_is_named() -> None:
    library = Library()
    library.add("a -> b", kind=RUN, data={"steps": ["a", {"text": "s"}, "b"]})
    with pytest.raises(ValueError, match="'E1' of kind 'run' holds no run"):
        graph_of(library)


def test_a_score_that_is_no_number_keeps_nothing() -> None:
    library = Library()
    graph_memory(library).keep(Episode(Task("t", "?"), 0, 0, (NOTED,)), [Score(float("nan"))])
    assert not library.entries(kind=RUN)


def test_a_cycle_and_a_run_of_one_tool() -> None:
    """a, a: one edge from a to itself, of weight 1 + 1 / 2."""
    graph = learned(learned(ToolGraph(), ("a", "a")), ("b",))
    assert graph.edges["a", "a"].weight == pytest.approx(1.5)
    assert ranked(graph, "a", ["a", "b"], normalise=True) == [("a", 1.0)]
    assert ranked(graph, "b", ["a"]) == []
