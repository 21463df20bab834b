"""Probing a tool: think of a use for it, try that, judge and record it, learn from it, until nothing new comes up.

Whoever thinks, judges and learns is a flow under a role of its own, so that a model, a server and a script can take
each part. Sources: "LLMs in the Imaginarium: Tool Learning through Simulated Trial and Error" (19), "Chain of Tools"
(21), "From Exploration to Mastery: Enabling LLMs to Master Tools via Self-Driven Interactions" (37).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ferrule.agents.flow import returned
from ferrule.core.flows import Flow, Session, use
from ferrule.core.records import Answer, Call, Observation, Tool
from ferrule.tools.alike import Alike, by_words
from ferrule.tools.overlay import Overlay, ToolText, apply, revise

__all__ = [
    "Attempt", "Diverse", "Ended", "Idea", "Invent", "JudgeTrial", "Learn", "Probed", "Trial", "by_call", "documents",
    "invented", "probe", "probe_in_rounds",
]  # fmt: skip


@dataclass(frozen=True)
class Idea:
    """A use for a tool: a request in a person's words, and the arguments where they came with it.

    ``problem`` says why a reply holds none.
    """

    query: str = ""
    arguments: Mapping[str, Any] | None = None
    problem: str = ""


@dataclass(frozen=True)
class Trial:
    """One trial of a tool: the request, every call that was made for it with its result, and the answer.

    ``solved`` is what was judged of it, None where nobody knows; ``similar`` says that the request is like an earlier
    one; ``problem`` why nothing was tried.
    """

    tool: str
    query: str
    calls: tuple[tuple[Call, Observation], ...] = ()
    answer: Answer = None
    solved: bool | None = None
    similar: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Probed:
    """What probing a tool gave: all trials, the texts of the tool from the first to the last, and why it ended."""

    tool: str
    trials: tuple[Trial, ...]
    texts: tuple[ToolText, ...]
    ended: str


Invent: TypeAlias = Callable[[Tool, Sequence[Trial], str], "Flow[Idea] | Idea"]
"""Thinks of a use for a tool, given the trials so far and a complaint about the last idea (empty for the first)."""
Attempt: TypeAlias = Callable[[Tool, Idea], "Flow[Trial] | Trial"]
"""Tries an idea."""
JudgeTrial: TypeAlias = Callable[[Tool, Trial], "Flow[bool | None] | bool | None"]
"""Says whether a trial did what was requested; None where it cannot be told."""
Learn: TypeAlias = Callable[[Tool, Sequence[ToolText], Sequence[Trial]], "Flow[ToolText] | ToolText"]
"""Writes the next text of a tool, given the tool as it is worded now, its texts so far, and all trials."""
Ended: TypeAlias = Callable[[Sequence[ToolText], Sequence[Trial]], str]
"""Says after a trial why probing ends, by all texts and trials; an empty text where it goes on."""


@dataclass(frozen=True)
class Diverse:
    """Requests must differ: less ``alike`` than ``limit`` to each earlier one, or another is asked for.

    After ``tries`` the last one is tried all the same. One try asks for no other; a limit above 1 takes every request.
    """

    alike: Alike = by_words
    limit: float = 0.9
    tries: int = 3

    def __post_init__(self) -> None:
        """Refuse to ask for nothing."""
        if self.tries < 1:
            raise ValueError(f"Diverse.tries is {self.tries}; the least is 1")

    def like(self, query: str, earlier: Sequence[str]) -> str | None:
        """Return the first earlier request that a request is too much like; None where it differs from all."""
        return next((other for other in earlier if self.alike(query, other) >= self.limit), None)


def invented(
    tool: Tool, trials: Sequence[Trial], invent: Invent, diverse: Diverse | None = None
) -> Flow[tuple[Idea, bool]]:
    """Ask for an idea until one is readable and differs from the earlier ones, and say whether the last still does not.

    The complaint names the request that the idea is like, or says why it could not be read.
    """
    diverse = diverse or Diverse()
    complaint, similar, idea = "", False, Idea(problem="nobody was asked")
    for _ in range(diverse.tries):
        idea = yield from returned(invent(tool, trials, complaint))
        other = None if idea.problem else diverse.like(idea.query, [trial.query for trial in trials])
        similar = other is not None
        if not similar and not idea.problem:
            break
        complaint = idea.problem or f"The request {idea.query!r} is too much like {other!r}. Think of another one."
    return idea, similar


def probe(
    tool: Tool, invent: Invent, attempt: Attempt, *, judge: JudgeTrial | None = None, learn: Learn | None = None,
    ended: Ended | None = None, diverse: Diverse | None = None, rounds: int = 5, trials: Sequence[Trial] = (),
) -> Flow[Probed]:  # fmt: skip
    """Try a tool again and again, and return what was tried and learned.

    A round thinks of a use (``invented``), tries it, judges it, and lets ``learn`` write the tool's text anew, in which
    the next round sees it. ``trials`` are earlier ones, which requests must differ from too. It ends after ``rounds``,
    or when ``ended`` says so. Raises ``ValueError`` for fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; the least is 1")
    texts, all_trials, why = [ToolText()], list(trials), ""
    for _ in range(rounds):
        (worded,) = apply((tool,), Overlay({tool.name: texts[-1]}))
        idea, similar = yield from invented(worded, all_trials, invent, diverse)
        if idea.problem:
            trial = Trial(tool.name, idea.query, problem=idea.problem)
        else:
            trial = replace((yield from returned(attempt(worded, idea))), similar=similar)
            if judge is not None:
                trial = replace(trial, solved=(yield from returned(judge(worded, trial))))
        all_trials.append(trial)
        if learn is not None and not trial.problem:
            texts.append((yield from returned(learn(worded, texts, all_trials))))
        why = ended(texts, all_trials) if ended is not None else ""
        if why:
            break
    return Probed(tool.name, tuple(all_trials), tuple(texts), why or "rounds")


