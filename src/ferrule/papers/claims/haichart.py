"""HAIChart: how much of the best a search reaches when equal choices share what is learned of them, and when not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from ferrule.agents.graph import ChoiceGraph, KeyOf, by_choice, by_way, graph_search, random_search
from ferrule.studies.conditions import at_least, less, minus, of
from ferrule.studies.standins.slots import draw_slots
from ferrule.studies.study import Study
from ferrule.studies.tuning import Tuning

__all__ = ["STUDY", "reached"]

SMALL, STRONG = 0.2, 1.5
"""How much pairs of choices count beside single ones."""


def reached(
    *, seed: int, simulations: Sequence[int], node_key: KeyOf | None, invalid: float = -1.0, decay: float = 0.8,
    weight: float = 1.5, interaction: float = SMALL,
) -> dict[str, float]:  # fmt: skip
    """Return the share of the ten best ends that were reached after each number of ``simulations``.

    ``worth`` is the mean score of all simulations that ended in a valid end, ``valid`` their share. ``node_key`` None
    draws every choice evenly.
    """
    problem, graph, done = draw_slots(seed, interaction=interaction), ChoiceGraph[tuple[int, ...]](), 0
    numbers: dict[str, float] = {}
    ends: list[tuple[int, ...]] = []
    for count in simulations:
        more, drawn = count - done, seed * 10_000 + done
        if node_key is None:
            ends += random_search(problem, graph, simulations=more, seed=drawn)
        else:
            ends += graph_search(
                problem, graph, simulations=more, seed=drawn, weight=weight, decay=decay, invalid=invalid,
                node_key=node_key,
            )  # fmt: skip
        numbers[f"reached {count}"] = len(problem.best & graph.scores.keys()) / len(problem.best)
        done = count
    worth = [score for end in ends if (score := problem.score(end)) is not None]
    return {**numbers, "worth": fmean(worth), "valid": len(worth) / len(ends)}


WAYS = {"random": None, "tree": by_way, "graph": by_choice}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "mild": {"invalid": -1.0}, "mild, fast": {"invalid": -1.0, "decay": 8.0}, "printed": {"invalid": -15.0},
    "printed, fast": {"invalid": -15.0, "decay": 8.0}, "strong pairs": {"interaction": STRONG},
}  # fmt: skip
ARMS = {
    f"{way}, {setting}": partial(reached, node_key=key, **changes)
    for setting, changes in SETTINGS.items()
    for way, key in WAYS.items()
    if key is not None or setting in ("mild", "strong pairs")
}
AT = partial(less, "reached 1000")
STUDY = Study(
    paper="haichart",
    statement="Sharing nodes across prefixes reaches more of the best per simulation than tree search or random draws.",
    falsifier="With the mild penalty the graph reaches no more than the tree or random draws in 1,000 simulations.",
    grade="C",
    trained="nothing: drawn scores of five slots with six values; the seed draws the problem",
    arms=ARMS,
    asks=(
        at_least("share of the best ten after 1,000, graph minus tree", AT("graph, mild", "tree, mild"), 0.02),
        at_least("share of the best ten after 1,000, graph minus random", AT("graph, mild", "random, mild"), 0.02),
        at_least("the same, graph minus tree, fast decay", AT("graph, mild, fast", "tree, mild, fast"), 0.02),
        at_least(
            "the same, what the printed penalty takes of graph minus tree",
            minus(AT("graph, mild", "tree, mild"), AT("graph, printed", "tree, printed")),
            0.02,
            decides=False,
        ),
        at_least(
            "the same, graph minus tree, printed penalty", AT("graph, printed", "tree, printed"), 0.02, decides=False
        ),
        at_least(
            "the same, graph minus random, printed penalty and fast decay",
            AT("graph, printed, fast", "random, mild"),
            0.0,
            decides=False,
        ),
        at_least(
            "the same, graph minus tree, strong pairs",
            AT("graph, strong pairs", "tree, strong pairs"),
            0.0,
            decides=False,
        ),
        at_least("share after 3,000, graph", of("graph, mild", "reached 3000"), 0.5, decides=False),
    ),
    sizes={"small": {"simulations": (300, 1000, 3000)}, "tiny": {"simulations": (300, 1000, 3000), "weight": 1.5}},
    setup={"slots": 5, "values": 6, "invalid pairs": 0.15, "pairs": SMALL, "strong pairs": STRONG},
    tuning=Tuning("weight", (0.5, 1.5, 4.5), {"simulations": (1000,)}, tuple(range(8)), "reached 1000"),
)
