"""Packages that can be called: a package whose name is a verb does what its main function does."""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any

__all__ = ["callable_package"]


def callable_package(package: str, function: str) -> None:
    """Let a call of ``package`` call ``function``, an import path, which is imported with the first call.

    ``ferrule.train`` is a folder of modules and a verb of the flat face; importing any of its modules sets the
    attribute ``train`` of ``ferrule`` to the package, so the package itself has to be what is called.
    """

    def target() -> Any:
        module, _, name = function.partition(":")
        return getattr(importlib.import_module(module), name)

    class Verb(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return target()(*args, **kwargs)

        @property
        def __signature__(self) -> inspect.Signature:
            return inspect.signature(target())

    sys.modules[package].__class__ = Verb
