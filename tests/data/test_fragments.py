"""Fragments read back from a search, pairs of them, and rows that end where a fragment ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.toys import Bench, layout

from ferrule.agents.monte_carlo import MonteCarlo, separated
from ferrule.agents.search import Node
from ferrule.core.flows import Ask
from ferrule.core.records import Message, Task, Trajectory, Turn
from ferrule.data.formats import Pair, Row, trajectory_row
from ferrule.data.fragments import (
    Fork,
    Fragment,
    chain_row,
    contrast,
    forks_of,
    fragment_pairs,
    shared_tokens,
)
from ferrule.policies.scripted import END_ID, Scripted
from ferrule.rollout.drive import drive


def script(request: Ask, sample: int) -> str:
    return f"a, b{sample}, c" if not request.begun else f"d{sample}"


def sevens(task: Task, node: Node) -> float:
    return float("0" in node.text)


def recorded() -> Sequence[Trajectory]:
    def split(text: str) -> list[str]:
        return separated(text, step_limit=1)

    agent = MonteCarlo(iterations=2, depth=1, split=split, value=sevens, guess=sevens, ahead=2, parts=3)
    world = Bench()
    (episode,) = drive(agent, world.tasks("train", 1), world, Scripted(script, renderer=layout()))
    assert not episode.problem
    return episode.trajectories


def test_forks_of_a_search() -> None:
    """Both first replies begin alike, and after "a, " stand what each went on with and two replies drawn there."""
    first, second, *later = forks_of(recorded(), task="t")
    assert [f.text for f in first.fragments] == ["a, ", "a, "]
    assert [f.text for f in second.fragments][:2] == ["b0, ", "b1, "]
    assert {f.text for f in second.fragments[2:]} == {"d0", "d1"}
    assert (first.text, second.text) == ("", "a, ")
    assert second.before == (*first.before, *b"a, ")
    assert second.fragments[0].ids == tuple(b"b0, ")
    assert second.fragments[2].ids == (*b"d0", END_ID)
    assert {fork.text for fork in later} == {"a, b0, ", "a, b1, "}
    assert second.origin == {"task": "t"}


def test_a_pair_ends_where_its_fragments_end() -> None:
    """Of the fragments after "a, " the first with a 0 is worth most; no end token is put behind it."""
    second = forks_of(recorded())[1]
    (pair,) = fragment_pairs([second])
    assert pair.chosen.ids == (*second.before, *b"b0, ")
    assert END_ID not in pair.chosen.ids[len(second.before) :]
    assert pair.chosen.turn == (*[-1] * len(second.before), 0, 0, 0, 0)
    assert pair.rejected.ids[: len(second.before)] == second.before


def test_overlap_of_words() -> None:
    assert shared_tokens("a b c", "b c d e") == pytest.approx(2 / 3)
    assert shared_tokens("", "a") == 0.0


@pytest.mark.parametrize(
    ("values", "texts", "places"),
    [
        ((0.5, -0.2), ("a b", "c d"), (0, 1)),
        ((0.5, 0.1), ("a b", "b a"), None),  # the same words
        ((-0.35, -0.6), ("a b", "c d"), None),  # the better one is below -0.3
        ((0.5, 0.45), ("a b", "c d"), None),  # closer than 0.1
        ((0.1, 0.5, 0.2), ("a", "b", "c"), (1, 0)),
        ((0.5,), ("a",), None),
    ],
)
def test_contrast(values: Sequence[float], texts: Sequence[str], places: tuple[int, int] | None) -> None:
    fragments = [Fragment(text, (), value) for text, value in zip(texts, values, strict=True)]
    assert contrast(fragments) == places


def test_pairs_are_rows_of_exact_ids() -> None:
    fork = Fork((1, 2), (Fragment("a", (3,), 1.0), Fragment("b", (4, 5), 0.0)))
    assert fragment_pairs([fork]) == [Pair(Row((1, 2, 3), (-1, -1, 0)), Row((1, 2, 4, 5), (-1, -1, 0, 0)))]
    assert fragment_pairs([fork], lambda fragments: None) == []


def test_a_chain_is_learned_from_its_beginning() -> None:
    """The reply began with two ids of another path: rows for policy gradients leave them out, chains do not."""
    turn = Turn(1, None, (7, 8, 3, 4), (5,), (0.0,), Message("assistant", "x"), notes={"begun": 2})
    path = Trajectory(Task("t", "?"), (turn,))
    assert trajectory_row(path).turn == (-1, -1, -1, -1, 0)
    assert chain_row(path) == Row((7, 8, 3, 4, 5), (-1, -1, 0, 0, 0))
