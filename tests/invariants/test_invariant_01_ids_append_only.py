"""Invariant 1: ids are append-only and never made again from text.

For every turn, the ids given and sampled along its path are exactly what the model saw. A violation fails that
sample, is counted and shown. A rewritten context starts a new segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.checks import check_ids
from tests.toys import WORLDS, Bench, Prober, layout, spied, tiny_policy
from tests.train.pieces import LETTERS, Speller, draw, recipe

from ferrule.agents.react import ToolLoop
from ferrule.chat.codec import codec as named_codec
from ferrule.chat.codec import codec_names
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Reply, Trajectory
from ferrule.policies.scripted import Scripted, nonsense
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.train.loop import train
from ferrule.train.sample import sample, segments, stats
from ferrule.train.settings import Settings
from ferrule.train.update import sequences

pytestmark = pytest.mark.usefixtures("one_thread")


def contexts(path: Trajectory) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All ids before the first sampled id of every turn, and the sampled ids, by joining the record along the path."""
    out: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    context: tuple[int, ...] = ()
    last = None
    for turn in path.turns:
        context = (*(context if turn.parent is not None and turn.parent == last else ()), *turn.given)
        out.append((context, turn.sampled))
        context += turn.sampled
        last = turn.id
    return out


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("codec", codec_names())
def test_invariant_01_the_record_is_what_the_model_saw(codec: str, world: str) -> None:
    """Read off the inputs of the network: nothing more, nothing less, on both branches of every tree."""
    policy = tiny_policy(codec_name=codec)
    tasks = WORLDS[world].tasks("train", 2)
    with spied(policy) as seen:
        episodes = drive(Prober(turns=3, max_tokens=6, n=2), tasks, WORLDS[world], policy)
    expected = {
        (*fed, *wrote[:i])
        for episode in episodes
        for path in episode.trajectories
        for fed, wrote in contexts(path)
        for i in range(len(wrote))
    }
    assert len(expected) > 20
    assert seen == expected
    assert not any(episode.drifted for episode in episodes)


class Logged(Scripted):
    """Remembers what it was fed and what it wrote."""

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        replies = super().generate(asks)
        if not hasattr(self, "log"):
            self.log: dict[tuple[int, ...], tuple[int, ...]] = {}
        self.log.update({r.given: r.sampled for rs in replies for r in rs})
        return replies


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("codec", codec_names())
def test_invariant_01_holds_for_a_policy_that_talks_nonsense(codec: str, world: str) -> None:
    script = nonsense(5, renderer=layout(codec))
    policy = Logged(script._script, renderer=layout(codec))
    tasks = WORLDS[world].tasks("train", 3)
    for episode in drive(ToolLoop(turns=4), tasks, WORLDS[world], policy):
        (path,) = episode.trajectories
        check_ids(path, [(fed, policy.log[fed]) for fed, _ in contexts(path)])
        assert not episode.drifted


@pytest.mark.parametrize("codec", codec_names())
def test_invariant_01_the_pieces_join_to_one_rendering(codec: str) -> None:
    """For replies in canonical form the ids of the last turn decode to the rendering of the whole conversation."""
    from ferrule.policies.scripted import decode

    world = WORLDS["apis"]
    (task,) = world.tasks("train", 1)
    name = "python" if codec == "fence" else world.start(task).tools[0].name
    # An inline codec ends a reply at the closing tag of a tool it knows; its results continue the open turn.
    options = {"arguments": ((name, "id"),)} if codec == "tagged" else {}
    renderer = replace(layout(), codec=named_codec(codec, **options))
    call = Call(name, {"code": "1"} if codec == "fence" else {"id": 1}, id="call_0")
    said = [Message("assistant", "", (call,)), Message("assistant", "", (call,)), Message("assistant", "done")]
    policy = Scripted(lambda ask, s: said[sum(m.role == "assistant" for m in ask.messages)], renderer=renderer)
    asks: list[Ask] = []
    generate = policy.generate
    policy.generate = lambda batch: (asks.extend(batch), generate(batch))[1]  # type: ignore[method-assign]
    (episode,) = drive(ToolLoop(), [task], world, policy)
    (path,) = episode.trajectories
    assert len(path.turns) == 3
    fed, _ = contexts(path)[-1]
    assert decode(fed, renderer.end) == renderer.opening(asks[-1].messages, asks[-1].tools)


# ---------------------------------------------------------------------------------------------------- what breaks it


