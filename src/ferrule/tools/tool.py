"""The ``tool`` decorator: a typed Python function becomes a tool with a JSON schema."""

from __future__ import annotations

import inspect
import re
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, overload

from docstring_parser import parse as parse_docstring
from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUndefinedAnnotation, PydanticUserError

from ferrule.core.arrays import nearest
from ferrule.core.records import Effect, Observation, Tool
from ferrule.tools.annotations import noted, nullable, readable
from ferrule.tools.schema import untitled

__all__ = ["NAME", "Typed", "tool", "with_states"]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_EFFECTS = ("read", "write", "irreversible")


@dataclass(frozen=True)
class Typed:
    """A function with one pydantic adapter per parameter; ``isolated`` runs every call in a separate process."""

    function: Callable[..., Any]
    adapters: Mapping[str, TypeAdapter[Any]] = field(repr=False)
    isolated: bool = False
    state: Callable[[], Any] | None = None
    """What makes the state that an episode keeps; outside an episode every call has one of its own."""

    def __call__(self, **arguments: Any) -> Any:
        """Call the function itself (in this process, without checks)."""
        return self.ready(**arguments)

    @property
    def ready(self) -> Callable[..., Any]:
        """The function, on a state where it needs one."""
        return self.function if self.state is None else partial(self.function, state=self.state())


def with_states(tools: Sequence[Tool], states: dict[Any, Any]) -> tuple[Tool, ...]:
    """Return tools on the states of one episode, by what makes each; a state that is missing is made.

    Tools without ``state`` are returned as they are.
    """

    def bound(each: Tool) -> Tool:
        run = each.run
        if not isinstance(run, Typed) or run.state is None:
            return each
        if run.state not in states:
            states[run.state] = run.state()
        return replace(each, run=replace(run, function=partial(run.function, state=states[run.state]), state=None))

    return tuple(map(bound, tools))


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    function: None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    terminal: bool = False,
    cost: float = 1.0,
    effects: Effect = "read",
    seconds: float = 10.0,
    isolated: bool = False,
    idempotent: bool = False,
    state: Callable[[], Any] | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...


@overload
def tool(
    function: Callable[..., Any],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    terminal: bool = False,
    cost: float = 1.0,
    effects: Effect = "read",
    seconds: float = 10.0,
    isolated: bool = False,
    idempotent: bool = False,
    state: Callable[[], Any] | None = None,
) -> Tool: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    terminal: bool = False,
    cost: float = 1.0,
    effects: Effect = "read",
    seconds: float = 10.0,
    isolated: bool = False,
    idempotent: bool = False,
    state: Callable[[], Any] | None = None,
) -> Any:
    """Make a ``Tool`` of a typed function, sync or async: ``@tool``, ``@tool(...)`` or ``tool(function, ...)``.

    The schema comes from the annotations, the texts from the docstring (Google, NumPy, reST or Epydoc style), else from
    ``Annotated[int, "how many"]``. What a generator yields is a list.
    ``output`` is the schema of the return annotation, where it has one. A call of an ``idempotent`` tool may be made
    twice with the effect of one. ``seconds`` limits one call; ``isolated=True`` runs each call in a forked process that
    is killed at the limit. ``state`` makes what an episode keeps: the function's parameter ``state``, which the model
    does not see, is one object for all calls in an episode of all tools with the same ``state``.
    Raises ``TypeError`` for a parameter without a usable annotation and ``ValueError`` for an invalid option.
    """
    if function is None:
        return lambda inner: tool(
            inner,
            name=name,
            description=description,
            terminal=terminal,
            cost=cost,
            effects=effects,
            seconds=seconds,
            isolated=isolated,
            idempotent=idempotent,
            state=state,
        )
    label = name or str(getattr(function, "__name__", type(function).__name__))
    _check_options(label, cost, effects, seconds)
    doc = parse_docstring(inspect.getdoc(function) or "")
    spoken = "\n\n".join(part.strip() for part in (doc.short_description, doc.long_description) if part)
    if state is not None:
        _check_state(function, label, isolated)
    hidden = () if state is None else ("state",)
    adapters, parameters = _parameters(function, label, hidden, {p.arg_name: p.description or "" for p in doc.params})
    return Tool(
        name=label,
        description=spoken if description is None else description,
        parameters=parameters,
        run=Typed(function, adapters, isolated, state),
        terminal=terminal,
        cost=cost,
        effects=effects,
        seconds=seconds,
        idempotent=idempotent,
        output=_output(function),
    )


