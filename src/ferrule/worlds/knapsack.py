"""Opaque Knapsack: weight, value and admissibility of an item are known only through budgeted tools.

Source: "Agents Learn Their Runtime: Interpreter Persistence as Training-Time Semantics" (paper 26),
https://arxiv.org/abs/2603.01209. Items have opaque ids, a weight, a value and a class; only some classes are allowed,
and which ones is not told. The prompt gives capacity, inspection budget, all classes and the tools. One state lies
behind two faces: tools that are called directly, and functions inside a Python interpreter. It is kept outside the
interpreter, so code can neither read an item without inspecting it nor change what was taken.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, get_args

from ferrule.core.arrays import nearest
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.worlds.knapsack_items import LEVELS, Instance, Item, Size, instance_of, record
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, different

__all__ = ["WORLD", "Knapsack", "Runner", "Vault", "isolated"]

Face = Literal["tools", "code"]


class Vault:
    """The state of one episode: what was inspected and taken. Safe to use from several threads; ``fork`` copies it."""

    def __init__(self, instance: Instance) -> None:
        """Start with nothing inspected and nothing taken."""
        self.instance = instance
        self.inspected: dict[str, None] = {}
        self.taken: dict[str, None] = {}
        self.finished = False
        self._items = {item.id: item for item in instance.items}
        self._lock = threading.Lock()

    def _find(self, id: str) -> Item:
        if self.finished:
            raise RuntimeError("the episode is finished")
        if not isinstance(id, str) or id not in self._items:
            raise ValueError(f"unknown item {str(id)[:60]!r}")
        return self._items[id]

    def list_items(self) -> list[str]:
        """Return the ids of all items."""
        return list(self._items)

    def inspect(self, id: str) -> str:
        """Return class, value and weight as JSON text; a repeated look is free.

        Raises ``ValueError`` for an unknown id and ``RuntimeError`` for a new item when the budget is spent.
        """
        with self._lock:
            item = self._find(id)
            if id not in self.inspected and len(self.inspected) >= self.instance.inspections:
                raise RuntimeError(f"the budget of {self.instance.inspections} inspections is spent")
            self.inspected[id] = None
        return json.dumps({"class": item.kind, "value": item.value, "weight": item.weight}, sort_keys=True)

    def take_item(self, id: str) -> str:
        """Put an item into the knapsack for good; it need not have been inspected.

        Checked in this order: ``ValueError`` for an unknown id or one taken already, ``PermissionError`` for a class
        that is not allowed, ``RuntimeError`` when the capacity would be exceeded.
        """
        with self._lock:
            item = self._find(id)
            if id in self.taken:
                raise ValueError(f"item {id!r} is taken already")
            if item.kind not in self.instance.allowed:
                raise PermissionError(f"class {item.kind!r} of item {id!r} is not allowed")
            if self.weight + item.weight > self.instance.capacity:
                raise RuntimeError(f"item {id!r} does not fit: capacity {self.instance.capacity} would be exceeded")
            self.taken[id] = None
        return "taken"

    def finish(self) -> str:
        """End the episode."""
        self.finished = True
        return "finished"

    @property
    def weight(self) -> int:
        """Weight of what was taken."""
        return sum(self._items[id].weight for id in self.taken)

    @property
    def value(self) -> int:
        """Value of what was taken."""
        return sum(self._items[id].value for id in self.taken)

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """The four functions by name, bound to this state."""
        return {name: getattr(self, name) for name in _TEXTS}

    def final(self) -> dict[str, Any]:
        """Return what a verifier may read: the taken items, their value and weight, score, and whether it is solved."""
        score = self.instance.score(list(self.taken))
        return {
            "taken": list(self.taken),
            "inspected": list(self.inspected),
            "value": self.value,
            "weight": self.weight,
            "finished": self.finished,
            "score": score,
            "solved": score == 1.0,
        }

    def fork(self) -> Vault:
        """Return an independent state with the same content."""
        twin = Vault(self.instance)
        with self._lock:
            twin.inspected, twin.taken, twin.finished = dict(self.inspected), dict(self.taken), self.finished
        return twin


class Runner(Protocol):
    """What runs blocks of code in which the world's functions can be called."""

    def run(self, code: str, seconds: float | None = None) -> Observation:
        """Run one block; never raises. ``data`` holds ``stdout``, ``value``, ``exception`` and ``kind``."""
        ...

    def names(self) -> Collection[str]:
        """Names of the globals that a further block would find."""
        ...

    def fork(self, functions: Mapping[str, Callable[..., Any]] | None = None) -> Runner:
        """Return an independent runner in the same state, with functions of the same names when given."""
        ...

    def close(self) -> None:
        """Free it; may be called twice."""
        ...


Interpret: TypeAlias = Callable[[Mapping[str, Callable[..., Any]], bool], Runner]
"""Makes a runner from the functions and whether globals persist from block to block."""


