"""DRAFT: From Exploration to Mastery: Enabling LLMs to Master Tools via Self-Driven Interactions (37), October 2024.

https://arxiv.org/abs/2410.08197

Documents of tools are written by people for people; they leave out, and err. DRAFT writes them anew from a model's own
trials: an explorer thinks of a request with arguments and calls the tool, an analyst compares the document with what
came back, and a writer writes the description anew and says what to explore next. Requests must differ from earlier
ones, and each tool stops by itself once its description has settled. No weight changes, and other models read the
documents as well.

Departures from the paper:

1. A tool here is a function, so what the paper calls an API. Descriptions of several functions that belong together are
   written last (``overviews``); they are returned beside the overlay, as no tool carries them.
2. The prompts are our own. A reply that cannot be read is asked for once more within the same three tries, or leaves
   the text as it is, which does not count as settled; the release takes none and fails later. Its prompt for the
   analyst has a place that is never filled; here that is the history of descriptions.
3. How alike two requests or descriptions are is the cosine of their words where no encoder is given (``by_vectors``
   takes one); the paper's is text-embedding-ada-002, to which its limits 0.9 and 0.75 belong.
4. Every trial calls the tool in a branch of its session, so that none changes what the next one meets; tools that
   cannot be undone are refused. The paper probes live APIs.
5. The last call that ran is kept as an example of the document (``examples``), as in the release's files.
6. A call that timed out is of the class ``timeout``; the release reports it as a success. Names keep a ``^`` only with
   ``reference``, by a slip in a class of characters.
7. The description that converged is the last one and is kept; the listing in the paper may drop it.
8. Documents are used by any agent here (``--tool-docs``, ``agents.documented``). ``in_parts`` plays as the paper does
   to measure them: parts of a request, a tool for each, its arguments, an answer, and another tool where a call failed.
   A function is chosen directly, not first its tool; whether a part is answered says the next plan, in place of a
   question of its own. Answers are compared by ``rewards.pairwise``.
9. The claim is measured on tools with hidden rules that a validator enforces, with a scripted explorer, writer and
   caller; an arm that gives all trials to a single rewrite is added. In the part ``pocket`` a model reads what a script
   writes from the errors of real trials.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from ferrule.agents.documented import Documented as Reader
from ferrule.agents.documenter import Documenter, overview, unchanged
from ferrule.agents.flow import together
from ferrule.agents.probe import Diverse, Probed, Trial, by_call, documents, probe
from ferrule.agents.stage_parts import asked_stages
from ferrule.agents.stages import Iterative, Ranking, StageRecord, Stages, Subtask
from ferrule.core.arrays import nearest
from ferrule.core.flows import Agent, Flow, Policy, Session, World
from ferrule.core.records import Observation, Task, Tool
from ferrule.data.toolbench import plain_name
from ferrule.evaluate.probed import played_flow, probe_tools
from ferrule.evaluate.taught import Taught, of_others
from ferrule.studies.paper import Paper
from ferrule.tools.alike import Alike, by_words, sentence_bleu
from ferrule.tools.documents import texts_of
from ferrule.tools.overlay import Overlay, ToolText

__all__ = [
    "PAPER",
    "Documented",
    "ResultClass",
    "change",
    "function_name",
    "in_parts",
    "mastered",
    "on_path",
    "refined",
    "result_class",
    "teach",
]

_RESERVED = frozenset({"from", "class", "return", "false", "true", "id", "and", "empty"})
_LIMITED = ("unsubscribed", "not subscribed", "too many requests", "rate limit", "gateway", "blocked", "no credits")
ResultClass: TypeAlias = Literal["ok", "unauthorised", "limited", "error", "timeout"]


def change(before: str, after: str, *, alike: Alike = by_words) -> float:
    """Return how little a rewrite changed: the mean of BLEU, with the text before as reference, and of ``alike``."""
    return (sentence_bleu(before, after) + alike(before, after)) / 2


def function_name(text: str, *, reference: bool = False) -> str:
    """Return a text as the name of a function: ``2nd API!`` is ``get_2nd_api``, and ``id`` is ``is_id``."""
    name = plain_name(text, "^" if reference else "")
    return f"is_{name}" if name in _RESERVED else name


def result_class(observation: Observation) -> ResultClass:
    """Return the class of a result by its status and its words: only ``ok`` and ``unauthorised`` are worth keeping."""
    said = observation.text.lower()
    if observation.status == "timeout":
        return "timeout"
    if "unauthori" in said:
        return "unauthorised"
    if any(words in said for words in _LIMITED):
        return "limited"
    return "error" if observation.status != "ok" or "error" in said else "ok"


def on_path(calls: Iterable[tuple[str, str]], relevant: Iterable[tuple[str, str]]) -> bool:
    """Say whether every relevant pair of tool and function was called; names are compared as ``function_name``."""

    def plain(pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        return {(function_name(tool), function_name(function)) for tool, function in pairs}

    return plain(relevant) <= plain(calls)


def refined(
    tool: Tool, session: Session, *, rounds: int = 5, similar: float = 0.9, tries: int = 3, settled: float = 0.75,
    alike: Alike = by_words, limit: int = 2048, max_tokens: int = 2000, examples: bool = True,
    returns: bool = False,
) -> Flow[Probed]:  # fmt: skip
    """Write the document of a tool anew from trials of it, in at most ``rounds``.

    Another request is asked for, up to ``tries`` times in all, while one is at least ``similar`` to an earlier one; it
    ends when ``change`` of two descriptions in a row is above ``settled``. Results are cut to ``limit`` characters.
    With ``returns`` the schema of the results is documented as well, which the paper does not do.
    """
    writer = Documenter(max_tokens=max_tokens, examples=examples, returns=returns)

    def changed(before: str, after: str) -> float:
        return change(before, after, alike=alike)

    still = unchanged(tool, changed, limit=settled)

    def ended(texts: Sequence[ToolText], trials: Sequence[Trial]) -> str:
        return still(texts, trials) if writer.wrote else ""

    return (yield from probe(
        tool, writer.invent, by_call(session, limit=limit), learn=writer.learn, ended=ended,
        diverse=Diverse(alike, similar, tries), rounds=rounds,
    ))  # fmt: skip


def in_parts(stages: Stages | None = None, *, k: int = 1, steps: int = 8) -> Iterative:
    """Return the agent that splits a request into parts and takes for each a tool that has not failed at it yet.

    ``stages`` default to those of one model (``agents.stage_parts.asked_stages``); ``k`` and ``steps`` are those of
    ``Iterative``.
    """
    chosen = stages or asked_stages()

    def select(part: Subtask, record: StageRecord, tools: tuple[Tool, ...]) -> Flow[Ranking] | Ranking:
        failed = {called.name for called in record.calls_of(part.id) if called.status != "ok"}
        return chosen.select(part, record, tuple(tool for tool in tools if tool.name not in failed) or tools)

    return Iterative(replace(chosen, select=select), k=k, steps=steps, retries=0)


@dataclass(frozen=True)
class Documented:
    """New documents of tools, with a version per round, what each took, and descriptions of groups of them."""

    overlay: Overlay
    probed: tuple[Probed, ...]
    overviews: Mapping[str, str] = field(default_factory=dict)


def mastered(
    world: World, policy: Policy | Mapping[str, Policy], *, task: Task | None = None, only: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None, seed: int = 0, temperature: float | None = 0.2, **settings: Any,
) -> Documented:  # fmt: skip
    """Let a policy write the documents of the tools of a world (``evaluate.probed.tools_world`` for tools alone).

    ``task`` is one that the world starts, whose tools are documented (None: one without a prompt). The roles are
    ``prober``, ``analyst`` and ``writer``; ``settings`` are those of ``refined``. ``groups`` names tools that belong
    together, by what they are together. Raises ``ValueError`` for an unknown name, before anything is tried.
    """
    if groups:
        with closing(world.start(task or Task("tools", "", world=world.name))) as session:
            known = [tool.name for tool in session.tools]
        for name in (name for names in groups.values() for name in names):
            if name not in known:
                raise ValueError(f"unknown tool {name!r} in groups; {nearest(name, known)}")

    def play(tool: Tool, session: Session) -> Flow[Probed]:
        return refined(tool, session, **settings)

    probed, _ = probe_tools(play, world, policy, task=task, only=only, seed=seed, temperature=temperature)
    overlay = documents(probed)
    if not groups:
        return Documented(overlay, tuple(probed))

    def overviews(session: Session) -> Flow[tuple[str, ...]]:
        said = texts_of(session.tools, overlay)
        lines = [{name: said[name, "description"] for name in names} for names in groups.values()]
        return (yield from together(*(overview(*pair) for pair in zip(groups, lines, strict=True))))

    texts = played_flow(overviews, world, policy, task=task, seed=seed, temperature=temperature)
    return Documented(overlay, tuple(probed), dict(zip(groups, texts, strict=True)))


def teach(agent: Agent, policy: Policy, world: World, tasks: Sequence[Task], seed: int, *, rounds: int = 2) -> Taught:
    """Let an agent read documents of the tools of training tasks, each tried in the first one with it (``Teach``)."""
    texts: dict[str, ToolText] = {}
    for task in tasks:
        with closing(world.start(task)) as session:
            fresh = [tool.name for tool in session.tools if tool.name not in texts]
        if fresh:
            texts |= mastered(world, policy, task=task, only=fresh, rounds=rounds, seed=seed).overlay.texts
    overlay = Overlay(texts)
    return Taught(Reader(agent, overlay), Reader(agent, of_others(overlay, seed)), size=len(texts))


PAPER = Paper(
    number=37,
    slug="draft",
    title="From Exploration to Mastery: Enabling LLMs to Master Tools via Self-Driven Interactions",
    date="2024-10",
    url="https://arxiv.org/abs/2410.08197",
    pieces={
        "documents": mastered,
        "document": refined,
        "writer": Documenter,
        "diversity": Diverse,
        "change": change,
        "agent": in_parts,
        "path": on_path,
        "classes": result_class,
        "names": function_name,
        "teach": teach,
    },
    summary="Writes documents of tools anew from a model's own trials, until each description has settled.",
    reported=(
        "RestBench-TMDB, GPT-4o, share of right paths: 88 %, documents rewritten once 79 %, without diversity 84 "
        "%, without adaptive stop 80 % (public review)."
    ),
)
