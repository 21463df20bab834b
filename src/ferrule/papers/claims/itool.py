"""iTool: pairs of fragments, more fine-tuning and pairs of whole replies, at equal updates of the pocket model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean
from typing import Any, TypeAlias

from ferrule.core.recipe import Drawn, Stage
from ferrule.data.formats import Pair, Row
from ferrule.data.layout import laid_out
from ferrule.data.records import Completion
from ferrule.papers.itool import hard_fragments, hardest, perplexities, searcher, written_so_far
from ferrule.studies.conditions import at_least, less
from ferrule.studies.learner import copied, learner, moved
from ferrule.studies.standins.forms import agrees, arguments_of, exact, requests
from ferrule.studies.study import Study
from ferrule.studies.tuning import Tuning

__all__ = ["STUDY", "arm"]

FEW = 3
"""A request with more arguments than this is complex."""
BETA, GAMMA = 2.5, 0.5
Learn: TypeAlias = Callable[[Sequence[Completion], int], Stage]


def arm(
    *, seed: int, samples: int, sft_steps: int, steps: int, batch: int, held_out: int, learning_rate: float,
    learn: Learn,
) -> dict[str, float]:  # fmt: skip
    """Fine-tune the pocket model on requests, let it learn on for ``steps`` updates, and count exact replies.

    ``perplexity`` is the mean of that of the references, to three digits."""
    from ferrule.train.settings import Settings
    from ferrule.train.stage import fit

    drawn = requests(samples, seed=seed)
    said = [((*sample.prompt, *sample.completion), sample.tools) for sample in drawn]
    policy: Any = learner(said, seed=seed, max_steps=sft_steps)
    test = requests(held_out, seed=10_000 + seed, split="test")
    first, before = copied(policy), _shares(test, exact(policy, test))
    settings = Settings(
        max_steps=steps, learning_rate=learning_rate, per_device_train_batch_size=batch, gradient_accumulation_steps=1,
        seed=seed,
    )  # fmt: skip
    fit(policy, learn(drawn, seed), settings)
    after = _shares(test, exact(policy, test))
    start = {f"start, {name}": share for name, share in before.items()}
    perplexity = float(f"{fmean(perplexities(policy, test)):.3g}")
    return {**start, **after, "perplexity": perplexity, "moved": moved(policy, first)}


def _shares(samples: Sequence[Completion], right: Sequence[bool]) -> dict[str, float]:
    """Return the shares of exact replies to simple and to complex requests."""
    groups: dict[str, list[bool]] = {"simple": [], "complex": []}
    for sample, good in zip(samples, right, strict=True):
        groups["complex" if arguments_of(sample) > FEW else "simple"].append(good)
    return {name: sum(good) / max(len(good), 1) for name, good in groups.items()}


def _hard(policy: Any, samples: Sequence[Completion]) -> list[Completion]:
    places = hardest(perplexities(policy, samples), [True] * len(samples))
    return [samples[place] for place in places]


def _more(samples: Sequence[Completion], seed: int, *, hard: bool = False) -> Stage:
    from ferrule.train.stage import sft

    def rows(policy: Any, lap: int) -> list[Row | Pair]:
        chosen = _hard(policy, samples) if hard else samples
        return [laid_out(sample, policy.renderer, policy.encode) for sample in chosen]

    return sft(rows)


def _whole(samples: Sequence[Completion], seed: int) -> Stage:
    """Prefer the reference reply to the hardest samples over the model's own wrong ones."""
    from ferrule.core.flows import Ask
    from ferrule.train.stage import simpo

    def pairs(policy: Any, lap: int) -> Drawn:
        chosen = _hard(policy, samples)
        asks = [Ask(s.prompt, n=3, tools=s.tools, max_tokens=160, seed=seed) for s in chosen]  # type: ignore[arg-type]
        items, written = [], 0
        for sample, replies in zip(chosen, policy.generate(asks), strict=True):
            gold = laid_out(sample, policy.renderer, policy.encode)
            for reply in replies:
                written += len(reply.sampled)
                turn = (*[-1] * len(reply.given), *[0] * len(reply.sampled))
                row = Row((*reply.given, *reply.sampled), turn)
                if isinstance(gold, Row) and reply.sampled and not agrees(reply.message, sample):
                    items.append(Pair(gold, row))
        return Drawn(items, written)

    return simpo(pairs, beta=BETA, gamma=GAMMA)


def _fragments(samples: Sequence[Completion], seed: int, *, hard: bool = True) -> Stage:
    """Prefer fragments that a search over replies to the hardest samples, or to random ones, finds good."""
    from ferrule.train.stage import simpo

    agent = searcher(value=partial(written_so_far, closing="}}"), closing="}}", max_tokens=160)
    data = hard_fragments(samples, agent=agent, by_difficulty=hard, seed=seed)
    return simpo(data, beta=BETA, gamma=GAMMA)


SEARCHED, MORE, WHOLE = "fragments, hardest", "more fine-tuning", "whole replies"
STUDY = Study(
    paper="itool",
    statement="Pairs of fragments on hard samples improve complex calls more than fine-tuning or whole-reply pairs.",
    falsifier="Whole-reply pairs do as well, or exact replies to simple requests fall by more than 2 points.",
    grade="A",
    trained="the pocket model, fine-tuned on requests, by equal updates; judged on held-out tools",
    arms={
        MORE: partial(arm, learn=_more),
        "fine-tuning on the hardest": partial(arm, learn=partial(_more, hard=True)),
        WHOLE: partial(arm, learn=_whole),
        SEARCHED: partial(arm, learn=_fragments),
        "fragments, random": partial(arm, learn=partial(_fragments, hard=False)),
    },
    asks=(
        at_least("exact complex replies, fragments minus more fine-tuning", less("complex", SEARCHED, MORE), 0.03),
        at_least("exact complex replies, fragments minus whole replies", less("complex", SEARCHED, WHOLE), 0.0),
        at_least("exact simple replies, fragments minus more fine-tuning", less("simple", SEARCHED, MORE), -0.02),
        at_least(
            "exact complex replies, hardest minus random samples",
            less("complex", SEARCHED, "fragments, random"),
            0.0,
            decides=False,
        ),
    ),
    sizes={
        "small": {"samples": 300, "sft_steps": 30, "steps": 20, "batch": 16, "held_out": 120},
        "tiny": {
            "samples": 24, "sft_steps": 10, "steps": 2, "batch": 4, "held_out": 12, "learning_rate": 3e-4,
        },
    },
    seeds=(100, 101, 102, 103, 104),
    setup={"few": FEW, "beta": BETA, "gamma": GAMMA},
    models=("pocket",),
    tuning=Tuning("learning_rate", (1e-5, 1e-4, 1e-3), {"held_out": 60, "steps": 5}, (0,), "complex"),
)  # fmt: skip
