"""The queue of measurements: seconds of the same units with one worker and with two."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from common import arguments, report, spread

from ferrule import papers
from ferrule.evaluate.queue import work
from ferrule.studies.measure import jobs_of

UNITS = 60
"""Seeds of the arm that is measured; one unit takes about half a second."""


def seconds(workers: int) -> float:
    """Measure all units from nothing; the workers' start counts."""
    study = papers.study("otc").only("otc")
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        jobs = list(jobs_of(study, papers.measure, Path(folder), seeds=range(UNITS)).values())
        work(jobs, Path(folder), workers=workers)
        return time.perf_counter() - began


if __name__ == "__main__":
    options = arguments(__doc__ or "", repeats=5)
    one, two = [], []
    for _ in range(options.repeats):
        one.append(seconds(1))
        two.append(seconds(2))
    ratios = [a / b for a, b in zip(one, two, strict=True)]
    report(
        "work_queue", {"units": UNITS, "one": spread(one), "two": spread(two), "ratio": spread(ratios)}, options.json
    )
