"""A remote OpenEnv server (https://github.com/huggingface/OpenEnv) as a world, over its WebSocket protocol.

Needs the extra ``serve``. Each session is one connection, which is one environment of the server.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from ferrule.core.arrays import nearest
from ferrule.core.clip import clip
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Score, Task, Tool, Trajectory
from ferrule.tools.budget import Budget
from ferrule.tools.invoke import invoke
from ferrule.tools.mcp_content import observation as content
from ferrule.worlds.openenv_wire import Broken, Link, Refusal, action_schema
from ferrule.worlds.session import offered
from ferrule.worlds.splits import check_split, task_seeds

__all__ = ["Broken", "OpenEnvSession", "OpenEnvWorld", "remote_reward"]

Kind = Literal["auto", "generic", "tools"]

_SLACK = 5.0  # seconds that a call's own limit is above the wire's, which closes the connection first
_HIDDEN = ("reward", "done", "metadata")  # of an observation's fields: not for the model
_STATUS: Mapping[str, Any] = {"timeout": "timeout", "tool_not_found": "unknown_tool", "invalid_args": "malformed"}


def remote_reward(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score every trajectory by the rewards that the server gave: their sum over the episode, 0 where it gave none."""
    return [Score(float(path.final.get("reward", 0.0))) for path in trajectories]


