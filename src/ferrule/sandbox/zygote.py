"""The zygote: a small process without threads that forks one isolated child per session. Standard library only.

It is started once per group of settings, enters the namespaces, and then answers packets on its control socket:
``{"op": "start", "id": int, "settings": {...}}`` with the session's descriptors (protocol, stdout, stderr), and
``{"op": "reap", "id": int, "grace": seconds}``, which kills what is left of the session and tells how it ended.
Closing the control socket ends the zygote, and with it every session.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import random
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

from ferrule.sandbox import jail, kernel, runner

__all__ = ["main"]

_PROTOCOL_FD = 3


def main(argument: str) -> None:
    """Serve the control socket that ``argument`` (JSON) names until it closes; never returns and never raises."""
    options = json.loads(argument)
    control = socket.socket(fileno=options["control"])
    try:
        for name in options["preload"]:
            __import__(name)
        handles = jail.enter(options["binds"], options["links"]) if options["mode"] == "namespaces" else None
    except BaseException as problem:
        _send(control, {"error": f"{type(problem).__name__}: {problem}"})
        os._exit(1)
    gc.collect()
    gc.freeze()  # shared pages stay shared: the collector does not touch them in the children
    _send(control, {"ready": True})
    children: dict[int, int] = {}
    while True:
        request, fds = _receive(control)
        if request is None:
            break
        try:
            if request["op"] == "start":
                children[request["id"]] = _start(request["settings"], fds, handles, control)
                answer: dict[str, Any] = {"id": request["id"]}
            else:
                pid = children.pop(request["id"], 0)
                answer = _reap(pid, request["grace"], handles is None) if pid else {"code": 0, "killed": False}
        except BaseException as problem:
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        for fd in fds:
            os.close(fd)
        _send(control, answer)
    if handles is None:
        for pid in children.values():
            _kill(pid, group=True)
    os._exit(0)


def _send(control: socket.socket, answer: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the parent is gone; the next receive ends the loop
        control.send(json.dumps(answer).encode())


def _receive(control: socket.socket) -> tuple[Any, list[int]]:
    try:
        body, fds, _, _ = socket.recv_fds(control, 1 << 16, 8)
    except OSError:
        return None, []
    return (json.loads(body) if body else None), fds


def _start(settings: dict[str, Any], fds: list[int], handles: tuple[int, int] | None, control: socket.socket) -> int:
    """Fork one session; in the parent returns its process id."""
    if handles is None:
        pid = os.fork()
    else:
        kernel.unshare(kernel.NEWPID, "process namespace of the session")
        try:
            pid = os.fork()
        finally:
            # In the child this fails or does nothing: it is process 1 of the new namespace already.
            with contextlib.suppress(OSError):
                kernel.set_namespace(handles[1], kernel.NEWPID)
    if pid == 0:
        become(settings, fds, handles, control)
    return pid


def become(
    settings: dict[str, Any], fds: list[int], handles: tuple[int, int] | None, control: socket.socket | None
) -> None:
    """Turn this process into a confined session; never returns. What goes wrong is told on its stderr."""
    complain = fds[2]
    try:
        # Higher than every descriptor we were handed, so that none is overwritten before it is moved.
        moved = [_above(fd) for fd in fds]
        if settings["bubblewrap"]:  # which has made a session, and dies with its parent, already
            os.makedirs(f"{jail.BOX}/tmp", exist_ok=True)
            for name in settings["preload"]:
                __import__(name)
        else:
            os.setsid()
            jail.die_with_parent()
        if handles is not None:
            jail.own_namespaces(handles[0], settings["disk_mb"])
        if control is not None:
            control.detach()
        null = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((null, 0), (moved[1], 1), (moved[2], 2), (moved[0], _PROTOCOL_FD)):
            os.dup2(source, target, inheritable=False)
        complain = 2
        os.closerange(_PROTOCOL_FD + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        os.chdir(settings["folder"])
        jail.limit(settings)
        random.seed()
        # The number of the protocol's descriptor is a guess for those who try all; what comes back is not trusted
        # anyway.
        hidden = random.SystemRandom().randrange(100, 250)
        os.dup2(_PROTOCOL_FD, hidden, inheritable=False)
        os.close(_PROTOCOL_FD)
        if settings["isolated"]:
            jail.confine(settings["allow_processes"])
        _forget(settings)
    except BaseException:
        with contextlib.suppress(BaseException):
            os.write(complain, traceback.format_exc(limit=-2).encode())
        os._exit(70)
    try:
        runner.serve(hidden)
    finally:
        os._exit(71)


def _above(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64)


def _forget(settings: dict[str, Any]) -> None:
    """Leave user code a clean interpreter: no modules of ours, its own folder, default signal handlers."""
    for name in [name for name in sys.modules if name.split(".")[0] == "ferrule"]:
        del sys.modules[name]
    sys.argv = [""]
    os.environ["HOME"] = settings["folder"]
    os.environ["TMPDIR"] = os.path.join(settings["folder"], "tmp") if settings["isolated"] else settings["folder"]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _kill(pid: int, *, group: bool) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(pid, signal.SIGKILL)


def _reap(pid: int, grace: float, group: bool) -> dict[str, Any]:
    """Wait ``grace`` seconds for a session to end, else kill it; tells the exit code (negative: signal) and which.

    In namespaces the session is process 1 of its own: the kernel kills everything in there with it.
    """
    end = time.monotonic() + grace
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done or time.monotonic() >= end:
            break
        time.sleep(0.0005)
    if group or not done:
        _kill(pid, group=group)
    if not done:
        _, status = os.waitpid(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status), "killed": not done}
