"""A graph of tools that turn one item into another: a way to the goal, wrong turns that end somewhere, and a script.

A task names an item to begin with and one to make. From every item on the way one tool leads on and others lead astray,
into chains of items that end after ``late`` further steps, where no tool takes what is held. The script takes the right
tool with a chance, another one otherwise, and gives up where nothing is left; it knows nothing of what others tried
unless it is told.

Source: a stand-in for the APIs of "ToolLLM: Facilitating Large Language Models to Master 16000+ Real-world APIs" (45)
and of "Advancing Tool-Augmented Large Language Models" (09).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import TypeAlias

from ferrule.core.flows import Ask, Session
from ferrule.core.records import Call, Message, Observation, Task, Tool, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.worlds.session import ToolSession

__all__ = ["Graph", "ToolGraph", "Weigh", "chooser", "held", "judge", "speaker"]

_NO_PARAMETERS = {"type": "object", "properties": {}}


@dataclass(frozen=True)
class Graph:
    """The tools of one task: ``makes[item][tool]`` is what a tool makes of an item; ``way`` leads to the goal."""

    way: tuple[str, ...]
    makes: Mapping[str, Mapping[str, str]]

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of all tools."""
        return tuple(sorted({tool for row in self.makes.values() for tool in row}))

    def right(self, item: str) -> str | None:
        """Return the tool that leads on from an item on the way; None elsewhere, and at the goal."""
        if item not in self.way[:-1]:
            return None
        wanted = self.way[self.way.index(item) + 1]
        return next(tool for tool, made in self.makes[item].items() if made == wanted)


def _word(rng: random.Random) -> str:
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(3))


@lru_cache(maxsize=4096)
def _graph(key: str, needed: int, wrong: int, late: int) -> Graph:
    rng = random.Random(key)
    words: list[str] = []
    while len(words) < 1 + needed * (2 + wrong * (2 + late)):
        if (word := _word(rng)) not in words:
            words.append(word)
    way, left = words[: needed + 1], iter(words[needed + 1 :])
    makes: dict[str, dict[str, str]] = {}
    for item, made in pairwise(way):
        row = {next(left): made}
        for _ in range(wrong):
            astray = next(left)
            row[next(left)] = astray
            for _ in range(late):
                further = next(left)
                makes[astray] = {next(iter(row)): further}  # a tool that is known from elsewhere leads further astray
                astray = further
        order = list(row.items())
        rng.shuffle(order)
        makes[item] = dict(order)
    return Graph(tuple(way), makes)


@dataclass
class _Hand:
    item: str


def _use(graph: Graph, hand: _Hand, tool: str) -> Observation:
    made = graph.makes.get(hand.item, {}).get(tool)
    if made is None:
        return Observation(f"{tool} does not take {hand.item}", "error")
    hand.item = made
    return Observation(f"you hold {made}")


@dataclass(frozen=True)
class ToolGraph:
    """Tasks that need 3 to 5 tools (``needed``) of 15 to 25; ``wrong`` tools of each item lead astray."""

    needed: tuple[int, ...] = (3, 4, 5)
    wrong: int = 4
    late: int = 0
    name: str = "tool_graph"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return seeded tasks; the answer is the item that was to be made."""
        tasks = []
        for i in range(count):
            key, needed = f"graph/{split}/{seed}/{i}", self.needed[i % len(self.needed)]
            graph = _graph(key, needed, self.wrong, self.late)
            prompt = f"You hold {graph.way[0]}. Make {graph.way[-1]}."
            tasks.append(Task(key, prompt, graph.way[-1], self.name, meta={"needed": needed}))
        return tasks

    def graph(self, task: Task) -> Graph:
        """Return the graph of a task."""
        return _graph(task.id, task.meta["needed"], self.wrong, self.late)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session."""
        graph = self.graph(task)

        def build(hand: _Hand) -> tuple[Tool, ...]:
            return tuple(
                Tool(tool, "", _NO_PARAMETERS, run=partial(_use, graph, hand, tool), effects="write")
                for tool in graph.tools
            )

        return ToolSession(task, build, _Hand(graph.way[0]))


def held(messages: Sequence[Message]) -> str:
    """Return the item that a conversation says is held."""
    texts = [plain_text(message) for message in messages if message.role in ("user", "tool")]
    said = [text.split("hold ")[1].split(".")[0] for text in texts if "hold " in text]
    return said[-1]


def _asked(messages: Sequence[Message]) -> str:
    """Return what a task asks for, which is its prompt."""
    return next(plain_text(message) for message in messages if message.role == "user")


Weigh: TypeAlias = Callable[[Graph, str], Mapping[str, float]]
"""How likely each tool is to be taken for what is held, by its name; none where nothing can be done with it."""


def chooser(graphs: Mapping[str, Graph], weigh: Weigh) -> Scripted:
    """Return a policy that draws tools by their weights; ``graphs`` are those of tasks by prompt.

    Told which tools were tried beside the step, it takes one of the others, in proportion. At the goal it answers, and
    where nothing takes what it holds or all was tried it gives up: by Finish where that is on offer, else by a text and
    by none.
    """

    def speak(request: Ask, sample: int) -> Message:
        rng = random.Random(f"{request.seed}/{sample}")
        graph, last = graphs[_asked(request.messages)], plain_text(request.messages[-1])
        hinted = "tried here before" in last
        item = held(request.messages[:-1] if hinted else request.messages)
        must_finish = any(tool.name == "Finish" for tool in request.tools)
        if item == graph.way[-1]:
            answer = _call("Finish", return_type="give_answer", final_answer=item)
            return answer if must_finish else Message("assistant", item)
        weights = {tool: x for tool, x in weigh(graph, item).items() if not (hinted and f"{tool}(" in last)}
        if not any(weights.values()):
            return _call("Finish", return_type="give_up_and_restart") if must_finish else Message("assistant", "")
        return _call(rng.choices(list(weights), list(weights.values()))[0])

    return Scripted(speak)


def speaker(graphs: Mapping[str, Graph], *, error: float) -> Scripted:
    """Return a ``chooser`` that takes another than the right tool with the chance ``error`` at every item."""

    def weigh(graph: Graph, item: str) -> dict[str, float]:
        row, right = graph.makes.get(item, {}), graph.right(item)
        wrong = max(len(row) - (right is not None), 1)
        return {tool: 1.0 - error if tool == right else error / wrong for tool in row}

    return chooser(graphs, weigh)


def _call(name: str, **arguments: str) -> Message:
    return Message("assistant", "", (Call(name, arguments),))


def judge(graphs: Mapping[str, Graph], *, right: float) -> Scripted:
    """Return a judge of two attempts who, where one alone is on the way, says so with the chance ``right``."""

    def speak(request: Ask, sample: int) -> str:
        text = plain_text(request.messages[-1])
        graph = next(graph for prompt, graph in graphs.items() if prompt in text)
        rng = random.Random(f"{request.seed}/{text}")
        shown = text.split("\n\nWhich is better")[0].split("Candidate 1:")[1].split("Candidate 2:")
        on_way = [part.split()[-1] in graph.way for part in shown]
        if on_way[0] == on_way[1]:
            return '{"better": "tie"}'
        better = "1" if on_way[0] == (rng.random() < right) else "2"
        return f'{{"better": "{better}"}}'

    return Scripted(speak)
