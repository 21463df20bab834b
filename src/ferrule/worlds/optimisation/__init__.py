"""Word problems whose answer is the optimum of a linear program, and the solver that a model states them to."""

from __future__ import annotations

from ferrule.worlds.optimisation.program import Constraint, Program, Solution, program_of, solve
from ferrule.worlds.optimisation.world import Optimisation

__all__ = ["WORLD", "Constraint", "Optimisation", "Program", "Solution", "program_of", "solve"]

WORLD = Optimisation
