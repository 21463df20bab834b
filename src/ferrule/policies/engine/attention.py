"""Lets a model's own layers attend through a function of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["exchanged"]


@contextmanager
def exchanged(config: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let the layers of a model with this config attend through ``function``, known to them by ``name``, meanwhile."""
    from transformers import AttentionInterface

    AttentionInterface.register(name, function)
    was = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = was
