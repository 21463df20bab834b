"""CoGEX: Learning to Reason via Program Generation, Emulation, and Search (61), May 2024.

https://arxiv.org/abs/2405.16337

A model learns to write Python functions whose helpers need not exist, and to play them through itself: it gives their
output with all intermediate results. As a program stands apart from its input, one program can serve a whole task.
CoTACS lets the model write many for a task, scores each on labelled items, and keeps the best one or few: a model is
fitted to a task and no weight changes.

Departures from the paper:

1. The data set is released, how it was made is not: ``data.programs.conversion`` words the request to a teacher, and
   ``method`` lets it convert tasks of a world with known answers in place of Alpaca's instructions. A record is kept
   where all parts are there and its answer is the known one.
2. What is learned is all from the code on, as a replication does; the paper does not say. Whole weights are trained, in
   place of adapters of rank 16, whose alpha is not stated (``--use-peft`` of the command line trains adapters).
3. A record is a user message (instruction and input) and a reply, laid out by the model's own template.
4. The published checkpoint is that of the least perplexity on 2,000 held-out records; here it is the last one, and
   ``ferrule sft`` shows the loss on held-out rows.
5. A program is written again while it is below ``alpha``, at most ``tries`` times. The default of one is that of the
   replication, which only filters; the paper's number of tries is not known.
6. ``alpha`` depends on the task; the default is that half of the items are right.
7. Helpers that have a docstring alone are undefined, like those that are only called.
8. Three things are added: the mixed execution (``execute_mixed``), programs as tools of any agent (``WithPrograms``),
   and ``agreement`` with the true execution, as a model may answer from the input and contradict its program.
9. The claim on search is measured on drawn tables of right and wrong answers. That on emulation is measured on the
   pocket model, fine-tuned on records of short programs over digits, in place of a model trained from nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ferrule.agents.emulate import Emulated, Programmed, emulate, execute_mixed, vote, write_programs
from ferrule.agents.program_tools import WithPrograms
from ferrule.agents.refine import Candidate, in_batch, settled
from ferrule.agents.text_search import OnItems, Round, shortlist
from ferrule.chat.program import parts_of, read_program
from ferrule.core.flows import Flow, Policy, Session, World
from ferrule.core.recipe import Method, Recipe
from ferrule.core.records import Answer, Task
from ferrule.data.programs import conversion, program_rows
from ferrule.evaluate.texts import played_with
from ferrule.rollout.drive import drive
from ferrule.studies.paper import Paper

__all__ = ["PAPER", "Adapted", "Write", "adapted", "agreement", "cotacs", "method"]

Write: TypeAlias = Callable[[Sequence[Any], int], "Flow[Sequence[str]] | Sequence[str]"]
"""Writes a program for each of the given items; the number counts the tries, from 0."""


def cotacs(
    on: OnItems, write: Write, *, train: int = 300, candidates: int | None = None, alpha: float = 0.5, k: int = 1,
    tries: int = 1,
) -> Flow[list[Candidate]]:  # fmt: skip
    """Return the ``k`` programs that serve a task best, the best one first.

    A program is written for each of the first ``train`` items (or of the first ``candidates`` of them) and scored on
    all of these; one below ``alpha`` is written again, up to ``tries`` times in all, and the best try counts. Those at
    least ``alpha`` (all where none is) are ranked by their scores on the other items, of equals the earlier one. Raises
    ``ValueError`` where no items are left to rank on.
    """
    if not 0 < train < len(on.items):
        raise ValueError(f"train is {train} of {len(on.items)} items; some must be left to rank programs on")
    learn, rank = range(train), range(train, len(on.items))
    best: dict[int, tuple[float, str]] = {}
    todo = list(learn[:candidates])
    for attempt in range(tries):
        (texts,) = yield from in_batch([write([on.items[place] for place in todo], attempt)])
        scored = {text: one for text in dict.fromkeys(texts) for one in [on.check(learn)(text)]}
        results = dict(zip(scored, (yield from in_batch(list(scored.values()))), strict=True))
        for place, text in zip(todo, texts, strict=True):
            if place not in best or results[text].score > best[place][0]:
                best[place] = (results[text].score, text)
        todo = [place for place in todo if best[place][0] < alpha]
        if not todo or on.over:
            break
    programs = [text for _, (_, text) in sorted(best.items())]
    return (yield from shortlist(programs, on, [Round(learn, alpha), Round(rank, keep=k)]))


@dataclass(frozen=True)
class Adapted:
    """What a search found: the agent that answers by the programs, these with their scores, and how many runs it took.

    A score is the share of right answers to the tasks that programs were ranked on.
    """

    agent: Programmed
    found: tuple[Candidate, ...]
    runs: int


def adapted(
    tasks: Sequence[Task], world: World, policy: Policy, *, agent: Programmed | None = None, seed: int = 0,
    most: int | None = None, **search: Any,
) -> Adapted:  # fmt: skip
    """Let a policy write programs for labelled tasks of one kind, and find the best of them (``cotacs``).

    The order of the tasks is drawn by the seed. ``agent`` says how programs are written and played (its ``programs``
    are replaced), ``most`` how many tasks may be played at most, and ``search`` holds settings of ``cotacs``.
    """
    agent = agent or Programmed()
    order = random.Random(seed).sample(list(tasks), len(tasks))

    def play(text: str) -> Programmed:
        return replace(agent, programs=(read_program(text),))

    def writes(task: Task, session: Session) -> Flow[Answer]:
        how: dict[str, Any] = {"temperature": agent.writing, "max_tokens": agent.max_tokens}
        (program,) = yield from write_programs(*parts_of(task), **how)
        return program.text

    def write(items: Sequence[Task], attempt: int) -> list[str]:
        episodes = drive(writes, items, world, policy, seed=seed + attempt)
        return [episode.trajectories[0].answer or "" for episode in episodes]

    on = OnItems(played_with(play, policy, world, seed=seed), order, most)
    found = settled(cotacs(on, write, **search))
    programs = tuple(read_program(candidate.text) for candidate in found)
    return Adapted(replace(agent, programs=programs), tuple(found), on.runs)


def agreement(pairs: Sequence[tuple[Emulated, Emulated]]) -> float:
    """Return how often a played program gave the output of its true execution, where that gave one; 0 without any.

    Each pair is what the model gave and what ``execute_mixed`` gave with all leaves defined.
    """
    known = [played.output == true.output for played, true in pairs if true.output is not None and not true.leaves]
    return sum(known) / len(known) if known else 0.0


def method(
    base: Recipe, world: World, *, teacher: Policy | None = None, tasks: int = 52_000,
    levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0, learning_rate: float = 3e-4, max_tokens: int = 512,
    **settings: Any,
) -> Method:  # fmt: skip
    """Return fine-tuning on tasks of a world that ``teacher`` (None: the policy itself) writes as programs.

    ``settings`` are those of the stage; the paper learns for 5 epochs in batches of 32.
    """
    from ferrule.train.stage import sft

    how = {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 1, **settings}
    data = program_rows(world, teacher=teacher, tasks=tasks, levels=levels, seed=seed, max_tokens=max_tokens)
    return Method((sft(data, learning_rate=learning_rate, **how),))


PAPER = Paper(
    number=61,
    slug="cogex",
    title="Learning to Reason via Program Generation, Emulation, and Search",
    date="2024-05",
    url="https://arxiv.org/abs/2405.16337",
    pieces={
        "agent": Programmed,
        "emulate": emulate,
        "mixed": execute_mixed,
        "tools": WithPrograms,
        "search": cotacs,
        "adapt": adapted,
        "vote": vote,
        "agreement": agreement,
        "conversion": conversion,
        "method": method,
    },
    summary="Writes programs with undefined helpers, plays them through itself, and finds the one that suits a task.",
    reported="Large gains over in-context learning (abstract; no figures confirmed).",
)
