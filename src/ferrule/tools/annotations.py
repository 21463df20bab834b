"""Annotations of tool parameters in the form that pydantic takes."""

from __future__ import annotations

import functools
import operator
import sys
import types
import typing
from typing import Annotated, Any, Literal

import typing_extensions
from pydantic import TypeAdapter, ValidationError

__all__ = ["noted", "nullable", "readable"]

_WRAPPERS = (typing_extensions.Required, typing_extensions.NotRequired)


def nullable(annotation: Any) -> Any:
    """Return an annotation that takes None as well: what ``folder: str = None`` means, though it does not say so."""
    if typing.get_origin(annotation) is Annotated:
        inner, *notes = typing.get_args(annotation)
        return Annotated[(nullable(inner), *notes)]
    try:
        TypeAdapter(annotation).validate_python(None, strict=True)
    except ValidationError:
        return annotation | None if not isinstance(annotation, str) else annotation
    return annotation


def noted(annotation: Any) -> str:
    """Return the text that an annotation bears, as a text or as ``Doc``; empty without one."""
    if typing.get_origin(annotation) is not Annotated:
        return ""
    notes = typing.get_args(annotation)[1:]
    texts = (note if isinstance(note, str) else getattr(note, "documentation", None) for note in notes)
    return next((text.strip() for text in texts if isinstance(text, str)), "")


def readable(annotation: Any) -> Any:
    """Return an annotation with every ``typing.TypedDict`` in it as pydantic reads them below Python 3.12."""
    if sys.version_info >= (3, 12):
        return annotation
    return _read(annotation, ())


def _read(annotation: Any, inside: tuple[Any, ...]) -> Any:
    if typing.is_typeddict(annotation) and annotation not in inside:
        return _typed_dict(annotation, (*inside, annotation))
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (None, Literal) or not arguments:
        return annotation
    if origin is Annotated:
        return Annotated[(_read(arguments[0], inside), *arguments[1:])]
    parts = tuple(_read(part, inside) for part in arguments)
    if all(part is before for part, before in zip(parts, arguments, strict=True)):
        return annotation
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, parts)
    return origin[parts]


def _typed_dict(kind: Any, inside: tuple[Any, ...]) -> Any:
    """Return the same keys as a ``typing_extensions.TypedDict``; what is required stays so."""
    fields = {}
    for key, hint in typing.get_type_hints(kind, include_extras=True).items():
        if typing.get_origin(hint) in _WRAPPERS:
            (inner,) = typing.get_args(hint)
            fields[key] = typing.get_origin(hint)[_read(inner, inside)]
        else:
            wrapper = typing_extensions.Required if key in kind.__required_keys__ else typing_extensions.NotRequired
            fields[key] = wrapper[_read(hint, inside)]
    define: Any = typing_extensions.TypedDict
    same = define(kind.__name__, fields)
    same.__doc__, same.__module__ = kind.__doc__, kind.__module__
    return same
