"""TP-LLaMA: a table that picks tools on a generated graph, and what failed steps add to the ways to success."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from ferrule.agents.depth_first import DepthFirst
from ferrule.agents.search import Budget
from ferrule.core.arrays import FloatArray
from ferrule.core.records import Message, Task
from ferrule.data.trees import Tree, path_preferences, solutions, step_preferences, tree_of
from ferrule.evaluate.evaluate import evaluate
from ferrule.objectives.preference import dpo
from ferrule.papers.tp_llama import steps_per_success
from ferrule.rollout.drive import drive
from ferrule.studies.conditions import Rows, at_least, less
from ferrule.studies.standins.tool_graph import Graph, ToolGraph, chooser, held
from ferrule.studies.study import Study
from ferrule.studies.table import Weights
from ferrule.studies.tuning import Tuning

__all__ = ["STUDY", "Picks", "arm"]

WRONG, BETA, FIRST, LEAN = 4, 0.5, 0.5, 1.5
"""Wrong tools of an item, DPO's beta, the rate of imitation, and the first lead of the right tool (nats)."""
SEARCH = DepthFirst(depth=7, budget=Budget(asks=12))
Ids = list[int]


class Picks:
    """A table with a row per item on the way of every task, and a column per tool that takes the item."""

    def __init__(self, world: ToolGraph, tasks: Sequence[Task]) -> None:
        self.world, self.tasks = world, tasks
        self.graphs = {task.prompt: world.graph(task) for task in tasks}
        rows = [(prompt, item) for prompt, graph in self.graphs.items() for item in graph.way[:-1]]
        self.places = {row: number for number, row in enumerate(rows)}
        start = np.zeros((len(rows), WRONG + 1))
        for (prompt, item), number in self.places.items():
            graph = self.graphs[prompt]
            start[number, list(graph.makes[item]).index(str(graph.right(item)))] = LEAN
        self.weights = Weights(start)

    def play(self, seed: int) -> list[Tree]:
        """Search every task once by the table as it is."""
        policy = chooser(self.graphs, self._weigh(self.weights.chance_SA))
        episodes = drive(SEARCH, self.tasks, self.world, policy, seed=seed)
        return [
            tree_of(e.trajectories, lambda path: path.finish == "answer" and path.answer == path.task.answer)
            for e in episodes
        ]

    def _weigh(self, chance_SA: FloatArray) -> Callable[[Graph, str], Mapping[str, float]]:
        prompts = {graph.way: prompt for prompt, graph in self.graphs.items()}

        def weigh(graph: Graph, item: str) -> Mapping[str, float]:
            number = self.places.get((prompts[graph.way], item))
            row = graph.makes.get(item, {})
            return dict.fromkeys(row, 1.0) if number is None else dict(zip(row, chance_SA[number], strict=True))

        return weigh

    def ids(self, before: Sequence[Message], said: Sequence[Message]) -> Ids:
        """Return the decisions of the table in messages that follow others, as places in its flat form."""
        return list(self._ids(before, said))

    def _ids(self, before: Sequence[Message], said: Sequence[Message]) -> Iterator[int]:
        prompt = str(before[0].content)
        for place, message in enumerate(said):
            item = held([*before, *said[:place]])
            number = self.places.get((prompt, item))
            if number is not None and message.calls:
                yield number * (WRONG + 1) + list(self.graphs[prompt].makes[item]).index(message.calls[0].name)

    def step(self, loss: Callable[[torch.Tensor], torch.Tensor], rate: float) -> None:
        """Take a gradient step on a loss of the log-probs of all decisions."""
        (slope,) = torch.autograd.grad(loss(self.weights.logps(self.weights.now).ravel()), self.weights.now)
        with torch.no_grad():
            self.weights.now -= rate * slope

    def measured(self, seed: int) -> dict[str, float]:
        """Return the exact success of single chains, and success and drawn steps of searches."""
        chance_SA = self.weights.chance_SA
        chains = []
        for prompt, graph in self.graphs.items():
            at = [self.places[prompt, item] for item in graph.way[:-1]]
            columns = [list(graph.makes[item]).index(str(graph.right(item))) for item in graph.way[:-1]]
            chains.append(float(np.prod(chance_SA[at, columns])))
        searched = evaluate(SEARCH, chooser(self.graphs, self._weigh(chance_SA)), self.world, self.tasks, seed=seed)
        steps = min(steps_per_success(searched), 1000.0)
        return {"success": float(np.mean(chains)), "success, search": searched.success, "steps per success": steps}


