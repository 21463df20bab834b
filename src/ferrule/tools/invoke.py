"""One tool call from its arguments to an observation: check, repair, run within limits, render. Never raises."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from ferrule.core.arrays import nearest
from ferrule.core.clip import Keep, clean, clip
from ferrule.core.records import Call, Observation, Tool
from ferrule.tools import schema as schemas
from ferrule.tools.loops import SHARED, Abandoned, LimitReached, abandon, settled
from ferrule.tools.process import run_forked
from ferrule.tools.tool import Typed

__all__ = ["Malformed", "arguments", "invoke", "render"]


_MOST = 10_000  # values of a generator


class Malformed(ValueError):
    """Arguments that do not fit a tool and could not be repaired; the message is what the model is told."""


def invoke(
    tool: Tool,
    call: Call,
    *,
    seconds: float | None = None,
    limit: int | None = None,
    keep: Keep = "middle",
) -> Observation:
    """Run one call of ``tool`` and return its result; every failure is an observation with a status.

    ``seconds`` overrides ``Tool.seconds``; at the limit a sync function's thread is abandoned, an async function
    cancelled, and an isolated function's process killed. ``limit`` cuts the text to so many characters, keeping
    the part ``keep`` names. Text of the result: a ``str`` as it is, an ``Observation`` passed through, anything
    else as compact JSON.
    Repairs are those of the call followed by ``kind:parameter`` for every argument that was changed.
    """
    start = time.perf_counter()
    repairs: tuple[str, ...] = call.repairs
    try:
        if call.problem:
            return Observation(clip(clean(call.problem), limit, keep), "malformed", repairs=repairs)
        ready, coercions = arguments(tool, call.arguments)
        repairs += coercions
        observation = _run(tool, ready, tool.seconds if seconds is None else seconds)
    except Malformed as problem:
        observation = Observation(str(problem), "malformed")
    except Exception as problem:  # a tool's own types may fail in any way while they are checked or shown
        observation = _failed(problem)
    return replace(
        observation,
        text=clip(clean(observation.text), limit, keep),
        repairs=repairs + observation.repairs,
        seconds=observation.seconds or time.perf_counter() - start,
        terminal=observation.terminal or (tool.terminal and observation.status == "ok"),
    )


def arguments(tool: Tool, given: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the checked arguments and the repairs that were needed (``("number:count",)``).

    Strict reading comes first; where it fails, the safest repair that fits is taken. Raises ``Malformed`` naming the
    unknown, missing or unfitting parameter.
    """
    if not isinstance(given, Mapping):
        raise Malformed(f"arguments of {tool.name} should be an object of named values, not {type(given).__name__}")
    root = tool.parameters
    known: Mapping[str, Any] = root.get("properties", {})
    extra = root.get("additionalProperties", False)
    checked: dict[str, Any] = {}
    repairs: list[str] = []
    for name, value in given.items():
        if name not in known and extra is False:
            hint = nearest(str(name), list(known)) if known else "it takes no arguments"
            raise Malformed(f"{tool.name} has no argument {name!r}; {hint}")
        if value is None and _none_by_default(tool, str(name)):
            continue
        checked[str(name)], repair = _one(tool, str(name), value, known.get(name, extra))
        if repair:
            repairs.append(f"{repair}:{name}")
    missing = [name for name in root.get("required", ()) if name not in checked]
    if missing:
        names = ", ".join(repr(name) for name in missing)
        raise Malformed(f"{tool.name} misses the argument {names}; call it as {schemas.heading(tool)}")
    return checked, tuple(repairs)


def _none_by_default(tool: Tool, name: str) -> bool:
    """Tell whether null says what leaving the argument out says; tools known by schema alone may take nothing else."""
    entry = tool.parameters.get("properties", {}).get(name)
    unset = isinstance(entry, Mapping) and "default" in entry and entry["default"] is None
    return unset and name not in tool.parameters.get("required", ()) and not isinstance(tool.run, Typed)


def _one(tool: Tool, name: str, value: Any, entry: Any) -> tuple[Any, str]:
    """Check one argument: as it is, then with every repair, then by pydantic's lax mode; returns value and repair."""
    adapter = tool.run.adapters.get(name) if isinstance(tool.run, Typed) else None

    def strict(candidate: Any) -> Any:
        if adapter is None:
            misfit = schemas.problem(candidate, entry, tool.parameters)
            if misfit:
                raise ValueError(misfit)
            return candidate
        if unknown := schemas.unknown_key(candidate, entry, tool.parameters):
            raise ValueError(unknown)
        try:
            return adapter.validate_python(candidate, strict=True)
        except ValidationError:
            # JSON has no tuples, sets, dates or enums; pydantic's strict JSON mode knows how they are written.
            return adapter.validate_json(json.dumps(candidate), strict=True)

    try:
        return strict(value), ""
    except (ValueError, TypeError, RecursionError) as problem:
        first = problem
    for repair, candidate in schemas.candidates(value, entry, tool.parameters):
        try:
            return strict(candidate), repair
        except (ValueError, TypeError, RecursionError):
            continue
    if adapter is not None and not schemas.unknown_key(value, entry, tool.parameters):
        try:
            return adapter.validate_python(value), "cast"
        except (ValueError, TypeError, RecursionError):
            pass
    wanted = schemas.type_text(entry, tool.parameters)
    raise Malformed(f"argument {name!r} of {tool.name} should be {wanted}: {_reason(first)}; got {_short(value)}")


