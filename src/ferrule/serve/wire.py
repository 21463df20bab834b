"""Calls, observations and tools as JSON, for links between processes and for HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast, get_args

from pydantic_core import PydanticSerializationError, to_json

from ferrule.core.records import Artifact, Call, Observation, Status, Tool

__all__ = [
    "call_of",
    "call_record",
    "encode",
    "host_reason",
    "observation_of",
    "observation_record",
    "refusal",
    "tool_record",
]

_STATUSES = frozenset(get_args(Status))
_HOST = frozenset(
    {
        *("queue_full", "too_many_episodes", "draining", "worker_unavailable", "open_failed", "host_failed"),
        *("worker_died", "expired", "memory", "time_limit", "too_large", "fork_failed", "unsupported"),
    }
)


def refusal(reason: str, text: str, status: Status = "refused", **more: Any) -> Observation:
    """Return the observation of a call that the host itself answered: ``data["reason"]`` says why."""
    return Observation(text, status, data={"reason": reason, **more})


def host_reason(seen: Observation) -> str:
    """Return why the host itself answered a call, and not a tool; empty when a tool did."""
    reason = seen.data.get("reason") if isinstance(seen.data, dict) else None
    return reason if isinstance(reason, str) and reason in _HOST else ""


def encode(payload: Any) -> bytes:
    """Return ``payload`` as JSON bytes; what has no JSON form is shown by its ``repr``, NaN becomes null."""
    try:
        return to_json(payload, fallback=_shown, inf_nan_mode="null", by_alias=False)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError):
        # Lone surrogates, circular data and objects that fail while they are shown end here.
        return _slowly(payload)


def _slowly(payload: Any) -> bytes:
    try:
        text = json.dumps(payload, default=_shown, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        kept = {k: v for k, v in payload.items() if isinstance(v, str | int | float | bool)}
        text = json.dumps(kept, ensure_ascii=False)
    return text.encode("utf-8", "replace")


def _shown(value: Any) -> Any:
    as_list = getattr(value, "tolist", None)  # numpy scalars and arrays
    try:
        return as_list() if callable(as_list) else repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def call_record(call: Call) -> dict[str, Any]:
    """Return a call as JSON data."""
    record = {"name": call.name, "arguments": call.arguments, "id": call.id}
    if call.raw:
        record["raw"] = call.raw
    if call.problem:
        record["problem"] = call.problem
    if call.repairs:
        record["repairs"] = call.repairs
    return record


def call_of(record: Mapping[str, Any]) -> Call:
    """Return the call that ``call_record`` wrote; ``arguments`` that are no object are kept, to be judged later."""
    return Call(
        str(record.get("name", "")),
        record.get("arguments", {}),
        str(record.get("id", "")),
        str(record.get("raw", "")),
        str(record.get("problem", "")),
        tuple(map(str, record.get("repairs", ()))),
    )


def observation_record(seen: Observation) -> dict[str, Any]:
    """Return an observation as JSON data: text, status, data, seconds, artifacts, repairs, terminal."""
    return {
        "text": seen.text,
        "status": seen.status,
        "data": seen.data,
        "seconds": seen.seconds,
        "artifacts": [
            {"name": one.name, "media": one.media, "size": one.size, "source": one.source} for one in seen.artifacts
        ],
        "repairs": seen.repairs,
        "terminal": seen.terminal,
    }


def observation_of(record: Mapping[str, Any]) -> Observation:
    """Return the observation that ``observation_record`` wrote.

    Raises ``ValueError`` for a record that is none: a server that answers so cannot be trusted with the rest.
    """
    text, status = record.get("text"), record.get("status")
    if not isinstance(text, str) or status not in _STATUSES:
        raise ValueError(f"not an observation: text {type(text).__name__}, status {status!r}")
    artifacts = record.get("artifacts") or ()
    if not isinstance(artifacts, list | tuple) or not all(isinstance(one, dict) for one in artifacts):
        raise ValueError("not an observation: artifacts should be a list of objects")
    seconds = record.get("seconds") or 0.0
    return Observation(
        text,
        cast(Status, status),
        data=record.get("data"),
        artifacts=tuple(_artifact(one) for one in artifacts),
        seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
        repairs=tuple(map(str, record.get("repairs") or ())),
        terminal=record.get("terminal") is True,
    )


def _artifact(record: Mapping[str, Any]) -> Artifact:
    size = record.get("size")
    return Artifact(
        str(record.get("name", "")),
        str(record.get("media", "application/octet-stream")),
        size if isinstance(size, int) else 0,
        str(record.get("source", "")),
    )


def tool_record(tool: Tool) -> dict[str, Any]:
    """Return the description of a tool as JSON data."""
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "output": tool.output,
        "effects": tool.effects,
        "idempotent": tool.idempotent,
        "terminal": tool.terminal,
        "cost": tool.cost,
        "seconds": tool.seconds,
    }
