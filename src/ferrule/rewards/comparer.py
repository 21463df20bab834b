"""The process in which comparisons run (``python -m ferrule.rewards.comparer``): requests in, results out, as lines."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from typing import Any

from ferrule.rewards.mathematics import library
from ferrule.rewards.verify import VERIFIERS

__all__ = ["serve"]

_MEMORY = 4 << 30  # bytes of address space


def serve() -> None:
    """Answer requests from standard input until it ends; a comparison that takes too long ends the process."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer = _prepared(request["name"])
        _tell(out, {})
        if not answer:
            # The default action of the signal ends the process, wherever it is and even without a parent.
            signal.setitimer(signal.ITIMER_PROF, request["seconds"])
            answer = _answer(request)
            signal.setitimer(signal.ITIMER_PROF, 0)
        _tell(out, answer)


def _prepared(name: str) -> dict[str, Any]:
    """Import what a verifier needs before its time begins."""
    try:
        if name == "math-verify":
            library()
    except ImportError as error:
        return {"missing": str(error)}
    return {}


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        value = VERIFIERS[request["name"]](request["answer"], request["gold"])
    except ValueError as error:
        return {"invalid": str(error)}
    except Exception as error:
        return {"value": 0.0, "status": "error", "problem": f"{type(error).__name__}: {error}"}
    return {"value": value, "status": "ok", "problem": ""}


def _tell(out: int, answer: dict[str, Any]) -> None:
    view = memoryview(json.dumps(answer).encode() + b"\n")
    while view:
        view = view[os.write(out, view) :]


if __name__ == "__main__":
    serve()
