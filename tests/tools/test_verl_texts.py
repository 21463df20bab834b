"""Texts of raw-text tool servers: what is found in a reply, and the form a result goes back in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrule.tools.verl_texts import INVALID_SQL, python_code, sql_query, wrap_python, wrap_sql


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<python> a = 1 </python> and <python>\nb = 2\n</python>", "a = 1\nb = 2"),
        ("<python>a</python> ```python\nb\n```", "a"),
        ("```python\na\n``` then ```python\nb\n```", "a\nb"),
        ("```py\na\n```", "a"),
        ("```py\na\n``` ```python\nb\n```", "b"),
        ("```\npython\na\n```", "a"),
        ("<python>a", None),
        ("```python\na", None),
        ("```pytest\na\n```", None),
        ("```js\na\n```", None),
        ("", None),
        ("<python></python>", ""),
    ],
)
def test_code_is_found(text: str, code: str | None) -> None:
    assert python_code(text) == code


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        ("```python\n1\n```", "\n```result\nR\n```\n"),
        ("```python\n1\n```\n```output", "\nR\n```\n"),
        ("```output", "\nR\n```\n"),
        ("<tool_call>x</tool_call>", "\n<tool_response>\n```result\nR\n```\n</tool_response>\n"),
        ("<python>1</python><result>", "\nR\n</result>\n"),
        ("<python>1</python>", "\n<result>\nR\n</result>\n"),
    ],
)
def test_results_take_the_form_of_the_action(action: str, shown: str) -> None:
    assert wrap_python(action, "R") == shown


def test_queries_and_solutions() -> None:
    assert sql_query("<sql>a</sql> <sql> b </sql>") == ("b", False)
    assert sql_query("<sql>a</sql> <sql>open") == ("a", False)
    assert sql_query("<sql>open <sql>b</sql>") == ("b", False)
    assert sql_query("<solution>a</solution>") == (None, True)
    assert sql_query("<sql>a</sql><solution>b</solution>") == ("a", False)
    assert sql_query("<solution>open") == (None, False)
    assert "<sql>" in INVALID_SQL
    assert wrap_sql("R", 2) == (
        "\n\n<observation>R\n<reminder>You have 2 turns left to complete the task.</reminder></observation>\n\n"
    )


@given(st.text(alphabet="<python>/sql`\n ", max_size=200))
def test_whatever_a_model_writes_is_read(text: str) -> None:
    assert python_code(text) is None or isinstance(python_code(text), str)
    assert sql_query(text)[1] in (True, False)
    assert "R" in wrap_python(text, "R")
