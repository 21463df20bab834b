"""Run pytest as an ordinary user: ``python as_user.py FOLDER OPTIONS...`` (as root; the user gets FOLDER).

Root's Python and checkout may lie where nobody else can look, so this process first shows them at the same paths, in a
mount namespace of its own.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

USER = 54_321


def hidden(path: Path) -> Path | None:
    """The outermost folder on the way to ``path`` that others cannot enter; None when all is open."""
    for folder in [*reversed(path.parents), path]:
        if folder.is_dir() and not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def show(paths: list[Path]) -> None:
    """Show each path to everybody, and nothing else of the closed folders above it."""
    from ferrule.sandbox import kernel

    kernel.unshare(kernel.NEWNS, "mount namespace")
    kernel.make_private()
    closed = {path: above for path in paths if (above := hidden(path)) is not None}
    kept = {path: os.open(path, os.O_PATH) for path in closed}
    for folder in sorted(set(closed.values())):
        kernel.mount_tmpfs(str(folder), "mode=755", execute=True)
    for path, fd in sorted(kept.items()):
        path.mkdir(parents=True, exist_ok=True)
        kernel.bind(f"/proc/self/fd/{fd}", str(path))
        os.close(fd)


def main(folder: str, options: list[str]) -> None:
    """Become the user and go on as pytest."""
    os.umask(0o022)
    show([Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path.cwd().resolve()])
    os.chown(folder, USER, USER)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    os.environ.update(HOME=folder, TMPDIR=folder, PYTHONDONTWRITEBYTECODE="1")
    own = ["-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", f"{folder}/tests"]
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *own, *options])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
