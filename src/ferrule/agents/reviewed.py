"""A tool loop whose steps a critic reviews, rewriting the wrong ones: the corrected run, and the run as it was.

Source: "ToolComp: A Multi-Tool Reasoning & Process Supervision Benchmark" (13). ``ferrule.data.corrections`` makes
preferences of the record, and ``ferrule.agents.step_code`` has a critic that rewrites steps as code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ferrule.agents.flow import cut_off, ended, results, returned
from ferrule.agents.search import Budget, Node, Search, Stuck, no_answer, refuse_below_one
from ferrule.core.flows import Ask, Flow, Leaves, Session, ask, use
from ferrule.core.records import Message, Task, plain_text
from ferrule.rewards.steps import judged_step, told

__all__ = ["Critic", "Reviewed", "Ruling", "by_roles", "rewrite", "unreviewed"]

Ruling: TypeAlias = Message | bool | None
"""A better reply in the place of a wrong step; True for a right step, False for a wrong one, None for unknown."""
Critic: TypeAlias = Callable[[Task, Node], "Flow[Ruling] | Ruling"]
"""Reviews a step that follows a corrected history (``Node.parent.messages``); as a flow it may ask a model."""


def unreviewed(task: Task, node: Node) -> Ruling:
    """Take every step as it is, without saying whether it is right."""
    return None


def rewrite(search: Search, node: Node, reply: Message, *, then: Sequence[Message] = ()) -> Flow[Node]:
    """Put another reply in the place of a step and return the node that goes on from it.

    What came before the step stays as it is, with the ids that the model saw and wrote. The calls of ``reply`` run in a
    branch of the world as it stood before the step; the step itself keeps its own branch. Its ``Turn.notes`` hold
    ``rewritten``: the ``reply``, the ``observations`` of its calls, the messages ``after`` it, and whether it ``ends``
    the run. What follows either comes after the same turn in the record. With ``then``, which is said after it, a reply
    without calls ends nothing.
    """
    above = node.parent
    if above is None:
        raise ValueError("the beginning of an episode is no step and cannot be rewritten")
    reply = replace(reply, calls=tuple(replace(call) for call in reply.calls))  # calls of its own in the record
    twin = Node((*above.messages, reply), above.session, node.reply, above)
    above.children.append(twin)
    after = tuple(then)
    if reply.calls and search.budget.calls is not None and search.calls + len(reply.calls) > search.budget.calls:
        twin.state = "budget"
    elif reply.calls:
        search.calls += len(reply.calls)
        twin.session = above.session.fork()
        twin.observations = yield from use(*reply.calls, session=twin.session)
        after = (*results(reply.calls, twin.observations), *after)
        twin.answer = ended(twin.observations)
    elif not then:
        twin.answer = plain_text(reply).strip()
    if twin.answer is not None:
        twin.state = "answer"
    twin.messages = (*twin.messages, *after)
    ends = twin.state == "answer"
    node.more["rewritten"] = {"reply": reply, "observations": twin.observations, "after": after, "ends": ends}
    return twin


def by_roles(*, judge: str = "judge", writer: str = "annotator", max_tokens: int = 256) -> Critic:
    """Return the critic that asks one role whether a step is right, and another to write a wrong one anew.

    The writer is told which step is wrong and answers with a step in its place. A judge who cannot be read, or failed,
    leaves the step unknown; a writer who failed leaves it wrong.
    """

    def critic(task: Task, node: Node) -> Flow[Ruling]:
        assert node.reply is not None
        assert node.parent is not None
        before = node.parent.messages
        right = yield from judged_step(told(task.conversation), before, node.reply.message, role=judge)
        if right is not False:
            return right
        said = f"This step is wrong:\n{told([node.reply.message])}\nWrite the step that should stand in its place."
        request = Ask((*before, Message("user", said)), tools=node.session.tools, role=writer, max_tokens=max_tokens)
        (reply,) = yield from ask(request)
        failed = cut_off(reply) or any(call.problem for call in reply.message.calls)
        return False if failed else reply.message

    return critic


@dataclass(frozen=True)
class Reviewed:
    """A plan if ``plan`` asks for one, then steps one at a time; a wrong step is rewritten before the model goes on.

    ``critic`` reviews each step, up to one that is wrong and that nobody rewrote. The answer is that of the corrected
    run. With ``uncorrected``, and once that has an answer, the run is also gone on with from the first step that was
    rewritten as if nobody had reviewed it; the record holds that as a discarded path. A reply that gives up, or with a
    call that cannot be read, is drawn again at most ``retries`` times; a run that fails all the same is begun anew at
    most ``restarts`` times. ``go_on`` is said after the plan, and tools are called from then on. ``turns`` bounds the
    replies of a run, its plan included. With ``in_parts`` a reply that reaches ``max_tokens`` is a step as well: unless
    it is rewritten, the next one goes on within the same reply, from the ids that were sampled. Everything else is as
    in the agents that search.
    """

    critic: Critic = unreviewed
    plan: str = ""
    go_on: str = "Now carry the plan out, one step at a time."
    turns: int = 30
    retries: int = 5
    restarts: int = 3
    uncorrected: bool = True
    in_parts: bool = False
    budget: Budget = field(default_factory=Budget)
    stuck: Stuck = no_answer
    system: str = ""
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a run without a step, and negative counts."""
        refuse_below_one(self, "turns")
        for name in ("retries", "restarts"):
            if getattr(self, name) < 0:
                raise ValueError(f"Reviewed.{name} is {getattr(self, name)}; the least is 0")

    def __call__(self, task: Task, session: Session) -> Flow[Leaves]:
        """Play one episode."""
        search = Search(task, session, self, goes_on=self.in_parts)
        if self.plan:
            search.root.messages = (*search.root.messages[:-1], _with(search.root.messages[-1], self.plan))
        try:
            steps, end = yield from self._run(search, search.root, self.critic)
            for _ in range(self.restarts):
                if end is not None or search.over:
                    break
                steps, end = yield from self._run(search, search.root, self.critic)
            self._mark(steps, "reviewed")
            if end is None or end.state != "answer":
                return search.leaves(None)
            changed = next((node for node in steps if "rewritten" in node.more), None)
            if self.uncorrected and changed is not None and changed.state == "open":
                more, _ = yield from self._run(search, changed, unreviewed)
                self._mark(more, "uncorrected")
            return search.leaves(end)
        finally:
            search.close()

    def _mark(self, steps: list[Node], run: str) -> None:
        for node in steps:
            if not node.begun or "rewritten" in node.more:  # of a reply in parts the last one holds all of it
                node.more["run"] = run

    def _run(self, search: Search, here: Node, critic: Critic) -> Flow[tuple[list[Node], Node | None]]:
        """Go on from a node to the end; return the steps drawn, and the node it ended with, None where it failed."""
        steps: list[Node] = []
        while here.state == "open" and sum(1 for _ in here.path()) < self.turns:
            node = yield from self._drawn(search, here)
            if node is None:
                return steps, None
            steps.append(node)
            ruling = yield from returned(critic(search.task, node))
            here = node
            if isinstance(ruling, Message):
                here = yield from rewrite(search, node, ruling, then=node.more.get("after", ()))
            elif critic is not unreviewed:
                node.more["ruling"] = "unknown" if ruling is None else "right" if ruling else "wrong"
            if ruling is False:
                critic = unreviewed
        return steps, here

    def _drawn(self, search: Search, above: Node) -> Flow[Node | None]:
        """Draw one step, again while it fails; None where all tries fail or the budget is spent."""
        for _ in range(self.retries + 1):
            drawn = yield from search.grow([(above, 1)])
            if not drawn:
                return None
            (node,) = drawn
            assert node.reply is not None
            if self.plan and above is search.root and node.state == "answer" and not node.reply.message.calls:
                said = Message("user", self.go_on)
                node.state, node.answer, node.messages = "open", None, (*node.messages, said)
                node.more["after"] = (said,)
            if any(call.problem for call in node.reply.message.calls):
                node.state = "gave up"
            if node.state != "gave up":
                return node
        return None


def _with(message: Message, text: str) -> Message:
    content = message.content
    return replace(message, content=f"{content}\n\n{text}" if isinstance(content, str) else (*content, f"\n\n{text}"))


AGENTS = {"reviewed": Reviewed}
