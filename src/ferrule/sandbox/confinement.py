"""The two steps into isolation: a zygote enters its own root, every session is confined. Standard library only.

The zygote's step (``enter``) is taken once: user, mount, network, IPC, host name and process namespaces, and a new root
that shows nothing but read-only binds. The session's step (``own_namespaces``, then ``confine``) is taken by each
forked child:
process, user and mount namespaces of its own, an empty ``/box/home`` as the only writable place, resource limits, no
capabilities, Landlock and the system call filter. A branch of a session shares its process namespace and gets a
working folder of its own (``adopt``).
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.sandbox import folders, kernel, landlock, seccomp

__all__ = [
    "BOX",
    "DEVICES",
    "NOBODY",
    "Restrictions",
    "adopt",
    "confine",
    "die_with_parent",
    "enter",
    "limit",
    "move_in",
    "own_namespaces",
    "restrictions",
    "silence",
]

_ROOM = "/box"  # holds nothing but the working folder; file rules name it, so they hold for whatever is mounted inside
BOX = f"{_ROOM}/home"
NOBODY = 65534  # outside
_USER = 1000  # inside
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def enter(binds: Sequence[str], links: Mapping[str, str]) -> tuple[int, int]:
    """Move to new namespaces and a new root that shows ``binds`` read-only (and ``links`` to them).

    Returns descriptors of ``/proc`` and of the process namespace.

    The caller goes on as process 1 of the new process namespace, in a forked child; the calling process itself
    stays behind as a stub that ends with it. Raises ``OSError`` that names the step which the host refused.
    """
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _new_user(proc)
    kernel.unshare(kernel.NEWNS, "mount namespace")
    kernel.unshare(kernel.NEWNET, "network namespace")
    kernel.unshare(kernel.NEWIPC | kernel.NEWUTS, "IPC and host name namespaces")
    kernel.unshare(kernel.NEWPID, "process namespace")
    _new_root(binds, links)
    if os.geteuid() != 0:
        # We kept the host's root until here, because only its owner can look into the folders that are bound.
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    kernel.prctl("dumpable", 4, 1)  # /proc/self/uid_map must stay ours to write after the change of user
    child = os.fork()
    if child:
        _wait_as_stub(child)
    die_with_parent()
    return proc, os.open("self/ns/pid", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)


def _wait_as_stub(child: int) -> None:
    """Hold no descriptors, wait for the zygote, end as it ended."""
    os.closerange(0, 1024)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _new_user(proc: int) -> None:
    """Enter a user namespace in which we are user 0 without rights outside.

    The host's root becomes ``nobody`` there, so that files which only root may read stay closed. Such a map can
    only be written
    from outside, by a child that stays in the old namespace. Where that is refused, and for everybody else, user 0
    is ourselves.
    """
    user, group = os.geteuid(), os.getegid()
    mapped = False
    if user == 0:
        with contextlib.suppress(OSError):
            os.setgroups([])
        pid = os.getpid()
        go_read, go_write = os.pipe()
        helper = os.fork()
        if helper == 0:
            os.read(go_read, 1)
            code = 1
            with contextlib.suppress(OSError):
                _write(proc, f"{pid}/gid_map", f"0 {NOBODY} 1\n1 {group} 1")
                _write(proc, f"{pid}/uid_map", f"0 {NOBODY} 1\n1 {user} 1")
                code = 0
            os._exit(code)
        try:
            kernel.unshare(kernel.NEWUSER, "user namespace")
        finally:
            os.write(go_write, b"x")
            mapped = os.waitpid(helper, 0)[1] == 0
            os.close(go_read)
            os.close(go_write)
    else:
        kernel.unshare(kernel.NEWUSER, "user namespace")
    if not mapped:
        _map_user(proc, "self", 0, user, group)


def _map_user(proc: int, pid: str, inner: int, user: int, group: int) -> None:
    _write(proc, f"{pid}/setgroups", "deny")
    _write(proc, f"{pid}/gid_map", f"{inner} {group} 1")
    _write(proc, f"{pid}/uid_map", f"{inner} {user} 1")


def _write(proc: int, name: str, text: str) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _new_root(binds: Sequence[str], links: Mapping[str, str]) -> None:
    """Build the new root in memory, bind what may be seen, leave the old root for good."""
    kernel.make_private()
    base = next(place for place in ("/tmp", "/var/tmp", "/mnt", "/run") if os.path.isdir(place))
    kernel.mount_tmpfs(base, "mode=755,size=4m")
    os.chdir(base)
    os.mkdir("old")
    kernel.pivot(".", "old")
    os.chdir("/")
    for path in binds:
        _show(path, devices=False)
    for path in DEVICES:
        _show(path, devices=True)
    for path, target in links.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(target, path)
    os.makedirs(BOX)
    with contextlib.suppress(FileExistsError):  # where Python itself lies below /tmp, that folder is there, read-only
        os.symlink(f"{BOX}/tmp", "/tmp")
    kernel.unmount("/old")
    os.rmdir("/old")
    kernel.freeze_mount("/", recursive=False)


def _show(path: str, *, devices: bool) -> None:
    if not os.path.exists(f"/old{path}"):
        return
    if os.path.isdir(f"/old{path}"):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    kernel.bind(f"/old{path}", path)
    if not devices:  # writing to /dev/null must stay possible
        kernel.freeze_mount(path, recursive=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the one that forked it ends."""
    kernel.prctl("parent death signal", 1, signal.SIGKILL)


