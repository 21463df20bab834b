"""Whether the steps of a run are right, as a judge says: the labels that a process reward model learns from.

Sources: "ToolComp: A Multi-Tool Reasoning & Process Supervision Benchmark" (13); "From Proof to Program" (11) for the
steps of a whole solution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ferrule.agents.flow import together
from ferrule.agents.scored import read_scores
from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, Task, plain_text
from ferrule.rewards.tooleval import read_label

__all__ = ["ScoresSteps", "judged_step", "judged_steps", "labels_of", "modelled_steps", "parted", "told"]

ScoresSteps: TypeAlias = Callable[[Task, Sequence[str]], "Flow[Sequence[float | None]] | Sequence[float | None]"]
"""Scores every step of a solution, 0 to 1; None where nobody knows."""


def judged_step(
    query: str, before: Sequence[Message], step: Message, *, role: str = "judge", max_tokens: int = 64,
    right: bool = True,
) -> Flow[bool | None]:  # fmt: skip
    """Ask a judge whether a step is right after a history; None where the reply failed or cannot be read.

    The judge is told that the history is ``right``, which has to be so, or nothing about it.
    """
    so_far = "Steps so far, all of them right" if right else "Steps so far"
    asked = (
        f"Task:\n{query}\n\n{so_far}:\n{told(parted(before)[1]) or 'none'}\n\nNext step:\n"
        f"{told([step])}\n\nIs the next step right? Reply with one word: right, wrong."
    )
    (reply,) = yield from ask(Ask((Message("user", asked),), role=role, max_tokens=max_tokens))
    if reply.finish not in ("stop", "answer"):
        return None
    label = read_label(plain_text(reply.message), ("right", "wrong"))
    return None if label is None else label == "right"


def judged_steps(*, role: str = "judge", max_tokens: int = 64) -> ScoresSteps:
    """Return what asks a judge about every step of a solution, all side by side: 1 for right, 0 for wrong.

    A step is judged after all before it, right or wrong.
    """

    def scores(task: Task, steps: Sequence[str]) -> Flow[Sequence[float | None]]:
        said = [Message("user", task.prompt), *(Message("assistant", step) for step in steps)]
        verdicts = yield from together(*(
            judged_step(task.prompt, said[:place], said[place], role=role, max_tokens=max_tokens, right=False)
            for place in range(1, len(said))
        ))  # fmt: skip
        return [None if verdict is None else float(verdict) for verdict in verdicts]

    return scores


def modelled_steps(*, role: str = "scorer") -> ScoresSteps:
    """Return what asks a process reward model for the scores of all steps of a solution, as ``agents.scored`` does.

    The model is shown the steps as replies that it was asked for one by one. All scores are None where there is not one
    for every step.
    """

    def scores(task: Task, steps: Sequence[str]) -> Flow[Sequence[float | None]]:
        said = [Message("user", task.prompt)]
        for step in steps:
            said += [Message("assistant", step), Message("user", "Go on.")]
        (reply,) = yield from ask(Ask(tuple(said[:-1]), role=role))
        numbers = read_scores(plain_text(reply.message)) if reply.finish in ("stop", "answer") else []
        return numbers if len(numbers) == len(steps) else [None] * len(steps)

    return scores


def labels_of(verdicts: Sequence[bool | None]) -> tuple[bool | None, ...]:
    """Return what is known of the steps of a run: verdicts up to the first that is not True, and None after it.

    Whether a step is right can be said after a right history alone: a step after a wrong one, or after one of which
    nothing is known, has no label and never counts as right.
    """
    end = next((place for place, verdict in enumerate(verdicts) if verdict is not True), len(verdicts))
    return (*verdicts[: end + 1], *[None] * (len(verdicts) - end - 1))


def parted(messages: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    """Return what is asked, system text included, and the steps after it: all messages from the first reply on."""
    first = next((place for place, message in enumerate(messages) if message.role == "assistant"), len(messages))
    return messages[:first], messages[first:]


def told(messages: Sequence[Message]) -> str:
    """Return messages as a judge is shown them: texts, and calls as ``name(arguments)``, each on lines of its own."""
    lines: list[str] = []
    for message in messages:
        lines += [plain_text(message).strip(), *(f"{call.name}({dict(call.arguments)})" for call in message.calls)]
    return "\n".join(filter(None, lines))
