"""Tools that bring tools: what arrives with an observation, and a search over many documented tools.

Source of the search inside an episode: "DeepAgent: A General Reasoning Agent with Scalable Toolsets" (36).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ferrule.core.records import Observation, Tool
from ferrule.tools.schema import as_openai
from ferrule.tools.search import Document, Retrieve, bm25
from ferrule.tools.tool import tool

__all__ = ["Arrived", "arriving", "document_of", "finder", "schema_line"]


@dataclass(frozen=True)
class Arrived:
    """The data of an observation that brings tools; ``known`` is what the record keeps beside their schemas.

    A session that grows (``ferrule.worlds.growing.Growing``) puts the tools on offer. In any other session they are
    text that the model reads, and a call of them is a call of an unknown tool.
    """

    tools: tuple[Tool, ...]
    known: Mapping[str, Any] = field(default_factory=dict)


def arriving(tools: Sequence[Tool], text: str, **known: Any) -> Observation:
    """Return an observation that brings ``tools``; ``text`` is what the model reads, ``known`` goes into the record."""
    return Observation(text, data=Arrived(tuple(tools), known))


def schema_line(described: Tool) -> str:
    """Return name, description and parameters of a tool as one line of JSON."""
    return json.dumps(as_openai(described)["function"], ensure_ascii=False)


def document_of(described: Tool) -> Document:
    """Return what a search reads of a tool: its name, also in words, its description, and what its parameters say.

    The id is the name.
    """
    words = " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", described.name))
    entries: Mapping[str, Any] = described.parameters.get("properties", {})
    told = [f"{name} {entry.get('description', '')}" for name, entry in entries.items() if isinstance(entry, Mapping)]
    return Document(described.name, f"{described.name} {words}", " ".join([described.description, *told]))


def finder(
    tools: Sequence[Tool], *, retrieve: Retrieve | None = None, k: int = 10, name: str = "tool_search",
    show: Callable[[Tool], str] = schema_line,
) -> Tool:  # fmt: skip
    """Return a tool that looks for tools by what they should do, and brings the ``k`` that fit best.

    ``retrieve`` returns documents whose ids are names of ``tools`` (None: BM25 over ``document_of``); ``show`` is the
    line that the model reads of each. Raises ``ValueError`` for no tools, for two of one name, and for ``k`` below 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}; the least is 1")
    by_name = {each.name: each for each in tools}
    if not tools or len(by_name) < len(tools):
        twice = [name for name, count in Counter(each.name for each in tools).items() if count > 1]
        raise ValueError(f"a search over tools needs tools of different names; twice: {', '.join(twice[:5]) or 'none'}")
    retrieve = retrieve or bm25([document_of(each) for each in tools])

    @tool(name=name, effects="write")
    def search(query: str) -> Observation:
        """Look for tools by what they should do. Those that are found can be called.

        Args:
            query: what the tool should do
        """
        best = list(retrieve(query, k))[:k]
        if not best:
            return Observation("no tool fits this query", data={"scores": {}})
        scores = {document.id: round(score, 6) for document, score in best}
        offered = [by_name[document.id] for document, _ in best]
        return arriving(offered, "\n".join(map(show, offered)), scores=scores)

    return search
