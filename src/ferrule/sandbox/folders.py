"""Copying a folder that hostile code may change meanwhile. Standard library only: the zygote loads it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

__all__ = ["copy_folder"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What a name says that was another kind of thing a moment ago, or is read a second time.
_CHANGED = (
    errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EINVAL, errno.EEXIST,
)  # fmt: skip
_DEPTH = 200
_ENTRIES = 16_384  # twice what the working folder of a session can hold


def copy_folder(source: int, target: int) -> None:
    """Copy what the open folder ``source`` holds into the open empty folder ``target``.

    Folders, regular files and the links themselves are copied, several names of one file as such; pipes, sockets and
    devices are left out, and so is what changes its kind or vanishes under our hands. Every step names one entry of a
    folder that is open and follows no link, so nothing outside of ``source``, or of its file system, can be reached.
    Opening a pipe does not wait. Raises ``OSError`` when it does not fit, when folders are nested too deeply, and when
    there is no end to the entries.
    """
    device, known, left = os.fstat(source).st_dev, dict[int, str](), _ENTRIES
    stack = [(source, target, "", _names(source))]
    try:
        while stack:
            here, there, path, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                if stack:
                    _like(there, os.fstat(here))
                    os.close(here)
                    os.close(there)
                continue
            left -= 1
            if left < 0 or len(stack) > _DEPTH:
                raise OSError(errno.E2BIG, "the working folder has too many entries, or too deep ones")
            try:
                below = _copy_entry(here, there, name, device, known, target, f"{path}{name}")
            except OSError as problem:
                if problem.errno not in _CHANGED:
                    raise
                continue
            if below is not None:
                stack.append((*below, f"{path}{name}/", _names(below[0])))
    finally:
        for here, there, _, _ in stack[1:]:
            os.close(here)
            os.close(there)


def _names(folder: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


def _copy_entry(
    here: int, there: int, name: str, device: int, known: dict[int, str], top: int, path: str
) -> tuple[int, int] | None:
    """Copy one entry; for a folder returns descriptors of it and of its empty copy."""
    kind = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
    if stat.S_ISLNK(kind):
        os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
    elif stat.S_ISDIR(kind) or stat.S_ISREG(kind):
        fd = os.open(name, _FOLDER if stat.S_ISDIR(kind) else _FILE, dir_fd=here)
        try:
            found = os.fstat(fd)  # what is open cannot be exchanged any more
            if found.st_dev == device and stat.S_ISDIR(found.st_mode):
                os.mkdir(name, 0o700, dir_fd=there)
                copied = os.open(name, _FOLDER, dir_fd=there)
                fd, kept = -1, fd
                return kept, copied
            if found.st_dev == device and stat.S_ISREG(found.st_mode) and not _linked(found, known, name, there, top):
                _copy_file(fd, found, name, there)
                if found.st_nlink > 1:
                    known[found.st_ino] = path
        finally:
            if fd >= 0:
                os.close(fd)
    return None


def _linked(found: os.stat_result, known: dict[int, str], name: str, there: int, top: int) -> bool:
    """Give a file that was copied under another name this name as well, where it has one."""
    if found.st_nlink < 2 or found.st_ino not in known:
        return False
    with contextlib.suppress(OSError):
        os.link(known[found.st_ino], name, src_dir_fd=top, dst_dir_fd=there, follow_symlinks=False)
        return True
    return False


def _copy_file(fd: int, found: os.stat_result, name: str, there: int) -> None:
    """Copy at most the bytes that the file had; holes stay holes."""
    copied = os.open(name, _NEW, 0o600, dir_fd=there)
    try:
        at, size, holes = 0, found.st_size, found.st_blocks * 512 < found.st_size
        while at < size:
            end = size
            if holes:
                try:
                    at = os.lseek(fd, at, os.SEEK_DATA)
                    end = min(size, os.lseek(fd, at, os.SEEK_HOLE))
                except OSError as problem:
                    if problem.errno != errno.ENXIO:
                        raise
                    break  # nothing but a hole is left
                os.lseek(copied, at, os.SEEK_SET)
            sent = os.sendfile(copied, fd, at, end - at) if end > at else 0
            if sent == 0:
                break  # it was cut
            at += sent
        if holes:
            os.ftruncate(copied, size)
        _like(copied, found)
    finally:
        os.close(copied)


def _like(fd: int, found: os.stat_result) -> None:
    os.fchmod(fd, stat.S_IMODE(found.st_mode))
    os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))
