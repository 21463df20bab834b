"""Six classes of problems that one short function solves: words, brackets, orders, swaps, remainders, meetings."""

from __future__ import annotations

from ferrule.worlds.reasoning.world import CLASSES, Problem, ProblemClass, Reasoning

__all__ = ["CLASSES", "WORLD", "Problem", "ProblemClass", "Reasoning"]

WORLD = Reasoning
