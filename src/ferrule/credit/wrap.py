"""Composed functions that still say by name which arrays they read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

__all__ = ["naming"]


def naming(
    composed: Callable[..., Any],
    *inner: Callable[..., Any],
    adds: Iterable[str] = (),
    hides: Iterable[str] = (),
) -> Callable[..., Any]:
    """Give ``composed`` the parameters of the functions it calls, so that ``by_name`` can fill them.

    ``adds`` are names that ``composed`` reads itself, ``hides`` names that it provides to the inner functions. The
    inner functions' defaults stay; ``composed`` must take keywords. Returns ``composed``.
    """
    parameters = {name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in adds}
    hidden = set(hides)
    for function in inner:
        bound = set(function.keywords) if isinstance(function, partial) else set()
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in bound | hidden:
                continue
            known = parameters.get(parameter.name)
            # A name that one function needs is needed, whatever default another one has.
            if known is None or known.default is not known.empty:
                parameters[parameter.name] = parameter.replace(kind=parameter.KEYWORD_ONLY)
    composed.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    return composed
