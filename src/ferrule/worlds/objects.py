"""Environments that are Python classes, one object per episode: TRL's form (methods as tools), and Gymnasium's.

An object in TRL's form begins with ``reset()``, which may return the first text; its other public methods are the
tools; its ``reward`` (an attribute, or a method without arguments) says what the episode was worth, and ``done``, where
it has one, that it is over. A Gymnasium environment (https://gymnasium.farama.org) has one tool, ``step``.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ferrule.core.flows import Session, World
from ferrule.core.paths import by_path
from ferrule.core.records import Observation, Task, Tool
from ferrule.tools.budget import Budget
from ferrule.tools.files import named_once
from ferrule.tools.invoke import render
from ferrule.tools.sources import methods_as_tools
from ferrule.worlds import tasksets
from ferrule.worlds.environments import environment, is_environment
from ferrule.worlds.session import ToolSession
from ferrule.worlds.splits import check_split, task_seeds
from ferrule.worlds.tasksets import is_taskset

__all__ = ["ObjectWorld", "world_of"]

_BESIDE = ("reset", "reward", "done", "fork", "close")  # methods that are no tools


def world_of(path: str, *, calls: int = 32) -> World:
    """Return the world of ``module:Class``, or of a function without arguments that builds the object.

    A taskset or environment of ``verifiers``, or a function that returns one, is the world of its tasks. Raises
    ``ValueError`` for what is none of these, and for an object without ``reset``.
    """
    build, name = by_path(path), path.partition(":")[2]
    taskset = build() if inspect.isfunction(build) else build
    if is_taskset(taskset):
        return tasksets.taskset(taskset, name)
    if is_environment(taskset):
        return environment(taskset, name)
    if not callable(build):
        raise ValueError(f"{path} is {type(build).__name__}; an environment is a class, or a function that builds one")
    return ObjectWorld(build, name, calls)


@dataclass(frozen=True)
class ObjectWorld:
    """The environments that ``build()`` returns; rewards come from them (``meta["verifier"]`` is ``world``).

    A task is a reset with a seed, where ``reset`` takes one (even for ``train``, odd for ``test``). Its prompt is the
    class's description and what the reset returned. An episode branches by ``fork()``, else by a deep copy.
    """

    build: Callable[[], Any] = field(repr=False)
    name: str = "object"
    calls: int = 32

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return ``count`` tasks; levels mean nothing here. Raises ``ValueError`` where nothing says what to do."""
        check_split(split, levels)
        tasks = []
        for number in task_seeds(split, count, seed):
            reset = {"seed": number}
            played = self._begin(reset)
            prompt = played.prompt()
            played.close()
            if not prompt:
                raise ValueError(
                    f"{self.name} does not say what to do: describe the class, or return text from reset()"
                )
            meta = {"reset": reset, "verifier": "world"}
            tasks.append(Task(f"{self.name}-{number}", prompt, world=self.name, meta=meta))
        return tasks

    def start(self, task: Task, seed: int = 0) -> Session:
        """Build an object and reset it with ``task.meta["reset"]``, else with ``seed``."""
        played = self._begin(dict(task.meta.get("reset", {"seed": seed})))
        return ToolSession(
            task, lambda each: each.tools(), played, budget=Budget(total=self.calls), final=lambda each: each.final()
        )

    def _begin(self, reset: dict[str, Any]) -> _Methods | _Steps:
        instance = self.build()
        if not callable(getattr(instance, "reset", None)):
            raise ValueError(f"{self.name} has no reset(); an environment begins every episode with it")
        spaces = hasattr(instance, "action_space") and hasattr(instance, "step")
        kind = _Steps if spaces else _Methods
        taken = inspect.signature(instance.reset).parameters
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
        return kind(instance, instance.reset(**{k: v for k, v in reset.items() if open_ended or k in taken}))


def _described(instance: Any) -> str:
    """Return the first paragraph of a class's own description, without headings."""
    parts = (inspect.cleandoc(type(instance).__doc__ or "")).split("\n\n")
    texts = ["\n".join(line for line in part.splitlines() if not line.startswith("#")).strip() for part in parts]
    return next((text for text in texts if text), "")


