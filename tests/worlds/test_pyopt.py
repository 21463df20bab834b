"""The world of slow functions: what programs may be made of, what tests tell apart, what is accepted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ferrule.core.records import Call, Trajectory
from ferrule.rewards.outcome import outcome
from ferrule.worlds.pyopt import Pyopt
from ferrule.worlds.pyopt.bank import families, slow_function
from ferrule.worlds.pyopt.functions import SlowFunction, read_functions
from ferrule.worlds.pyopt.progress import Progress
from ferrule.worlds.pyopt.rules import broken
from ferrule.worlds.pyopt.scripted import rewrites_of
from ferrule.worlds.pyopt.testing import Measuring, Sandboxed
from ferrule.worlds.pyopt.timing import accepts, median_interval, ratios

ORIGINAL = "import math\n\ndef f(x, k=2):\n    return x * k\n"
EXACT = Measuring(cases=8, repeats=1, inputs=1, clock="instructions", seconds=5.0)
"""Quick and the same on every run."""


def sandboxed(source: str, inputs: str, *, edges: tuple[str, ...] = ()) -> Sandboxed:
    name = source.split("def ")[1].partition("(")[0]
    return Sandboxed(SlowFunction(name, source, {"any": inputs}, edges), how=EXACT)


# ------------------------------------------------------------------------------------------------------ rules and files


@pytest.mark.parametrize(
    "program",
    [
        "def f(x, k=2):\n    return x + x if k == 2 else k * x\n",
        "import math\n\ndef f(x: int, k: int = 2) -> int:\n    'Doubles.'\n    return math.prod((x, k))\n",
        "from math import prod\n\ndef g(*numbers):\n    return prod(numbers)\n\ndef f(x, k=2):\n    return g(x, k)\n",
        "def f(x, k=2):\n    try:\n        return [x * k for _ in range(1)].pop()\n    except IndexError as e:\n        raise e\n",
    ],
)
def test_programs_that_keep_the_rules(program: str) -> None:
    assert broken(program, ORIGINAL, "f") == ""


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("def g(x, k=2):\n    return x", "no function 'f'"),
        ("def f(x):\n    return x", "parameters of 'f' are not those"),
        ("def f(x, k=3):\n    return x", "parameters of 'f' are not those"),
        ("def f(x, k=2:\n    return x", "not valid Python"),
        ("import os\ndef f(x, k=2):\n    return x", "imports 'os', which the original does not"),
        ("from math import *\ndef f(x, k=2):\n    return x", "no such function"),
        ("def f(x, k=2):\n    import math\n    return x", "imports inside a function"),
        ("SEEN = {}\ndef f(x, k=2):\n    return x", "stands in no function"),
        ("def g(seen={}):\n    return seen\ndef f(x, k=2):\n    return x", "default of 'g' would outlive a call"),
        ("def f(x, k=2):\n    global y\n    y = x\n    return y", "Global"),
        ("def f(x, k=2):\n    f.seen = x\n    return x", "sets the attribute 'seen'"),
        ("def f(x, k=2):\n    math = (i for i in ())\n    return math.gi_frame", "'gi_frame', which programs may not use"),
        ("import math\ndef f(x, k=2):\n    math = 1\n    return x", "name of the module 'math' to something else"),
        ("import math\ndef f(x, k=2):\n    return math.sinus(x)", "math.sinus, which there is not"),
        ("import math\ndef f(x, k=2):\n    math.pi = 3\n    return x", "sets the attribute 'pi'"),
        ("def f(x, k=2):\n    return x.__class__", "attribute '__class__'"),
        ("def f(x, k=2):\n    return eval('x')", "uses 'eval'"),
        ("def f(x, k=2):\n    return getattr(x, 'real')", "uses 'getattr'"),
        ("def f(x, k=2):\n    return __import__('time')", "uses '__import__'"),
        ("def f(x, k=2):\n    class A:\n        pass\n    return x", "ClassDef"),
        ("@print\ndef f(x, k=2):\n    return x", "decorator"),
        ("def f(x, k=2):\n    match x:\n        case int(real=r):\n            return r", "MatchClass"),
        ("def f(x, k=2):\n    return " + "(" * 3000 + "x" + ")" * 3000, "not valid Python"),
        ("def f(x, k=2):\n    return '" + "a" * 30_000 + "'", "the most is 20000"),
        ("def f(x, k=2):\n    return x\ndef f(x, k=2):\n    return k", "defines 'f' twice"),
        ("\x00", "not valid Python"),
    ],
)  # fmt: skip
def test_programs_that_break_a_rule(body: str, rule: str) -> None:
    assert rule in broken(body, ORIGINAL, "f")


def test_functions_are_read_from_a_file_that_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "slow.py"
    path.write_text(
        "import math\nraise SystemExit\nINPUTS = {'area': {'small': '(rng.randint(1, 9),)'}}\nEDGES = {'area': ['(0,)']}\n"
        "def half(x):\n    return x / 2\ndef area(d):\n    '''The area of a circle.\n\n    More.'''\n"
        "    return math.pi * half(d) ** 2\n"
    )
    (function,) = read_functions(path)
    assert function.source.startswith("import math\n\ndef half(x):\n    return x / 2\n\ndef area(d):\n")
    assert (function.inputs, function.edges) == ({"small": "(rng.randint(1, 9),)"}, ("(0,)",))
    assert function.about == "The area of a circle."
    path.write_text("INPUTS = {'aera': {'s': '(1,)'}}\ndef area(d):\n    return d\n")
    with pytest.raises(ValueError, match="inputs of 'aera'; did you mean 'area'"):
        read_functions(path)
    path.write_text("def area(d):\n    return d\n")
    with pytest.raises(ValueError, match="has no INPUTS"):
        read_functions(path)
    with pytest.raises(ValueError, match=r"not an expression: .rng\.."):
        SlowFunction("f", ORIGINAL, {"any": "rng."})


# ----------------------------------------------------------------------------------------------------- tests in a sandbox


@pytest.fixture
def first(request: Any) -> Iterator[Sandboxed]:
    """A function that returns the numbers below ten, or raises."""
    source = "def f(xs):\n    xs[0]\n    return [x for x in xs if x < 10]\n"
    tester = sandboxed(source, "([rng.randrange(20) for _ in range(5)],)", edges=("([1, 2.0, True],)", "([],)"))
    yield tester
    tester.close()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("xs[0]\n    return list(filter(lambda x: x < 10, xs))", ""),
        ("xs[0]\n    return filter(lambda x: x < 10, xs)", "returns no plain data"),
        ("return [x for x in xs if x < 10]", "f([]) returns []; the original raises IndexError"),
        ("xs[0]\n    return [int(x) for x in xs if x < 10]", "returns [1, 2, 1]; the original returns [1, 2.0, True]"),
        ("xs[0]\n    return tuple(x for x in xs if x < 10)", "returns (1, 2.0, True,)"),
        ("xs[0]\n    xs.sort()\n    return [x for x in xs if x < 10]", "its arguments become"),
        ("xs[0]\n    return xs if max(xs) < 10 else [x for x in xs if x < 10]", "which is argument 1 itself"),
        ("while True:\n        pass", "could not be tested: stopped after"),
        ("return f(xs)", "raises RecursionError"),
        ("return [0] * 10**12", "raises MemoryError"),
    ],
)  # fmt: skip
def test_what_tests_tell_apart(first: Sandboxed, body: str, said: str) -> None:
    program = f"def f(xs):\n    {body}\n"
    refused = first.refuse(program)
    assert said in refused if said else refused == ""


def test_an_original_that_cannot_be_compared_is_refused() -> None:
    tester = sandboxed("def f(x):\n    return (i for i in range(x))\n", "(rng.randint(1, 3),)")
    with pytest.raises(ValueError, match="returns what is no plain data"):
        tester.expected()
    tester.close()
    tester = sandboxed("def f(x):\n    return x\n", "(nothing,)")
    with pytest.raises(ValueError, match=r"cannot be run: .*nothing"):
        tester.expected()
    tester.close()


def test_instructions_are_counted_and_fresh_inputs_are_compared() -> None:
    tester = sandboxed(
        "def f(n):\n    t = 0\n    for i in range(n):\n        t += i\n    return t\n", "(rng.randint(20, 30),)"
    )
    quick = "def f(n):\n    return n * (n - 1) // 2\n"
    times = tester.times({"original": tester.function.source, "program": quick}, 1)
    assert times == tester.times({"original": tester.function.source, "program": quick}, 1)
    assert not isinstance(times, str)
    assert times["original"]["any"][0] > 5 * times["program"]["any"][0]
    wrong = tester.times({"original": tester.function.source, "program": "def f(n):\n    return n\n"}, 1)
    assert "does something else than the original on the inputs that it was timed with" in str(wrong)
    tester.close()


# ------------------------------------------------------------------------------------------------------------ acceptance


def test_intervals_of_medians_and_paired_ratios() -> None:
    """Of 7 values the ends are the least and the largest: 1 - 2/128 = 98.4 %; the second ones give 1 - 16/128 = 87.5 %.

    Of 9 the second ones: 1 - 2 (1 + 9) / 512 = 96.1 %.
    """
    assert median_interval([5, 1, 4, 2, 3, 7, 6]) == (1, 7)
    assert median_interval(range(9)) == (1, 7)
    assert median_interval([1, 2, 3, 4, 5]) == (-math.inf, math.inf)
    assert ratios({"a": [2, 4], "b": [8, 1]}, {"a": [1, 1], "b": [1, 1]}) == pytest.approx([4, 2])


class Given:
    """A tester who knows the time of every program; those without a time are wrong."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds

    def refuse(self, program: str) -> str:
        return "" if program in self.seconds else "1 of 1 tests fail."

    def times(self, programs: Mapping[str, str], draw: int) -> Mapping[str, Mapping[str, list[float]]]:
        return {label: {"any": [self.seconds[program]]} for label, program in programs.items()}


