"""The queue: nothing is measured twice, a kill loses only what is in work, and every way of working gives the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.queue_jobs import jobs

from ferrule.evaluate.queue import QueueError, address_of, append, progress, results, work

ROOT = Path(__file__).parents[2]


def lines(folder: Path) -> dict[int, Any]:
    """What the records hold by number; a number that was measured twice is an error."""
    rows: dict[int, Any] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # half a line of a killed worker
            assert row["number"] not in rows, "measured twice"
            rows[row["number"]] = row["result"]
    return rows


def start(folder: Path, call: str, count: int, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.evaluate.queue_jobs", str(folder), call, str(count), str(workers)]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True)


def test_jobs_are_done_once_and_returned_by_address(tmp_path: Path) -> None:
    todo = jobs(tmp_path)
    shown: list[str] = []
    first = work(todo, tmp_path / "queue", show=shown.append)
    assert first == {job.address: {"square": i * i} for i, job in enumerate(todo)}
    assert shown[-1].startswith("6 done, 0 left")
    before = (tmp_path / "record0.jsonl").read_bytes()
    assert work(todo, tmp_path / "queue") == first
    assert (tmp_path / "record0.jsonl").read_bytes() == before
    assert lines(tmp_path) == {i: {"square": i * i} for i in range(6)}


def test_workers_have_one_thread(tmp_path: Path) -> None:
    before = dict(os.environ)
    rows = work(jobs(tmp_path, "threads", 2), tmp_path / "queue", workers=2)
    assert all(row == {"threads": "1"} for row in rows.values())
    assert dict(os.environ) == before


def test_a_failed_job_is_named_and_the_others_are_stored(tmp_path: Path) -> None:
    todo = jobs(tmp_path, "fails", 4)
    with pytest.raises(QueueError, match=r"1 of 4 measurements failed.*\nfails 1:(.|\n)*one is not measured"):
        work(todo, tmp_path / "queue", workers=2)
    assert lines(tmp_path) == {i: {"square": i * i} for i in (0, 2, 3)}


def test_another_address_is_measured_anew_and_stale_lines_are_left_out(tmp_path: Path) -> None:
    (job, *_) = jobs(tmp_path)
    append(job, {"square": 0}, 0.1)
    stale = address_of(call="square", number=0, golden="changed")
    assert stale != job.address
    assert results([job])[job.address]["result"] == {"square": 0}
    assert address_of(a=1, b=[2]) == address_of(b=[2], a=1)


def test_half_a_line_is_passed_over(tmp_path: Path) -> None:
    first, _, third, *_ = jobs(tmp_path)
    append(first, {"square": 0}, 0.1)
    with first.record.open("a") as file:
        file.write('{"address": "ab')  # killed while it wrote
    append(third, {"square": 4}, 0.1)
    assert set(results([first, third])) == {first.address, third.address}


def test_progress_says_done_left_and_time() -> None:
    """Three jobs took 60 s, so three more take as long; without a pace there is no estimate."""
    assert progress(6, 3, 6, 60.0) == "3 done, 3 left, about 1 min 0 s to go"
    assert progress(8, 3, 6, 60.0) == "5 done, 3 left, about 1 min 0 s to go"
    assert progress(6, 3, 3, 60.0) == "3 done, 3 left"
    assert progress(6, 0, 3, 60.0) == "6 done, 0 left"


def test_killed_ten_times_it_gives_the_records_of_an_undisturbed_run(tmp_path: Path) -> None:
    rng, count = random.Random(7), 30
    for _ in range(10):
        process = start(tmp_path, "slow_square", count, 2)
        time.sleep(rng.uniform(0.6, 1.6))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(tmp_path, "slow_square", count, 2).wait() == 0
    assert lines(tmp_path) == {i: {"square": i * i} for i in range(count)}


def test_two_starts_share_the_work(tmp_path: Path) -> None:
    both = [start(tmp_path, "slow_square", 12, 1) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert lines(tmp_path) == {i: {"square": i * i} for i in range(12)}


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    process = start(tmp_path, "slow_square", 20, 1)
    deadline = time.monotonic() + 60
    while len(lines(tmp_path)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    assert process.wait() == 0
    assert children
    assert lines(tmp_path) == {i: {"square": i * i} for i in range(20)}


@pytest.mark.slow
def test_ray_gives_equal_records(tmp_path: Path) -> None:
    todo = jobs(tmp_path / "ray", count=4)
    rows = work(todo, tmp_path / "queue", ray="local")
    assert rows == work(jobs(tmp_path / "here", count=4), tmp_path / "other")
    assert lines(tmp_path / "ray") == lines(tmp_path / "here")
