"""Objectives: functions over log-probabilities that return one loss per token, and the reductions to a scalar.

Signature: ``(logp_NT, old_NT, adv_NT, turn_NT, ... by name) -> loss_NT``; reductions
``(loss_NT, turn_NT, total) -> scalar``.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:  # pragma: no cover - needs an install without torch
    raise ImportError('ferrule.objectives needs torch: pip install "ferrule[train]"') from error
