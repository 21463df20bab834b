"""Suggestions of the next tool by a graph, with the state where that decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ferrule.agents.guided import Guided
from ferrule.agents.named import agent
from ferrule.agents.suggested import Suggested, always, asked, never, suggesting, summary_tool
from ferrule.cli import main
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Task, Tool, plain_text
from ferrule.memory.graph import RUN, SUMMARY, Summary, ToolGraph, learned
from ferrule.memory.library import Library
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.worlds.session import Toolbox

NOTHING = {"type": "object", "properties": {}}
TOOLS = tuple(Tool(name, "", NOTHING, run=lambda: "done") for name in ("find_user", "get_order", "cancel", "refund"))
GRAPH = ToolGraph()
for run in (
    ("find_user", "get_order", "cancel"),
    ("find_user", "get_order", Summary("user wants refund for damaged item"), "refund"),
):
    GRAPH = learned(GRAPH, run)


ASKS = "customer asks refund because item damaged"


def played(needs: Any, says: str = "yes", state: str = ASKS, normalise: bool = False) -> Any:
    def script(request: Ask, sample: int) -> Message | str:
        if request.must_call:
            return Message("assistant", "", (Call(SUMMARY, {"summary": state}),))
        last = plain_text(request.messages[-1])
        if last == "?":
            return Message("assistant", "", (Call("get_order"),))
        return last

    policies = {"solver": Scripted(script, codec=_codec()), "helper": Scripted(lambda request, sample: says)}
    guide = suggesting(lambda: GRAPH, needs=needs, normalise=normalise)
    (episode,) = drive(Guided(guide, tools=(summary_tool(),)), [Task("t", "?")], Toolbox(TOOLS), policies)
    assert not episode.problem, episode.problem
    return episode


def _codec() -> Any:
    from ferrule.chat.hermes import Hermes

    return Hermes()


def test_the_state_decides_where_it_should() -> None:
    """get_order was followed by cancel (weight 1.333) and refund (1.25, with a summary that overlaps by 1/3)."""
    episode = played(asked)
    assert episode.trajectories[0].answer == "tool graph suggestion: refund, cancel"
    assert [call.name for call, _ in episode.trajectories[0].calls] == ["get_order", SUMMARY]
    assert episode.trajectories[0].turns[-1].notes == {"suggested": ["refund", "cancel"], "recalled": True}


@pytest.mark.parametrize(("needs", "says"), [(never, "yes"), (asked, "No.")])
def test_else_the_weights_do(needs: Any, says: str) -> None:
    episode = played(needs, says)
    assert episode.trajectories[0].answer == "tool graph suggestion: cancel, refund"
    assert [call.name for call, _ in episode.trajectories[0].calls] == ["get_order"]


def test_an_unreadable_reply_means_yes_and_a_state_unlike_any_falls_back() -> None:
    assert played(asked, "perhaps").trajectories[0].answer == "tool graph suggestion: refund, cancel"
    assert played(always, state="zzz").trajectories[0].answer == "tool graph suggestion: cancel, refund"


def test_as_shares_of_what_followed_a_weight_may_beat_a_likeness() -> None:
    """1.333 of 2.583 is 0.516, and the likeness is 1/3."""
    assert played(asked, normalise=True).trajectories[0].answer == "tool graph suggestion: cancel, refund"


def test_tools_of_other_names_stand_for_nodes() -> None:
    """The world says ``order`` and ``annul`` where the runs said ``get_order`` and ``cancel``."""
    tools = tuple(Tool(name, "", NOTHING, run=lambda: "done") for name in ("order", "annul"))
    nodes = {"order": "get_order", "annul": "cancel"}
    guide = suggesting(lambda: GRAPH, needs=never, nodes=nodes)
    replies = [Message("assistant", "", (Call("order"),)), "done"]
    (episode,) = drive(Guided(guide), [Task("t", "?")], Toolbox(tools), Scripted(replies))
    assert episode.trajectories[0].turns[-1].notes["suggested"] == ["annul"]


def test_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    player = agent(f"suggested:memory={path},state=never,k=1")
    assert isinstance(player, Suggested)
    (episode,) = drive(player, [Task("t", "?")], Toolbox(TOOLS), Scripted(["done"]))
    assert episode.trajectories[0].answer == "done"
    assert path.is_file()
    with pytest.raises(ValueError, match="did you mean 'never'"):
        Suggested(state="nevr")


def test_an_evaluation_keeps_runs_and_suggests_by_them(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    line = ["eval", "apis", "--model", "pocket", "--agent", "suggested:state=never", "--eval-tasks", "4"]
    line += ["--temperature", "0", "--memory", str(path), "--memory-batch", "2"]
    played = CliRunner().invoke(main, [*line, "--json"])
    assert played.exit_code == 0, played.output
    kept = Library(path).entries(kind=RUN)
    assert kept
    assert json.loads(played.stdout)["memory"]["entries"] == len(kept)
    refused = CliRunner().invoke(main, [*line, "--memory-control", "shuffled"])
    assert refused.exit_code == 2
    assert "neither shuffled nor a writer" in refused.output


def test_only_the_word_no_means_no() -> None:
    assert played(asked, "Not sure").trajectories[0].answer == "tool graph suggestion: refund, cancel"
    assert played(asked, "**No**, never").trajectories[0].answer == "tool graph suggestion: cancel, refund"


def test_after_a_tool_that_the_graph_does_not_know_nothing_is_suggested() -> None:
    """get_order came before it, and what followed that is no suggestion here."""
    odd = Tool("odd", "", NOTHING, run=lambda: "done")
    replies = [*(Message("assistant", "", (Call(name),)) for name in ("get_order", "odd")), "done"]
    guide = suggesting(lambda: GRAPH, needs=never)
    (episode,) = drive(Guided(guide), [Task("t", "?")], Toolbox((*TOOLS, odd)), Scripted(replies))
    assert ["suggested" in turn.notes for turn in episode.trajectories[0].turns] == [False, True, False]


def test_no_suggestions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Suggested.k is 0"):
        Suggested(k=0)
    with pytest.raises(ValueError, match="k is -1"):
        suggesting(lambda: GRAPH, k=-1)
