"""Environments of the package ``verifiers`` below 0.4 as worlds: single turns, dialogues, tools with and without state.

The environment's own rollout runs, with a client that hands every request for a model's reply to the episode: what the
model says and calls goes back to the environment, whose messages are what the model reads next. Each call counts as a
turn of the environment. Rewards are those of its rubric.

Source: https://github.com/PrimeIntellect-ai/verifiers (MIT).
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Task, Tool, plain_text
from ferrule.tools.budget import Budget
from ferrule.tools.invoke import invoke
from ferrule.tools.loops import waited
from ferrule.worlds.messages import from_messages
from ferrule.worlds.rows import divided
from ferrule.worlds.session import ToolSession
from ferrule.worlds.suites.suite import Suite, no_solution

__all__ = ["environment", "is_environment"]

_CALLS, _TURNS = 200, 100
_SECONDS = 120.0


def is_environment(value: Any) -> bool:
    """Say whether a value is an environment of ``verifiers``; the package is not imported for that."""
    kinds = type(value).__mro__
    return any((kind.__module__, kind.__name__) == ("verifiers.envs.environment", "Environment") for kind in kinds)


def environment(given: Any, name: str) -> Suite:
    """Return the world of an environment.

    Rows to train on are those of its data set, rows for tests those of its evaluation set; where it has one set alone,
    they are divided by their prompts (a fifth is ``test``). The verifier is ``world``.
    """
    rows: dict[str, Any] = {}
    given.build_eval_dataset()
    if given.eval_dataset is not None:
        rows["test"] = tuple(_tasks(f"{name}/test", name, given.eval_dataset))
    given.build_dataset()
    if given.dataset is not None:
        rows["train"] = tuple(_tasks(f"{name}/train", name, given.dataset))
    if set(rows) != {"train", "test"}:
        (alone,) = rows.values()
        rows = divided(alone)

    def opens(task: Task) -> Session:
        budget, run = Budget(total=_CALLS), _Run(given, task.meta["row"])
        return ToolSession(task, _Run.tools, run, budget=budget, limit=8000, final=_Run.final, hears=_Run.hear)

    return Suite(name, rows, opens, no_solution)


def _tasks(begin: str, name: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[Task]:
    for number, row in enumerate(rows):
        messages = from_messages(row["prompt"])
        more = messages if len(messages) > 1 or not isinstance(messages[0].content, str) else ()
        meta = {"verifier": "world", "dialogue": True, "turns": _TURNS, "row": dict(row)}
        yield Task(f"{begin}/{number}", plain_text(messages[-1]), world=name, meta=meta, messages=more)


class _Run:
    """One episode: the environment's rollout, which waits for what the model says."""

    def __init__(self, given: Any, row: Mapping[str, Any]) -> None:
        self._given, self._row = given, row
        self._types = importlib.import_module("verifiers.types")
        self._done: list[Call | str] = []
        self._read = 0
        self._state: Any = None
        self._offered: list[Any] = []
        self._scored: Mapping[str, Any] | None = None
        waited(self._begin(), _SECONDS)

    async def _begin(self) -> None:
        self._asked: asyncio.Queue[Any] = asyncio.Queue()
        self._reply: asyncio.Future[Any] | None = None
        self._lock = asyncio.Lock()
        row = {"example_id": 0, **self._row}
        self._rollout = asyncio.ensure_future(self._given.rollout(row, _client(self._answered), "policy", {}))
        await self._next()

    async def _answered(self, prompt: Any, tools: Any, state: Any) -> Any:
        """Hand a request of the environment to the episode, and wait for the reply."""
        reply = asyncio.get_running_loop().create_future()
        await self._asked.put((list(prompt), list(tools or ()), state, reply))
        return await reply

    async def _next(self) -> list[Any]:
        """Wait until the environment asks again or ends; return the messages that are new."""
        asked = asyncio.ensure_future(self._asked.get())
        await asyncio.wait({asked, self._rollout}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            asked.cancel()
            self._reply, self._state = None, self._rollout.result()
            last = self._state.get("final_env_response") or []
            return [last] if isinstance(last, str) else list(last)
        prompt, self._offered, self._state, self._reply = asked.result()
        before, self._read = self._read, len(prompt) + 1  # the reply follows
        return list(prompt[before:])

    async def _turn(self, content: str, calls: list[Any]) -> Observation:
        async with self._lock:
            if self._reply is None:
                return Observation("the episode is over", "refused", terminal=True)
            message = self._types.ResponseMessage(
                role="assistant", content=content, tool_calls=calls or None, is_truncated=False,
                finish_reason="tool_calls" if calls else "stop",
            )  # fmt: skip
            reply = self._types.Response(id="reply", created=0, model="policy", message=message)
            self._reply.set_result(reply)
            texts = [_text(each) for each in await self._next()]
            over = self._reply is None
            return Observation("\n\n".join(texts) or ("the episode is over" if over else ""), terminal=over)

    def tools(self) -> tuple[Tool, ...]:
        """The tools that the environment offers in the present turn."""
        return tuple(
            Tool(each.name, each.description or "", each.parameters, partial(self._called, each.name),
                 effects="write", seconds=_SECONDS)
            for each in self._offered
        )  # fmt: skip

    async def _called(self, name: str, /, **given: Any) -> Observation:
        self._done.append(Call(name, given))
        call = self._types.ToolCall(id=f"call_{len(self._done)}", name=name, arguments=json.dumps(given, default=str))
        return await self._turn("", [call])

    def hear(self, content: str) -> Observation:
        """Say a reply without calls to the environment."""
        self._done.append(content)
        heard: Observation = waited(self._turn(content, []), _SECONDS)
        return heard

    def final(self) -> Mapping[str, Any]:
        """Return the reward and the metrics of the rubric; where the rollout still goes on, of one that ends here."""
        if self._reply is not None:
            branch = self.fork()
            branch.close()
            return branch.final()
        if self._scored is None:
            self._scored = waited(self._score(), _SECONDS)
        return self._scored

    async def _score(self) -> Mapping[str, Any]:
        await self._given.rubric.score_group([self._state])
        return {"reward": float(self._state["reward"]), "metrics": dict(self._state["metrics"] or {})}

    async def _stop(self) -> None:
        self._reply = None
        self._rollout.cancel()
        await asyncio.wait({self._rollout})

    def fork(self) -> _Run:
        """Return an episode of its own in which the same was said and called."""
        branch = _Run(self._given, self._row)
        for step in self._done:
            if isinstance(step, str):
                branch.hear(step)
            else:
                invoke(next(each for each in branch.tools() if each.name == step.name), step)
        return branch

    def close(self) -> None:
        """End the rollout."""
        waited(self._stop(), _SECONDS)


def _text(message: Any) -> str:
    """Return what an environment says, in any of the forms that it may have."""
    if isinstance(message, str):
        return message
    return plain_text(from_messages([message if isinstance(message, Mapping) else message.model_dump()])[0])


def _client(answered: Any) -> Any:
    """Return a client of ``verifiers`` whose replies come from ``answered(prompt, tools, state)``."""
    base = importlib.import_module("verifiers.clients.client").Client

    async def get_response(
        self: Any, prompt: Any, model: str, sampling_args: Any, tools: Any = None, **more: Any
    ) -> Any:
        return await answered(prompt, tools, more.get("state"))

    kind: Any = type("Handed", (base,), {"get_response": get_response})
    kind.__abstractmethods__ = frozenset()  # nothing of a provider's own form is needed
    return kind(None)
