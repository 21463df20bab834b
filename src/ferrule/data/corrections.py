"""Preferences for what a critic rewrote: of each better step over the one it replaced, and of the whole runs.

The record is that of ``ferrule.agents.reviewed``. Source: "ToolComp: A Multi-Tool Reasoning & Process Supervision
Benchmark" (13), its data for process and for outcome reward models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ferrule.agents.resume import prefix_of
from ferrule.core.records import Message, Trajectory
from ferrule.data.records import Conversation, Preference
from ferrule.data.trees import Branch, Tree
from ferrule.rewards.steps import told

__all__ = ["corrected_run", "correction_of", "corrections", "run_corrections", "uncorrected_run"]


def corrections(tree: Tree) -> list[Preference]:
    """Return a preference of every rewritten step over what it replaced, both after the corrected history.

    ``origin`` says at which ``step``, counted from 0, and whether its ``level`` is that of a ``plan`` or a ``step``.
    A step that nobody rewrote, or in the very same words, gives nothing: that it was left alone does not say that it
    is right.
    """
    pairs, before = list[Preference](), tree.prompt
    for number, branch in enumerate(_run(tree, "reviewed")):
        reply, after = _kept(branch)
        if _changed(branch):
            origin = {**tree.origin, "step": number, "level": "plan" if "after" in branch.notes else "step"}
            pairs.append(Preference(before, (reply,), (branch.reply,), tree.tools, origin))
        before = (*before, reply, *after)
    return pairs


def run_corrections(tree: Tree) -> list[Preference]:
    """Return the preference of the corrected run over the run as it was, results included; none without a correction.

    A run that did not end, and one with a step that is wrong or unknown, gives none either.
    """
    steps = list(_run(tree, "reviewed"))
    unsure = any(branch.notes.get("ruling") in ("wrong", "unknown") for branch in steps)
    after, before = corrected_run(tree), uncorrected_run(tree)
    if unsure or before is None or after is None or not any(map(_changed, steps)):
        return []
    chosen, rejected = (run.messages[len(tree.prompt) :] for run in (after, before))
    return [Preference(tree.prompt, chosen, rejected, tree.tools, {**tree.origin, "level": "run"})]


def corrected_run(tree: Tree) -> Conversation | None:
    """Return the run with its steps as they were rewritten, results included, None where it did not end."""
    steps = list(_run(tree, "reviewed"))
    if not steps or not _ends(steps[-1], rewritten=True):
        return None
    *before, (last, _) = (_kept(branch) for branch in steps)
    messages = [message for reply, after in before for message in (reply, *after)]
    return Conversation((*tree.prompt, *messages, last), tree.tools)


def uncorrected_run(tree: Tree) -> Conversation | None:
    """Return the run as it went without any correction, None where it did not end."""
    steps: list[Branch] = []
    for branch in _run(tree, "reviewed"):
        steps.append(branch)
        if "rewritten" in branch.notes:
            steps += _run(branch, "uncorrected")
            break
    if not steps or not _ends(steps[-1], rewritten=False):
        return None
    messages = [message for branch in steps[:-1] for message in (branch.reply, *_after(branch))]
    return Conversation((*tree.prompt, *messages, steps[-1].reply), tree.tools)


def correction_of(trajectory: Trajectory, turn: int, reply: Message) -> Preference:
    """Return the preference of ``reply`` over that of turn ``turn``, for an episode corrected by hand.

    ``ferrule.agents.resume.rewritten`` makes the task that goes on from ``reply``. Raises ``ValueError`` for a turn
    that does not exist.
    """
    before = prefix_of(trajectory, turn).messages
    origin = {"task": trajectory.task.id, "step": turn, "level": "step"}
    return Preference(before, (reply,), (trajectory.turns[turn].reply,), origin=origin)


def _run(place: Tree | Branch, run: str) -> Iterator[Branch]:
    """Yield the steps of a run below a place, as the notes of the agent tell them from others."""
    branches = place.branches if isinstance(place, Tree) else place.children
    while branches:
        step = next((branch for branch in branches if branch.notes.get("run") == run), None)
        if step is None:
            return
        yield step
        branches = step.children


def _kept(branch: Branch) -> tuple[Message, Sequence[Message]]:
    """Return the reply that a corrected run went on from, and the messages after it."""
    if "rewritten" not in branch.notes:
        return branch.reply, _after(branch)
    better = branch.notes["rewritten"]
    return better["reply"], better["after"]


def _changed(branch: Branch) -> bool:
    """Tell whether a step was rewritten as one that says or calls something else."""
    return told([_kept(branch)[0]]) != told([branch.reply])


def _after(branch: Branch) -> Sequence[Message]:
    """Return the messages after a step: the results of its calls, or what was said after a plan."""
    said: Sequence[Message] = branch.notes.get("after", branch.results)
    return said


def _ends(branch: Branch, *, rewritten: bool) -> bool:
    """Tell whether a run that has this step as its last ended with an answer."""
    if rewritten and "rewritten" in branch.notes:
        return bool(branch.notes["rewritten"]["ends"])
    return branch.notes.get("state") == "answer"
