"""Models and agents as the parts of learning from insights: who solves, extracts, labels, and rewrites conditions.

Source: "AlphaOPT: Formulating Optimization Programs with Self-Improving LLM Experience Library" (46), in short prompts
of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ferrule.agents.flow import Requests, cut_off, placed, relayed
from ferrule.agents.remembering import Put, in_system
from ferrule.core.flows import Agent, Ask, Flow, Leaves, Reward, World, ask
from ferrule.core.records import Message, Task, Trajectory, plain_text
from ferrule.memory.conditions import FARED, Fared
from ferrule.memory.entries import Change, Entry
from ferrule.memory.insights import Extract, Solve, Solved
from ferrule.memory.recall import listed
from ferrule.memory.replies import list_in
from ferrule.rewards.outcome import is_right, outcome
from ferrule.rewards.steps import told

__all__ = ["answer_of", "by_agent", "explaining", "extracting", "labelling", "varying"]


def by_agent(agent: Agent, world: World, *, reward: Reward = outcome, put: Put = in_system) -> Solve:
    """Return the solver that lets an agent play a task of a world with entries before it, in a session of its own.

    Which entries it used is what its messages cite; where they cite none, nobody knows.
    """

    def solve(task: Task, entries: Sequence[Entry]) -> Flow[Solved]:
        session, said = world.start(task), list[Message]()
        shown = put(task, text) if (text := listed(task, entries)) else task

        def change(requests: Requests) -> Requests:
            for request in requests:
                if isinstance(request, Ask):
                    said[:] = request.messages[len(shown.conversation) :]
            return tuple(placed(request, session) for request in requests)

        try:
            ended = yield from relayed(agent(shown, session), change)
            answer = ended.leaves[0].answer if isinstance(ended, Leaves) else ended
            path = Trajectory(task, (), None if answer is None else str(answer), final=dict(session.final()))
        finally:
            session.close()
        (score,) = reward(task, [path])
        text = f"{told(said)}\nanswer: {answer}"
        cited = tuple(entry.id for entry in entries if entry.id in text.replace("]", " ").replace("[", " ").split())
        return Solved(is_right(score), text, cited or None)

    return solve


def answer_of(task: Task) -> str:
    """Return what a right solution is known by: the program in ``meta``, else the answer."""
    return f"{task.meta['program']}" if "program" in task.meta else f"answer: {task.answer}"


def _asked(text: str, role: str, max_tokens: int, n: int = 1) -> Flow[list[str]]:
    """Ask for texts; those that were cut off are left out."""
    replies = yield from ask(Ask((Message("user", text),), n=n, role=role, max_tokens=max_tokens))
    return [plain_text(reply.message).strip() for reply in replies if not cut_off(reply)]


def extracting(
    *, role: str = "writer", right: Callable[[Task], str] = answer_of, most: int = 3, max_tokens: int = 1024
) -> Extract:
    """Return what asks a model for insights, by comparing a failed solution with a right one (``right(task)``).

    An insight has a label (stage, group, name), a condition, an explanation and an example of wrong and right.
    """

    def extract(task: Task, failure: Solved) -> Flow[list[Change]]:
        texts = yield from _asked(
            f"Compare a failed solution with a right one and say what to know for other tasks: a JSON list of at most "
            f'{most} objects {{"label": [stage, group, name], "condition": "...", "explanation": "...", "example": '
            f'"wrong: ... right: ..."}}.\n\nTask:\n{plain_text(task.conversation[-1])}\n\nFailed:\n{failure.text}\n\n'
            f"Right:\n{right(task)}",
            role, max_tokens,
        )  # fmt: skip
        changes = []
        for row in list_in(texts[0]) if texts else []:
            if not isinstance(row, Mapping) or not str(row.get("explanation") or "").strip():
                continue
            label = row.get("label")
            labels = (tuple(map(str, label)),) if isinstance(label, list) and label else ()
            text = " ".join(str(row[name]).strip() for name in ("explanation", "example") if row.get(name))
            changes.append(Change("add", text=text, when=str(row.get("condition") or ""), labels=labels))
        return changes[:most]

    return extract


def labelling(*, role: str = "writer", right: Callable[[Task], str] = answer_of, max_tokens: int = 64) -> Any:
    """Return what asks a model how an entry fared in a failed solution: the last name of ``FARED`` in its reply.

    Without one the entry is irrelevant; ``unretrieved`` is no answer about an entry that was shown.
    """

    def label(task: Task, failure: Solved, entry: Entry) -> Flow[Fared]:
        texts = yield from _asked(
            "How did this note fare? positive: right and used; invalid: right and not used; negative: wrong or "
            f"misleading; irrelevant.\n\nNote: {entry.key}\n\nTask:\n{plain_text(task.conversation[-1])}\n\nFailed:\n"
            f"{failure.text}\n\nRight:\n{right(task)}\n\nReply with one word.",
            role, max_tokens,
        )  # fmt: skip
        said = texts[0].lower() if texts else ""
        named: list[Fared] = [how for how in FARED if how in said and how != "unretrieved"]
        return max(named, key=said.rfind) if named else "irrelevant"

    return label


def explaining(
    tasks: Mapping[str, Task], *, applies: bool, role: str = "writer", max_tokens: int = 128
) -> Callable[[Entry, str], Flow[str]]:
    """Return what asks a model in one sentence why an entry applies to a task, or why it does not."""

    def explain(entry: Entry, task: str) -> Flow[str]:
        which = "applies" if applies else "does not apply"
        texts = yield from _asked(
            f"This note {which} to this task. Say in one sentence, without names or values, which tasks it {which} to."
            f"\n\nNote: {entry.key}\n\nTask:\n{plain_text(tasks[task].conversation[-1])}",
            role, max_tokens,
        )  # fmt: skip
        return texts[0] if texts else ""

    return explain


def varying(*, role: str = "writer", count: int = 5, max_tokens: int = 256) -> Any:
    """Return what asks a model ``count`` times for a condition; the original stays, with a paragraph each way."""

    def vary(entry: Entry, applies: Sequence[str], not_applies: Sequence[str]) -> Flow[list[str]]:
        return (
            yield from _asked(
                "Write the condition of this note anew: keep its text, then a paragraph that begins 'Does not apply:' "
                f"and one that begins 'Applies:'.\n\nNote: {entry.text}\n\nCondition: {entry.when}\n\nIt applies "
                f"where: {'; '.join(applies) or 'unknown'}\n\nIt does not where: {'; '.join(not_applies) or 'unknown'}",
                role, max_tokens, count,
            )
        )  # fmt: skip

    return vary
