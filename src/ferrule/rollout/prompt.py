"""One prompt, answered with a model and tools."""

from __future__ import annotations

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Policy, World
from ferrule.core.records import Task
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.tools.sources import Tools, tool_source
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.user import UserWorld

__all__ = ["run"]


def run(
    prompt: str,
    policy: Policy,
    *,
    tools: Tools | None = None,
    max_tool_calling_iterations: int = 6,
    max_completion_length: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> Episode:
    """Answer a prompt with the plain tool loop and return the episode; its first trajectory holds the ``answer``.

    ``tools`` are what ``ferrule.tools.sources.tool_source`` takes (None: ``calculator`` and ``python``, ``()``: none).
    The model writes at most ``max_tool_calling_iterations`` replies of ``max_completion_length`` tokens;
    ``temperature`` 0 takes the likeliest token.
    """
    if tools is None:
        world: World = Arithmetic()
    else:
        world = UserWorld("prompt", {}, source=tool_source(tools))
    agent = ToolLoop(turns=max_tool_calling_iterations, max_tokens=max_completion_length)
    task = Task("prompt", prompt, world=world.name)
    (episode,) = drive(agent, [task], world, policy, seed=seed, temperature=temperature)
    return episode
