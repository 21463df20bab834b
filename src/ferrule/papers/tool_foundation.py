"""Tool Learning with Foundation Models (03), April 2023.

https://arxiv.org/abs/2304.08354

A model acts as a controller: it understands an instruction, picks tools, acts on an environment, and adapts its plan to
what a perceiver makes of the feedback. The paper sets plans that are made at once (introspective) beside plans that go
on from feedback (extrospective), and trains controllers from demonstrations and from feedback. Its platform, BMTools,
makes tools of the operations of web services, retrieves them by their descriptions, and lets an agent be a tool.

Departures from the paper:

1. Equations and the list of 18 tools are recollections of the paper, what the platform does is that of its code.
2. ``best_action`` takes the largest product summed over tools, as the equation says; ``tool_first`` picks the tool and
   then its action, as agents in stages do. A tool loop (``extrospective``) leaves both to the model.
3. ``platform_tools`` is ``ferrule.tools.openapi`` with the names, texts and answers of the platform's client. Its
   answers are cut at 4000 characters, which may cut JSON; a tool of ``openapi`` alone keeps the parsed body as data.
   The platform sends arguments of GET as a query and all others as a body, here they go where the document says.
   Arguments that break the schema are not sent. Any answer within 2xx is fine, not 200 alone. The second and further
   operations of one path have their method in the name, ``v1.shelf.post``: the platform gives all of them one name.
4. Serving and mounting tools is ``ferrule serve tools``; ``manifest`` has the platform's fields. Retrieval by inner
   product takes vectors as they are given: ``ferrule.tools.dense`` makes them, by cosine, of the documents that it is
   given; the platform's document of a tool is "name. description".
5. Temperatures are those of a run (0 in the paper's evaluation). A sub-agent's steps are limited by its own agent,
   those of the controller above by ``two_level``; a planner with a memory above sub-agents is not built.
6. A sub-agent's steps lie in the record under its own role (``ferrule.agents.helpers.child_turns``), not hidden.
7. Of the 18 tools the pack has 14, offline and small; ``TOOLS`` says which. Wikipedia shares the search of the pack.
   Household, image generation and 3-D models are left out.
8. Semi-supervised learning is ``ferrule.train.stage.successes`` of a policy's own runs; self-supervised learning, which
   keeps calls that lower the loss of the text after them, is not built.
9. Parts that do not depend on each other are still called one after the other, not in parallel.
10. The claim has a scripted controller on drawn tools in place of GPT models on 18 tools. It varies the steps with 6
   tools, and the tools with 2 steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ferrule.agents.helpers import Helper, WithHelpers, child_turns
from ferrule.agents.perceive import Perceiving, cut
from ferrule.agents.react import ToolLoop
from ferrule.agents.stage_parts import asked_stages
from ferrule.agents.stages import OneStep, Stages
from ferrule.core.arrays import FloatArray
from ferrule.core.clip import clip
from ferrule.core.flows import Agent, World
from ferrule.core.recipe import Method, Recipe
from ferrule.core.records import Observation, Tool
from ferrule.studies.paper import Paper
from ferrule.tools.openapi import openapi
from ferrule.tools.openapi_document import Operation
from ferrule.tools.pack import pack
from ferrule.tools.schema import type_text, violations

__all__ = [
    "PAPER", "TOOLS", "action_chances", "best_action", "dotted", "extrospective", "introspective", "manifest", "method",
    "nearest_tools", "platform_tool", "platform_tools", "read_input", "tool_first", "two_level",
]  # fmt: skip

HINT = 'The input is not JSON. Write the arguments as a JSON object, such as {"city": "Rome"}.'
"""What a caller is told whose input cannot be read."""
ADVICE = "Change the input, or call another function; after 4 equal errors give up."
"""What a caller is told after an error."""
LIMIT, RETRIEVED, STEPS = 4000, 3, 10
"""Characters of an answer, tools retrieved, and steps of a controller above sub-agents."""
TOOLS: Mapping[str, str] = {
    "machine translator": "translate", "calculator": "calculator", "map": "route", "weather": "weather",
    "stock": "stocks", "slide making": "slides", "table processing": "table", "knowledge graph": "knowledge",
    "search engine": "search", "Wikipedia": "search", "online shopping": "shop", "embodied household": "",
    "cooking assistant": "recipes", "movie search": "movies", "image generation": "", "3-D model construction": "",
    "chemical properties": "chemistry", "database": "sql",
}  # fmt: skip
"""The tools that the paper evaluates, and those of ``ferrule.tools.pack`` that do the same ("" where none does)."""


def action_chances(tool: Sequence[float], action: Sequence[Sequence[float]]) -> FloatArray:
    """Return the chances of actions, ``p(a) = sum_i p(a | T_i) p(T_i)``; ``action`` has a row per tool."""
    return np.asarray(tool, dtype=np.float64) @ np.asarray(action, dtype=np.float64)


def best_action(tool: Sequence[float], action: Sequence[Sequence[float]]) -> int:
    """Return the likeliest action over all tools, the first of equals."""
    return int(np.argmax(action_chances(tool, action)))


def tool_first(tool: Sequence[float], action: Sequence[Sequence[float]]) -> int:
    """Return the likeliest action of the likeliest tool, which may be another one than ``best_action``."""
    return int(np.argmax(action[int(np.argmax(tool))]))


# ------------------------------------------------------------------------------------------------------- platform


def dotted(operation: Operation) -> str:
    """Return the platform's name of an operation: its path with points, ``v1.find.city`` for ``/v1/find/city``."""
    return operation.path.strip("/").replace("/", ".").replace("{", "").replace("}", "")


