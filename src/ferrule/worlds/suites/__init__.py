"""Benchmarks as worlds: their tasks from files, their tools written anew, their judges.

``suite_world`` returns one by the name that the command line uses, such as ``bfcl:simple_python``.
"""

from __future__ import annotations

from ferrule.worlds.suites.names import suite_names, suite_world

__all__ = ["suite_names", "suite_world"]
