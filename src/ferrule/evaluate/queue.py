"""A queue of measurements: any number of workers take jobs from it, and a finished job is on disk at once.

A job is taken by locking a file, and the lock ends with its process, however that ends: ``kill -9`` loses the job in
work and nothing else, and a second start goes on with what is left. Results are JSON lines, found by the job's address.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Job", "QueueError", "Show", "address_of", "append", "progress", "results", "work"]

Show = Callable[[str], None]
Tell = Callable[[int], None]


class QueueError(RuntimeError):
    """Jobs failed; the message says which and why. What finished is stored."""


@dataclass(frozen=True)
class Job:
    """One measurement: ``call(*arguments)`` returns JSON data, which is appended to ``record`` with its ``address``.

    ``address`` is a digest of all that the result depends on (``address_of``): a result with the same address is not
    measured again. ``call`` must be importable by its name. ``about`` is stored beside the result.
    """

    address: str
    record: Path
    call: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    label: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


def address_of(**parts: Any) -> str:
    """Return the digest of everything that a result depends on (JSON data by name)."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def results(jobs: Iterable[Job]) -> dict[str, Any]:
    """Return the stored lines of finished jobs by address; lines of other addresses are stale and left out."""
    wanted: dict[Path, set[str]] = {}
    for job in jobs:
        wanted.setdefault(job.record, set()).add(job.address)
    lines: dict[str, Any] = {}
    for record, addresses in wanted.items():
        lines |= {line["address"]: line for line in _lines(record) if line["address"] in addresses}
    return lines


def _lines(record: Path) -> Iterator[dict[str, Any]]:
    if not record.is_file():
        return
    for line in record.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # the half line of a killed worker
            yield json.loads(line)


