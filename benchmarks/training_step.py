"""One GRPO step of the pocket model: its seconds, tokens sampled a second, and row tokens a second of the update."""

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from common import arguments, report, spread

from ferrule.evaluate.demo import demo
from ferrule.train.sample import sample
from ferrule.train.update import sequences, update


def main() -> None:
    """Take steps on the demo's plan and time sampling and update apart."""
    import torch

    options = arguments(__doc__ or "", repeats=7)
    with TemporaryDirectory() as folder:
        plan = demo(Path(folder), max_steps=1, eval_tasks=2, max_minutes=60)
    recipe = replace(plan.recipe, num_generations=8)
    tasks = plan.world.tasks("train", 8, seed=5)
    optimiser = torch.optim.AdamW(plan.policy.parameters(), lr=1e-6)
    sampled, updated, steps, episodes = [], [], [], 0
    for step in range(options.repeats + 1):
        began = time.perf_counter()
        batch = sample(recipe, lambda count: tasks[:count], 8, plan.world, plan.policy, seed=1, step=step)
        middle = time.perf_counter()
        seqs = sequences(batch)
        update(plan.policy, seqs, plan.recipe.objective, plan.recipe.reduce, optimiser, rows=32)
        ended = time.perf_counter()
        sampled.append(float((batch.signals.turn_NT >= 0).sum()) / (middle - began))
        steps.append(ended - began)
        episodes = sum(len(group.episodes) for group in batch.groups)
        updated.append(sum(len(ids) for ids in seqs.ids) / (ended - middle))
    figures = {"episodes": episodes, "step seconds": spread(steps[1:])}
    figures |= {"sampled tokens/s": spread(sampled[1:]), "update row tokens/s": spread(updated[1:])}
    report("training_step", {**figures, "threads": torch.get_num_threads()}, options.json)


if __name__ == "__main__":
    main()