def read_input(text: Any) -> Mapping[str, Any] | str:
    """Return the arguments that an input holds as JSON (inside ``tool_input`` where that wraps them), else a hint."""
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return HINT
    if isinstance(value, Mapping) and set(value) == {"tool_input"}:
        return read_input(value["tool_input"])
    return value if isinstance(value, Mapping) else HINT


def platform_tool(tool: Tool) -> Tool:
    """Return a tool of ``openapi`` as the platform shows it: one ``input`` of JSON, described with its parameters.

    An answer is cut to 4000 characters; an error begins with ``Error code N`` and ends with advice.
    """
    lines = [
        f"{name} ({type_text(entry, tool.parameters)}): {entry.get('description', '')}".rstrip(": ")
        for name, entry in tool.parameters.get("properties", {}).items()
    ]
    about = "\n".join([tool.description, "Parameters:", *lines, "The input must be a JSON object of them."])
    schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}

    async def called(input: str) -> Observation:
        given = read_input(input)
        if isinstance(given, str):
            return Observation(given, "malformed")
        if broken := violations(given, tool.parameters):
            return Observation("; ".join(f"{name}: {what}" for name, what in broken.items()), "malformed")
        observation: Observation = await tool.run(**given)
        if observation.status == "ok":
            return replace(observation, text=clip(observation.text, LIMIT))
        code = observation.data["http"]
        text = observation.text if code is None else f"Error code {code}. {observation.text}"
        return replace(observation, text=f"{clip(text, LIMIT)} {ADVICE}")

    return replace(tool, description=about, parameters=schema, run=called, output=None)


def platform_tools(document: Any, **options: Any) -> tuple[Tool, ...]:
    """Return the operations of an OpenAPI document as the platform's client has them; ``options`` as in ``openapi``.

    Raises what ``openapi`` raises.
    """
    taken: set[str] = set()

    def named(operation: Operation) -> str:
        name = dotted(operation) or operation.method
        name = f"{name}.{operation.method}" if name in taken else name
        taken.add(name)
        return name

    return tuple(map(platform_tool, openapi(document, named=named, **options)))


def manifest(name: str, description: str, document_url: str, *, title: str = "", human: str = "") -> dict[str, Any]:
    """Return the platform's manifest of a tool: what it is called by models and people, and where its document lies."""
    return {
        "schema_version": "v1",
        "name_for_model": name,
        "name_for_human": title or name,
        "description_for_model": description,
        "description_for_human": human or description,
        "auth": {"type": "none"},
        "api": {"type": "openapi", "url": document_url},
    }


def nearest_tools(
    query: Sequence[float], tools: Mapping[str, Sequence[float]], *, k: int = RETRIEVED
) -> list[str]:  # fmt: skip
    """Return the ``k`` tools whose vectors have the largest inner product with the query's, equal ones by name."""
    scores = {name: float(np.dot(query, vector)) for name, vector in tools.items()}
    return sorted(scores, key=lambda name: (-scores[name], name))[:k]


# --------------------------------------------------------------------------------------------------------- agents


def introspective(stages: Stages | None = None, *, k: int = 5) -> OneStep:
    """Return a controller that plans at once, without feedback; ``stages`` of None are those of one model."""
    return OneStep(stages or asked_stages(), k)


def extrospective(*, turns: int = 8, system: str = "", limit: int = LIMIT) -> Agent:
    """Return a controller that takes one action at a time and reads what came back, cut by a perceiver."""
    return Perceiving(ToolLoop(system=system, turns=turns), cut(limit))


def two_level(helpers: Sequence[Helper], *, turns: int = STEPS, system: str = "") -> WithHelpers:
    """Return a controller above sub-agents that it calls in words; it has no other tools."""
    return WithHelpers(ToolLoop(system=system, turns=turns), tuple(helpers), tools=())


def method(base: Recipe, world: World, *, imitate: int = 50, tasks: int = 240) -> Method:
    """Return the two trainings: ``imitate`` updates on demonstrations of a world, then ``base`` from its feedback."""
    from ferrule.train.stage import demonstrations, sft

    return Method((sft(demonstrations(world, tasks=tasks), max_steps=imitate), base))


PAPER = Paper(
    number=3,
    slug="tool-foundation",
    title="Tool Learning with Foundation Models",
    date="2023-04",
    url="https://arxiv.org/abs/2304.08354",
    pieces={
        "introspective": introspective, "extrospective": extrospective, "two_level": two_level,
        "perceiver": Perceiving, "child_turns": child_turns, "platform_tools": platform_tools, "manifest": manifest,
        "retrieve": nearest_tools, "pack": pack, "best_action": best_action, "tool_first": tool_first, "method": method,
    },
    summary="A controller with a perceiver, plans with and without feedback, and agents as tools of another.",
    reported=(
        "Demonstrations and stronger models help with most of 18 tools; simple ones are nearly solved without any "
        "(overview; no figures confirmed)."
    ),
)  # fmt: skip
