"""The system call filter of isolated interpreters. Standard library only: the zygote loads it.

A list of refusals rather than of permissions: Python packages use too many calls for the second to stay right. The
namespaces isolate; the filter takes away the parts of the kernel in which ways around them were found before.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Sequence

from ferrule.sandbox import kernel

__all__ = ["BRANCH_FLAGS", "FORK_FLAGS", "install", "last_program", "numbers", "program"]

# name: (x86_64, aarch64); -1 where the machine has no such call. Numbers from 424 on are the same everywhere.
_REFUSED = {
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "fanotify_init": (300, 262),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "personality": (135, 92),
    "vhangup": (153, 58),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "modify_ldt": (154, -1),
    "uselib": (134, -1),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Memory that the address space limit does not count, and that outlives the process.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # Things of which the kernel has a number for the whole host, or for all processes of one user.
    "io_setup": (206, 0),
    "io_submit": (209, 2),
    "inotify_init": (253, -1),
    "inotify_init1": (294, 26),
    "fanotify_mark": (301, 263),
    "timer_create": (222, 107),
    # Locks belong to the file, so those on shared files are seen, and felt, by every episode and by the host.
    "flock": (73, 32),
    # Kernel memory that no limit counts; the rules and filters that we want are in place already.
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    # The host's mounts by name.
    "statmount": (457, 457),
    "listmount": (458, 458),
    # What others have read lately.
    "cachestat": (451, 451),
}
# Answered as done, though nothing is: the folder lies in memory, and caches are shared with the host.
_NOTHING_TO_DO = {"sync": (162, 81), "syncfs": (306, 267), "fadvise64": (221, 223), "readahead": (187, 213)}
_UNSHARE = (272, 97)
# Calls whose first argument names a process: allowed for oneself only, as branches of an episode see each other. With
# the argument that is a signal: none may set a stopped process going again.
_SIGNALS = {
    "kill": (62, 129, 1),
    "tgkill": (234, 131, 2),
    "rt_sigqueueinfo": (129, 138, 1),
    "rt_tgsigqueueinfo": (297, 240, 2),
}
_PIDFD_OPEN = 434
_TUNING = {
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "prlimit64": (302, 261),
    "setpgid": (109, 154),
}
_OTHERS = {"tkill": (200, 130), "setpriority": (141, 140), "ioprio_set": (251, 30), "pidfd_send_signal": (424, 424)}
_PROCESSES = {"fork": (57, -1), "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281)}
_CLONE = {"x86_64": 56, "aarch64": 220}
_IOCTL = {"x86_64": 16, "aarch64": 29}
_FCNTL = {"x86_64": 72, "aarch64": 25}
_SENDING = {"sendmsg": (46, 211), "sendmmsg": (307, 269), "seccomp": (317, 277)}
# Commands of fcntl and ioctl that have signals sent to any process one can name (owner of a file), locks that belong to
# a file, leases and watches on shared files, and larger pipes, which come out of the user's share.
_SETOWN, _SETSIG, _SETOWN_EX, _OFD_SETLK, _OFD_SETLKW = 8, 10, 15, 37, 38
_SETLEASE, _NOTIFY_FOLDER, _SETPIPE_SZ, _SETDELEG = 1024, 1026, 1031, 1040
_REFUSED_COMMANDS = (
    _SETOWN, _SETSIG, _SETOWN_EX, _OFD_SETLK, _OFD_SETLKW, _SETLEASE, _NOTIFY_FOLDER, _SETPIPE_SZ, _SETDELEG,
)  # fmt: skip
_SETLK, _SETLKW = 6, 7
_SIGCONT = 18
_CLONE3 = 435
_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000  # all namespace flags that clone takes
_TIOCSTI, _FIOSETOWN, _SIOCSPGRP = 0x5412, 0x8901, 0x8902

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO, _NOTIFY = 0x7FFF0000, 0x80000000, 0x00050000, 0x7FC00000
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_NEW_LISTENER = 8
_NR, _ARCH, _ARG0, _ARG1, _ARG2 = 0, 4, 16, 24, 32


# What libc's fork asks of clone: a signal at the end and the thread id written on both sides.
FORK_FLAGS = 0x01200011
# New user and mount namespaces: what a branch enters to get a working folder of its own.
BRANCH_FLAGS = 0x10020000


def numbers(machine: str) -> tuple[int, int]:
    """Return the call numbers of ``clone`` and ``unshare``, which the filter may hand to a listener."""
    return _CLONE[machine], _UNSHARE[list(kernel.AUDIT_ARCH).index(machine)]


_Step = tuple[int, int, int, int]


class _Code:
    """A filter program under construction."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []

    def add(self, operation: int, k: int, yes: int = 0, no: int = 0) -> None:
        self.steps.append((operation, yes, no, k))

    def refuse(self, number: int = errno.EPERM) -> None:
        self.add(_RETURN, _ERRNO | number)

    def packed(self) -> bytes:
        return b"".join(struct.pack("HBBI", *step) for step in self.steps)

    def when(self, number: int, steps: list[_Step]) -> None:
        """Add ``steps``, which must end in a return, for one system call (-1: none on this machine)."""
        if number >= 0:
            self.add(_EQUAL, number, no=len(steps))
            self.steps += steps


