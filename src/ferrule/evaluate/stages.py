"""Measures of the four stages of an agent, where a run failed first, and what the right stage in its place would give.

Source: "Tool Learning with Large Language Models: A Survey" (paper 30).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ferrule.agents.gold import Gold
from ferrule.agents.stages import STAGES, StageRecord, record_of, same_text
from ferrule.core.demonstration import Demonstrates, Demonstration
from ferrule.core.flows import World
from ferrule.core.records import Task
from ferrule.evaluate.evaluate import Evaluation
from ferrule.evaluate.ranking import complete, ndcg, precision, recall
from ferrule.tools.alike import sentence_bleu

__all__ = [
    "Overlap",
    "Usage",
    "argument_overlap",
    "first_failure",
    "overlap",
    "profile",
    "rouge_l",
    "stage_profile",
    "usage",
]


@dataclass(frozen=True)
class Usage:
    """How well it is told whether a tool is needed; nan where nothing was used, or nothing needed."""

    accuracy: float
    precision: float
    recall: float


def usage(used: Sequence[bool], needed: Sequence[bool]) -> Usage:
    """Compare for every query whether a tool was used with whether one was needed.

    Raises ``ValueError`` for lists of different length, and for empty ones.
    """
    pairs = list(zip(used, needed, strict=True))
    if not pairs:
        raise ValueError("usage needs one query at least")
    both = sum(u and n for u, n in pairs)
    return Usage(sum(u == n for u, n in pairs) / len(pairs), _share(both, sum(used)), _share(both, sum(needed)))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@dataclass(frozen=True)
class Overlap:
    """Precision, recall and F1 of one multiset against another; all 1 where both are empty."""

    precision: float
    recall: float
    f1: float


def overlap(given: Iterable[Hashable], gold: Iterable[Hashable]) -> Overlap:
    """Compare two multisets: what they share, as often as it occurs in both."""
    ours, theirs = Counter(iter(given)), Counter(iter(gold))
    shared, a, b = (ours & theirs).total(), ours.total(), theirs.total()
    if not a and not b:
        return Overlap(1.0, 1.0, 1.0)
    return Overlap(shared / a if a else 0.0, shared / b if b else 0.0, 2 * shared / (a + b))


def argument_overlap(given: Mapping[str, Any], gold: Mapping[str, Any]) -> Overlap:
    """Compare the arguments of a call as a multiset of (name, value), values equal as JSON (1 is 1.0)."""

    def pairs(arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
        plain = {name: _whole(value) for name, value in arguments.items()}
        return [(name, json.dumps(value, sort_keys=True, default=repr)) for name, value in plain.items()]

    return overlap(pairs(given), pairs(gold))


def _whole(value: Any) -> Any:
    """Return a value with its whole floats as integers, at any depth."""
    if isinstance(value, Mapping):
        return {str(key): _whole(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def rouge_l(text: str, gold: str) -> float:
    """Return the F1 of the longest common subsequence of the words of two texts, whatever their case; 0 to 1.

    ``2 L / (len(text) + len(gold))`` in words, the harmonic mean of ``L / len(text)`` and ``L / len(gold)``. Two empty
    texts are equal. Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), with beta 1.
    """
    ours, theirs = text.lower().split(), gold.lower().split()
    if not ours and not theirs:
        return 1.0
    longest = [0] * (len(theirs) + 1)
    for word in ours:
        diagonal = 0
        for place, other in enumerate(theirs, 1):
            above = longest[place]
            longest[place] = diagonal + 1 if word == other else max(above, longest[place - 1])
            diagonal = above
    return 2 * longest[-1] / (len(ours) + len(theirs))


def first_failure(record: StageRecord, gold: Gold, right: bool) -> str:
    """Return the first stage of a wrong run that did not do what is right, "" for a right run.

    The plan is right when its parts say the same as the gold ones, in any order; a selection when the tools of each
    gold part are among the chosen; the calls when each gold call ran. What is left is the response. Where only the
    calls of the gold parts are known, a plan is right when it sees whether a tool is needed, and tools and calls may be
    those of any part.
    """
    if right:
        return ""
    if gold.worded:
        planned = Counter(" ".join(part.text.lower().split()) for part in record.subtasks)
        if planned != Counter(" ".join(part.text.lower().split()) for part in gold.subtasks):
            return "plan"
    elif record.needs_tool != bool(gold.subtasks):
        return "plan"
    ids = {
        part.id: {each.id for each in record.subtasks if not part.text or same_text(each.text, part.text)}
        for part in gold.subtasks
    }
    for part in gold.subtasks:
        chosen = {name for each in record.selections if each.subtask in ids[part.id] for name in each.chosen}
        if not chosen.issuperset(gold.tools.get(part.id, ())):
            return "select"
    for part in gold.subtasks:
        if not gold.ran([each for each in record.calls if each.subtask in ids[part.id]], part.id):
            return "call"
    return "respond"


def profile(
    records: Sequence[StageRecord], golds: Sequence[Gold], right: Sequence[bool], *, ks: Sequence[int] = (1, 3, 5, 10)
) -> dict[str, float]:
    """Return the measures of all four stages over runs, each with its gold and whether its answer is right.

    Planning: ``usage_accuracy``, ``usage_precision``, ``usage_recall``, ``plan_accuracy`` and ``pass_rate``. Selection,
    over the parts that the gold plan has as well: ``recall@K``, ``precision@K``, ``ndcg@K``, ``comp@K`` (where only
    calls are known, ``recall@K`` and ``comp@K`` of all gold tools, among the first K of any part). Calling:
    ``conforms`` (to the schema) and ``executed`` over all calls, ``argument_f1`` of the last call of a part against
    its first gold call. Response: ``exact``, ``f1`` (of words), ``bleu`` and ``rouge_l``. ``fails_STAGE`` is the share
    of runs whose first failing stage it is. What has nothing to be measured on is left out.
    """
    told = usage([record.needs_tool for record in records], [bool(gold.subtasks) for gold in golds])
    failures = [first_failure(r, g, ok) for r, g, ok in zip(records, golds, right, strict=True)]
    measures: dict[str, list[float]] = {
        "pass_rate": [float(ok) for ok in right],
        "plan_accuracy": [float(first_failure(r, g, False) != "plan") for r, g in zip(records, golds, strict=True)],
        **{f"fails_{stage}": [float(failed == stage) for failed in failures] for stage in STAGES},
    }
    for record, gold in zip(records, golds, strict=True):
        _of_parts(measures, record, gold, ks)
        for call in (call for call in record.calls if call.name):
            measures.setdefault("conforms", []).append(float(not call.problem))
            measures.setdefault("executed", []).append(float(call.status == "ok"))
        if gold.answer is not None:
            _of_text(measures, record.response or "", gold.answer)
    used = {"accuracy": told.accuracy, "precision": told.precision, "recall": told.recall}
    return {
        **{f"usage_{name}": value for name, value in used.items() if value == value},
        **{name: fmean(values) for name, values in measures.items() if values},
    }


def _of_text(measures: dict[str, list[float]], text: str, gold: str) -> None:
    """Add the measures of a response."""
    words = overlap(text.lower().split(), gold.lower().split())
    measures.setdefault("exact", []).append(float(same_text(text, gold)))
    measures.setdefault("f1", []).append(words.f1)
    measures.setdefault("bleu", []).append(sentence_bleu(gold, text))
    measures.setdefault("rouge_l", []).append(rouge_l(text, gold))


def _of_parts(measures: dict[str, list[float]], record: StageRecord, gold: Gold, ks: Sequence[int]) -> None:
    """Add the measures of the parts of a run that the gold plan has as well."""
    if gold.subtasks and not gold.worded:
        wanted = {name for names in gold.tools.values() for name in names}
        for k in ks:
            first = {name for each in record.selections for name in each.ranking[:k]}
            measures.setdefault(f"recall@{k}", []).append(len(wanted & first) / len(wanted))
            measures.setdefault(f"comp@{k}", []).append(float(wanted <= first))
        return
    for part in record.subtasks:
        same = gold.like(part)
        if same is None:
            continue
        selected = next((each for each in reversed(record.selections) if each.subtask == part.id), None)
        needed = gold.tools.get(same.id, ())
        if selected is not None and needed:
            of = {"recall": recall, "precision": precision, "ndcg": ndcg, "comp": complete}
            for k in ks:
                for name, measure in of.items():
                    measures.setdefault(f"{name}@{k}", []).append(measure(selected.ranking, needed, k))
        calls, right = record.calls_of(part.id), next(iter(gold.calls.get(same.id, ())), None)
        if calls and right is not None:
            found = argument_overlap(calls[-1].arguments, right.arguments).f1 if calls[-1].name == right.name else 0.0
            measures.setdefault("argument_f1", []).append(found)


def stage_profile(evaluation: Evaluation, world: World, *, ks: Sequence[int] = (1, 3, 5, 10)) -> dict[str, float]:
    """Return the ``profile`` of episodes that were played in stages, by the reference solutions of their world.

    Episodes played otherwise, and those of tasks without a reference solution, are left out; without any it is empty.
    """
    records: list[StageRecord] = []
    golds: list[Gold] = []
    right: list[bool] = []
    for episode, value in zip(evaluation.episodes, evaluation.values, strict=True):
        record = record_of(episode.trajectories[0])
        shown = _shown(world, episode.task) if record is not None else None
        if record is not None and shown is not None:
            records.append(record)
            golds.append(Gold.of_calls(shown.calls, shown.answer))
            right.append(value > 0.5)
    return profile(records, golds, right, ks=ks) if records else {}


def _shown(world: World, task: Task) -> Demonstration | None:
    try:
        return world.demonstrate(task) if isinstance(world, Demonstrates) else None
    except ValueError:  # a task whose world knows no reference solution
        return None
