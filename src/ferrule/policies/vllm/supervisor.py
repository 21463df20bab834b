"""Supervise a server process: it ends when its owner ends, however that ends.

This file is run as a program, ``python supervisor.py FOLDER COMMAND...``, and needs nothing but the standard library.
The owner holds the other end of standard input: when that closes, because the owner closed it or has ended, the
server's whole process group is ended. FOLDER is then removed, unless the owner wrote ``k`` (keep) before. When the
server ends first, what is left of its group is ended.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

__all__ = ["main"]

_PATIENCE = 8.0  # seconds that a server has to end by itself


def _end_with_parent() -> None:
    """Ask the kernel to kill this process with its parent (``PR_SET_PDEATHSIG``); the supervisor has one thread."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Send a signal to a process group; False when nobody is left in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _sweep(group: int) -> None:
    """End what a dead leader left behind; helpers have a moment to give shared memory back."""
    deadline = time.monotonic() + _PATIENCE
    _signal(group, signal.SIGTERM)
    while _signal(group, 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    _signal(group, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Run the command until it ends or standard input does, and return its exit status."""
    folder, command = arguments[0], list(arguments[1:])
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_end_with_parent)
    ended = os.pidfd_open(child.pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(0, select.POLLIN | select.POLLHUP)
    keep = False
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if ended in ready:
            _sweep(child.pid)
            return child.wait()
        if 0 in ready:
            heard = os.read(0, 1)
            if not heard:
                break
            keep = heard == b"k"
    child.terminate()  # the leader alone: it ends its helpers in the order they need
    select.select([ended], [], [], _PATIENCE)
    _sweep(child.pid)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
