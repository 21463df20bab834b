"""ToolLLM on the pocket model: searches of held-out tasks at equal tokens, and training on what a search found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ferrule.agents.best_of import BestOf
from ferrule.agents.react import ToolLoop
from ferrule.agents.search import Budget, Node
from ferrule.core.flows import Agent
from ferrule.core.recipe import Method, vary
from ferrule.evaluate.evaluate import evaluate
from ferrule.papers.toolllm import chain, gave_up, method, searching
from ferrule.policies.named import load
from ferrule.studies.conditions import at_least, less
from ferrule.studies.learner import taught
from ferrule.studies.study import Study
from ferrule.studies.table import plain
from ferrule.studies.tuning import Tuning
from ferrule.train.stage import sft, successes
from ferrule.worlds.apis import Apis

__all__ = ["STUDY", "failed", "found", "played"]

LEVELS, TOKENS, LONGEST, BATCH = (3, 4, 5), 400, 64, 8
"""Levels of the tasks, tokens per task in a search and per reply, and rows per step."""
LOOP = ToolLoop(turns=6, max_tokens=LONGEST)
_ROUNDS = 1_000_000


def failed(node: Node) -> bool:
    """Give up after a call that failed as well: the model is not trained to say so itself."""
    return gave_up(node) or any(observation.status != "ok" for observation in node.observations)


_SEARCH: Mapping[str, Any] = {
    "budget": Budget(tokens=TOKENS), "max_tokens": LONGEST, "system": "", "depth": 6, "stuck": failed,
}  # fmt: skip


def played(*, seed: int, tasks: int, agent: Agent, temperature: float = 1.0, **training: float) -> dict[str, float]:
    """Let the model as it is play the test tasks of a seed by an agent; settings of training make no difference."""
    world = Apis()
    todo = world.tasks("test", tasks, seed=seed, levels=LEVELS)
    evaluation = evaluate(agent, load("pocket"), world, todo, seed=seed, temperature=temperature)
    return {
        "success": evaluation.success,
        "tokens": sum(row.tokens or 0 for row in evaluation.rows) / len(evaluation.rows),
        "calls": sum(row.calls for row in evaluation.rows) / len(evaluation.rows),
    }


def _searched(seed: int, drawn: int) -> Method:
    return method(plain(agent=LOOP), Apis(), tasks=drawn, levels=LEVELS, seed=seed, rounds=_ROUNDS, steps=2, **_SEARCH)


def _sampled(seed: int, drawn: int) -> Method:
    """Rejection sampling: independent attempts in place of a search, four a task, of which up to two are imitated."""
    recipe = vary(plain(agent=LOOP), num_generations=4)
    data = successes(recipe, Apis(), tasks=drawn, most=2, levels=LEVELS, seed=seed)
    return Method((sft(data, max_steps=2),), rounds=_ROUNDS)


def found(
    *, seed: int, tasks: int, sampled: int, drawn: int, learning_rate: float, learn: Callable[[int, int], Method]
) -> dict[str, float]:
    """Train on ways to success for ``sampled`` tokens in all, ``drawn`` tasks a round; a plain loop is then judged."""
    learned = learn(seed, drawn)
    return taught(
        seed=seed, sampled=sampled, tasks=tasks, batch=BATCH, learning_rate=learning_rate, method=learned, agent=LOOP,
        world=Apis(), levels=LEVELS,
    )  # fmt: skip


STUDY = Study(
    paper="toolllm",
    part="pocket",
    statement="Depth-first search begun anew solves more than chains begun anew at equal tokens, and its ways teach.",
    falsifier="Chains solve as much as depth-first search, or independent attempts teach as much as searches.",
    grade="A",
    trained="the pocket model on its own ways to success; searches train nothing, their seed draws the tasks",
    models=("pocket",),
    arms={
        "loop": partial(played, agent=LOOP, temperature=0.0),
        "chains": partial(played, agent=chain(100, **_SEARCH)),
        "dfsdt": partial(played, agent=searching(**_SEARCH)),
        "dfsdt begun anew": partial(played, agent=searching(restarts=99, **_SEARCH)),
        "best of 4": partial(
            played, agent=BestOf(samples=4, turns=6, budget=Budget(tokens=TOKENS), max_tokens=LONGEST)
        ),
        "taught by searches": partial(found, learn=_searched),
        "taught by attempts": partial(found, learn=_sampled),
    },
    asks=(
        at_least("success, dfsdt begun anew minus chains", less("success", "dfsdt begun anew", "chains"), 0.02),
        at_least("success, a single dfsdt minus chains", less("success", "dfsdt", "chains"), 0.02, decides=False),
        at_least(
            "success of the loop, taught by searches minus by attempts",
            less("success", "taught by searches", "taught by attempts"),
            0.0,
        ),
    ),
    sizes={
        "small": {"tasks": 120, "sampled": 60_000, "drawn": 16},
        "tiny": {"tasks": 4, "sampled": 3_500, "drawn": 4, "learning_rate": 1e-3},
    },
    seeds=(100, 101, 102, 103, 104),
    tuning=Tuning("learning_rate", (1e-4, 3e-4, 1e-3), {"sampled": 15_000}),
    setup={"levels": list(LEVELS), "tokens per task": TOKENS},
)