def isolated(functions: Mapping[str, Callable[..., Any]], persistent: bool) -> Runner:
    """Return an isolated Python interpreter in which ``functions`` can be called."""
    from ferrule.sandbox.interpreter import Interpreter

    return Interpreter(persistent=persistent, functions=functions)


_TEXTS = {
    "list_items": "ids of all items",
    "inspect": "class, value and weight of an item; only so many different items may be inspected",
    "take_item": "put an item into the knapsack for good; refused when its class is not allowed or it does not fit",
    "finish": "end the episode",
}


def _schema(**types: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in types.items()},
        "required": list(types),
        "additionalProperties": False,
    }


def _direct(vault: Vault) -> tuple[Tool, ...]:
    """Return the four tools bound to a state."""
    run, one, none = vault.functions, _schema(id="string"), _schema()
    return (
        Tool("list_items", _TEXTS["list_items"], none, run["list_items"], idempotent=True),
        Tool("inspect", _TEXTS["inspect"], one, run["inspect"], effects="write", idempotent=True),
        Tool("take_item", _TEXTS["take_item"], one, run["take_item"], effects="write"),
        Tool("finish", _TEXTS["finish"], none, run["finish"], terminal=True, effects="write"),
    )


class _Coded:
    """A state together with the runner whose code reaches it."""

    def __init__(self, vault: Vault, runner: Runner, persistent: bool) -> None:
        self.vault, self.runner, self.persistent = vault, runner, persistent

    def fork(self) -> _Coded:
        vault = self.vault.fork()
        return _Coded(vault, self.runner.fork(vault.functions), self.persistent)

    def close(self) -> None:
        self.runner.close()

    def run(self, code: str) -> Observation:
        observation = self.runner.run(code)
        data = {**(observation.data or {}), "globals": sorted(self.runner.names()) if self.persistent else []}
        return replace(observation, data=data, terminal=self.vault.finished)

    def tools(self) -> tuple[Tool, ...]:
        memory = (
            "Variables are kept from block to block." if self.persistent else "Variables are lost after each block."
        )
        listing = "; ".join(f"{name}: {text}" for name, text in _TEXTS.items())
        text = (
            f"Run Python code that may call list_items(), inspect(id), take_item(id) and finish(). {memory} {listing}."
        )
        return (Tool("python", text, _schema(code="string"), self.run, effects="write", seconds=70.0),)


@dataclass(frozen=True)
class Knapsack:
    """Seeded Opaque Knapsack tasks; ``meta["state"]`` asks for the optimum, ``final()["score"]`` is the share reached.

    ``face`` is ``tools`` (four tools) or ``code`` (one tool ``python`` in whose code the four are functions). In the
    code face globals live from block to block when ``persistent``; the state of the knapsack always does.
    ``interpret`` makes what runs the code, ``calls`` caps the tool calls of an episode, ``sizes`` gives the levels.
    """

    face: Face = "tools"
    persistent: bool = True
    calls: int = 160
    interpret: Interpret = field(default=isolated, repr=False)
    sizes: Mapping[int, Size] = field(default_factory=lambda: LEVELS, repr=False)
    name: str = "knapsack"

    def __post_init__(self) -> None:
        """Refuse an unknown face and settings that would do nothing."""
        if self.face not in get_args(Face):
            raise ValueError(f"Knapsack.face: {nearest(str(self.face), get_args(Face))}")
        if self.face == "tools" and not self.persistent:
            raise ValueError("Knapsack.persistent would do nothing without face='code'")

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` different tasks whose levels take turns."""
        check_split(split, levels)
        return different(lambda level, place, key: self._task(split, level, f"{seed}/{key}"), count, levels)

    def _task(self, split: str, level: int, drawn: str) -> Task:
        key = f"{self.name}/{split}/{level}/{drawn}"
        instance = instance_of(key, self.sizes)
        public = record(instance, task_id=key, family=self.name)["public"]
        meta = {"level": level, "split": split, "public": public, "state": {"solved": True}}
        return Task(id=key, prompt=instance.prompt(), world=self.name, meta=meta)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session; an interpreter starts its process with the first block."""
        vault = Vault(instance_of(task.id, self.sizes))
        budget = Budget(total=self.calls)
        if self.face == "tools":
            return ToolSession(task, _direct, vault, budget=budget, limit=8000, final=Vault.final)
        coded = _Coded(vault, self.interpret(vault.functions, self.persistent), self.persistent)
        return ToolSession(task, _Coded.tools, coded, budget=budget, limit=8000, final=lambda s: s.vault.final())

    def demonstrate(self, task: Task) -> Demonstration:
        """Return the calls that take the items of an optimum unseen and then finish: one per round, or one block."""
        taken = [item.id for item in instance_of(task.id, self.sizes).best]
        if self.face == "code":
            code = "\n".join([*(f"take_item({id!r})" for id in taken), "finish()"])
            return Demonstration(((Call("python", {"code": code}),),))
        return Demonstration((*((Call("take_item", {"id": id}),) for id in taken), (Call("finish", {}),)))


WORLD = Knapsack
