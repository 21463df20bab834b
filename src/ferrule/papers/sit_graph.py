"""SIT-Graph: State Integrated Tool Graph for Multi-Turn Agents (paper 20), December 2025.

https://arxiv.org/abs/2512.07287

Whole trajectories are too coarse to use again, and counts of which tool followed which ignore the dialogue. The memory
is a graph of tools from runs that worked: edges weigh how often and in how short runs one tool followed another, and
hold short summaries of the state. Before each reply the best next tools are suggested: by likeness of the state where
that decides, else by weight.

Departures from the paper:

1. Weights are shares of what follows a tool, so that they and likenesses lie on one scale; ``raw=True`` takes
   ``weight / 500`` as the reference does, where a weight of 600 beats any likeness.
2. Likeness is the overlap of words; any encoder (``by_library``, a sentence encoder) may take its place.
3. The suggestion is a user message, since many templates take a system message at the beginning only. It stays where
   it stands. No loss is on it; the arguments of a forced summary are the model's own and are trained on.
4. A run is kept where its score is above 0.55; what similarity of milestones, reward or judge that is, is the world's
   reward. Online learning adds nodes and edges (the released updater only raises edges that are there), and nothing is
   carried over from one task to the next.
5. The yes or no whether the state decides is asked of the role ``helper``, which may be the same model. What cannot be
   read as no means yes.
6. Runs are entries of a library, so that the graph is that of the live ones; no run is weakened by age.
7. The RL part is known from notes: the graph grows between steps from groups that were played, and ``share`` of the
   steps are guided. Batch 8 and 8 rollouts are the base's own settings; the KL weight is 0.001.
8. The claim is measured on drawn worlds, not on tau-bench or ToolSandbox. "Nearest run" is
   the run with the most equal tools: whole runs, as they are kept elsewhere, hold no summaries. Runs that hold them are
   an arm beside the claim, and do better than the graph where one fact holds for a whole run.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ferrule.agents.guided import Guide, Guided
from ferrule.agents.remembering import Remembering
from ferrule.agents.suggested import Needs, asked, suggesting, summary_tool
from ferrule.core.flows import Agent, Policy, World
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Task
from ferrule.evaluate.stream import stream
from ferrule.evaluate.taught import Taught, curve_of
from ferrule.memory.graph import RUN, Alike, graph_memory, learned, ranked, watching, word_overlap
from ferrule.memory.library import Library
from ferrule.studies.paper import Paper

__all__ = ["EFFICIENCY", "LEAST", "PAPER", "SUGGESTIONS", "agent", "guide", "recipe", "teach"]

SUGGESTIONS, EFFICIENCY, LEAST = 2, 1.0, 0.55
"""Tools suggested at a time, the weight of short runs, and the score above which a run is kept."""


def guide(
    library: Library, *, needs: Needs = asked, k: int = SUGGESTIONS, alike: Alike = word_overlap,
    efficiency: float = EFFICIENCY, raw: bool = False,
) -> Guide:  # fmt: skip
    """Return the guide that suggests ``k`` tools by the runs of a library; ``raw`` is the reference's scale."""
    return suggesting(watching(library, efficiency=efficiency), needs=needs, k=k, alike=alike, normalise=not raw)


def agent(base: Agent, library: Library, *, share: float = 1.0, least: float = LEAST, **settings: Any) -> Remembering:
    """Return ``base`` with suggestions before its replies; whoever scores its episodes hands them to its memory.

    The summary tool is on offer beside those of the world. ``settings`` are those of ``guide``.
    """
    guided = Guided(guide(library, **settings), base, (summary_tool(),), share)
    return Remembering(guided, graph_memory(library, least=least))


def recipe(base: Recipe, library: Library, *, share: float = 1.0, beta: float = 0.001, **settings: Any) -> Recipe:
    """Return ``base`` with memory-guided exploration: suggestions carry no loss, and new runs that worked are kept.

    ``beta`` weighs the divergence from the starting weights; 0 leaves the base's objective as it is.
    """
    from ferrule.objectives.penalty import with_kl

    objective = with_kl(base.objective, beta) if beta else base.objective
    return vary(
        base, agent=agent(base.agent, library, share=share, **settings), objective=objective, reference=bool(beta)
    )


def teach(agent: Agent, policy: Policy, world: World, tasks: Sequence[Task], seed: int) -> Taught:
    """Suggest tools by the runs of training tasks that worked; ``other`` by the same ones with tools exchanged."""
    library, others = Library(), Library()
    memory = graph_memory(library, least=LEAST)
    guided = Guided(guide(library), agent, (summary_tool(),))
    played = stream(guided, policy, world, tasks, memory, seed=seed, temperature=0.0)
    runs = library.entries(kind=RUN)
    names = sorted({step for run in runs for step in run.data["steps"] if isinstance(step, str)})
    drawn = random.Random(f"others/{seed}").sample(names, len(names))
    exchanged = dict(zip(drawn, [*drawn[1:], *drawn[:1]], strict=True))
    for run in runs:
        steps = [exchanged[step] if isinstance(step, str) else step for step in run.data["steps"]]
        others.add(run.text, when=run.when, kind=RUN, data={"steps": steps})
    other = Guided(guide(others), agent, (summary_tool(),))
    return Taught(guided, other, memory, keeps=True, size=len(runs), curve=curve_of(played))


PAPER = Paper(
    number=20,
    slug="sit-graph",
    title="SIT-Graph: State Integrated Tool Graph for Multi-Turn Agents",
    date="2025-12",
    url="https://arxiv.org/abs/2512.07287",
    pieces={
        "memory": graph_memory,
        "update": learned,
        "rank": ranked,
        "guide": guide,
        "agent": agent,
        "with_suggestions": recipe,
        "teach": teach,
    },
    summary="Suggests next tools from a graph of runs that worked, by the state where that decides.",
    reported="22.2 % over GPT-4.1-mini alone on tau-bench (public summary of the first version).",
)
