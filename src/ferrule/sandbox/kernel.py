"""Linux system calls that Python does not offer, by ctypes. Standard library only: the zygote loads it."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping
from typing import Final

__all__ = [
    "AUDIT_ARCH",
    "MACHINE",
    "NEWIPC",
    "NEWNET",
    "NEWNS",
    "NEWPID",
    "NEWUSER",
    "NEWUTS",
    "attach",
    "bind",
    "detached_tmpfs",
    "drop_bounding_set",
    "drop_capabilities",
    "freeze_mount",
    "make_private",
    "mount_tmpfs",
    "no_new_privileges",
    "pivot",
    "prctl",
    "set_namespace",
    "syscall",
    "unmount",
    "unshare",
]

MACHINE: Final = platform.machine()
AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 429, 430, 431, 432, 442  # the same on every machine

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return int(result)


def syscall(what: str, number: int, *arguments: object) -> int:
    """Make one system call by number; raises ``OSError`` that starts with ``what``."""
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), what)


def prctl(what: str, option: int, *arguments: int) -> int:
    """Call ``prctl`` with unsigned long arguments; raises ``OSError``."""
    filled = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_libc.prctl(ctypes.c_int(option), *filled), what)


def no_new_privileges() -> None:
    """Give up gaining rights by running set-user-id programs, for good."""
    prctl("no_new_privs", 38, 1)


def unshare(flags: int, what: str) -> None:
    """Move this process (for ``NEWPID``: its next children) to new namespaces."""
    _checked(_libc.unshare(ctypes.c_int(flags)), what)


def set_namespace(fd: int, kind: int) -> None:
    """Enter the namespace behind ``fd``."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if value is None else value.encode() for value in (source, target, kind, data)]
    _checked(_libc.mount(encoded[0], encoded[1], encoded[2], flags, encoded[3]), f"mount {target}")


def make_private() -> None:
    """Cut the mount table off from the host's, so that nothing done here shows there."""
    _mount(None, "/", None, _REC | _PRIVATE)


def mount_tmpfs(target: str, options: str, *, execute: bool = False) -> None:
    """Mount an empty memory file system."""
    _mount("tmpfs", target, "tmpfs", _NOSUID | _NODEV | (0 if execute else _NOEXEC), options)


def detached_tmpfs(options: Mapping[str, str]) -> int:
    """Make an empty memory file system that nobody sees yet; returns a descriptor of its root (Linux 5.2)."""
    context = syscall("fsopen tmpfs", _FSOPEN, ctypes.c_char_p(b"tmpfs"), 1)
    try:
        for key, value in options.items():
            name, text = ctypes.c_char_p(key.encode()), ctypes.c_char_p(value.encode())
            syscall(f"tmpfs option {key}", _FSCONFIG, context, 1, name, text, 0)
        syscall("tmpfs", _FSCONFIG, context, 6, None, None, 0)
        return syscall("fsmount", _FSMOUNT, context, 1, _NOSUID | _NODEV | 8)
    finally:
        os.close(context)


def attach(root: int, target: str) -> None:
    """Show the detached file system ``root`` at ``target``."""
    path = ctypes.c_char_p(target.encode())
    syscall(f"move_mount {target}", _MOVE_MOUNT, root, ctypes.c_char_p(b""), -100, path, 4)


def bind(source: str, target: str) -> None:
    """Show ``source`` at ``target`` as well, mounts below it included."""
    _mount(source, target, None, _BIND | _REC)


def freeze_mount(target: str, *, recursive: bool, devices: bool = False) -> None:
    """Make a mount read-only, without set-user-id and (unless ``devices``) without device files (Linux 5.12)."""
    attributes = (ctypes.c_uint64 * 4)(_RDONLY | _NOSUID | (0 if devices else _NODEV), 0, 0, 0)
    flags = 0x8000 if recursive else 0
    path = ctypes.c_char_p(target.encode())
    size = ctypes.c_size_t(32)
    syscall(f"mount_setattr {target}", _MOUNT_SETATTR, -100, path, flags, ctypes.byref(attributes), size)


def pivot(new_root: str, old_root: str) -> None:
    """Make ``new_root`` the root and put the old one at ``old_root`` below it."""
    syscall("pivot_root", _PIVOT_ROOT[MACHINE], ctypes.c_char_p(new_root.encode()), ctypes.c_char_p(old_root.encode()))


def unmount(target: str) -> None:
    """Detach a mount and all below it."""
    _checked(_libc.umount2(target.encode(), ctypes.c_int(2)), f"umount {target}")


def drop_bounding_set() -> None:
    """Give up the capabilities that a later program could gain."""
    for capability in range(64):
        try:
            prctl("drop bounding set", 24, capability)
        except OSError:
            break  # past the last capability of this kernel


def drop_capabilities() -> None:
    """Give up every capability, also those that a later program could gain."""
    drop_bounding_set()
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    syscall("capset", _CAPSET[MACHINE], ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))