class Again(Scripted):
    """Makes the ids of a context again from its messages, as a chat endpoint would."""

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return super().generate([replace(ask, context=(), fresh=0) for ask in asks])


def loose(ask: Ask, sample: int) -> str:
    """A call in a form that is read without loss and written differently (two blanks after the key)."""
    return '<tool_call>{"name":  "write", "arguments": {"line": "x"}}</tool_call>'


def test_invariant_01_ids_made_again_from_text_fail_the_sample() -> None:
    world = Bench()
    good, bad = (
        drive(ToolLoop(turns=3), world.tasks("train", 1), world, kind(loose, renderer=layout()))[0]
        for kind in (Scripted, Again)
    )
    assert (good.drifted, len(good.trajectories[0].turns)) == (False, 3)
    assert (bad.drifted, len(bad.trajectories[0].turns)) == (True, 2)
    assert bad.trajectories[0].finish == "drift"
    assert bad.trajectories[0].answer is None


class Sometimes(Again):
    """Drifts where the seed of the ask is a multiple of three."""

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return [
            (Again if ask.seed % 3 == 0 else Scripted).generate(self, [ask])[0]  # type: ignore[arg-type]
            for ask in asks
        ]


def test_invariant_01_drifted_samples_are_left_out_counted_and_shown(tmp_path: Path) -> None:
    batch = sample(recipe(agent=Speller(turns=2, tokens=90)), draw, 6, LETTERS, Sometimes(loose, renderer=layout()))
    drifted = [e for g in batch.groups for e in g.episodes if e.drifted]
    sound = [e for g in batch.groups for e in g.episodes if not e.drifted]
    assert drifted
    assert sound
    assert batch.drifted == stats(batch)["drifted"] == len(drifted)
    trained = {tuple(ids.tolist()) for ids in sequences(batch).ids}
    assert trained == {joined(e) for e in sound}


def joined(episode: Episode) -> tuple[int, ...]:
    fed, wrote = contexts(episode.trajectories[0])[-1]
    return (*fed, *wrote)


def test_invariant_01_a_run_says_that_samples_drifted(tmp_path: Path) -> None:
    policy = tiny_policy()
    generate = policy.generate

    def drifting(asks: Sequence[Ask]) -> list[list[Reply]]:
        replies = generate(asks)
        return [
            [replace(r, given=(9, *r.given[1:])) if ask.context and ask.seed % 2 else r for r in rs]
            for ask, rs in zip(asks, replies, strict=True)
        ]

    policy.generate = drifting  # type: ignore[method-assign]
    shown: list[Any] = []
    settings = Settings(max_steps=1, per_device_train_batch_size=8, gradient_accumulation_steps=1)
    train(recipe(), LETTERS, policy, settings, tmp_path, show=shown.append)
    (row,) = [r for r in shown if r["phase"] == "train"]
    (warning,) = [r for r in shown if r["phase"] == "warning"]
    assert 0 < row["drifted"] < 8
    assert "not append-only" in warning["text"]


def test_invariant_01_there_is_no_switch() -> None:
    """Neither the drivers nor the settings of a run know a word for it."""
    from dataclasses import fields
    from inspect import signature

    from ferrule.core.recipe import Recipe
    from ferrule.rollout.drive import Limits, adrive

    names = [f.name for kind in (Recipe, Settings, Limits) for f in fields(kind)]
    names += [p for f in (drive, adrive, sample, train, Recipe) for p in signature(f).parameters]
    assert not [name for name in names if "drift" in name or "strict" in name or "retoken" in name]


# ------------------------------------------------------------------------------------------------------------ rewriting


def test_invariant_01_a_rewritten_context_starts_a_segment() -> None:
    """Three turns, the last on a folded context: two segments, each exactly what the model saw at once."""
    policy = tiny_policy()
    with spied(policy) as seen:
        batch = sample(recipe(agent=Speller(turns=3, tokens=4, fold=True)), draw, 2, LETTERS, policy)
    s = batch.signals
    rows = [tuple(s.ids_NT[n, at].tolist()) for n, at in segments(s)]
    assert len(rows) == 2 * 8
    assert s.segment_NT.max() == 1
    for row in rows:
        assert row[:-1] in seen
    for n in range(8):
        assert s.segment_NT[n][s.turn_NT[n] == 1].tolist() == [0] * int((s.turn_NT[n] == 1).sum())
        assert s.segment_NT[n][s.turn_NT[n] == 2].tolist() == [1] * int((s.turn_NT[n] == 2).sum())
