"""The zygote: a small process without threads that forks one isolated child per session. Standard library only.

It is started once per group of settings, enters the namespaces, and then answers packets on its control socket:
``start`` with the session's descriptors (protocol, stdout, stderr) is answered with a pid descriptor; ``reap`` kills
what is left of a session and tells how it ended; ``drop`` does the same without an answer; ``help`` hands a socket that
comes along to a helper, which sets up the namespaces of one branch when it is told so there. No request waits for
anything that hostile code could delay. Closing the control socket ends the zygote, and with it every session.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import json
import os
import random
import resource
import select
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
_HELPER_BUSY = 0.01  # seconds that a helper is left to itself before the next one is forked, which costs as much
_kept: list[Any] = []  # modules taken from user code: kept alive, as freeing them would cost every session time


@dataclass
class _State:
    control: socket.socket
    handles: tuple[int, int] | None
    restrictions: confinement.Restrictions | None
    children: dict[int, int] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    helper: _Helper | None = None
    owed: bool = False


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
    _ours()
    gc.collect()
    gc.freeze()  # shared pages stay shared: the collector does not touch them in the children
    state = _State(control, handles, restrictions)
    _send(control, {"ready": True})
    while True:
        if state.owed and handles is not None and not select.select([control], [], [], _HELPER_BUSY)[0]:
            with contextlib.suppress(OSError):
                state.helper, state.owed = _Helper(handles[0]), False  # for the next branch
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
    answer: dict[str, Any] | None = None if request["op"] in ("drop", "help") else {"id": request.get("id")}
    try:
        match request["op"]:
            case "start":
                pid = state.children[request["id"]] = _start(request["settings"], fds, state)
                handle = os.pidfd_open(pid)
            case "reap":
                answer = _reap(state, state.children.pop(request["id"], 0))
            case "drop":
                _reap(state, state.children.pop(request["id"], 0))
            case "help":
                _help(state, fds[0])
        for pid in list(state.dropped):
            if os.waitpid(pid, os.WNOHANG)[0]:
                state.dropped.discard(pid)
    except BaseException as problem:
        reason = f"{type(problem).__name__}: {problem}"
        if answer is not None:
            answer = {"error": reason}
        elif request["op"] == "help":
            _tell(fds[0], reason)
    for fd in fds:
        os.close(fd)
    if answer is not None:
        _send(state.control, answer, [handle] if handle >= 0 else [])
    if handle >= 0:
        os.close(handle)
    state.owed = state.owed or request["op"] == "help"


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
            confinement.move_in(settings["disk_mb"])
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
        if settings["isolated"] and restrictions is not None:
            confinement.silence(restrictions)
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


@functools.cache
def _ours() -> tuple[str, ...]:
    """Our modules; looked up before sessions are forked, as a walk over all names would cost each of them time."""
    return tuple(name for name in sys.modules if name.split(".")[0] == "ferrule")


def _forget(settings: dict[str, Any]) -> None:
    """Leave user code a clean interpreter: no modules of ours, its own folder, default signal handlers."""
    for name in _ours():
        _kept.append(sys.modules.pop(name))
    sys.argv = [""]
    os.environ["HOME"] = settings["folder"]
    os.environ["TMPDIR"] = os.path.join(settings["folder"], "tmp") if settings["isolated"] else settings["folder"]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _kill(pid: int, *, group: bool) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(pid, signal.SIGKILL)


def _reap(state: _State, pid: int) -> dict[str, Any]:
    """Kill what is left of a session; tells the exit code (negative: signal).

    In namespaces the session is process 1 of its own: the kernel kills everything in there with it.
    """
    if not pid:
        return {"code": 0}
    group = state.handles is None
    done, status = os.waitpid(pid, os.WNOHANG)
    if group or not done:
        _kill(pid, group=group)
    if not done:
        done, status = os.waitpid(pid, os.WNOHANG)
    if not done:
        state.dropped.add(pid)  # its end is on the way
    return {"code": os.waitstatus_to_exitcode(status) if done else -signal.SIGKILL}


class _Helper:
    """A forked helper that waits for one branch to adopt; forked ahead, as forking is what takes the time."""

    def __init__(self, proc: int) -> None:
        self._give, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid:
            given.close()
            return
        self._give.close()
        problem, fds = "", list[int]()
        try:
            _, fds, _, _ = socket.recv_fds(given, 1, 1)
            order = os.read(fds[0], 100) if fds else b""
            if order:
                pid, disk_mb, seconds = order.split()
                signal.setitimer(signal.ITIMER_REAL, max(0.001, float(seconds)))  # ends this helper, whatever it is at
                confinement.adopt(proc, int(pid), int(disk_mb))
        except BaseException as raised:
            problem = f"{type(raised).__name__}: {raised}"
        for fd in fds:
            _tell(fd, problem)
            os.sched_yield()  # who waits for it goes on before this process is taken down, which takes longer
        os._exit(0)

    def give(self, link: int) -> None:
        """Let it set up the branch that ``link`` names; it answers there with the reason of a failure, or a blank."""
        with self._give:
            socket.send_fds(self._give, [b"."], [link])


def _tell(fd: int, reason: str) -> None:
    with contextlib.suppress(OSError):  # nobody waits any more
        os.write(fd, reason.encode()[:4000] or b" ")


def _help(state: _State, link: int) -> None:
    """Give ``link`` to a helper."""
    assert state.handles is not None
    while True:
        waiting, state.helper = state.helper, None
        helper = waiting or _Helper(state.handles[0])
        state.dropped.add(helper.pid)
        try:
            return helper.give(link)
        except ConnectionError:
            if waiting is None:
                raise
            # The one that waited has ended meanwhile; a fresh one does it.
