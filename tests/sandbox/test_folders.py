"""Copying a folder by descriptors: what is copied, and what a race cannot do to it."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ferrule.sandbox.folders import copy_folder

EXCHANGE = 2
AT_FDCWD = -100
libc = ctypes.CDLL(None)


def copied(source: Path, target: Path) -> Path:
    target.mkdir()
    ours, theirs = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target))
    try:
        copy_folder(ours, theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    return target


def test_what_is_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "text").write_text("x", encoding="ascii")
    (source / "a" / "text").chmod(0o640)
    os.link(source / "a" / "text", source / "again")
    (source / "away").symlink_to("/etc")
    os.mkfifo(source / "pipe")
    with (source / "holes").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"y" * 100)
    (source / "a").chmod(0o550)
    target = copied(source, tmp_path / "target")
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*")) == [
        "a", "a/b", "a/text", "again", "away", "holes",
    ]  # fmt: skip
    assert (target / "a").stat().st_mode & 0o777 == 0o550
    assert (target / "a" / "text").stat().st_mode & 0o777 == 0o640
    assert (target / "again").samefile(target / "a" / "text")
    assert os.readlink(target / "away") == "/etc"
    assert (target / "holes").read_bytes() == (source / "holes").read_bytes()
    assert (target / "holes").stat().st_blocks <= (source / "holes").stat().st_blocks


def test_folders_without_end_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    below = os.open(source, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=below)
        deeper = os.open("d", os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = deeper
    os.close(below)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="too many entries, or too deep ones"):
        copied(source, tmp_path / "target")
    assert len(os.listdir("/proc/self/fd")) == before


def _link(secret: Path) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(secret)


@pytest.mark.parametrize("kind", ["pipe", "link to a file", "link to a folder"])
def test_what_is_exchanged_meanwhile_leads_nowhere(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "outside"
    secret.mkdir()
    (secret / "c").write_text("gold", encoding="ascii")
    source = tmp_path / "source"
    source.mkdir()
    make = {"pipe": os.mkfifo, "link to a file": _link(secret / "c"), "link to a folder": _link(secret)}[kind]
    for number in range(20):
        if kind == "link to a folder":
            (source / f"b{number}").mkdir()
            (source / f"b{number}" / "c").write_text("own", encoding="ascii")
        else:
            (source / f"b{number}").write_text("own", encoding="ascii")
        make(source / f"a{number}")
    names = [(os.fsencode(source / f"a{number}"), os.fsencode(source / f"b{number}")) for number in range(20)]
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for first, second in names:
                libc.renameat2(AT_FDCWD, first, AT_FDCWD, second, EXCHANGE)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        end, rounds = time.monotonic() + 3, 0
        while time.monotonic() < end or rounds < 20:
            target = copied(source, tmp_path / f"target{rounds}")
            texts = {path.read_text() for path in target.rglob("*") if path.is_file() and not path.is_symlink()}
            assert texts <= {"own"}
            rounds += 1
    finally:
        over.set()
        swapper.join()