@dataclass
class _Methods:
    """An object in TRL's form, in the middle of an episode."""

    instance: Any
    first: Any

    def prompt(self) -> str:
        said = render(self.first).text if self.first is not None else ""
        return "\n\n".join(text for text in (_described(self.instance), said) if text)

    def tools(self) -> tuple[Tool, ...]:
        tools = methods_as_tools(self.instance, without=_BESIDE)
        return tuple(
            replace(each, run=self._watched(each.run)) for each in named_once(tools, type(self.instance).__name__)
        )

    def _watched(self, run: Any) -> Any:
        """Let a call end the episode when the object says that it is done."""
        function = run.function
        if inspect.iscoroutinefunction(function):

            async def call(**given: Any) -> Observation:
                return self._seen(await function(**given))
        else:

            def call(**given: Any) -> Observation:  # type: ignore[misc]
                return self._seen(function(**given))

        return replace(run, function=call)

    def _seen(self, value: Any) -> Observation:
        observation = render("done" if value is None else value)
        return replace(observation, terminal=observation.terminal or self._read("done") is True)

    def _read(self, name: str) -> Any:
        value = getattr(self.instance, name, None)
        return value() if callable(value) else value

    def final(self) -> Mapping[str, Any]:
        return {"reward": float(self._read("reward") or 0.0), "done": self._read("done") is True}

    def close(self) -> None:
        if callable(getattr(self.instance, "close", None)):
            self.instance.close()


class _Steps:
    """A Gymnasium environment in the middle of an episode; its rewards are summed."""

    def __init__(self, instance: Any, first: tuple[Any, Mapping[str, Any]]) -> None:
        self.instance = instance
        self.first = first
        self.reward = 0.0
        self.done = False

    def prompt(self) -> str:
        home = getattr(self.instance, "unwrapped", self.instance)
        action = json.dumps(_schema(self.instance.action_space))
        return f"{_described(home)}\n\nAction: {action}\nFirst observation: {render(self.first[0]).text}".strip()

    def tools(self) -> tuple[Tool, ...]:
        shape = {"action": _schema(self.instance.action_space)}
        parameters = {"type": "object", "properties": shape, "required": ["action"]}
        return (Tool("step", "Act in the environment and observe.", parameters, self._step, effects="write"),)

    def _step(self, action: Any) -> Observation:
        if self.done:
            return Observation("the episode is over", "refused", terminal=True)
        taken = _action(self.instance.action_space, action)
        if not self.instance.action_space.contains(taken):
            raise ValueError(f"{action} is no action of {self.instance.action_space}")
        seen, reward, terminated, truncated, _ = self.instance.step(taken)
        self.reward += float(reward)
        self.done = bool(terminated or truncated)
        return replace(render(seen), terminal=self.done)

    def final(self) -> Mapping[str, Any]:
        return {"reward": self.reward, "done": self.done}

    def close(self) -> None:
        self.instance.close()


def _schema(space: Any) -> dict[str, Any]:
    """Return the JSON schema of a Gymnasium space's members."""
    kind = type(space).__name__
    if kind == "Discrete":
        return {"type": "integer", "minimum": int(space.start), "maximum": int(space.start + space.n - 1)}
    if kind == "Text":
        return {"type": "string", "minLength": space.min_length, "maxLength": space.max_length}
    if kind in ("Box", "MultiDiscrete", "MultiBinary"):
        schema: dict[str, Any] = {"type": "number" if kind == "Box" else "integer"}
        for size in reversed(space.shape):
            schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
        return schema
    if kind == "Dict":
        properties = {name: _schema(part) for name, part in space.spaces.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}
    if kind == "Tuple":
        return {"type": "array", "prefixItems": [_schema(part) for part in space.spaces], "minItems": len(space.spaces)}
    raise ValueError(f"actions of the space {kind} have no JSON form here; wrap the environment in one that has")


def _action(space: Any, value: Any) -> Any:
    """Return JSON data as a member of a space."""
    kind = type(space).__name__
    if kind in ("Box", "MultiDiscrete", "MultiBinary"):
        return np.asarray(value, dtype=space.dtype)
    if kind == "Dict":
        return {name: _action(part, value[name]) for name, part in space.spaces.items()}
    if kind == "Tuple":
        return tuple(_action(part, each) for part, each in zip(space.spaces, value, strict=True))
    return value
