"""The renderer of a model folder: the one it was saved with, else the first way of its chat template that is right."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from ferrule.chat.codec import Codec
from ferrule.chat.codec import codec as named_codec
from ferrule.chat.fitted import fitted
from ferrule.chat.layout import USER, WRAPPED, layout
from ferrule.chat.renderer import ChatML, Renderer
from ferrule.chat.template import Template

__all__ = ["RECORD", "kept_renderer", "renderer_for", "save_renderer"]

RECORD = "ferrule.json"
"""Name of the file that keeps a renderer beside its model."""


def _options(piece: Any, *left_out: str) -> dict[str, Any]:
    return {f.name: getattr(piece, f.name) for f in dataclasses.fields(piece) if f.init and f.name not in left_out}


def kept_renderer(renderer: Renderer | None) -> dict[str, Any]:
    """Return what makes a renderer again, as JSON; nothing for one of another kind than ``ChatML`` and ``Template``."""
    if isinstance(renderer, ChatML):
        settings = {"chatml": _options(renderer, "codec")}
    elif isinstance(renderer, Template):
        way = renderer.layout
        changes = [change.__name__ for change in way.changes]
        plain = _options(renderer, "tokenizer", "codec", "layout")
        settings = {"template": {"tool_role": way.name, "changes": changes, **plain}}
    else:
        return {}
    return {"codec": renderer.codec.name, "options": _options(cast(Any, renderer.codec)), **settings}


def save_renderer(renderer: Renderer, folder: Path) -> None:
    """Write a renderer beside its model; nothing for one that ``kept_renderer`` does not know."""
    record = kept_renderer(renderer)
    if record:
        (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def renderer_for(
    name: str | Path,
    tokenizer: Any,
    codec: str | Codec | None = None,
    *,
    tool_role: str = "auto",
    renderer: str = "auto",
    date: str = "",
) -> Renderer:
    """Return the renderer of a model by its folder or name.

    A folder written by ``Local.save`` brings its own, whose codec, tool role and date those that are given replace. Any
    other gets the way of its chat template that ``chat.fitted`` chooses; a template that asks for the day is told
    ``date`` (ISO), and today's where none is given, for as long as the renderer lives and is kept.
    """
    form = named_codec(codec) if isinstance(codec, str) else codec
    path = Path(name) / RECORD
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    date = date or kept.get("template", {}).get("date", "") or datetime.date.today().isoformat()
    form = form or (named_codec(kept["codec"], **kept["options"]) if kept else None)
    if "chatml" in kept and renderer != "template":
        return _chatml(ChatML(form, **kept["chatml"]), tool_role)  # type: ignore[arg-type]
    if "template" in kept and codec is None and (tool_role, renderer) == ("auto", "auto"):
        return _template(tokenizer, cast(Codec, form), {**kept["template"], "date": date})
    return fitted(tokenizer, form, tool_role=tool_role, renderer=renderer, date=date)


def _chatml(kept: ChatML, tool_role: str) -> ChatML:
    """Return a kept renderer with another tool role."""
    if tool_role == "auto":
        return kept
    roles = {WRAPPED.name: "tool", USER.name: "user"}
    if tool_role not in roles:
        valid = ", ".join(("auto", *roles))
        raise ValueError(f"tool_role is {tool_role!r}; this model was saved with ChatML, which takes {valid}")
    return dataclasses.replace(kept, tool_role=roles[tool_role])  # type: ignore[arg-type]


def _template(tokenizer: Any, form: Codec, kept: dict[str, Any]) -> Template:
    changes: Sequence[str] = kept.pop("changes")
    return Template(tokenizer, form, layout(kept.pop("tool_role"), changes), **kept)
