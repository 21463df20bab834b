"""Charts of tables, put together choice by choice: ``Charts`` is the world."""

from __future__ import annotations

from ferrule.worlds.charts.world import Charts

__all__ = ["WORLD", "Charts"]

WORLD = Charts
