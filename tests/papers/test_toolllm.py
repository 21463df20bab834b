"""ToolLLM: Finish around any world, status codes, cuts, giving up, filtered search, judges, and its method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.toys import Bench, layout

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.recipe import Drawn, Stage
from ferrule.core.records import Call, Message, Observation, plain_text
from ferrule.data.formats import Row
from ferrule.papers.toolllm import (
    CODES,
    PassJudge,
    as_observed,
    by_judge,
    chain,
    code_of,
    finish_tool,
    finished,
    finishing,
    items,
    method,
    searching,
    votes_of,
)
from ferrule.policies.scripted import Scripted, encode
from ferrule.rewards.tooleval import Votes
from ferrule.rollout.drive import drive
from ferrule.studies.standins.tool_graph import ToolGraph, judge, speaker
from ferrule.studies.table import plain
from ferrule.worlds.session import Toolbox


def give(answer: str) -> Message:
    return Message("assistant", "", (Call("Finish", {"return_type": "give_answer", "final_answer": answer}),))


GIVE_UP = Message("assistant", "", (Call("Finish", {"return_type": "give_up_and_restart"}),))


@pytest.mark.parametrize(
    ("observation", "code"),
    [
        (Observation("fine"), 0),
        (Observation("?", "unknown_tool"), 1),
        (Observation("?", "malformed"), 2),
        (Observation("?", "timeout"), 5),
        (Observation("API not working", "error"), 6),
        (Observation("HTTP 401", "error"), 7),
        (Observation("unsubscribed", "error"), 8),
        (Observation("Too many requests", "error"), 9),
        (Observation("Rate limit per minute", "error"), 10),
        (Observation("Message error...", "error"), 11),
        (Observation("port 4290 is closed", "error"), 12),
        (Observation("fine", data={"code": 8}), 8),
        (Observation("fine", data={"code": 404}), 0),  # not a code of the table
    ],
)
def test_status_codes(observation: Observation, code: int) -> None:
    assert code_of(observation) == code
    assert code in CODES


def test_observations_are_cut_and_coded() -> None:
    shown = as_observed(Observation("x" * 1030, data=[1]))
    assert shown.text == "x" * 1024 + "..."
    assert shown.data == {"value": [1], "code": 0}
    assert as_observed(Observation("x" * 1024)).text == "x" * 1024


def test_answers_are_not_cut() -> None:
    """What an episode ended with is its answer, of which nothing may be lost."""
    assert played(ToolLoop(), give("x" * 1030)).answer == "x" * 1030


def played(agent: Any, *replies: Message, world: Any = None, **roles: Any) -> Any:
    (episode,) = drive(
        agent, Bench().tasks("train", 1), world or finishing(Bench()), {"solver": Scripted(replies), **roles}
    )
    assert not episode.problem
    return episode.trajectories[0]


def test_finish_is_a_call_that_ends_the_episode() -> None:
    write = Message("assistant", "", (Call("write", {"line": "a"}),))
    path = played(ToolLoop(), write, give("done"))
    assert (path.answer, finished(path)) == ("done", "done")
    assert [code_of(observation) for _, observation in path.calls] == [0, 3]
    assert path.final == {"lines": ["a"]}
    gave_up = played(ToolLoop(), GIVE_UP)
    assert (gave_up.answer, finished(gave_up)) == ("", "")
    assert finished(played(ToolLoop(), Message("assistant", "done"))) is None


def test_a_wrong_call_of_finish_goes_on() -> None:
    wrong = Message("assistant", "", (Call("Finish", {"return_type": "stop"}),))
    path = played(ToolLoop(), wrong, give("done"))
    assert [code_of(observation) for _, observation in path.calls] == [2, 3]


def test_the_end_of_a_name_is_enough_in_the_release_alone() -> None:
    write = Message("assistant", "", (Call("ite", {"line": "a"}),))
    assert played(ToolLoop(), write, give("x")).final == {"lines": []}
    assert played(ToolLoop(), write, give("x"), world=finishing(Bench(), reference=True)).final == {"lines": ["a"]}


def test_giving_up_leads_back() -> None:
    """a gives up below; the search takes b at the beginning, which Finish ends with an answer."""
    a, b = (Message("assistant", "", (Call("write", {"line": name}),)) for name in "ab")
    path = played(searching(), a, GIVE_UP, b, give("found"))
    assert path.answer == "found"
    assert path.final == {"lines": ["b"]}
    assert played(searching(), Message("assistant", "text"), give("found")).answer == "found"
    assert played(searching(reference=True), GIVE_UP, give("found")).answer is None


def test_chains_begin_anew() -> None:
    replies = [GIVE_UP, GIVE_UP, give("third")]
    assert played(chain(3), *replies).answer == "third"
    assert played(chain(2), *replies).answer is None


def test_filtered_search_goes_on_from_what_the_judge_prefers() -> None:
    """Both first steps are drawn at once; a judge who picks what ends in b in either order makes the search begin there."""

    def prefers_b(request: Ask, sample: int) -> str:
        first = plain_text(request.messages[0]).split("Candidate 2:")[0]
        return '{"better": "1"}' if "'b'" in first else '{"better": "2"}'

    a, b = (Message("assistant", "", (Call("write", {"line": name}),)) for name in "ab")
    path = played(searching(order=by_judge()), a, b, give("x"), give("y"), judge=Scripted(prefers_b))
    assert path.final == {"lines": ["b"]}


def test_episodes_are_judged_by_votes() -> None:
    path = played(ToolLoop(), give("done"))
    (task,) = items([path])
    said = iter(["solved", "unsolved", "unsolved", "solved", "solvable", "solvable"])
    roles = {"solver": Scripted([]), "judge": Scripted(lambda request, sample: next(said))}
    (episode,) = drive(PassJudge(), [task], Toolbox(()), roles)
    assert not episode.problem
    votes = votes_of(str(episode.trajectories[0].answer))
    assert votes == Votes(2, 2)
    assert votes.passed
    assert episode.spent["judge"].asks == 6


def test_the_judge_of_a_task_sees_the_tools_on_offer() -> None:
    said: list[str] = []

    def judges(request: Ask, sample: int) -> str:
        said.append(plain_text(request.messages[-1]))
        return "unsolved" if "Does the answer" in said[-1] else "solvable"

    (task,) = items([played(ToolLoop(), give("done"))], [finish_tool()])
    (episode,) = drive(PassJudge(votes=1), [task], Toolbox(()), {"solver": Scripted([]), "judge": Scripted(judges)})
    assert episode.trajectories[0].answer == "0 of 1"
    assert "Tools on offer:\nFinish: End with the final answer" in said[1]


class Speaking(Scripted):
    """A script whose texts can be laid out as rows."""

    def encode(self, text: str) -> tuple[int, ...]:
        return encode(text, layout().end)


def test_the_method_imitates_ways_to_success() -> None:
    (stage,) = method(plain(agent=ToolLoop()), Bench(), tasks=2, asks=4).stages
    assert isinstance(stage, Stage)

    def script(request: Ask, sample: int) -> str:
        return "yes" if "tried here" in plain_text(request.messages[-1]) else ""

    policy = Speaking(script, renderer=layout())
    drawn = stage.data(policy, 0)
    assert isinstance(drawn, Drawn)
    assert len(drawn.items) == 2
    assert all(isinstance(row, Row) and bytes(i for i in row.ids if i < 256).endswith(b"yes") for row in drawn.items)


def solved(world: ToolGraph, agent: Any, *, error: float, **roles: Any) -> Mapping[str, float]:
    tasks = world.tasks("test", 12, seed=1)
    graphs = {task.prompt: world.graph(task) for task in tasks}
    policies = {"solver": speaker(graphs, error=error), "judge": judge(graphs, right=1.0)}
    episodes = drive(agent, tasks, finishing(world), policies, seed=3)
    assert not any(episode.problem for episode in episodes)
    return {
        "solved": sum(e.trajectories[0].answer == e.task.answer for e in episodes) / len(episodes),
        "turns": sum(len(e.trajectories[0].turns) for e in episodes) / len(episodes),
    }


def test_the_graph_is_solved_by_a_script_that_never_errs() -> None:
    """Three to five tools and Finish: 5 turns on average, by a single chain."""
    assert solved(ToolGraph(), chain(1, depth=8), error=0.0) == {"solved": 1.0, "turns": 5.0}


def test_searching_makes_a_difference_where_the_script_errs() -> None:
    once, searched = (
        solved(ToolGraph(), agent, error=0.4)["solved"] for agent in (chain(1, depth=8), searching(depth=8))
    )
    assert searched > once