def test_progress_keeps_the_best_and_branches() -> None:
    progress = Progress("slow", Given(slow=10.0, better=5.0, similar=4.9, best=2.0))
    said = [progress.benchmark(program) for program in ("wrong", "better", "similar")]
    assert [o.data["decision"] for o in said] == ["wrong", "gain", "too small"]
    assert [o.data["score"] for o in said] == pytest.approx([-1.0, math.log(2), 0.0])
    twin = progress.fork()
    assert twin.benchmark("best").data["speedup"] == pytest.approx(5.0)
    assert progress.final() == {
        "program": "better", "speedup": 2.0, "solved": True, "tried": 3, "wrong": 1, "accepted": 1,
    }  # fmt: skip
    assert twin.final()["program"] == "best"
    assert progress.run_tests("wrong").data == {"right": False}


def test_noise_of_the_machine_raises_the_gain_that_is_asked_for() -> None:
    """The original against itself is off by 20 % every time, so 1.05 * 1.2 = 1.26 is asked for."""

    class Noisy(Given):
        def times(self, programs: Mapping[str, str], draw: int) -> Any:
            times = super().times(programs, draw)
            return {label: {"any": [6.0]} if label == "again" else one for label, one in times.items()}

    progress = Progress("slow", Noisy(slow=5.0, gain=4.0, more=3.9))
    assert progress.benchmark("gain").data["decision"] == "too small"
    assert progress.draws == 4
    assert progress.benchmark("more").data["decision"] == "gain"


