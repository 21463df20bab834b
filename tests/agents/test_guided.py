"""Texts that are put before a model and carry no loss, and calls that it must make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.toys import layout

from ferrule.agents.guided import Guidance, Guided, Moment, forced, in_turns
from ferrule.agents.react import ToolLoop
from ferrule.core.arrays import pack
from ferrule.core.flows import Ask, Flow
from ferrule.core.records import Call, Message, Score, Task, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.tools.tool import tool
from ferrule.worlds.session import Toolbox

TASK = Task("t", "?")


@tool
def look(at: str) -> str:
    """Look at something."""
    return f"{at} is red"


@tool
def summarize(summary: str) -> str:
    """Note the state."""
    return summary


LOOK = Message("assistant", "", (Call("look", {"at": "it"}),))


def hint(moment: Moment) -> Guidance:
    """Say how many calls were made."""
    return Guidance((Message("user", f"hint {len(moment.called)}"),), {"hinted": len(moment.called)})


def played(agent: Any, replies: Any, samples: int = 1) -> Any:
    episodes = drive(agent, [TASK], Toolbox((look,)), Scripted(replies, renderer=layout()), num_generations=samples)
    assert not any(episode.problem for episode in episodes), episodes[0].problem
    return episodes


def test_hints_stand_before_each_reply_and_ids_are_appended() -> None:
    shown: list[list[str]] = []

    def script(request: Ask, sample: int) -> Message | str:
        shown.append([plain_text(message) for message in request.messages])
        return LOOK if len(shown) < 3 else "red"

    (episode,) = played(Guided(hint), script)
    (path,) = episode.trajectories
    assert shown[0] == ["?", "hint 0"]
    assert shown[2] == ["?", "hint 0", "", "it is red", "hint 1", "", "it is red", "hint 2"]
    assert [turn.notes["hinted"] for turn in path.turns] == [0, 1, 2]
    assert [turn.parent for turn in path.turns] == [None, 0, 1]
    assert not episode.drifted


def test_no_loss_is_on_a_hint() -> None:
    """The rows of a batch hold the hint's bytes as given ids: -1 in ``turn_NT``."""
    (episode,) = played(Guided(hint), [LOOK, "red"])
    (path,) = episode.trajectories
    signals = pack([path], [Score(1.0)], [0])
    own = bytes(int(i) for i in signals.ids_NT[0][signals.turn_NT[0] >= 0] if i < 256).decode()
    whole = bytes(int(i) for i in signals.ids_NT[0] if 0 <= i < 256).decode()
    assert "hint 1" in whole
    assert "hint" not in own
    assert int((signals.turn_NT >= 0).sum()) == path.sampled_count


def test_a_forced_call_is_part_of_the_episode_and_its_beginning_is_given() -> None:
    def summary_first(moment: Moment) -> Flow[Guidance]:
        if not moment.called:
            return Guidance()
        noted = yield from forced(moment, "summarize")
        assert noted.observation is not None
        return Guidance((*noted.messages, Message("user", f"so: {noted.observation.text}")))

    def script(request: Ask, sample: int) -> Message | str:
        if request.must_call:
            return Message("assistant", "", (Call("summarize", {"summary": "all is red"}),))
        return "red" if "so: all is red" in plain_text(request.messages[-1]) else LOOK

    (episode,) = played(Guided(summary_first, tools=(summarize,)), script)
    (path,) = episode.trajectories
    assert [call.name for call, _ in path.calls] == ["look", "summarize"]
    assert path.answer == "red"
    assert [turn.parent for turn in path.turns] == [None, 0, 1]
    begun = bytes(i for i in path.turns[1].given if i < 256).decode()
    assert begun.endswith('{"name": "summarize", "arguments": {')
    assert "summarize" not in bytes(i for i in path.turns[1].sampled if i < 256).decode()


def test_a_guide_is_asked_once_for_samples_of_one_step() -> None:
    asked: list[int] = []

    def counting(moment: Moment) -> Guidance:
        asked.append(len(moment.messages))
        return Guidance((Message("user", "go"),))

    def twice(task: Task, session: Any) -> Any:
        messages = (Message("user", task.prompt),)
        yield Ask(messages)
        (reply,) = yield Ask(messages)
        return plain_text(reply.message)

    played(Guided(counting, twice), ["a", "b"])
    assert asked == [1]


def test_shares_differ_between_the_samples_of_a_group() -> None:
    """About half of the later steps are guided; which ones depends on what was written before."""

    def script(request: Ask, sample: int) -> Message | str:
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn == 4:
            return "red"
        return Message("assistant", "", (Call("look", {"at": f"{request.seed % 97}"}),))

    episodes = played(Guided(hint, share=0.5), script, samples=16)
    steps = [tuple("hinted" in turn.notes for turn in episode.trajectories[0].turns) for episode in episodes]
    later = np.array([row[1:] for row in steps])
    assert 0.3 < later.mean() < 0.7
    assert len(set(steps)) > 4
    assert len({row[0] for row in steps}) == 1
    none = played(Guided(hint, share=0.0), [LOOK, "red"])
    assert not any(turn.notes for turn in none[0].trajectories[0].turns)


def test_guides_in_turns_and_roles() -> None:
    (episode,) = played(Guided(in_turns(hint, lambda moment: Guidance((Message("user", str(len(moment.messages))),)))),
                        ["red"])  # fmt: skip
    assert [plain_text(m) for m in episode.trajectories[0].turns[0].messages] == ["?", "hint 0", "2"]
    assert Guided(hint, ToolLoop(role="player")).role == "player"
    with pytest.raises(ValueError, match="share is 2"):
        Guided(hint, share=2)
