"""Everyday tasks over eight apps with one database: mail, calendar, notes, shop, payments, music, files and contacts.

``Apps`` is the world; ``appworld`` adapts the benchmark of that name.
"""

from __future__ import annotations

from ferrule.worlds.apps.world import Apps

__all__ = ["WORLD", "Apps"]

WORLD = Apps