def _argument(at: int, values: Sequence[int], then: int, otherwise: int) -> list[_Step]:
    """Return ``then`` when the lower half of the argument ``at`` is one of ``values``, else ``otherwise``."""
    tests = [(_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [(_LOAD, 0, 0, at), *tests, (_RETURN, 0, 0, otherwise), (_RETURN, 0, 0, then)]


def _signal_oneself(self_pid: int, at: int) -> list[_Step]:
    """Others do not exist, as far as can be seen from inside."""
    missing = (_RETURN, 0, 0, _ERRNO | errno.ESRCH)
    own = [(_LOAD, 0, 0, _ARG0), (_EQUAL, 1, 0, self_pid), missing]
    return [*own, *_argument(at, (_SIGCONT,), _ERRNO | errno.EPERM, _ALLOW)]


def _locks(allow_processes: bool) -> list[_Step]:
    """What ``fcntl`` may do.

    Record locks belong to a process, and never hinder the one that has them. In a session of one process they are
    answered as taken, and not taken; with several processes that would be a lie, so they are refused.
    """
    refuse = _ERRNO | errno.EPERM
    locked = refuse if allow_processes else _ERRNO
    return [(_LOAD, 0, 0, _ARG1), *((_EQUAL, 0, 1, _SETLK), (_RETURN, 0, 0, locked)),
            *((_EQUAL, 0, 1, _SETLKW), (_RETURN, 0, 0, locked)),
            *_argument(_ARG1, _REFUSED_COMMANDS, refuse, _ALLOW)]  # fmt: skip


def program(machine: str, allow_processes: bool, *, self_pid: int = 1, notify: bool = False) -> bytes:
    """Return the filter as BPF instructions; refused calls fail with ``EPERM`` (``clone3`` with ``ENOSYS``).

    Signals reach the process ``self_pid`` only, unless processes are allowed. With ``notify`` a plain fork and the
    namespaces of a branch are put before a listener, which refuses them except while it is branching an episode.
    ``clone3`` hides its flags behind a pointer that a filter cannot read; ``ENOSYS`` makes libc use ``clone``
    instead. Raises ``ValueError`` for a machine whose call numbers are unknown.
    """
    if machine not in kernel.AUDIT_ARCH:
        raise ValueError(f"no system call table for {machine!r}; known: {', '.join(sorted(kernel.AUDIT_ARCH))}")
    column = list(kernel.AUDIT_ARCH).index(machine)
    code, no = _Code(), [(_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    code.add(_LOAD, _ARCH)
    code.add(_EQUAL, kernel.AUDIT_ARCH[machine], yes=1)
    code.add(_RETURN, _KILL)
    code.add(_LOAD, _NR)
    code.add(_AT_LEAST, 0x40000000, no=1)  # the second table of call numbers that x86-64 has
    code.refuse()
    refused = [*_REFUSED.values()]
    if not allow_processes:
        refused += [*_PROCESSES.values(), *_OTHERS.values()]
        for x86, arm, at in _SIGNALS.values():
            code.when((x86, arm)[column], _signal_oneself(self_pid, _ARG1 if at == 1 else _ARG2))
        code.when(_PIDFD_OPEN, _argument(_ARG0, (self_pid,), _ALLOW, _ERRNO | errno.ESRCH))
        for row in _TUNING.values():
            code.when(row[column], _argument(_ARG0, (0, self_pid), _ALLOW, no[0][3]))
    for row in refused:
        code.when(row[column], no)
    for row in _NOTHING_TO_DO.values():
        code.when(row[column], [(_RETURN, 0, 0, _ERRNO)])
    code.when(_FCNTL[machine], _locks(allow_processes))
    branch = _argument(_ARG0, (BRANCH_FLAGS,), _NOTIFY, no[0][3]) if notify else no
    code.when(_UNSHARE[column], branch)
    code.when(_CLONE3, [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])
    code.when(_CLONE[machine], _clone(allow_processes, notify))
    # Typing into the terminal of whoever started us; signals by way of a file's owner.
    code.when(_IOCTL[machine], _argument(_ARG1, (_TIOCSTI, _FIOSETOWN, _SIOCSPGRP), no[0][3], _ALLOW))
    code.add(_RETURN, _ALLOW)
    return code.packed()


def last_program(machine: str) -> bytes:
    """Return the filter that is added when a session has said its first words: no descriptors are sent any more.

    The kernel counts descriptors that are under way for all processes of one user, and refuses further ones.
    """
    column = list(kernel.AUDIT_ARCH).index(machine)
    code = _Code()
    code.add(_LOAD, _NR)
    for row in _SENDING.values():
        code.when(row[column], [(_RETURN, 0, 0, _ERRNO | errno.EPERM)])
    code.add(_RETURN, _ALLOW)
    return code.packed()


def _clone(allow_processes: bool, notify: bool) -> list[_Step]:
    """Threads always; processes where they are allowed; a plain fork if the listener permits it; namespaces never."""
    refuse, allow = (_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ALLOW)
    steps = [(_LOAD, 0, 0, _ARG0), (_ANY_BIT, 0, 1, _CLONE_NEW), refuse]
    if allow_processes:
        return [*steps, allow]
    steps += [(_ANY_BIT, 0, 1, _CLONE_THREAD), allow]
    if notify:
        steps += [(_EQUAL, 0, 1, FORK_FLAGS), (_RETURN, 0, 0, _NOTIFY)]
    return [*steps, refuse]


def install(body: bytes, *, listen: bool = False) -> int:
    """Install a filter in this process for good; needs ``no_new_privs``.

    With ``listen`` returns the descriptor of the listener, otherwise -1.
    """
    holder = ctypes.create_string_buffer(body, len(body))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    whole = Program(len(body) // 8, ctypes.cast(holder, ctypes.c_void_p))
    flags = _NEW_LISTENER if listen else 0
    listener = kernel.syscall("seccomp filter", _SECCOMP[kernel.MACHINE], 1, flags, ctypes.byref(whole))
    return listener if listen else -1
