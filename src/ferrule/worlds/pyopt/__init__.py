"""Slow Python functions that are to be made faster: ``Pyopt`` is the world."""

from __future__ import annotations

from ferrule.worlds.pyopt.world import Pyopt

__all__ = ["WORLD", "Pyopt"]

WORLD = Pyopt