def own_namespaces(proc: int, disk_mb: int) -> None:
    """Give a session user and mount namespaces of its own and an empty ``/box`` of ``disk_mb`` MiB in memory."""
    kernel.unshare(kernel.NEWUSER | kernel.NEWNS, "namespaces of the session")
    _map_user(proc, "self", _USER, 0, 0)
    _mount_box(disk_mb)
    os.mkdir(f"{BOX}/tmp")


def _box(disk_mb: int) -> dict[str, str]:
    return {"size": f"{disk_mb}m", "nr_inodes": "8192", "mode": "700", "uid": str(_USER), "gid": str(_USER)}


def _mount_box(disk_mb: int) -> None:
    kernel.mount_tmpfs(BOX, ",".join(f"{key}={value}" for key, value in _box(disk_mb).items()))


def move_in(disk_mb: int) -> None:
    """Mount the working folder of a session that bubblewrap has made, and become the user whose it is.

    Where root has started bubblewrap, this is still root, and user 1000 one without rights outside.
    """
    _mount_box(disk_mb)
    if os.getuid() != _USER:
        kernel.drop_bounding_set()  # with the change of user the right to do so is gone
        os.setgroups([])
        os.setresgid(_USER, _USER, _USER)
        os.setresuid(_USER, _USER, _USER)
    os.mkdir(f"{BOX}/tmp")


def adopt(proc: int, pid: int, disk_mb: int) -> None:
    """Make the process ``pid`` (as the host counts), fresh in namespaces of its own, user 1000 there.

    With ``disk_mb`` it also gets a working folder of its own that holds copies of what it saw. The copy is made with
    the rights of that process, which has none over files of anybody else, and shows when it is complete. The kernel
    lets this happen only to namespaces below this process's own. The calling process moves there, so call it in a
    fork.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC
    mounts, user = (os.open(f"{pid}/ns/{kind}", flags, dir_fd=proc) for kind in ("mnt", "user"))
    kernel.set_namespace(user, kernel.NEWUSER)
    _map_user(proc, str(pid), _USER, _USER, _USER)
    if not disk_mb:
        return
    kernel.set_namespace(mounts, kernel.NEWNS)
    root = kernel.detached_tmpfs(_box(disk_mb))
    folder = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    source, target = os.open(BOX, folder | os.O_NOFOLLOW), os.open(".", folder, dir_fd=root)
    if not _untouched(source):
        folders.copy_folder(source, target)
    with contextlib.suppress(FileExistsError):
        os.mkdir("tmp", dir_fd=target)
    kernel.attach(root, BOX)


def _untouched(box: int) -> bool:
    """True for a working folder in which there is nothing but the empty ``tmp`` that it began with."""
    if os.listdir(box) != ["tmp"]:
        return False
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return not os.listdir(os.open("tmp", flags, dir_fd=box))  # the descriptor goes with this process
    except OSError:
        return False


# Counted for all processes of one user: memory that stays in place, signals under way, bytes of message queues.
_ISOLATED_LIMITS = ((resource.RLIMIT_MEMLOCK, 0), (resource.RLIMIT_SIGPENDING, 128), (resource.RLIMIT_MSGQUEUE, 0))


def limit(settings: dict[str, Any]) -> None:
    """Set the resource limits, hard and soft; without ``isolated`` only those that concern this process alone."""
    disk = settings["disk_mb"] << 20
    # An isolated session's folder lies in memory, so what the folder may hold is not for its address space.
    memory = (settings["memory_mb"] << 20) - (disk if settings["isolated"] else 0)
    # Threads and processes of one user namespace, and of those below it, are counted together.
    tasks = settings["tasks"] + (0 if settings["allow_processes"] else settings["branches"])
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, disk),
        (resource.RLIMIT_CPU, settings["cpu_seconds"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
        *([(resource.RLIMIT_NPROC, tasks), *_ISOLATED_LIMITS] if settings["isolated"] else []),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


@dataclass(frozen=True)
class Restrictions:
    """What confining a session needs, prepared once for many: descriptor of the file rules, and the call filters."""

    rules: int
    alone: bytes
    with_processes: bytes
    last: bytes


def restrictions(self_pid: int, writable: str, *, notify: bool) -> Restrictions:
    """Prepare the restrictions of sessions that see themselves as process ``own``."""
    rules, _ = landlock.ruleset(writable, "/dev")
    alone = seccomp.program(kernel.MACHINE, False, self_pid=self_pid, notify=notify)
    several = seccomp.program(kernel.MACHINE, True)
    return Restrictions(rules, alone, several, seccomp.last_program(kernel.MACHINE))


def confine(prepared: Restrictions, allow_processes: bool, *, notify: bool = False) -> int:
    """Give up all rights for good: capabilities, files, system calls; returns the filter's listener (-1: none)."""
    kernel.drop_capabilities()
    kernel.no_new_privileges()
    landlock.restrict(prepared.rules)
    if prepared.rules >= 0:
        os.close(prepared.rules)
    body = prepared.with_processes if allow_processes else prepared.alone
    return seccomp.install(body, listen=notify and not allow_processes)


def silence(prepared: Restrictions) -> None:
    """Give up sending descriptors as well, once the listener has been sent."""
    seccomp.install(prepared.last)
