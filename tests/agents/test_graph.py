"""Graph search over choices: the rule of choosing, what a score goes to, and what sharing changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from ferrule.agents.graph import (
    ROOT,
    ChoiceGraph,
    Edge,
    by_choice,
    by_way,
    graph_search,
    random_chance,
    random_search,
    worth_trying,
)


@pytest.mark.parametrize(("left", "chance"), [(7, 1.0), (6, 0.8920), (4, 0.7097), (2, 0.5647), (0, 0.4493)])
def test_how_often_a_choice_is_random(left: int, chance: float) -> None:
    """exp(-0.8 (1 - left / 7)): exp(-0.8 / 7) = 0.8920 with 6 left, exp(-0.8) = 0.4493 with none."""
    assert random_chance(left, 7) == pytest.approx(chance, abs=5e-5)


def test_which_edge_is_worth_trying() -> None:
    """1 + 1.5 sqrt(2 ln 5 / 3) = 2.5538 and 0.25 + 1.5 sqrt(ln 5) = 2.1530."""
    assert worth_trying(Edge(3, 3.0), 5) == pytest.approx(2.5538, abs=5e-5)
    assert worth_trying(Edge(2, 0.5), 5) == pytest.approx(2.1530, abs=5e-5)
    assert worth_trying(Edge(), 5) == math.inf


def test_scores_go_to_the_edges_of_their_own_way() -> None:
    """x = city follows two marks and is one node; its edges keep apart, and the last node of a way is not gone on from."""
    graph: ChoiceGraph[str] = ChoiceGraph()
    bar, arc, city, yes = ("mark", "bar"), ("mark", "arc"), ("x", "city"), ("transform", True)
    graph.gain([ROOT, bar, city], 1.0)
    graph.gain([ROOT, arc, city, yes], 0.4)
    graph.gain([ROOT, bar], -15.0)
    assert graph.visits == {ROOT: 3, bar: 1, arc: 1, city: 1}
    assert graph.edges == {
        ROOT: {bar: Edge(2, -14.0), arc: Edge(1, 0.4)},
        bar: {city: Edge(1, 1.0)},
        arc: {city: Edge(1, 0.4)},
        city: {yes: Edge(1, 0.4)},
    }
    assert graph.keys == [bar, arc, city, yes]


@dataclass
class Word:
    """Words of two letters of "ab"; "bb" is invalid, and the second letter alone says what a word is worth."""

    first: str = ""
    slots: int = 2
    asked: int = 0

    def legal(self, state: str) -> Sequence[str]:
        return ("a", "b") if len(state) < 2 else ()

    def step(self, state: str, action: str) -> str:
        return state + action

    def left(self, state: str) -> int:
        return 2 - len(state)

    def score(self, state: str) -> float | None:
        self.asked += 1
        return None if state == "bb" else float(state[1] == "b")


def key(state: str, action: str) -> tuple[int, str]:
    return len(state), action


def test_ends_are_scored_once_and_invalid_ones_cost() -> None:
    """Two words end in a, one in b is valid, one is not: of 400 ways through the second slot the mean of b is below 0."""
    problem, graph = Word(), ChoiceGraph[str]()
    ends = graph_search(problem, graph, simulations=400, invalid=-3.0, node_key=key)
    assert problem.asked == 4
    assert graph.scores == {"aa": 0.0, "ab": 1.0, "ba": 0.0, "bb": None}
    assert len(ends) == 400
    assert sum(edge.visits for edge in graph.below(ROOT).values()) == graph.visits[ROOT] == 400
    assert graph.edges[0, "a"][1, "b"].mean == 1.0
    assert graph.edges[0, "b"][1, "b"].mean == -3.0
    assert set(graph.keys) == {(0, "a"), (0, "b"), (1, "a"), (1, "b")}


def test_a_graph_is_a_tree_with_the_keys_of_ways() -> None:
    """By ways the second letter is another node after either first: 2 + 4 nodes; by choice the letters alone: 2."""
    sizes = {}
    for name, node_key in (("tree", by_way), ("graph", key), ("letters", by_choice)):
        graph: ChoiceGraph[str] = ChoiceGraph()
        graph_search(Word(), graph, simulations=50, node_key=node_key)
        sizes[name] = len(graph.keys)
    assert sizes == {"tree": 6, "graph": 4, "letters": 2}


def test_the_search_leans_to_what_pays_and_the_seed_decides() -> None:
    """The first choice is always drawn, so "ab" is at most about 200 of 400; evenly drawn words are 100 each."""

    def count(**how: float) -> int:
        ends = graph_search(Word(), ChoiceGraph[str](), simulations=400, node_key=by_way, seed=3, **how)  # type: ignore[arg-type]
        return ends.count("ab")

    assert count(decay=50.0) > 150 > count(decay=0.0) > 60
    evenly = random_search(Word(), ChoiceGraph[str](), simulations=400, seed=3)
    assert 60 < evenly.count("bb") < 140
    assert evenly == random_search(Word(), ChoiceGraph[str](), simulations=400, seed=3)
