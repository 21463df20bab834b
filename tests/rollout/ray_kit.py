"""What the tests of Ray workers send to them. It is imported there too, so it imports little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ferrule.core.flows import Ask, ask, use
from ferrule.core.records import Call, Message, Task, Tool
from ferrule.worlds.session import ToolSession

SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Two nodes of one logical core each, and this process connected to them."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=SMALL)
    try:
        cluster.add_node(**SMALL)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@dataclass(frozen=True)
class Desk:
    """A world with the given tools; ``broken`` sessions cannot be opened."""

    tools: tuple[Tool, ...] = ()
    broken: str = ""
    name: str = "desk"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        return [Task(f"{split}/{i}", f"task {i}", "yes", world=self.name) for i in range(count)]

    def start(self, task: Task, seed: int = 0) -> Any:
        if self.broken:
            raise ZeroDivisionError(self.broken)
        return ToolSession(task, lambda state: self.tools, None)


def tool(name: str, run: Any) -> Tool:
    """A tool without parameters."""
    return Tool(name, "a tool", {"type": "object", "properties": {}}, run=run, seconds=60.0)


@dataclass(frozen=True)
class Calling:
    """An agent that asks for ``n`` replies and makes a call, ``rounds`` times; the call of ``other`` is of its own."""

    name: str
    rounds: int = 2
    n: int = 1
    other: tuple[str, str] = ("", "")

    def __call__(self, task: Task, session: Any) -> Any:
        messages = [Message("user", task.prompt)]
        own = Call(self.other[1] if task.id == self.other[0] else self.name, {}, id="call_0")
        for _ in range(self.rounds):
            replies = yield from ask(Ask(tuple(messages), n=self.n, tools=session.tools, max_tokens=12))
            (seen,) = yield from use(*(replies[-1].message.calls[:1] or (own,)))
            messages += [replies[-1].message, Message("tool", seen.text)]
        return messages[-1].content


def word(request: Ask, sample: int) -> str:
    """A script without calls whose words depend on the seed."""
    return f"word {request.seed % 97} {sample}"
