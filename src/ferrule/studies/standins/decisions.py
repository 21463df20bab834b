"""A world of decisions that must all be right, in which an agent plays with a table as its policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.flows import Agent, Ask, Session
from ferrule.core.records import Call, Message, Observation, Reply, Task, Tool, Trajectory
from ferrule.rollout.run import Run
from ferrule.studies.table import Player

__all__ = ["Decisions"]

TOOL = Tool("step", "take one option", {"type": "object", "properties": {"option": {"type": "integer"}}}, run=str)
LIMIT = 1000
"""Longest reply and observation."""


@dataclass
class _Walk:
    """A session: how many steps were taken, and whether all of them were right."""

    needed: int
    idle: int
    taken: int = 0
    right: bool = True
    tools: tuple[Tool, ...] = (TOOL,)

    def act(self, call: Call) -> Observation:
        option = call.arguments["option"]
        if option == self.idle:
            return Observation("waited")
        self.taken, self.right = self.taken + 1, self.right and option == 0
        ended = self.taken == self.needed
        return Observation(("right" if self.right else "wrong") if ended else f"step {self.taken}", terminal=ended)

    def fork(self) -> Session:
        return replace(self)

    def final(self) -> Mapping[str, Any]:
        return {}

    def close(self) -> None:
        return None


@dataclass
class Decisions:
    """A world of ``steps`` decisions, in each of which option 0 is right; option ``idle`` (-1: none) takes no step.

    The state of the table is the number of steps taken. ``first`` is how many tokens the first step costs (all others
    cost 1); ``spent`` adds up the tokens of all episodes, discarded candidates included.
    """

    steps: int = 4
    idle: int = -1
    first: int = 1
    spent: int = 0
    name: str = "chain"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = ()) -> list[Task]:
        """Return the one task."""
        return [Task("chain", "go", answer="right")]

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session."""
        return _Walk(self.steps, self.idle)

    def play(self, task: Task, player: Player, *, agent: Agent) -> list[Trajectory]:
        """Let ``agent`` play one episode with the table as its policy and return the paths that train."""
        run = Run(agent, task, 0, self, int(player.rng.integers(2**62)), None)
        while run.pending:
            for slot, request in list(run.pending.items()):
                if isinstance(request, Ask):
                    run.take(slot, [self._reply(request, player) for _ in range(request.n)], LIMIT)
                else:
                    run.take(slot, [observation for act in run.acts(slot) for observation in act()], LIMIT)
        episode = run.close()
        if episode.problem:
            raise RuntimeError(f"the agent failed: {episode.problem}")
        turns = {turn.id: turn for path in episode.trajectories for turn in path.turns}
        self.spent += sum(1 if turn.parent is not None else self.first for turn in turns.values())
        return [path for path in episode.trajectories if path.finish != "discarded"]

    def expected(self, chance_SA: FloatArray) -> dict[str, float]:
        """Return exact ``success`` and ``length`` (turns) of a table under agents that never stop, and tokens spent."""
        idle = chance_SA[:, self.idle] if self.idle >= 0 else np.zeros(self.steps)
        success, length = np.prod(chance_SA[:, 0] / (1 - idle)), np.sum(1 / (1 - idle))
        return {"success": float(success), "length": float(length), "tokens": float(self.spent)}

    def _reply(self, request: Ask, player: Player) -> Reply:
        """Draw an option in the state that the observations tell; its token is written as a row of the table."""
        state = sum(message.role == "tool" and message.content != "waited" for message in request.messages)
        options = player.chance_SA.shape[1]
        option = min(int(np.searchsorted(np.cumsum(player.chance_SA[state]), player.rng.random())), options - 1)
        # The text makes replies differ, so that which candidates are kept is drawn anew in every tree.
        message = Message("assistant", str(player.rng.random()), (Call("step", {"option": option}),))
        logp = float(np.log(player.chance_SA[state, option]))
        return Reply(message, request.context, (state * options + option,), (logp,))
