"""One prompt, answered with a model and tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Policy, World
from ferrule.core.records import Task, Tool
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.tools.tool import load_tools
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.session import Toolbox

__all__ = ["run"]


def run(
    prompt: str,
    policy: Policy,
    *,
    tools: str | Path | Sequence[Tool] | None = None,
    max_tool_calling_iterations: int = 6,
    max_completion_length: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> Episode:
    """Answer a prompt with the plain tool loop and return the episode; its first trajectory holds the ``answer``.

    ``tools`` are tools or a Python file of them (None: ``calculator`` and ``python``, ``()``: none). The model writes
    at most ``max_tool_calling_iterations`` replies of ``max_completion_length`` tokens; ``temperature`` 0 takes the
    likeliest token.
    """
    if tools is None:
        world: World = Arithmetic()
    else:
        world = Toolbox(tuple(load_tools(tools)) if isinstance(tools, str | Path) else tuple(tools))
    agent = ToolLoop(turns=max_tool_calling_iterations, max_tokens=max_completion_length)
    task = Task("prompt", prompt, world=world.name)
    (episode,) = drive(agent, [task], world, policy, seed=seed, temperature=temperature)
    return episode
