"""Which engine decodes a local model: compiled kernels, pages, whole batches, or every token from the beginning."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import numpy as np
import torch

from ferrule.core.arrays import nearest
from ferrule.policies.engine.batches import Batches
from ferrule.policies.engine.decode import decode
from ferrule.policies.engine.engine import Decoder, Engine, Forward
from ferrule.policies.engine.recompute import one_token
from ferrule.policies.engine.rows import Row, Stops

__all__ = ["KINDS", "open_engine"]

KINDS = ("auto", "kernels", "paged", "whole", "recompute")


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
    be exchanged, on any device. ``whole``: models with keys and values in a cache of their own, by whole batches,
    without sharing across asks. ``recompute``: every other model (recurrent and hybrid ones), each token from the
    beginning of its row. A kind that is named and does not fit is refused (``ValueError``).
    """
    if kind not in KINDS:
        raise ValueError(f"engine: {nearest(kind, KINDS)}")
    problems = {}
    for name in KINDS[1:] if kind == "auto" else (kind,):
        if name == "recompute":
            return Batches(name, lambda batch: one_token(model, batch, stops, pad), rows=rows)
        if name == "whole":
            problems[name] = _batches_differ(model, stops, autocast)
            if not problems[name]:
                return Batches(name, lambda batch: decode(model, batch, stops, pad), rows=rows)
            continue
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


def _usual_ids(model: Any, count: int) -> list[int]:
    """Return ids from the middle of the vocabulary, where there are words.

    Of marks and bytes at its ends a model has seen no such rows: in bfloat16 its logits there are mostly rounding.
    """
    size = model.get_input_embeddings().weight.shape[0]
    return [size // 4 + 7919 * (i + 1) % max(size // 2, 1) for i in range(count)]


@torch.no_grad()
def _batches_differ(model: Any, stops: Stops, autocast: bool) -> str:
    """Decode rows of different lengths as a whole batch and from the beginning; return how they differ."""

    def rows() -> list[Row]:
        prompts = (ids[:3], ids)
        return [Row(tuple(given), 3, 0.0, 0, bias={ids[1]: 1e4}, ignore_end=True) for given in prompts]

    ids = _usual_ids(model, 8)
    whole, plain = rows(), rows()
    was, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
            while not plain[0].finish:
                one_token(model, plain, stops, 0)
            decode(model, whole, stops, 0)
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        if plain[0].finish:
            return f"its cache is not one of keys and values ({type(error).__name__}: {error})"
        raise
    except FloatingPointError:  # weights that have diverged are told of where they are sampled from
        return ""
    finally:
        model.train(was)
    pairs = [zip(one.logps, two.logps, strict=True) for one, two in zip(whole, plain, strict=True)]
    gap = max(abs(a - b) for pair in pairs for a, b in pair)
    exact = not autocast and next(model.parameters()).dtype is torch.float32
    return "" if gap <= (1e-3 if exact else 0.5) else f"its log-probs differ by {gap:.2g} in a batch that is padded"


def _difference(model: Any, forward: Forward | None, autocast: bool) -> str:
    """Compare an engine's logits with the model's own on a few tokens, taken in two steps; return what is wrong."""
    if forward is None:
        return ""
    ids = _usual_ids(model, forward.page_size + 5)
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
