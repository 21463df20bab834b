"""The forge: what is promoted, and what stops a proposal that is wrong, slow, escaping, flaky or lying."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ferrule.tools.forge import Examined, Proposal, agreed, examine, same_result
from ferrule.tools.forge_contract import breaches, inferred
from ferrule.tools.forge_rules import broken, main_function
from ferrule.tools.forge_schema import described_tool
from ferrule.tools.forge_trial import Made, Trial
from ferrule.tools.forge_variants import stubs, variants
from ferrule.tools.schema import signature

SOURCE = '''
def share(part: float, whole: float) -> float:
    """Return a part as a share of the whole.

    Args:
        part: the part
        whole: the whole, not 0
    """
    if whole == 0:
        raise ValueError("the whole is 0")
    return part / whole
'''
TESTS = """
assert share(1.0, 4.0) == 0.25
assert share(3.0, 2.0) == 1.5
assert share(0.0, 5.0) == 0.0
assert share(9.0, 3.0) == 3.0
try:
    share(1.0, 0.0)
except ValueError:
    pass
else:
    assert False
"""


def changed(old: str, new: str, head: str = "", *, effects: str = "read", tests: str = TESTS) -> Proposal:
    assert old in SOURCE
    return Proposal(head + SOURCE.replace(old, new), tests, effects=effects)  # type: ignore[arg-type]


def checks(proposal: Proposal, **how: object) -> list[str]:
    return [finding.check for finding in examine(proposal, **how).findings]  # type: ignore[arg-type]


def test_a_right_proposal_passes_and_is_described() -> None:
    examined = examine(Proposal(SOURCE, TESTS), examples=[Made({"part": 1.0, "whole": 3.0}, 1 / 3)])
    assert examined.passed, examined.feedback
    assert examined.tool is not None
    assert signature(examined.tool) == ("share(part: float, whole: float): Return a part as a share of the whole.")
    assert examined.tool.parameters["properties"]["whole"]["description"] == "the whole, not 0"
    assert (examined.tool.output, examined.tool.effects, examined.asserts) == ({"type": "number"}, "read", 4)
    # five calls, of which the one with whole 0 raised: that is the inferred precondition, and results are never negative
    assert examined.contract.pre == ("args.whole > 0",)
    assert "result >= 0" in examined.contract.post
    assert [call.raised for call in examined.calls] == ["", "", "", "", "ValueError"]
    assert examined.noticed == examined.varied > 0
    assert examined.critic is None


ESCAPES = {
    "import os\n": "os.system('true')",
    "import io\n": "io.FileIO('/etc/passwd').read()",
    "": "().__class__.__base__.__subclasses__()",
    "import json\n": "json.codecs.open('x')",
    "import typing\n\n\nclass _Door:\n    way: \"open('/etc/hostname').read()\"\n": "typing.get_type_hints(_Door)",
    "import operator\n": "operator.attrgetter('__class__')(1)",
    "import random\n": "raise SystemExit(0)",
}


@pytest.mark.parametrize("head", ESCAPES)
def test_what_reaches_out_is_stopped(head: str) -> None:
    (first, *_) = checks(changed("return part", f"{ESCAPES[head]}\n    return part", head))
    assert first in ("escape", "effects")


def test_what_the_rules_overlook_ends_the_process() -> None:
    """A tool that writes may open files, and no rule knows which; the hook in the sandbox does."""
    proposal = changed(
        "return part", "io.FileIO('/etc/passwd').read()\n    return part", "import io\n", effects="write"
    )
    assert not list(broken(proposal.source, "write"))
    examined = examine(proposal)
    assert [finding.check for finding in examined.findings] == ["escape"]
    assert "it opens '/etc/" in examined.feedback


HIDDEN = {
    "a module by another name": ("import json\n_j = json\n", "_j.codecs.sys.exit()"),
    "a module below": ("import json.tool as t\n", "t.sys.exit()"),
    "a module below, in a chain": ("import html.parser\n", "html.parser.re.enum.sys.exit()"),
    "a pattern": ("", "match share:\n            case object(__globals__=space):\n                space.clear()"),
    "an attribute, handed on": ("_get = getattr\n", "_get(share, '_' * 2 + 'globals' + '_' * 2)"),
    "an attribute, put together": ("import operator\n", "operator.attrgetter('_' * 2 + 'globals' + '_' * 2)(share)"),
    "a field of a template": ("import string\n", "string.Formatter().get_field('0.' + '_' * 2 + 'x', (share,), {})"),
    "code": ("import types\n", "types.CodeType(0)"),
    "a text that is evaluated": ("import typing\n", "typing.get_type_hints(share)"),
    "a copied attribute": ("import functools\n", "functools.update_wrapper(share, share, ('_' * 2 + 'x',))"),
    "an imported name": ("import math as __builtins__\n", "pass"),
    "the end of the process": ("", "raise SystemExit(0)"),
}


@pytest.mark.parametrize("way", HIDDEN)
def test_what_reaches_out_for_rare_arguments_alone_is_stopped_by_its_text(way: str) -> None:
    """The line never runs while it is examined, so that nothing but a rule can stop it."""
    head, line = HIDDEN[way]
    proposal = changed("return part", f"if part == 999.0:\n        {line}\n    return part", head)
    assert "escape" in [finding.check for finding in broken(proposal.source)]


def test_tests_meet_the_same_rules() -> None:
    """They run where an exported file is used, and a module that the source imports is theirs as well."""
    head = "import json\n"
    assert "escape" in checks(changed("return part", "return part", head, tests=TESTS + "json.codecs.sys.exit()\n"))


def test_a_tool_cannot_tell_where_it_runs() -> None:
    """What behaves in the forge and otherwise elsewhere would have to know its own module."""
    proposal = changed("return part", "if __name__ != 'tool':\n        return 0.0\n    return part")
    assert "escape" in checks(proposal)


FLAKY = {
    "dice": ("import random\n", "random.random() < 0.9"),
    "clock": ("from datetime import datetime as stamp\n", "stamp.now().second < 59"),
    "address": ("", "id(object()) % 32 > 0"),
    "order of a set": ("", "next(iter({'a', 'b', 'c', 'd'})) != 'b'"),
    "seed of the system": ("from random import Random\n", "Random(None).random() < 0.9"),
}


@pytest.mark.parametrize("kind", FLAKY)
def test_what_differs_from_run_to_run_is_stopped(kind: str) -> None:
    head, condition = FLAKY[kind]
    assert "flaky" in checks(changed("return part / whole", f"return part / whole if {condition} else 0.0", head))


EFFECTS = {
    "counts its calls": ("_calls = []\n", "_calls.append(1)\n    return part"),
    "writes a file": ("import io\n", "io.FileIO('left', 'w').close()\n    return part"),
    "keeps a result": ("", "share.last = part\n    return part"),
    "counts in a class": ("class _Kept:\n    count = 0\n", "_Kept.count += 1\n    return part"),
    "keeps in a slot": ("class _Kept:\n    __slots__ = ('x',)\n_kept = _Kept()\n", "_kept.x = part\n    return part"),
    "moves an iterator": ("_ticks = iter(range(999))\n", "next(_ticks)\n    return part"),
    "moves a generator": ("_ticks = (n for n in range(999))\n", "next(_ticks)\n    return part"),
    "draws": ("import random\n_dice = random.Random(1)\n", "_dice.random()\n    return part"),
    "prints": ("", "print(part)\n    return part"),
}


@pytest.mark.parametrize("lie", EFFECTS)
def test_a_tool_that_lies_about_its_effects_is_stopped(lie: str) -> None:
    head, line = EFFECTS[lie]
    honest = changed("return part", line, head, effects="write")
    assert "effects" in checks(replace(honest, effects="read"))
    assert examine(honest).passed


@pytest.mark.parametrize("line", ["string.digits = 'x'", "Decimal.x = part", "decimal.DefaultContext.prec = 3"])
def test_what_is_imported_stays_as_it_is(line: str) -> None:
    head = "import decimal\nimport string\nfrom decimal import Decimal\n"
    proposal = changed("return part", f"{line}\n    return part", head, effects="write")
    assert "effects" in checks(proposal)


def test_tests_cannot_reach_the_record_of_calls() -> None:
    source = 'def grow(values: list[int]) -> int:\n    """Grow."""\n    values.append(1)\n    return len(values)\n'
    tests = "assert grow([]) == 1\nassert grow([5]) == 2\nassert grow([5, 6]) == 3\n"
    assert checks(Proposal(source, tests)) == ["effects"]
    assert checks(Proposal(source, tests + "grow.changed.clear()\n")) == ["tests"]


def test_examples_show_what_tests_hide() -> None:
    source = (
        'def top(values: list[int]) -> int:\n    """Return the largest."""\n    if len(values) > 3:\n'
        "        values.sort()\n    return max(values)\n"
    )
    tests = "assert top([1, 3, 2]) == 3\nassert top([5, 4]) == 5\nassert top([7]) == 7\n"
    assert checks(Proposal(source, tests), examples=[Made({"values": [4, 3, 2, 1]}, 4)]) == ["effects"]


def test_tests_that_a_constant_passes_say_nothing() -> None:
    source = 'def spell(n: int) -> str:\n    """Return a number as text."""\n    return str(n)\n'
    loose = "assert spell(1) is not None\nassert spell(2) != 2\nassert spell(3)\n"
    examined = examine(Proposal(source, loose))
    assert [finding.check for finding in examined.findings] == ["assertions"]
    assert "always gives '1'" in examined.feedback
    assert not checks(Proposal(source, loose + "assert spell(4) == '4'\n"))


def test_changing_what_is_given_is_an_effect() -> None:
    source = (
        'def top(values: list[int]) -> int:\n    """Return the largest."""\n    values.sort()\n    return values[-1]\n'
    )
    tests = "assert top([1, 3, 2]) == 3\nassert top([5, 4]) == 5\nassert top([7]) == 7\n"
    assert checks(Proposal(source, tests)) == ["effects"]
    assert not checks(Proposal(source.replace("values.sort()", "values = sorted(values)"), tests))


def test_results_that_depend_on_earlier_calls_are_an_effect() -> None:
    """What is kept out of sight (in an iterator) shows when the calls are made again in another order."""
    source = (
        "import itertools\n_numbers = itertools.count()\n\n\ndef ticket(name: str) -> str:\n"
        '    """Return a ticket."""\n    return f"{name}{next(_numbers)}"\n'
    )
    tests = 'assert ticket("a") == "a0"\nassert ticket("b") == "b1"\nassert ticket("c") == "c2"\n'
    assert checks(Proposal(source, tests)) == ["effects"]


def test_slow_and_endless_calls_are_stopped() -> None:
    how = {"trial": Trial(seconds=0.2, limit=3.0)}
    assert checks(changed("return part", "while True:\n        pass\n    return part"), **how) == ["slow"]
    assert checks(changed("return part", "sum(range(90_000_000))\n    return part"), **how) == ["slow"]


EMPTY = {
    "none": "",
    "calls alone": "share(1.0, 2.0)\nshare(2.0, 2.0)\nshare(3.0, 2.0)\n",
    "constants": "share(1.0, 2.0)\nassert True\nassert 1 == 1\nassert 2 > 1\n",
    "itself": "assert share(1.0, 2.0) == share(1.0, 2.0)\n" * 4,
    "never called": "def check():\n    assert share(1.0, 2.0) == 9\n\n\nshare(1.0, 2.0)\n",
    "swallowed": "for _ in range(4):\n    try:\n        assert share(1.0, 2.0) == 9\n    except AssertionError:\n        pass\n",
}


@pytest.mark.parametrize("kind", EMPTY)
def test_tests_that_assert_nothing_are_no_tests(kind: str) -> None:
    assert checks(Proposal(SOURCE, EMPTY[kind])) == ["assertions"]


def test_weak_tests_are_told_what_they_miss() -> None:
    """Half of a share is 0.5 whatever is compared with 0: the tests never come near the borders of the function."""
    source = (
        'def grade(points: int) -> str:\n    """Return a grade."""\n    if points > 89:\n        return "A"\n'
        '    if points > 79:\n        return "B"\n    if points > 69:\n        return "C"\n    return "D"\n'
    )
    weak = 'assert grade(99) == "A"\nassert grade(98) == "A"\nassert grade(97) == "A"\n'
    examined = examine(Proposal(source, weak))
    assert "small changes; one that they miss" in examined.feedback
    strong = "".join(f'assert grade({points}) == "{mark}"\n' for points, mark in
                     ((90, "A"), (89, "B"), (80, "B"), (79, "C"), (70, "C"), (69, "D")))  # fmt: skip
    assert examine(Proposal(source, strong)).passed


def test_wrong_ones_fail_their_tests_or_examples_of_others() -> None:
    upside_down = SOURCE.replace("part / whole", "whole / part if part else 0.0")
    assert checks(Proposal(upside_down, TESTS)) == ["tests"]
    agreeing = "assert share(1.0, 4.0) == 4.0\nassert share(3.0, 1.5) == 0.5\nassert share(0.0, 5.0) == 0.0\n"
    wrong = Proposal(upside_down, agreeing)
    assert "examples" not in checks(wrong)
    assert checks(wrong, examples=[Made({"part": 1.0, "whole": 2.0}, 0.5)]) == ["examples"]


def test_contracts_are_kept_or_refused() -> None:
    held = replace(Proposal(SOURCE, TESTS), pre=("args.whole != 0",), post=("result >= 0",))
    assert examine(held).contract.pre[0] == "args.whole != 0"
    assert checks(replace(held, post=("result < 2",))) == ["contract"]  # share(9, 3) is 3
    assert checks(replace(held, post=("result is nice",))) == ["contract"]  # no condition at all
    assert checks(held, examples=[Made({"part": -1.0, "whole": 2.0}, -0.5)]) == ["contract"]


def test_results_are_plain_data() -> None:
    """A text that says it equals everything passes any test; it is none of the types that JSON has."""
    head = "class _Any(str):\n    def __eq__(self, other):\n        return True\n\n\n"
    source = head + 'def name(of: int) -> str:\n    """Return a name."""\n    return _Any("x")\n'
    tests = 'assert name(1) == "one"\nassert name(2) == "two"\nassert name(3) == "three"\n'
    assert checks(Proposal(source, tests)) == ["signature"]
    pair = 'def pair(of: int) -> tuple[int, int]:\n    """Return a number and its double."""\n    return of, 2 * of\n'
    tests = "assert pair(1) == (1, 2)\nassert pair(0) == (0, 0)\nassert pair(-2) == (-2, -4)\n"
    assert examine(Proposal(pair, tests)).passed
    assert checks(Proposal(pair.replace("return of,", "return {of},"), tests.replace("(", "({", 1))) == ["source"]
    odd = pair.replace("tuple[int, int]", "dict").replace("of, 2 * of", "{of}")
    assert checks(Proposal(odd, "assert pair(1) == {1}\nassert pair(2) == {2}\nassert pair(0) == {0}\n")) == [
        "signature"
    ]


def test_what_is_read_off_the_text() -> None:
    def text(source: str) -> str:
        return examine(Proposal(source, TESTS)).feedback

    assert "no valid Python" in text("def share(:")
    assert "no public function" in text("x = 1")
    assert "no annotation" in text(SOURCE.replace("part: float", "part"))
    assert "no docstring" in text("def share(part: float) -> float:\n    return part\n")
    assert "does not say what it returns" in text(SOURCE.replace(" -> float", ""))
    assert "'complex'" in text(SOURCE.replace("-> float", "-> complex")) or "complex" in text(
        SOURCE.replace("-> float", "-> complex")
    )
    assert "stands in no function" in text(SOURCE + "print(1)\n")
    assert "cannot be undone" in examine(Proposal(SOURCE, TESTS, effects="irreversible")).feedback
    assert "'subprocess'" in examine(Proposal(SOURCE, "import subprocess\n" + TESTS)).feedback


def test_earlier_tests_count_for_a_new_version() -> None:
    lenient = SOURCE.replace('raise ValueError("the whole is 0")', "return 0.0")
    fresh = TESTS.partition("try:")[0] + "assert share(1.0, 0.0) == 0.0\n"
    assert examine(Proposal(lenient, fresh)).passed
    assert "the tests of version 1" in examine(Proposal(lenient, fresh), earlier=[TESTS]).feedback


def test_the_critic_decides_beside_the_examination() -> None:
    passed = Examined(Proposal(SOURCE, TESTS), tool=described_tool(main_function(SOURCE)))
    assert agreed(passed, True).passed
    refused = agreed(passed, False, "made for three questions")
    assert (refused.passed, refused.feedback) == (False, "critic: made for three questions")


def test_variants_differ_in_one_place() -> None:
    source = "def f(a: int | None) -> int:\n    return a + 1 if a > 2 else 0\n"
    made = variants(source, "f")
    assert len(made) == len(set(made)) > 3
    assert all(text.startswith("def f(a: int | None) -> int:") for text in made)
    assert stubs(source, "f") == [
        "def f(a: int | None) -> int:\n    return None",
        "def f(a: int | None) -> int:\n    return a",
    ]


def test_conditions_need_different_results() -> None:
    tool = described_tool(main_function(SOURCE))
    same = [Made({"part": 1.0, "whole": float(k)}, 1.0) for k in range(1, 9)]
    assert inferred(tool, same).post == ()
    found = inferred(tool, [Made({"part": float(k), "whole": 1.0}, float(k)) for k in range(1, 9)])
    assert found.post == ("result > 0", "result <= args.part", "result >= args.whole")
    assert breaches(found, [Made({"part": 2.0, "whole": 1.0}, 3.0)])
    with pytest.raises(ValueError, match="nonsense"):
        inferred(tool, same, pre=("nonsense is",))


def test_results_are_compared_as_json() -> None:
    assert same_result([1, {"a": 0.1 + 0.2}], (1, {"a": 0.3}))
    assert not same_result(True, 1)
    assert not same_result("1", 1)
    assert not same_result([1], [1, 2])


def test_a_trial_proves_something() -> None:
    with pytest.raises(ValueError, match="repeats is 1"):
        Trial(repeats=1)


def test_planted_defects() -> None:
    """A small part of ``benchmarks/forge.py``: all kinds, of every third function."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from forging.planting import planted

    chosen = list(planted())[::33]
    assert {one.kind for one in chosen} == {"right", "wrong", "slow", "escaping", "flaky", "assertion-free"}
    trial = Trial(seconds=0.3, limit=4.0)
    for one in chosen:
        examined = examine(one.proposal, examples=one.examples, trial=trial)
        assert examined.passed == (one.kind == "right"), (one, examined.feedback)
