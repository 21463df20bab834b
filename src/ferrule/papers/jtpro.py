"""JTPRO: A Joint Tool-Prompt Reflective Optimization Framework for Language Agents (56), April 2026.

https://arxiv.org/abs/2604.19821

Among hundreds of tools an agent takes the wrong look-alike, or fills slots wrongly. Instructions carry conventions that
all tools share (how dates are written), documents what tells tools apart, and each needs the other. JTPRO searches
for both together by labelled calls: it rolls a context out on a few of them, diagnoses what was wrong, lets a reflector
edit rules and documents, joins the edits with the best context, lifts what recurs across tools into rules, and keeps
the result where validation does not fall. No weight changes.

Departures from the paper, of which there is no public code and for which only outlines and results were at hand:

1. How scores are aggregated is our reading: slots count over calls of the right tool, as the share of equal ones among
   those of either call (``rewards.slots``). Calls right as a whole select, as the weights of the objective are not
   published.
2. Candidates are picked as in the code of GEPA, on which the method builds (``agents.text_search.by_item``).
3. Edits of different texts are united and the newer one wins on the same text. The best context is the last that did
   not fall; one that fell is dropped and never picked.
4. Rules across tools come from equal descriptions of parameters, in small letters and with single spaces, of at least
   two tools (``tools.documents.lifted``), never from names; a model may bring paraphrases into the same words before.
   A rule that documents point to can be replaced, and not taken away.
5. The prompts are our own; sizes of minibatches (16) and rounds (8) are those of the claim, and the reflector is any
   policy under that role. An edit longer than ``longest`` words is left out, as words of failing requests pile up.
6. What a call brings about is not looked at: tools are not executed. A call is right where it is the labelled one.
7. The claim has scripted reflectors and an agent that chooses by words, in the part ``pocket`` a model; every arm gets
   the same number of reflections.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from ferrule.agents.context_asks import asked_calls, asked_edits
from ferrule.agents.contexts import Context, LabelledCall, Optimised, search_contexts
from ferrule.agents.documented import Documented
from ferrule.agents.flow import returned, together
from ferrule.core.flows import Agent, Flow, Policy, Session, World
from ferrule.core.records import Call, Task, Tool
from ferrule.data.labelled_calls import demonstrated_calls
from ferrule.evaluate.probed import played_flow, tools_world
from ferrule.evaluate.taught import Taught, of_others
from ferrule.rewards.slots import SlotScores, signals, slot_scores
from ferrule.studies.paper import Paper
from ferrule.tools.documents import lifted
from ferrule.tools.overlay import Overlay

__all__ = ["PAPER", "inventory", "optimised", "scored", "teach"]


def inventory(tools: Sequence[Tool], others: Sequence[Tool], count: int, *, seed: int = 0) -> list[Tool]:
    """Return ``tools`` among distractors drawn from ``others``, ``count`` in all, shuffled.

    Raises ``ValueError`` where there are too few, or ``tools`` alone are more.
    """
    names = {tool.name for tool in tools}
    spare = [tool for tool in others if tool.name not in names]
    if not len(tools) <= count <= len(tools) + len(spare):
        raise ValueError(f"count is {count}; with {len(spare)} distractors it lies from {len(tools)} on")
    rng = random.Random(seed)
    return rng.sample(drawn := [*tools, *rng.sample(spare, count - len(tools))], len(drawn))


def optimised(
    tools: Sequence[Tool], examples: Sequence[LabelledCall], policy: Policy | Mapping[str, Policy], *,
    judge: float = 0.5, seed: int = 0, **settings: Any,
) -> Optimised:  # fmt: skip
    """Search for rules and documents of tools by labelled calls; the roles are ``solver`` and ``reflector``.

    The share ``judge`` of the examples (at least one) validates, drawn by ``seed``, the others are learned from.
    ``settings`` are those of ``agents.contexts.search_contexts``. Raises ``ValueError`` for fewer than two examples.
    """
    if len(examples) < 2:
        raise ValueError(f"{len(examples)} examples; one is needed to learn from and another to validate on")
    places = random.Random(seed).sample(range(len(examples)), len(examples))
    cut = min(max(1, round(judge * len(places))), len(places) - 1)
    how = {"size": min(16, len(places) - cut), "seed": seed, **settings}

    def flow(session: Session) -> Flow[Optimised]:
        return (yield from search_contexts(
            tools, asked_calls(tools), asked_edits(tools), examples, learn=places[cut:], judge=places[:cut], **how
        ))  # fmt: skip

    return played_flow(flow, tools_world(tools), policy, seed=seed, temperature=0.0)


def scored(
    tools: Sequence[Tool], context: Context, examples: Sequence[LabelledCall], policy: Policy, *, seed: int = 0
) -> SlotScores:
    """Let a policy make the call of every example in a context; return the shares of right tools, slots and calls."""

    def flow(session: Session) -> Flow[Sequence[Call | None]]:
        return (yield from returned(asked_calls(tools)(context, examples)))

    calls = played_flow(flow, tools_world(tools), policy, seed=seed, temperature=0.0)
    return slot_scores(calls, [example.gold for example in examples])


def teach(
    agent: Agent, policy: Policy, world: World, tasks: Sequence[Task], seed: int, *, rounds: int = 4, size: int = 8
) -> Taught:
    """Let an agent read rules and documents by the first calls of reference solutions (``Teach``).

    Each request is asked beside the tools of its own task; every second one validates.
    """
    tools, examples = demonstrated_calls(world, tasks)
    if len(examples) < 2:
        raise ValueError(f"{len(examples)} examples; one is needed to learn from and another to validate on")
    offered: dict[str, tuple[Tool, ...]] = {}
    for task in tasks:
        with closing(world.start(task)) as session:
            offered[task.prompt] = session.tools

    def predict(context: Context, items: Sequence[LabelledCall]) -> Flow[Sequence[Call | None]]:
        asked = []
        for item in items:
            here = {tool.name for tool in offered[item.query]}
            texts = {name: text for name, text in context.overlay.texts.items() if name in here}
            near = Context(context.rules, Overlay(texts))
            asked.append(returned(asked_calls(offered[item.query])(near, [item])))
        return [call for (call,) in (yield from together(*asked))]

    def flow(session: Session) -> Flow[Optimised]:
        return (yield from search_contexts(
            tools, predict, asked_edits(tools), examples, learn=range(0, len(examples), 2),
            judge=range(1, len(examples), 2), rounds=rounds,
            size=min(size, (len(examples) + 1) // 2), seed=seed,
        ))  # fmt: skip

    context = played_flow(flow, tools_world(tools), policy, seed=seed, temperature=0.0).context
    other = Documented(agent, of_others(context.overlay, seed), context.rules)
    count = len(context.overlay.texts) + len(context.rules)
    return Taught(Documented(agent, context.overlay, context.rules), other, size=count)


PAPER = Paper(
    number=56,
    slug="jtpro",
    title="JTPRO: A Joint Tool-Prompt Reflective Optimization Framework for Language Agents",
    date="2026-04",
    url="https://arxiv.org/abs/2604.19821",
    pieces={
        "search": search_contexts,
        "optimise": optimised,
        "calls": asked_calls,
        "edits": asked_edits,
        "rules": lifted,
        "signals": signals,
        "scores": slot_scores,
        "score": scored,
        "inventory": inventory,
        "teach": teach,
    },
    summary="Searches for rules and tool documents together, by what was wrong with labelled calls.",
    reported=(
        "ToolACE, GPT-5 with 500 tools, calls wholly right: 62.73 % before, 66.12 % by GEPA, 74.38 % jointly "
        "(public summaries)."
    ),
)
