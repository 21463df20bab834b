"""Are the calls of a reply those that a row of the Berkeley Function Calling Leaderboard (BFCL) accepts?

A row holds the schemas of its functions and, per wanted call, the values that each parameter may have. ``""`` among
the values means that the parameter may be left out. The rules, which agree with the package ``bfcl-eval`` entry by
entry:

- As many calls as wanted ones; the order does not matter. Wanted calls take the first call that fits, in turn.
- Every required parameter is there, every given one is among the accepted, and a wanted one that may not be left out
  is there.
- A value has the type of its schema (a whole number passes for ``float``, ``true`` never for a number), or that of the
  first accepted value: then it stands for a variable and must be equal to an accepted one as it is.
- Texts are equal without case, spaces and ``, . / - _ * ^``, with ``'`` read as ``"``; so are the entries of lists and
  the values of objects. Everything else is equal or not.

Source: "The Berkeley Function Calling Leaderboard: From Tool Use to Agentic Evaluation of Large Language Models".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.core.arrays import nearest

__all__ = ["Verdict", "check_calls"]

Written = tuple[str, Mapping[str, Any]]
"""A call as it was written: name and arguments."""

_KINDS: Mapping[str, type] = {
    "string": str, "any": str, "integer": int, "float": float, "number": float, "boolean": bool,
    "array": list, "tuple": list, "dict": dict, "object": dict,
}  # fmt: skip
_IGNORED = str.maketrans("'", '"', " ,./-_*^")


@dataclass(frozen=True)
class Verdict:
    """Whether calls are right; ``problem`` says what is not."""

    right: bool
    problem: str = ""


_RIGHT = Verdict(True)


def _wrong(problem: str) -> Verdict:
    return Verdict(False, problem)


def check_calls(
    calls: Sequence[Written], functions: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]
) -> Verdict:
    """Compare calls with the wanted ones of a row (``ground_truth``: one ``{name: {parameter: values}}`` per call).

    ``functions`` are the schemas of the row. Raises ``ValueError`` for a row whose wanted call names no function, or
    whose schema has an unknown type.
    """
    if len(calls) != len(wanted):
        return _wrong(f"{len(calls)} calls where {len(wanted)} are wanted")
    left = list(calls)
    for entry in wanted:
        ((name, accepted),) = entry.items()
        schema = _schema_of(name, functions)
        verdicts = [_check(call, schema, accepted) for call in left]
        match = next((place for place, verdict in enumerate(verdicts) if verdict.right), None)
        if match is None:
            return verdicts[0] if len(verdicts) == 1 else _wrong(f"no call fits the wanted call of {name}")
        del left[match]
    return _RIGHT


def _schema_of(name: str, functions: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    for function in functions:
        if function["name"] == name or len(functions) == 1:
            return function
    names = [function["name"] for function in functions]
    raise ValueError(f"the wanted call names {name!r}, which the row does not describe; {nearest(name, names)}")


def _check(call: Written, schema: Mapping[str, Any], accepted: Mapping[str, Sequence[Any]]) -> Verdict:
    """Compare one call with one wanted call."""
    name, arguments = call
    if name != schema["name"]:
        return _wrong(f"the call is of {name}, wanted is {schema['name']}")
    known = schema["parameters"].get("properties", {})
    for parameter in schema["parameters"].get("required", ()):
        if parameter not in arguments:
            return _wrong(f"the required parameter {parameter!r} is missing")
    for parameter, value in arguments.items():
        if parameter not in known or parameter not in accepted:
            return _wrong(f"the parameter {parameter!r} is unknown")
        if not _fits(value, known[parameter], accepted[parameter]):
            return _wrong(f"{parameter} is {value!r:.200}; accepted are {list(accepted[parameter])!r:.200}")
    for parameter, values in accepted.items():
        if parameter not in arguments and "" not in values:
            return _wrong(f"the parameter {parameter!r} is missing")
    return _RIGHT


def _kind(schema: Mapping[str, Any]) -> type:
    name = str(schema.get("type"))
    if name not in _KINDS:
        raise ValueError(f"a schema has the type {name!r}; {nearest(name, list(_KINDS))}")
    return _KINDS[name]


def _fits(value: Any, schema: Mapping[str, Any], accepted: Sequence[Any]) -> bool:
    """Say whether a value has the right type and is one of the accepted."""
    kind = _kind(schema)
    entries = _kind(schema.get("items", {})) if kind is list else None
    if kind is float and type(value) is int:
        value = float(value)
    if schema.get("type") == "tuple" and type(value) is tuple:
        value = list(value)
    usual = _usual(accepted)
    if type(value) is not kind:
        return type(value) is usual and value in accepted
    if entries is not None and not any(_typed(value, members, entries) for members in accepted):
        return False
    if usual not in (None, kind):
        return value in accepted
    return _COMPARE.get(dict if entries is dict else kind, _equal)(value, accepted)


def _usual(accepted: Sequence[Any]) -> type | None:
    """Return the type of the first accepted value, leaving out the mark of what may be left out."""
    return next((type(value) for value in accepted if value != ""), None)


def _typed(value: Any, members: Any, kind: type) -> bool:
    """Say whether the entries of a list have the type of its schema or that of an accepted list.

    What is accepted and no list says nothing about entries.
    """
    if type(members) is not list:
        return True
    return all(type(entry) in (kind, _usual(members)) for entry in value)


def _plain(value: Any) -> Any:
    """Return a text without what does not count in comparisons; other values as they are."""
    return value.translate(_IGNORED).lower() if type(value) is str else value


def _equal(value: Any, accepted: Sequence[Any]) -> bool:
    return value in accepted


def _text(value: str, accepted: Sequence[Any]) -> bool:
    return _plain(value) in [_plain(text) for text in accepted if type(text) is str]


def _list(value: Sequence[Any], accepted: Sequence[Any]) -> bool:
    entries = [_plain(entry) for entry in value]
    return any(entries == [_plain(entry) for entry in members] for members in accepted)


def _objects(value: Any, accepted: Sequence[Any]) -> bool:
    """Compare an object, or a list of objects in their order."""
    if isinstance(value, Mapping):
        return any(_object(value, wanted) for wanted in accepted if wanted != "")
    return any(
        len(value) == len(wanted) and all(_object(entry, each) for entry, each in zip(value, wanted, strict=True))
        for wanted in accepted
    )


def _object(value: Any, accepted: Any) -> bool:
    """Say whether every value of an object is accepted under its key, and no needed key is missing."""
    if not isinstance(value, Mapping) or not isinstance(accepted, Mapping):
        return False
    given = all(
        key in accepted and _plain(entry) in [_plain(each) for each in accepted[key]] for key, entry in value.items()
    )
    return given and all(key in value or "" in values for key, values in accepted.items())


_COMPARE: Mapping[type, Callable[[Any, Sequence[Any]], bool]] = {str: _text, list: _list, dict: _objects}
