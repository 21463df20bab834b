"""Searching a task: the tree of steps that an agent draws, its budget, and how it becomes a record.

A step is one reply and the calls in it, run in a branch of the world of its own. Agents that search differ in which
step they go on from, how many they draw there, and what they take as the end; all of them draw steps through
``Search.grow``, where what is drawn together shares one batch and the prefix in the model's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, Protocol, TypeAlias

from ferrule.agents.flow import answered, ended, opening, results, together
from ferrule.core.flows import Ask, Flow, Leaf, Leaves, Session, Step, ask, use
from ferrule.core.records import Answer, Finish, Message, Observation, Reply, Task, plain_text

__all__ = [
    *("Asking", "Budget", "Hint", "Node", "Search", "State", "Stuck", "no_answer", "other_than", "refuse_below_one"),
]

State: TypeAlias = Literal["open", "answer", "gave up", "budget"]
"""Whether a step can be gone on from, ended the task, led nowhere, or had calls that the budget did not allow."""


@dataclass(frozen=True)
class Budget:
    """What a search may take: tokens that the model writes, calls that it makes, and asks; None sets no limit.

    Every token and every call counts, those of steps that were given up included. A search asks as long as something of
    all three is left; the last ask writes no more than the tokens that are left, and calls beyond the budget are not
    made. What a value or a pick asks a judge is beside the budget, and stands under the judge's role in
    ``Episode.spent``. Raises ``ValueError`` for a limit below 1.
    """

    tokens: int | None = None
    calls: int | None = None
    asks: int | None = None

    def __post_init__(self) -> None:
        """Refuse a budget that allows nothing."""
        for name in ("tokens", "calls", "asks"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(f"Budget.{name} is {limit}; the least is 1, and None sets no limit")


@dataclass(eq=False, slots=True)
class Node:
    """One step of a search: the reply, the branch of the world after it, and what the search knows of it.

    ``messages`` are what a next step goes on from. ``hinted`` says that the model was shown a message that stands
    beside the conversation (``Hint``). ``value``, ``visits`` and ``prior`` are for the agent that searches; they are
    recorded with ``state`` in ``Turn.notes``, and so is what the agent puts into ``more``. The root has no reply.

    A node inside a reply (``Search.cut``) is a part of it: ``begun`` holds the ids that what follows begins with, and
    ``span`` which of the ids that were sampled are its own (None: all). ``piece`` is its text where replies bring
    ``pieces`` along.
    """

    messages: tuple[Message, ...]
    session: Session
    reply: Reply | None = None
    parent: Node | None = None
    observations: tuple[Observation, ...] = ()
    state: State = "open"
    answer: Answer = None
    final: Mapping[str, Any] = field(default_factory=dict)
    hinted: bool = False
    value: float = 0.0
    visits: int = 0
    prior: float = 0.0
    children: list[Node] = field(default_factory=list)
    begun: tuple[int, ...] = ()
    span: tuple[int, int] | None = None
    piece: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """Number of whole steps from the root."""
        return sum(1 for node in self.path() if not node.begun)

    @property
    def inside(self) -> int:
        """Number of parts from the beginning of the reply that the node stands in, itself included; 0 outside one."""
        return 1 + (self.parent.inside if self.parent is not None else 0) if self.begun else 0

    @property
    def text(self) -> str:
        """What was written of the reply up to here."""
        return (self.parent.text if self.parent is not None and self.parent.begun else "") + self.piece

    @property
    def logps(self) -> tuple[float, ...]:
        """Log-probs (nats) of the ids that the node stands for."""
        if self.reply is None:
            return ()
        return self.reply.logps if self.span is None else self.reply.logps[slice(*self.span)]

    def path(self) -> Iterator[Node]:
        """Yield the steps from this one up to the first, and the parts of replies between them."""
        node: Node | None = self
        while node is not None and node.reply is not None:
            yield node
            node = node.parent


Hint: TypeAlias = Callable[[Sequence[Node]], str]
"""What the model is told when it draws a step beside the given earlier ones; an empty text is left out."""
Stuck: TypeAlias = Callable[[Node], bool]
"""Tells whether a step gives up, so that its path is not gone on from."""


def no_answer(node: Node) -> bool:
    """Return True for a reply that neither calls a tool nor answers: cut off, or empty."""
    assert node.reply is not None
    return not node.reply.message.calls and not (node.answer or "").strip()


def other_than(siblings: Sequence[Node]) -> str:
    """Ask for a step that differs from earlier ones, which are listed with what came back."""
    lines = []
    for number, node in enumerate(siblings, 1):
        assert node.reply is not None
        calls = [f"{call.name}({dict(call.arguments)})" for call in node.reply.message.calls]
        said = "; ".join(calls) or plain_text(node.reply.message).strip()[:200]
        back = "; ".join(observation.text[:200] for observation in node.observations)
        lines.append(f"{number}. {said}" + (f" -> {back}" if back else ""))
    return "These steps were tried here before:\n" + "\n".join(lines) + "\nTake another one."


class Asking(Protocol):
    """What an agent says of its steps: their budget, which of them give up, and what ``ToolLoop`` says as well."""

    @property
    def budget(self) -> Budget:
        """What the search may take."""
        ...

    @property
    def stuck(self) -> Stuck:
        """Which steps give up."""
        ...

    @property
    def system(self) -> str:
        """What is put before the prompt."""
        ...

    @property
    def max_tokens(self) -> int:
        """The most tokens of one reply."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Stop strings of a reply."""
        ...


