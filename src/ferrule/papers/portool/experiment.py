"""The experiment behind PORTool's claim: trees and independent samples on chains of steps, on a table of decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ferrule.agents.react import ToolLoop
from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import Recipe
from ferrule.core.records import Ask, Call, Message, Observation, Reply, Session, Task, Tool, Trajectory
from ferrule.credit.group import group_relative
from ferrule.papers.portool import recipe
from ferrule.rewards.outcome import outcome
from ferrule.rollout.run import Run
from ferrule.studies.old import Condition, at_least, judged, over_seeds, scale_of
from ferrule.studies.paper import Claim

__all__ = ["SCALES", "measure", "run"]

TOOL = Tool("step", "take one option", {"type": "object", "properties": {"option": {"type": "integer"}}}, run=str)
SCALES: Mapping[str, int] = {"small": 120, "tiny": 4}
"""Updates of each scale."""
LIMIT = 1000


@dataclass
class _Walk:
    """A session: how many steps were taken, and whether all of them were right. Option 0 is right, ``idle`` waits."""

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
class Chain:
    """A world of ``steps`` decisions that must all be right; option ``idle`` (-1: none) takes no step.

    The state of the table is the number of steps taken. ``first`` is how many tokens the first step costs (all others
    cost 1); ``spent`` adds up the tokens of all episodes, discarded candidates included.
    """

    steps: int = 4
    idle: int = -1
    first: int = 1
    spent: int = 0
    name: str = "chain"
    _player: Any = field(default=None, repr=False)

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = ()) -> list[Task]:
        """Return the one task."""
        return [Task("chain", "go", answer="right")]

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session."""
        return _Walk(self.steps, self.idle)

    def play(self, task: Task, player: Any, *, agent: Any) -> list[Trajectory]:
        """Let ``agent`` play one episode with the table as its policy and return the paths that train."""
        run = Run(agent, task, 0, self, int(player.rng.integers(2**62)), None)
        while run.pending:
            for slot, request in list(run.pending.items()):
                if isinstance(request, Ask):
                    run.take(slot, [self._reply(request, player) for _ in range(request.n)], LIMIT)
                else:
                    run.take(slot, [act() for act in run.acts(slot)], LIMIT)
        episode = run.close()
        if episode.problem:
            raise RuntimeError(f"the agent failed: {episode.problem}")
        turns = {turn.id: turn for path in episode.trajectories for turn in path.turns}
        self.spent += sum(1 if turn.parent is not None else self.first for turn in turns.values())
        return [path for path in episode.trajectories if path.finish != "discarded"]

    def _reply(self, request: Ask, player: Any) -> Reply:
        """Draw an option in the state that the observations tell; its token is written as a row of the table."""
        state = sum(m.role == "tool" and m.content != "waited" for m in request.messages)
        options = player.chance_SA.shape[1]
        option = min(int(np.searchsorted(np.cumsum(player.chance_SA[state]), player.rng.random())), options - 1)
        # The text makes replies differ, so that which candidates are kept is drawn anew in every tree.
        message = Message("assistant", str(player.rng.random()), (Call("step", {"option": option}),))
        logp = float(np.log(player.chance_SA[state, option]))
        return Reply(message, request.context, (state * options + option,), (logp,))


def _base() -> Recipe:
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    return Recipe(ToolLoop(turns=12), outcome, partial(group_relative, std="unbiased"), surrogate, token_mean)


ARMS: Mapping[str, Mapping[str, Any]] = {
    "tree": {},
    "tree, no fork term": {"fork_weight": 0.0},
    "tree, mean": {"join": "mean"},
    "samples": {},
}
"""Arms on the plain chain: settings of the recipe; ``samples`` are 8 independent episodes."""


