"""A taskset of ``verifiers`` as its users write them, played by Ferrule; prints what came of it as JSON."""

import json
import sys

import verifiers.v1 as vf

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message
from ferrule.evaluate.evaluate import evaluate
from ferrule.policies.scripted import Scripted
from ferrule.worlds.named import world


class Total(vf.State):
    total: int = 0


class AdderConfig(vf.ToolsetConfig):
    step: int = 1


class Adder(vf.Toolset[AdderConfig, Total]):
    TOOL_PREFIX = "adder"

    async def setup_task(self, task):
        self.goal = task.goal

    @vf.tool
    async def add(self, amount: int) -> str:
        """Add to the total.

        Args:
            amount: how much
        """
        if amount < 0:
            raise ValueError("only upwards")
        self.state.total += amount * self.config.step
        return f"{self.state.total} of {self.goal}"

    @vf.tool
    def look(self) -> str:
        """Look at the total."""
        return str(self.state.total)


class CountData(vf.TaskData):
    goal: int


class CountTask(vf.Task[CountData, Total]):
    @classmethod
    def toolsets(cls, config):
        return [Adder(AdderConfig())]

    async def setup(self, trace, runtime):
        await runtime.write("goal.txt", str(self.data.goal).encode())

    @vf.reward(weight=1.0)
    async def exact(self, task, trace, runtime) -> float:
        return float(trace.state.total == int((await runtime.read("goal.txt")).decode()))

    @vf.reward(weight=0.5)
    async def said(self, task, trace) -> float:
        return float(str(task.goal) in trace.last_reply)

    @vf.metric
    async def results(self, trace) -> float:
        return float(len(trace.tool_messages))

    @vf.stop
    async def over(self, trace: vf.Trace) -> bool:
        return trace.state.total > 10


class Count(vf.Taskset[CountTask]):
    def load(self):
        for goal in range(1, 9):
            yield CountTask(CountData(prompt=f"Count to {goal}.", system_prompt="Be exact.", goal=goal))


class Boxed(vf.Taskset[CountTask]):
    def load(self):
        task = type("Contained", (CountTask,), {"NEEDS_CONTAINER": True})
        yield task(CountData(prompt="x", goal=1))


__all__ = ["Count"]


def counted(ask: Ask, sample: int) -> Message | str:
    """Add all at once, and say so; of four only in the second sample."""
    goal = int(str(ask.messages[1].content).rstrip(".").split()[-1])
    if ask.messages[-1].role == "tool":
        return f"It is {goal}."
    return Message("assistant", "", (Call("adder_add", {"amount": goal + (goal % 2)}, id="c"),))


def main() -> None:
    played = world("verifiers_taskset:Count")
    tasks = [*played.tasks("train", 9), *played.tasks("test", 9)]
    tasks.sort(key=lambda task: int(task.id.rpartition("/")[2]))
    session = played.start(tasks[5])
    tools = [(tool.name, tool.description, tool.parameters) for tool in session.tools]
    seen = [session.act(Call("adder_add", {"amount": 2}))]
    branch = session.fork()
    seen += [session.act(Call("adder_add", {"amount": -1})), branch.act(Call("adder_add", {"amount": 20}))]
    seen += [session.act(Call("adder_look", {}))]
    finals = [session.final(), branch.final()]
    session.close()
    branch.close()
    evaluation = evaluate(ToolLoop(), Scripted(counted), played, tasks, num_generations=2)
    refused = []
    for name in ("verifiers_taskset:Boxed", "verifiers:nothing_of_that_name"):
        try:
            world(name)
        except ValueError as error:
            refused.append(str(error))
    said = {
        "sizes": [len(played.tasks(split, 9)) for split in ("train", "test")],
        "prompt": [[message.role, message.content] for message in tasks[5].messages],
        "tools": tools, "seen": [[each.text, each.status, each.terminal] for each in seen], "finals": finals,
        "values": evaluation.values, "finish": sorted({row.finish for row in evaluation.rows}),
        "named": world("verifiers:verifiers_taskset").name, "refused": refused,
    }  # fmt: skip
    print(json.dumps(said))


if __name__ == "__main__":
    sys.modules["verifiers_taskset"] = sys.modules["__main__"]
    main()
