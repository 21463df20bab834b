"""STE: trials that a model imagines, what is learned of them, and learning in rounds."""

from __future__ import annotations

import pytest
from tests.toys import Bench, layout

from ferrule.chat.react import React
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, Tool, plain_text
from ferrule.data.records import Completion
from ferrule.papers.claims.ste import STUDY
from ferrule.papers.claims.ste_memory import STUDY as MEMORY
from ferrule.papers.ste import CallShares, continual, examples, explored, method, said_no, scores
from ferrule.policies.scripted import Scripted, encode
from ferrule.studies.standins.taught_tools import draw_batches
from ferrule.studies.table import plain
from ferrule.tools.search import Document, search_tool
from ferrule.train.stage import Drawn

ECHO = Tool(
    "echo", "Echoes.", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    run=lambda n: f"n is {n}",
)  # fmt: skip


def test_labelled_lines_are_calls_and_answers() -> None:
    """Worked examples 1 to 3: the call counts beside an answer, nested JSON survives, doubled braces are one."""
    codec = React()
    (call,) = codec.read('Action: get_weather\nAction Input: {"city": "Rome"}\nFinal Answer: done').calls
    assert (call.name, call.arguments, call.problem) == ("get_weather", {"city": "Rome"}, "")
    answer = codec.read("Final Answer: 42")
    assert (answer.calls, plain_text(answer)) == ((), "42")
    assert codec.read("hello").calls == ()
    (nested,) = codec.read('Action: f\nAction Input: {"d": {"n": 1}}').calls
    assert nested.arguments == {"d": {"n": 1}}
    assert codec.read('Action Input: {"d": 1}').calls[0].problem


def test_shares_of_calls() -> None:
    """Worked example 5: 1 without a call, 2 malformed, 4 right, 2 with wrong arguments, 1 of another tool."""
    gold = Call("a", {"x": "Rome"})
    right = [Call("a", {"x": " rome", "more": 1}), *[gold] * 3]
    wrong = [Call("a", {"x": "Oslo"}), Call("a"), Call("b", {"x": "Rome"})]
    shares = scores([None, *[Call("a", problem="cut")] * 2, *right, *wrong], [gold] * 10)
    assert shares == CallShares(70.0, pytest.approx(600 / 7), 40.0)
    assert scores([None], [gold]) == CallShares(0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="no calls to score"):
        scores([], [])


def test_the_published_reading_looks_for_two_letters() -> None:
    assert [said_no(text) for text in ("Yes", "No", "None of it worked", "Not sure", "no")] == [
        True, False, False, False, True,
    ]  # fmt: skip


def speak(request: Ask, sample: int) -> str | Message:
    """Imagines, solves and judges; trials about even numbers do not pass."""
    last = plain_text(request.messages[-1])
    number = len(request.messages)
    if request.role == "judge":
        return "Yes\nYes\nNo" if "say 9" in last else "Yes\nYes\nYes"
    if request.role == "paraphraser":
        return f"{last.splitlines()[-1]}, please ({sample})"
    if "the request alone" in last:
        return f"say {number}"
    if "answer the request" in last:
        return Message("assistant", "", (Call("echo", {"n": number}),))
    return "no" if "Yes or No" in last else last


def test_a_tool_is_explored_filtered_and_learned() -> None:
    """Two dialogues of two trials: requests "say 1" and "say 9" in each; a judge refuses the latter.

    Of the two that are left each is put in other words 3 times: round(8 / 2.001) - 1.
    """
    world, policy = Bench((ECHO,)), Scripted(speak, renderer=layout("hermes"))
    (task,) = world.tasks("train", 1)
    probed = explored(world, policy, task=task, only=["echo"], episodes=2, slots=2)
    assert [trial.query for trial in probed[0].trials] == ["say 1", "say 9"] * 2
    assert [trial.solved for trial in probed[0].trials] == [False] * 4
    published = explored(world, policy, task=task, only=["echo"], episodes=1, slots=1, reference=True)
    assert published[0].trials[0].solved is True  # "no" counts as yes there
    items = examples(world, probed, policy, task=task, target=8)
    assert len(items) == 2 * (1 + 3) * 2
    assert {plain_text(item.prompt[0]).partition(",")[0] for item in items} == {"say 1"}  # type: ignore[arg-type]
    assert examples(world, probed[:0], policy, task=task) == []


def test_the_method_learns_from_trials() -> None:
    renderer = layout("hermes")
    (stage,) = method(plain(), Bench((ECHO,)), explorer=Scripted(speak, renderer=renderer), episodes=1, slots=1).stages
    policy = Scripted([], renderer=renderer)
    policy.encode = lambda text: encode(text, renderer.end)  # type: ignore[attr-defined]
    drawn = stage.data(policy, 0)  # type: ignore[union-attr]
    assert isinstance(drawn, Drawn)
    assert drawn.items
    assert stage.settings["learning_rate"] == 2e-5  # type: ignore[union-attr]
    mute = Scripted(lambda request, sample: "", renderer=renderer)
    (stage,) = method(plain(), Bench((ECHO,)), explorer=mute, episodes=1, slots=1).stages
    with pytest.raises(ValueError, match="no trial was good enough"):
        stage.data(policy, 0)  # type: ignore[union-attr]


def test_rounds_are_stages() -> None:
    batches = [[Completion(f"{batch}/{item}", "x") for item in range(10)] for batch in range(3)]
    stages = continual(batches, share=0.2, max_steps=3).stages
    renderer = layout()
    policy = Scripted([], renderer=renderer)
    policy.encode = lambda text: encode(text, renderer.end)  # type: ignore[attr-defined]
    assert [len(stage.data(policy, 0)) for stage in stages] == [10, 12, 14]  # type: ignore[union-attr, arg-type]
    assert stages[0].settings == {"learning_rate": 2e-5, "max_steps": 3}  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------------ the claim


def test_replay_keeps_what_was_learned() -> None:
    names = ("no replay", "replay 10 %", "no replay, tanh")
    rows = {name: STUDY.arms[name](seed=1, steps=200, queries=20, rate=1e-2) for name in names}
    assert rows["no replay"]["batch 0"] < 0.2
    assert rows["no replay, tanh"]["batch 0"] > 0.2 + rows["no replay"]["batch 0"]  # units that cannot die forget less
    assert rows["replay 10 %"]["old"] > rows["no replay"]["old"] + 0.2


def test_tools_have_words_of_their_own() -> None:
    (bag_NV, label_N), *_ = draw_batches(0, 5).learn
    assert bag_NV.shape[0] == len(label_N) == 60
    assert bag_NV[:, : 12 * 8].sum() == bag_NV[:, : 48 * 8].sum()  # words of the first batch's tools alone
    assert bag_NV.max() == 1.0


def test_memories_reach_more_uses() -> None:
    rows = {name: MEMORY.arms[name](seed=2, episodes=15, steps=100) for name in MEMORY.arms}
    assert rows["both memories"]["uses"] > rows["dialogue alone"]["uses"] >= rows["neither"]["uses"]
    assert {row["trials"] for row in rows.values()} == {60.0}


def test_nearest_documents_are_not_needed() -> None:
    """The explorer works with tools of the package as well."""
    tool = search_tool([Document("1", "sea", "the sea is wide")])
    policy = Scripted(lambda request, sample: "no", renderer=layout("hermes"))
    (probed,) = explored(Bench((tool,)), policy, task=Task("t", "x"), only=["search"], episodes=1, slots=1)
    assert probed.trials[0].answer == "no"
