"""Instructions for groups of APIs, written by a model: which APIs stand in a group, and what is read of its reply.

Source: "ToolLLM: Facilitating Large Language Models to Master 16000+ Real-world APIs" (45), its instruction generation.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, Tool, plain_text

__all__ = ["Instruction", "api_groups", "instructed", "read_instructions"]

Api = Mapping[str, Any]


@dataclass(frozen=True)
class Instruction:
    """What a user asks for, and the names of the tools that it needs."""

    query: str
    relevant: tuple[str, ...]


def api_groups(
    documents: Sequence[Api], count: int, *, within: Callable[[Api], str] | None = None,
    tools: tuple[int, int] = (2, 5), apis: int = 3, seed: int = 0,
) -> list[list[Api]]:  # fmt: skip
    """Draw ``count`` groups of documents of APIs (``tool_name``) to write instructions for.

    Without ``within`` a group is all APIs of one tool (G1 of the paper). Else it takes up to ``apis`` of each of some
    tools, from the first to the second number of ``tools``, for which ``within`` says the same: their category (G2) or
    collection (G3). Raises ``ValueError`` where no group can be drawn.
    """
    rng = random.Random(f"groups/{seed}")
    of_tool: dict[str, list[Api]] = {}
    for document in documents:
        of_tool.setdefault(str(document["tool_name"]), []).append(document)
    if within is None:
        names = sorted(of_tool)
        if not names:
            raise ValueError("no documents of APIs are given; there is nothing to group")
        return [list(of_tool[rng.choice(names)]) for _ in range(count)]
    kinds: dict[str, list[str]] = {}
    for name, members in of_tool.items():
        kinds.setdefault(within(members[0]), []).append(name)
    large = sorted(kind for kind, names in kinds.items() if len(names) >= tools[0])
    if not large:
        raise ValueError(f"no category or collection has {tools[0]} tools; ask for fewer with tools=(1, {tools[1]})")
    groups = []
    for _ in range(count):
        names = kinds[rng.choice(large)]
        chosen = rng.sample(names, rng.randint(tools[0], min(tools[1], len(names))))
        groups.append([api for name in chosen for api in rng.sample(of_tool[name], min(apis, len(of_tool[name])))])
    return groups


def instructed(
    tools: Sequence[Tool], *, count: int = 5, role: str = "writer", max_tokens: int = 1024
) -> Flow[list[Instruction]]:
    """Let a model write ``count`` instructions for tools on offer, each with the tools that it needs."""
    offered = "\n".join(f"{tool.name}: {tool.description} {json.dumps(dict(tool.parameters))}" for tool in tools)
    asked = (
        f"Tools:\n{offered}\n\nWrite {count} different things that a person could ask for, each of which needs some of "
        "these tools and names every value that they take, but no tool. Reply with a JSON list of objects "
        '{"query": "...", "relevant": ["name of a tool", ...]}.'
    )
    (reply,) = yield from ask(Ask((Message("user", asked),), role=role, max_tokens=max_tokens))
    return read_instructions(plain_text(reply.message), [tool.name for tool in tools])


def read_instructions(text: str, names: Sequence[str]) -> list[Instruction]:
    """Read instructions from a reply: a JSON list with ``query`` and ``relevant``, wherever it stands in the text.

    Left out is what has no query, names no tool or one that is not among ``names``, or repeats a query.
    """
    begin, end = text.find("["), text.rfind("]")
    try:
        rows = json.loads(text[begin : end + 1]) if begin >= 0 else []
    except ValueError:
        return []
    known: dict[str, Instruction] = {}
    for row in rows if isinstance(rows, list) else []:
        query, relevant = (row.get("query"), row.get("relevant")) if isinstance(row, dict) else (None, None)
        if not isinstance(query, str) or not query.strip() or not isinstance(relevant, list) or not relevant:
            continue
        if all(isinstance(name, str) and name in names for name in relevant):
            known.setdefault(query.strip(), Instruction(query.strip(), tuple(dict.fromkeys(relevant))))
    return list(known.values())
