"""Probing the tools of a world or of a person: every tool in an episode of its own, played by the driver."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TypeAlias, TypeVar

from ferrule.agents.probe import Probed
from ferrule.core.arrays import nearest
from ferrule.core.exact import line_of, read, write
from ferrule.core.flows import Flow, Policy, Session, World
from ferrule.core.records import Answer, Task, Tool
from ferrule.rollout.drive import Limits, drive
from ferrule.rollout.record import Episode
from ferrule.tools.overlay import ToolText
from ferrule.tools.sources import Tools, tool_source
from ferrule.worlds.user import UserWorld

__all__ = ["PlayTool", "played_flow", "probe_tools", "tools_world"]

PlayTool: TypeAlias = Callable[[Tool, Session], Flow[Probed]]
"""Probes one tool in a session of its own."""
T = TypeVar("T")
_CALLS = 1_000_000
_LIMITS = Limits(turns=100_000)


def tools_world(tools: Tools) -> UserWorld:
    """Return the world of tools alone, in which calls are not counted; ``tools`` is what ``tool_source`` takes."""
    source = tool_source(tools)
    return UserWorld("tools", {}, source.offer(), _CALLS, source)


def probe_tools(
    play: PlayTool, world: World, policy: Policy | Mapping[str, Policy], *, task: Task | None = None,
    only: Sequence[str] = (), seed: int = 0, temperature: float | None = None,
) -> tuple[list[Probed], list[Episode]]:  # fmt: skip
    """Probe the tools of a world, all of them or ``only`` some, side by side; return the results and the episodes.

    ``task`` is one that the world starts, whose tools are probed (None: one without a prompt). A tool whose episode
    failed has no trials and says why (``Probed.ended``). Raises ``ValueError`` for an unknown name.
    """
    base = task or Task("tools", "", world=world.name)
    with closing(world.start(base)) as session:
        names = [tool.name for tool in session.tools]
    for name in only:
        if name not in names:
            raise ValueError(f"unknown tool {name!r}; {nearest(name, names)}")
    tasks = [replace(base, meta={**base.meta, "probed": name}) for name in only or names]

    def agent(task: Task, session: Session) -> Flow[Answer]:
        tool = next(tool for tool in session.tools if tool.name == task.meta["probed"])
        probed = yield from play(tool, session)
        return line_of(write(probed)).decode()

    episodes = drive(agent, tasks, world, policy, seed=seed, temperature=temperature, limits=_LIMITS)
    return [_read(episode) for episode in episodes], episodes


def played_flow(
    flow: Callable[[Session], Flow[T]], world: World, policy: Policy | Mapping[str, Policy], *,
    task: Task | None = None, seed: int = 0, temperature: float | None = None,
) -> T:  # fmt: skip
    """Play a flow in an episode of its own and return what it returns.

    Raises ``RuntimeError`` saying why the episode failed.
    """
    results: list[T] = []

    def agent(task: Task, session: Session) -> Flow[Answer]:
        results.append((yield from flow(session)))
        return ""

    start = task or Task("flow", "", world=world.name)
    (episode,) = drive(agent, [start], world, policy, seed=seed, temperature=temperature, limits=_LIMITS)
    if not results:
        raise RuntimeError(f"the episode failed: {episode.problem or 'its flow returned nothing'}")
    return results[0]


def _read(episode: Episode) -> Probed:
    answer = episode.trajectories[0].answer if episode.trajectories and not episode.problem else None
    if answer is None:
        return Probed(episode.task.meta["probed"], (), (ToolText(),), f"failed: {episode.problem or 'no result'}")
    return read(Probed, json.loads(answer))
