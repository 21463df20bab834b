"""Programs as tools: a call of one is played by a model under a role of its own, whatever agent makes the call.

Source: "Learning to Reason via Program Generation, Emulation, and Search" (61); to offer programs as tools is an
extension of it.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ferrule.agents.emulate import Emulated, Execute, emulate
from ferrule.agents.flow import Requests, placed, relayed, together
from ferrule.chat.program import PseudoProgram
from ferrule.core.flows import Agent, Ask, Flow, Session, Use
from ferrule.core.records import Observation, Task, Tool
from ferrule.tools.invoke import Malformed, arguments
from ferrule.worlds.added import Added

__all__ = ["WithPrograms", "program_tool"]

EMULATOR = "emulator"


def program_tool(program: PseudoProgram, results: Mapping[str, Emulated]) -> Tool:
    """Return a program as a tool: its name, docstring and parameters; ``results`` holds what its calls gave.

    Raises ``ValueError`` for a program without its function, and for one whose parameters cannot be given by name.
    """
    tree = ast.parse(program.text)
    made = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == program.name), None)
    if made is None:
        raise ValueError(f"the program defines no function {program.name!r} at its top")
    if made.args.posonlyargs or made.args.vararg or made.args.kwarg:
        raise ValueError(f"a parameter of {program.name!r} cannot be given by name; use plain parameters")
    names = [entry.arg for entry in (*made.args.args, *made.args.kwonlyargs)]
    optional = {entry.arg for entry in made.args.args[len(made.args.args) - len(made.args.defaults) :]}
    optional |= {e.arg for e, value in zip(made.args.kwonlyargs, made.args.kw_defaults, strict=True) if value}
    required = [name for name in names if name not in optional]
    schema = {"type": "object", "properties": {name: {} for name in names}, "required": required}
    about = ast.get_docstring(made) or f"{program.name}({', '.join(names)})"
    return Tool(program.name, about, schema, partial(_result, program.name, results))


def _result(name: str, results: Mapping[str, Emulated], **given: Any) -> Any:
    played = results.get(_key(name, given))
    if played is None or played.output is None:
        return Observation(f"what {name} gives could not be read", "error")
    return played.output


def _key(name: str, given: Mapping[str, Any]) -> str:
    return name + json.dumps(given, sort_keys=True, default=repr)


@dataclass(frozen=True)
class WithPrograms:
    """``agent`` with programs among its tools: each call of one is played by the policy of the role ``emulator``.

    What the emulator takes stands under its role in ``Episode.spent``. ``execute`` plays a call, whose instruction is
    what the tool says of itself; ``ferrule.agents.emulate.execute_mixed`` runs defined parts in the sandbox. A
    program takes the place of a tool of the world of the same name. Equal calls are played once.
    """

    agent: Agent
    programs: tuple[PseudoProgram, ...]
    execute: Execute = field(default=partial(emulate, role=EMULATOR))

    def __call__(self, task: Task, session: Session) -> Flow[Any]:
        """Play one episode."""
        results: dict[str, Emulated] = {}
        tools = tuple(program_tool(program, results) for program in self.programs)
        offered = Added(session, tools)

        def change(requests: Requests) -> Flow[Requests]:
            yield from self._play(requests, tools, results)
            return tuple(placed(request, offered) for request in requests)

        return (yield from relayed(self.agent(task, offered), change))

    def _play(self, requests: Sequence[Ask | Use], tools: Sequence[Tool], results: dict[str, Emulated]) -> Flow[None]:
        """Play the calls of programs in requests that have no result yet, side by side."""
        flows: dict[str, Flow[Emulated]] = {}
        for call in (call for request in requests if isinstance(request, Use) for call in request.calls):
            for tool, program in zip(tools, self.programs, strict=True):
                try:
                    given = arguments(tool, call.arguments)[0] if tool.name == call.name and not call.problem else None
                except Malformed:
                    given = None  # the tool says so when it is called
                if given is not None and (key := _key(tool.name, given)) not in results:
                    text = f"{program.name}({', '.join(f'{name}={value!r}' for name, value in given.items())})"
                    flows[key] = self.execute(program, tool.description, text, call=text)
        if flows:
            results.update(zip(flows, (yield from together(*flows.values())), strict=True))
