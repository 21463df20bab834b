"""Acting by tags: where a text is cut, which action it holds, and the turns of an episode."""

from __future__ import annotations

import pytest

from ferrule.agents.tagged import CODEC, HINT, TagLoop, action, cut, rules
from ferrule.chat.blocks import text_gate
from ferrule.core.flows import Ask
from ferrule.core.records import Task, Tool, Trajectory
from ferrule.papers.tapo import tapo_reward
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.worlds.user import UserWorld


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<search>a</search> b", "<search>a</search>"),
        ("<code>1</code><search>a</search> b", "<code>1</code><search>a</search>"),
        ("<answer>a</answer><code>1</code> b", "<answer>a</answer><code>1</code>"),
        ("<answer>a</answer> b", "<answer>a</answer>"),
        ("musing", "musing"),
        ("", ""),
    ],
)
def test_where_a_text_is_cut(text: str, kept: str) -> None:
    """A closed search anywhere comes before a closed program, and that before an answer."""
    assert cut(text) == kept


def test_the_first_action_counts() -> None:
    assert action("<think>x</think><code> print(1) </code><search>a</search>") == ("code", "print(1)")
    assert action("<search>never closed <answer>4</answer>") == ("answer", "4")
    assert action("none of these <foo>x</foo>") is None


def test_rules_name_the_tools_on_offer_only() -> None:
    assert "<search>" in rules()
    assert "<code>" in rules()
    assert "<search>" not in rules(search=False)
    assert "<code>" in rules(search=False)
    assert "<response>" not in rules(search=False, code=False)
    assert "<answer>" in rules(search=False, code=False)


@pytest.mark.parametrize("search", [True, False])
@pytest.mark.parametrize("code", [True, False])
def test_the_example_uses_the_tools_on_offer_and_passes_the_form(search: bool, code: bool) -> None:
    """The episode below the rules is one whole response in tags: it must pass the published gate itself."""
    _, _, shown = rules(search=search, code=code, example=True).partition("Example. ")
    assert [f"<{name}>" in shown for name in ("search", "code", "response")] == [search, code, search or code]
    assert text_gate(shown[shown.index("<") :], anchored=True)


@pytest.mark.parametrize(("split", "roles"), [(True, ["system", "user"]), (False, ["user"])])
def test_rules_stand_apart_or_in_one_text_with_the_question(split: bool, roles: list[str]) -> None:
    flow = TagLoop(system=rules(), split=split)(Task("t", "Why?"), UserWorld("own", {}).start(Task("t", "Why?")))
    asked = next(flow)
    assert isinstance(asked, Ask)
    assert [message.role for message in asked.messages] == roles
    joined = "\n\n".join(str(message.content) for message in asked.messages)
    assert joined == f"{rules()}\n\nWhy?"
    (alone,) = next(TagLoop(split=split)(Task("t", "Why?"), UserWorld("own", {}).start(Task("t", "Why?")))).messages  # type: ignore[union-attr]
    assert (alone.role, alone.content) == ("user", "Why?")


SEEN: list[str] = []


def _search(query: str) -> str:
    SEEN.append(query)
    return "Paris"


def episode(*replies: str, turns: int = 4) -> Trajectory:
    """Play one episode of these replies in a world with a search tool."""
    SEEN.clear()
    schema = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
    world = UserWorld("own", {}, tools=(Tool("search", "Look a fact up.", schema, run=_search),))
    task = Task("t", "Capital of France?", answer="Paris", meta={"source": "nq"})
    policy = Scripted(list(replies), codec=CODEC)
    (played,) = drive(TagLoop(turns=turns), [task], world, policy)
    return played.trajectories[0]


def test_an_episode_that_searches_and_answers() -> None:
    played = episode("<think>a</think><search>capital</search>", "<think>b</think><answer>Paris</answer>")
    assert (played.answer, SEEN) == ("Paris", ["capital"])
    assert tapo_reward(played.task, [played])[0].value == 1


def test_a_turn_without_an_action_is_told_so_and_costs_a_round() -> None:
    played = episode("<think>I muse</think>", "<answer>Paris</answer>")
    assert played.answer == "Paris"
    assert [m.content for m in played.turns[1].messages if m.role == "user"] == [HINT]
    lost = episode("hm", "hm", "hm", turns=2)
    assert (lost.answer, len(lost.turns)) == (None, 3)


def test_calls_of_the_last_turn_are_not_run() -> None:
    played = episode(*["<search>again</search>"] * 5)
    assert (played.answer, len(played.turns), len(SEEN)) == (None, 5, 4)
    assert tapo_reward(played.task, [played])[0].value == -1
    answered = episode(*["<search>again</search>"] * 4, "<answer>Paris</answer>")
    assert answered.answer == "Paris"


def test_an_unknown_tag_costs_the_form() -> None:
    played = episode("<foo>x</foo>", "<answer>Paris</answer>")
    assert played.answer == "Paris"
    assert tapo_reward(played.task, [played])[0].value == -1


def test_text_after_the_answer_is_never_written() -> None:
    played = episode("<answer>Paris</answer> indeed")
    assert (played.answer, tapo_reward(played.task, [played])[0].value) == ("Paris", 1)
