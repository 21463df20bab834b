"""Chain of Tools: Large Language Model is an Automatic Multi-tool Learner (paper 21), May 2024.

https://arxiv.org/abs/2405.16533

A model writes one program that calls a whole chain of documented tools, and repairs it from what went wrong. For that a
document must say what a call returns. Where it does not, the tool is probed: the model writes small programs that call
it, and the schema of the result is read off what they print. Tools that need values of others are probed in rounds,
beside tools that are documented already.

The agent and its judgement of outputs are in ``agents.chained``, programs that call tools in ``worlds.coded``, probing
in ``agents.probe_program`` (rounds in ``agents.probe``), schemas of results in ``tools.results``, the reviewer in
``agents.attribution``. ``probed_documents`` joins them: it probes what is undocumented and returns the overlay.

Departures from the paper:

1. Tools are functions of the program, not URLs with headers: requests, path variables and bodies are the business of
   the tools (``--tools openapi:...`` makes tools of web APIs). So the document has no URL, request type or body.
2. A judgement by words takes any answer that holds "invalid" for a failure, and "error: x" for none. It is the default,
   as published; ``by_text=False`` judges by whether the program raised and whether it printed something.
3. The reviewer's names are read as whole words; the names of tools in the record of calls (``data["calls"]``) can be
   held against them (``agents.attribution.first_failed``).
4. A schema is read off the first element of a list, as published; ``first=False`` joins all elements.
5. With attribution the release allows one try by default and three without; here ``tries`` is 3 either way.
6. The limit of 15,000 tokens (13,000 with attribution) beyond which a task is left out is a number of characters
   (``longest``), off unless it is given: the agent does not know the model's tokens.
7. The description in a document is shown whole, not its first line alone, since a probed outline stands in it.
8. A probe runs in a branch of the session, in which tools that cannot be undone are refused.
9. The prompts are in words of our own. ToolFlow, the benchmark of the paper, was not released; the claim draws tools.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ferrule.agents.attribution import attributed, first_failed
from ferrule.agents.chained import ChainProgram, document_of, outcome_of, sounds_good
from ferrule.agents.probe import Probed
from ferrule.agents.probe_program import documented, picked_helpers, probe_by_program
from ferrule.core.flows import Flow, Session, World
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Task
from ferrule.rollout.drive import Policies, drive
from ferrule.studies.paper import Paper
from ferrule.tools.overlay import Overlay
from ferrule.tools.results import induced, outline
from ferrule.worlds.session import Toolbox

__all__ = ["PAPER", "probed_documents", "recipe"]


def recipe(base: Recipe, *, tries: int = 3, attribute: bool = False, max_tokens: int = 1000) -> Recipe:
    """Return ``base`` with the agent that writes one program over all tools, and again up to ``tries`` in all."""
    return vary(base, agent=ChainProgram(tries=tries, attribute=attribute, max_tokens=max_tokens))


def probed_documents(
    world: World, policies: Policies, *, task: Task | None = None, rounds: int = 3, seed: int = 0, **how: Any
) -> tuple[list[Probed], Overlay]:
    """Probe the tools of a world that do not say what they return; gives what worked, and the overlay of documents.

    The role ``prober`` writes the programs. ``task`` opens the session (None: the first of the world). ``how`` are
    keywords of ``ferrule.agents.probe_program.probe_by_program``.
    """
    task = task or world.tasks("train", 1)[0]
    session = world.start(task, seed)
    box: list[tuple[list[Probed], Overlay]] = []

    def agent(_: Task, __: Session) -> Flow[None]:
        todo = [tool for tool in session.tools if tool.output is None and not tool.terminal]
        box.append((yield from probe_by_program(todo, session, rounds=rounds, **how)))

    try:
        (episode,) = drive(agent, [replace(task, id=f"probe/{task.id}", tools=None)], Toolbox(()), policies, seed=seed)
    finally:
        session.close()
    if episode.problem:
        raise RuntimeError(f"probing failed: {episode.problem}")
    return box[0]


PAPER = Paper(
    number=21,
    slug="atc",
    title="Chain of Tools: Large Language Model is an Automatic Multi-tool Learner",
    date="2024-05",
    url="https://arxiv.org/abs/2405.16533",
    pieces={
        "agent": ChainProgram,
        "document": document_of,
        "good": sounds_good,
        "outcome": outcome_of,
        "attribution": attributed,
        "by_record": first_failed,
        "probing": probe_by_program,
        "helpers": picked_helpers,
        "documented": documented,
        "schema": induced,
        "outline": outline,
        "documents": probed_documents,
        "recipe": recipe,
    },
    summary="Writes one program over a chain of documented tools and repairs it; probes tools that say no result.",
    reported="No figures confirmed.",
)
