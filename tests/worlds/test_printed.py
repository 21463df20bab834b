"""What stands between code that ran and the model that reads of it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contracts.kinds import check_world

from ferrule.agents.react import ToolLoop
from ferrule.agents.repair import passed
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Observation, Task, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.tools import tool
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.printed import as_observed, observed, observing
from ferrule.worlds.session import Toolbox

TASK = Task("t", "?", answer="yes")


def test_what_a_run_shows_and_whether_it_passed() -> None:
    assert observed("3\n", "", 0) == ("3", True)
    assert observed("", "Killed", 1) == ("Killed", False)
    assert observed("", "", 0) == ("TimeoutError: the code ran too long", False)
    trace = 'Traceback (most recent call last):\n  File "x", line 1\nZeroDivisionError: division by zero\n'
    assert observed("", trace, 1) == ("ZeroDivisionError: division by zero", False)
    text, good = observed("x" * 300, "", 0)
    assert (text, good, len(text)) == ("x" * 128 + "..." + "x" * 128, True, 259)
    assert observed("x" * 255, "", 0)[0] == "x" * 255


def test_output_that_names_an_error_is_whole_unless_published() -> None:
    assert observed("no Error here\n7\n", "", 0) == ("no Error here\n7", True)
    assert observed("no Error here\n7\n", "", 0, reference=True) == ("7", True)
    assert observed("", "", 0, silent=True) == ("", True)


STREAMS: dict[str, Any] = {"stdout": "", "stderr": "", "value": None, "exception": None}
DIVIDED = 'Traceback (most recent call last):\n  File "x", line 1\nZeroDivisionError: division by zero'


@pytest.mark.parametrize(
    ("given", "text", "status"),
    [
        (Observation("3\n", data={**STREAMS, "stdout": "3\n"}), "3", "ok"),
        (Observation("", data=STREAMS), "TimeoutError: the code ran too long", "error"),
        (Observation(DIVIDED, "error", data={**STREAMS, "exception": DIVIDED}),
         "ZeroDivisionError: division by zero", "error"),
        (Observation("x" * 300, data={**STREAMS, "stdout": "x" * 300}), "x" * 128 + "..." + "x" * 128, "ok"),
        (Observation("a\n7", data={**STREAMS, "stdout": "a\n", "value": "7"}), "a\n7", "ok"),
        (Observation("warned\n", data={**STREAMS, "stderr": "warned\n"}), "warned", "error"),
        (Observation("half\nError: too slow", "timeout", data={**STREAMS, "stdout": "half\n"}),
         "TimeoutError: the code ran too long", "timeout"),
        (Observation("x" * 300), "x" * 128 + "..." + "x" * 128, "ok"),
        (Observation("ValueError: no\nKeyError: 'a'", "error"), "KeyError: 'a'", "error"),
        (Observation("down", "error"), "down", "error"),
        (Observation("x" * 300, "refused"), "x" * 300, "refused"),
        (Observation("x" * 300, terminal=True), "x" * 300, "ok"),
    ],
)  # fmt: skip
def test_what_stands_between_tools_and_model(given: Observation, text: str, status: str) -> None:
    """The four runs of the first test as observations; then values, warnings, time limits, and other tools."""
    worded = as_observed(given)
    assert (worded.text, worded.status, worded.data) == (text, status, given.data)
    assert passed(worded) is (status == "ok")


def test_a_model_reads_observed_texts() -> None:
    """One call that fails with a long traceback, one with a long output, in branches as well; the record has both."""

    def long(size: int) -> str:
        if size < 0:
            raise ValueError("below 0\n" + "x" * 300)
        return "x" * size

    world = observing(Toolbox((tool(long),)))
    sizes = iter((-1, 300))

    def speak(ask: Ask, sample: int) -> Message:
        size = next(sizes, None)
        return Message("assistant", "done", () if size is None else (Call("long", {"size": size}),))

    (played_out,) = drive(ToolLoop(), [TASK], world, Scripted(speak))
    read = [plain_text(m) for m in played_out.trajectories[0].turns[-1].messages if m.role == "tool"]
    assert read == ["x" * 128 + "..." + "x" * 128]
    calls = played_out.trajectories[0].calls
    assert [o.status for _, o in calls] == ["error", "ok"]
    assert [len(o.text) for _, o in calls] == [259, 259]
    branch = world.start(TASK).fork()
    assert len(branch.act(Call("long", {"size": 300})).text) == 259
    check_world(observing(Arithmetic()))
