"""Tasksets of the package ``verifiers`` (0.4, ``verifiers.v1``) as worlds.

A taskset yields tasks, each with a prompt, tool servers (``Toolset``) and rewards over the record of the conversation.
The methods of the tool servers are called in this process, on the state of the episode; what the model says and calls
is kept in a ``Trace`` as the package keeps it, and rewards, metrics and stops read that. Hooks that run commands do so
in the package's subprocess runtime: on this machine, with your rights.

Source: https://github.com/PrimeIntellect-ai/verifiers (MIT).
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import inspect
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ferrule.core.flows import Session
from ferrule.core.records import Call, Message, Observation, Task, Tool, plain_text
from ferrule.tools.budget import Budget
from ferrule.tools.invoke import invoke, render
from ferrule.tools.loops import waited
from ferrule.tools.tool import Typed, tool
from ferrule.worlds.environments import environment
from ferrule.worlds.messages import from_messages
from ferrule.worlds.rows import divided
from ferrule.worlds.session import ToolSession
from ferrule.worlds.suites.suite import Suite, no_solution

__all__ = ["INSTALL", "is_taskset", "taskset", "taskset_named"]

INSTALL = "pip install 'verifiers>=0.4'"
"""What installs the package."""
_MOST, _CALLS, _TURNS = 10_000, 100, 50
_SECONDS = 120.0


def is_taskset(value: Any) -> bool:
    """Say whether a value is a taskset of ``verifiers``, or a class of one; the package is not imported for that."""
    kinds = (value if isinstance(value, type) else type(value)).__mro__
    return any((kind.__module__, kind.__name__) == ("verifiers.v1.taskset", "Taskset") for kind in kinds)


def taskset_named(name: str) -> Suite:
    """Return the world of an installed taskset, by the name that ``verifiers`` knows it by.

    With a ``verifiers`` below 0.4 it is that of an environment (``ferrule.worlds.environments``). Raises
    ``ImportError`` with the command that installs the package, and ``ValueError`` for an unknown name.
    """
    package = _package("verifiers")
    if _version() < (0, 4):
        try:
            return environment(package.load_environment(name), name)
        except (RuntimeError, ValueError, AttributeError) as error:
            raise ValueError(f"verifiers has no environment {name!r}: {error}") from None
    loaders = importlib.import_module("verifiers.v1.utils.loaders")
    try:
        return taskset(loaders.taskset_class(name), name)
    except (ModuleNotFoundError, AttributeError, TypeError) as error:
        raise ValueError(f"verifiers has no taskset {name!r}: {error}") from None


def _package(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"tasksets of verifiers need its package: {INSTALL} ({error})") from error


def _version() -> tuple[int, ...]:
    return tuple(map(int, importlib.metadata.version("verifiers").split(".")[:2]))


def taskset(given: Any, name: str = "") -> Suite:
    """Return the world of a taskset, or of its class with its own defaults; ``name`` is how it is called.

    Tasks are divided by their prompts (a fifth is ``test``); of a taskset without end the first 10,000 count. Their
    verifier is ``world``: the reward is the weighted sum that the task's own rewards give. Raises ``ValueError`` for
    tasks that need a container, that wait for a user to begin, and for tool servers elsewhere.
    """
    vf = _package("verifiers.v1")
    if _version() < (0, 4):
        raise ImportError(f"tasksets of verifiers below 0.4 have another form: {INSTALL}")
    label = name or (given if isinstance(given, type) else type(given)).__name__
    if isinstance(given, type):
        config = importlib.import_module("verifiers.v1.utils.generic").concrete_type(given, vf.TasksetConfig)
        given = given((config or vf.TasksetConfig)(id=name or label))
    played = {task.id: (task, each) for task, each in _tasks(label, given)}
    rows = divided([task for task, _ in played.values()])

    def opens(task: Task) -> Session:
        budget, run = Budget(total=_CALLS), _Run(given, played[task.id][1])
        return ToolSession(
            task, _Run.tools, run, budget=budget, limit=8000, final=_Run.final, hears=_Run.hear
        )  # fmt: skip

    return Suite(label, rows, opens, no_solution)


def _tasks(label: str, given: Any) -> Iterator[tuple[Task, Any]]:
    for number, each in enumerate(itertools.islice(iter(given), _MOST)):
        data, id = each.data, f"{label}/{number}"
        if each.NEEDS_CONTAINER:
            raise ValueError(f"task {id!r} needs a container, which is not started here")
        if data.prompt is None:
            raise ValueError(f"task {id!r} has no prompt: it waits for a user to begin")
        prompt = data.prompt if isinstance(data.prompt, str) else [part.model_dump() for part in data.prompt]
        messages = (Message("user", prompt),) if isinstance(prompt, str) else from_messages(prompt)
        if data.system_prompt:
            messages = (Message("system", data.system_prompt), *messages)
        more = messages if len(messages) > 1 or not isinstance(messages[0].content, str) else ()
        meta = {"verifier": "world", "dialogue": True, "turns": _TURNS}
        yield Task(id, plain_text(messages[-1]), world=label, meta=meta, messages=more), each


class _Run:
    """One episode: the trace of ``verifiers``, its tool servers, and what was done so far."""

    def __init__(self, given: Any, task: Any) -> None:
        self._given, self._task = given, task
        self._vf = _package("verifiers.v1")
        self._done: list[Call | str] = []
        self._scored: tuple[int, Mapping[str, Any]] | None = None
        self._lock = asyncio.Lock()
        state = importlib.import_module("verifiers.v1.state").state_cls(type(task))()
        about = self._vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
        agent = self._vf.AgentInfo(config=self._vf.AgentConfig(runtime=self._vf.SubprocessConfig()))
        self.trace = self._vf.Trace(task=about, state=state, agent=agent)
        self._servers = [*type(given).toolsets(given.config), *type(task).toolsets(task.config)]
        for server in self._servers:
            if server.config.url:
                raise ValueError(
                    f"the tools of {type(server).__name__} are those of a server elsewhere; name it: mcp:URL"
                )
            server._inert_state = state  # what its property ``state`` returns outside a server process
        waited(self._begin(), _SECONDS)

    async def _begin(self) -> None:
        runtimes = importlib.import_module("verifiers.v1.runtimes")
        self._runtime = runtimes.make_runtime(self._vf.SubprocessConfig(), name=self.trace.id)
        await self._runtime.start()
        data = self._task.data
        if data.system_prompt:
            self._keep(self._vf.SystemMessage(content=data.system_prompt))
        for message in [self._vf.UserMessage(content=data.prompt)] if isinstance(data.prompt, str) else data.prompt:
            self._keep(message)
        await self._task.setup(self.trace, self._runtime)
        for server in self._servers:
            await server.setup()
            await server.setup_task(data)

    def _keep(self, message: Any, sampled: bool = False) -> None:
        parent = len(self.trace.nodes) - 1 if self.trace.nodes else None
        self.trace.nodes.append(self._vf.MessageNode(parent=parent, message=message, sampled=sampled))

    def tools(self) -> tuple[Tool, ...]:
        """The methods of the tool servers, with the names under which ``verifiers`` serves them."""
        find = importlib.import_module("verifiers.v1.utils.decorators").discover_decorated
        found = [(server, function) for server in self._servers for function in find(server, "tool")]
        return tuple(self._tool(server.server_name, function) for server, function in found)

    def _tool(self, prefix: str, function: Callable[..., Any]) -> Tool:
        bare = str(getattr(function, "tool_name", None) or function.__name__)
        described = tool(function, name=f"{prefix}_{bare}" if prefix else bare, effects="write", seconds=_SECONDS)
        assert isinstance(described.run, Typed)
        return replace(described, run=replace(described.run, function=partial(self._called, described.name, function)))

    async def _called(self, name: str, function: Callable[..., Any], /, **given: Any) -> Observation:
        async with self._lock:
            id = f"call_{len(self.trace.nodes)}"
            self._done.append(Call(name, given))
            call = self._vf.ToolCall(id=id, name=name, arguments=json.dumps(given, default=str))
            self._keep(self._vf.AssistantMessage(tool_calls=[call]), sampled=True)
            try:
                value = await _result(function, given)
            except Exception as problem:
                self._keep(self._vf.ToolMessage(tool_call_id=id, content=f"{type(problem).__name__}: {problem}"))
                raise
            seen = render(value)
            self._keep(self._vf.ToolMessage(tool_call_id=id, content=seen.text))
            return replace(seen, terminal=await self._stopped())

    async def _stopped(self) -> bool:
        """Ask the task's stops whether the episode is over."""
        for hook in self._task.hooks("stop"):
            asks = {"trace": self.trace, self._vf.Trace: self.trace}
            answer = importlib.import_module("verifiers.v1.utils.decorators").invoke(hook, asks)
            if await answer if inspect.isawaitable(answer) else answer:
                self.trace.stop(hook.__name__)
                return True
        return False

    def hear(self, content: str) -> Observation:
        """Keep the last reply, which ends the episode."""
        self._done.append(content)
        self._keep(self._vf.AssistantMessage(content=content), sampled=True)
        return Observation("the episode is over", terminal=True)

    def final(self) -> Mapping[str, Any]:
        """Return the reward with its parts, and the metrics, of what was said and done so far."""
        if self._scored is None or self._scored[0] != len(self.trace.nodes):
            self._scored = len(self.trace.nodes), waited(self._score(), _SECONDS)
        return self._scored[1]

    async def _score(self) -> Mapping[str, Any]:
        self.trace.rewards.clear()
        self.trace.metrics.clear()
        await self._task.finalize(self.trace, self._runtime)
        await self._task.score(self.trace, self._runtime)
        parts = {name: reward.value for name, reward in self.trace.rewards.items() if reward is not None}
        return {"reward": float(self.trace.reward), "rewards": parts, "metrics": dict(self.trace.metrics)}

    def fork(self) -> _Run:
        """Return an episode of its own in which the same was said and called."""
        branch = _Run(self._given, self._task)
        tools = {each.name: each for each in branch.tools()}
        for step in self._done:
            branch.hear(step) if isinstance(step, str) else invoke(tools[step.name], step)
        return branch

    def close(self) -> None:
        """End the tool servers and the runtime."""
        for server in self._servers:
            waited(server._exit_stack.aclose(), _SECONDS)
        waited(self._runtime.stop(), _SECONDS)


async def _result(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(**given)
    return await asyncio.to_thread(function, **given)
