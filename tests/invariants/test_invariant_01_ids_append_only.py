"""Invariant 1: token ids are append-only and never made again from text."""

import itertools
from dataclasses import replace

import pytest
from tests.toys import WORLDS, Prober, layout, spied, tiny_policy

from ferrule.chat.codec import codec_names
from ferrule.core.records import Reply, Trajectory
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode


def contexts(trajectory: Trajectory) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return (ids before, ids sampled) of every turn, joined along the path; a new segment starts from nothing."""
    out, ids, last = [], (), None
    for turn in trajectory.turns:
        ids = (*ids, *turn.given) if turn.parent is not None and turn.parent == last else turn.given
        out.append((ids, turn.sampled))
        ids, last = (*ids, *turn.sampled), turn.id
    return out


@pytest.mark.parametrize("codec_name", codec_names())
@pytest.mark.parametrize("world_name", sorted(WORLDS))
def test_ids_given_and_sampled_are_what_the_model_saw(world_name: str, codec_name: str) -> None:
    world, policy = WORLDS[world_name], tiny_policy(codec_name=codec_name)
    with spied(policy) as seen:
        episodes = drive(Prober(), world.tasks("test", 2), world, policy, samples=2, temperature=1.0)
    for episode in episodes:
        assert not episode.drifted
        assert len(episode.trajectories[0].turns) == 3
        for before, sampled in contexts(episode.trajectories[0]):
            for i in range(len(sampled)):
                assert (*before, *sampled[:i]) in seen


@pytest.mark.parametrize("codec_name", codec_names())
@pytest.mark.parametrize("world_name", sorted(WORLDS))
def test_every_context_is_a_prefix_of_the_next(world_name: str, codec_name: str) -> None:
    world = WORLDS[world_name]
    policy = Scripted(lambda ask, sample: "plain words", renderer=layout(codec_name))
    for episode in drive(Prober(), world.tasks("test", 2), world, policy):
        steps = contexts(episode.trajectories[0])
        for (before, sampled), (later, _) in itertools.pairwise(steps):
            assert later[: len(before) + len(sampled)] == (*before, *sampled)


class Retokenising:
    """A wrong policy: it renders and encodes the whole conversation anew, a little differently each time."""

    def __init__(self) -> None:
        self.inner = Scripted(lambda ask, sample: "plain words", renderer=layout())

    def generate(self, asks: list) -> list[list[Reply]]:
        out = self.inner.generate(asks)
        return [
            [replace(r, given=(9, *r.given[1:])) if ask.context else r for r in replies]
            for ask, replies in zip(asks, out, strict=True)
        ]


def drifted() -> list[Episode]:
    world = WORLDS["arithmetic"]
    return drive(Prober(), world.tasks("test", 2), world, Retokenising())


def test_ids_made_again_fail_the_sample_and_are_shown() -> None:
    for episode in drifted():
        assert episode.drifted
        assert episode.trajectories[0].finish == "drift"
        assert "append-only" in episode.problem


def test_drifted_samples_are_counted_and_never_trained_on() -> None:
    from ferrule.cli.grpo import grpo
    from ferrule.train.sample import sample, stats

    world = WORLDS["arithmetic"]
    recipe = replace(grpo(num_generations=2), agent=Prober())
    batch = sample(recipe, lambda n: world.tasks("train", n), 2, world, Retokenising())
    assert stats(batch)["drifted"] == 4.0
    assert len(batch.signals.reward_N) == 0
