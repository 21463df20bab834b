"""CoGEX on the pocket model: answering at once, playing a program, and playing its undefined leaves only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from ferrule.agents.emulate import Emulated, Programmed, emulate, execute_mixed, write_programs
from ferrule.chat.program import OUTPUT, ProgramRecord, answer_of, parts_of
from ferrule.core.flows import Ask, Flow, Session, ask
from ferrule.core.records import Answer, Message, Task, plain_text
from ferrule.data.formats import conversation
from ferrule.evaluate.evaluate import Evaluation, evaluate
from ferrule.papers.cogex import adapted, agreement
from ferrule.studies.conditions import Rows, at_least, less
from ferrule.studies.learner import Conversation, learner
from ferrule.studies.standins.digit_programs import (
    DEFINITIONS,
    LEAVES,
    DigitPrograms,
    direct,
    program_records,
    record_of,
    worked,
)
from ferrule.studies.study import Study
from ferrule.studies.tuning import Tuning

__all__ = ["STUDY", "at_once", "by_program", "by_search"]

WORLD, LONGEST, HELD_OUT = DigitPrograms(), 160, 10_000
"""The world, the most tokens of a reply, and what is added to a seed for the tasks that are judged."""
Play: TypeAlias = Callable[[Task, Session], Flow[Answer]]
Say: TypeAlias = Callable[[ProgramRecord], Conversation]


def _measured(policy: Any, agent: Play, seed: int, tasks: int, say: Say) -> dict[str, float]:
    """Play held-out tasks; ``loss`` is that of their records (nats per token), to four digits."""
    from ferrule.train.held_out import held_out
    from ferrule.train.stage import sft

    todo = WORLD.tasks("test", tasks, seed=HELD_OUT + seed)
    said = [say(record_of(task)) for task in todo]
    rows = [conversation(messages, (), policy.renderer, policy.encode) for messages, _ in said]
    loss = held_out(policy, sft(rows), rows)["loss"]
    return {**_numbers([evaluate(agent, policy, WORLD, todo, seed=seed)]), "loss": float(f"{loss:.4g}")}


def _numbers(evaluations: Sequence[Evaluation]) -> dict[str, float]:
    rows = [row for evaluation in evaluations for row in evaluation.rows]
    return {
        "success": sum(row.score for row in rows) / len(rows),
        "tokens": sum(row.tokens or 0 for row in rows) / len(rows),
        "unreadable": sum(row.answer is None for row in rows) / len(rows),
    }


def _answer(task: Task, session: Session) -> Flow[Answer]:
    """Write the output at once."""
    shown = (Message("user", task.prompt),)
    (reply,) = yield from ask(Ask(shown, prefill=f"{OUTPUT}\n", max_tokens=LONGEST, temperature=0.0))
    return answer_of(plain_text(reply.message))


def at_once(
    *, seed: int, rows: int, steps: int, tasks: int, learning_rate: float, equal_tokens: bool, **others: int
) -> dict[str, float]:
    """Learn answers alone, for as many updates or for as many learned tokens as programs take."""
    records = program_records(rows, seed=seed)
    said = [direct(record) for record in records]
    if equal_tokens:
        written = sum(len(plain_text(messages[-1])) for messages, _ in said)
        steps = round(steps * sum(len(record.completion) for record in records) / written)
    policy = learner(said, seed=seed, max_steps=steps, learning_rate=learning_rate)
    return _measured(policy, _answer, seed, tasks, direct)


def _taught(seed: int, rows: int, steps: int, rate: float) -> Any:
    said = [worked(record) for record in program_records(rows, seed=seed)]
    return learner(said, seed=seed, max_steps=steps, learning_rate=rate)


def by_program(
    *, seed: int, rows: int, steps: int, tasks: int, learning_rate: float, sandbox: bool, **others: int
) -> dict[str, float]:
    """Learn programs, write one for each held-out task, and play it: all of it, or its undefined leaves.

    ``agreement`` is how often what was played is the output of the program's true execution.
    """
    policy, pairs = _taught(seed, rows, steps, learning_rate), list[tuple[Emulated, Emulated]]()
    play: Callable[..., Flow[Emulated]] = execute_mixed if sandbox else emulate

    def agent(task: Task, session: Session) -> Flow[Answer]:
        parts = parts_of(task)
        (program,) = yield from write_programs(*parts, temperature=0.0, max_tokens=LONGEST)
        played = yield from play(program, *parts, temperature=0.0, max_tokens=LONGEST)
        if played.call:
            true = yield from execute_mixed(program, *parts, call=played.call, definitions=DEFINITIONS, most=0)
            pairs.append((played, true))
        return played.answer

    return {**_measured(policy, agent, seed, tasks, worked), "agreement": agreement(pairs)}


def by_search(
    *, seed: int, rows: int, steps: int, tasks: int, learning_rate: float, kinds: int, labelled: int, search: bool
) -> dict[str, float]:
    """Learn programs; for each of some held-out compositions take one for all of its tasks: found by labels, or drawn.

    Half of the ``labelled`` tasks get a program each and filter them, the other half rank them.
    """
    policy, agent = _taught(seed, rows, steps, learning_rate), Programmed(max_tokens=LONGEST)
    evaluations, runs = [], 0
    for world in WORLD.compositions(kinds, seed):
        drawn = world.tasks("test", labelled + tasks // kinds, seed=HELD_OUT + seed)
        known, todo = drawn[:labelled], drawn[labelled:]
        count = labelled // 2 if search else 1
        found = adapted(known, world, policy, agent=agent, seed=seed, train=labelled // 2, candidates=count)
        runs += found.runs
        evaluations.append(evaluate(found.agent, policy, world, todo, seed=seed))
    return {**_numbers(evaluations), "runs": float(runs)}


def _ahead(rows: Rows) -> float:
    """Return the lead of playing programs over the better way to learn answers alone."""
    return float(rows[PLAYED]["success"]) - max(float(rows[name]["success"]) for name in (ANSWERS, LONGER))


ANSWERS, LONGER, PLAYED, MIXED = "answers", "answers, equal tokens", "programs played", "programs, leaves played"
STUDY = Study(
    paper="cogex",
    part="pocket",
    statement="On unseen compositions playing programs beats answering at once, and playing only leaves is best.",
    falsifier="Playing programs is less than 0.1 ahead of answering at once, or playing only leaves is not best.",
    grade="A",
    trained="the pocket model, fine-tuned on records of programs or on answers alone; judged on unseen compositions",
    models=("pocket",),
    arms={
        ANSWERS: partial(at_once, equal_tokens=False),
        LONGER: partial(at_once, equal_tokens=True),
        PLAYED: partial(by_program, sandbox=False),
        MIXED: partial(by_program, sandbox=True),
        "a program drawn": partial(by_search, search=False),
        "a program searched for": partial(by_search, search=True),
    },
    asks=(
        at_least("right answers, programs played minus the better of answers at once", _ahead, 0.1),
        at_least("right answers, leaves played minus programs played", less("success", MIXED, PLAYED), 0.0),
        at_least(
            "right answers, a program searched for minus one drawn",
            less("success", "a program searched for", "a program drawn"),
            0.0,
            decides=False,
        ),
    ),
    sizes={
        "small": {"rows": 4800, "steps": 300, "tasks": 80, "kinds": 4, "labelled": 12},
        "tiny": {"rows": 48, "steps": 6, "tasks": 4, "kinds": 2, "labelled": 4, "learning_rate": 1e-3},
    },
    seeds=(100, 101, 102, 103, 104),
    tuning=Tuning("learning_rate", (3e-4, 1e-3, 3e-3), {"steps": 100, "tasks": 40}),
    setup={"leaves": list(LEAVES), "most tokens of a reply": LONGEST},
)
