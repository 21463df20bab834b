"""The final answer inside an assistant text, in any of the forms that models use."""

from __future__ import annotations

import json
import re

from ferrule.chat.parsing import parse_prefix
from ferrule.chat.scan import without_thinking

__all__ = ["boxed", "final_answer"]

_TAG = re.compile(r"<answer>((?:(?!</?answer>).)*+)</answer>", re.DOTALL)
_LABEL = re.compile(r"^[ \t]*\**final answer[ \t]*:\**[ \t]*", re.MULTILINE | re.IGNORECASE)


def final_answer(text: str) -> str:
    """Return the answer a text states outside thinking, trimmed.

    In this order: the last ``<answer>`` element, the text after the last ``Final Answer:`` label, the value of
    ``answer`` when the text is a JSON object, else all of it.
    """
    text = without_thinking(text)
    elements = _TAG.findall(text)
    if elements:
        return str(elements[-1]).strip()
    labels = list(_LABEL.finditer(text))
    if labels:
        return text[labels[-1].end() :].strip()
    body = text.strip()
    read = parse_prefix(body, 0) if body.startswith("{") else None
    if read is not None and isinstance(read[0].value, dict) and "answer" in read[0].value:
        value = read[0].value["answer"]
        return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return body


def boxed(text: str | None) -> str | None:
    r"""Return the content of the last ``\boxed{...}`` with balanced braces, or None."""
    start = text.rfind("\\boxed{") if text else -1
    if text is None or start < 0:
        return None
    depth, first = 0, start + len("\\boxed")
    for i in range(first, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[first + 1 : i]
    return None
