"""Trees of steps, and the preferences in them: a step on the way to success against the ones beside it.

Source: "Advancing Tool-Augmented Large Language Models: Integrating Insights from Errors in Inference Trees" (09).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ferrule.core.records import Message, Tool, Trajectory, Turn
from ferrule.data.records import Conversation, Preference

__all__ = ["Branch", "Tree", "path_preferences", "solutions", "step_preferences", "successful", "tree_of"]


@dataclass(frozen=True)
class Branch:
    """One step: what the model wrote, what came back, the steps drawn after it, and whether it solved the task.

    ``failed`` says that one of its own calls ended in anything but ``ok``. ``notes`` are those of the search
    (``Turn.notes``), or whatever else is known of the step.
    """

    reply: Message
    results: tuple[Message, ...] = ()
    children: tuple[Branch, ...] = ()
    solved: bool = False
    failed: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tree:
    """What was asked with which tools on offer, and the first steps; ``origin`` says where the tree is from."""

    prompt: tuple[Message, ...]
    branches: tuple[Branch, ...]
    tools: tuple[Tool, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)


def tree_of(
    paths: Sequence[Trajectory], solved: Callable[[Trajectory], bool], *, tools: Sequence[Tool] = (), **origin: Any
) -> Tree:
    """Return the tree that the trajectories of one episode make, discarded ones included.

    ``solved`` says of a whole path whether it solved the task; discarded paths are asked as well. Messages that stood
    beside the conversation (``Turn.notes["hinted"]``) are left out. Steps come in the order in which they were drawn.
    Raises ``ValueError`` without a turn.
    """
    turns = {turn.id: turn for path in paths for turn in path.turns}
    if not turns:
        raise ValueError("a tree needs at least one turn; the episode has none")
    above = {b.id: a.id for path in paths for a, b in zip(path.turns, path.turns[1:], strict=False)}
    good = {path.turns[-1].id for path in paths if path.turns and solved(path)}
    below: dict[int | None, list[int]] = {}
    for number in sorted(turns):
        below.setdefault(above.get(number), []).append(number)

    def branch(number: int) -> Branch:
        turn = turns[number]
        children = tuple(branch(child) for child in below.get(number, ()))
        failed = any(observation.status != "ok" for observation in turn.observations)
        return Branch(turn.reply, _results(turn), children, number in good, failed, turn.notes)

    first = turns[min(below[None])]
    return Tree(first.messages, tuple(branch(number) for number in below[None]), tuple(tools), origin)


def _results(turn: Turn) -> tuple[Message, ...]:
    return tuple(
        Message("tool", observation.text, name=call.name, call_id=call.id)
        for call, observation in turn.pairs
        if observation is not None
    )


def successful(branch: Branch) -> bool:
    """Return whether a step, or one below it, solved the task."""
    return branch.solved or any(successful(child) for child in branch.children)


def _anything(branch: Branch) -> bool:
    return True


def step_preferences(tree: Tree, *, rejects: Callable[[Branch], bool] = _anything) -> list[Preference]:
    """Return a preference for every step on a way to success and every step beside it that led nowhere.

    The prompt is what both were written after, without any hint; chosen and rejected are the replies alone. ``rejects``
    says which failed steps count: one may have failed for no fault of its own. Replies that are the same text give no
    pair. Source: "Advancing Tool-Augmented Large Language Models" (09).
    """
    pairs: list[Preference] = []

    def visit(before: tuple[Message, ...], branches: Sequence[Branch], depth: int) -> None:
        good = [branch for branch in branches if successful(branch)]
        bad = [branch for branch in branches if not successful(branch) and rejects(branch)]
        pairs.extend(_pairs(tree, before, ((w.reply,) for w in good), [(b.reply,) for b in bad], step=depth))
        for branch in good:
            visit((*before, branch.reply, *branch.results), branch.children, depth + 1)

    visit(tree.prompt, tree.branches, 0)
    return pairs


def solutions(tree: Tree) -> list[Conversation]:
    """Return every whole way to success as a conversation, to be imitated; a tree without success gives none."""
    good = (path for path in _paths(tree.branches) if path[-1].solved)
    return [Conversation((*tree.prompt, *_said(path)), tree.tools) for path in good]


def path_preferences(tree: Tree) -> list[Preference]:
    """Return a preference of every whole way to success over every whole way that led nowhere, results included."""
    paths = list(_paths(tree.branches))
    good = [_said(path) for path in paths if path[-1].solved]
    bad = [_said(path) for path in paths if not path[-1].solved]
    return _pairs(tree, tree.prompt, good, bad)


def _pairs(
    tree: Tree, prompt: tuple[Message, ...], good: Iterable[tuple[Message, ...]], bad: list[tuple[Message, ...]],
    **origin: Any,
) -> list[Preference]:  # fmt: skip
    return [
        Preference(prompt, chosen, rejected, tree.tools, origin={**tree.origin, **origin})
        for chosen in good
        for rejected in bad
        if _text(chosen) != _text(rejected)
    ]


def _text(messages: Sequence[Message]) -> list[Any]:
    """What a model said and did, whatever ids its calls have."""
    return [(m.role, m.content, [(c.name, dict(c.arguments), c.problem) for c in m.calls]) for m in messages]


def _paths(branches: Sequence[Branch]) -> Iterator[tuple[Branch, ...]]:
    for branch in branches:
        if branch.children:
            for rest in _paths(branch.children):
                yield (branch, *rest)
        else:
            yield (branch,)


def _said(path: Sequence[Branch]) -> tuple[Message, ...]:
    """Return the messages of a path; what came back after its last reply is no part of it."""
    messages = [message for branch in path for message in (branch.reply, *branch.results)]
    return tuple(messages[: len(messages) - len(path[-1].results)])
