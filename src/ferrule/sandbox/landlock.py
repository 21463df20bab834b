"""Landlock rules: a second limit on the file system and TCP. Standard library only: the zygote loads it."""

from __future__ import annotations

import ctypes
import os
import struct

from ferrule.sandbox import kernel

__all__ = ["restrict", "ruleset", "version"]

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every machine
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1, 2, 4, 8, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR


def version() -> int:
    """Return the Landlock ABI of the kernel, 0 where it has none or it is switched off."""
    try:
        return kernel.syscall("landlock", _CREATE, None, ctypes.c_size_t(0), 1)
    except OSError:
        return 0


def _rights(abi: int) -> int:
    """All file system rights that this ABI can take away."""
    return (1 << (13 + (abi >= 2) + (abi >= 3) + (abi >= 5))) - 1


def ruleset(writable: str, devices: str) -> tuple[int, int]:
    """Make the rules: reading everywhere, writing below ``writable`` and to the files of ``devices``.

    From ABI 4 TCP is refused, from ABI 6 also signals and abstract sockets beyond this process tree. Returns their
    descriptor, which any number of processes may use, and the ABI; (-1, 0) where the kernel has no Landlock.
    """
    abi = version()
    if abi == 0:
        return -1, 0
    everything = _rights(abi)
    attributes = struct.pack("QQQ", everything, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    holder = ctypes.create_string_buffer(attributes, len(attributes))
    rules = kernel.syscall("landlock ruleset", _CREATE, holder, ctypes.c_size_t(size), 0)
    for path, rights in (("/", _READ), (devices, _READ | _WRITE_FILE | _TRUNCATE), (writable, everything)):
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights & everything, fd), 12)
        kernel.syscall(f"landlock rule {path}", _ADD, rules, 1, rule, 0)
        os.close(fd)
    return rules, abi


def restrict(rules: int) -> None:
    """Put this process under ``rules`` for good; needs ``no_new_privs``."""
    if rules >= 0:
        kernel.syscall("landlock", _RESTRICT, rules, 0)
