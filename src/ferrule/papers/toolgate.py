"""ToolGate: Contract-Grounded and Verified Tool Execution for LLMs (paper 62), January 2026.

https://arxiv.org/abs/2601.04688

Text alone should not decide when a tool may run and whether its result is believed. ToolGate keeps a typed state of
trusted facts. Every tool has a contract: a precondition on the state that gates the call, and a postcondition on the
result and the would-be state that gates the commit. The state changes through verified results only; failures come back
as text and never as facts.

The contracts themselves are in ``ferrule.tools.contracts``, the gate for any world and agent is
``ferrule.worlds.gated.Gated``, and the paper's own loop is ``ferrule.agents.gate.ToolGate``.

Departures from the paper:

1. A condition that cannot be read is refused when the contract is made; the released code takes it as satisfied, and
   of a result it reads ``has_field`` alone. Conditions may compare values, of a result as well, and ``type(f) == T``
   looks at the value. ``Contract(reference=True)`` is lenient.
2. New facts get the type that the output schema declares, or that of their value, and not always ``string``; updates
   are checked against types and constraints. A lenient ``State`` checks nothing.
3. Custom functions see plain values; with ``reference=True`` they see records with value and type. A custom
   precondition is asked beside the texts; in the released code, and with ``reference=True``, it takes their place.
4. A tool with a required argument that is not a known fact is passed over; ``published()`` calls it with null.
5. A tool that failed may be tried again in a later step when it only reads or is idempotent; ``published()`` bans
   it for the rest of the run.
6. Retrieval is BM25 over the same texts. Any function of query, tools and contracts may take its place, an embedding
   model for instance.
7. Generation stops at the end marker alone. The conversation grows at its end, where the released code
   writes the whole prompt anew.
8. The claim looks the tool up by the name that the chooser writes, so that nothing else decides. The arm ``none``
   has contracts without conditions. The pocket model plays on another world, where changes of tables are at stake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ferrule.agents.gate import ToolGate, call_phase, rank
from ferrule.core.recipe import Recipe, vary
from ferrule.studies.paper import Paper
from ferrule.tools.contracts import Contract, from_schema, gate, verify

__all__ = ["PAPER", "published", "recipe"]


def published(contracts: Mapping[str, Contract] | None = None, **settings: Any) -> ToolGate:
    """Return the agent as released: null for missing arguments, a failed tool is out for the run, no types."""
    return ToolGate(contracts, **{"missing": "null", "ban": "run", "lenient": True, **settings})


def recipe(base: Recipe, *, contracts: Mapping[str, Contract] | None = None, **settings: Any) -> Recipe:
    """Return ``base`` with the paper's agent; ``settings`` are those of ``ToolGate``."""
    return vary(base, agent=ToolGate(contracts, **settings))


PAPER = Paper(
    number=62,
    slug="toolgate",
    title="ToolGate: Contract-Grounded and Verified Tool Execution for LLMs",
    date="2026-01",
    url="https://arxiv.org/abs/2601.04688",
    pieces={
        "agent": ToolGate,
        "recipe": recipe,
        "published": published,
        "call_phase": call_phase,
        "retrieve": rank,
        "gate": gate,
        "verify": verify,
        "from_schema": from_schema,
    },
    summary="A typed state of facts: preconditions gate calls, postconditions gate what is believed.",
    reported="Better reliability at competitive accuracy (abstract; no figures given).",
)
