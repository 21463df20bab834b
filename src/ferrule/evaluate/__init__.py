"""Evaluation: suites of tasks, measures with intervals, and paired comparisons.

Called, it is ``ferrule.evaluate.evaluate.evaluate``.
"""

from __future__ import annotations

from ferrule.core.verbs import callable_package

callable_package(__name__, "ferrule.evaluate.evaluate:evaluate")
