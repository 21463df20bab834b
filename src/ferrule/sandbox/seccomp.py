"""The system call filter of isolated interpreters. Standard library only: the zygote loads it.

A list of refusals rather than of permissions: Python packages use too many calls for the second to stay right. The
namespaces are the wall; the filter takes away the parts of the kernel in which holes in that wall were found before.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from ferrule.sandbox import kernel

__all__ = ["install", "program"]

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
    "unshare": (272, 97),
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
}
_PROCESSES = {"fork": (57, -1), "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281)}
_CLONE = {"x86_64": 56, "aarch64": 220}
_IOCTL = {"x86_64": 16, "aarch64": 29}
_CLONE3 = 435
_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000  # all namespace flags that clone takes
_TIOCSTI = 0x5412

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24


def program(machine: str, allow_processes: bool) -> bytes:
    """Return the filter as BPF instructions; refused calls fail with ``EPERM`` (``clone3`` with ``ENOSYS``).

    ``clone3`` hides its flags behind a pointer that a filter cannot read; ``ENOSYS`` makes libc use ``clone``
    instead. Raises ``ValueError`` for a machine whose call numbers are not known.
    """
    if machine not in kernel.AUDIT_ARCH:
        raise ValueError(f"no system call table for {machine!r}; known: {', '.join(sorted(kernel.AUDIT_ARCH))}")
    column = list(kernel.AUDIT_ARCH).index(machine)
    code: list[tuple[int, int, int, int]] = []

    def add(operation: int, k: int, yes: int = 0, no: int = 0) -> None:
        code.append((operation, yes, no, k))

    def refuse(number: int = errno.EPERM) -> None:
        add(_RETURN, _ERRNO | number)

    add(_LOAD, _ARCH)
    add(_EQUAL, kernel.AUDIT_ARCH[machine], yes=1)
    add(_RETURN, _KILL)
    add(_LOAD, _NR)
    add(_AT_LEAST, 0x40000000, no=1)  # the second table of call numbers that x86-64 has
    refuse()
    for table in (_REFUSED, {} if allow_processes else _PROCESSES):
        for numbers in table.values():
            if numbers[column] >= 0:
                add(_EQUAL, numbers[column], no=1)
                refuse()
    add(_EQUAL, _CLONE3, no=1)
    refuse(errno.ENOSYS)
    add(_EQUAL, _CLONE[machine], no=4 if allow_processes else 6)
    add(_LOAD, _ARG0)
    add(_ANY_BIT, _CLONE_NEW, no=1)
    refuse()
    if not allow_processes:
        add(_ANY_BIT, _CLONE_THREAD, yes=1)
        refuse()
    add(_RETURN, _ALLOW)
    add(_EQUAL, _IOCTL[machine], no=3)
    add(_LOAD, _ARG1)
    add(_EQUAL, _TIOCSTI, no=1)  # typing into the terminal of whoever started us
    refuse()
    add(_RETURN, _ALLOW)
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def install(allow_processes: bool) -> None:
    """Install the filter in this process for good; needs ``no_new_privs``."""
    body = program(kernel.MACHINE, allow_processes)
    holder = ctypes.create_string_buffer(body, len(body))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    whole = Program(len(body) // 8, ctypes.cast(holder, ctypes.c_void_p))
    kernel.prctl("seccomp filter", 22, 2, ctypes.addressof(whole))
