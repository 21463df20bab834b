"""Programs with undefined leaves in the sandbox: their defined parts run, and the first leaf without a result is told.

A leaf that has none ends the run; once it is known the program runs again and gets past it. So whoever knows leaves
(a model, a person) is asked between runs, and never from within one. A leaf gives the same result for equal arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ferrule.chat.program import PseudoProgram, read_literal, undefined_leaves
from ferrule.core.records import Observation

__all__ = ["Known", "LeafCall", "Ran", "ran", "running"]

Known: TypeAlias = Mapping[str, Any]
"""Results of leaves by the text of their calls (``LeafCall.text``)."""

_HEAD = """\
class _Leaf(BaseException):
    pass


def _leaf(_name, _known):
    def _called(*args, **kwargs):
        said = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
        text = f"{_name}({', '.join(said)})"
        if text in _known:
            return _known[text]
        raise _Leaf(_name, text)
    return _called


"""


@dataclass(frozen=True)
class LeafCall:
    """A call of a leaf: its name, and the call as Python source."""

    name: str
    text: str


@dataclass(frozen=True)
class Ran:
    """How far a program ran: the value that its call gave, the leaf that it waits for, or what went wrong.

    ``value`` is None where it has no literal form.
    """

    value: Any = None
    waits: LeafCall | None = None
    problem: str = ""


def running(program: PseudoProgram, call: str, known: Known) -> str:
    """Return Python source that runs a call of a program with these results of its leaves, for ``ran`` to read.

    Raises ``ValueError`` for a program or a call that is no Python.
    """
    leaves = undefined_leaves(f"{program.text}\n({call}\n)")
    bound = [f"{name} = _leaf({name!r}, _results)" for name in leaves if name != program.name]
    lines = [_HEAD + f"_results = {dict(known)!r}", program.text, *bound, _TAIL.format(call=call)]
    return "\n".join(lines)


_TAIL = """
def _played():
    try:
        return ("done", {call}
        )
    except _Leaf as leaf:
        return ("leaf", *leaf.args)


_played()"""


def ran(observation: Observation) -> Ran:
    """Read the result of source that ``running`` gave."""
    data = observation.data if isinstance(observation.data, Mapping) else {}
    if observation.status != "ok":
        lines = str(data.get("exception") or observation.text).strip().splitlines()
        return Ran(problem=(lines or [observation.status])[-1])
    match read_literal(str(data.get("value"))):
        case ("leaf", str(name), str(text)):
            return Ran(waits=LeafCall(name, text))
        case ("done", value):
            return Ran(value)
    return Ran(problem="the program returned what has no literal form")
