"""One stream in which tools are searched for and called and the history is folded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.toys import layout

from ferrule.agents.folded import Episodic, read_memory
from ferrule.agents.in_stream import InStream
from ferrule.agents.named import agent
from ferrule.chat.in_stream import InStreamCodec
from ferrule.chat.renderer import ChatML
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, Tool, plain_text
from ferrule.policies.recorded import recorded as recorded_policy
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import Limits, adrive, drive
from ferrule.rollout.prompt import run
from ferrule.rollout.record import Episode, load, save
from ferrule.studies.standins.rooms import Rooms, folder, walker
from ferrule.tools.tool import tool
from ferrule.worlds.cassette import Cassette
from ferrule.worlds.growing import arrivals
from ferrule.worlds.recorded import recorded
from ferrule.worlds.session import Toolbox

TASK = Task("t", "How much is twice two?", "4")


def test_a_run_in_the_shell_has_its_own_limits() -> None:
    """Two calls and the answer that is asked for after them; fifty calls of 1,024 tokens are for larger models."""
    asks: list[Ask] = []

    def going_on(ask: Ask, sample: int) -> Message:
        asks.append(ask)
        return Message("assistant", "", (Call("double", {"number": len(asks)}),))

    run("Go on.", Scripted(going_on), tools=[double], agent="in-stream", max_tool_calling_iterations=2)
    assert len(asks) == 4
    assert {ask.max_tokens for ask in asks} == {256}
    asks.clear()
    run("Go on.", Scripted(going_on), tools=[double], agent="in-stream:actions=5")
    assert len(asks) == 7


@tool
def double(number: int) -> int:
    """Twice a number."""
    return 2 * number


@tool
def halve(number: int) -> float:
    """Half a number."""
    return number / 2


@tool(effects="write")
def press(button: str) -> str:
    """Press a button."""
    return f"{button} is pressed"


@tool
def tell(words: int) -> str:
    """Say many words."""
    return "word " * words


STREAM = ChatML(InStreamCodec(), header="<|{role}|>", end="<|end|>", gap="")
TWICE = '<tool_call>{"name": "double", "arguments": {"number": 2}}</tool_call>'


def played(player: Any, *replies: str | Message, tools: tuple[Tool, ...] = (double, halve), **roles: Any) -> Episode:
    policies = {"solver": Scripted(replies, renderer=STREAM), **roles}
    (episode,) = drive(player, [TASK], Toolbox(tools), policies)
    assert not episode.problem, episode.problem
    return episode


def statuses(episode: Episode) -> list[str]:
    return [observation.status for _, observation in episode.trajectories[0].calls]


def test_search_call_and_answer_are_one_stream() -> None:
    """What was written and shown is one text, in the paper's marks, and the answer is what stands in the box."""
    episode = played(
        InStream(given=False, found=1), "Hm. <tool_search>twice a number</tool_search>", TWICE, "So it is \\boxed{4}."
    )
    (path,) = episode.trajectories
    assert path.answer == "4"
    assert arrivals(path) == {"double": 1}
    assert [span.label for turn in path.turns for span in turn.spans] == ["search", "call", "answer"]
    text = bytes(i for turn in path.turns for i in (*turn.given, *turn.sampled) if i < 256).decode()
    assert "a number</tool_search>\n<tool_search_result>" in text
    assert f"{TWICE}\n<tool_call_result>4</tool_call_result>\nSo it is" in text
    assert "double" not in text[: text.index("Hm.")]  # the prompt does not list what is hidden


def test_a_long_list_of_found_tools_reaches_the_model_whole() -> None:
    """Ten schemas of some 400 characters: more than a world shows of other results."""
    entries = {"number": {"type": "integer", "description": "any number " * 25}}
    schema = {"type": "object", "properties": entries}
    tools = tuple(Tool(f"count_{i}", "Count a number.", schema, run=int) for i in range(12))
    episode = played(InStream(given=False), "<tool_search>count</tool_search>", "done", tools=tools)
    shown = plain_text(episode.trajectories[0].turns[1].messages[0])
    assert len(shown) > 4000
    assert len(shown.splitlines()) == len(arrivals(episode.trajectories[0])) == 10


def test_a_call_before_the_search_is_of_an_unknown_tool() -> None:
    episode = played(InStream(given=False), TWICE, "none")
    assert statuses(episode) == ["unknown_tool"]


