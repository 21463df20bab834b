"""TGRL: three toy domains, one tool, and a small network that they share, trained by rewards on the first domain.

The network is first fitted to answer in the right form in all domains, to call rarely and to read a result.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.papers.tgrl import level_reward, recipe
from ferrule.studies.conditions import at_least, less, minus, of
from ferrule.studies.standins.domains import DOMAINS, HIDDEN, TURNS, Interface, first_network, network, play, questions
from ferrule.studies.study import Study
from ferrule.studies.table import Player, Weights, plain, train_table

__all__ = ["STUDY", "arm"]

MEASURES = ("accuracy", "calls", "decisions", "ended")


def _played(chance_SA: FloatArray, interface: Interface, *, episodes: int, seed: int) -> dict[str, float]:
    """Play every domain: accuracy, share of episodes with a call, decisions, and share that ended properly."""
    rng, numbers = np.random.default_rng([seed, 2]), dict[str, float]()
    for domain, name in enumerate(DOMAINS):
        tasks = questions(domain)
        played = [play(tasks[i % len(tasks)], Player(chance_SA, rng), interface=interface) for i in range(episodes)]
        measured = [
            (answer.parts["outcome"], any(o.counted for _, o in t.calls), t.sampled_count, t.finish == "answer")
            for t in played
            for answer in level_reward(t.task, [t])
        ]
        means = np.mean(measured, axis=0)
        numbers |= {f"{key} {name}": float(mean) for key, mean in zip(MEASURES, means, strict=True)}
    for key in MEASURES:
        numbers[f"{key} unseen"] = float(np.mean([numbers[f"{key} {name}"] for name in DOMAINS[1:]]))
    return numbers


def arm(*, seed: int, steps: int, episodes: int, interface: Interface) -> dict[str, float]:
    """Fit the first network, train it on the first domain, and measure all domains, with gains over the start."""
    start, tie = first_network(interface, seed), network(interface)
    before = _played(Weights(start, tie).chance_SA, interface, episodes=episodes, seed=seed)
    table = train_table(
        recipe(plain(), longest=2.0 * TURNS, refill=2), partial(play, interface=interface), questions(0), start,
        steps=steps, learning_rate=3.0, seed=seed, groups=4, tie=tie,
    )  # fmt: skip
    after = _played(table.chance_SA, interface, episodes=episodes, seed=seed)
    gains = {f"gain {name}": after[f"accuracy {name}"] - before[f"accuracy {name}"] for name in (*DOMAINS, "unseen")}
    return {**after, **gains}


STUDY = Study(
    paper="tgrl",
    statement="Tool use learned in one domain carries over when the interface, finishing included, is uniform.",
    falsifier="Tags per domain carry over as well as the uniform interface.",
    grade="B",
    trained="a network of one hidden layer on one of three toy domains",
    arms={
        "uniform": partial(arm, interface=Interface()),
        "tags per domain": partial(arm, interface=Interface(shared_call=False, shared_answer=False)),
        "text only": partial(arm, interface=Interface(shared_call=None)),
        "no answer tool": partial(arm, interface=Interface(shared_answer=False)),
    },
    asks=(
        at_least("gain in unseen domains, uniform interface", of("uniform", "gain unseen"), 0.2),
        at_least("episodes with a call in unseen domains", of("uniform", "calls unseen"), 0.6),
        at_least(
            "half the gain of the uniform interface less the gain with tags per domain",
            minus(of("uniform", "gain unseen", factor=0.5), of("tags per domain", "gain unseen")),
            0.0,
        ),
        at_least(
            "gain in unseen domains, uniform interface minus text only",
            less("gain unseen", "uniform", "text only"),
            0.0,
        ),
        at_least(
            "properly ended in unseen domains, with minus without the answer tool",
            less("ended unseen", "uniform", "no answer tool"),
            0.0,
        ),
    ),
    sizes={"small": {"steps": 200, "episodes": 300}, "tiny": {"steps": 4, "episodes": 40}},
    setup={"groups": 4, "samples": 8, "hidden": HIDDEN},
)
