"""The zygote: a small process without threads that forks one isolated child per session. Standard library only.

It is started once per group of settings, enters the namespaces, and then answers packets on its control socket:
``start`` with the session's descriptors (protocol, stdout, stderr) is answered with a pid descriptor; ``reap`` kills
what is left of a session and tells how it ended; ``drop`` does the same without an answer; ``adopt`` sets up the
namespaces of a branch. Closing the control socket ends the zygote, and with it every session.
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
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ferrule.sandbox import confinement, kernel, runner

__all__ = ["become", "main"]

_PROTOCOL_FD = 3
_kept: list[Any] = []  # modules taken from user code: kept alive, as freeing them would cost every session time


@dataclass
class _State:
    control: socket.socket
    handles: tuple[int, int] | None
    restrictions: confinement.Restrictions | None
    children: dict[int, int] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    helper: _Helper | None = None


def main(argument: str) -> None:
    """Serve the control socket that ``argument`` (JSON) names until it closes; never returns and never raises."""
    options = json.loads(argument)
    control = socket.socket(fileno=options["control"])
    try:
        for name in options["preload"]:
            __import__(name)
        isolated = options["mode"] == "namespaces"
        handles = confinement.enter(options["binds"], options["links"]) if isolated else None
        restrictions = confinement.restrictions(1, os.path.dirname(confinement.BOX), notify=True) if isolated else None
    except BaseException as problem:
        _send(control, {"error": f"{type(problem).__name__}: {problem}"})
        os._exit(1)
    gc.collect()
    gc.freeze()  # shared pages stay shared: the collector does not touch them in the children
    state = _State(control, handles, restrictions)
    _send(control, {"ready": True})
    while True:
        request, fds = _receive(control)
        if request is None:
            break
        _serve(state, request, fds)
    if handles is None:
        for pid in state.children.values():
            _kill(pid, group=True)
    os._exit(0)


def _serve(state: _State, request: dict[str, Any], fds: list[int]) -> None:
    handle = -1
    answer: dict[str, Any] | None = {"id": request.get("id")}
    try:
        match request["op"]:
            case "start":
                pid = state.children[request["id"]] = _start(request["settings"], fds, state)
                handle = os.pidfd_open(pid)
            case "reap":
                pid = state.children.pop(request["id"], 0)
                answer = _reap(pid, state.handles is None) if pid else {"code": 0}
            case "drop":
                answer = None
                pid = state.children.pop(request["id"], 0)
                if pid:
                    _kill(pid, group=state.handles is None)
                    state.dropped.add(pid)
            case "adopt":
                _adopt(state, request["pid"], request["disk_mb"])
        for pid in list(state.dropped):
            if os.waitpid(pid, os.WNOHANG)[0]:
                state.dropped.discard(pid)
    except BaseException as problem:
        answer = {"error": f"{type(problem).__name__}: {problem}"}
    for fd in fds:
        os.close(fd)
    if answer is not None:
        _send(state.control, answer, [handle] if handle >= 0 else [])
    if handle >= 0:
        os.close(handle)
    if request["op"] == "adopt" and state.handles is not None and state.helper is None:
        with contextlib.suppress(OSError):
            state.helper = _Helper(state.handles[0])  # for the next branch


def _send(control: socket.socket, answer: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    with contextlib.suppress(OSError):  # the parent is gone; the next receive ends the loop
        socket.send_fds(control, [json.dumps(answer).encode()], list(fds))


def _receive(control: socket.socket) -> tuple[Any, list[int]]:
    try:
        body, fds, _, _ = socket.recv_fds(control, 1 << 16, 8)
    except OSError:
        return None, []
    return (json.loads(body) if body else None), fds


def _start(settings: dict[str, Any], fds: list[int], state: _State) -> int:
    """Fork one session; in the parent returns its process id."""
    if state.handles is None:
        pid = os.fork()
    else:
        kernel.unshare(kernel.NEWPID, "process namespace of the session")
        try:
            pid = os.fork()
        finally:
            # In the child this fails or does nothing: it is process 1 of the new namespace already.
            with contextlib.suppress(OSError):
                kernel.set_namespace(state.handles[1], kernel.NEWPID)
    if pid == 0:
        state.control.detach()
        become(settings, fds, state.handles, state.restrictions)
    return pid


def become(
    settings: dict[str, Any],
    fds: list[int],
    handles: tuple[int, int] | None,
    restrictions: confinement.Restrictions | None,
) -> None:
    """Turn this process into a confined session; never returns. Failures are reported on its stderr."""
    complain, listener = fds[2], -1
    try:
        # Higher than every descriptor we were handed, so that none is overwritten before it is moved.
        moved = [_above(fd) for fd in fds]
        if settings["bubblewrap"]:  # which has made a session, and dies with its parent, already
            os.makedirs(f"{confinement.BOX}/tmp", exist_ok=True)
            for name in settings["preload"]:
                __import__(name)
        else:
            os.setsid()
            confinement.die_with_parent()
        if handles is not None:
            confinement.own_namespaces(handles[0], settings["disk_mb"])
        null = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((null, 0), (moved[1], 1), (moved[2], 2), (moved[0], _PROTOCOL_FD)):
            os.dup2(source, target, inheritable=False)
        complain = 2
        _close_others(restrictions.rules if restrictions else -1)
        os.chdir(settings["folder"])
        confinement.limit(settings)
        random.seed()
        # The number of the protocol's descriptor is a guess for those who try all; what comes back is not trusted
        # anyway.
        hidden = random.SystemRandom().randrange(100, 250)
        os.dup2(_PROTOCOL_FD, hidden, inheritable=False)
        os.close(_PROTOCOL_FD)
        if settings["isolated"]:
            if restrictions is None:
                restrictions = confinement.restrictions(os.getpid(), confinement.BOX, notify=False)
            listener = confinement.confine(restrictions, settings["allow_processes"], notify=handles is not None)
        _forget(settings)
        if listener >= 0:
            with socket.socket(fileno=os.dup(hidden)) as link:
                socket.send_fds(link, [runner.GREETING], [listener])
            os.close(listener)
    except BaseException:
        with contextlib.suppress(BaseException):
            os.write(complain, traceback.format_exc(limit=-2).encode())
        os._exit(70)
    try:
        runner.serve(hidden, settings)
    finally:
        os._exit(71)


def _above(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64)


def _close_others(keep: int) -> None:
    """Close everything above the session's own descriptors, but ``keep``."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if keep > _PROTOCOL_FD:
        os.closerange(_PROTOCOL_FD + 1, keep)
    os.closerange(max(_PROTOCOL_FD, keep) + 1, most)


