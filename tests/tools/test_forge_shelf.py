"""The shelf of forged tools: promotion, versions, statistics, merging, pruning, export, and tools at work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ferrule.core.records import Call, Message, Observation, Task, Trajectory, Turn
from ferrule.tools.files import load_tools
from ferrule.tools.forge import Proposal, agreed, examine
from ferrule.tools.forge_export import as_test, exported
from ferrule.tools.forge_run import runnable
from ferrule.tools.forge_shelf import (
    Forged,
    Shelf,
    Uses,
    alike,
    categorised,
    consolidated,
    from_json,
    merged,
    noted,
    promoted,
    pruned,
    retired,
    revised,
    to_json,
    tools_of,
    used,
)
from ferrule.tools.invoke import invoke
from ferrule.worlds.session import ToolSession

DOUBLE = 'def double(n: int) -> int:\n    """Return twice a number."""\n    return 2 * n\n'
DOUBLE_TESTS = "assert double(2) == 4\nassert double(0) == 0\nassert double(-3) == -6\n"
TWICE = 'def twice(n: int) -> int:\n    """Return a number added to itself."""\n    return n + n\n'
TWICE_TESTS = DOUBLE_TESTS.replace("double", "twice")
COUNTER = (
    "_seen = []\n\n\ndef count(word: str) -> int:\n"
    '    """Return how many different words were given."""\n    if word not in _seen:\n'
    "        _seen.append(word)\n    return len(_seen)\n"
)
COUNTER_TESTS = 'assert count("a") == 1\nassert count("b") == 2\nassert count("a") == 2\n'


def entry(shelf: Shelf, source: str, tests: str, *, effects: str = "read", now: int = 0) -> Shelf:
    examined = examine(Proposal(source, tests, effects=effects))  # type: ignore[arg-type]
    assert examined.passed, examined.feedback
    return promoted(shelf, agreed(examined, True), now=now)


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return entry(entry(Shelf(), DOUBLE, DOUBLE_TESTS), TWICE, TWICE_TESTS, now=3)


def test_only_what_passed_and_was_agreed_to_is_promoted() -> None:
    sound = examine(Proposal(DOUBLE, DOUBLE_TESTS))
    with pytest.raises(ValueError, match="no critic agreed"):
        promoted(Shelf(), sound)
    with pytest.raises(ValueError, match="critic: too simple"):
        promoted(Shelf(), agreed(sound, False, "too simple"))
    with pytest.raises(ValueError, match="a test fails"):
        promoted(Shelf(), agreed(examine(Proposal(DOUBLE, "assert double(1) == 1\n")), True))
    assert [one.name for one in promoted(Shelf(), agreed(sound, True)).offered] == ["double"]


def test_use_is_counted_and_what_fails_is_pruned(shelf: Shelf) -> None:
    for task, failed in enumerate((False, True, True, True, False)):
        shelf = used(shelf, "double", failed=failed, now=task)
    assert shelf.newest("double").uses == Uses(5, 3, 0, 4)
    assert shelf.newest("double").uses.rate == pytest.approx(0.4)  # 1 - 3/5
    kept = pruned(shelf, now=10)
    assert [one.name for one in kept.offered] == ["twice"]
    assert kept.newest("double").retired == "40% of 5 calls gave a result"
    assert pruned(shelf, now=200).offered == ()  # twice is unused since task 3, more than 100 tasks ago
    assert [one.name for one in pruned(shelf, now=10, rate=0.0, most=1).offered] == ["double"]
    with pytest.raises(KeyError, match="did you mean 'double'"):
        used(shelf, "doubel")


def test_a_new_version_passes_all_earlier_tests(shelf: Shelf) -> None:
    wide = DOUBLE.replace("n: int) -> int", "n: float) -> float")
    fresh = revised(
        shelf, Proposal(wide, "assert double(0.5) == 1.0\nassert double(1.5) == 3.0\nassert double(2) == 4\n")
    )
    assert fresh.passed, fresh.feedback
    newer = promoted(shelf, agreed(fresh, True))
    assert [one.version for one in newer.versions["double"]] == [1, 2]
    assert newer.newest("double").proposal.source == wide
    broken = revised(newer, Proposal(wide.replace("2 * n", "abs(2 * n)"), "assert double(1) == 2\n" * 3))
    assert "the tests of version 1: a test fails" in broken.feedback or "changes" in broken.feedback
    assert not broken.passed


def test_tools_that_do_the_same_are_merged(shelf: Shelf) -> None:
    assert alike(shelf.newest("double"), shelf.newest("twice"))
    one = merged(used(shelf, "twice"), "double", "twice")
    assert [(entry.name, entry.covers, entry.uses.calls) for entry in one.offered] == [("double", ("twice",), 1)]
    assert one.newest("twice").retired == "merged into 'double'"
    assert "twice = double" in one.newest("double").proposal.tests
    third = entry(shelf, DOUBLE.replace("double", "treble").replace("2 *", "3 *"),
                  "assert treble(2) == 6\nassert treble(0) == 0\nassert treble(-3) == -9\n")  # fmt: skip
    assert not alike(third.newest("treble"), third.newest("double"))
    with pytest.raises(ValueError, match="'treble' does not do what 'double' did"):
        merged(third, "treble", "double")
    with pytest.raises(ValueError, match="two different tools"):
        merged(third, "double", "double")


def test_calls_of_episodes_are_counted(shelf: Shelf) -> None:
    """Of six calls two fail, one of them by a result beside the contract; one never ran, one is of another tool."""
    made = [
        (Call("double", {"n": 2}), Observation("4", data=4)),
        (Call("double", {"n": 2}), Observation("four")),  # no number, as the output schema wants
        (Call("double", {"n": 3}), Observation("boom", "error")),
        (Call("double", {"m": 3}), Observation("", "malformed")),
        (Call("other"), Observation("1")),
        (Call("twice", {"n": 1}), Observation("2", data=2)),
    ]
    reply = Message("assistant", "", tuple(call for call, _ in made))
    turn = Turn(0, None, (), (), (), reply, observations=tuple(seen for _, seen in made))
    counted = noted(shelf, [Trajectory(Task("t", ""), (turn,))], now=9)
    assert counted.newest("double").uses == Uses(3, 1, 1, 9)
    assert counted.newest("twice").uses == Uses(1, 0, 0, 9)
    gone = noted(retired(shelf, "double", "enough"), [Trajectory(Task("t", ""), (turn,))], now=9)
    assert gone.newest("double").uses == Uses()  # whatever bears its name now is another tool


def test_tools_that_do_the_same_are_consolidated(shelf: Shelf) -> None:
    one = consolidated(used(shelf, "twice"))
    assert [(entry.name, entry.covers) for entry in one.offered] == [("twice", ("double",))]
    assert consolidated(one) == one


def test_a_shelf_is_filed_and_comes_back_from_json(shelf: Shelf) -> None:
    filed = categorised(shelf, {"double": "numbers"})
    filed = categorised(filed, lambda one: one.category or "other")
    assert [one.category for one in filed.offered] == ["numbers", "other"]
    back = from_json(to_json(retired(filed, "twice", "enough")))
    assert back.newest("twice").retired == "enough"
    assert back.newest("double") == filed.newest("double")
    assert isinstance(back.newest("double"), Forged)
    for text in ("[]", '{"tools": [{}]}', "nothing"):
        with pytest.raises(ValueError, match="not a shelf"):
            from_json(text)


def test_forged_tools_run_in_a_sandbox_of_their_episode(shelf: Shelf) -> None:
    source = tools_of(entry(shelf, COUNTER, COUNTER_TESTS, effects="write"))
    first, second = (ToolSession(Task("t", ""), source.build, source.start()) for _ in range(2))
    texts = [first.act(Call("count", {"word": word})).text for word in ("x", "y", "x")]
    assert texts == ["1", "2", "2"]
    assert second.act(Call("count", {"word": "z"})).text == "1"
    branch = first.fork()
    assert (branch.act(Call("count", {"word": "q"})).text, first.act(Call("count", {"word": "y"})).text) == ("3", "2")
    assert first.act(Call("double", {"n": "21"})).data == 42  # repaired by the derived schema
    assert first.act(Call("double", {"n": "many"})).status == "malformed"
    for session in (first, second, branch):
        session.close()


def test_a_tool_that_fails_says_so() -> None:
    source = 'def half(n: int) -> float:\n    """Halve."""\n    if n < 0:\n        raise ValueError("n is below 0")\n    return n / 2\n'
    tool = runnable(source)
    failed = invoke(tool, Call("half", {"n": -1}))
    assert (failed.status, failed.text) == ("error", "ValueError: n is below 0")
    assert invoke(tool, Call("half", {"n": 3})).data == 1.5


HELPED = (
    "import math\n\n_LIMIT = 3\n\n\ndef _clean(n: int) -> int:\n    # at most the limit\n    return min(n, _LIMIT)\n\n\n"
    'def low(n: int) -> int:\n    """Return a number, at most 3."""\n    return math.floor(_clean(n))\n'
)
OTHER = '_LIMIT = 5\n\n\ndef high(n: int) -> int:\n    """Return a number, at least 5."""\n    return max(n, _LIMIT)\n'


def test_the_export_is_plain_python(tmp_path: Path) -> None:
    """Helpers of one name are told apart, comments stay, and neither tests nor functions need Ferrule."""
    text = exported(
        [
            ("low", HELPED, "assert low(7) == _LIMIT == 3\n", "read"),
            ("high", OTHER, "def test_it():\n    assert high(1) == 5\n", "read"),
        ],
        "mine.py",
    )
    assert "# at most the limit" in text
    assert "_high_LIMIT = 5" in text
    path = tmp_path / "mine.py"
    path.write_text(text)
    run = subprocess.run([sys.executable, "-I", "-S", path], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout == "2 tests passed\n"
    path.write_text(text.replace("max(n, _high_LIMIT)", "n"))
    run = subprocess.run([sys.executable, "-I", "-S", path], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 1
    path.write_text(text)
    low, high = load_tools(path)
    assert (low.name, high.name) == ("low", "high")
    assert invoke(high, Call("high", {"n": 9})).text == "9"
    with pytest.raises(ValueError, match="no tool to export"):
        exported([])


def test_tests_become_one_function() -> None:
    text = as_test("f", "x = 1\n\ndef test_a():\n    assert x == 1\n")
    space: dict[str, object] = {}
    exec(text, space)
    space["test_f"]()  # type: ignore[operator]
    exec(as_test("f", "def test_a():\n    assert 1 == 2\n"), space)
    with pytest.raises(AssertionError):
        space["test_f"]()  # type: ignore[operator]


def one(name: str, result: str = "n + 1", head: str = "", tests: str = "") -> tuple[str, str, str, str]:
    source = f'{head}def {name}(n: int) -> int:\n    """Return a number."""\n    return {result}\n'
    return name, source, tests or f"assert {name}(1) == 2\n", "read"


HELPER = "def {name}(n):\n    return n + 1\n\n\n"
TEMPLATE = "_L = {value}\n\n\n"
TOGETHER = {
    "tests that bind the tool's name": [one("a", tests="a = a(1)\nassert a == 2\n")],
    "a tool called as another one is offered": [one("a"), one("a_tool")],
    "a helper called as the file's": [
        one("a", "_tool(_tests(n)) - 1", HELPER.format(name="_tool") + HELPER.format(name="_tests"))
    ],
    "a helper that hides a builtin": [one("a", "max(n)", HELPER.format(name="max")), one("b", "max(n + 1, 0)")],
    "a helper called as a test": [one("a", "test_b(n)", HELPER.format(name="test_b")), one("b")],
    "two things that are imported": [
        one("a", head="import datetime\n\n\n", tests="assert a(1) == 2\nassert datetime.date(2000, 1, 1).day == 1\n"),
        one("b", head="from datetime import datetime\n\n\n", tests="assert datetime(2000, 1, 1).day == b(0)\n"),
    ],
    "names within templates": [
        one("a", 'int(f"{_L}")', TEMPLATE.format(value=2)),
        one("b", 'int(f"{_L}")', TEMPLATE.format(value=3), "assert b(1) == 3\n"),
    ],
    "two statements on a line": [one("a", "n + _x", "import math; _x = 1\n\n\n")],
    "spaces in texts": [one("a", "len(_T)", '_T = """a  \nb\x0cc"""\n\n\n', "assert a(1) == 7\n")],
}


@pytest.mark.parametrize("case", TOGETHER)
def test_what_is_exported_does_what_it_did(case: str, tmp_path: Path) -> None:
    """Whether Ferrule is there (the second run) or not, and in whichever order."""
    for tools in (TOGETHER[case], TOGETHER[case][::-1]):
        (tmp_path / "tools.py").write_text(exported(tools), encoding="utf-8")  # type: ignore[arg-type]
        for bare in (["-I", "-S"], []):  # without packages there is no Ferrule
            run = subprocess.run(
                [sys.executable, *bare, str(tmp_path / "tools.py")], capture_output=True, text=True, check=False
            )
            assert run.stdout == f"{len(tools)} tests passed\n", run.stderr


@pytest.mark.parametrize("name", ["sum", "test_it"])
def test_a_tool_with_a_name_that_the_file_needs_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be exported"):
        exported([one(name)])  # type: ignore[list-item]
