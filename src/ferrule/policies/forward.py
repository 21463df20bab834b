"""Logits of chosen columns of right-padded rows, by a plain forward pass that any causal model takes."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

__all__ = ["logits_at"]


def logits_at(model: Any, ids_BT: Tensor, columns_C: Tensor, *, hidden: bool = False) -> tuple[Tensor, tuple[Any, ...]]:
    """Return the logits (B, C, V) at ``columns_C``, and all hidden states (B, T, D) by layer where they are asked for.

    What follows a token never changes its logits, so padding on the right needs no mask, in recurrent layers either.
    A model that cannot leave logits out computes all of them.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    keeps = "logits_to_keep" in inspect.signature(inner.forward).parameters
    options: dict[str, Any] = {"logits_to_keep": columns_C} if keeps else {}
    result = model(input_ids=ids_BT, use_cache=False, output_hidden_states=hidden, **options)
    logits: Tensor = result.logits if keeps else result.logits[:, columns_C]
    return logits, tuple(result.hidden_states) if hidden else ()
