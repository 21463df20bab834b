"""TP-LLaMA: Advancing Tool-Augmented LLMs: Integrating Insights from Errors in Inference Trees (09), June 2024.

https://arxiv.org/abs/2406.07115

Searches for training data throw away every branch that failed. Here a step on the way to success is preferred to each
step beside it that led nowhere, after the same history: fine-tuning on the ways to success is followed by DPO on these
pairs, against the fine-tuned model. Trees, pairs and ways are ``ferrule.data.trees``; inference is the same search, by
the tuned model. Judges of passes and wins are ``ferrule.rewards.tooleval``.

Departures from the paper:

1. No training code was released. Rates, numbers of epochs and pairs, and beta (0.5) are recollections of the paper and
   stay settings.
2. Trees are those of the model's own searches, drawn anew before each stage, so that the pairs are of the model that
   learns from them; with ``rounds`` the whole is repeated. Given trees (``ferrule.data.toolbench.read_tree``) make the
   same pairs through ``step_preferences``.
3. The message that asks for a different step is in no history, and pairs of equal text are dropped.
4. A search ends with its first success, so failed steps come from earlier tries; ``DepthFirst(answers=2)`` draws more.
5. ``certain=True`` leaves out failed steps that may have failed for no fault of their own: kept are those whose call
   ended in an error or below which all that the search may draw was drawn.
6. DPO sums log-probs, which favours short replies; ``lengths`` reports both sides of pairs.
7. The claim trains tables on a generated graph of tools, and the pocket model on tasks with tools that it never saw,
   instead of a 7B model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ferrule.agents.depth_first import DepthFirst
from ferrule.core.flows import World
from ferrule.core.recipe import Data, Drawn, Method, Recipe
from ferrule.data.formats import Pair
from ferrule.data.records import Preference
from ferrule.data.trees import Branch, Tree, path_preferences, solutions, step_preferences
from ferrule.evaluate.evaluate import Evaluation
from ferrule.studies.paper import Paper

__all__ = ["PAPER", "certain_failure", "exhausted", "lengths", "method", "steps_per_success", "thinned"]


def exhausted(branch: Branch, *, width: int = 2) -> bool:
    """Tell whether a search drew all that it may below a step: ``width`` steps beside each other, as deep as it may go.

    A step with nothing below it is a dead end where it answered, gave up or stands at the depth limit (``pruned``);
    else the search ended before it went on from there. One with fewer than ``width`` below it was left when the search
    went back further.
    """
    if not branch.children:
        return branch.notes.get("state") in ("answer", "gave up") or bool(branch.notes.get("pruned"))
    return len(branch.children) >= width and all(exhausted(child, width=width) for child in branch.children)


def certain_failure(branch: Branch, *, width: int = 2) -> bool:
    """Tell whether a step failed by itself: one of its calls did, or everything below it was tried in vain."""
    return branch.failed or exhausted(branch, width=width)


def lengths(pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the mean numbers of the model's tokens in ``chosen`` and ``rejected``, and the share of ``longer`` chosen.

    All are 0 without pairs.
    """
    sizes = [tuple(sum(turn >= 0 for turn in row.turn) for row in (pair.chosen, pair.rejected)) for pair in pairs]
    count = max(len(sizes), 1)
    return {
        "chosen": sum(chosen for chosen, _ in sizes) / count,
        "rejected": sum(rejected for _, rejected in sizes) / count,
        "longer": sum(chosen > rejected for chosen, rejected in sizes) / count,
    }


def thinned(data: Data, most: int, *, seed: int = 0) -> Data:
    """Return a source of at most ``most`` of what another returns, drawn at random in each round."""

    def drawn(policy: Any, lap: int) -> Drawn:
        given = data(policy, lap)
        items, sampled = (given.items, given.sampled) if isinstance(given, Drawn) else (given, 0)
        kept = random.Random(f"{seed}/{lap}").sample(list(items), min(most, len(items)))
        return Drawn(kept, sampled)

    return drawn


def steps_per_success(evaluation: Evaluation) -> float:
    """Return the number of steps drawn over all tasks per task solved; infinite where none was."""
    solved = sum(row.score for row in evaluation.rows)
    return sum(row.turns for row in evaluation.rows) / solved if solved else float("inf")


def method(
    base: Recipe, world: World, *, tasks: int = 64, levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0,
    rounds: int = 1, beta: float = 0.5, imitate: int = 50, prefer: int = 50, pairs: int | None = 8_200,
    paths: bool = False, certain: bool = False, agent: DepthFirst | None = None, rate: float | None = None,
) -> Method:  # fmt: skip
    """Return ``imitate`` updates on ways to success, then ``prefer`` updates of DPO on their steps over failed ones.

    Before each the policy searches ``tasks`` tasks by ``agent`` (None: depth-first with the base agent's system text,
    reply length and stop strings); success is judged by the base's reward. At most ``pairs`` pairs are learned from.
    ``paths`` prefers whole ways to whole failed ways instead (the paper's ablation), ``certain`` keeps only steps of
    ``certain_failure``. ``rate`` is the learning rate of DPO where it is another. ``rounds`` repeats both stages.
    """
    from ferrule.train.stage import dpo, searched, sft

    if paths and certain:
        raise ValueError("certain=True picks failed steps; with paths=True it would do nothing")
    kept = {name: getattr(base.agent, name) for name in ("system", "max_tokens", "stop") if hasattr(base.agent, name)}
    agent = agent if agent is not None else DepthFirst(**kept)
    rejects = partial(certain_failure, width=agent.width) if certain else None
    learn: Callable[[Tree], Sequence[Preference]] = path_preferences if paths else step_preferences
    if rejects is not None:
        learn = partial(step_preferences, rejects=rejects)
    source = partial(searched, agent, world, tasks=tasks, levels=levels, reward=base.reward)
    preferred = source(learn, seed=seed + 1)
    settings = {"max_steps": prefer} | ({} if rate is None else {"learning_rate": rate})
    return Method(
        (
            sft(source(solutions, seed=seed), max_steps=imitate),
            dpo(preferred if pairs is None else thinned(preferred, pairs, seed=seed), beta=beta, **settings),
        ),
        rounds=rounds,
    )


PAPER = Paper(
    number=9,
    slug="tp-llama",
    title="Advancing Tool-Augmented Large Language Models: Integrating Insights from Errors in Inference Trees",
    date="2024-06",
    url="https://arxiv.org/abs/2406.07115",
    pieces={"pairs": step_preferences, "paths": path_preferences, "certain": certain_failure, "method": method},
    summary="Prefers each step on the way to success to the failed steps beside it, after imitating the way.",
    reported="Large gains over supervised fine-tuning in nearly all scenarios (abstract; no figures confirmed).",
)
