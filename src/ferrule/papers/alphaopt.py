"""AlphaOPT: Formulating Optimization Programs with Self-Improving LLM Experience Library (46), October 2025.

https://github.com/Minw913/AlphaOPT

Turning a word problem into an optimisation program fails in recurring ways. A library keeps insights (place in a
taxonomy, condition, explanation, example). Learning keeps those that make the task solvable which they come from;
evolution says on which tasks each helped, misled or was missing, and rewrites nothing but its condition, so that
retrieval finds the right tasks.

Proved insertion, diagnosis and passes are ``memory.insights``, the models and agents that do it ``memory.asked``;
scores of conditions are ``memory.conditions``, taxonomies ``memory.taxonomy``, obligations of merges ``memory.checks``.
Tasks with a solver are the world ``optimisation``.

Departures from the paper:

1. Code and prompts are released; the prompts here are short ones of our own, and a program is data for a solver where
   the world offers one. Formulation and code insights are retrieved together, and issues are the insights that apply
   and were not retrieved. Each part is a function or a flow, which may ask a model under a role of its own.
2. Every version of an insight stays. The published refinement overwrites the text once per pass.
3. Positive tasks are those that were solved with the insight, where the solver says that it used it. The published
   test compares an id with a list of lists, so that these are never added and baselines are too low.
4. ``judged`` takes the tolerance as it is published, 0.1 absolute; ``relative`` adds one that grows with the optimum.
5. Integers count as numbers; the release reads decimal numbers only in one place.
6. Repair of programs that do not run is the agent's: ``agents.refiner`` proposes, checks and proposes again.
7. ``merged`` is one step for merges within a task, a batch and the library: it tries subsets of what is proposed from
   the largest down. Who proposes them is up to the caller. Tasks are learned from one by one, not 12 at a time.
8. A right solution is given, by the task or by ``extracting(right=...)``; the model does not look for one itself.
   Without any the answer stands in its place.
9. A rewritten condition must pass a check (no orders to the model), as an insight must before it is proved.
10. The claim is measured on drawn tasks of binary features with a scripted modeller. Its merges join insights of the
   same pitfall; a rewritten paragraph on what an insight applies to is read in place of the original one. It learns
   nothing more from tasks that stay unsolved in evolution; ``Evolution(extract=...)`` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ferrule.agents.flow import cut_off, returned
from ferrule.core.demonstration import Demonstrates
from ferrule.core.flows import Agent, Ask, Flow, Policy, World, ask
from ferrule.core.records import Message, Score, Task, plain_text
from ferrule.evaluate.taught import Taught
from ferrule.memory.asked import answer_of, by_agent, extracting
from ferrule.memory.checks import admit, still_solves
from ferrule.memory.entries import Change, Entry
from ferrule.memory.insights import Solve, Solved, diagnose, evolve, largest_passing, learn_from, refine_condition
from ferrule.memory.library import Library, preview
from ferrule.memory.memory import Memory, Played, Recalled
from ferrule.memory.recall import listed
from ferrule.memory.replies import list_or_none, object_in
from ferrule.memory.taxonomy import Taxonomy, filed, grown
from ferrule.rollout.settle import settle
from ferrule.studies.paper import Paper

__all__ = [
    "PAPER", "STAGES", "Ran", "applicable", "judged", "memory", "merged", "optimal_value", "picked", "retrieve",
    "teach",
]  # fmt: skip

STAGES = ("Domain Modeling", "General Formulation", "Code Implementation")
"""The stages of the taxonomy: from problem family to technique, component to pitfall, and area to issue."""

Ran: TypeAlias = Literal["optimal", "not_optimal", "failure_solve", "solver_time_out", "run_error"]


def optimal_value(text: str) -> float | None:
    """Return the number after the last ``Optimal value:`` (or ``=``) of an output; None where there is none."""
    number = r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    numbers = re.findall(rf"optimal value\s*[:=]\s*({number})", text, re.IGNORECASE)
    return float(numbers[-1].replace(",", "")) if numbers else None


def judged(
    output: float | str | None, truth: float, *, ran: bool = True, timed_out: bool = False, tolerance: float = 0.1,
    relative: float = 0.0,
) -> Ran:  # fmt: skip
    """Say what became of a program by its output: a number, or a text that may hold one.

    It is right within ``tolerance + relative * |truth|``.
    """
    value = optimal_value(output) if isinstance(output, str) else output
    if value is not None:
        return "optimal" if abs(float(value) - truth) <= tolerance + relative * abs(truth) else "not_optimal"
    if not ran:
        return "run_error"
    return "solver_time_out" if timed_out else "failure_solve"


# ------------------------------------------------------------------------------------------------------------ retrieval


def picked(
    task: Task, taxonomy: Taxonomy, *, role: str = "retriever", max_tokens: int = 512
) -> Flow[Mapping[str, Any]]:
    """Ask a model for the labels that may matter to a task: ``{stage: {group: [names]}}``, empty where it fails."""
    tree = {stage: {group: list(names) for group, names in groups.items()} for stage, groups in taxonomy.items()}
    asked = f"Pick the labels that may matter to this task, as a JSON object of the same form.\n\n{tree}\n\nTask:\n"
    message = Message("user", asked + plain_text(task.conversation[-1]))
    (reply,) = yield from ask(Ask((message,), role=role, max_tokens=max_tokens))
    said = None if cut_off(reply) else object_in(plain_text(reply.message))
    return {k: v for k, v in (said or {}).items() if isinstance(v, Mapping)}


def applicable(
    task: Task, entries: Sequence[Entry], *, batch: int = 30, role: str = "retriever", max_tokens: int = 512
) -> Flow[list[Entry]]:
    """Ask a model, ``batch`` entries at a time, whose conditions apply; of a reply that cannot be read all are kept."""
    kept: list[Entry] = []
    for start in range(0, len(entries), batch):
        part = entries[start : start + batch]
        told = "\n".join(
            f"{entry.id} ({'; '.join('/'.join(label) for label in entry.labels)}): {entry.when}" for entry in part
        )
        asked = f"Which of these apply to the task? Reply with a JSON list of ids.\n\n{told}\n\nTask:\n"
        message = Message("user", asked + plain_text(task.conversation[-1]))
        (reply,) = yield from ask(Ask((message,), role=role, max_tokens=max_tokens))
        text = plain_text(reply.message)
        ids = None if cut_off(reply) else list_or_none(text)
        kept += [entry for entry in part if ids is None or entry.id in ids]
    return kept


def retrieve(
    task: Task, entries: Sequence[Entry], taxonomy: Taxonomy, *, pick: Any = picked, check: Any = applicable
) -> Flow[list[Entry]]:
    """Retrieve in two stages: by labels (``pick``), then by conditions (``check``)."""
    labels = yield from returned(pick(task, taxonomy))
    near = filed(entries, labels)
    return list((yield from returned(check(task, near)))) if near else []


# --------------------------------------------------------------------------------------------------------------- merges


def merged(library: Library, changes: Sequence[Change], tasks: Mapping[str, Task], solve: Solve) -> Flow[list[Entry]]:
    """Carry out the largest set of merges with which every task they come from is solved, and return what was written.

    Each subset is tried as a whole, from the largest to single merges; what is in none stays as it is. A merge of a
    task that is not in ``tasks``, or of an unknown or deleted entry, proves nothing and is not carried out.
    """
    live = {entry.id for entry in library.entries()}

    def solves(task: str, entry: Entry) -> Flow[bool]:
        if task not in tasks:
            return False
        solved: Solved = yield from returned(solve(tasks[task], [entry]))
        return solved.right

    def passes(subset: Sequence[Change]) -> Flow[bool]:
        for change in subset:
            old = [library[id] for id in change.ids]
            if (yield from returned(still_solves(solves)(preview(change, old), old))):
                return False
        return True

    chosen = yield from largest_passing([c for c in changes if live.issuperset(c.ids)], passes)
    return [one.entry for one in (yield from admit(library, chosen)) if one.entry is not None]


# --------------------------------------------------------------------------------------------------------------- arenas


def memory(library: Library) -> Memory:
    """Return the memory that recalls the insights which apply to a task, and keeps nothing."""

    def recall(task: Task, messages: Sequence[Message]) -> Flow[Recalled]:
        entries = [] if messages else (yield from retrieve(task, library.entries(), library.taxonomy()))
        return Recalled(listed(task, entries), (), tuple(entry.id for entry in entries))

    def keep(episode: Played, scores: Sequence[Score]) -> None:
        return None

    return Memory(recall, keep)


def teach(agent: Agent, policy: Policy, world: World, tasks: Sequence[Task], seed: int, *, attempts: int = 1) -> Taught:
    """Keep the insights that make the training task solvable which they come from (``Teach``); none is refined.

    Right solutions are the calls of the world's reference solution, where it has one.
    """
    library, solve = Library(), by_agent(agent, world)

    def right(task: Task) -> str:
        calls = world.demonstrate(task).calls if isinstance(world, Demonstrates) else ()
        return ", then ".join(f"{call.name} with {', '.join(call.arguments)}" for call in calls) or answer_of(task)

    def near(task: Task, entries: Sequence[Entry]) -> Flow[list[Entry]]:
        return (yield from retrieve(task, entries, library.taxonomy()))

    for task in tasks:
        flow = learn_from(library, task, solve, extracting(right=right), near, attempts=attempts, tries=1)
        if problem := settle([flow], policy, seed=seed).problems[0]:
            raise RuntimeError(f"learning from task {task.id!r} failed: {problem}")
    return Taught(agent, memory=memory(library), size=len(library))


PAPER = Paper(
    number=46,
    slug="alphaopt",
    title="AlphaOPT: Formulating Optimization Programs with Self-Improving LLM Experience Library",
    date="2025-10",
    url="https://github.com/Minw913/AlphaOPT",
    pieces={
        "retrieve": retrieve,
        "solve": by_agent,
        "extract": extracting,
        "learn": learn_from,
        "merge": merged,
        "diagnose": diagnose,
        "refine": refine_condition,
        "evolve": evolve,
        "check": judged,
        "taxonomy": grown,
        "teach": teach,
    },
    summary="Keeps insights that solve the task they come from, and rewrites their conditions by where they helped.",
    reported="65 to 72 % from 100 to 300 training items; 7.7 % over the best baseline on another benchmark (abstract).",
)
