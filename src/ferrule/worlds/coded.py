"""A session whose tools are functions of code: one program may call a whole chain of them.

Source: "Chain of Tools: Large Language Model is an Automatic Multi-tool Learner" (21).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from ferrule.core.acting import Place, act
from ferrule.core.flows import Session
from ferrule.core.records import Call, Observation, Tool
from ferrule.sandbox.interpreter import Interpreter
from ferrule.sandbox.settings import Settings
from ferrule.tools.effects import branch, result_of

__all__ = ["CODE", "Coded"]

CODE = "python"
"""The name of the tool that runs code."""
_SCHEMA: Mapping[str, Any] = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
_ABOUT = "Run Python code in which the other tools are functions of their names, called with keywords."


class Coded:
    """A session with the tool ``python`` beside its own, whose code may call these as functions.

    Every program runs in a fresh isolated interpreter. A call gives the result of the tool as JSON data, and raises
    ``RuntimeError`` with the observation's text where it did not run well. The calls go through the wrapped session, so
    its budgets and rules hold; ``Observation.data["calls"]`` lists them with status and text, in order. Tools whose
    names are no Python names, and those that end the episode, cannot be called from code.
    """

    def __init__(self, session: Session, settings: Settings | None = None) -> None:
        self.session, self.settings = session, settings or Settings()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools of the wrapped session, and the one that runs code."""
        code = Tool(CODE, _ABOUT, _SCHEMA, self._run, effects="write", seconds=self.settings.seconds + 60.0)
        return (*(tool for tool in self.session.tools if tool.name != CODE), code)

    def act(self, call: Call, place: Place | None = None) -> Observation:
        """Run one call: code here, anything else in the wrapped session."""
        code = call.arguments.get("code")
        if call.name != CODE or call.problem or not isinstance(code, str):
            return act(self.session, call, place)
        return self._run(code, place)

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run one call whose place in the episode is known."""
        return self.act(call, place)

    def _run(self, code: str, place: Place | None = None) -> Observation:
        made: list[dict[str, Any]] = []
        offered = [tool for tool in self.session.tools if tool.name.isidentifier() and not tool.terminal]
        functions = {tool.name: partial(self._called, tool, made, place) for tool in offered if tool.name != CODE}
        with closing(Interpreter(self.settings, persistent=False, functions=functions)) as interpreter:
            observation = interpreter.run(code)
        return replace(observation, data={**(observation.data or {}), "calls": made})

    def _called(self, tool: Tool, made: list[dict[str, Any]], place: Place | None, /, *given: Any, **named: Any) -> Any:
        names = list(tool.parameters.get("properties", {}))
        if len(given) > len(names):
            raise TypeError(f"{tool.name} takes at most {len(names)} arguments, not {len(given)}")
        arguments = {**dict(zip(names, given, strict=False)), **named}
        observation = act(self.session, Call(tool.name, arguments), place)
        about = {"name": tool.name, "arguments": arguments, "status": observation.status, "text": observation.text}
        result = result_of(observation, tool.output) if observation.status == "ok" else None
        made.append({**about, "result": result})
        if observation.status != "ok":
            raise RuntimeError(f"{tool.name}: {observation.text}")
        return result

    def fork(self, *, irreversible: bool = False) -> Coded:
        """Return an independent branch."""
        return Coded(branch(self.session, irreversible), self.settings)

    def final(self) -> Mapping[str, Any]:
        """Return the final state of the wrapped session."""
        return self.session.final()

    def close(self) -> None:
        """Close the wrapped session."""
        self.session.close()
