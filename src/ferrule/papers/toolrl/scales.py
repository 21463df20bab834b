"""How much form and calls weigh at a training step: the schedules of ToolRL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Scales", "Schedule", "dynamic_target", "equal_max", "fixed", "smooth", "two_stage"]


@dataclass(frozen=True)
class Scales:
    """Least and most that form and calls can earn."""

    format: tuple[float, float] = (0.0, 1.0)
    calls: tuple[float, float] = (-3.0, 3.0)


Schedule: TypeAlias = Callable[[int], Scales]


def fixed(step: int) -> Scales:
    """Form 0 to 1 and calls -3 to 3 at every step (the recommended scales)."""
    return Scales()


def equal_max(step: int) -> Scales:
    """Form and calls can earn the same: calls -1 to 1 at every step."""
    return Scales(calls=(-1.0, 1.0))


def two_stage(step: int, *, switch: int = 30) -> Scales:
    """Before ``switch`` calls count a third; from then on they count in full and form one half."""
    return Scales(calls=(-1.0, 1.0)) if step < switch else Scales(format=(0.0, 0.5))


def smooth(step: int, *, steps: int = 150, reference: bool = False) -> Scales:
    """Let the most for form fall from 2 to 1, and the range of calls grow from ±2 to ±3, over ``steps`` steps.

    The least for form is 0; with ``reference`` it is the release's ``min(-1, -2 + 2 s / steps)``. Raises
    ``ValueError`` unless ``steps`` is above 0.
    """
    if steps <= 0:
        raise ValueError(f"steps is {steps}; it must be above 0")
    done = min(step / steps, 1.0)
    return Scales(
        format=(min(-1.0, -2.0 + 2.0 * done) if reference else 0.0, 2.0 - done), calls=(-2.0 - done, 2.0 + done)
    )


def dynamic_target(step: int, *, first: float = 384.0, last: float = 640.0, steps: int = 105) -> float:
    """Words of thought that earn the whole length reward, rising from ``first`` to ``last`` over ``steps`` steps."""
    return first + (last - first) * min(step / steps, 1.0)
