"""Texts of tool servers that speak raw model text: find the code or query in it, and wrap the result that goes back.

Source: "VerlTool: Towards Holistic Agentic Reinforcement Learning with Tool Use" (24).
"""

from __future__ import annotations

import re

__all__ = ["INVALID_SQL", "python_code", "sql_query", "wrap_python", "wrap_sql"]

_TAGGED = re.compile(r"<python>(.*?)</python>", re.DOTALL)
_FENCES = (re.compile(r"```\n?python\b(.*?)```", re.DOTALL), re.compile(r"```\n?py\b(.*?)```", re.DOTALL))
_SQL = re.compile(r"<sql>((?:(?!<sql>).)*?)</sql>", re.DOTALL)
_SOLUTION = re.compile(r"<solution>.*?</solution>", re.DOTALL)
INVALID_SQL = (
    "Your previous action is invalid. Write your reasoning and one query between <sql> and </sql>, "
    "or the final query between <solution> and </solution>."
)
"""What a model is told whose text holds neither a query nor a solution."""


def python_code(action: str) -> str | None:
    """Return the code in a model's text, or None when there is none.

    All bodies of ``<python>`` tags, else all fences tagged ``python``, else all tagged ``py``; each stripped, joined by
    newlines. Source: "VerlTool" (24).
    """
    for form in (_TAGGED, *_FENCES):
        bodies = form.findall(action)
        if bodies:
            return "\n".join(body.strip() for body in bodies)
    return None


def wrap_python(action: str, result: str) -> str:
    """Return the text that shows ``result`` after ``action``, in the form the action asks for.

    With an output or python fence: a ``result`` fence, or only the closing fence when the last one stands open. With a
    closing tool-call tag: the ``result`` fence inside tool-response tags. Else ``<result>`` tags, without the opening
    one when the action ends with it. Source: "VerlTool" (24).
    """
    fenced = f"\n```result\n{result}\n```\n"
    if "```output" in action or "```python" in action:
        return fenced if action.count("```") % 2 == 0 else f"\n{result}\n```\n"
    if "</tool_call>" in action:
        return f"\n<tool_response>{fenced}</tool_response>\n"
    if action.rstrip().endswith("<result>"):
        return f"\n{result}\n</result>\n"
    return f"\n<result>\n{result}\n</result>\n"


def sql_query(action: str) -> tuple[str | None, bool]:
    """Return the last ``<sql>`` body that has a closing tag, and whether the text is a final ``<solution>`` instead.

    ``(query, False)``, ``(None, True)`` for a solution, or ``(None, False)`` for neither. Source: "VerlTool" (24).
    """
    bodies = _SQL.findall(action)
    if bodies:
        return bodies[-1].strip(), False
    return None, _SOLUTION.search(action) is not None


def wrap_sql(result: str, turns_left: int) -> str:
    """Return the text that shows a query's result and how many turns are left. Source: "VerlTool" (24)."""
    reminder = f"<reminder>You have {turns_left} turns left to complete the task.</reminder>"
    return f"\n\n<observation>{result}\n{reminder}</observation>\n\n"
