"""Ferrule binds language models to tools: define, roll out, train, evaluate and run tool-using models.

``import ferrule as fe`` offers the names below and imports each with its first use, so the import itself loads nothing
else. Everything more particular is imported from the folder that names its kind, such as ``ferrule.credit.group``.
"""

from __future__ import annotations

import importlib
import os

__version__ = "0.1.0"

# Read when torch is first loaded. Threads of GNU OpenMP wait for each other by turning for milliseconds, which costs
# nothing on a free machine and a hundredfold where another program holds one of the cores.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Where each name of the face comes from: a module that holds it under the same name, or the import path of an object.
# ``__init__.pyi`` says the same to editors and type checkers.
_FACE = {
    **dict.fromkeys(("Agent", "Policy", "Reward", "Session", "World"), "ferrule.core.flows"),
    **dict.fromkeys(("Call", "Message", "Observation", "Score", "Task", "Tool", "Trajectory"), "ferrule.core.records"),
    **dict.fromkeys(("Method", "Recipe", "Stage", "vary"), "ferrule.core.recipe"),
    "Settings": "ferrule.train.settings",
    "ToolLoop": "ferrule.agents.react",
    "grpo": "ferrule.train.grpo",
    "load": "ferrule.policies.named",
    "load_tools": "ferrule.tools.files",
    "run": "ferrule.rollout.prompt",
    "tool": "ferrule.tools.tool",
    **dict.fromkeys(("dpo", "sft"), "ferrule.train.stage"),
    "world": "ferrule.worlds.named",
}
# Packages of the face: ``papers`` is one to look into, the others can be called.
_PACKAGES = ("evaluate", "papers", "rollout", "train")

__all__ = [
    "Agent",
    "Call",
    "Message",
    "Method",
    "Observation",
    "Policy",
    "Recipe",
    "Reward",
    "Score",
    "Session",
    "Settings",
    "Stage",
    "Task",
    "Tool",
    "ToolLoop",
    "Trajectory",
    "World",
    "__version__",
    "dpo",
    "evaluate",
    "grpo",
    "load",
    "load_tools",
    "papers",
    "rollout",
    "run",
    "sft",
    "tool",
    "train",
    "vary",
    "world",
]


def __getattr__(name: str) -> object:
    """Import a name of the face with its first use."""
    if name in _PACKAGES:
        return importlib.import_module(f"ferrule.{name}")
    if name not in _FACE:
        raise AttributeError(f"module 'ferrule' has no attribute {name!r}; dir(ferrule) lists what it offers")
    value = getattr(importlib.import_module(_FACE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the face, imported or not."""
    return sorted({*globals(), *__all__})
