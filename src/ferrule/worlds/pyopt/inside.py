"""What runs inside the sandbox: drawing inputs, calling programs on them, and timing them.

The text of this module is sent there (``ferrule.worlds.pyopt.testing``), so it uses the standard library alone.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import hashlib
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["NO_DATA", "main"]

NO_DATA = "no plain data"
"""What is said of a result that cannot be compared: a generator, an object, a number beyond all printing."""
_SHORT = 40
_LONGEST = 300
_PASSES = 2000


def main(request: Mapping[str, Any]) -> str:
    """Answer a request, ``answers`` or ``times`` with its arguments, by JSON."""
    tasks: dict[str, Callable[..., Any]] = {"answers": answers, "times": times}
    arguments = dict(request)
    return json.dumps(tasks[arguments.pop("do")](**arguments))


def drawn(inputs: Mapping[str, str], seed: str, count: int) -> dict[str, list[Any]]:
    """Return ``count`` tuples of arguments of every class, from the expression that draws them."""
    cases: dict[str, list[Any]] = {}
    for kind, expression in inputs.items():
        code, rng = compile(expression, f"<inputs of {kind}>", "eval"), random.Random(f"{seed}/{kind}")
        cases[kind] = [eval(code, {"rng": rng, "math": math}) for _ in range(count)]
    return cases


def loaded(source: str, name: str) -> Callable[..., Any]:
    """Return the function of a program."""
    space: dict[str, Any] = {"__name__": "program"}
    exec(compile(source, "<program>", "exec"), space)
    function: Callable[..., Any] = space[name]
    return function


def plain(value: Any) -> str:
    """Return a text that is the same for equal values of the same types, and for no others (``TypeError``)."""
    if type(value) in (list, tuple):
        inner = ", ".join(map(plain, value))
        return f"[{inner}]" if type(value) is list else f"({inner},)"
    if type(value) in (set, frozenset):
        return f"{type(value).__name__}({', '.join(sorted(map(plain, value)))})"
    if type(value) is dict:
        return "{" + ", ".join(sorted(f"{plain(key)}: {plain(entry)}" for key, entry in value.items())) + "}"
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return repr(value)
    raise TypeError(f"a value of the type {type(value).__name__} cannot be compared")


def called(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    """Say in words that can be compared what a call does: its result or exception, and what it does to arguments."""
    given = copy.deepcopy(arguments)
    before = _told(given)
    try:
        result = function(*given)
    except Exception as problem:
        text = f"raises {type(problem).__name__}"
    else:
        text = f"returns {_told(result)}"
        if type(result) in (list, dict, set):
            text += "".join(f", which is argument {i + 1} itself" for i, part in enumerate(given) if result is part)
    after = _told(given)
    return text if after == before else f"{text}, and its arguments become {after}"


def _told(value: Any) -> str:
    try:
        return plain(value)
    except (TypeError, ValueError, RecursionError):
        return NO_DATA


def answers(
    source: str, name: str, inputs: Mapping[str, str], edges: Sequence[str], seed: str, count: int, only: int = -1
) -> list[str]:
    """Return what a program does on every case: edges first, then ``count`` of each class.

    Long texts are digests, unless only one case is asked for: then two texts come back, the arguments and the words.
    """
    cases = [eval(edge, {"math": math}) for edge in edges]
    cases += [case for kind in drawn(inputs, seed, count).values() for case in kind]
    function = loaded(source, name)
    if only >= 0:
        return [_clipped(", ".join(map(repr, cases[only]))), _clipped(called(function, cases[only]))]
    return [_digest(called(function, case)) for case in cases]


def _digest(text: str) -> str:
    return text if len(text) <= _SHORT else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def times(
    programs: Mapping[str, str], name: str, inputs: Mapping[str, str], seed: str, repeats: int, count: int,
    least: float, clock: str,
) -> dict[str, Any]:  # fmt: skip
    """Time programs in turns: per class of inputs and program ``repeats`` numbers, each the mean of a call.

    Every repeat draws ``count`` fresh inputs and goes over them until the first program has taken ``least`` seconds.
    The clock counts ``seconds`` of the processor, or executed ``instructions``. ``same`` says whether all programs did
    the same on all these inputs.
    """
    functions = {label: loaded(source, name) for label, source in programs.items()}
    measure = _seconds if clock == "seconds" else _instructions
    taken: dict[str, dict[str, list[float]]] = {label: {kind: [] for kind in inputs} for label in programs}
    same = True
    with _undisturbed():
        for kind, expression in inputs.items():
            passes = 0
            for repeat in range(repeats):
                batch = drawn({kind: expression}, f"{seed}/{repeat}", count)[kind]
                same = same and len({json.dumps([called(f, case) for case in batch]) for f in functions.values()}) == 1
                if not passes:
                    first = next(iter(functions.values()))
                    passes = _passes(_seconds(first, batch, 1), least) if clock == "seconds" else 1
                labels = list(functions)
                for label in labels[repeat % len(labels) :] + labels[: repeat % len(labels)]:
                    spent = measure(functions[label], batch, passes)
                    taken[label][kind].append(spent / (passes * len(batch)))
    return {"times": taken, "same": same}


def _passes(once: float, least: float) -> int:
    """Return how often a batch that takes ``once`` seconds is gone over for ``least`` seconds."""
    return max(1, min(_PASSES, math.ceil(least / max(once, 1e-9))))


def _seconds(function: Callable[..., Any], batch: Sequence[tuple[Any, ...]], passes: int) -> float:
    begun = time.thread_time()
    for _ in range(passes):
        for arguments in batch:
            try:
                function(*arguments)
            except Exception:
                continue
    return time.thread_time() - begun


def _instructions(function: Callable[..., Any], batch: Sequence[tuple[Any, ...]], passes: int) -> float:
    executed = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal executed
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        executed += event == "opcode"
        return trace

    for arguments in batch:
        sys.settrace(trace)
        with contextlib.suppress(Exception):
            function(*arguments)
        sys.settrace(None)
    return float(max(executed, 1))  # a function written in C executes none


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Time on one core, without collecting garbage."""
    cores = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {max(cores)})
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores)
