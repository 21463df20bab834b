"""A small arena that tests play, kill and go on with, and a program that plays it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ferrule.evaluate.arena import Arena, play_arena
from ferrule.evaluate.queue import Show
from ferrule.papers import known

__all__ = ["SMALL", "cells", "play"]

# A step plays two tasks with two samples of some three tokens each, so that a run of grpo has about 27 steps and one
# checkpoint on its way, after 20.
SMALL = Arena(
    ("grpo", "dpo", "sft", "sft+otc"), ("arithmetic",), budget=300, seeds=1, groups=2, num_generations=2,
    max_completion_length=8, levels=(1,), eval_tasks=4, num_generations_eval=1,
)  # fmt: skip


def play(folder: Path, *, workers: int = 1, show: Show | None = None, **changes: Any) -> dict[str, Any]:
    """Play the small arena, with some settings changed."""
    return play_arena(replace(SMALL, **changes), known, folder, workers=workers, show=show)


def cells(result: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the cells of a result without their seconds, by recipe and seed."""
    kept = [{key: value for key, value in cell.items() if key != "seconds"} for cell in result["cells"]]
    return {(cell["recipe"], cell["seed"]): cell for cell in kept}


if __name__ == "__main__":
    play(Path(sys.argv[1]), recipes=tuple(sys.argv[2].split(",")))
