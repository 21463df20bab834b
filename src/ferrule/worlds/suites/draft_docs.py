"""RestBench under two versions of its tool documents: those written by people, and those rewritten by DRAFT.

Source: "From Exploration to Mastery: Enabling LLMs to Master Tools via Self-Driven Interactions",
https://arxiv.org/abs/2410.08197; data: https://github.com/quchangle1/DRAFT (MIT).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.records import Tool
from ferrule.worlds.suites.origins import find
from ferrule.worlds.suites.restbench import restbench
from ferrule.worlds.suites.ste import tool_name
from ferrule.worlds.suites.suite import Suite

__all__ = ["DOCUMENTED", "VERSIONS", "documents", "draft_docs"]

DOCUMENTED: tuple[str, ...] = ("tmdb", "spotify", "toolbench")
"""The sets of tools whose documents there are; queries come with the first two (RestBench)."""
VERSIONS: tuple[str, ...] = ("initial", "draft")
_TYPES = {"STRING": "string", "NUMBER": "number", "BOOLEAN": "boolean", "ENUM": "string", "INTEGER": "integer"}


def documents(which: str, version: str = "initial", *, data: str | Path | None = None) -> tuple[Tool, ...]:
    """Return the tools of a set as their documents describe them, by version; a call of one is refused.

    Names of RestBench's tools are those of ``restbench``; each function of a tool of ToolBench is one, named
    ``TOOL_FUNCTION``. Raises ``ValueError`` for an unknown set or version, ``FileNotFoundError`` without data.
    """
    for given, known in ((which, DOCUMENTED), (version, VERSIONS)):
        if given not in known:
            raise ValueError(f"no documents {given!r}; {nearest(given, known)}")
    names = (f"{which}_{version}.json", f"dataset/*/tool_instruction/{which}_{version}.json")
    path = find("draft_docs", names, data)
    rows = json.loads(path.read_text(encoding="utf-8")).values()
    tools: dict[str, Tool] = {}
    for tool in (tool for row in rows for tool in _tools(row)):
        tools.setdefault(tool.name, tool)
    return tuple(tools.values())


def _tools(row: Mapping[str, Any]) -> Iterator[Tool]:
    if "tool_guidelines" not in row:
        yield _tool(row["tool_name"].lower(), row)
        return
    for name, guideline in row["tool_guidelines"].items():
        yield _tool(tool_name(f"{row['tool_name']}_{name}"), guideline)


def _tool(name: str, row: Mapping[str, Any]) -> Tool:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in ("required_parameters", "optional_parameters"):
        for entry in _entries(row.get(field)):
            schema = entry.get("schema") or {"type": _TYPES.get(str(entry.get("type", "")).upper(), "string")}
            properties[entry["name"]] = {**schema, "description": str(entry.get("description", ""))}
            required += [entry["name"]] if field == "required_parameters" else []
    parameters = {"type": "object", "properties": properties, "required": required}
    return Tool.from_schema({"name": name, "description": str(row.get("description", "")), "parameters": parameters})


def _entries(given: Any) -> Sequence[Mapping[str, Any]]:
    return [entry for entry in given or () if isinstance(entry, Mapping) and entry.get("name")]


def draft_docs(api: str, version: str, *, data: str | Path | None = None) -> Suite:
    """Return the queries of RestBench on ``tmdb`` or ``spotify`` whose endpoints all have a document of a version.

    ``data`` is a folder that holds the documents and RestBench; the tools say what the documents say.
    """
    described = {tool.name: tool.description for tool in documents(api, version, data=data)}
    return restbench(api, data=data, documents=described, name=f"draft_docs:{api}_{version}")
