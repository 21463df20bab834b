"""CodeAct: one block a turn, outcomes as JSON, and what is said when a turn is no single block."""

from __future__ import annotations

import ast
import json

from ferrule.agents.code import STATEMENTS, CodeAct, outcome_text
from ferrule.chat.fence import Fence
from ferrule.core.flows import Ask
from ferrule.core.records import Message, Observation, Trajectory, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.sandbox.restricted import Restricted
from ferrule.worlds.knapsack import Knapsack


def play(
    replies: list[str], persistent: bool = True, *, codec: bool = True, **settings: object
) -> tuple[Trajectory, list[str]]:
    """Play a script in the restricted language; returns the episode and the outcomes as the model read them."""
    world = Knapsack(face="code", persistent=persistent, interpret=Restricted)
    (task,) = world.tasks("train", 1, levels=[1])
    asked: list[Ask] = []

    def script(ask: Ask, sample: int) -> str:
        asked.append(ask)
        return replies[len(asked) - 1]

    agent = CodeAct(persistent=persistent, turns=len(replies), **settings)  # type: ignore[arg-type]
    (episode,) = drive(agent, [task], world, Scripted(script, Fence() if codec else None))
    (trajectory,) = episode.trajectories
    shown = [plain_text(m) for m in asked[-1].messages[2:] if m.role != "assistant"]
    return trajectory, shown


def block(code: str) -> str:
    return f"```python\n{code}\n```"


def test_variables_persist_or_do_not() -> None:
    """x = 3, then print(x): 3 in one runtime, a NameError in the other."""
    _, shown = play([block("x = 3"), block("print(x)"), block("finish()")])
    assert json.loads(shown[1]) == {
        "success": True, "result": None, "output": "3\n", "error": None,
        "runtime_state": {"runtime": "persistent", "active_globals": ["x"]},
    }  # fmt: skip
    played, shown = play([block("x = 3"), block("print(x)"), block("finish()")], persistent=False)
    assert json.loads(shown[1]) == {
        "success": False, "result": None, "output": "", "error": "NameError: name 'x' is not defined",
        "runtime_state": {"runtime": "reset", "active_globals": []},
    }  # fmt: skip
    assert played.answer is not None
    assert played.final["finished"]


def test_inspections_carry_over_in_both_runtimes() -> None:
    for persistent in (True, False):
        look = block("inspect(list_items()[0])")
        played, shown = play([look, look, block("inspect(list_items()[1])"), block("finish()")], persistent)
        assert len(played.final["inspected"]) == 2
        seen = ast.literal_eval(json.loads(shown[0])["result"])
        assert list(json.loads(seen)) == ["class", "value", "weight"]


def test_a_turn_without_a_single_block_runs_nothing() -> None:
    two = block("x = 1") + "\n" + block("y = 2")
    _, shown = play(["I will think.", two, block("print(x)"), block("finish()")], codec=False)
    first, second, third = (json.loads(text) for text in (shown[0], shown[1], shown[-1]))
    assert "holds no blocks" in first["error"]
    assert "holds 2 blocks" in second["error"]
    assert third["error"] == "NameError: name 'x' is not defined"


def test_blocks_are_found_in_plain_text() -> None:
    """A policy whose codec knows no fences leaves the block in the text."""
    played, shown = play([f"So:\n{block('x = 3')}", block("print(x)"), block("finish()")], codec=False)
    assert json.loads(shown[1])["output"] == "3\n"
    assert played.final["finished"]


def test_system_message_states_the_runtime() -> None:
    for persistent in (True, False):
        played, _ = play([block("finish()")], persistent, system="Be brief.")
        assert played.turns[0].messages[0].content == f"Be brief.\n{STATEMENTS[persistent]}"


def test_turns_run_out_without_an_answer() -> None:
    played, _ = play([block("x = 1"), block("y = 1")])
    assert played.answer is None
    assert len(played.turns) == 2


def test_outcome_of_tools_that_keep_no_parts() -> None:
    assert json.loads(outcome_text(Observation("7"))) == {
        "success": True, "result": None, "output": "7", "error": None,
    }  # fmt: skip
    assert json.loads(outcome_text(Observation("a\nb", "timeout")))["error"] == "b"
    assert json.loads(outcome_text(Observation("", "refused")))["error"] == "refused"


def test_examples_stand_before_the_prompt() -> None:
    shots = (Message("user", "Take all."), Message("assistant", block("finish()")))
    played, _ = play([block("finish()")], examples=shots)
    assert [m.role for m in played.turns[0].messages] == ["system", "user", "assistant", "user"]