def run(
    arm: str, *, seed: int, steps: int, options: int = 4, first: int = 1, idle: bool = False, gamma: float = 0.95
) -> dict[str, Any]:
    """Train one arm on a chain and return, after every update, its success, mean length (steps) and tokens spent."""
    from ferrule.studies.table import train_table

    needed = 3 if idle else 4
    world = Chain(needed, options - 1 if idle else -1, first)
    # Waiting is free where it is possible: nothing but the decay speaks against it, not the end of the tree.
    depth = 12 if idle else 8
    chosen = _base() if arm == "samples" else recipe(_base(), gamma=gamma, depth=depth, **ARMS[arm])

    def play(task: Task, player: Any) -> Any:
        paths = world.play(task, player, agent=chosen.agent)
        return paths if chosen.samples == 1 else paths[0]

    def watch(step: int, chance_SA: FloatArray) -> dict[str, float]:
        waits = chance_SA[:, -1] if idle else np.zeros(needed)
        return {
            "success": float(np.prod(chance_SA[:, 0] / (1 - waits))),
            "length": float(np.sum(1 / (1 - waits))),
            "tokens": float(world.spent),
        }

    start = np.zeros((needed, options))
    if idle:
        start[:] = [2.0, -1.0, -1.0, 2.0]  # mostly right from the start, and waiting as often as not
    rate = 3.0
    table = train_table(
        chosen, play, world.tasks("train", 1), start, steps=steps, learning_rate=rate, seed=seed, watch=watch
    )
    return {name: [row[name] for row in table.curve] for name in table.curve[0]}


def _at(curve: Sequence[float], level: float, cost: Sequence[float]) -> float:
    """Cost at which a curve first reaches a level; the last one where it never does."""
    return next((c for value, c in zip(curve, cost, strict=True) if value >= level), cost[-1])


def _summary(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    curve = found["success"]
    return {
        "success": curve[-1],
        "success_halfway": curve[len(curve) // 2],
        "mean_success": float(np.mean(curve)),
        "length": found["length"][-1],
        "tokens": found["tokens"][-1],
        "tokens_to_half": _at(curve, 0.5, found["tokens"]),
    }


def _conditions(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> tuple[list[Condition], Condition]:
    """Return the conditions of the verdict, and the comparison with independent samples that stands beside it."""

    def paired(name: str, one: str, other: str) -> list[tuple[float, float]]:
        return [(a[name], b[name]) for a, b in zip(rows[one], rows[other], strict=True)]

    fork = [a - b for a, b in paired("mean_success", "tree", "tree, no fork term")]
    shorter = [1 - a / b for a, b in paired("length", "gamma 0.95", "gamma 1.0")]
    equal = [a - b for a, b in paired("success", "gamma 0.95", "gamma 1.0")]
    saved = [1 - a / b for a, b in paired("tokens_to_half", "tree, long first step", "samples, long first step")]
    return [
        at_least("success over training, with the fork term minus without", fork, 0.02),
        at_least("episodes shorter with gamma 0.95 than with 1, share of steps", shorter, 0.1),
        at_least("success with gamma 0.95 minus with 1", equal, -0.05),
    ], at_least("tokens to half success saved by trees over independent samples, share", saved, 0.2)


def measure(scale: str, seeds: Sequence[int]) -> Claim:
    """Compare the fork term on and off, decay on and off, and trees with independent samples by generated tokens.

    ``scale`` is ``"small"`` (120 updates) or ``"tiny"`` (4, to try the machinery). The comparison with independent
    samples stands beside the verdict: the tree draws as many first steps as it has paths, and twice as many
    candidates as open paths behind them, so that nothing of a prefix is saved.
    """
    steps = scale_of(SCALES, scale)
    runs: dict[str, Any] = {arm: partial(run, arm, steps=steps) for arm in ARMS}
    for arm in ("tree", "samples"):
        runs[f"{arm}, long first step"] = partial(run, arm, steps=steps, first=50)
    for gamma in (0.95, 1.0):
        runs[f"gamma {gamma}"] = partial(run, "tree", steps=steps, idle=True, gamma=gamma)
    rows = {arm: [_summary(one(seed=seed)) for seed in seeds] for arm, one in runs.items()}
    conditions, beside = _conditions(rows)
    notes = []
    for arm, found in rows.items():
        means = {name: float(np.mean([row[name] for row in found])) for name in found[0]}
        notes.append(
            f"{arm}: success {means['success_halfway']:.3f} halfway and {means['success']:.3f} at the end, "
            f"{means['length']:.2f} steps, {means['tokens']:.0f} tokens"
        )
    return judged(
        conditions,
        beside=[beside],
        paper="portool",
        statement="Comparing siblings speeds up learning on trees, and a decay shortens episodes at equal success.",
        arms=over_seeds(rows),
        falsifier="Trees without the fork term do as well, or the decay has no effect on length.",
        seeds=tuple(seeds),
        scale=scale,
        notes=notes,
        setup={
            "updates": steps,
            "paths": 8,
            "branch": 2,
            "options": 4,
            "tokens_of_a_long_first_step": 50,
        },
    )
