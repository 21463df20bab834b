"""The restricted language: its programs mean what they mean in Python, and everything is bounded."""

from __future__ import annotations

import pytest

from ferrule.sandbox.restricted import Restricted


def ran(code: str) -> dict[str, object]:
    data = Restricted({}).run(code).data
    return {"out": data["stdout"], "value": data["value"], "kind": data["kind"]}


PROGRAMS = (
    "d = {'a': (1, 2), 'b': (3, 1)}\ndef f(i): return d[i][0] / d[i][1]\nfor i in sorted(d, key=f, reverse=True): print(i, d[i])",
    "import json\nx = json.loads('{\"v\": [1, 2]}')\nprint(x['v'][-1], len(x), x.get('w', 5))",
    "n = 0\nfor i in range(5):\n if i % 2 == 0 and not i == 4: n += i * 3\nn",
    "def f(n):\n if n < 2: return n\n return f(n - 1) + f(n - 2)\nf(9)",
    "try:\n {}['x']\nexcept KeyError:\n print('no key')\n[1, 2, 3][1:]",
    "x, y = 1, [2]\ny.append(x)\nprint(y, sum(y), max(y), str(-x), 3 // 2, 7 % 4)",
    "print(nothing)", "1 / 0", "[][3]", "(1).real", "'a' + 1",
)  # fmt: skip


@pytest.mark.parametrize("code", PROGRAMS)
def test_programs_mean_what_they_mean_in_python(code: str) -> None:
    import contextlib
    import io

    out, kind = io.StringIO(), None
    with contextlib.redirect_stdout(out):
        try:
            exec(code, {})
        except Exception as error:
            kind = type(error).__name__
    if code == "(1).real":  # attributes are not part of the language
        kind = "AttributeError"
    result = ran(code)
    assert (result["out"], result["kind"]) == (out.getvalue(), kind)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("for i in range(9999):\n for j in range(9999): pass", "RuntimeError"),
        ("x = 'a'\nfor i in range(40): x = x + x", "MemoryError"),
        ("x = 9\nfor i in range(40): x = x * x", "OverflowError"),
        ("[0] * 10", "TypeError"),
        ("import os", "ImportError"),
        ("().__class__", "AttributeError"),
        ("x = lambda: 1", "SyntaxError"),
        ("while True: pass", "SyntaxError"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("__builtins__", "NameError"),
        ("this is no program", "SyntaxError"),
    ],
)
def test_the_language_is_bounded(code: str, kind: str) -> None:
    assert ran(code)["kind"] == kind


def test_output_is_bounded() -> None:
    assert len(str(ran("for i in range(3000): print('abcdefgh')")["out"])) == 4000
