"""Rollouts: the only place that carries out what agents yield, and records it.

Called, it is ``ferrule.rollout.drive.drive``.
"""

from __future__ import annotations

from ferrule.core.verbs import callable_package

callable_package(__name__, "ferrule.rollout.drive:drive")
