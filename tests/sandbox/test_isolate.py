"""What a host offers is found by trying; what it lacks is refused, never silently left out."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ferrule.sandbox import isolate, kernel, landlock, seccomp
from ferrule.sandbox.doctor import doctor
from ferrule.sandbox.frames import ProtocolError, checked_run, take_frame
from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.isolate import choose, probe
from ferrule.sandbox.settings import IsolationUnavailable, Settings, view


def lacking(**missing: str) -> Callable[[str], str]:
    return lambda mode: missing.get(mode, "")


def test_auto_takes_the_strongest_and_never_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolate, "_lacking", lacking())
    assert choose(Settings()) == "namespaces"
    monkeypatch.setattr(isolate, "_lacking", lacking(namespaces="no user namespace"))
    assert choose(Settings()) == "bubblewrap"
    with pytest.raises(IsolationUnavailable, match=r"'namespaces' is not available here: .*no user namespace.*doctor"):
        choose(Settings(isolation="namespaces"))
    monkeypatch.setattr(isolate, "_lacking", lacking(namespaces="no user namespace", bubblewrap="no bwrap"))
    with pytest.raises(IsolationUnavailable, match="namespaces: no user namespace; bubblewrap: no bwrap"):
        choose(Settings())
    assert choose(Settings(isolation="none")) == "none"


def inside(code: str) -> str:
    """Run Python code in a process of its own and return its output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_host_without_namespaces_really_refuses() -> None:
    # The filter of our own sandbox takes namespaces and mounts away, from bubblewrap as well.
    said = inside(
        "from ferrule.sandbox import kernel, seccomp\n"
        "from ferrule.sandbox.interpreter import Interpreter\n"
        "from ferrule.sandbox.settings import IsolationUnavailable, Settings\n"
        "kernel.no_new_privileges()\n"
        "seccomp.install(seccomp.program(kernel.MACHINE, True))\n"
        "for mode in ('auto', 'namespaces', 'bubblewrap'):\n"
        "    try:\n"
        "        Interpreter(Settings(isolation=mode))\n"
        "    except IsolationUnavailable as problem:\n"
        "        print(mode, 'refused', 'ferrule doctor' in str(problem))\n"
        "print(Interpreter(Settings(isolation='none')).run('1 + 1').text)\n"
    )
    assert said.splitlines() == ["auto refused True", "namespaces refused True", "bubblewrap refused True", "2"]


def test_the_filter_refuses_what_it_should() -> None:
    said = inside(
        "import os, socket, threading\n"
        "from ferrule.sandbox import kernel, seccomp\n"
        "kernel.no_new_privileges()\n"
        "seccomp.install(seccomp.program(kernel.MACHINE, False))\n"
        "def tried(f):\n"
        "    try:\n"
        "        f()\n"
        "        return 'allowed'\n"
        "    except OSError as problem:\n"
        "        return problem.errno\n"
        "print(tried(lambda: socket.socket(socket.AF_INET)), tried(lambda: socket.socket(socket.AF_UNIX)))\n"
        "print(tried(os.fork), tried(lambda: os.execv('/bin/true', ['true'])))\n"
        "print(tried(lambda: os.posix_spawn('/bin/true', ['a'], {})))\n"
        "print(tried(lambda: kernel.unshare(kernel.NEWUSER, 'u')), tried(lambda: kernel.mount_tmpfs('/mnt', '')))\n"
        "print(tried(lambda: os.memfd_create('m')), tried(lambda: kernel.syscall('io_uring', 425, 1, None)))\n"
        "t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()\n"
        "print(tried(socket.socketpair), tried(lambda: open('/dev/null').close()))\n"
    )
    assert said.splitlines() == ["1 1", "1 1", "1", "1 1", "1 1", "thread", "allowed allowed"]


def test_the_filter_may_allow_processes_but_no_new_namespaces() -> None:
    said = inside(
        "import os, subprocess\n"
        "from ferrule.sandbox import kernel, seccomp\n"
        "kernel.no_new_privileges()\n"
        "seccomp.install(seccomp.program(kernel.MACHINE, True))\n"
        "print(subprocess.run(['/bin/echo', 'hi'], capture_output=True, text=True).stdout.strip())\n"
        "try:\n"
        "    kernel.syscall('clone', 56 if kernel.MACHINE == 'x86_64' else 220, kernel.NEWUSER | 17, 0, 0, 0, 0)\n"
        "except OSError as problem:\n"
        "    print(problem.errno)\n"
    )
    assert said.splitlines() == ["hi", "1"]


@pytest.mark.parametrize("machine", sorted(kernel.AUDIT_ARCH))
@pytest.mark.parametrize("allow", [True, False])
@pytest.mark.parametrize("notify", [True, False])
def test_the_filter_jumps_within_itself(machine: str, allow: bool, notify: bool) -> None:
    body = seccomp.program(machine, allow, notify=notify)
    code = [struct.unpack_from("HBBI", body, at) for at in range(0, len(body), 8)]
    for at, (operation, yes, no, _) in enumerate(code):
        if operation & 7 == 5:
            assert at + 1 + max(yes, no) < len(code)
    assert code[-1] == (0x06, 0, 0, 0x7FFF0000)
    assert len(code) < 4096
    with pytest.raises(ValueError, match="no system call table for 'riscv64'"):
        seccomp.program("riscv64", allow)


