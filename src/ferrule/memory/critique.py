"""Learning from several rollouts of one task: a model compares them and proposes changes of a library.

Source: "XSkill: Continual Learning from Experience and Skills in Multimodal Agents" (40), whose operations and quality
rules these are. The writer sees scores, and the expected answer where one is given to it: keep tasks to learn from and
tasks to measure on apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ferrule.agents.flow import cut_off, returned
from ferrule.core.clip import clip
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, Score, Task, Trajectory, plain_text
from ferrule.memory.checks import Admitted, Check, admit, at_most, every, no_orders
from ferrule.memory.entries import Change, Entry, Origin
from ferrule.memory.library import Library
from ferrule.memory.memory import shown_in
from ferrule.memory.replies import list_in

__all__ = ["RULES", "Critique", "changes_in", "comparing", "learning", "rollout_text"]

Critique: TypeAlias = Callable[
    [Task, Sequence[Trajectory], Sequence[Score], Sequence[Entry]], "Flow[list[Change]] | list[Change]"
]
"""Proposes changes from the rollouts of a task, their scores, and the entries that were shown in them."""

RULES = (
    "Each experience has at most 64 words, begins with the condition under which it applies, is general (no names, "
    "numbers or answers of this task) and says what to do."
)


def rollout_text(trajectory: Trajectory, score: Score, *, limit: int = 300) -> str:
    """Tell a rollout step by step: calls with their arguments, how each ended, the answer, the score."""
    lines = []
    for number, turn in enumerate(trajectory.turns, 1):
        if said := plain_text(turn.reply).strip():
            lines.append(f"{number}. {clip(said, limit)}")
        for call, observation in turn.pairs:
            result = f"[{observation.status}] {clip(observation.text, limit)}" if observation else "not run"
            lines.append(f"{number}. {call.name} {json.dumps(dict(call.arguments), ensure_ascii=False)} -> {result}")
    answer = trajectory.answer if trajectory.answer is not None else "none"
    return "\n".join([*lines, f"answer: {clip(str(answer), limit)}; score: {score.value:g}"])


def changes_in(text: str, known: Sequence[str], *, most: int = 3) -> list[Change]:
    """Read a writer's JSON list of operations into at most ``most`` changes; what cannot be read is left out.

    ``{"option": "add", "experience": text}`` adds, ``{"option": "modify", "experience": text, "modified_from": id}``
    changes an entry; one with an id that is not ``known`` adds as well. Blank texts are skipped. A list in a fenced
    block, or within other words, is read too.
    """
    changes = []
    for row in list_in(text):
        said = row.get("experience") if isinstance(row, Mapping) else None
        if not isinstance(said, str) or not said.strip():
            continue
        given: Any = {"text": said.strip(), **({"when": row["when"]} if isinstance(row.get("when"), str) else {})}
        id = row.get("modified_from")
        modifies = row.get("option") == "modify" and id in known
        changes.append(Change("modify", (str(id),), **given) if modifies else Change("add", **given))
    return changes[:most]


def comparing(
    *, role: str = "writer", most: int = 3, tell_answer: bool = True, max_tokens: int = 512, rules: str = RULES
) -> Critique:
    """Return the critique of a model under ``role``: it is shown all rollouts and the entries that were used."""

    def critique(
        task: Task, paths: Sequence[Trajectory], scores: Sequence[Score], entries: Sequence[Entry]
    ) -> Flow[list[Change]]:
        rollouts = [
            f"Rollout {number}:\n{rollout_text(path, score)}"
            for number, (path, score) in enumerate(zip(paths, scores, strict=True), 1)
        ]
        used = "\n".join(f"[{entry.id}] {entry.text}" for entry in entries) or "none"
        right = f"\n\nThe right answer: {task.answer}" if tell_answer and task.answer is not None else ""
        told = "\n\n".join(rollouts)
        asked = (
            f"Compare these rollouts of one task and say what should be remembered for other tasks.\n\nTask:\n"
            f"{plain_text(task.conversation[-1])}{right}\n\n{told}\n\n"
            f"Experiences that were shown:\n{used}\n\n{rules}\n\n"
            f"Reply with a JSON list of at most {most} operations: "
            '{"option": "add", "experience": "..."} or '
            '{"option": "modify", "experience": "...", "modified_from": "E1"}.'
        )
        (reply,) = yield from ask(Ask((Message("user", asked),), role=role, max_tokens=max_tokens))
        if cut_off(reply):
            return []
        return changes_in(plain_text(reply.message), [entry.id for entry in entries], most=most)

    return critique


def learning(
    library: Library, critique: Critique | None = None, *, check: Check | None = None, writer: str = "writer"
) -> Callable[[Task, Sequence[Trajectory], Sequence[Score]], Flow[list[Admitted]]]:
    """Return what learns from the rollouts of a task (``Learn`` of ``ferrule.evaluate.stream``).

    What ``critique`` (``comparing()``) proposes is carried out where it passes ``check`` (at most 64 words, no orders);
    entries are told apart by their origin, the task and ``writer``.
    """
    propose, passes = critique or comparing(), check or every(at_most(64), no_orders)

    def learn(task: Task, paths: Sequence[Trajectory], scores: Sequence[Score]) -> Flow[list[Admitted]]:
        ids = dict.fromkeys(id for path in paths for id in shown_in(path))
        entries = [library[id] for id in ids if library[id].state == "live"]
        changes = yield from returned(propose(task, paths, scores, entries))
        origin = Origin(task.id, writer=writer)
        return (yield from admit(library, [replace(change, origins=(origin,)) for change in changes], passes))

    return learn
