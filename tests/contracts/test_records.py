"""What every agent leaves behind on every world, with every codec and policy, is a sound record."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from tests.contracts.checks import Broken
from tests.contracts.kinds import need
from tests.toys import WORLDS, Bench, Prober, layout, tiny_policy

from ferrule.agents.react import ToolLoop
from ferrule.chat.codec import codec_names
from ferrule.core.arrays import pack
from ferrule.core.records import Call, Message, Score, Trajectory, Turn
from ferrule.policies.scripted import nonsense
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode, dump, parse

pytestmark = pytest.mark.usefixtures("one_thread")

AGENTS = {"tool loop": ToolLoop(turns=3, max_tokens=30), "two samples": Prober(turns=2, n=2)}
MAKERS: dict[str, Any] = {
    "scripted": lambda codec: nonsense(4, renderer=layout(codec)),
    "local": lambda codec: tiny_policy(codec_name=codec),
}


def check_episode(episode: Episode) -> None:
    """Turns in order, parents before children, shared prefixes shared, observations one for one, an answer in front."""
    need(len(episode.trajectories) > 0, "an episode has a trajectory")
    known: dict[int, Turn] = {}
    for path in episode.trajectories:
        need(path.task == episode.task, "paths are of the task")
        ids = [turn.id for turn in path.turns]
        need(ids == sorted(set(ids)), "turns come in order", str(ids))
        for turn in path.turns:
            need(known.setdefault(turn.id, turn) is turn, "branches share their turns", str(turn.id))
            need(turn.parent is None or turn.parent < turn.id, "parents come first", str(turn.id))
            need(len(turn.observations) <= len(turn.reply.calls), "observations answer calls one for one", str(turn.id))
            need(len(turn.logps) == len(turn.sampled), "one log-prob per sampled id", str(turn.id))
        need(path is episode.trajectories[0] or path.answer is None, "the answer stands in front")
    signals = pack(episode.trajectories, [Score(0.0)] * len(episode.trajectories), [0] * len(episode.trajectories))
    for row, path in enumerate(episode.trajectories):
        own = signals.ids_NT[row][signals.turn_NT[row] >= 0].tolist()
        need(own == [i for turn in path.turns for i in turn.sampled], "the row is the path")
    need(parse(dump(episode))[0] == episode, "reloads equal")


@pytest.mark.parametrize(("world", "codec"), list(product(WORLDS, codec_names())))
def test_records(world: str, codec: str) -> None:
    for agent, maker in product(AGENTS.values(), MAKERS.values()):
        for episode in drive(agent, WORLDS[world].tasks("train", 2), WORLDS[world], maker(codec), num_generations=2):
            check_episode(episode)
            assert not episode.problem


def sound() -> Episode:
    world = Bench()
    (episode,) = drive(Prober(turns=2, n=2), world.tasks("train", 1), world, nonsense(1, renderer=layout()))
    return episode


def changed(place: int, **changes: Any) -> Episode:
    """The sound episode with one turn of its first path changed."""
    from dataclasses import replace

    episode = sound()
    first = episode.trajectories[0]
    turns = tuple(replace(t, **changes) if k == place else t for k, t in enumerate(first.turns))
    return replace(episode, trajectories=(replace(first, turns=turns), *episode.trajectories[1:]))


def test_the_sound_record_passes() -> None:
    check_episode(sound())


@pytest.mark.parametrize(
    ("promise", "make"),
    [
        ("branches share their turns", lambda: changed(0, finish="length")),
        ("one log-prob per sampled id", lambda: changed(-1 + len(sound().trajectories[0].turns), logps=())),
        ("parents come first", lambda: changed(-1 + len(sound().trajectories[0].turns), parent=99)),
        ("turns come in order", lambda: backwards()),
        ("the answer stands in front", lambda: second_answer()),
        ("observations answer calls one for one", lambda: chatty()),
        ("paths are of the task", lambda: stranger()),
    ],
)
def test_wrong_record_is_caught(promise: str, make: Any) -> None:
    with pytest.raises(Broken, match=f"^{promise}"):
        check_episode(make())


def backwards() -> Episode:
    from dataclasses import replace

    episode = sound()
    first = episode.trajectories[0]
    return replace(episode, trajectories=(replace(first, turns=first.turns[::-1]),))


def second_answer() -> Episode:
    from dataclasses import replace

    episode = sound()
    return replace(episode, trajectories=tuple(replace(t, answer="mine") for t in episode.trajectories))


def chatty() -> Episode:
    from dataclasses import replace

    from ferrule.core.records import Observation

    reply = Message("assistant", "", (Call("a"),))
    last = -1 + len(sound().trajectories[0].turns)
    return replace(changed(last, reply=reply, observations=(Observation("1"), Observation("2"))))


def stranger() -> Episode:
    from dataclasses import replace

    from ferrule.core.records import Task

    episode = sound()
    return replace(episode, trajectories=(Trajectory(Task("other", "p"), episode.trajectories[0].turns),))
