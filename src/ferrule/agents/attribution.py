"""Which tool a failure is due to: as a reviewer says who reads the error, and as the record of calls shows.

Source: "Chain of Tools: Large Language Model is an Automatic Multi-tool Learner" (21).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Call, Message, Observation, Tool, plain_text

__all__ = ["attributed", "first_failed", "mentioned"]


def mentioned(text: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that a text says as whole words, in the order of the names; a longer name hides those in it."""
    known = list(names)
    said = set[str]()
    if known:
        longest = sorted(known, key=len, reverse=True)
        said = set(re.findall(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])", text))
    return tuple(name for name in known if name in said)


def first_failed(calls: Sequence[tuple[Call, Observation]]) -> str:
    """Return the tool of the first call that did not run well; empty where all did."""
    return next((call.name for call, observation in calls if observation.status != "ok"), "")


def attributed(
    question: str, tools: Sequence[Tool], program: str, error: str, *, role: str = "reviewer", max_tokens: int = 256
) -> Flow[tuple[str, ...]]:
    """Ask a reviewer which tools an error is due to, and return those of the tools that the reply names.

    The reviewer sees the question, name and description of each tool, the program (or the calls) and the error.
    """
    documents = "\n".join(f"- {tool.name}: {tool.description}" for tool in tools)
    text = (
        f"Question:\n{question}\n\nTools:\n{documents}\n\nThis was run:\n{program}\n\nIt failed:\n{error}\n\n"
        "Which tool was used wrongly? Name it, and say what was wrong in one sentence."
    )
    (reply,) = yield from ask(Ask((Message("user", text),), role=role, max_tokens=max_tokens))
    return mentioned(plain_text(reply.message), [tool.name for tool in tools])
