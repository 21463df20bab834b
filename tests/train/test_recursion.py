"""Training recursive networks: the loss by hand, the carry, and a puzzle that is learned and answered as a policy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Message, plain_text
from ferrule.data.canvas import CanvasRows
from ferrule.evaluate.evaluate import evaluate
from ferrule.policies.recursive import Recursive, Shape
from ferrule.policies.solver import GridSolver
from ferrule.train.recursion import Supervision, fit_puzzles, loss_of, supervise
from ferrule.worlds.grids import Grids, task_of
from ferrule.worlds.puzzles import Puzzle

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = Shape(cells=4, width=16, heads=2, cycles=2, inner=1)


def test_the_loss() -> None:
    """Row 1: stablemax of (2, 0) is (3/4, 1/4), twice right; its halting logit 0 costs ln 2. Row 2: one pad, one wrong.

    (-ln .75 + .5 ln 2 + -ln .25 + .5 ln 2) / 2, the pad left out; with pads the second row averages over two cells.
    """
    logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[2.0, 0.0], [2.0, 0.0]]])
    outputs, halt = torch.tensor([[0, 1], [0, 1]]), torch.zeros(2)
    pads = loss_of(logits, halt, outputs, pads=True).item()
    first, second = -math.log(0.75), (-math.log(0.75) - math.log(0.25)) / 2
    assert pads == pytest.approx((first + second) / 2 + 0.5 * math.log(2))
    without = loss_of(logits, halt, outputs).item()  # symbol 0 is a pad, so the second cell of each row counts alone
    assert without == pytest.approx((-math.log(0.75) - math.log(0.25)) / 2 + 0.5 * math.log(2))
    sure = loss_of(logits[:1], torch.tensor([20.0]), outputs[:1]).item()  # right and sure of it costs nothing more
    assert sure == pytest.approx(-math.log(0.75), abs=1e-6)


def rows(count: int = 6) -> CanvasRows:
    inputs = np.random.default_rng(1).integers(2, 6, (count, 4))
    return CanvasRows(inputs, inputs[:, ::-1].copy(), np.zeros(count, dtype=np.int64))


def trained(updates: int = 12, **settings: Any) -> tuple[Recursive, list[float]]:
    torch.manual_seed(0)
    model, losses = Recursive(TINY), []
    how = Supervision(batch=6, learning_rate=3e-3, warm_up=1, average=0.5, **settings)
    return supervise(model, rows(), how, updates=updates, seed=1, watch=losses.append), losses


def test_training_repeats_and_learns() -> None:
    (one, losses), (other, same) = trained(40), trained(40)
    assert losses == same
    assert torch.equal(one.head.weight, other.head.weight)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_states_are_carried() -> None:
    """With one step per row the state begins anew each time; the first loss is the same, later ones are not."""
    (_, carries), (_, anew) = trained(most=4), trained(most=1)
    assert carries[0] == anew[0]
    assert carries[1:] != anew[1:]


def test_the_average_lags_behind() -> None:
    torch.manual_seed(0)
    model = Recursive(TINY)
    before = model.head.weight.detach().clone()
    average = supervise(model, rows(), Supervision(batch=6, warm_up=1, average=0.9), updates=3)
    gap = (model.head.weight - before).abs().sum()
    assert 0 < (average.head.weight - before).abs().sum() < gap
    with pytest.raises(ValueError, match="the least is 1 step"):
        Supervision(most=0)


def test_a_puzzle_is_learned_and_answered_as_a_policy() -> None:
    """The output is the input mirrored; the test grid is a demonstration with other colours, so variants teach it."""
    pairs = tuple((((a, b),), ((b, a),)) for a, b in ((1, 2), (3, 1), (2, 3), (4, 2), (1, 4)))
    puzzle = Puzzle("p", pairs, (((2, 1),),), (((1, 2),),))
    how = Supervision(batch=64, learning_rate=3e-3, warm_up=5, most=4, average=0.8)
    shape = Shape(width=16, heads=2, cycles=1, inner=1)
    solver = fit_puzzles([puzzle], side=2, updates=150, copies=8, shape=shape, settings=how)
    assert isinstance(solver, GridSolver)
    assert solver.solve(puzzle)[0][0] == ((1, 2),)
    evaluation = evaluate(ToolLoop(), solver, Grids(), [task_of(puzzle)])
    assert evaluation.success == 1.0
    (said,) = solver.generate([Ask((Message("user", "Pair 1\nbefore: [[1]]\nafter: [[2]]\nTest 1: [[1]]"),))])
    assert plain_text(said[0].message).startswith("This is none")
    with pytest.raises(ValueError, match="was not trained on the demonstrations of puzzle 'q'"):
        solver.solve(Puzzle("q", pairs[:1], puzzle.test))
    large = Puzzle("p", pairs, (((1, 1, 1),),))
    assert solver.solve(large) == [(None, None)]