def _reason(problem: Exception) -> str:
    if isinstance(problem, ValidationError):
        error = problem.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in error["loc"])
        return f"{where}: {error['msg']}" if where else error["msg"]
    return str(problem)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 120 else f"{text[:117]}..."


def _run(tool: Tool, ready: dict[str, Any], seconds: float) -> Observation:
    typed = tool.run if isinstance(tool.run, Typed) else None
    function = typed.ready if typed is not None else tool.run
    if typed is not None and typed.isolated:
        return run_forked(lambda: render(_alone(function, ready, seconds)), seconds, tool.name)
    if inspect.iscoroutinefunction(function):
        value, problem = SHARED.run(function(**ready), seconds)
        return render(value) if problem is None else _failed(problem, tool.name, seconds)
    box: list[Any] = []
    failure: list[BaseException] = []
    lock, done = threading.Lock(), threading.Event()
    context = contextvars.copy_context()

    def settle() -> Any:
        value = _gathered(function(**ready))
        return _unpacked(SHARED.run(value, seconds)) if inspect.isawaitable(value) else value

    def work() -> None:
        try:
            try:
                box.append(context.run(settle))
            except BaseException as problem:
                failure.append(problem)
            lock.acquire()
            done.set()
            lock.release()
        except Abandoned:
            pass  # it was raised between the two lines above; nobody waits for this thread any more

    thread = threading.Thread(target=work, daemon=True, name=f"tool {tool.name}")
    thread.start()
    if not done.wait(seconds):
        with lock:
            if not done.is_set():
                abandon(thread)
                return _failed(LimitReached(), tool.name, seconds)
    if failure:
        return _failed(failure[0], tool.name, seconds)
    return render(box[0])


def _alone(function: Callable[..., Any], ready: Mapping[str, Any], seconds: float) -> Any:
    """Call a function in a process of its own, where a coroutine is run to its end on a loop of its own."""
    value = _gathered(function(**ready))
    return _unpacked(asyncio.run(settled(value, seconds))) if inspect.isawaitable(value) else value


def _gathered(value: Any) -> Any:
    """Return what a generator yields as a list, what an async one yields as a coroutine of it; others as they are."""
    if inspect.isgenerator(value):
        items = list(islice(value, _MOST + 1))
        _check_count(items)
        return items
    return _listed(value) if inspect.isasyncgen(value) else value


async def _listed(generator: AsyncIterator[Any]) -> list[Any]:
    items = []
    async for item in generator:
        items.append(item)
        _check_count(items)
    return items


def _check_count(items: Sequence[Any]) -> None:
    if len(items) > _MOST:
        raise ValueError(f"the tool yields more than {_MOST} values")


def _unpacked(outcome: tuple[Any, BaseException | None]) -> Any:
    """Return a value, or raise the problem in its place."""
    value, problem = outcome
    if problem is not None:
        raise problem
    return value


def _failed(problem: BaseException, name: str = "", seconds: float = 0.0) -> Observation:
    if isinstance(problem, LimitReached):
        return Observation(f"{name} was stopped after {seconds:g} s", "timeout")
    kind = type(problem).__name__
    try:
        text = f"{kind}: {problem}" if str(problem) else kind
    except Exception:
        text = kind
    return Observation(text, "error", data={"exception": kind})


def render(value: Any) -> Observation:
    """Turn a tool's return value into an observation; what has no JSON form is shown by its ``repr``.

    ``data`` holds the value as JSON data (None for text, which is in ``text`` already, and for values without a
    JSON form).
    """
    if isinstance(value, Observation):
        return value
    if isinstance(value, str):
        return Observation(str(value))
    try:
        plain = to_jsonable_python(value, fallback=_unknown, serialize_unknown=False)
        return Observation(json.dumps(plain, ensure_ascii=False, separators=(",", ":")), data=plain)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError, AttributeError):
        return Observation(_representation(value))


def _unknown(value: Any) -> Any:
    """Numpy scalars and arrays have ``tolist``; everything else is shown by its ``repr``."""
    as_list = getattr(value, "tolist", None)
    return as_list() if callable(as_list) else _representation(value)


def _representation(value: Any) -> str:
    try:
        return repr(value)
    except Exception as problem:
        return f"<{type(value).__name__} that cannot be shown: {type(problem).__name__}>"