# ----------------------------------------------------------------------------------------------------- the bank, the world


@pytest.mark.parametrize("family", families(), ids=lambda family: family.key)
def test_functions_of_the_bank_have_right_and_wrong_rewrites(family: Any) -> None:
    """What is shown is right, and faster by instructions; at least a third of each pool is right and a third is not."""
    function = slow_function(family, family.names[0], family.sizes[0])
    tester = Sandboxed(function, how=EXACT)
    shown = [r["source"].replace("NAME", function.name) for r in family.rewrites if r.get("shown")]
    assert len(shown) == 1
    assert tester.refuse(shown[0]) == ""
    times = tester.times({"original": function.source, "program": shown[0]}, 0)
    assert accepts(times["original"], times["program"]).accepted  # type: ignore[index]
    pool = rewrites_of(function.name)
    right = sum(not tester.refuse(rewrite.source) for rewrite in pool)
    tester.close()
    assert len(pool) / 3 <= right <= len(pool) * 2 / 3
    assert family.best in {rewrite.family for rewrite in pool}


def test_a_task_is_solved_by_a_fast_program_and_by_nothing_else() -> None:
    world = Pyopt(families=("running",), how=EXACT)
    (task,) = world.tasks("test", 1)
    assert "def sums_so_far(values):" in task.prompt
    assert "- long: ([rng.randint(-99, 99)" in task.prompt
    session = world.start(task)
    wrong = session.act(Call("benchmark", {"code": "def sums_so_far(values):\n    return values\n"}))
    assert "tests fail" in wrong.text
    assert not session.final()["solved"]
    (call,) = world.demonstrate(task).calls
    assert session.act(Call("run_tests", call.arguments)).text == "All tests pass."
    assert session.final()["accepted"] == 0
    assert "Accepted" in session.act(call).text
    assert session.final()["solved"]
    session.close()
    audit = world.audit(task, str(call.arguments["code"]))
    assert (audit.wrong, audit.speedup > 2) == ("", True)
    assert "tests fail" in world.audit(task, "def sums_so_far(values):\n    return values\n").wrong
    path = Trajectory(task, (), "x", final={"solved": True})
    assert outcome(task, [path])[0].value == 1.0


def test_settings_of_the_world_are_checked() -> None:
    with pytest.raises(ValueError, match="unknown family 'runing'; did you mean 'running'"):
        Pyopt(families=("runing",))
    with pytest.raises(ValueError, match=r"Pyopt\.target is 1"):
        Pyopt(target=1)
    with pytest.raises(ValueError, match="families would do nothing beside functions"):
        Pyopt(families=("running",), functions=(SlowFunction("f", ORIGINAL, {"a": "(1,)"}),))
    with pytest.raises(ValueError, match=r"Measuring\.clock is 'days'"):
        Measuring(clock="days")  # type: ignore[arg-type]
    own = Pyopt(functions=(SlowFunction("f", ORIGINAL, {"a": "(1,)"}),))
    assert [task.id for task in own.tasks("test", 5)] == ["pyopt/f"]
    assert Pyopt(families=("running",)).tasks("train", 3, levels=(1,)) == []
