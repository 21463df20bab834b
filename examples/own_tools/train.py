"""Train a model on your own tools and tasks, and measure it on held-out tasks before and after.

Run: ``python examples/own_tools/train.py`` (a few minutes on two cores). ``tools.py`` and ``tasks.jsonl`` beside this
file are all that is particular to the shop; replace them by your own.
"""

import argparse
from pathlib import Path

import ferrule as fe
from ferrule.train.stage import demonstrations

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="pocket", help="pocket, smollm2-135m, or a Hugging Face model by name or folder")
parser.add_argument("--sft-steps", type=int, default=20)
parser.add_argument("--rl-steps", type=int, default=20)
parser.add_argument("--eval-tasks", type=int, default=16)
parser.add_argument("--output", type=Path, default=Path("runs/own_tools"))
options = parser.parse_args()

# A task is a prompt, an answer and how the two are compared, and may name the calls that solve it. A fifth of the
# tasks, drawn by a digest of the prompt, is the split "test" and never trained on.
here = Path(__file__).parent
shop = fe.world(here / "tasks.jsonl", tools=here / "tools.py")
held_out = shop.tasks("test", options.eval_tasks)

# Reinforcement learning has nothing to learn from tasks that are never solved, so some solutions are shown first; leave
# the stage out for a model that solves a few tasks of every kind by itself.
solutions = demonstrations(shop, tasks=32)
shown = fe.sft(solutions, max_steps=options.sft_steps, learning_rate=1e-3, gradient_accumulation_steps=2)  # of 8 rows
recipe = fe.grpo(num_generations=8, max_completion_length=64, max_tool_calling_iterations=3)
method = fe.Method((shown, fe.vary(recipe, settings={"max_steps": options.rl_steps, "learning_rate": 3e-4})))

model = fe.load(options.model)
before = fe.evaluate(recipe.agent, model, shop, held_out, temperature=0.0)
# Settings that are not given are chosen to suit the model: here 8 tasks a step, of 8 episodes each. A folder that holds
# a run is refused unless it may be overwritten: started again, this script starts over.
fe.train(method, shop, model, fe.Settings(), options.output, overwrite=True)
after = fe.evaluate(recipe.agent, model, shop, held_out, temperature=0.0)
print(f"solved before {before.estimate}, after {after.estimate}")

# What the model did, call by call. `ferrule report own_tools` shows the same as a page.
for episode in after.episodes[:3]:
    trajectory = episode.trajectories[0]
    print(episode.task.prompt, [call.arguments for call, _ in trajectory.calls], trajectory.answer)

model.save(options.output / "model")  # fe.load and --model take this folder