def test_landlock_alone_keeps_files_out(tmp_path: Path) -> None:
    box, outside = tmp_path / "box", tmp_path / "outside"
    box.mkdir()
    outside.mkdir()
    (outside / "file").write_text("x", encoding="utf-8")
    said = inside(
        "import os\n"
        "from ferrule.sandbox import kernel, landlock\n"
        "kernel.no_new_privileges()\n"
        f"rules, abi = landlock.ruleset({str(box)!r}, '/dev'); landlock.restrict(rules)\n"
        f"open({str(box / 'new')!r}, 'w').close()\n"
        f"open({str(outside / 'file')!r}).close()\n"
        "open('/dev/null', 'w').close()\n"
        "def tried(f):\n"
        "    try:\n"
        "        f()\n"
        "        return True\n"
        "    except PermissionError:\n"
        "        return False\n"
        f"print(abi, tried(lambda: open({str(outside / 'file')!r}, 'a')), end=' ')\n"
        f"print(tried(lambda: os.mkdir({str(outside / 'd')!r})))\n"
    )
    abi = landlock.version()
    assert said == (f"{abi} False False" if abi else "0 True True")


def test_the_report_and_doctor_say_how_each_was_found() -> None:
    report = probe()
    assert report.auto in ("namespaces", "bubblewrap", None)
    assert (report.auto is None) == (not report["namespaces"].available and not report["bubblewrap"].available)
    assert all(feature.detail for feature in report.features)
    with pytest.raises(KeyError, match="no feature 'jail'"):
        report["jail"]
    found = doctor()
    assert json.loads(json.dumps(found)) == found
    assert found["isolation"]["auto"] == report.auto
    assert found["cpu"]["cores"] >= 1
    assert found["versions"]["numpy"]


def test_the_view_shows_no_personal_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    binds, _, folders = view(True)
    assert not {"/", "/home", "/root", "/tmp", "/var", "/proc", "/sys", "/etc", str(Path.home())} & set(binds)
    assert all(not a.startswith(f"{b}/") for a in binds for b in binds)
    assert all(Path(folder).name in ("site-packages", "dist-packages") for folder in folders)
    assert view(False)[2] == []
    monkeypatch.setattr(sys, "base_prefix", str(Path.home()))
    assert str(Path.home()) not in view(False)[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"isolation": "docker"}, "known: auto, bubblewrap, namespaces, none"),
        ({"seconds": 0}, "seconds is 0"),
        ({"tasks": 0}, "tasks is 0; the least is 1"),
        ({"output_limit": 5_000_000}, "the most is 4000000"),
        ({"preload": ("no_such_module",)}, "'no_such_module', which is not installed"),
        ({"preload": ("numpy",), "packages": False}, "would do nothing"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(**changes)  # type: ignore[arg-type]


ANSWER = {
    "id": "a",
    "status": "ok",
    "value": "1",
    "exception": None,
    "kind": None,
    "line": None,
    "peak": 9,
    "dropped": [0, 0],
    "files": [{"name": "f", "size": 1, "body": "eA=="}],
}


def test_frames_are_read_with_suspicion() -> None:
    body = json.dumps(ANSWER).encode()
    frame = struct.pack(">I", len(body)) + body
    assert take_frame(bytearray(frame[:3]), 1000) is None
    assert take_frame(bytearray(frame[:-1]), 1000) is None
    assert take_frame(bytearray(frame), 1000) == ANSWER
    for bad in (b"\xff" * 8, struct.pack(">I", 1) + b"{", struct.pack(">I", 900) + b"[" * 900):
        with pytest.raises(ProtocolError):
            take_frame(bytearray(bad), 1000)
    twice = bytearray(frame + b"x")
    assert take_frame(twice, 1000) == ANSWER
    assert twice == b"x"


@pytest.mark.parametrize(
    "change",
    [
        {"status": "refused"},
        {"value": 3},
        {"value": "x" * 500},
        {"dropped": [1]},
        {"dropped": [-1, 0]},
        {"dropped": [True, 0]},
        {"exception": []},
        {"line": "3"},
        {"peak": None},
        {"peak": -1},
        {"files": None},
        {"files": [{"name": "f", "size": 1, "body": "not base64!"}]},
        {"files": [{"name": 3, "size": 1, "body": None}]},
        {"files": [{"name": "f", "size": "big", "body": None}]},
        {"files": [{"name": "f" * 5000, "size": 1, "body": None}]},
        {"files": [{"name": "f", "size": 1, "body": None}] * 65},
    ],
)
def test_answers_are_read_with_suspicion(change: dict[str, object]) -> None:
    assert checked_run(dict(ANSWER), 10) == ANSWER
    with pytest.raises(ProtocolError, match="unexpected fields"):
        checked_run({**ANSWER, **change}, 10)


def test_asking_for_a_missing_mode_names_what_is_missing() -> None:
    for mode in ("namespaces", "bubblewrap"):
        if not probe()[mode].available:
            with pytest.raises(IsolationUnavailable, match=mode):
                Interpreter(Settings(isolation=mode))
        else:
            with Interpreter(Settings(isolation=mode)) as python:
                assert python.mode == mode
