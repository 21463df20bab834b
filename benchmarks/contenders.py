"""Contenders of a comparison: each a process of its own that stays alive and answers by lines, taking turns."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Child", "answer", "quiet_output"]


class Child:
    """A contender in a process of its own, asked by lines of JSON."""

    def __init__(self, python: str, script: str, name: str, threads: int, *flags: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        command = [python, script, "--child", name, "--threads", str(threads), *flags]
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._read()

    def _read(self) -> Any:
        line = self._from.readline()
        if not line:
            raise RuntimeError(f"contender {self.name!r} ended with status {self._process.wait()}")
        return json.loads(line)

    def ask(self, what: str, **more: Any) -> Any:
        """Ask for one thing and wait for the answer."""
        print(json.dumps({"what": what, **more}), file=self._to, flush=True)
        return self._read()

    def close(self) -> None:
        """End the contender."""
        self._to.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()


def quiet_output() -> Any:
    """In a contender: keep the pipe to the parent to ourselves, so that libraries that print do not answer for us."""
    out, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)
    return out


def answer(out: Any, answers: Mapping[str, Callable[..., Any]]) -> None:
    """In a contender: answer questions until the parent closes the pipe."""
    print(json.dumps("ready"), file=out, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        what = question.pop("what")
        print(json.dumps(answers[what](**question)), file=out, flush=True)
