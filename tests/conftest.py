"""Fixtures that the whole test suite may use."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# How fast examples are made says something about the machine only. A shared run should fail for what was changed, not
# for a draw; runs on your own machine keep drawing anew.
settings.register_profile("own", suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("shared", settings.get_profile("own"), derandomize=True)
settings.load_profile("shared" if os.environ.get("CI") else "own")


def long_first(modules: Iterable[list[pytest.Item]], workers: int) -> list[pytest.Item]:
    """Return all tests in an order that gives each of ``workers`` a share of the long modules, and those first.

    Worksteal cuts the order into one piece per worker, and later moves tests from the end of a piece. A piece that
    begins with what is long and ends with what is short leaves no worker alone with a long test. Modules stay whole,
    but for the short ones that a cut falls into, so that their fixtures are set up once.
    """
    whole = list(modules)
    long = [tests for tests in whole if any(map(_long, tests))]
    short = chain.from_iterable(tests for tests in whole if not any(map(_long, tests)))
    left, ordered = sum(map(len, whole)), list[pytest.Item]()
    for number in range(workers):
        piece = list(chain.from_iterable(long[number::workers]))
        piece += islice(short, max(0, left // (workers - number) - len(piece)))
        left -= len(piece)
        ordered += piece
    return [*ordered, *short]


def _long(item: pytest.Item) -> bool:
    return any(item.iter_markers("slow")) or any(item.iter_markers("integration"))


@pytest.hookimpl(trylast=True)  # what is deselected is gone by then
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what is long; see ``long_first``."""
    modules = [list(tests) for _, tests in groupby(items, lambda item: item.path)]
    items[:] = long_first(modules, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Let torch use one thread: results of a matrix product then do not depend on the machine's load."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Pages of runs are written without their pictures, which take longer than the steps of a tiny model.

    For folders whose tests train many such models and look at no picture; of module scope, so that runs which fixtures
    share are written the same way.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ferrule.view.report._drawn", lambda series, share, spoken, key: (b"", ""))
        yield


@pytest.fixture(scope="module")
def worked_here(one_thread: None) -> Iterator[None]:
    """Jobs for one worker are done in this process, after the way to another and back: a new one imports for seconds.

    Several workers stay processes, as in the tests of the queue itself.
    """
    from ferrule.evaluate import queue

    start = queue._in_processes

    def here(jobs: Sequence[queue.Job], locks: Path, workers: int, tell: Any) -> None:
        if workers > 1:
            start(jobs, locks, workers, tell)
            return
        for left, job in zip(range(len(jobs), 0, -1), pickle.loads(pickle.dumps(list(jobs))), strict=True):
            tell(left)
            with queue._taken(locks, job) as mine:
                assert mine, "another process holds a job of this one"
                queue._try(job, locks)
        tell(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "_in_processes", here)
        yield


@pytest.fixture
def tiny(one_thread: None) -> Any:
    """A ``Local`` policy on a fresh, seeded Llama of two layers and width 32 with a byte-level tokenizer."""
    from tests.toys import tiny_policy

    return tiny_policy()


@pytest.fixture(scope="session")
def smollm(pytestconfig: pytest.Config) -> Path:
    """The folder of ``smollm2-135m``: the user's own, else one beside pytest's cache that all test processes share."""
    from ferrule.policies.models import get, resolve

    source = resolve("smollm2-135m")
    if source.kind == "folder":
        return Path(source.where)
    assert pytestconfig.cache is not None
    shared = pytestconfig.cache.mkdir("models")
    with (shared / "lock").open("w") as lock:  # the first process fetches and converts, the others wait for it
        fcntl.flock(lock, fcntl.LOCK_EX)
        return get(source.name, shared)
