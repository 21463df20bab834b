"""Supervised fine-tuning on your own conversations, then reinforcement learning on your own tasks, as one method.

Run: ``python examples/sft_then_rl.py`` (a few minutes on two cores). A killed run goes on with ``--resume``, to the
same weights as an undisturbed one; without it a second run starts over in the place of the first.
"""

import argparse
from pathlib import Path

import ferrule as fe
from ferrule.data.records import records
from ferrule.train.stage import from_records
from ferrule.worlds.columns import recognise
from ferrule.worlds.files import read

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="pocket", help="pocket, smollm2-135m, or a Hugging Face model by name or folder")
parser.add_argument("--sft-steps", type=int, default=20)
parser.add_argument("--rl-steps", type=int, default=20)
parser.add_argument("--eval-tasks", type=int, default=16)
parser.add_argument("--output", type=Path, default=Path("runs/sft_then_rl"))
parser.add_argument("--resume", action="store_true")
options = parser.parse_args()

# Each line of conversations.jsonl has the column "messages" in the form of OpenAI and Hugging Face, calls included.
# Their questions are from the split "train", so that the held-out ones stay unseen.
here = Path(__file__).parent / "own_tools"
shop = fe.world(here / "tasks.jsonl", tools=here / "tools.py")
tools = shop.start(shop.tasks("train", 1)[0]).tools
table = read(here / "conversations.jsonl")["all"]
conversations = from_records(list(records(table, recognise(table.columns, ["messages"]), tools)))

# A stage learns from rows, a recipe from episodes that the model plays itself. Each may set what differs in it.
sft = fe.sft(conversations, max_steps=options.sft_steps, learning_rate=1e-3, gradient_accumulation_steps=2)  # of 8 rows
rl = fe.grpo(num_generations=8, max_completion_length=64, max_tool_calling_iterations=3)
method = fe.Method((sft, fe.vary(rl, settings={"max_steps": options.rl_steps, "learning_rate": 3e-4})))

model = fe.load(options.model)
held_out = shop.tasks("test", options.eval_tasks)
before = fe.evaluate(rl.agent, model, shop, held_out, temperature=0.0)
settings = fe.Settings(save_steps=5)
# A folder that holds a run is refused unless the run is to go on or may be overwritten.
resume, overwrite = options.resume, not options.resume
summary = fe.train(method, shop, model, settings, options.output, resume=resume, overwrite=overwrite)
after = fe.evaluate(rl.agent, model, shop, held_out, temperature=0.0)
print(f"{summary['steps']} steps; solved before {before.estimate}, after {after.estimate}")
