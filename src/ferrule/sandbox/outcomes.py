"""What becomes of a call: the observation of an outcome, its texts and files made safe, and why a process ended."""

from __future__ import annotations

import mimetypes
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.core.records import Artifact, Observation, Status
from ferrule.sandbox.frames import Stream
from ferrule.sandbox.handles import End

__all__ = ["cause", "observed", "readable", "said"]

_LOST = "[the interpreter was restarted: variables and files of earlier calls are lost]"
_LATE = "[written by threads of earlier calls:]"


def readable(text: str) -> str:
    """Return a text that every encoding of Unicode takes: halves of characters are replaced."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def said(problem: BaseException, most: int) -> str:
    """Return what an exception says, cut to ``most`` characters, whatever its ``__str__`` does."""
    try:
        return readable(str(problem))[:most]
    except KeyboardInterrupt:
        raise
    except BaseException as worse:
        return f"(it cannot be shown: {type(worse).__name__})"


def cause(ended: End) -> str:
    """Say why a process is gone."""
    if ended.code is None:
        return "interpreter died (out of memory, out of processor time, or ended by the code)"
    if ended.killed:
        return "the code closed the interpreter's connection, so it was stopped"
    if ended.code == -signal.SIGKILL:
        return "interpreter died (SIGKILL): most likely out of memory or out of processor time"
    if ended.code < 0:
        name = signal.Signals(-ended.code).name if -ended.code in set(signal.Signals) else str(-ended.code)
        return f"interpreter died ({name})"
    return f"interpreter died (exit code {ended.code})"


def observed(
    status: Status,
    streams: Sequence[Stream],
    answer: Mapping[str, Any] | None = None,
    problem: str = "",
    *,
    restarted: bool = False,
    late: Sequence[Stream] = (),
) -> Observation:
    """Build the observation of an outcome: text for the model, data for programs.

    ``answer`` is what the process said (``checked_run``), ``late`` what arrived before the question was asked.
    """
    answer = answer or {}
    stdout, stderr = (stream.text() for stream in streams)
    value, exception, kind = (answer.get(name) and readable(answer[name]) for name in ("value", "exception", "kind"))
    apart = "".join(stream.text() for stream in late) + "".join(readable(text) for text in answer.get("late", ()))
    last = value or exception or (f"Error: {problem}" if problem else "")
    text = ""
    for part in (_LOST if restarted else "", stdout, stderr, last, f"{_LATE}\n{apart}" if apart else ""):
        text += ("\n" if text and part and not text.endswith("\n") else "") + part
    data = {
        "stdout": stdout,
        "stderr": stderr,
        "value": value,
        "exception": exception or problem or None,
        "kind": kind,
        "line": answer.get("line"),
        "restarted": restarted,
        "late": apart,
    }
    artifacts = tuple(_artifact(entry) for entry in answer.get("files", ()))
    return Observation(text, status, data=data, artifacts=artifacts, peak_mb=answer.get("peak", 0) / 1024)


def _artifact(entry: Mapping[str, Any]) -> Artifact:
    name, body = readable(entry["name"]), entry["body"]
    media = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if body is None:
        return Artifact(name, media, entry["size"], "")
    return Artifact(name, media, len(body) // 4 * 3 - body.count("="), f"data:{media};base64,{body}")
