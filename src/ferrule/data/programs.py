"""Records of programs to learn from: instructions and responses that a teacher writes as programs, calls and outputs.

Source: "Learning to Reason via Program Generation, Emulation, and Search" (61).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferrule.chat.program import ProgramRecord, answer_of, parts_of, program_prompt, read_record
from ferrule.core.flows import Ask, Policy, World
from ferrule.core.recipe import Data, Drawn
from ferrule.core.records import Message, Task, plain_text
from ferrule.data.layout import laid_out
from ferrule.data.records import Completion
from ferrule.rewards.verify import verify

__all__ = ["completion", "conversion", "program_rows", "record_problem"]


def conversion(instruction: str, argument: str, response: str) -> tuple[Message, ...]:
    """Return the request to a teacher that turns an instruction and its response into program, call and output."""
    text = (
        "Write the task below as a Python function, a call of it and its output, in this form:\n"
        "### Code\n(the function)\n>>> (the call)\n### Output\n(the dictionary that the call returns)\n"
        "Name the function for the task and not for this instance, so that other inputs can be given to it. Give it a "
        "docstring and numbered comments for its steps. Helpers that cannot be written in Python may be called without "
        "being defined, with names that say what they do. It returns a dictionary of its intermediate results and of "
        "the response under the key 'answer'.\n\n"
    )
    return (Message("user", f"{text}{program_prompt(instruction, argument)}### Response\n{response}\n"),)


def completion(record: ProgramRecord) -> Completion:
    """Return a record as what a model is asked and what it learns to reply: all from the code on."""
    return Completion((Message("user", record.prompt),), (Message("assistant", record.completion),))


def record_problem(task: Task, record: ProgramRecord) -> str:
    """Say why nothing should be learned from the record of a task, or return an empty text.

    A part of it is empty, or its answer is not that of the task by the task's verifier.
    """
    if record.problem:
        return record.problem
    answer = answer_of(record.output)
    right = answer is not None and verify(str(task.meta.get("verifier", "exact")), answer, task.answer) > 0.5
    return "" if right else f"the answer is {answer!r}, not {task.answer!r}"


def program_rows(
    world: World, *, teacher: Policy | None = None, tasks: int = 52_000, split: str = "train",
    levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0, max_tokens: int = 512,
) -> Data:  # fmt: skip
    """Return a source of rows: tasks of a world that ``teacher`` (None: the policy itself) writes as programs.

    The teacher is told the answer. What ``record_problem`` objects to is left out; where nothing is left the source
    raises ``ValueError``.
    """

    def rows(policy: Any, lap: int) -> Drawn:
        todo = world.tasks(split, tasks, seed=seed + lap, levels=levels)
        asks = [
            Ask(conversion(*parts_of(task), str(task.answer)), max_tokens=max_tokens, seed=seed + place)
            for place, task in enumerate(todo)
        ]
        replies = [reply for (reply,) in (teacher or policy).generate(asks)]
        records = [
            (task, read_record(program_prompt(*parts_of(task)) + plain_text(reply.message)))
            for task, reply in zip(todo, replies, strict=True)
        ]
        usable = [completion(record) for task, record in records if not record_problem(task, record)]
        if not usable:
            raise ValueError(
                f"none of {len(todo)} tasks became a record with its answer; a larger model as teacher may do better"
            )
        written = 0 if teacher is not None else sum(len(reply.sampled) for reply in replies)
        return Drawn([laid_out(record, policy.renderer, policy.encode) for record in usable], written)

    return rows
