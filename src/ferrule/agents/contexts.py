"""Searching for instructions and tool documents together, by labelled calls and by what was wrong with those made.

A context is a set of named rules for all tools and an overlay of their documents. ``search_contexts`` is a refinement
(``ferrule.agents.refine``) over contexts: it picks one that is best on some example, lets somebody read its failures on
a few examples, joins the edits with the best context, lifts what tools share into rules, and keeps the result where it
does not score less on other examples. Source: "JTPRO: A Joint Tool-Prompt Reflective Optimization Framework for
Language Agents" (56).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ferrule.agents.refine import Candidate, Refined, Select, in_batch, refine
from ferrule.agents.text_search import OnItems, by_item
from ferrule.core.flows import Flow
from ferrule.core.records import Call, Tool
from ferrule.rewards.slots import Signal, signals
from ferrule.tools.documents import documents_text, edited, lifted
from ferrule.tools.overlay import Key, Overlay

__all__ = [
    "Case", "Context", "Edits", "LabelledCall", "Optimised", "Predict", "Reflect", "accepted", "implicated", "joined",
    "search_contexts",
]  # fmt: skip


@dataclass(frozen=True)
class LabelledCall:
    """A request and the call that answers it."""

    query: str
    gold: Call


@dataclass(frozen=True)
class Context:
    """What an agent reads: named rules that hold for all tools, and how each tool is documented."""

    rules: Mapping[str, str] = field(default_factory=dict)
    overlay: Overlay = field(default_factory=Overlay)

    @property
    def text(self) -> str:
        """The context as JSON without its history: contexts that say the same have the same text."""
        texts = dict(sorted(self.overlay.texts.items()))
        return documents_text(Overlay(texts), dict(sorted(self.rules.items())))


@dataclass(frozen=True)
class Edits:
    """Single texts to replace, of rules by name and of tools by key; None takes a rule away."""

    rules: Mapping[str, str | None] = field(default_factory=dict)
    texts: Mapping[Key, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A call that was wrong, and what was wrong with it."""

    example: LabelledCall
    call: Call | None
    signals: tuple[Signal, ...]


Predict: TypeAlias = Callable[[Context, Sequence[LabelledCall]], "Flow[Sequence[Call | None]] | Sequence[Call | None]"]
"""Says which call an agent makes for each request in a context, None for none; as a flow it may ask a model."""
Reflect: TypeAlias = Callable[[Context, Sequence[Case]], "Flow[Edits] | Edits"]
"""Reads failures and proposes edits; as a flow it may ask a model."""


def joined(context: Context, edits: Edits) -> Context:
    """Return a context with edits: those of different texts are united, on the same text the edit wins.

    A rule that a parameter still points to (``see R1``) is not taken away, as nothing would say what it said.
    """
    overlay = edited(context.overlay, edits.texts)
    said = {entry.description for text in overlay.texts.values() for entry in text.parameters.values()}
    gone = {name for name, text in edits.rules.items() if text is None and f"see {name}" not in said}
    changed = {name: text for name, text in edits.rules.items() if text is not None}
    return Context({name: text for name, text in {**context.rules, **changed}.items() if name not in gone}, overlay)


def implicated(cases: Sequence[Case]) -> set[str]:
    """Return the tools that failures concern: the right ones, and those that were taken for them."""
    return {case.example.gold.name for case in cases} | {case.call.name for case in cases if case.call is not None}


def accepted(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that scored no less than every one before them; the last of these is the best."""
    kept: list[Candidate] = []
    for candidate in candidates:
        if not kept or candidate.checked.score >= kept[-1].checked.score:
            kept.append(candidate)
    return kept


@dataclass(frozen=True)
class Optimised:
    """The best context of a search, all candidates, and how many calls were predicted for it."""

    context: Context
    refined: Refined
    runs: int


class _Played:
    """Contexts by their texts, and the calls that were predicted in them."""

    def __init__(self, predict: Predict, start: Context) -> None:
        self.predict = predict
        self.contexts = {start.text: start}
        self.calls: dict[tuple[str, str, str], Call | None] = {}

    def run(self, text: str, items: Sequence[LabelledCall]) -> Flow[list[float]]:
        """Predict calls and return 1 for those that are right as a whole."""
        (predicted,) = yield from in_batch([self.predict(self.contexts[text], items)])
        self.calls |= {(text, *_key(item)): call for item, call in zip(items, predicted, strict=True)}
        return [float(not signals(call, item.gold)) for item, call in zip(items, predicted, strict=True)]

    def case(self, text: str, item: LabelledCall) -> Case:
        """Return what was wrong with a call that was predicted."""
        call = self.calls[text, *_key(item)]
        return Case(item, call, signals(call, item.gold))


def search_contexts(
    tools: Sequence[Tool], predict: Predict, reflect: Reflect, examples: Sequence[LabelledCall], *,
    learn: Sequence[int], judge: Sequence[int], start: Context | None = None, size: int = 16, rounds: int = 8,
    least: int | None = 2, most: int | None = None, select: Select | None = None, seed: int = 0,
) -> Flow[Optimised]:  # fmt: skip
    """Search for rules and documents under which the right calls are made; a call counts where it is right as a whole.

    Every round reads the failures of one context on ``size`` examples of ``learn`` (places) and proposes one context,
    which is scored on those of ``judge``. Only texts of implicated tools, and rules, may change. ``least`` is that of
    ``ferrule.tools.documents.lifted``, None lifts nothing. ``most`` bounds predicted calls. Raises ``ValueError`` where
    ``learn`` and ``judge`` share an example, and where ``size`` is more than there are.
    """
    if shared := set(learn) & set(judge):
        raise ValueError(f"{len(shared)} examples are learned from and judged on as well; keep them apart")
    if not 1 <= size <= len(learn):
        raise ValueError(f"size is {size} and there are {len(learn)} examples to learn from; it lies from 1 to these")
    first = start or Context()
    played = _Played(predict, first)
    on = OnItems(played.run, examples, most)
    rng, pick = random.Random(seed), select or by_item(seed)

    def propose(parents: Sequence[Candidate]) -> Flow[list[str]]:
        text, places = parents[0].text, rng.sample(list(learn), size)
        scores = yield from on.scores(text, places)
        cases = [played.case(text, examples[p]) for p, score in zip(places, scores, strict=True) if score < 1]
        if not cases or on.over:
            return []
        (edits,) = yield from in_batch([reflect(played.contexts[text], cases)])
        concerned = implicated(cases)
        kept = {key: value for key, value in edits.texts.items() if key[0] in concerned}
        context = joined(played.contexts[parents[-1].text], Edits(edits.rules, kept))
        if least is not None:
            overlay, rules = lifted(tools, context.overlay, context.rules, least=least)
            context = Context(rules, overlay)
        played.contexts.setdefault(context.text, context)
        return [context.text]

    def chosen(candidates: Sequence[Candidate]) -> Sequence[Sequence[Candidate]]:
        pool = accepted(candidates)
        return [[pick(pool)[0][0], pool[-1]]]

    (checked,) = yield from in_batch([on.check(judge)(first.text)])
    begun = [Candidate(first.text, checked)]
    refined = yield from refine(propose, on.check(judge), select=chosen, rounds=rounds, start=begun, stop=on.spent)
    return Optimised(played.contexts[accepted(refined.candidates)[-1].text], refined, on.runs)


def _key(item: LabelledCall) -> tuple[str, str]:
    return item.query, repr(item.gold)