def by_call(session: Session, *, limit: int = 2048) -> Attempt:
    """Return the attempt that makes one call with the arguments of an idea, each in a branch of ``session``.

    So no trial changes what the next one meets, and tools that cannot be undone are refused. The text of the result is
    cut to ``limit`` characters. An idea without arguments is a problem.
    """

    def attempt(tool: Tool, idea: Idea) -> Flow[Trial]:
        if idea.arguments is None:
            return Trial(tool.name, idea.query, problem="the idea brings no arguments to call the tool with")
        call = Call(tool.name, idea.arguments)
        here = session.fork()
        try:
            (observation,) = yield from use(call, session=here)
        finally:
            here.close()
        return Trial(tool.name, idea.query, ((call, replace(observation, text=observation.text[:limit])),))

    return attempt


def probe_in_rounds(
    tools: Sequence[Tool], one: Callable[[Tool, Sequence[Probed]], Flow[Probed]], works: Callable[[Probed], bool], *,
    rounds: int = 3,
) -> Flow[list[Probed]]:  # fmt: skip
    """Probe tools that need results of one another: each alone, then those that failed beside those that worked.

    ``one(tool, worked)`` probes a tool with what is known of others. A tool that ``works`` helps the next one at once,
    in its own round too. It ends after ``rounds`` beyond the first, or when all work. What is
    returned are the tools that worked, in that order. Source: Chain of Tools (21).
    """
    worked: list[Probed] = []
    left = list(tools)
    for lap in range(rounds + 1):
        failed: list[Tool] = []
        for tool in left:
            probed = yield from one(tool, tuple(worked) if lap else ())
            if works(probed):
                worked.append(probed)
            else:
                failed.append(tool)
        if not failed:
            break
        left = failed
    return worked


def documents(probed: Sequence[Probed], base: Overlay | None = None) -> Overlay:
    """Return the overlay of what was learned of tools, with a version per round; ``base`` is the first of them."""
    overlay = base or Overlay()
    for place in range(1, max((len(one.texts) for one in probed), default=1)):
        texts = {one.tool: one.texts[place] for one in probed if place < len(one.texts)}
        if any(overlay.texts.get(tool) != text for tool, text in texts.items()):
            overlay = revise(overlay, texts)
    return overlay
