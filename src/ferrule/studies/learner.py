"""Language models as arms of a study: where they start, and how well they do on held-out tasks after training."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, TypeAlias

from ferrule.core.flows import Agent, World
from ferrule.core.paths import store
from ferrule.core.recipe import Data, Drawn, Method, Part, Recipe
from ferrule.core.records import Message, Task, Tool
from ferrule.data.formats import Row, conversation
from ferrule.evaluate.evaluate import Evaluation, evaluate
from ferrule.policies.named import load, weights_digest
from ferrule.train import checkpoint
from ferrule.train.loop import train
from ferrule.train.policy import Trains
from ferrule.train.settings import Settings
from ferrule.train.stage import fit, sft
from ferrule.train.tensors import read_tensors, write_tensors

__all__ = ["Conversation", "copied", "learner", "learning_curve", "moved", "taught"]

Conversation: TypeAlias = tuple[Sequence[Message], Sequence[Tool]]
"""What was said, and the tools that were on offer."""
_USUAL: Mapping[str, Any] = {
    "max_steps": 60, "learning_rate": 1e-3, "per_device_train_batch_size": 16, "warmup_steps": 5,
    "lr_scheduler_type": "cosine",
}  # fmt: skip
_UNLIMITED, _HELD_OUT = 1_000_000, 10_000


def learner(
    conversations: Sequence[Conversation] | Data, *, base: str = "pocket",
    seed: int = 0, folder: Path | None = None, **settings: Any,
) -> Any:  # fmt: skip
    """Return the model ``base`` after supervised fine-tuning: what the arms of a claim start from.

    ``conversations`` are laid out by the model's own renderer; a source of rows (``train.stage.demonstrations``) may
    take their place. ``settings`` are those of the stage; ``seed`` orders the rows. The result is kept in ``folder``
    (by default ``learners`` in the user's cache folder) under a digest of the weights of ``base``, the ids of all rows
    and the settings, so that the arms and seeds that begin alike train it once.
    """
    policy = load(base, device="cpu")  # where the stored numbers were measured
    rows = _rows(policy, conversations)
    how: dict[str, Any] = {**_USUAL, **settings, "seed": seed}
    place = (folder or store() / "learners") / _address(base, rows, how)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:  # of workers that begin alike, one trains and the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.exists():
            read_tensors(place, checkpoint.weights(policy))
        else:
            fit(policy, sft(rows), Settings(**how))
            with checkpoint.whole_or_not(place) as written:
                write_tensors(written, checkpoint.weights(policy))
    return policy


def _rows(policy: Any, conversations: Sequence[Conversation] | Data) -> Sequence[Row]:
    if not callable(conversations):
        return [conversation(said, tools, policy.renderer, policy.encode) for said, tools in conversations]
    drawn = conversations(policy, 0)
    return drawn.items if isinstance(drawn, Drawn) else drawn


def _address(base: str, rows: Sequence[Row], settings: Mapping[str, Any]) -> str:
    from ferrule import __version__

    shown = [(row.ids, row.turn) for row in rows]
    text = json.dumps([weights_digest(base), shown, settings, __version__], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def learning_curve(
    recipe: Recipe, world: World, policy: Trains, settings: Settings, tasks: Sequence[Task]
) -> dict[int, Evaluation]:
    """Train ``policy`` in place and return its evaluations on ``tasks`` by step: before, and every ``eval_steps``.

    The agent is the recipe's and the seed that of ``settings``. Nothing is kept on disk.
    """

    def measured() -> Evaluation:
        return evaluate(recipe.agent, policy, world, tasks, seed=settings.seed)

    curve = {0: measured()}

    def watch(model: Any, step: int) -> Mapping[str, float]:
        curve[step] = measured()
        return {"success": curve[step].success}

    with TemporaryDirectory() as folder:
        train(recipe, world, policy, settings, Path(folder), evaluate=watch)
    return curve


def _pocket(seed: int) -> Any:
    return load("pocket", device="cpu")


def taught(
    *, seed: int, sampled: int, tasks: int, batch: int, learning_rate: float, method: Method | Part, agent: Agent,
    world: World, levels: Sequence[int], start: Callable[[int], Trains] = _pocket,
    also: Mapping[str, Agent] = MappingProxyType({}),
) -> dict[str, float]:  # fmt: skip
    """Train the model ``start(seed)`` and return how ``agent`` does on held-out tasks before and after: an arm.

    ``method`` learns from train tasks of ``world`` for ``sampled`` generated tokens, discarded ones included, in steps
    of ``batch`` episodes. Judged are ``tasks`` test tasks drawn by the seed, each played once and greedily. ``start``
    and ``success`` are the shares solved; after training ``calls`` (per task, those that ran), ``failed`` (the share of
    attempted calls that did not end well, 0 without any) and ``tokens`` (written per task); ``sampled`` and ``steps``
    say what training took, and ``moved`` is the Euclidean length of the change of all weights, to three digits. Each
    agent in ``also`` plays the same tasks afterwards, at temperature 1: ``success, NAME`` and ``turns, NAME`` (replies
    drawn per task).
    """
    policy = start(seed)
    first = copied(policy)
    settings = Settings(
        max_steps=_UNLIMITED, max_sampled_tokens=sampled, per_device_train_batch_size=batch,
        gradient_accumulation_steps=1, learning_rate=learning_rate, seed=seed, levels=tuple(levels),
    )  # fmt: skip
    held_out = world.tasks("test", tasks, seed=_HELD_OUT + seed, levels=levels)
    before = evaluate(agent, policy, world, held_out, seed=seed, temperature=0.0)
    summary = train(method, world, policy, settings, None)
    after = evaluate(agent, policy, world, held_out, seed=seed, temperature=0.0)
    attempts = sum(row.attempts for row in after.rows)
    others: dict[str, float] = {}
    for name, searcher in also.items():
        found = evaluate(searcher, policy, world, held_out, seed=seed, temperature=1.0)
        others[f"success, {name}"] = found.success
        others[f"turns, {name}"] = sum(row.turns for row in found.rows) / len(found.rows)
    return {
        "start": before.success,
        "success": after.success,
        "calls": sum(row.calls for row in after.rows) / len(after.rows),
        "failed": sum(row.failed for row in after.rows) / max(attempts, 1),
        "tokens": sum(row.tokens or 0 for row in after.rows) / len(after.rows),
        "sampled": float(summary["sampled_tokens"]),
        "steps": float(summary["steps"]),
        "moved": moved(policy, first),
        **others,
    }


def copied(policy: Trains) -> dict[str, Any]:
    """Return a copy of all weights of a policy by name."""
    return {name: tensor.clone() for name, tensor in checkpoint.weights(policy).items()}


def moved(policy: Trains, first: Mapping[str, Any]) -> float:
    """Return the Euclidean length of the change of all weights since ``copied`` gave ``first``, to three digits."""
    squares = [float((tensor - first[name]).square().sum()) for name, tensor in checkpoint.weights(policy).items()]
    return float(f"{math.fsum(squares) ** 0.5:.3g}")
