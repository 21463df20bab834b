"""Evaluate a model behind an OpenAI-compatible server with tools and without.

Start a server, for example ``vllm serve MODEL --enable-auto-tool-choice --tool-call-parser hermes`` or ``llama-server
--jinja -m MODEL.gguf``, then run ``python examples/served_model.py http://127.0.0.1:8000/v1``.
"""

import argparse

import ferrule as fe
from ferrule.evaluate.compare import compare
from ferrule.evaluate.evaluate import WITH, WITHOUT, arms

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("url", help="address of the server, for example http://127.0.0.1:8000/v1")
parser.add_argument("--served-model", help="which of the server's models; not needed where it has one")
parser.add_argument("--codec", help="write calls as text, for servers that do not know tools: hermes, react, ...")
parser.add_argument("--world", default="arithmetic")
parser.add_argument("--eval-tasks", type=int, default=50)
options = parser.parse_args()

model = fe.load(options.url, model=options.served_model, codec=options.codec, max_tokens=256)
world = fe.world(options.world)
tasks = world.tasks("test", options.eval_tasks)

# The same tasks under the same verifier; requests of many episodes are on their way at once.
evaluations = arms(fe.ToolLoop(turns=4, max_tokens=256), model, world, tasks, temperature=0.0)
for name, evaluation in evaluations.items():
    numbers = evaluation.as_dict()
    print(name, evaluation.estimate, {key: numbers[key] for key in ("calls", "malformed", "failed", "finish")})
print(compare(evaluations[WITHOUT], evaluations[WITH]))

# A request that fails is sent again; what was needed is counted.
for role, meter in model.meters.items():
    print(f"{role}: {meter.requests} requests, {meter.retries} sent again, {meter.completion_tokens} tokens")
model.close()
