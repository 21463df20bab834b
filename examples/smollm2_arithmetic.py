"""A real pretrained model learns to use a tool: SFT cold start, then GRPO, on arithmetic word problems.

Run: ``python examples/smollm2_arithmetic.py --output docs/records`` (about half an hour on two cores; a GPU is used
when there is one). It writes ``smollm2-arithmetic.json`` with the settings, the versions and all figures; a second run
writes it anew.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from ferrule.chat.codec import codec
from ferrule.chat.renderer import ChatML
from ferrule.evaluate.evaluate import evaluate
from ferrule.policies.local import load
from ferrule.policies.models import get
from ferrule.train.display import Display
from ferrule.train.folder import versions
from ferrule.train.grpo import grpo
from ferrule.train.logs import write_json
from ferrule.train.loop import train
from ferrule.train.settings import Settings
from ferrule.train.stage import demonstrations, fit, sft
from ferrule.worlds.arithmetic import Arithmetic


def main() -> None:
    """Measure, cold-start, measure, train, measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--sft-steps", type=int, default=10)
    parser.add_argument("--grpo-steps", type=int, default=10)
    parser.add_argument("--eval-tasks", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    began = time.perf_counter()
    world = Arithmetic(form="words", tools=("python",))
    levels = (1, 2, 3)
    policy = load(get("smollm2-135m"), dtype="auto")
    policy.renderer = ChatML(codec("hermes", style="signature"))
    recipe = grpo(num_generations=8, max_completion_length=64, max_tool_calling_iterations=3)
    held_out = world.tasks("test", options.eval_tasks, seed=99, levels=levels)
    chosen = {name: value for name, value in vars(options).items() if name != "output"}
    record = {"model": "SmolLM2-135M-Instruct", "levels": levels, "options": chosen, "versions": versions()}

    def measure(phase: str) -> None:
        evaluation = evaluate(recipe.agent, policy, world, held_out, seed=options.seed + 1, temperature=1.0)
        record[phase] = evaluation.as_dict()
        record[phase]["minutes"] = round((time.perf_counter() - began) / 60, 1)
        write_json(options.output / "smollm2-arithmetic.json", record)
        print(
            phase, json.dumps({k: record[phase][k] for k in ("success", "interval", "calls", "malformed")}), flush=True
        )

    measure("before")
    cold = Settings(max_steps=options.sft_steps, learning_rate=3e-5, per_device_train_batch_size=8, seed=options.seed)
    losses = fit(policy, sft(demonstrations(world, tasks=80, levels=levels, seed=7)), cold)
    record["sft"] = {"settings": asdict(cold), "losses": [round(x, 4) for x in losses]}
    measure("after_sft")
    settings = Settings(
        max_steps=options.grpo_steps,
        learning_rate=1e-5,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=4,
        seed=options.seed,
        levels=levels,
    )
    folder = Path("runs/smollm2-arithmetic")
    curve = []
    with Display(settings.max_steps, title="grpo") as display:

        def show(row: dict) -> None:
            display.show(row)
            if row["phase"] == "train":
                curve.append(
                    {k: round(row[k], 4) for k in ("step", "success", "calls/mean", "malformed/share", "entropy")}
                )

        train(recipe, world, policy, settings, folder, show=show, overwrite=True)
    record["grpo"] = {"settings": asdict(settings), "curve": curve}
    measure("after_grpo")


if __name__ == "__main__":
    main()
