"""Skill documents: one text for a kind of tasks, written from rollouts, merged with new ones, adapted to a task.

Source: "XSkill: Continual Learning from Experience and Skills in Multimodal Agents" (40). The document is an entry of
the kind ``skill``, so that every version of it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from ferrule.agents.flow import cut_off
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, Score, Task, Trajectory, plain_text
from ferrule.memory.critique import rollout_text
from ferrule.memory.entries import SKILL, Entry, Origin
from ferrule.memory.library import Library

__all__ = ["adapted_skill", "keep_skill", "merged_skill", "refined_skill", "skill_of", "written_skill"]

_PARTS = "front matter (name, description, version), when to use, strategy, workflow, tool templates, what to watch for"


def skill_of(library: Library, name: str = "") -> Entry | None:
    """Return the live skill document of a name (``when``), the newest one; None where there is none."""
    documents = [entry for entry in library.entries(kind=SKILL) if entry.when == name]
    return documents[-1] if documents else None


def keep_skill(library: Library, text: str, *, name: str = "", origins: Sequence[Origin] = ()) -> Entry:
    """Write a document: a new version of the one of that name, or the first one."""
    known = skill_of(library, name)
    if known is None:
        return library.add(text, when=name, kind=SKILL, origins=origins)
    return library.modify(known.id, text=text, origins=tuple(origins))


def _asked(text: str, role: str, max_tokens: int) -> Flow[str]:
    """Ask for a text; empty where the reply was cut off."""
    (reply,) = yield from ask(Ask((Message("user", text),), role=role, max_tokens=max_tokens))
    return "" if cut_off(reply) else plain_text(reply.message).strip()


def written_skill(
    task: Task, trajectory: Trajectory, score: Score, *, role: str = "writer", words: int = 600, max_tokens: int = 2048
) -> Flow[str]:
    """Ask a model for the document of one rollout, with placeholders in place of values."""
    right = f"\nThe right answer: {task.answer}" if task.answer is not None else ""
    return _asked(
        f"Write a skill document of about {words} words for tasks like this one: {_PARTS}. Put placeholders in "
        f"place of values.\n\nTask:\n{plain_text(task.conversation[-1])}{right}\n\n"
        f"Rollout:\n{rollout_text(trajectory, score)}",
        role,
        max_tokens,
    )


def merged_skill(
    document: str, others: Sequence[str], *, role: str = "writer", words: int = 1000, variants: int = 4,
    max_tokens: int = 4096,
) -> Flow[str]:  # fmt: skip
    """Ask a model for one document that says what ``document`` and all ``others`` say."""
    listed = "\n\n".join(
        f"Document {number}:\n{text}" for number, text in enumerate(filter(None, (document, *others)), 1)
    )
    return _asked(
        f"Merge these skill documents into one of about {words} words, with the same parts and at most {variants} "
        f"variants of the workflow.\n\n{listed}",
        role,
        max_tokens,
    )


def refined_skill(document: str, *, role: str = "writer", words: int = 1000, max_tokens: int = 4096) -> Flow[str]:
    """Ask a model to shorten a document of at least ``words`` words; a shorter one stays as it is."""
    if len(document.split()) < words:
        return document
    asked = f"Shorten this skill document below {words} words; leave out what applies to single tasks.\n\n{document}"
    return (yield from _asked(asked, role, max_tokens)) or document


def adapted_skill(
    task: Task, document: str, entries: Sequence[Entry], *, role: str = "adapter", words: int = 400,
    max_tokens: int = 1024,
) -> Flow[str]:  # fmt: skip
    """Ask a model for what of a document applies to a task, with experiences woven in; the document where it fails."""
    notes = "\n".join(f"[{entry.id}] {entry.text}" for entry in entries) or "none"
    asked = (
        f"Keep of this skill document what applies to the task, weave the experiences in, at most {words} words, no "
        f"front matter and no values of other tasks.\n\nTask:\n{plain_text(task.conversation[-1])}\n\n"
        f"Document:\n{document}\n\nExperiences:\n{notes}"
    )
    return (yield from _asked(asked, role, max_tokens)) or document
