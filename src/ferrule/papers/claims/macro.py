"""MACRO: composites mined in one domain, in another whose chains are twice as long, on tables of decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.recipe import vary
from ferrule.core.records import Call, Observation, Task, Trajectory
from ferrule.papers.macro import advantages
from ferrule.studies.conditions import at_least, less
from ferrule.studies.study import Study
from ferrule.studies.table import Player, plain, train_table
from ferrule.tools.forge_composite import RunLog, frequent

__all__ = ["STUDY", "Chains", "first", "second"]

PRIMITIVES, CLUSTERS, RATE, SUPPORT, MOST = 6, 4, 12.0, 5, 6
Sequences = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Chains:
    """Clusters of images, each of which needs its own chain of primitive tools; an action is a tool or a composite.

    A state of the table is a cluster and how many actions were taken.
    """

    chains: Sequences
    composites: Sequences = ()

    @property
    def actions(self) -> Sequences:
        """What an action carries out: primitives first."""
        return (*((tool,) for tool in range(PRIMITIVES)), *self.composites)

    @property
    def length(self) -> int:
        """Primitives in a chain."""
        return len(self.chains[0])

    def tasks(self) -> list[Task]:
        """Return one task per cluster."""
        return [Task(f"cluster/{number}", "", "right") for number in range(len(self.chains))]

    def play(self, task: Task, player: Player) -> Trajectory:
        """Take actions until as many primitives as the chain has were carried out."""
        cluster, done, taken = int(task.id.rpartition("/")[2]), list[int](), 0
        while len(done) < self.length:
            action = self.actions[player.decide(cluster * self.length + taken)]
            done += action
            taken += 1
            player.turn("", [(Call(f"tool_{tool}"), Observation("")) for tool in action])
        return player.trajectory(task, "right" if tuple(done) == self.chains[cluster] else "wrong")

    def success(self, chance_SA: FloatArray) -> float:
        """Return the chance of carrying out the chain, over all clusters."""
        total = 0.0
        for cluster, chain in enumerate(self.chains):
            reach = {(0, 0): 1.0}  # after so many primitives and actions
            for done in range(self.length):
                for (at, taken), chance in [item for item in reach.items() if item[0][0] == done]:
                    for number, action in enumerate(self.actions):
                        if chain[at : at + len(action)] == action:
                            key = (at + len(action), taken + 1)
                            reach[key] = reach.get(key, 0.0) + chance * chance_SA[cluster * self.length + taken, number]
            total += sum(chance for (at, _), chance in reach.items() if at == self.length)
        return total / len(self.chains)


def _trained(world: Chains, steps: int, seed: int, runs: list[RunLog] | None = None) -> list[float]:
    """Train a table and return its success after each step; ``runs`` takes what was played in the last quarter."""

    def play(task: Task, player: Player) -> Trajectory:
        path = world.play(task, player)
        if runs is not None:
            runs.append(RunLog(path.calls, path.answer == "right"))
        return path

    start_SA = np.zeros((len(world.chains) * world.length, len(world.actions)))
    recipe = vary(plain(num_generations=8), credit=advantages)
    table = train_table(
        recipe, play, world.tasks(), start_SA, steps=steps, learning_rate=RATE, seed=seed,
        watch=lambda step, chance_SA: {"success": world.success(chance_SA)},
    )  # fmt: skip
    return [row["success"] for row in table.curve]


def _domains(seed: int) -> tuple[Sequences, Sequences]:
    """Return the chains of the first domain, and those of the second: two different ones of the first each."""
    rng = np.random.default_rng(seed)
    first: list[tuple[int, ...]] = []
    while len(first) < CLUSTERS:
        chain = tuple(int(tool) for tool in rng.integers(0, PRIMITIVES, 3))
        if len(set(chain)) > 1 and chain not in first:
            first.append(chain)
    pairs = [tuple(int(k) for k in rng.permutation(CLUSTERS)[:2]) for _ in range(CLUSTERS)]
    return tuple(first), tuple((*first[a], *first[b]) for a, b in pairs)


def _mined(runs: Sequence[RunLog]) -> Sequences:
    found = frequent(runs, support=SUPPORT, rate=0.6, most=MOST)
    return tuple(tuple(int(name.rpartition("_")[2]) for name in one.names) for one in found)


def _random(chains: Sequences, seed: int, count: int) -> list[RunLog]:
    """Return runs of tools at random that nobody verified, all taken as right."""
    rng = np.random.default_rng((seed, 1))
    return [
        RunLog(tuple((Call(f"tool_{tool}"), Observation("")) for tool in rng.integers(0, PRIMITIVES, len(chains[0]))))
        for _ in range(count)
    ]


def second(*, seed: int, learn: int, steps: int, mined: str = "") -> dict[str, float]:
    """Train in the second domain, with composites from ``verified`` or ``random`` runs of the first, or with none."""
    chains, longer = _domains(seed)
    runs: list[RunLog] = []
    if mined == "verified":
        _trained(Chains(chains), learn, seed, runs)
    elif mined:
        runs = _random(chains, seed, 32 * learn)
    curve = _trained(Chains(longer, _mined(runs)), steps, seed)
    tenth = max(1, steps // 8)
    return {"first": float(np.mean(curve[: 2 * tenth])), "last": float(np.mean(curve[-tenth:]))}


def first(*, seed: int, learn: int, steps: int, composites: bool) -> dict[str, float]:
    """Train in the first domain, with or without its own composites; ``steps`` is how many lead to a success of 0.8."""
    chains, _ = _domains(seed)
    runs: list[RunLog] = []
    curve = _trained(Chains(chains), learn, seed, runs)
    if composites:
        curve = _trained(Chains(chains, _mined(runs)), learn, seed)
    return {"steps": float(next((k for k, value in enumerate(curve, 1) if value >= 0.8), learn)), "last": curve[-1]}


WITH, WITHOUT, RANDOM = "composites of verified runs", "primitives", "composites of random runs"
STUDY = Study(
    paper="macro",
    statement="Composites mined from verified runs of one domain make chains of twice the length learnable in another.",
    falsifier="The success with composites ends below 0.5, or less than 0.3 above that of primitives alone.",
    grade="B",
    trained="tables of decisions from nothing, by group-relative gradients on the outcome",
    arms={
        WITHOUT: second,
        WITH: partial(second, mined="verified"),
        RANDOM: partial(second, mined="random"),
        "first domain, primitives": partial(first, composites=False),
        "first domain, its own composites": partial(first, composites=True),
    },
    asks=(
        at_least("success with composites", lambda rows: float(rows[WITH]["last"]), 0.5),
        at_least("success with composites minus primitives", less("last", WITH, WITHOUT), 0.3),
        at_least("success with composites minus those of random runs", less("last", WITH, RANDOM), 0.3),
        at_least(
            "steps that composites save in their own domain",
            less("steps", "first domain, primitives", "first domain, its own composites"),
            0.0,
            decides=False,
        ),
    ),
    sizes={"small": {"learn": 300, "steps": 250}, "tiny": {"learn": 80, "steps": 10}},
    setup={"primitives": PRIMITIVES, "clusters": CLUSTERS, "rate": RATE, "support": SUPPORT, "most": MOST},
)
