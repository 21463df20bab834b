"""XSkill: Continual Learning from Experience and Skills in Multimodal Agents (40), March 2026.

https://github.com/XSkill-Agent/XSkill

From several rollouts of a task an agent distils two kinds of text: experiences, short tips about tools and decisions of
which the fitting ones are recalled, and one skill document with the workflow. Before a task that document is shortened
to what applies and the recalled experiences are woven in. Use in new rollouts feeds later changes.

From the command line: ``ferrule eval ... --memory FILE --memory-writer MODEL --memory-by xskill``.

Entries, credit and checks are ``memory.library``, the critique ``memory.critique``, merging ``memory.consolidate``, the
document ``memory.skills``.

Departures from the paper:

1. Code and prompts are released; the prompts here are short ones of our own. Result numbers were not to be had.
2. Ids stay: entries are not renumbered after a batch, and a merged one has an id of its own. ``renumbered`` is the
   published numbering, which sorts ids as texts, so that E10 comes before E2 and cited ids go stale.
3. The released runner drops ``modify`` and its id, so every operation adds; ``applied(reference=True)`` does that.
4. What is merged must pass a check as well (no orders to the model, 64 words); the paper has quality rules in prompts.
5. Operations are applied, and the document is merged, after every task in place of every batch; the document
   is from the best rollout in place of the first. There is no last batch: the library is tidied and the document
   shortened only where they are too large, unless you call ``tidied`` in the end.
6. What is recalled stands after a task's own system message, not before it. A recalled tip
   needs a cosine above 0; the published minimum of 0 lets three through for every query.
7. Images of tasks reach models that read them; summaries tell results by their text. There is no separate pass of
   summaries: the critique is shown the rollouts themselves, each result cut to 300 characters.
8. The encoder hashes words; ``Library(encode=...)`` takes any other (the paper: text-embedding-3-small). The tools of
   the paper's agent (search of web and images, visits, code, zoom) are whatever tools you give.
9. The claim is measured on drawn tasks with a scripted agent and a scripted critic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ferrule.agents.flow import returned
from ferrule.core.flows import Agent, Flow, Policy, World
from ferrule.core.records import Message, Score, Task, Trajectory
from ferrule.evaluate.stream import stream
from ferrule.evaluate.taught import Taught, curve_of
from ferrule.memory.adapt import by_parts, rewritten, subtasks
from ferrule.memory.checks import Admitted, Check, admit, at_most, every, no_orders
from ferrule.memory.consolidate import Word, insert, reduce, tidied, worded
from ferrule.memory.critique import Critique, comparing
from ferrule.memory.entries import EXPERIENCE, Change, Entry, Origin
from ferrule.memory.library import Library
from ferrule.memory.memory import Memory, Recalled, shown_in
from ferrule.memory.recall import HEADER, defused, library_memory, listed, nothing_more
from ferrule.memory.skills import adapted_skill, keep_skill, merged_skill, refined_skill, skill_of, written_skill
from ferrule.studies.paper import Paper

__all__ = [
    "CHECK",
    "PAPER",
    "applied",
    "learn",
    "memory",
    "recalled_for",
    "renumbered",
    "teach",
]  # fmt: skip

CHECK: Check = every(at_most(64), no_orders)
"""What an experience must pass."""


def applied(
    library: Library, changes: Sequence[Change], word: Word, *, threshold: float = 0.70, most: int = 10,
    check: Check = CHECK, reference: bool = False,
) -> Flow[list[Admitted]]:  # fmt: skip
    """Apply the operations of a batch: all additions first, each merged with what is like it, then modifications.

    A modification of an entry that is not there adds; with ``reference`` every one does. One of an entry that an
    addition has replaced meanwhile is refused.
    """
    live = {entry.id for entry in library.entries()}
    queued = [c for c in changes if c.kind == "modify" and c.ids[0] in live and not reference]
    results = []
    for change in (c for c in changes if c not in queued):
        added = replace(change, kind="add", ids=()) if change.kind == "modify" else change
        results.append((yield from insert(library, added, word, threshold=threshold, most=most, check=check)))
    return results + (yield from admit(library, queued, check))


def renumbered(texts: Mapping[str, str]) -> dict[str, str]:
    """Return texts under the ids E0, E1, ... in the published order, which is that of the ids as texts."""
    return {f"E{place}": texts[id] for place, id in enumerate(sorted(texts))}


def learn(
    library: Library, *, critique: Critique | None = None, word: Word | None = None, limit: int = 120,
    threshold: float = 0.70, check: Check = CHECK, skill: str | None = "",
) -> Callable[[Task, Sequence[Trajectory], Sequence[Score]], Flow[list[Admitted]]]:  # fmt: skip
    """Return what learns from the rollouts of a task (``evaluate.stream``): experiences, and the document ``skill``.

    With ``skill=None`` there is no document. Beyond ``limit`` entries that are alike are merged, and a model tidies up
    where too many are left; call ``tidied`` once more in the end. The paper plays 2 rollouts of 4 tasks a batch at
    temperature 0.6.
    """
    propose, say = critique or comparing(most=3), word or worded()

    def learned(task: Task, paths: Sequence[Trajectory], scores: Sequence[Score]) -> Flow[list[Admitted]]:
        ids = dict.fromkeys(id for path in paths for id in shown_in(path))
        used = [library[id] for id in ids if library[id].state == "live"]
        changes = yield from returned(propose(task, paths, scores, used))
        origins = (Origin(task.id, writer="writer"),)
        marked = [replace(change, origins=origins) for change in changes]
        results = yield from applied(library, marked, say, threshold=threshold, check=check)
        results += yield from reduce(library, say, limit=limit, threshold=threshold, check=check)
        if len(library.entries(kind=EXPERIENCE)) > limit:
            results += yield from tidied(library, check=check)
        if skill is not None and paths:
            best = max(range(len(paths)), key=lambda place: scores[place].value)
            fresh = yield from written_skill(task, paths[best], scores[best])
            known = skill_of(library, skill)
            text = (yield from merged_skill(known.text, [fresh])) if known is not None and fresh else fresh
            text = (yield from refined_skill(text)) if text else ""
            if text and not no_orders(Entry("E0", text)):
                keep_skill(library, text, name=skill, origins=origins)
        return results

    return learned


# ------------------------------------------------------------------------------------------------------------ inference


def recalled_for(
    library: Library, task: Task, messages: Sequence[Message] = (), *, k: int = 3, least: float = 1e-9,
    skill: str | None = "", split: Callable[[Task], Any] = subtasks, reword: Callable[..., Any] = rewritten,
    adapt: Callable[..., Any] = adapted_skill,
) -> Flow[Recalled]:  # fmt: skip
    """Recall for a task: split it, retrieve for each part, reword what was found, and weave it into the document.

    Without a document the experiences are listed; without parts they are retrieved by the task itself.
    """
    entries = yield from by_parts(library, task, split, k=k, least=least)
    entries = (yield from returned(reword(task, entries))) if entries else []
    document = skill_of(library, skill) if skill is not None else None
    if document is None:
        return Recalled(listed(task, entries), (), tuple(entry.id for entry in entries))
    text = yield from returned(adapt(task, document.text, entries))
    return Recalled(f"{HEADER}\n\n{defused(text)}", (), (document.id, *(entry.id for entry in entries)))


def memory(library: Library, **settings: Any) -> Memory:
    """Return the memory of the paper; ``settings`` are those of ``recalled_for``. What is kept is credit alone."""
    return replace(library_memory(library, write=nothing_more), recall=partial(recalled_for, library, **settings))


def teach(agent: Agent, policy: Policy, world: World, tasks: Sequence[Task], seed: int) -> Taught:
    """Learn tips and a document from two rollouts of each training task, in batches of four (``Teach``)."""
    library = Library()
    recalls, learns = memory(library), learn(library)
    played = stream(
        agent, policy, world, tasks, recalls, batch=4, learn=learns, num_generations=2, temperature=0.6, seed=seed
    )
    return Taught(agent, memory=recalls, learn=learns, keeps=True, size=len(library), curve=curve_of(played))


PAPER = Paper(
    number=40,
    slug="xskill",
    title="XSkill: Continual Learning from Experience and Skills in Multimodal Agents",
    date="2026-03",
    url="https://github.com/XSkill-Agent/XSkill",
    pieces={
        "memory": memory,
        "learn": learn,
        "critique": comparing,
        "apply": applied,
        "tidy": tidied,
        "recall": recalled_for,
        "skill": written_skill,
        "teach": teach,
    },
    summary="Learns tips and a workflow document by comparing rollouts, and recalls both, adapted, before a task.",
    reported=(
        "Gains over tools alone and over learning baselines on five benchmarks with four models (abstract; no "
        "figures confirmed)."
    ),
)