class Search:
    """The tree of one episode, drawn as ``how`` says, and what it has taken so far.

    ``want`` names what replies should bring along (``Ask.want``). With ``goes_on`` a reply that reached its limit of
    tokens is a node inside a reply: what follows begins with it. Sessions of steps stay open until ``close``.
    """

    def __init__(
        self, task: Task, session: Session, how: Asking, *, want: tuple[str, ...] = (), goes_on: bool = False
    ) -> None:
        self.task, self.how, self.budget, self.want, self.goes_on = task, how, how.budget, want, goes_on
        self.root = Node(tuple(opening(task, how.system)), session)
        self.nodes: list[Node] = []
        self.asks = self.tokens = self.calls = 0
        self._closed: set[Node] = set()

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        spent = (self.tokens, self.budget.tokens), (self.calls, self.budget.calls), (self.asks, self.budget.asks)
        return any(limit is not None and taken >= limit for taken, limit in spent)

    def grow(self, places: Sequence[tuple[Node, int]], *, hint: Hint | None = None) -> Flow[list[Node]]:
        """Draw steps: as many beside each other at each place as is said, all of them in one batch.

        Their calls run side by side, each step's in its own branch. With ``hint`` the model is shown what was drawn at
        a place before; neither later steps nor what is learned from this one see that message. Where the budget allows
        fewer steps than are wanted the first of them are drawn, and none once it is spent.
        """
        places = self._affordable(places)
        if not places:
            return []
        drawn: list[Node] = []
        asks = [self._ask(node, count, hint, sum(n for _, n in places)) for node, count in places]
        self.asks += len(asks)
        answers = yield from together(*(ask(request) for request, _ in asks))
        for (parent, _), (_, hinted), replies in zip(places, asks, answers, strict=True):
            drawn += [self._node(parent, reply, hinted) for reply in replies]
        acting = [node for node in drawn if node.state == "open" and not node.begun]
        if acting:
            yield from together(*(self._act(node) for node in acting))
        for node in drawn:
            if node.state in ("open", "answer") and not node.begun and self.how.stuck(node):
                node.state = "gave up"
            if node.state != "open":
                node.final = dict(node.session.final())
        return drawn

    def _affordable(self, places: Sequence[tuple[Node, int]]) -> list[tuple[Node, int]]:
        if self.over:
            return []
        chosen: list[tuple[Node, int]] = []
        tokens = _left(self.budget.tokens, self.tokens)
        room = sum(count for _, count in places) if tokens is None else tokens  # a step takes a token at least
        for node, count in places[: _left(self.budget.asks, self.asks)]:
            if room > 0 and count > 0:
                chosen.append((node, min(count, room)))
                room -= count
        return chosen

    def _ask(self, node: Node, count: int, hint: Hint | None, steps: int) -> tuple[Ask, bool]:
        """Return an ask for ``count`` of the ``steps`` of a batch, and whether it shows a hint."""
        tokens, left = self.how.max_tokens, _left(self.budget.tokens, self.tokens)
        if left is not None:
            tokens = min(tokens, left // steps)
        text = hint(node.children) if hint and node.children else ""
        messages = (*node.messages, Message("user", text)) if text else node.messages
        request = Ask(
            messages,
            n=count,
            tools=node.session.tools,
            stop=self.how.stop,
            max_tokens=tokens,
            want=self.want,
            begun=node.begun,
        )
        return request, bool(text)

    def _node(self, parent: Node, reply: Reply, hinted: bool) -> Node:
        self.tokens += len(reply.sampled)
        # What follows a hinted reply is another text than the model was shown: a context of its own, from its first
        # message on.
        before = (replace(parent.messages[0]), *parent.messages[1:]) if hinted else parent.messages
        node = Node((*before, reply.message), parent.session, reply, parent, hinted=hinted)
        node.piece = "".join(reply.extras.get("pieces", ()))
        calls = reply.message.calls
        if self.goes_on and reply.finish == "length" and reply.sampled:
            node.messages, node.begun = parent.messages, (*parent.begun, *reply.sampled)
        elif not calls:
            node.answer = answered(reply)
            node.state = "answer" if node.answer is not None else "gave up"
        elif self.budget.calls is not None and self.calls + len(calls) > self.budget.calls:
            node.state = "budget"
        else:
            self.calls += len(calls)
            node.session = parent.session.fork()
        parent.children.append(node)
        self.nodes.append(node)
        return node

    def _act(self, node: Node) -> Flow[None]:
        assert node.reply is not None
        calls = node.reply.message.calls
        node.observations = yield from use(*calls, session=node.session)
        node.messages = (*node.messages, *results(calls, node.observations))
        node.answer = ended(node.observations)
        if node.answer is not None:
            node.state = "answer"

    def cut(self, node: Node, stops: Sequence[int]) -> list[Node]:
        """Cut a step into parts that end after the given numbers of its sampled ids, and return them, itself last.

        Each part follows the one before it, and the step the last one. What is drawn after a part begins with exactly
        the ids that were sampled up to its end. Raises ``ValueError`` for stops that do not rise within the ids, and
        for a step that was cut before.
        """
        reply, above, first = node.reply, node.parent, 0
        if reply is None or above is None or node.span is not None:
            raise ValueError("only a whole step can be cut, once, and not the root")
        if any(low >= high for low, high in pairwise((0, *stops, len(reply.sampled)))):
            raise ValueError(f"stops are {list(stops)}; they must rise from 1 to below {len(reply.sampled)}")
        pieces, begun, parts = reply.extras.get("pieces", ()), above.begun, list[Node]()
        above.children.remove(node)
        for stop in stops:
            ids, text = (*begun, *reply.sampled[:stop]), "".join(pieces[first:stop])
            part = Node(above.messages, above.session, reply, above, begun=ids, span=(first, stop), piece=text)
            above.children.append(part)
            parts.append(part)
            above, first = part, stop
        node.parent, node.span, node.piece = above, (first, len(reply.sampled)), "".join(pieces[first:])
        above.children.append(node)
        return [*parts, node]

    def leaves(self, best: Node | None) -> Leaves:
        """Return the tree with ``best`` as its answer; without one its last step is the end, and there is no answer."""
        node = best or self.nodes[-1]
        assert node.reply is not None
        finish: Finish = "answer" if best is not None else "budget" if self.over else "turns"
        final = node.final or dict(node.session.final())
        leaf = Leaf(node.reply.message, node.answer if best is not None else None, finish, final)
        return Leaves((leaf,), tuple(_step(node) for node in self.nodes))

    def close(self, node: Node | None = None) -> None:
        """Close the branches of the world below a step, its own included; without one those of the whole tree.

        The final state of a path that ends open is read before; what was closed is neither read nor closed again.
        """
        kept = {id(self.root.session)} | ({id(node.parent.session)} if node is not None and node.parent else set())
        waiting, passed = [node or self.root], set[int]()
        while waiting:
            here = waiting.pop()
            if id(here) in passed:  # a step may follow several where an agent merges what leads to the same state
                continue
            passed.add(id(here))
            waiting += here.children
            if here in self._closed:
                continue
            self._closed.add(here)
            if here.state == "open" and not here.children:
                here.final = dict(here.session.final())
            if id(here.session) not in kept:
                here.session.close()


def _left(limit: int | None, taken: int) -> int | None:
    return None if limit is None else max(0, limit - taken)


def refuse_below_one(agent: object, *names: str) -> None:
    """Raise ``ValueError`` for the first of the named fields of an agent that is below 1."""
    for name in names:
        if getattr(agent, name) < 1:
            raise ValueError(f"{type(agent).__name__}.{name} is {getattr(agent, name)}; the least is 1")


def _step(node: Node) -> Step:
    assert node.reply is not None
    notes: dict[str, Any] = {**_known(node), "state": node.state, **node.more}
    if node.hinted:
        notes["hinted"] = True
    if node.answer is not None:
        notes["answer"] = node.answer
        notes["final"] = dict(node.final)
    parts, above = [node], node.parent
    while above is not None and above.reply is node.reply:
        parts.insert(0, above)
        above = above.parent
    if node.piece or len(parts) > 1:
        stops = [part.span[1] if part.span else len(node.reply.sampled) for part in parts]
        notes["parts"] = [
            {"stop": stop, "text": part.piece, **_known(part)} for stop, part in zip(stops, parts, strict=True)
        ]
    if above is not None and above.begun:
        notes["begun"] = len(above.begun)
    while above is not None and above.begun:
        above = above.parent
    after = above.reply.message if above is not None and above.reply is not None else None
    return Step(node.reply.message, after, notes)


def _known(node: Node) -> dict[str, Any]:
    return {"value": node.value, "visits": node.visits, "prior": node.prior}
