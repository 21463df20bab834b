"""A small arena with two columns, for tests that play it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ferrule.evaluate import queue
from ferrule.evaluate.columns import columns_of
from ferrule.evaluate.methods import Known
from ferrule.evaluate.profile import Profile, play_profile
from ferrule.papers import known

__all__ = ["SMALL", "play"]


@cache
def _known() -> Known:
    return known()


SMALL = Profile(
    ("grpo", "sft"), columns_of(("unneeded@1", "chains@1")), budget=48, rates=(1e-4, 3e-4), seeds=1, groups=1,
    num_generations=2, max_completion_length=6, max_tool_calling_iterations=2, eval_tasks=2, num_generations_eval=1,
    curve_tasks=1,
)  # fmt: skip


def play(folder: Path, *, units: Path | None = None, **changes: Any) -> dict[str, Any]:
    """Play the small arena in this process, with some settings changed."""

    def here(jobs: Sequence[queue.Job], locks: Path, *_: Any) -> None:
        for job in jobs:
            queue.append(job, job.call(*job.arguments), 0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "_in_processes", here)
        patch.setattr("ferrule.train.folder.report", lambda folder: None)  # a page per quarter takes longest
        return play_profile(replace(SMALL, **changes), _known, folder, units=units)
