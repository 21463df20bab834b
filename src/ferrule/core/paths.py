"""Objects by their import path, and the folder of what is fetched."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from ferrule.core.arrays import nearest

__all__ = ["by_path", "store"]


def store() -> Path:
    """Return the folder of fetched models and data: ``$FERRULE_HOME``, else ``~/.cache/ferrule``."""
    root = os.environ.get("FERRULE_HOME")
    return Path(root).expanduser() if root else Path.home() / ".cache" / "ferrule"


def by_path(path: str) -> Any:
    """Return the object of an import path such as ``ferrule.papers.otc:recipe``.

    Raises ``ValueError`` for another form, a module that cannot be imported, and a name that it lacks.
    """
    module, _, name = path.partition(":")
    if not name:
        slug = path.replace("-", "_")
        example = f"ferrule.papers.{slug}:recipe" if slug.isidentifier() else "ferrule.papers.otc:recipe"
        raise ValueError(f"{path!r} is not an import path; write module:name, for example {example}")
    try:
        home = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{path!r}: {error}") from None
    if not hasattr(home, name):
        known = [each for each in vars(home) if not each.startswith("_")]
        raise ValueError(f"{module} has no {name!r}; {nearest(name, known)}")
    return getattr(home, name)
