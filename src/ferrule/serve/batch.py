"""The batch form of tool servers that take raw model text: ``POST /get_observation``.

Source: "VerlTool: Towards Holistic Agentic Reinforcement Learning with Tool Use" (24), https://arxiv.org/abs/2509.01055.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ferrule.chat.hermes import Hermes
from ferrule.chat.scan import UNFINISHED
from ferrule.chat.tagged import Tagged
from ferrule.core.records import Call, Message, Observation, Tool
from ferrule.serve.host import Host
from ferrule.serve.wire import host_reason
from ferrule.tools.verl_texts import python_code, sql_query, wrap_python

__all__ = ["Action", "BadBatch", "Batch", "observe", "read_action", "read_batch"]

_HERMES = Hermes(several=True)
_INPUT = re.compile(r"```input\n(.*?)\n```", re.DOTALL)
Item = tuple[str | dict[str, Any], bool, bool, float]
_NOBODY = "No valid tool found for action"


class BadBatch(ValueError):
    """A request that is not of the batch form; the message says which field is wrong."""


@dataclass(frozen=True)
class Batch:
    """A checked request: one trajectory id, action and extra field per item."""

    trajectories: tuple[str, ...]
    actions: tuple[str, ...]
    extras: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Action:
    """What a text asks for: calls, and how their results are shown; ``done`` without calls ends the trajectory."""

    calls: tuple[Call, ...]
    show: Callable[[Sequence[str]], str] = field(default=lambda texts: "\n".join(texts))
    done: bool = False


def read_batch(body: Any) -> Batch:
    """Check a request body; raises ``BadBatch``.

    ``finish`` and ``is_last_step`` are copied into the extra fields, unless these have them.
    """
    if not isinstance(body, dict):
        raise BadBatch("the body should be a JSON object")
    ids, actions = body.get("trajectory_ids"), body.get("actions")
    if not isinstance(ids, list) or not ids or not all(isinstance(entry, str | int) for entry in ids):
        raise BadBatch("trajectory_ids should be a list of at least one text")
    if not isinstance(actions, list) or not all(isinstance(entry, str) for entry in actions):
        raise BadBatch("actions should be a list of texts")
    if any(len(str(entry)) > 256 for entry in ids):
        raise BadBatch("a trajectory id has more than 256 characters")
    extras = body.get("extra_fields")
    if extras is None:
        extras = [{} for _ in ids]
    if not isinstance(extras, list) or not all(isinstance(entry, dict | None) for entry in extras):
        raise BadBatch("extra_fields should be a list of objects")
    lists: dict[str, Any] = {"actions": actions, "extra_fields": extras}
    for name in ("finish", "is_last_step"):
        if body.get(name) is not None:
            lists[name] = body[name]
            if not isinstance(body[name], list) or not all(isinstance(entry, bool) for entry in body[name]):
                raise BadBatch(f"{name} should be a list of true and false")
    for name, values in lists.items():
        if len(values) != len(ids):
            raise BadBatch(f"{name} has {len(values)} items and trajectory_ids {len(ids)}; they should be as many")
    fields = [dict(extra or {}) for extra in extras]
    for name in ("finish", "is_last_step"):
        for extra, value in zip(fields, lists.get(name, ()), strict=False):
            extra.setdefault(name, value)
    return Batch(tuple(map(str, ids)), tuple(actions), tuple(fields))


def read_action(text: str, tools: Sequence[Tool]) -> Action | None:
    """Return what a text asks for: the first tool, in order, that the text calls; None without one.

    ``python`` is called in ``<python>`` tags and fences, ``sql`` in ``<sql>`` tags, every tool in closed tags of its
    own name and in Hermes ``<tool_call>`` blocks, all of which are then run in order.
    """
    tagged_json = _HERMES.read(text).calls if "<tool_call>" in text else ()
    named = {call.name for call in tagged_json if not call.problem}
    for tool in tools:
        parameters = tool.parameters.get("properties", {})
        if tool.name == "python" and "code" in parameters and (code := python_code(text)) is not None:
            return Action((Call("python", {"code": code}),), lambda texts: wrap_python(text, texts[0].strip(" \n")))
        if tool.name == "sql" and "query" in parameters:
            query, done = sql_query(text)
            if query is not None or done:
                calls = (Call("sql", {"query": query}),) if query is not None else ()
                return Action(calls, _tags, done)
        if tool.name in named:
            return Action(tagged_json, lambda texts: "\n" + "\n".join(_responses(texts)) + "\n")
        tagged = [call for call in _tagged(text, tool) if not call.problem and UNFINISHED not in call.repairs]
        if tagged:
            return Action(tuple(tagged), _tags)
    return None


def _tagged(text: str, tool: Tool) -> tuple[Call, ...]:
    if f"</{tool.name}>" not in text:
        return ()
    try:
        return Tagged.of([tool]).read(text).calls
    except ValueError:  # a name that cannot be a tag
        return ()


def _tags(texts: Sequence[str]) -> str:
    return "".join(f"\n<result>\n{text}\n</result>" for text in texts) + "\n"


def _responses(texts: Sequence[str]) -> list[str]:
    return [_HERMES.show(Message("tool", text)) for text in texts]


async def observe(host: Host, batch: Batch, *, done_if_invalid: bool = False) -> dict[str, Any]:
    """Carry out a batch; the result has the fields of the wire form, item for item in the order of the request.

    Trajectories run at the same time, the items of one trajectory in order, and every action is run, even if it
    was sent before. ``queue_time_ms`` is the longest time that an item spent waiting.
    """
    began = time.perf_counter()
    last: dict[str, asyncio.Task[Item]] = {}
    tasks = []
    for name, text, extra in zip(batch.trajectories, batch.actions, batch.extras, strict=True):
        last[name] = asyncio.ensure_future(_after(last.get(name), host, name, text, extra, done_if_invalid))
        tasks.append(last[name])
    items = await asyncio.gather(*tasks)
    return {
        "observations": [obs for obs, _, _, _ in items],
        "dones": [done for _, done, _, _ in items],
        "valids": [valid for _, _, valid, _ in items],
        "processing_time_ms": 1000 * (time.perf_counter() - began),
        "queue_time_ms": 1000 * max(waited for _, _, _, waited in items),
    }


async def _after(before: asyncio.Task[Item] | None, *item: Any) -> Item:
    """Carry out an item once the one before it, of the same trajectory, has ended: an item may be several calls."""
    if before is not None:
        await asyncio.wait([before])
    return await _item(*item)


async def _item(host: Host, trajectory: str, text: str, extra: Mapping[str, Any], done_if_invalid: bool) -> Item:
    """Return observation, done, valid and the seconds that the item waited."""
    if extra.get("finish"):
        await host.end(trajectory)
        return "", True, True, 0.0
    action = read_action(text, host.tools)
    if action is None:
        usage = "\n".join(f"{tool.name}: {tool.description}" for tool in host.tools)
        return {"obs": "", "invalid_reason": _NOBODY, "available_tools": usage}, done_if_invalid, False, 0.0
    if not action.calls:
        return "", action.done, False, 0.0
    stdin = _stdin(text, extra)
    if stdin is not None and action.calls[0].name == "python":
        await host.act(trajectory, _feed(stdin))
    texts: list[str] = []
    images: list[str] = []
    done, valid, waited = False, True, 0.0
    for call in action.calls:
        began = time.perf_counter()
        observation = await host.act(trajectory, call)
        waited = max(waited, time.perf_counter() - began - observation.seconds)
        if (trouble := _trouble(observation)) is not None:
            return {"obs": "", "error": observation.text, **trouble, "tool_type": call.name}, True, False, waited
        texts.append(observation.text)
        images += [artifact.source for artifact in observation.artifacts if artifact.image is not None]
        done = done or observation.terminal
        valid = valid and observation.executed
    shown = action.show(texts)
    return ({"obs": shown, "image": images} if images else shown), done, valid, waited


def _trouble(observation: Observation) -> dict[str, str] | None:
    """Return what ends a trajectory: a tool that raised, or a host that could not run it; else None."""
    if reason := host_reason(observation):
        return {"reason": reason}
    data = observation.data if isinstance(observation.data, dict) else {}
    if observation.status == "error" and set(data) == {"exception"}:
        return {"reason": "raised"}
    return None


def _stdin(text: str, extra: Mapping[str, Any]) -> str | None:
    fences = _INPUT.findall(text)
    if fences:
        return str(fences[0]).strip()
    given = extra.get("stdin")
    return given if isinstance(given, str) and given else None


def _feed(stdin: str) -> Call:
    return Call("python", {"code": f"import io as _io, sys as _sys\n_sys.stdin = _io.StringIO({stdin!r})"})