def _imitate(picks: Picks, trees: Sequence[Tree], steps: int, rate: float) -> None:
    """Take steps on the mean of ``-log p`` over the decisions on ways to success."""
    ways = [way.messages for tree in trees for way in solutions(tree)]
    ids = [i for messages in ways for i in picks.ids(messages[:1], messages[1:])]
    for _ in range(steps if ids else 0):
        picks.step(lambda logps: -logps[ids].mean(), rate)


def _prefer(picks: Picks, trees: Sequence[Tree], steps: int, rate: float, *, paths: bool = False) -> None:
    """Take steps of DPO on pairs, against the table as it is before the first."""
    records = [record for tree in trees for record in (path_preferences if paths else step_preferences)(tree)]
    pairs = [[picks.ids(r.prompt, side) for side in (r.chosen, r.rejected)] for r in records]  # type: ignore[arg-type]
    with torch.no_grad():
        old = picks.weights.logps(picks.weights.now).ravel()

    def loss(logps: torch.Tensor) -> torch.Tensor:
        sums = [torch.stack([table[pair[side]].sum() for pair in pairs]) for table in (logps, old) for side in (0, 1)]
        return dpo(*sums, beta=BETA).mean()

    for _ in range(steps if pairs else 0):
        picks.step(loss, rate)


def _nothing(picks: Picks, trees: Sequence[Tree], steps: int, rate: float) -> None:
    return None


def arm(*, seed: int, tasks: int, steps: int, rate: float, second: Callable[..., None]) -> dict[str, float]:
    """Imitate for ``steps`` updates, learn by ``second`` for as many on new trees, and measure the table."""
    world = ToolGraph(wrong=WRONG)
    picks = Picks(world, world.tasks("train", tasks, seed=seed))
    _imitate(picks, picks.play(seed), steps, FIRST * tasks)
    second(picks, picks.play(seed + 1_000), steps, rate * tasks)
    return picks.measured(seed + 2_000)


def _saved(rows: Rows) -> float:
    """Return the share of drawn steps per success that B saves over A."""
    return 1.0 - float(rows["B"]["steps per success"]) / float(rows["A"]["steps per success"])


STUDY = Study(
    paper="tp-llama",
    statement="Failed steps as preferences solve more with fewer steps than imitating ways to success alone.",
    falsifier="As many further updates of imitation do as well (D matches B), or steps per success do not fall.",
    grade="B",
    trained="a table of tools by item and task, on trees of its own searches of a generated graph",
    arms={
        "A": partial(arm, second=_nothing),
        "B": partial(arm, second=_prefer),
        "C": partial(arm, second=partial(_prefer, paths=True)),
        "D": partial(arm, second=_imitate),
    },
    asks=(
        at_least("success of chains, steps as preferences minus more imitation", less("success", "B", "D"), 0.03),
        at_least("share of drawn steps per success saved", _saved, 0.1),
        at_least("success of chains, steps as preferences minus imitation", less("success", "B", "A"), 0.03),
        at_least("success of chains, steps minus whole ways as preferences", less("success", "B", "C"), 0.0),
    ),
    sizes={"small": {"tasks": 60, "steps": 20}, "tiny": {"tasks": 12, "steps": 4, "rate": 2.0}},
    tuning=Tuning("rate", (0.5, 2.0, 8.0), {"steps": 20}),
    notes=lambda seeds: (
        "A: imitation; B: then pairs of steps; C: then pairs of whole ways; D: then as many updates of imitation. The "
        "table has a row of its own for every item: nothing carries over to tools that it never saw.",
    ),
    setup={"beta": BETA, "rate of imitation": FIRST, "wrong tools": WRONG, "asks of a search": 12},
)
