"""What tools that are given as Python functions keep in variables of their module: a copy for every episode."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ferrule.core.records import Tool
from ferrule.tools.tool import Typed

__all__ = ["Namespaces", "changed", "without_copy"]

_CHANGEABLE = (list, dict, set, bytearray)


def changed(tool: Tool) -> dict[str, Any]:
    """Return the lists, dictionaries, sets and byte arrays of its module that a tool which changes something uses.

    Functions of the same module that it calls count. A tool that only reads changes nothing, and so does one that is no
    plain Python function.
    """
    function = _function(tool)
    return {} if tool.effects == "read" or function is None else dict(_used(function, set()))


def without_copy(tool: Tool) -> list[str]:
    """Return the names among ``changed`` that cannot be copied, so that all episodes share them."""
    return [name for name, value in changed(tool).items() if not _copies(value)]


def _copies(value: Any) -> bool:
    try:
        copy.deepcopy(value)
    except Exception:  # whatever a class does when it is copied
        return False
    return True


def _function(tool: Tool) -> types.FunctionType | None:
    """Return the function behind a tool where it is a plain one, which can be given other variables."""
    function = tool.run.function if isinstance(tool.run, Typed) else None
    return function if isinstance(function, types.FunctionType) and not hasattr(function, "__wrapped__") else None


def _used(function: types.FunctionType, passed: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the changeable variables of its module that a function uses, by way of other functions there as well."""
    passed.add(id(function))
    held = function.__globals__
    for name in function.__code__.co_names:
        value = held.get(name)
        if isinstance(value, _CHANGEABLE):
            yield name, value
        elif isinstance(value, types.FunctionType) and value.__globals__ is held and id(value) not in passed:
            yield from _used(value, passed)


class Namespaces:
    """The variables that the tools of one episode run on: copies of those that they change.

    Tools of a module in which none changes anything run on the module itself.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        """Copy what ``tools`` change, as it stands."""
        values: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        for tool in tools:
            function = _function(tool)
            if function is not None and (names := changed(tool)):
                copies = values.setdefault(id(function.__globals__), (function.__globals__, {}))[1]
                copies |= {name: value for name, value in names.items() if _copies(value)}
        self._spaces = _spaces(values)

    def fork(self) -> Namespaces:
        """Return copies of the variables as they stand now."""
        branch = Namespaces(())
        branch._spaces = _spaces(
            {key: (held, {name: space[name] for name in names}) for key, (held, names, space) in self._spaces.items()}
        )
        return branch

    def bound(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:
        """Return the tools on these variables."""
        return tuple(map(self._bound, tools))

    def _bound(self, tool: Tool) -> Tool:
        function, run = _function(tool), tool.run
        if function is None or not isinstance(run, Typed) or id(function.__globals__) not in self._spaces:
            return tool
        space = self._spaces[id(function.__globals__)][2]
        return replace(tool, run=replace(run, function=_on(function, space)))


_Space = tuple[dict[str, Any], tuple[str, ...], dict[str, Any]]


def _spaces(values: Mapping[int, tuple[dict[str, Any], dict[str, Any]]]) -> dict[int, _Space]:
    """Return, by the variables of each module, its namespace with copies, and functions that run on it."""
    copies = copy.deepcopy({key: names for key, (_, names) in values.items()})  # what is one stays one
    spaces: dict[int, _Space] = {}
    for key, (held, _) in values.items():
        space = {**held, **copies[key]}
        for name, value in held.items():
            if isinstance(value, types.FunctionType) and value.__globals__ is held:
                space[name] = _on(value, space)
        spaces[key] = (held, tuple(copies[key]), space)
    return spaces


def _on(function: types.FunctionType, space: dict[str, Any]) -> types.FunctionType:
    """Return a function that runs on other variables of its module."""
    other = types.FunctionType(function.__code__, space, function.__name__, function.__defaults__, function.__closure__)
    other.__kwdefaults__ = function.__kwdefaults__
    other.__annotations__ = function.__annotations__
    other.__doc__, other.__qualname__, other.__module__ = function.__doc__, function.__qualname__, function.__module__
    return other
