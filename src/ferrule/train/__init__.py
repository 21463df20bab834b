"""Training: short functions around one sampling step and one update step.

Called, it is ``ferrule.train.loop.train``.
"""

from __future__ import annotations

from ferrule.core.verbs import callable_package

callable_package(__name__, "ferrule.train.loop:train")