@dataclass(frozen=True)
class OpenEnvWorld:
    """The environments of the OpenEnv server at ``url`` (http, https, ws or wss).

    ``kind`` says what a model calls: ``tools`` the tools that the environment lists (an MCP environment), ``generic``
    the one tool ``step`` with the action's schema, ``auto`` whichever the server's own schema asks for. Where the
    server takes an ``answer``, a last tool of that name ends the episode with it. A task is a reset with a seed, its
    prompt is ``prompt``, or what ``prompt(observation)`` reads from the first observation. ``seconds`` limits the
    opening and every step, ``limit`` the text in characters, ``calls`` the calls of an episode, ``largest`` a frame in
    bytes. Rewards come from the server: ``outcome`` reads them, and so does ``remote_reward``. A session branches by
    replay: a fresh connection, the same reset, the same steps, and an error when the server answers any of them
    differently.
    """

    url: str
    kind: Kind = "auto"
    prompt: str | Callable[[Mapping[str, Any]], str] = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    seconds: float = 60.0
    limit: int = 4000
    calls: int | None = 32
    largest: int = 16 << 20
    name: str = "openenv"

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https", "ws", "wss"):
            raise ValueError(f"{self.url!r} must start with http://, https://, ws:// or wss://")
        if self.kind not in ("auto", "generic", "tools"):
            raise ValueError(f"kind is {self.kind!r}; {nearest(self.kind, ['auto', 'generic', 'tools'])}")
        if not self.seconds > 0:
            raise ValueError(f"seconds is {self.seconds}; it must be above 0")

    def link(self) -> Link:
        """Open a connection; raises ``Broken``."""
        return Link(self.url, headers=self.headers, seconds=self.seconds, largest=self.largest)

    def action(self) -> dict[str, Any]:
        """Return the JSON schema of the server's actions; any object where the server has none."""
        return action_schema(self.url, headers=self.headers, seconds=self.seconds)

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return ``count`` tasks, each a reset with a seed of its own (even for ``train``, odd for ``test``).

        Unless ``prompt`` is a fixed text, the server is reset once for each task to read it. Levels mean nothing here.
        """
        check_split(split, levels)
        seeds = task_seeds(split, count, seed)
        if isinstance(self.prompt, str) and self.prompt:
            prompts = [self.prompt] * count
        else:
            read = self.prompt if callable(self.prompt) else _prompt
            link = self.link()
            try:
                prompts = [read(link.ask("reset", {"seed": seed}).get("observation") or {}) for seed in seeds]
            finally:
                link.close()
        return [
            Task(f"{self.name}-{seed}", prompt, world=self.name, meta={"reset": {"seed": seed}, "verifier": "world"})
            for seed, prompt in zip(seeds, prompts, strict=True)
        ]

    def start(self, task: Task, seed: int = 0) -> Session:
        """Connect and reset with ``task.meta["reset"]``, else with ``seed``; raises ``Broken`` or ``Refusal``."""
        return OpenEnvSession(self, task, dict(task.meta.get("reset", {"seed": seed})))


class OpenEnvSession:
    """One episode on a remote server. Calls from several threads go one after another, as the protocol has them."""

    def __init__(self, world: OpenEnvWorld, task: Task, reset: dict[str, Any]) -> None:
        self.task = task
        self._world = world
        self._reset = reset
        self._lock = threading.Lock()
        self._log: list[tuple[dict[str, Any], dict[str, Any] | str]] = []
        self._budget = Budget(total=world.calls) if world.calls is not None else None
        self._reward = 0.0
        self._done = False
        self._link = world.link()
        try:
            self._first = self._link.ask("reset", reset)
            self._done = self._first.get("done") is True
            self._tools = offered(self._offer(), task)
        except TimeoutError:
            raise Broken(f"{self._link.url}: {self._link.why}") from None
        except Exception:
            self._link.close()
            raise

    # ------------------------------------------------------------------------------------------------------ the tools

    def _offer(self) -> tuple[Tool, ...]:
        action = self._world.action()
        known = action.get("properties", {})
        kind = self._world.kind
        if kind == "auto":
            kind = "tools" if "tool_name" in known else "generic"
        if kind == "generic":
            shape = {key: value for key, value in action.items() if key not in ("title", "description")}
            shape["properties"] = {name: entry for name, entry in known.items() if name != "metadata"}
            text = str(action.get("description") or "Act in the environment.")
            return (self._tool("step", text, {"type": "object", **shape}, lambda given: given, _generic),)
        listed = self._link.ask("step", {"type": "list_tools"}).get("observation", {}).get("tools") or []
        tools = [self._listed(entry) for entry in listed]
        if "answer" in known and all(tool.name != "answer" for tool in tools):
            shape = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
            tools.append(self._tool("answer", "Give the final answer.", shape, lambda given: given, _generic, cost=0.0))
        return tuple(tools)

    def _listed(self, entry: Mapping[str, Any]) -> Tool:
        name = str(entry.get("name", ""))

        def frame(given: dict[str, Any]) -> dict[str, Any]:
            return {"type": "call_tool", "tool_name": name, "arguments": given}

        shape = entry.get("input_schema") or entry.get("inputSchema") or {"type": "object", "properties": {}}
        return self._tool(name, str(entry.get("description") or ""), shape, frame, _tool_result)

    def _tool(
        self,
        name: str,
        description: str,
        parameters: Mapping[str, Any],
        frame: Callable[[dict[str, Any]], dict[str, Any]],
        read: Callable[[Mapping[str, Any], int], Observation],
        cost: float = 1.0,
    ) -> Tool:
        def run(**given: Any) -> Observation:
            observation = self._step(frame(given), read)
            # What an agent answers with is what it said, not what the server said to it.
            return Observation(str(given["answer"]), terminal=True) if _closing(name, observation) else observation

        limit = self._world.seconds + _SLACK
        return Tool(name, description, parameters, run, cost=cost, effects="write", seconds=limit)

    def _step(self, action: dict[str, Any], read: Callable[[Mapping[str, Any], int], Observation]) -> Observation:
        with self._lock:
            if self._done:
                return Observation("the episode is over", "refused", terminal=True)
            start = time.perf_counter()
            try:
                answer = self._link.ask("step", action)
            except TimeoutError:
                return Observation(self._link.why, "timeout")
            except Broken as problem:
                return Observation(str(problem), "error", data={"lost": True})
            except Refusal as problem:
                self._log.append((action, str(problem)))
                return Observation(clip(str(problem), self._world.limit), "error")
            self._log.append((action, answer))
            self._count(answer)
            observation = read(answer.get("observation") or {}, self._world.limit)
            seconds = time.perf_counter() - start
            return Observation(
                observation.text,
                observation.status,
                observation.data,
                observation.artifacts,
                seconds,
                terminal=self._done,
            )

    def _count(self, answer: Mapping[str, Any]) -> None:
        self._done = answer.get("done") is True
        value = answer.get("reward")
        if isinstance(value, (int, float)):
            self._reward += float(value)

    # ------------------------------------------------------------------------------------------------------ a session

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools on offer."""
        return self._tools

    @property
    def first(self) -> Mapping[str, Any]:
        """The observation that the reset came with."""
        return dict(self._first.get("observation") or {})

    def act(self, call: Call) -> Observation:
        """Run one call on the server; a time-out closes the connection, and later calls say so."""
        tool = next((tool for tool in self._tools if tool.name == call.name), None)
        if call.problem:
            return Observation(f"malformed call: {call.problem}", "malformed")
        if tool is None:
            known = [tool.name for tool in self._tools]
            return Observation(f"unknown tool {call.name!r}; {nearest(call.name, known)}", "unknown_tool")
        with self._lock:
            reason = self._budget.charge(tool) if self._budget else None
        return Observation(reason, "refused") if reason else invoke(tool, call, limit=self._world.limit)

    def fork(self) -> Session:
        """Branch by replay: connect again, reset alike, repeat every step, and compare the answers.

        Raises ``RuntimeError`` when an answer differs (the environment is not reproducible from its reset) or when this
        session is closed, and ``Broken`` when the server takes no further connection.
        """
        with self._lock:
            if self._link.why:
                raise RuntimeError(f"this OpenEnv session cannot be branched: {self._link.why}")
            log, budget = list(self._log), self._budget.copy() if self._budget else None
        branch = OpenEnvSession(self._world, self.task, self._reset)
        try:
            if _bare(branch._first) != _bare(self._first):
                raise RuntimeError("this OpenEnv session cannot be branched: the same reset gave another result")
            for number, (action, before) in enumerate(log, start=1):
                branch._repeat(number, action, before)
        except BaseException:
            branch.close()
            raise
        branch._budget = budget
        return branch

    def _repeat(self, number: int, action: dict[str, Any], before: dict[str, Any] | str) -> None:
        try:
            answer: dict[str, Any] | str = self._link.ask("step", action)
        except Refusal as problem:
            answer = str(problem)
        except TimeoutError:
            raise RuntimeError(f"this OpenEnv session cannot be branched: {self._link.why}") from None
        same = (
            _bare(answer) == _bare(before)
            if isinstance(answer, dict) and isinstance(before, dict)
            else answer == before
        )
        if not same:
            raise RuntimeError(
                f"this OpenEnv session cannot be branched by replay: the answer to step {number} of {action} differs; "
                "the environment is not determined by its reset and its steps"
            )
        self._log.append((action, answer))
        if isinstance(answer, dict):
            self._count(answer)

    def final(self) -> Mapping[str, Any]:
        """Return the sum of the server's rewards, whether the episode ended, and how many steps it took."""
        return {"reward": self._reward, "done": self._done, "steps": len(self._log)}

    def close(self) -> None:
        """Close the environment; may be called twice."""
        self._link.close()


