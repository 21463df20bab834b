"""Environments of ``verifiers`` below 0.4 as their users write them, played by Ferrule; prints what came of it as JSON."""

import json
import sys

import verifiers as vf
from datasets import Dataset

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message
from ferrule.evaluate.evaluate import evaluate
from ferrule.policies.scripted import Scripted
from ferrule.worlds.named import world
from ferrule.worlds.session import SAY


def rows(count: int) -> Dataset:
    return Dataset.from_list([{"question": f"What is {i} + 2?", "answer": str(i + 2)} for i in range(count)])


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: the first
        b: the second
    """
    return a + b


def exact(completion, answer, **kwargs) -> float:
    return float(completion[-1].content == answer)


def tools() -> vf.Environment:
    return vf.ToolEnv(
        dataset=rows(8), system_prompt="Be exact.", tools=[add], rubric=vf.Rubric(funcs=[exact]), max_turns=3
    )


def load_environment() -> vf.Environment:
    return vf.SingleTurnEnv(dataset=rows(8), eval_dataset=rows(3), rubric=vf.Rubric(funcs=[exact]))


class Game(vf.MultiTurnEnv):
    async def env_response(self, messages, state, **kwargs):
        said = messages[-1].content
        if said != "7":
            return [{"role": "user", "content": "higher" if int(said) < 7 else "lower"}]
        state["won"] = True
        state["final_env_response"] = [{"role": "user", "content": "right"}]
        return []


def won(state, **kwargs) -> float:
    return float(state.get("won", False))


def game() -> vf.Environment:
    guesses = Dataset.from_list([{"question": f"Guess {i}.", "answer": "7"} for i in range(5)])
    return Game(dataset=guesses, rubric=vf.Rubric(funcs=[won], weights=[2.0]))


class Box(vf.StatefulToolEnv):
    async def setup_state(self, state):
        state["items"] = []

    def update_tool_args(self, tool_name, tool_args, messages, state, **kwargs):
        return {**tool_args, "items": state["items"]}


def put(item: str, items: list) -> str:
    """Put an item in."""
    items.append(item)
    return f"{len(items)} items"


def box() -> vf.Environment:
    env = Box(dataset=rows(5), rubric=vf.Rubric(funcs=[exact]), max_turns=9)
    env.add_tool(put, args_to_skip=["items"])
    return env


def summed(ask: Ask, sample: int) -> Message | str:
    if ask.messages[-1].role == "tool":
        return str(ask.messages[-1].content)
    number = int(str(ask.messages[-1].content).split()[2])
    return Message("assistant", "", (Call("add", {"a": number, "b": 2}, id="c"),))


def heard(session, *said: str) -> list[list[object]]:
    seen = [session.act(Call(SAY, {"content": each})) for each in said]
    return [[each.text, each.terminal] for each in seen]


def main() -> None:
    here = "verifiers_environment"
    home = world(f"{here}:tools")
    tasks = [*home.tasks("train", 9), *home.tasks("test", 9)]
    task = next(each for each in tasks if each.prompt == "What is 3 + 2?")
    session = home.start(task)
    offered = [(each.name, each.description, each.parameters) for each in session.tools]
    sums = [session.act(Call("add", given)) for given in ({"a": 3, "b": 2}, {"a": "x", "b": 2})]
    branch, midway = session.fork(), session.final()["reward"]
    ended = [heard(session, "5"), heard(branch, "6")]
    rewards = [session.final()["reward"], branch.final()["reward"]]
    late = session.act(Call("add", {"a": 1, "b": 1}))
    evaluation = evaluate(ToolLoop(), Scripted(summed), home, tasks, num_generations=2)
    single, playing, boxes = world(f"verifiers:{here}"), world(f"{here}:game"), world(f"{here}:box")
    guessing = playing.start(playing.tasks("train", 1)[0])
    guesses = [heard(guessing, "5", "9"), guessing.final()["reward"], heard(guessing, "7"), guessing.final()["reward"]]
    boxed = [boxes.start(boxes.tasks("train", 1)[0]) for _ in range(2)]
    kept = [each.act(Call("put", {"item": "a"})).text for each in boxed for _ in range(2)]
    said = {
        "sizes": [[len(w.tasks(split, 9)) for split in ("train", "test")] for w in (home, single)],
        "prompt": [[message.role, message.content] for message in task.messages], "tools": offered,
        "sums": [[each.text, each.status] for each in sums], "midway": midway, "ended": ended, "rewards": rewards,
        "late": [late.status, late.terminal], "values": evaluation.values, "guesses": guesses, "kept": kept,
        "hidden": [each.parameters["required"] for each in boxed[0].tools], "named": single.name,
    }  # fmt: skip
    for each in (session, branch, guessing, *boxed):
        each.close()
    print(json.dumps(said))


if __name__ == "__main__":
    sys.modules["verifiers_environment"] = sys.modules["__main__"]
    main()