def test_repeated_calls_are_not_made_again() -> None:
    """Neither a search nor a call that reads; after a call that changes something what reads is made again."""
    find, pressed = "<tool_search>twice</tool_search>", Call("press", {"button": "a"})
    again = Message("assistant", "", (pressed,))
    episode = played(
        InStream(given=False), find, find, TWICE, TWICE, "<tool_search>button</tool_search>", again, again, TWICE, "4",
        tools=(double, press),
    )  # fmt: skip
    assert statuses(episode) == ["ok", "refused", "ok", "refused", "ok", "ok", "ok", "ok"]


def test_only_the_last_call_of_a_reply_is_carried_out() -> None:
    two = Message("assistant", "", (Call("double", {"number": 1}), Call("halve", {"number": 4})))
    (episode,) = drive(InStream(), [TASK], Toolbox((double, halve)), {"solver": Scripted([two, "done"])})
    assert statuses(episode) == ["refused", "ok"]


def test_when_no_action_is_left_the_answer_is_asked_for() -> None:
    halved = TWICE.replace("double", "halve")
    episode = played(InStream(actions=1), TWICE, halved, "four")
    assert (statuses(episode), episode.trajectories[0].answer) == (["ok", "refused"], "four")
    assert played(InStream(actions=1, closing=False), TWICE, halved).trajectories[0].answer is None
    assert statuses(played(InStream(longest=1), TWICE, "four")) == ["refused"]


def test_a_fold_begins_a_new_segment_and_is_refused_when_none_is_left() -> None:
    replies = [TWICE, "Too long. <fold_thought>", TWICE, "<fold_thought>", "\\boxed{4}"]
    helper = Scripted(lambda request, sample: '{"current_progress": "twice two is four"}', renderer=layout())
    episode = played(InStream(folds=1), *replies, helper=helper)
    path = episode.trajectories[0]
    assert statuses(episode) == ["ok", "ok", "ok", "refused"]
    assert [turn.parent is None for turn in path.turns] == [True, False, True, False, False]
    assert "twice two is four" in plain_text(path.turns[2].messages[-1])
    assert "How much is twice two?" in plain_text(path.turns[2].messages[-1])
    assert [span.label for span in path.turns[1].spans] == ["fold"]
    assert {turn.role for other in episode.trajectories[1:] for turn in other.turns} == {"helper"}


def test_long_results_and_long_lists_go_through_the_helper() -> None:
    asked: list[str] = []

    def helper(request: Ask, sample: int) -> str:
        asked.append(plain_text(request.messages[-1]))
        return "double" if "Name those that fit" in asked[-1] else "in short"

    long = Message("assistant", "", (Call("tell", {"words": 50}),))
    episode = played(InStream(long_result=100), long, "done", tools=(tell,), helper=Scripted(helper))
    assert plain_text(episode.trajectories[0].turns[1].messages[0]) == "in short"
    assert episode.trajectories[0].calls[0][1].text.startswith("word word")  # the record keeps the whole
    find = "<tool_search>number</tool_search>"
    episode = played(InStream(given=False, long_list=10), find, "done", helper=Scripted(helper))
    shown = plain_text(episode.trajectories[0].turns[1].messages[0])
    assert '"double"' in shown
    assert '"halve"' not in shown
    assert arrivals(episode.trajectories[0]) == {
        "double": 1,
        "halve": 1,
    }  # what is not shown can be called all the same


def walked(steps: int, world: Any, **how: Any) -> Episode:
    policies = how.pop("policies", None) or {
        "solver": Scripted(walker(), renderer=layout()), "helper": Scripted(folder, renderer=layout()),
    }  # fmt: skip
    player = InStream(actions=steps + 1, longest=10**6, max_tokens=256, **how)
    task = world.tasks("test", 1)[0]
    (episode,) = drive(player, [task], world, policies, limits=Limits(turns=2 * steps + 50))
    assert not episode.problem, episode.problem
    return episode


