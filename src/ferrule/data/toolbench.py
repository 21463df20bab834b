"""ToolBench: its decision trees as trees of steps, and the documents of its APIs as tools.

Source: "ToolLLM: Facilitating Large Language Models to Master 16000+ Real-world APIs" (45), the files of its release.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ferrule.core.records import Call, Message, Tool
from ferrule.data.trees import Branch, Tree

__all__ = ["api_name", "api_tool", "plain_name", "read_tree", "relevant_of", "tree_from"]

_KINDS = {"NUMBER": "number", "BOOLEAN": "boolean", "STRING": "string"}
_SOLVED, _GAVE_UP = 3, 4
_STATES: Mapping[int | None, str] = {_SOLVED: "answer", _GAVE_UP: "gave up"}


def plain_name(text: str, kept: str = "") -> str:
    """Return a text as a name: small letters, digits and underscores, a letter first; signs that are ``kept`` stay."""
    name = re.sub(r"_+", "_", re.sub(rf"[^A-Za-z0-9_\u4e00-\u9fa5{re.escape(kept)}]", "_", text)).strip("_").lower()
    return f"get_{name}" if name[:1].isdigit() else name


def api_name(api: str, tool: str, *, longest: int = 64) -> str:
    """Return the name of an API of a tool as a function: ``api_for_tool``, of which the last ``longest`` letters."""
    return f"{plain_name(api)}_for_{plain_name(tool)}"[-longest:]


def api_tool(document: Mapping[str, Any], *, described: int = 256) -> Tool:
    """Return the tool of an API's document (an entry of ``api_list``); a call of it is refused.

    The description is that of the API, cut to ``described`` characters. Raises ``ValueError`` naming the field that a
    document lacks.
    """
    lacking = [key for key in ("api_name", "tool_name") if not document.get(key)]
    if lacking:
        raise ValueError(f"the document of an API lacks {', '.join(lacking)}: {str(dict(document))[:80]}")
    needed, more = (document.get(f"{kind}_parameters") or [] for kind in ("required", "optional"))
    parameters = {
        "type": "object",
        "properties": {str(entry["name"]): _parameter(entry) for entry in (*needed, *more)},
        "required": [str(entry["name"]) for entry in needed],
    }
    name = api_name(document["api_name"], document["tool_name"])
    description = str(document.get("api_description") or "").strip()[:described]
    return Tool.from_schema({"name": name, "description": description, "parameters": parameters})


def _parameter(entry: Mapping[str, Any]) -> dict[str, Any]:
    kind = _KINDS.get(str(entry.get("type")).upper(), "string")
    return {"type": kind, "description": str(entry.get("description") or "").strip()}


def read_tree(path: str | Path) -> Tree:
    """Read a file of ToolBench's answers as a tree of steps.

    Raises ``ValueError`` with the path where the file does not hold one.
    """
    try:
        return tree_from(json.loads(Path(path).read_text(encoding="utf-8")), file=Path(path).name)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no tree of ToolBench: {type(error).__name__}: {error}") from None


def tree_from(answer: Mapping[str, Any], **origin: Any) -> Tree:
    """Return the tree of one of ToolBench's answers; ``origin`` is that of the tree.

    A step there is up to three nodes (thought, action, action input), and one reply of the model here: the nodes from
    one that the model was asked below to the next (``expand_num``). The prompt is the query alone, without the
    published system text. ``notes`` hold the status ``code``, the ``state`` (``answer``, ``gave up`` or ``open``) and
    whether the node was ``pruned``. A step failed where its code is an error's or its result names an error.
    """
    about = answer["answer_generation"]
    tools = tuple(Tool.from_schema(schema) for schema in about.get("function") or ())
    prompt = (Message("user", str(about["query"]).strip()),)
    return Tree(prompt, _steps(answer["tree"]["tree"], ""), tools, origin)


def _steps(node: Mapping[str, Any], place: str) -> tuple[Branch, ...]:
    return tuple(_step(child, f"{place}{number}") for number, child in enumerate(node["children"]))


def _step(node: Mapping[str, Any], place: str) -> Branch:
    parts = [node]
    while parts[-1]["node_type"] != "Action Input" and not parts[-1].get("expand_num") and parts[-1]["children"]:
        parts.append(parts[-1]["children"][0])
    said = {kind: next((str(part["description"]) for part in parts if part["node_type"] == kind), "") for kind in
            ("Thought", "Action", "Action Input")}  # fmt: skip
    last = parts[-1]
    code, shown = last.get("observation_code"), str(last.get("observation") or "")
    calls = (_call(said["Action"], said["Action Input"], f"call_{place}"),) if said["Action"] else ()
    results = tuple(Message("tool", shown, name=call.name, call_id=call.id) for call in calls if code is not None)
    notes: dict[str, Any] = {"code": code, "state": _STATES.get(code, "open"), "pruned": bool(last.get("pruned"))}
    if code == _SOLVED:
        notes["answer"] = str(calls[0].arguments.get("final_answer", "")) if calls else ""
    return Branch(
        Message("assistant", said["Thought"], calls),
        results,
        _steps(last, f"{place}."),
        code == _SOLVED,
        _failed(code, shown),
        notes,
    )


def _call(name: str, text: str, key: str) -> Call:
    make = partial(Call, name, id=key, raw=text)
    try:
        arguments = json.loads(text) if text.strip() else {}
    except ValueError as error:
        return make(problem=f"arguments are not JSON: {error}")
    if not isinstance(arguments, dict):
        return make(problem=f"arguments are a {type(arguments).__name__}, not an object")
    return make(arguments)


def _failed(code: int | None, shown: str) -> bool:
    """Whether a step's code is an error's, or its result, which may have been cut, begins by naming one."""
    return code not in (None, 0, *_STATES) or re.match(r'\s*\{"error": "[^"]', shown) is not None


def relevant_of(row: Mapping[str, Any]) -> Sequence[str]:
    """Return the names of the APIs that a query of ToolBench needs."""
    return [api_name(api, tool) for tool, api in row.get("relevant APIs", ())]
