"""An agent that refines its answer: it proposes, a tool of the world checks, and it proposes again from what was said.

Source: "LLM Interactive Optimization of Open Source Python Libraries" (paper 35); the loop is ``agents.refine``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ferrule.agents.code import blocks_of
from ferrule.agents.flow import cut_off, opening
from ferrule.agents.refine import Candidate, Checked, Refined, ranked, refine
from ferrule.core.arrays import nearest
from ferrule.core.flows import Ask, Flow, Leaf, Leaves, Session, Step, ask, use
from ferrule.core.records import Answer, Call, Message, Observation, Reply, Task, Tool, plain_text

__all__ = ["Critic", "Refiner", "advised", "block_or_text", "feedback_of", "read_check"]

Critic: TypeAlias = Callable[[Task, Sequence[Candidate]], "Flow[str] | str"]
"""Says what to try next, given all candidates so far; as a flow it may ask a model. An empty text says nothing."""

_NOTHING = "The reply holds nothing that could be checked, or was cut off."
_REPEATED = "You wrote this before. "


def block_or_text(reply: Reply) -> str:
    """Return the last block of Python in a reply, or its text where it has none; empty for one that was cut off."""
    if cut_off(reply):
        return ""
    blocks = [call.arguments.get("code") for call in blocks_of(reply) if not call.problem]
    codes = [code for code in blocks if isinstance(code, str)]
    return codes[-1] if codes else plain_text(reply.message).strip()


def feedback_of(checked: Checked) -> str:
    """Return what a check tells the author of a proposal."""
    return checked.feedback


def read_check(observation: Observation) -> Checked:
    """Return what the observation of a checking tool says: ``score`` and ``solved`` in its data, the text as feedback.

    Without a score a call that ran is worth 1 and solves the task, and any other is worth 0.
    """
    data = observation.data if isinstance(observation.data, Mapping) else {}
    ran = observation.status == "ok"
    score, solved = data.get("score"), data.get("solved")
    if score is None:
        return Checked(float(ran), ran, observation.text, data=data)
    return Checked(float(score), bool(solved) or observation.terminal, observation.text, data=data)


@dataclass(frozen=True)
class Refiner:
    """Answer by proposals in one conversation, each checked by a ``tool`` of the world, whose words come back.

    The tool gets a proposal as its first argument; which tool that is says the task (``meta["check"]``) where ``tool``
    is empty, else it is the first on offer. A task whose answer is not a proposal itself names the tool that makes the
    answer of the best proposals (``meta["submit"]``; a list gets several, best first), and ``meta["proposal"]``, what
    is asked for where ``system`` is empty. ``meta["start"]`` of a task is what stands before the first proposal, worth
    0. The episode ends when a check says solved, after ``rounds`` proposals, or after ``patience`` of them in a row
    that gained nothing (0: never); its answer is the best text. ``temperatures`` are those of the first proposal and of
    one after a failure; None leaves them to the run. ``read`` takes a proposal out of a reply, ``tell`` says what its
    author is told, and a ``critic`` adds what to try next. Without tools the first proposal is the answer.
    """

    rounds: int = 8
    patience: int = 3
    tool: str = ""
    system: str = ""
    max_tokens: int = 1024
    temperatures: tuple[float, float] | None = None
    critic: Critic | None = None
    read: Callable[[Reply], str] = block_or_text
    tell: Callable[[Checked], str] = feedback_of

    def __post_init__(self) -> None:
        """Refuse a loop without rounds, and negative patience."""
        for name, least in (("rounds", 1), ("patience", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"Refiner.{name} is {getattr(self, name)}; the least is {least}")

    def __call__(self, task: Task, session: Session) -> Flow[Leaves]:
        """Play one episode."""
        talk = _Talk(self, task, session.tools)
        begun = task.meta.get("start")
        refined = yield from refine(
            talk.propose,
            talk.check,
            select=lambda candidates: [candidates],
            rounds=self.rounds,
            patience=self.patience or None,
            start=() if begun is None else (Candidate(str(begun), Checked(0.0)),),
        )
        return talk.leaves(refined, session, (yield from talk.answer(refined)))


def _named(name: str, tools: Sequence[Tool]) -> Tool | None:
    """Return a tool by name, None without a name; raises ``ValueError`` for one that is not on offer."""
    known = {tool.name: tool for tool in tools}
    if name and name not in known:
        raise ValueError(f"the refinement needs the tool {name!r}; {nearest(name, list(known))}")
    return known[name] if name else None


def _call(tool: Tool, texts: Sequence[str]) -> Call:
    """Return the call of a tool whose first argument is the first text, or as many as it takes where it is a list."""
    if not (parameters := [*tool.parameters.get("properties", {}).items()]):
        return Call(tool.name, {})
    name, schema = parameters[0]
    return Call(tool.name, {name: list(texts[: schema.get("maxItems")]) if schema.get("type") == "array" else texts[0]})


class _Talk:
    """The conversation of one episode, and which reply holds which text."""

    def __init__(self, how: Refiner, task: Task, tools: Sequence[Tool]) -> None:
        self.how, self.task = how, task
        self.tool = self.submit = None
        if tools:
            self.tool = _named(how.tool or str(task.meta.get("check", "")), tools) or tools[0]
            self.submit = _named(str(task.meta.get("submit", "")), tools)
        self.messages = opening(task, how.system or str(task.meta.get("proposal", "")))
        self.replies: list[tuple[Message, str]] = []

    def propose(self, candidates: Sequence[Candidate]) -> Flow[list[str]]:
        """Tell what became of the last proposal, and ask for the next one."""
        failed = False
        if self.replies:
            last = next(one for one in reversed(candidates) if one.text == self.replies[-1][1])
            repeated = any(text == last.text for _, text in self.replies[:-1])
            failed = last is not max(candidates, key=lambda one: one.checked.score)
            hint = self.how.critic(self.task, candidates) if self.how.critic else ""
            advice = hint if isinstance(hint, str) else (yield from hint)
            words = (_REPEATED if repeated else "") + self.how.tell(last.checked)
            self.messages.append(Message("user", "\n".join(filter(None, (words, advice)))))
        heats = self.how.temperatures
        heat = None if heats is None else heats[failed]
        request = Ask(tuple(self.messages), max_tokens=self.how.max_tokens, temperature=heat)
        (reply,) = yield from ask(request)
        self.messages.append(reply.message)
        self.replies.append((reply.message, self.how.read(reply)))
        return [self.replies[-1][1]]

    def check(self, text: str) -> Flow[Checked]:
        """Check one proposal."""
        if self.tool is None:
            return Checked(0.0, solved=True)
        if not text:
            return Checked(-math.inf, feedback=_NOTHING)
        (observation,) = yield from use(_call(self.tool, [text]))
        return read_check(observation)

    def answer(self, refined: Refined) -> Flow[Answer]:
        """Return the best proposal, or what the world makes of the best ones; None where none could be checked."""
        texts = [one.text for one in ranked(refined) if one.text and one.checked.score > -math.inf]
        if not texts or self.submit is None:
            return texts[0] if texts else None
        (observation,) = yield from use(_call(self.submit, texts))
        return observation.text if observation.terminal else texts[0]

    def leaves(self, refined: Refined, session: Session, answer: Answer) -> Leaves:
        """Return the record: the path to the best proposal, and what was said of every one."""
        best = refined.best
        checks = {candidate.text: candidate.checked for candidate in refined.candidates}
        after, steps = None, []
        for message, text in self.replies:
            checked, state = checks[text], "answer" if text == best.text else "open"
            notes = {"state": state, "value": checked.score, "said": checked.feedback, "data": checked.data}
            steps.append(Step(message, after, notes))
            after = message
        last = next((message for message, text in self.replies if text == best.text), self.replies[-1][0])
        leaf = Leaf(last, answer, "answer" if answer is not None else "turns", dict(session.final()))
        return Leaves((leaf,), tuple(steps))


_ADVICE = (
    "You advise someone who improves a text by trial and measurement. Say in one sentence which idea should be tried "
    "next, or what is wrong with the last attempt. Do not write the text yourself."
)


def advised(*, role: str = "critic", max_tokens: int = 128) -> Critic:
    """Return the critic that asks a model under ``role``, which is shown the task and what became of every proposal."""

    def critic(task: Task, candidates: Sequence[Candidate]) -> Flow[str]:
        tried = "\n\n".join(f"{one.text}\n{one.checked.feedback}".strip() for one in candidates)
        text = f"{plain_text(task.conversation[-1])}\n\nTried so far:\n\n{tried}"
        messages = (Message("system", _ADVICE), Message("user", text))
        (reply,) = yield from ask(Ask(messages, max_tokens=max_tokens, role=role))
        return plain_text(reply.message).strip()

    return critic


AGENTS = {"refine": Refiner}
