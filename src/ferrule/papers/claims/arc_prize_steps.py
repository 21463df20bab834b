"""ARC Prize, the recursive network: 16 steps of supervision against one, with equal weights and equal updates."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from ferrule.policies.recursive import Recursive, Shape, answers_of
from ferrule.studies.conditions import at_least, less
from ferrule.studies.recurrent import one_thread, parameters
from ferrule.studies.standins.sudoku import SIDE, sudoku_rows
from ferrule.studies.study import Study
from ferrule.studies.tuning import Tuning
from ferrule.train.recursion import Supervision, supervise

__all__ = ["STUDY", "arm"]

CYCLES, INNER = 1, 1
"""Cycles of a step and changes of the latent state in a cycle: few, so that one step alone is shallow."""


def arm(
    *, seed: int, puzzles: int, held_out: int, updates: int, batch: int, learning_rate: float, steps: int
) -> dict[str, float]:
    """Train on Sudoku for ``updates`` updates with at most ``steps`` steps a row; return shares of held-out puzzles."""
    rows, test = sudoku_rows(puzzles, seed=seed), sudoku_rows(held_out, seed=seed, split="test")
    with one_thread():
        torch.manual_seed(seed)
        model = Recursive(Shape(cells=SIDE * SIDE, cycles=CYCLES, inner=INNER))
        how = Supervision(batch=batch, learning_rate=learning_rate, warm_up=50, most=steps, average=0.99)
        trained = supervise(model, rows, how, updates=updates, seed=seed)
        symbols, _ = answers_of(trained, test.input_NT, test.task_N, steps=steps)
    right = symbols == test.output_NT
    empty = test.input_NT != test.output_NT
    return {
        "solved": float(right.all(1).mean()),
        "cells": float(right[empty].mean()),
        "weights": float(parameters(model)),
        "clues": float(np.mean((~empty).sum(1))),
    }


MANY, ONE = "16 steps", "1 step"
STUDY = Study(
    paper="arc-prize",
    part="steps",
    statement="Sixteen steps of supervision solve more puzzles than one, with equal weights and equal updates.",
    falsifier="One step solves as many, or sixteen gain less than 5 points.",
    grade="B",
    trained="a recursive network of 108,161 weights from nothing, on Sudoku of four by four; held-out solutions",
    arms={ONE: partial(arm, steps=1), MANY: partial(arm, steps=16)},
    asks=(
        at_least("solved, 16 steps minus 1 step", less("solved", MANY, ONE), 0.05),
        at_least("empty cells right, 16 steps minus 1 step", less("cells", MANY, ONE), 0.0, decides=False),
    ),
    sizes={
        "small": {"puzzles": 1000, "held_out": 300, "updates": 4000, "batch": 64},
        "tiny": {"puzzles": 20, "held_out": 10, "updates": 4, "batch": 8, "learning_rate": 3e-3},
    },
    seeds=(100, 101, 102, 103, 104),
    setup={"cycles": CYCLES, "inner": INNER, "average": 0.99},
    tuning=Tuning("learning_rate", (3e-4, 1e-3, 3e-3), {"updates": 1500}, (0,), "cells"),
)
