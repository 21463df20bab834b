"""Evaluations on a small world with a scripted policy: rows, arms, groups, comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from ferrule.agents.react import ToolLoop
from ferrule.chat.codec import codec
from ferrule.chat.renderer import ChatML
from ferrule.core.flows import Ask, Session
from ferrule.core.records import Call, Message, Observation, Score, Task, Tool, Trajectory, plain_text
from ferrule.evaluate.card import measure as measure_card
from ferrule.evaluate.card import table
from ferrule.evaluate.compare import compare, solvability
from ferrule.evaluate.evaluate import Evaluation, Row, arms, evaluate, measure
from ferrule.evaluate.metrics import paired_difference, shown, wilson
from ferrule.policies.scripted import Scripted, nonsense


def _twice(x: int) -> int:
    return 2 * x


TWICE = Tool("twice", "Double a number.", {"type": "object", "properties": {"x": {"type": "integer"}}}, _twice)


@dataclass
class Doubling:
    """Session: one tool that doubles; ``boom`` fails."""

    tools: tuple[Tool, ...] = (TWICE,)

    def act(self, call: Call) -> Observation:
        if call.problem:
            return Observation(call.problem, "malformed")
        if call.name != "twice" or not self.tools:
            return Observation(f"no tool {call.name}", "unknown_tool")
        return Observation(str(_twice(call.arguments["x"])))

    def fork(self) -> Session:
        return replace(self)

    def final(self) -> Mapping[str, Any]:
        return {}

    def close(self) -> None:
        pass


class World:
    name = "doubling"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2)) -> list[Task]:
        return [
            Task(f"{i}", f"double {i}", answer=str(2 * i), world=self.name, meta={"level": levels[i % len(levels)]})
            for i in range(count)
        ]

    def start(self, task: Task, seed: int = 0) -> Session:
        return Doubling(() if task.tools == () else (TWICE,))


def caller(ask: Ask, sample: int) -> str | Message:
    """Call the tool when there is one and say what it says; without tools guess "2"."""
    last = ask.messages[-1]
    if last.role == "tool":
        return plain_text(last)
    if not ask.tools:
        return "2"
    x = int(plain_text(last).split()[-1])
    calls = (Call("twice", {"x": x}, id="a"), Call("twice", {"x": x + 1}, id="b"))[: 1 + (x == 3)]
    return Message("assistant", "", calls if x != 2 else (Call("", problem="unreadable"),))


WORLD, AGENT = World(), ToolLoop(turns=3)


def test_rows_and_summary() -> None:
    done: list[tuple[int, int]] = []
    found = evaluate(
        AGENT,
        Scripted(caller),
        WORLD,
        WORLD.tasks("test", 4),
        done=lambda finished, total: done.append((finished, total)),
    )
    # Task 2's call is malformed and its answer is the error; task 3 calls twice and says the last result, 8.
    assert [row.score for row in found.rows] == [1.0, 1.0, 0.0, 0.0]
    assert [(row.attempts, row.calls, row.malformed) for row in found.rows] == [
        (1, 1, 0),
        (1, 1, 0),
        (1, 0, 1),
        (2, 2, 0),
    ]
    assert [row.turns for row in found.rows] == [2, 2, 2, 2]
    data = found.as_dict()
    assert data["success"] == 0.5
    assert data["interval"] == list(wilson(2, 4).interval)
    assert (data["calls"], data["malformed"], data["productivity"]) == (4 / 4, 1 / 5, 2 / 4)
    assert data["tokens"] is None
    assert {level: entry["success"] for level, entry in data["by_level"].items()} == {"1": 0.5, "2": 0.5}
    assert data["by_world"]["doubling"]["count"] == 4
    assert done[-1] == (4, 4)
    assert json.loads(json.dumps(found.as_dict(rows=True)))["rows"][2]["answer"] == "unreadable"


def test_arms_ask_the_same_tasks_with_and_without_tools() -> None:
    both = arms(AGENT, Scripted(caller), WORLD, WORLD.tasks("test", 4), name="d")
    assert list(both) == ["with tools", "without tools"]
    assert [row.score for row in both["without tools"].rows] == [0.0, 1.0, 0.0, 0.0]
    assert both["without tools"].as_dict()["calls"] == 0.0
    assert both["without tools"].as_dict()["productivity"] is None
    found = compare(both["without tools"], both["with tools"])
    assert (found.better, found.worse, found.same) == (1, 0, 3)
    assert found.difference == paired_difference([0, 1, 0, 0], [1, 1, 0, 0])
    assert found.by_level["1"].value == 0.5  # tasks 0 and 2: gained one of two
    assert found.by_level["2"].value == 0.0
    assert "chance" in str(found)
    assert not found.decided
    assert json.loads(json.dumps(found.as_dict()))["difference"] == 0.25


def test_clear_difference_is_decided() -> None:
    tasks = WORLD.tasks("test", 40)
    right = evaluate(
        AGENT, Scripted(lambda ask, s: str(2 * int(plain_text(ask.messages[0])[7:]))), WORLD, tasks, name="a"
    )
    wrong = evaluate(AGENT, Scripted(lambda ask, s: "no"), WORLD, tasks, name="b")
    assert compare(wrong, right).decided
    assert compare(right, wrong).decided
    assert str(compare(wrong, right)).startswith("a against b: +100.0 points")


def test_comparison_of_other_tasks_is_refused() -> None:
    policy = Scripted(caller)
    four, five = (evaluate(AGENT, policy, WORLD, WORLD.tasks("test", n), name=str(n)) for n in (4, 5))
    with pytest.raises(ValueError, match="0 only in the first, 1 only in the second"):
        compare(four, five)


def test_samples_are_one_group_and_pass_at_k_counts_them() -> None:
    groups: list[int] = []

    def reward(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        groups.append(len(trajectories))
        return [Score(float(t.answer == "yes")) for t in trajectories]

    tasks = WORLD.tasks("test", 2)
    script = ["yes", "no", "no", "no"] * 2  # replies come in the order of tasks, samples side by side
    found = evaluate(AGENT, Scripted(script), WORLD, tasks, num_generations=4, reward=reward)
    assert groups == [4, 4]
    assert found.values == (1.0, 0.0, 0.0, 0.0) * 2
    assert [episode.sample for episode in found.episodes] == [0, 1, 2, 3] * 2
    assert found.estimate.count == 2
    assert found.success == 0.25
    assert found.pass_at(1) == pytest.approx(0.25)
    assert found.pass_at(2) == pytest.approx(0.5)  # 1 - C(3,2)/C(4,2) = 1 - 3/6
    assert found.as_dict()["pass_at"] == {"1": pytest.approx(0.25), "2": pytest.approx(0.5), "4": pytest.approx(1.0)}
    with pytest.raises(ValueError, match="pass@8 needs"):
        found.pass_at(8)


def test_tokens_are_counted_where_the_policy_has_ids() -> None:
    tasks = WORLD.tasks("test", 1)
    found = evaluate(AGENT, Scripted(["ab"], renderer=ChatML(codec("hermes"))), WORLD, tasks)
    assert found.as_dict()["tokens"] == 3.0  # "a", "b" and the end token


def test_nonsense_does_not_stop_an_evaluation() -> None:
    found = evaluate(AGENT, nonsense(3), WORLD, WORLD.tasks("test", 12), num_generations=2)
    assert found.as_dict()["count"] == 12
    assert found == evaluate(AGENT, nonsense(3), WORLD, WORLD.tasks("test", 12), num_generations=2)
    assert sum(row.attempts for row in found.rows) > 0


def test_bad_input_is_refused() -> None:
    task = WORLD.tasks("test", 1)[0]
    with pytest.raises(ValueError, match="at least one task"):
        evaluate(AGENT, Scripted([]), WORLD, [])
    with pytest.raises(ValueError, match="appear more than once, for example '0'"):
        evaluate(AGENT, Scripted([]), WORLD, [task, task])
    episodes = evaluate(AGENT, Scripted(["a"] * 3), WORLD, WORLD.tasks("test", 1), num_generations=3).episodes
    other = evaluate(AGENT, Scripted(["a"]), WORLD, [replace(task, id="x")]).episodes
    with pytest.raises(ValueError, match="1 to 3 samples"):
        measure([*episodes, *other])


def test_scores_between_none_and_all_get_a_bootstrap() -> None:
    rows = tuple(Row(str(i), 0, i / 10, "a", "answer") for i in range(10))
    found = Evaluation("x", rows, seed=1).estimate
    assert found.value == pytest.approx(0.45)
    assert 0.2 < found.low < 0.45 < found.high < 0.7


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("values", [(1.0, 0.0, 1.0), (0.4, 0.9, 0.1)])
def test_few_tasks_are_measured_compared_and_shown(count: int, values: tuple[float, ...]) -> None:
    """Scores of 0 and 1 have an interval from the first task on; others need two, and one says so."""
    tasks = tuple(f"t{i}" for i in range(count))
    before = Evaluation("before", tuple(Row(t, 0, 0.0, "x", "answer", level=1) for t in tasks))
    after = Evaluation(
        "after", tuple(Row(t, 0, v, "x", "answer", level=1) for t, v in zip(tasks, values, strict=False))
    )
    data, moved = after.as_dict(), compare(before, after)
    assert data["success"] == pytest.approx(sum(values[:count]) / count)
    assert data["by_level"]["1"]["count"] == count
    lonely = count == 1 and values[0] == 0.4
    assert (data["interval"] == [None, None]) == lonely
    assert ("no interval" in shown(data)) == ("no interval" in str(moved)) == lonely
    assert moved.as_dict()["count"] == count
    assert not (lonely and moved.decided)


def test_card_measures_every_world_with_and_without_tools() -> None:
    found = measure_card(Scripted(caller), {"doubling": WORLD}, 2)
    arms = found["worlds"]["doubling"]["arms"]
    # 2 tasks for each of 5 levels; levels take turns, and tasks 0 and 1 and 4 to 9 are solved with the tool.
    assert arms["with tools"]["count"] == 10
    assert arms["with tools"]["success"] == 0.8
    assert {level: row["count"] for level, row in arms["with tools"]["by_level"].items()} == dict.fromkeys("12345", 2)
    assert arms["without tools"]["success"] == 0.1
    text = table(found)
    assert text.splitlines()[0].split() == ["world", "level", "with", "tools", "without", "tools", "calls", "malformed"]
    assert "doubling  all    80% [49, 94]" in text
    assert json.loads(json.dumps(found)) == found


def test_who_solves_what() -> None:
    """Of five problems two are solved with the tool alone, one either way, one without it alone, one never."""
    flow = solvability([True, True, False, False, False], [True, False, True, True, False])
    assert flow == {"expansion": 0.4, "preservation": 0.2, "shrinkage": 0.2, "unsolved": 0.2}
    assert solvability([], [])["unsolved"] == 0.0
    with pytest.raises(ValueError, match="2 problems without and 1 with"):
        solvability([True, False], [True])
