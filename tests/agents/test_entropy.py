"""Entropy branching: entropies by hand, where branches begin, and what they keep of the main chain."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.toys import Bench, layout

from ferrule.agents.entropy import EntropyBranch, most_unsure, opening_entropy, top_entropy
from ferrule.agents.search import Budget
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Reply, plain_text
from ferrule.policies.scripted import Scripted, nonsense
from ferrule.rollout.drive import adrive, drive
from ferrule.rollout.record import Episode, dump, parse

HALF = ((0, math.log(0.5)), (1, math.log(0.5)))
SURE = ((0, 0.0),)


def test_entropy_of_the_most_probable_tokens() -> None:
    """2 (.5 ln 2) = .693147; -(.7 ln .7 + .2 ln .2) = .571560, the missing tenth counting nothing."""
    assert top_entropy([HALF]) == pytest.approx([0.693147], abs=1e-6)
    assert top_entropy([((0, math.log(0.7)), (1, math.log(0.2)))]) == pytest.approx([0.571560], abs=1e-6)


@pytest.mark.parametrize(
    ("entropies", "value", "stop"),
    [
        ([2.0] * 5 + [0.5] * 20, 1.25, 10),  # (5 * 2 + 5 * .5) / 10; longer beginnings hold more of the .5
        ([0.1] * 10 + [1.0] * 10 + [0.2] * 10, 0.55, 20),  # (1 + 10) / 20
        ([0.3] * 4, 0.3, 4),
        ([], 0.0, 0),
        ([0.0] * 12, 0.0, 10),
    ],
)
def test_opening(entropies: Sequence[float], value: float, stop: int) -> None:
    assert opening_entropy(entropies) == (pytest.approx(value), stop)


def test_steps_are_taken_by_their_entropy() -> None:
    assert most_unsure([0.5, 1.2, 1.2, 0.9], 3) == [1, 2, 3]
    assert most_unsure([0.5], 3) == [0]


class Unsure(Scripted):
    """A script whose replies tell entropies: ``unsure(request)`` is the number of first tokens that are even odds."""

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return [
            [replace(reply, extras={"top_logps": self.tops(request, len(reply.sampled))}) for reply in replies]
            for request, replies in zip(asks, super().generate(asks), strict=True)
        ]

    def tops(self, request: Ask, count: int) -> tuple[tuple[tuple[int, float], ...], ...]:
        assert request.want == ("top_logps:50",)
        turn = sum(message.role == "assistant" for message in request.messages)
        return tuple(HALF if turn == 1 and i < 10 else SURE for i in range(count))


def script(request: Ask, sample: int) -> str | Message:
    """Write "first", then "second" with its sample, then say which lines came; a branch writes the rest of a call."""
    said = [m for m in request.messages if m.role == "assistant"]
    if len(said) == 2:
        return f"done after {said[1].calls[0].arguments['line']}"
    codec = layout().codec
    line = "first" if not said else f"second{sample}"
    text = codec.write(Message("assistant", "", (Call("write", {"line": line}),)))
    return text[len(request.begun) :] if request.begun else text


def played(agent: EntropyBranch, world: Bench | None = None) -> Episode:
    world = world or Bench()
    (episode,) = drive(agent, world.tasks("train", 1), world, Unsure(script, renderer=layout()))
    assert not episode.problem
    assert not episode.drifted
    assert all(state.closed for state in world.states)
    assert parse(dump(episode))[0] == episode
    return episode


def test_branches_keep_the_opening_and_the_world_before_it() -> None:
    """The second step is unsure: two branches keep ten of its bytes, and write their line after "first" alone."""
    episode = played(EntropyBranch(steps=1, width=2))
    main, *branches = sorted(episode.trajectories, key=lambda path: path.turns[1].id)
    assert main.turns[1].notes["entropy"] == pytest.approx(math.log(2))
    assert main.turns[0].notes["entropy"] == 0.0
    assert main.turns[1].notes["parts"][0]["stop"] == 10
    assert len(branches) == 2
    for number, branch in enumerate(branches):
        assert branch.turns[0] is main.turns[0]
        step = branch.turns[1]
        assert step.notes["begun"] == 10
        assert step.given == (*main.turns[1].given, *main.turns[1].sampled[:10])
        assert step.reply.calls[0].arguments == {"line": f"second{number}"}
        assert branch.turns[-1].notes["answer"] == f"done after second{number}"
    assert episode.trajectories[0].answer == "done after second0"  # two of three say so
    assert episode.trajectories[0].final["lines"] == ["first", "second0"]


def test_calls_that_are_left_are_those_before_the_step() -> None:
    """Two calls are allowed: the main chain makes both, and each branch one more after the first."""
    episode = played(EntropyBranch(steps=1, width=2), Bench(calls=2))
    statuses = [turn.observations[0].status for path in episode.trajectories for turn in path.turns[:2]]
    assert statuses == ["ok"] * 6


def test_branches_are_played_side_by_side() -> None:
    """Three replies of the main chain, then as many rounds for all branches as the longest takes."""
    sizes: list[int] = []

    class Counted(Unsure):
        def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
            sizes.append(sum(request.n for request in asks))
            return super().generate(asks)

    world = Bench()
    drive(EntropyBranch(), world.tasks("train", 1), world, Counted(script, renderer=layout()))
    assert sizes == [1, 1, 1, 9, 6, 3]


def test_without_probabilities_steps_are_written_anew() -> None:
    world = Bench()
    policy = Scripted(lambda request, sample: str(sample))
    (episode,) = drive(EntropyBranch(width=2), world.tasks("train", 1), world, policy)
    assert [path.turns[-1].notes["answer"] for path in episode.trajectories] == ["0", "1", "0"]
    assert {plain_text(path.turns[-1].reply) for path in episode.trajectories} == {"0", "1"}


@pytest.mark.parametrize("tokens", [1, 30, 200])
def test_no_search_writes_more_than_its_tokens(tokens: int) -> None:
    world = Bench()
    agent = EntropyBranch(budget=Budget(tokens=tokens))
    for episode in drive(agent, world.tasks("train", 3), world, nonsense(1, renderer=layout())):
        assert not episode.problem
        assert 0 < episode.sampled_count <= tokens


def test_drivers_record_the_same() -> None:
    world, agent = Bench(), EntropyBranch()
    tasks = world.tasks("train", 3)
    together = drive(agent, tasks, world, Unsure(script, renderer=layout()), seed=3)
    assert together == asyncio.run(adrive(agent, tasks, world, Unsure(script, renderer=layout()), seed=3))
    assert together == [drive(agent, [t], world, Unsure(script, renderer=layout()), seed=3)[0] for t in tasks]


def test_what_never_branches_is_refused() -> None:
    with pytest.raises(ValueError, match=r"EntropyBranch\.width is 0"):
        EntropyBranch(width=0)
    with pytest.raises(ValueError, match="prefixes are"):
        EntropyBranch(prefixes=())