def append(job: Job, result: Any, seconds: float) -> None:
    """Append one finished job to its record and flush it to disk."""
    job.record.parent.mkdir(parents=True, exist_ok=True)
    row = {"address": job.address, **job.about, "result": result, "seconds": round(seconds, 2)}
    with job.record.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a killed worker left half a line
                file.write(b"\n")
        file.write(json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def work(
    jobs: Sequence[Job], folder: Path, *, workers: int = 1, ray: str | None = None, show: Show | None = None
) -> dict[str, Any]:
    """Do all jobs that have no result yet and return the result of every job by address.

    ``workers`` processes of one thread each take jobs; further processes may work on the same ``folder`` at the same
    time. With ``ray`` (an address, ``auto`` or ``local``) the jobs are done by the workers of a Ray cluster instead.
    Ctrl-C waits for the workers to end: at the next checkpoint of a job that keeps some, else at once.
    ``show`` is given a line whenever something was finished. Raises ``QueueError`` at the end when jobs failed.
    """
    locks = folder / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    for old in locks.glob("*.failed"):
        old.unlink(missing_ok=True)
    finished = results(jobs)
    todo = [job for job in jobs if job.address not in finished]
    if todo and ray is not None:
        _on_ray(todo, locks, ray, _teller(len(jobs), len(todo), show))
    elif todo:
        _in_processes(todo, locks, min(workers, len(todo)), _teller(len(jobs), len(todo), show))
    failed = {path.stem: path.read_text(encoding="utf-8") for path in locks.glob("*.failed")}
    messages = [f"{job.label or job.address}:\n{failed[job.address]}" for job in jobs if job.address in failed]
    if messages:
        raise QueueError(
            f"{len(messages)} of {len(jobs)} measurements failed; the others are stored.\n" + "\n".join(messages)
        )
    return {address: line["result"] for address, line in results(jobs).items()}


def progress(total: int, left: int, begun: int, seconds: float) -> str:
    """Return a line that says how many of ``total`` jobs are done and left, and the time left at the pace so far.

    ``begun`` jobs were left ``seconds`` ago.
    """
    line = f"{total - left} done, {left} left"
    if not left or begun <= left:
        return line
    return f"{line}, about {_duration(left * seconds / (begun - left))} to go"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _teller(total: int, todo: int, show: Show | None) -> Tell:
    """Return a function that is told how many jobs are left, and shows the progress when that has changed."""
    began, last = time.monotonic(), [todo]

    def tell(left: int) -> None:
        if show is not None and left != last[0]:
            last[0] = left
            show(progress(total, left, todo, time.monotonic() - began))

    return tell


@contextlib.contextmanager
def _taken(locks: Path, job: Job) -> Iterator[bool]:
    """Hold a job while it is in work; False when another process holds it."""
    with (locks / f"{job.address}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _try(job: Job, locks: Path) -> None:
    """Do one job and store its result, or why it failed."""
    try:
        append(job, *_call(job.call, job.arguments))
    except Exception:
        (locks / f"{job.address}.failed").write_text(traceback.format_exc(), encoding="utf-8")


def _worker(jobs: Sequence[Job], locks: Path, parent: int) -> None:
    """Take jobs until all are done; a Ctrl-C, which a terminal sends to the workers as well, ends the job in work."""
    with contextlib.suppress(KeyboardInterrupt):
        _loop(jobs, locks, parent)


def _loop(jobs: Sequence[Job], locks: Path, parent: int) -> None:
    """Take one job after the other until all are done or failed, or the process that asked is gone or gave up."""
    left = list(jobs)
    while left:
        busy = []
        for job in left:
            if os.getppid() != parent or _given_up(locks, parent).exists():
                return
            with _taken(locks, job) as mine:
                if not mine:
                    busy.append(job)
                elif job.address not in results([job]) and not (locks / f"{job.address}.failed").exists():
                    _try(job, locks)
        left = busy  # held by others: looked at again, in case they are killed
        if left:
            time.sleep(0.2)


def _in_processes(jobs: Sequence[Job], locks: Path, workers: int, tell: Tell) -> None:
    """Let worker processes of one thread each do the jobs; one that is lost is replaced as long as jobs get done."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    live: list[Any] = []
    lost, done = 0, -1
    with _one_thread(), _ended(live, locks):
        while True:
            live[:] = [process for process in live if process.is_alive()]
            over = {path.stem for path in locks.glob("*.failed")} | set(results(jobs))
            left = [job for job in jobs if job.address not in over]
            tell(len(left))
            if not left:
                break
            if len(jobs) - len(left) > done:
                lost, done = 0, len(jobs) - len(left)
            while len(live) < min(workers, len(left)):
                if lost > 2 * workers:
                    raise QueueError(f"workers die without finishing a job; the next one is {left[0].label}")
                process = context.Process(target=_worker, args=(left, locks, os.getpid()), daemon=True)
                process.start()
                live.append(process)
                lost += 1
            live[0].join(0.5)


def _given_up(locks: Path, process: int) -> Path:
    """The file that tells the workers of a process to take no further job."""
    return locks / f"{process}.given-up"


@contextlib.contextmanager
def _ended(live: Sequence[Any], locks: Path) -> Iterator[None]:
    """Wait for the workers in the end, after Ctrl-C as well: jobs that keep checkpoints write their last one."""
    sign = _given_up(locks, os.getpid())
    sign.unlink(missing_ok=True)
    try:
        yield
    except KeyboardInterrupt:
        sign.touch()
        raise
    finally:
        for process in live:
            process.join()
        sign.unlink(missing_ok=True)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Start processes with one thread each: sums depend on the number of threads in their last digits."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _on_ray(jobs: Sequence[Job], locks: Path, address: str, tell: Tell) -> None:
    """Let a Ray cluster do the jobs, one core and one thread each; results are stored here."""
    try:
        import ray as library
    except ImportError as error:
        raise ImportError('work on Ray needs its package: pip install "ferrule[ray]"') from error

    mine = not library.is_initialized()
    if mine:
        given = None if address == "local" else address
        library.init(address=given, include_dashboard=False, log_to_driver=False, logging_level=30)
    environment = {
        "env_vars": {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    }
    try:
        remote = library.remote(num_cpus=1, max_retries=3, runtime_env=environment)(_call)
        with contextlib.ExitStack() as stack:
            free = [job for job in jobs if stack.enter_context(_taken(locks, job))]
            waiting = {remote.remote(job.call, job.arguments): job for job in free}
            while waiting:
                (ready, *_), _ = library.wait(list(waiting), num_returns=1)
                job = waiting.pop(ready)
                try:
                    append(job, *library.get(ready))
                except library.exceptions.RayError as error:
                    (locks / f"{job.address}.failed").write_text(str(error), encoding="utf-8")
                tell(len(waiting))
    finally:
        if mine:
            library.shutdown()


def _call(call: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    began = time.monotonic()
    result = call(*arguments)
    return result, time.monotonic() - began