def _closing(name: str, observation: Observation) -> bool:
    return name == "answer" and observation.status == "ok" and observation.terminal


def _bare(answer: Mapping[str, Any] | str) -> Any:
    """Return what two runs of the same steps share: everything but metadata."""
    if isinstance(answer, str):
        return answer
    observation = {name: value for name, value in (answer.get("observation") or {}).items() if name != "metadata"}
    return {"observation": observation, "reward": answer.get("reward"), "done": answer.get("done")}


def _prompt(observation: Mapping[str, Any]) -> str:
    """Read the prompt from a first observation: the field prompt, else one that reads like it, else all of it."""
    for name in ("prompt", "question", "instruction", "message", "text"):
        if isinstance(observation.get(name), str) and observation[name]:
            return str(observation[name])
    return _json({name: value for name, value in observation.items() if name not in _HIDDEN})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _generic(observation: Mapping[str, Any], limit: int) -> Observation:
    """Show an observation of a plain environment: its one text, or all its fields as JSON."""
    fields = {name: value for name, value in observation.items() if name not in _HIDDEN}
    single = next(iter(fields.values())) if len(fields) == 1 else None
    return Observation(clip(single if isinstance(single, str) else _json(fields), limit), data=fields)


def _tool_result(observation: Mapping[str, Any], limit: int) -> Observation:
    """Show a tool's result: the transport's error, an MCP result with its content, or a plain value."""
    error = observation.get("error")
    if isinstance(error, dict):
        status = _STATUS.get(str(error.get("error_type")), "error")
        return Observation(clip(str(error.get("message", "")), limit), status)
    value = observation.get("result")
    if isinstance(value, dict) and isinstance(value.get("content"), list):
        named = {"structuredContent": value.get("structured_content", value.get("structuredContent"))}
        return content({**value, **named, "isError": value.get("is_error", value.get("isError"))}, limit)
    if isinstance(observation.get("text"), str):
        return Observation(clip(observation["text"], limit), data=observation.get("data"))
    return Observation(clip(value if isinstance(value, str) else _json(value), limit), data=value)