def _check_state(function: Callable[..., Any], name: str, isolated: bool) -> None:
    if "state" not in inspect.signature(function).parameters:
        raise TypeError(f"tool {name!r}: state=... needs a parameter 'state' in the function")
    if isolated:
        raise ValueError(f"tool {name!r}: a process of its own cannot change the state of an episode; leave one out")


def _check_options(name: str, cost: float, effects: str, seconds: float) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"tool name {name!r} is not usable; take letters, digits and _ . - (64 at most), a letter or _ first"
        )
    if effects not in _EFFECTS:
        raise ValueError(f"tool {name!r}: effects is {effects!r}; {nearest(str(effects), _EFFECTS)}")
    if not cost >= 0:
        raise ValueError(f"tool {name!r}: cost is {cost}; the least is 0")
    if not seconds > 0:
        raise ValueError(f"tool {name!r}: seconds is {seconds}; it must be above 0")


def _parameters(
    function: Callable[..., Any], name: str, hidden: Sequence[str], texts: Mapping[str, str]
) -> tuple[dict[str, TypeAdapter[Any]], dict[str, Any]]:
    """Return one adapter per parameter that is not hidden, and the JSON schema of them all."""
    shown = [each for each in inspect.signature(function).parameters.values() if each.name not in hidden]
    hinted = function if inspect.isroutine(function) else type(function).__call__
    try:
        hints = typing.get_type_hints(hinted, include_extras=True)
    except NameError as problem:
        raise TypeError(
            f"tool {name!r}: an annotation cannot be resolved ({problem}); define it at module level"
        ) from None
    adapters: dict[str, TypeAdapter[Any]] = {}
    for parameter in shown:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(
                f"tool {name!r}: parameter {str(parameter)!r} cannot be passed by name; use plain parameters"
            )
        if parameter.name not in hints:
            raise TypeError(
                f"tool {name!r}: parameter {parameter.name!r} has no annotation; write {parameter.name}: str, say"
            )
        adapters[parameter.name] = _adapter(hints[parameter.name], parameter, name)
    schemas, extra = TypeAdapter.json_schemas([(key, "validation", adapter) for key, adapter in adapters.items()])
    properties: dict[str, Any] = {}
    required = []
    for parameter in shown:
        entry = untitled(dict(schemas[parameter.name, "validation"]))
        about = texts.get(parameter.name, "").strip() or noted(hints[parameter.name])
        if about and "description" not in entry:
            entry["description"] = about
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        else:
            entry["default"] = _plain(adapters[parameter.name], parameter.default)
        properties[parameter.name] = entry
    whole: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    if extra.get("$defs"):
        whole["$defs"] = {key: untitled(value) for key, value in extra["$defs"].items()}
    return adapters, whole


def _adapter(hint: Any, parameter: inspect.Parameter, name: str) -> TypeAdapter[Any]:
    """Return what checks one parameter; raises ``TypeError`` for a type that cannot be checked or has no schema."""
    try:
        read = readable(hint)
        adapter = TypeAdapter(nullable(read) if parameter.default is None else read)
        adapter.json_schema()
    except (PydanticUserError, PydanticUndefinedAnnotation) as problem:
        lacks = "no JSON schema" if isinstance(problem, PydanticInvalidForJsonSchema) else "an unusable type"
        first = str(problem).splitlines()[0]
        raise TypeError(f"tool {name!r}: parameter {parameter.name!r} has {lacks}: {first}") from None
    return adapter


def _output(function: Callable[..., Any]) -> dict[str, Any] | None:
    """Return the JSON schema of what a function returns; None without an annotation that has a schema."""
    hinted = function if inspect.isroutine(function) else type(function).__call__
    try:
        wanted = typing.get_type_hints(hinted, include_extras=True).get("return", Any)
        if Observation in (wanted, *typing.get_args(wanted)):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a default without a JSON form does not matter for a result
            schema: dict[str, Any] = untitled(TypeAdapter(readable(wanted)).json_schema(mode="serialization"))
    except (NameError, TypeError, PydanticUserError):
        return None
    return schema or None


def _plain(adapter: TypeAdapter[Any], default: Any) -> Any:
    """Return a default as JSON data; one that does not fit its own annotation is shown by its repr."""
    try:
        return adapter.dump_python(default, mode="json", warnings=False)
    except (ValueError, TypeError):
        return repr(default)
