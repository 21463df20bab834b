"""Trees, segments and sub-agents come out of object identity alone."""

from __future__ import annotations

import pytest
from tests.toys import layout

from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Observation, Reply, Task, Trajectory
from ferrule.policies.scripted import Scripted
from ferrule.rollout.record import Recorder

TASK = Task("t", "p")


class Play:
    """A recorder with a policy that says ``reply 0``, ``reply 1``, ... or makes calls."""

    def __init__(self) -> None:
        self.recorder, self.count = Recorder(TASK), 0
        self.policy = Scripted(self.speak, renderer=layout())

    def speak(self, request: Ask, sample: int) -> str:
        self.count += 1
        return f"reply {self.count - 1}"

    def ask(self, *messages: Message, n: int = 1, role: str = "solver") -> list[Message]:
        asked = self.recorder.extend(Ask(messages, n=n, role=role))
        replies = self.policy.generate([asked.request])[0]
        return [self.recorder.add(asked, reply).reply for reply in replies]

    def paths(self) -> list[list[int]]:
        return [[turn.id for turn in path.turns] for path in self.made()]

    def made(self) -> tuple[Trajectory, ...]:
        return self.recorder.paths("answer", "answer", {"x": 1}, "")


USER = Message("user", "question")


def test_a_conversation_is_one_path() -> None:
    play = Play()
    (first,) = play.ask(USER)
    more = Message("user", "more")
    play.ask(USER, first, more)
    assert play.paths() == [[0, 1]]
    assert [t.parent for t in play.made()[0].turns] == [None, 0]
    assert play.recorder.turns[1].messages == (more,)


def test_the_samples_of_one_ask_are_branches() -> None:
    """Turn 0 is asked three samples (1, 2, 3); 2 goes on (4). Leaves by time: 4, 3, 1; the latest has the answer."""
    play = Play()
    (root,) = play.ask(USER)
    more = Message("user", "more")
    _, middle, _ = play.ask(USER, root, more, n=3)
    play.ask(USER, root, more, middle, Message("user", "end"))
    assert play.paths() == [[0, 2, 4], [0, 3], [0, 1]]
    paths = play.made()
    assert [p.answer for p in paths] == ["answer", None, None]
    assert [p.finish for p in paths] == ["answer", "cancelled", "cancelled"]
    assert [dict(p.final) for p in paths] == [{"x": 1}, {}, {}]


def test_branches_share_their_turns() -> None:
    play = Play()
    (root,) = play.ask(USER)
    play.ask(USER, root, Message("user", "more"), n=2)
    left, right = play.made()
    assert left.turns[0] is right.turns[0]


def test_an_equal_message_that_is_another_object_is_another_context() -> None:
    """Only the very same objects prove that the ids seen before are still what the model should see."""
    play = Play()
    (first,) = play.ask(USER)
    play.ask(Message("user", "question"), first, Message("user", "more"))
    assert [t.parent for t in play.made()[0].turns] == [None, None]


def test_a_rewritten_context_starts_a_segment_on_the_same_path() -> None:
    play = Play()
    (first,) = play.ask(USER)
    summary = Message("user", "so far: question, reply 0")
    (second,) = play.ask(summary)
    play.ask(summary, second, Message("user", "end"))
    assert play.paths() == [[0, 1, 2]]
    turns = play.made()[0].turns
    assert [t.parent for t in turns] == [None, None, 1]
    assert turns[1].given[:3] == turns[0].given[:3]  # a new opening, not a continuation
    assert first.content == "reply 0"


def test_the_longest_known_context_is_extended() -> None:
    play = Play()
    (first,) = play.ask(USER)
    more = Message("user", "more")
    (second,) = play.ask(USER, first, more)
    play.ask(USER, first, more, second, Message("user", "end"))
    assert [t.parent for t in play.made()[0].turns] == [None, 0, 1]


def test_a_sub_agent_has_a_trajectory_of_its_own() -> None:
    play = Play()
    (first,) = play.ask(USER)
    play.ask(Message("user", "judge this"), role="judge")
    play.ask(USER, first, Message("user", "end"))
    paths = play.made()
    assert [(p.role, [t.id for t in p.turns]) for p in paths] == [("solver", [0, 2]), ("judge", [1])]


