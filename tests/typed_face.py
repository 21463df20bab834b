"""What type checkers must know about ``import ferrule``; mypy reads this file, nothing runs it."""

from typing import assert_type

import ferrule as fe
from ferrule.evaluate.evaluate import Evaluation
from ferrule.policies.local import Local
from ferrule.rollout.record import Episode


@fe.tool
def double(x: int) -> int:
    """Twice x."""
    return 2 * x


world = fe.world("arithmetic")
model = fe.load("pocket")
recipe = fe.grpo(num_generations=4)
assert_type(double, fe.Tool)
assert_type(world, fe.World)
assert_type(model, Local)
assert_type(recipe, fe.Recipe)
assert_type(fe.vary(recipe, num_generations=2), fe.Recipe)
assert_type(fe.evaluate(recipe.agent, model, world, world.tasks("test", 2)), Evaluation)
assert_type(fe.run("What is 1 + 1?", model, tools=[double]), Episode)
assert_type(fe.rollout(recipe.agent, world.tasks("train", 1), world, model), list[Episode])
fe.train(recipe, world, model, fe.Settings(max_steps=1), "runs/typed")
assert_type(fe.sft([]), fe.Stage)
assert_type(fe.Method((fe.sft([]), recipe)), fe.Method)
fe.papers.find("otc")