def _forget(settings: dict[str, Any]) -> None:
    """Leave user code a clean interpreter: no modules of ours, its own folder, default signal handlers."""
    for name in [name for name in sys.modules if name.split(".")[0] == "ferrule"]:
        _kept.append(sys.modules.pop(name))
    sys.argv = [""]
    os.environ["HOME"] = settings["folder"]
    os.environ["TMPDIR"] = os.path.join(settings["folder"], "tmp") if settings["isolated"] else settings["folder"]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _kill(pid: int, *, group: bool) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(pid, signal.SIGKILL)


def _reap(pid: int, group: bool) -> dict[str, Any]:
    """Kill what is left of a session; tells the exit code (negative: signal).

    In namespaces the session is process 1 of its own: the kernel kills everything in there with it.
    """
    done, status = os.waitpid(pid, os.WNOHANG)
    if group or not done:
        _kill(pid, group=group)
    if not done:
        _, status = os.waitpid(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status)}


class _Helper:
    """A forked helper that waits for one branch to adopt; forked ahead, as forking is what takes the time."""

    def __init__(self, proc: int) -> None:
        (asked, self._ask), (self._answer, answering) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(asked)
            os.close(answering)
            return
        os.close(self._ask)
        problem = ""
        try:
            order = os.read(asked, 100).split()
            if order:
                confinement.adopt(proc, int(order[0]), int(order[1]))
        except BaseException as raised:
            problem = f"{type(raised).__name__}: {raised}"
        os.write(answering, problem.encode()[:4000] or b" ")
        os._exit(0)

    def adopt(self, pid: int, disk_mb: int) -> str:
        """Set up one branch and end; returns the reason of a failure, or an empty text."""
        os.write(self._ask, b"%d %d" % (pid, disk_mb))
        reason = os.read(self._answer, 4096).decode().strip()
        os.close(self._ask)
        os.close(self._answer)
        return reason


def _adopt(state: _State, pid: int, disk_mb: int) -> None:
    """Set up the namespaces of a branch; raises ``OSError`` with the reason."""
    assert state.handles is not None
    helper, state.helper = state.helper or _Helper(state.handles[0]), None
    reason = helper.adopt(pid, disk_mb)
    state.dropped.add(helper.pid)
    if reason:
        raise OSError(f"namespaces of a branch: {reason}")