def test_another_role_never_continues_the_ids_of_this_one() -> None:
    """Roles may be played by different models, whose ids mean different tokens."""
    play = Play()
    (first,) = play.ask(USER)
    play.ask(USER, first, Message("user", "is it right?"), role="judge")
    judge = play.recorder.turns[1]
    assert judge.parent is None
    assert len(judge.messages) == 3


def test_an_episode_without_turns_has_one_empty_path() -> None:
    assert Recorder(TASK).paths(None, "error", {}, "agent raised") == (
        Trajectory(TASK, (), None, "error", problem="agent raised"),
    )


# --------------------------------------------------------------------------------------------------------------- drift


def reply(given: tuple[int, ...], sampled: tuple[int, ...], logps: tuple[float, ...] | None = None) -> Reply:
    return Reply(Message("assistant", "x"), given, sampled, (0.0,) * len(sampled) if logps is None else logps)


def test_ids_that_do_not_continue_the_context_are_drift() -> None:
    recorder = Recorder(TASK)
    asked = recorder.extend(Ask((USER,)))
    first = recorder.add(asked, reply((1, 2), (3,)))
    assert not recorder.drifted
    asked = recorder.extend(Ask((USER, first.reply, USER)))
    assert asked.request.context == (1, 2, 3)
    assert asked.request.fresh == 2
    recorder.add(asked, reply((1, 9, 3, 4), (5,)))
    assert recorder.drifted


@pytest.mark.parametrize("logps", [(), (-0.5,), (-0.5, -0.5, -0.5)])
def test_a_log_prob_per_sampled_id_or_it_is_drift(logps: tuple[float, ...]) -> None:
    recorder = Recorder(TASK)
    recorder.add(recorder.extend(Ask((USER,))), reply((1,), (2, 3), logps))
    assert recorder.drifted


def test_a_policy_without_ids_does_not_drift() -> None:
    recorder = Recorder(TASK)
    first = recorder.add(recorder.extend(Ask((USER,))), reply((), ()))
    recorder.add(recorder.extend(Ask((USER, first.reply, USER))), reply((), ()))
    assert not recorder.drifted
    assert [t.parent for t in recorder.turns] == [None, 0]


# -------------------------------------------------------------------------------------------------------- observations


def with_calls(recorder: Recorder, *calls: Call) -> None:
    asked = recorder.extend(Ask((Message("user", "x"),)))
    recorder.add(asked, Reply(Message("assistant", "", calls)))


def texts(recorder: Recorder) -> list[list[str]]:
    return [[o.text for o in turn.observations] for turn in recorder.turns]


def test_observations_stand_in_the_order_of_the_calls() -> None:
    """The second call was made first; ``Trajectory.calls`` pairs by position."""
    recorder, a, b = Recorder(TASK), Call("a"), Call("b")
    with_calls(recorder, a, b)
    recorder.observe([(b, Observation("of b"))])
    recorder.observe([(a, Observation("of a"))])
    assert texts(recorder) == [["of a", "of b"]]


def test_a_call_that_was_skipped_keeps_its_place() -> None:
    recorder, a, b = Recorder(TASK), Call("a"), Call("b")
    with_calls(recorder, a, b)
    recorder.observe([(b, Observation("of b"))])
    assert [(c.name, o.status) for c, o in recorder.paths(None, "turns", {}, "")[0].calls] == [
        ("a", "refused"),
        ("b", "ok"),
    ]


def test_the_same_call_object_in_two_turns_is_answered_turn_by_turn() -> None:
    """A script that repeats one message repeats its call objects; each turn has its own result."""
    recorder, call = Recorder(TASK), Call("a")
    for text in ("first", "second"):
        with_calls(recorder, call)
        recorder.observe([(call, Observation(text))])
    assert texts(recorder) == [["first"], ["second"]]


def test_calls_that_no_reply_holds_are_nobodys() -> None:
    recorder = Recorder(TASK)
    with_calls(recorder, Call("a"))
    recorder.observe([(Call("a"), Observation("of another object"))])
    assert texts(recorder) == [[]]
