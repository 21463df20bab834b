"""Environments that are classes: TRL's form, Gymnasium's form, and what is neither."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message
from ferrule.evaluate.evaluate import evaluate
from ferrule.evaluate.suites import suite
from ferrule.policies.scripted import Scripted
from ferrule.worlds.named import world
from ferrule.worlds.objects import ObjectWorld, world_of


class Counter:
    """Count up to the number that you are given.

    This is how TRL's documentation writes an environment.
    """

    def __init__(self) -> None:
        self.count = 0
        self.goal = 0
        self.done = False

    def reset(self, seed: int = 0, **_: Any) -> str:
        """Begin."""
        self.count, self.goal, self.done = 0, 1 + seed % 5, False
        return f"The number is {self.goal}."

    def increment(self, step: int) -> int:
        """Add to the count.

        Args:
            step: how much
        """
        self.count += step
        self.done = self.count >= self.goal
        return self.count

    async def look(self) -> str:
        """Look at the count."""
        await asyncio.sleep(0)
        return f"count {self.count}"

    def reward(self) -> float:
        """One for the exact number."""
        return float(self.count == self.goal)

    def _hidden(self) -> None:
        raise AssertionError("not a tool")


class Discrete:
    """A space as Gymnasium has it: ``start`` to ``start + n - 1``."""

    start, n = 1, 3

    def contains(self, value: Any) -> bool:
        return isinstance(value, int) and 1 <= value <= 3


class Box:
    shape, dtype = (2,), np.float32

    def contains(self, value: Any) -> bool:
        return value.shape == (2,) and value.dtype == np.float32


class Dict:
    spaces = {"way": Discrete(), "force": Box()}  # noqa: RUF012

    def contains(self, value: Any) -> bool:
        return all(space.contains(value[name]) for name, space in self.spaces.items())


class Walk:
    """# Walk

    Walk to the right.
    """

    action_space: Any = Discrete()
    observation_space = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.at = np.array([float(seed or 0), 0.0])
        return self.at.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at[1] += 1
        return self.at.copy(), 0.5, bool(self.at[1] >= 3), False, {"secret": True}

    def close(self) -> None:
        self.at = np.array([])


class Push(Walk):
    """Push."""

    action_space = Dict()


HERE = __name__


def test_an_environment_in_trls_form() -> None:
    played = world(f"{HERE}:Counter")
    tasks = played.tasks("test", 3)
    # Test tasks are resets with odd seeds: 1, 3, 5.
    assert [task.meta["reset"]["seed"] for task in tasks] == [1, 3, 5]
    assert tasks[1].prompt == "Count up to the number that you are given.\n\nThe number is 4."
    session = played.start(tasks[1])
    assert [(tool.name, tool.effects) for tool in session.tools] == [("increment", "write"), ("look", "write")]
    assert session.tools[0].parameters["properties"]["step"] == {"type": "integer", "description": "how much"}
    assert session.act(Call("increment", {"step": 3})).text == "3"
    branch = session.fork()
    assert session.act(Call("look", {})).text == "count 3"
    ended = session.act(Call("increment", {"step": "1"}))
    assert (ended.text, ended.terminal, ended.repairs) == ("4", True, ("number:step",))
    assert session.final() == {"reward": 1.0, "done": True}
    assert branch.act(Call("increment", {"step": 2})).terminal
    assert branch.final() == {"reward": 0.0, "done": True}


def test_rewards_of_the_world_are_what_an_evaluation_counts() -> None:
    def once(ask: Ask, sample: int) -> Message | str:
        """Add the number at once, and one too many where it is large."""
        goal = int(str(ask.messages[-1].content).rstrip(".").split()[-1])
        return Message("assistant", "", (Call("increment", {"step": goal + (goal > 2)}, id="a"),))

    played, tasks = suite(f"{HERE}:Counter", count=4)
    # The seeds 1, 3, 5, 7 give the numbers 2, 4, 1, 3: half of them are large.
    evaluation = evaluate(ToolLoop(), Scripted(once), played, tasks)
    assert evaluation.success == 0.5
    assert {row.finish for row in evaluation.rows} == {"answer"}


def test_an_environment_in_gymnasiums_form() -> None:
    played = world_of(f"{HERE}:Walk")
    (task,) = played.tasks("train", 1, seed=0)
    assert task.prompt == (
        'Walk to the right.\n\nAction: {"type": "integer", "minimum": 1, "maximum": 3}\nFirst observation: [0.0,0.0]'
    )
    session = played.start(task)
    (step,) = session.tools
    assert step.parameters["required"] == ["action"]
    assert session.act(Call("step", {"action": 2})).text == "[0.0,1.0]"
    assert "should be at most 3" in session.act(Call("step", {"action": 4})).text
    branch = session.fork()
    assert [session.act(Call("step", {"action": 1})).terminal for _ in range(2)] == [False, True]
    late = session.act(Call("step", {"action": 1}))
    assert (late.status, session.final()) == ("refused", {"reward": 1.5, "done": True})
    assert branch.final() == {"reward": 0.5, "done": False}
    assert "secret" not in session.act(Call("step", {"action": 1})).text
    session.close()


def test_actions_of_several_parts() -> None:
    session = world_of(f"{HERE}:Push").start(world_of(f"{HERE}:Push").tasks("train", 1)[0])
    schema = session.tools[0].parameters["properties"]["action"]
    assert schema["properties"]["force"] == {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    assert session.act(Call("step", {"action": {"way": 1, "force": [0.5, 1]}})).status == "ok"
    assert session.act(Call("step", {"action": {"way": 9, "force": [0.5, 1]}})).status == "malformed"
    assert session.final()["reward"] == 0.5


class Silent:
    def reset(self) -> None:
        """Begin."""

    def act(self) -> str:
        """Act."""
        return ""


NUMBER = 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Silent", "does not say what to do"),
        ("Box", "has no reset"),
        ("NUMBER", "an environment is a class"),
        ("Contour", "did you mean 'Counter'"),
    ],
)
def test_what_is_no_environment_says_why(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        world_of(f"{HERE}:{name}").tasks("train", 1)


def test_settings_that_a_world_from_elsewhere_ignores_are_refused() -> None:
    with pytest.raises(ValueError, match="brings its own tools and rewards"):
        world(f"{HERE}:Counter", tools=())
    with pytest.raises(ValueError, match="must start with http"):
        world("openenv:nowhere")
    assert world("openenv:http://localhost:1").name == "openenv"
    assert isinstance(world(f"{HERE}:Counter"), ObjectWorld)
