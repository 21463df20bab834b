"""Fixtures that the whole test suite may use."""

from __future__ import annotations

import fcntl
import os
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


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Let torch use one thread: results of a matrix product then do not depend on the machine's load."""
    import torch

    torch.set_num_threads(1)


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
