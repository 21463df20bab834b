"""TGRL: three toy domains, one tool, and a small network that they share, trained by rewards on the first domain.

The network is first fitted to answer in the right form in all domains, to call rarely and to read a result.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.papers.tgrl import level_reward, recipe
from ferrule.studies.conditions import at_least, less, minus, of
from ferrule.studies.network import BARRED, imitated, layers, weight_count
from ferrule.studies.standins.domains import (
    ACTIONS,
    BLIND,
    DIGITS,
    DOMAINS,
    KNOWING,
    PAIRS,
    SEEN,
    START,
    STATES,
    TEXT,
    TURNS,
    Interface,
    play,
    questions,
    result,
    row_of,
)  # fmt: skip
from ferrule.studies.study import Study
from ferrule.studies.table import Player, Tie, Weights, plain, train_table

__all__ = ["STUDY", "arm", "first_network", "network"]

HIDDEN = 24
MEASURES = ("accuracy", "calls", "decisions", "ended")


def network(interface: Interface) -> Tie:
    """Return the network over stage, domain and the numbers or the result; tags that do not exist are out of reach."""
    features = np.zeros((STATES, 5 + len(DOMAINS) + 3 * DIGITS))
    barred = np.zeros((STATES, ACTIONS))
    tags = {tag(domain) for domain in range(len(DOMAINS)) for tag in (interface.call, interface.answer)}
    barred[:, [action for action in range(DIGITS, TEXT) if action not in tags]] = BARRED
    for stage, domain, pair in product(range(5), range(len(DOMAINS)), range(PAIRS)):
        a, b = divmod(pair, DIGITS)
        marks = [b + 2 * DIGITS] if stage in (SEEN, KNOWING) else [a, DIGITS + b]
        row = row_of(stage, domain, pair)
        features[row, [stage, 5 + domain, *(8 + mark for mark in marks)]] = 1.0
        barred[row, slice(DIGITS, None) if stage >= BLIND else slice(DIGITS)] = BARRED
    return layers(features, barred, hidden=HIDDEN)


def _wanted(interface: Interface) -> tuple[FloatArray, FloatArray]:
    """Return what the first network imitates and how much each row counts.

    It answers at once in the domain's form in 8 of 10 cases, calls in 1 of 10 and strays in 1 of 10; three in ten of
    its digits are right. Given a result it answers as often and copies the result in 6 of 10 cases.
    """
    wanted, weight = np.zeros((STATES, ACTIONS)), np.zeros(STATES)
    stages = {START: PAIRS, BLIND: PAIRS, SEEN: DIGITS, KNOWING: DIGITS}
    for stage, d in product(stages, range(len(DOMAINS))):
        for at in range(stages[stage]):
            row = row_of(stage, d, at)
            weight[row] = 1.0
            if stage in (START, SEEN):
                for tag, chance in zip((interface.answer(d), interface.call(d), TEXT), (0.8, 0.1, 0.1), strict=True):
                    wanted[row, tag if tag >= 0 else interface.answer(d)] += chance
                continue
            truth, chance = (at, 0.6) if stage == KNOWING else (result(d, *divmod(at, DIGITS)), 0.3)
            wanted[row, :DIGITS] = (1 - chance) / (DIGITS - 1)
            wanted[row, truth] = chance
    return wanted, weight


def first_network(interface: Interface, seed: int) -> FloatArray:
    """Fit the first network and return its weights."""
    count = weight_count(5 + len(DOMAINS) + 3 * DIGITS, HIDDEN, ACTIONS)
    start = np.random.default_rng([seed, 1]).normal(0.0, 0.3, count)
    return imitated(start, network(interface), *_wanted(interface))


def _played(chance_SA: FloatArray, interface: Interface, *, episodes: int, seed: int) -> dict[str, float]:
    """Play every domain: accuracy, share of episodes with a call, decisions, and share that ended properly."""
    rng, numbers = np.random.default_rng([seed, 2]), dict[str, float]()
    for domain, name in enumerate(DOMAINS):
        tasks = questions(domain)
        played = [play(tasks[i % PAIRS], Player(chance_SA, rng), interface=interface) for i in range(episodes)]
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
