"""Jobs that the tests of the queue measure, importable by worker processes, and a program that does them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from ferrule.evaluate.queue import Job, address_of, work

__all__ = ["fails", "jobs", "slow_square", "square", "threads"]


def square(number: int) -> dict[str, int]:
    return {"square": number * number}


def slow_square(number: int) -> dict[str, int]:
    time.sleep(0.15)
    return {"square": number * number}


def threads(number: int) -> dict[str, str]:
    return {"threads": os.environ["OMP_NUM_THREADS"]}


def fails(number: int) -> dict[str, int]:
    if number == 1:
        raise RuntimeError("one is not measured")
    return square(number)


def jobs(folder: Path, call: str = "square", count: int = 6) -> list[Job]:
    """Return ``count`` jobs that write to two records."""
    return [
        Job(
            address_of(call=call, number=n),
            folder / f"record{n % 2}.jsonl",
            globals()[call],
            (n,),
            f"{call} {n}",
            {"number": n},
        )
        for n in range(count)
    ]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    work(jobs(place, sys.argv[2], int(sys.argv[3])), place / "queue", workers=int(sys.argv[4]))
