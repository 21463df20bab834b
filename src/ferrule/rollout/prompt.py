"""One prompt, answered with a model and tools."""

from __future__ import annotations

import zlib
from contextlib import closing

from ferrule.agents.named import agent as agent_by_name
from ferrule.agents.named import temperature_for
from ferrule.agents.remembering import Remembering, in_system
from ferrule.core.flows import Policy, World
from ferrule.core.records import Task
from ferrule.memory.memory import Memory
from ferrule.rollout.drive import drive
from ferrule.rollout.record import Episode
from ferrule.tools.overlay import Overlay, apply
from ferrule.tools.sources import Tools, tool_source
from ferrule.worlds.aliased import documented
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.user import UserWorld

__all__ = ["run"]


def run(
    prompt: str,
    policy: Policy,
    *,
    tools: Tools | None = None,
    documents: Overlay | None = None,
    rules: str = "",
    agent: str = "loop",
    budget: int | None = None,
    max_tool_calling_iterations: int = 6,
    max_completion_length: int = 256,
    temperature: float | None = None,
    seed: int = 0,
    memory: Memory | None = None,
) -> Episode:
    """Answer a prompt with an agent and return the episode; its first trajectory holds the ``answer``.

    ``tools`` are what ``ferrule.tools.sources.tool_source`` takes (None: ``calculator`` and ``python``, ``()``: none);
    functions keep what they keep in their modules, where it can be read afterwards.
    ``documents`` words them; it may word tools that are on offer alone. ``rules`` are told in a system message.
    ``agent`` is what ``ferrule.agents.named.agent`` knows; one that searches writes at most ``budget`` tokens in all.
    A path has at most ``max_tool_calling_iterations`` replies of ``max_completion_length`` tokens. ``temperature`` 0
    takes the likeliest token; None is 0 for the plain loop and 1 for agents that search, which need different replies.
    With a ``memory`` what it recalls stands before the model, and the task's id tells prompts apart; nothing is kept.
    """
    if tools is None:
        world: World = Arithmetic()
    else:
        world = UserWorld("prompt", {}, source=tool_source(tools, apart=False))
    id = "prompt" if memory is None else f"prompt/{zlib.crc32(prompt.encode()):08x}"
    task = Task(id, prompt, world=world.name)
    if rules:
        task = in_system(task, rules)
    if documents is not None:
        with closing(world.start(task)) as session:
            apply(session.tools, documents)  # refuses words for tools that there are not
        world = documented(world, documents)
    steps = max_tool_calling_iterations
    longest = max_completion_length
    player = agent_by_name(
        agent, tokens=budget, turns=steps, depth=steps, actions=steps, max_tokens=longest, helper_tokens=longest
    )
    heat = temperature_for(agent) if temperature is None else temperature
    if memory is not None:
        player = Remembering(player, memory)
    (episode,) = drive(player, [task], world, policy, seed=seed, temperature=heat)
    return episode
