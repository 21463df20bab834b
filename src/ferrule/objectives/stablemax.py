"""Stablemax: a distribution over classes that grows linearly instead of exponentially with the logits.

Source: "ARC Prize 2025: Technical Report" (16), its tiny recursive models, after "Grokking at the Edge of Numerical
Stability", arXiv 2501.04697.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["log_stablemax"]


def log_stablemax(logits: Tensor) -> Tensor:
    """Log-probs ``log(s(v) / sum of s)`` over the last axis, ``s(v) = v + 1`` for ``v >= 0``, else ``1 / (1 - v)``.

    ``log s`` is ``log(1 + v)`` or ``-log(1 - v)``; no logit gives infinities.
    """
    log_s = torch.sign(logits) * torch.log1p(logits.abs())
    return log_s - torch.logsumexp(log_s, -1, keepdim=True)
