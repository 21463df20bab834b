"""Whether the steps of a run are right, as a judge says: the labels that a process reward model learns from.

Source: "ToolComp: A Multi-Tool Reasoning & Process Supervision Benchmark" (13).
"""

from __future__ import annotations

from collections.abc import Sequence

from ferrule.core.flows import Ask, Flow, ask
from ferrule.core.records import Message, plain_text
from ferrule.rewards.tooleval import read_label

__all__ = ["judged_step", "labels_of"]


def judged_step(
    query: str, before: Sequence[Message], step: Message, *, role: str = "judge", max_tokens: int = 64
) -> Flow[bool | None]:
    """Ask a judge whether a step is right after a history that is; None where the reply failed or cannot be read."""
    asked = (
        f"Task:\n{query}\n\nSteps so far, all of them right:\n{_told(before[1:]) or 'none'}\n\nNext step:\n"
        f"{_told([step])}\n\nIs the next step right? Reply with one word: right, wrong."
    )
    (reply,) = yield from ask(Ask((Message("user", asked),), role=role, max_tokens=max_tokens))
    if reply.finish not in ("stop", "answer"):
        return None
    label = read_label(plain_text(reply.message), ("right", "wrong"))
    return None if label is None else label == "right"


def labels_of(verdicts: Sequence[bool | None]) -> tuple[bool | None, ...]:
    """Return what is known of the steps of a run: verdicts up to the first that is not True, and None after it.

    Whether a step is right can be said after a right history alone: a step after a wrong one, or after one of which
    nothing is known, has no label and never counts as right.
    """
    end = next((place for place, verdict in enumerate(verdicts) if verdict is not True), len(verdicts))
    return (*verdicts[: end + 1], *[None] * (len(verdicts) - end - 1))


def _told(messages: Sequence[Message]) -> str:
    """Return messages as text, calls written as ``name(arguments)``."""
    lines: list[str] = []
    for message in messages:
        lines += [plain_text(message).strip(), *(f"{call.name}({dict(call.arguments)})" for call in message.calls)]
    return "\n".join(filter(None, lines))