def test_two_hundred_steps_under_a_cap_of_two_thousand_tokens(tmp_path: Path) -> None:
    """Tokens are bytes here. The answer is right, each context stays below the cap, and the record plays again."""
    world = Rooms(200, filler=5)
    episode = walked(200, world, folds=200, fold_at=1600)
    path = episode.trajectories[0]
    assert path.answer == episode.task.answer
    sizes, size = list[int](), 0
    for turn in path.turns:
        size = (0 if turn.parent is None else size) + len(turn.given) + len(turn.sampled)
        sizes.append(size)
    assert max(sizes) < 2000
    assert sum(turn.parent is None for turn in path.turns) > 5
    helped = [plain_text(turn.reply) for other in episode.trajectories[1:] for turn in other.turns]
    assert all(read_memory(Episodic, text) for text in helped if "current_progress" in text)
    save(tmp_path / "walk.jsonl", [episode])
    assert [read for read, _ in load(tmp_path / "walk.jsonl")] == [episode]


def test_a_folded_episode_is_played_again_from_a_cassette(tmp_path: Path) -> None:
    """With neither model nor world the same episode comes back, folds and helper included."""
    world, how, path = Rooms(30, filler=5), {"folds": 30, "fold_at": 1200}, tmp_path / "walk.cassette"
    tape = Cassette(path, "record")
    policies = {"solver": Scripted(walker(), renderer=layout()), "helper": Scripted(folder, renderer=layout())}
    roles: Any = {name: recorded_policy(policy, tape) for name, policy in policies.items()}
    first = walked(30, recorded(world, tape), policies=roles, **how)
    tape.close()
    assert first.trajectories[0].answer == first.task.answer
    assert len(first.trajectories) > 1
    tape = Cassette(path, "replay")
    roles = {name: recorded_policy(None, tape) for name in policies}
    assert walked(30, recorded(world, tape), policies=roles, **how) == first
    assert not tape.misses


def test_both_drivers_leave_the_same_record() -> None:
    world = Rooms(12, filler=5)
    player = InStream(actions=13, folds=12, fold_at=1200, given=False)

    def roles() -> Any:
        def script(request: Ask, sample: int) -> Message | str:
            known = {each.name for each in request.tools}
            find = Message("assistant", "", (Call("tool_search", {"query": "room"}),))
            return walker()(request, sample) if "visit" in known else find

        return {"solver": Scripted(script, renderer=layout()), "helper": Scripted(folder, renderer=layout())}

    tasks = world.tasks("test", 3)
    batched = drive(player, tasks, world, roles())
    assert batched == asyncio.run(adrive(player, tasks, world, roles()))
    assert [episode.trajectories[0].answer for episode in batched] == [task.answer for task in tasks]


def test_from_the_command_line_by_name() -> None:
    assert agent("in-stream:fold_at=500,given=false,folds=2") == InStream(fold_at=500, given=False, folds=2)
    with pytest.raises(ValueError, match="actions is 0"):
        InStream(actions=0)


def test_the_helper_picks_by_whole_names_and_a_fold_reads_what_the_model_read() -> None:
    """``double`` is part of ``double_up``, which alone is named; the 50 words were condensed before the fold."""
    asked: list[str] = []
    up = Tool("double_up", "Twice a number again.", double.parameters, run=int)

    def helper(request: Ask, sample: int) -> str:
        asked.append(plain_text(request.messages[-1]))
        return "double_up." if "Name those that fit" in asked[-1] else "in short"

    find = "<tool_search>twice a number</tool_search>"
    episode = played(InStream(given=False, long_list=10), find, "x", tools=(double, up), helper=Scripted(helper))
    shown = plain_text(episode.trajectories[0].turns[1].messages[0])
    assert ('"double_up"' in shown, '"double"' in shown) == (True, False)
    long, mark = Message("assistant", "", (Call("tell", {"words": 50}),)), "<fold_thought>"
    played(InStream(long_result=100), long, mark, "x", tools=(tell,), helper=Scripted(helper))
    assert "in short" in asked[-1]
    assert "word word" not in asked[-1]


def test_tools_of_one_name_and_description_are_shown_with_their_parameters() -> None:
    """Two worlds after each other: the second search shows the second world's parameter."""
    for parameter in ("metres", "feet"):
        schema = {"type": "object", "properties": {parameter: {"type": "number"}}}
        tools = (Tool("climb", "Climb.", schema, run=str),)
        episode = played(InStream(given=False), "<tool_search>climb</tool_search>", "x", tools=tools)
        assert parameter in plain_text(episode.trajectories[0].turns[1].messages[0])
