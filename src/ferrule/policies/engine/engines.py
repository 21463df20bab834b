"""Which engine decodes a local model: compiled kernels, pages read by the model's own layers, or whole batches."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import numpy as np
import torch

from ferrule.core.arrays import nearest
from ferrule.policies.engine.decode import Whole
from ferrule.policies.engine.engine import Decoder, Engine, Forward
from ferrule.policies.engine.rows import Stops

__all__ = ["KINDS", "open_engine"]

KINDS = ("auto", "kernels", "paged", "whole")


def open_engine(
    model: Any,
    stops: Stops,
    pad: int,
    *,
    kind: str = "auto",
    autocast: bool = False,
    rows: int = 128,
    cache_mb: int = 1024,
) -> Decoder:
    """Return the engine of that kind for a model, or the fastest that gives the model's own logits.

    ``kernels``: Llama-shaped models in float32 on a processor (needs numba). ``paged``: any model whose attention can
    be exchanged, on any device. ``whole``: every other model, by whole batches through its own cache, without sharing
    across asks. A kind that is named and does not fit is refused (``ValueError``).
    """
    if kind not in KINDS:
        raise ValueError(f"engine: {nearest(kind, KINDS)}")
    problems = {}
    for name in KINDS[1:] if kind == "auto" else (kind,):
        if name == "whole":
            return Whole(model, stops, pad, rows=rows)
        forward, problem = _forward(name, model, autocast)
        problem = problem or _difference(model, forward, autocast)
        if not problem and forward is not None:
            return Engine(forward, stops, rows=rows, cache_mb=cache_mb)
        problems[name] = problem
        if kind == "auto" and forward is not None:
            warnings.warn(f"the {name} engine is left out for this model: {problem}", RuntimeWarning, stacklevel=2)
    raise ValueError(f"engine {kind!r} does not fit: {problems[kind]}")


def _forward(name: str, model: Any, autocast: bool) -> tuple[Forward | None, str]:
    if name == "paged":
        from ferrule.policies.engine import paged

        problem = paged.reason_against(model)
        return (None, problem) if problem else (paged.Paged(model), "")
    if autocast:
        return None, "it computes in float32, and bfloat16 was chosen"
    if importlib.util.find_spec("numba") is None:
        return None, 'it needs numba: pip install "ferrule[fast]"'
    from ferrule.policies.engine import lean

    problem = lean.reason_against(model)
    return (None, problem) if problem else (lean.Lean(model), "")


def _difference(model: Any, forward: Forward | None, autocast: bool) -> str:
    """Compare an engine's logits with the model's own on a few tokens, taken in two steps; return what is wrong."""
    if forward is None:
        return ""
    ids = [1 + i % 7 for i in range(forward.page_size + 5)]
    first = forward.page_size - 3
    forward.grow(2)
    table = np.array([[0, 1]])
    was = model.training
    model.eval()
    try:
        kind = next(model.parameters()).device.type
        with torch.no_grad(), torch.autocast(kind, dtype=torch.bfloat16, enabled=autocast):
            for begin, end in ((0, first), (first, len(ids))):
                at = list(range(begin, end))
                pages = [i // forward.page_size for i in at]
                logits, _ = forward(ids[begin:end], at, pages, [0] * len(at), table, [len(at) - 1])
            device = next(model.parameters()).device
            expected = model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[:, -1]
    finally:
        model.train(was)
    gap, size = float((logits.float() - expected.float()).abs().max()), float(expected.float().abs().max())
    limit = 0.05 if autocast or expected.dtype is not torch.float32 else 1e-3
    return "" if gap <= limit * max(size, 1.0) else f"its logits differ by {gap:.2g} of {size:.2g}"
