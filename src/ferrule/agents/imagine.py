"""A prober in one dialogue: it imagines a request, solves it with the tool, judges itself, and imagines the next one.

The dialogue is a short-term memory, in which trials build on one another; the list of all earlier trials is a long-term
memory, which is shown when a request is imagined and does not stay in the dialogue. Source: "LLMs in the Imaginarium:
Tool Learning through Simulated Trial and Error" (19).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ferrule.agents.flow import answered, results
from ferrule.agents.probe import Diverse, Idea, Probed, Trial, probe
from ferrule.core.flows import Ask, Flow, Session, ask, use
from ferrule.core.records import Call, Message, Observation, Tool, plain_text
from ferrule.rewards.tooleval import read_label
from ferrule.tools.overlay import ToolText

__all__ = ["Dialogue", "ReadSolved", "imagine", "remembered", "solved_in"]

_FIRST = (
    "You try the tool {name}: {description}\nImagine a request that a person could make and that one call answers. "
    "Be natural and specific: give all values that are needed, and do not name the tool. Reply with the request alone."
)
_NEXT = "Imagine another request for the same tool, one that shows something new of it. Reply with the request alone."
_MEMORY = "Requests so far:\n{lines}\nImagine one that is not too close to these, and that is not solved yet."
_SOLVE = "Now answer the request with the tool."
_REFLECT = "Did you do what the request asked for? Reply with Yes or No."

ReadSolved: TypeAlias = Callable[[str], "bool | None"]
"""Reads what a model says of its own trial."""


def solved_in(text: str) -> bool | None:
    """Read Yes or No as whole words in any case; None where there is neither, or both."""
    label = read_label(text, ("yes", "no"))
    return None if label is None else label == "yes"


def remembered(trials: Sequence[Trial]) -> str:
    """Return the long-term memory: a line ``Query: ... | Solved: Yes`` (or ``No``) per trial that had a request."""
    return "\n".join(
        f"Query: {' '.join(trial.query.split())} | Solved: {'Yes' if trial.solved else 'No'}"
        for trial in trials
        if trial.query.strip()
    )


@dataclass
class Dialogue:
    """The dialogue of one episode, whose parts ``agents.probe.probe`` takes.

    Trials act in branches of ``session``, in at most ``turns`` replies of ``max_tokens`` each, at ``temperature``;
    results are cut to ``limit`` characters. ``read`` reads what the model says of itself. Unless it ``runs`` its calls
    it sees no results of them, which is an ablation. ``apart`` shows it nothing but the request while it acts, for
    models that follow no dialogue; the dialogue goes on with what they did.
    """

    session: Session
    turns: int = 4
    role: str = "prober"
    max_tokens: int = 360
    temperature: float | None = 1.0
    limit: int = 2048
    read: ReadSolved = solved_in
    runs: bool = True
    apart: bool = False
    messages: list[Message] = field(default_factory=list)

    def invent(self, tool: Tool, trials: Sequence[Trial], complaint: str) -> Flow[Idea]:
        """Imagine a request; the long-term memory is shown for this reply only."""
        text = _NEXT if self.messages else _FIRST.format(name=tool.name, description=tool.description)
        memory = _MEMORY.format(lines=remembered(trials)) if trials else ""
        shown = Message("user", "\n\n".join(filter(None, (text, memory, complaint))))
        reply = yield from self._ask((*self.messages, shown))
        query = plain_text(reply).strip()
        self.messages += [Message("user", text), reply]
        return Idea(query, problem="" if query else "The reply holds no request.")

    def attempt(self, tool: Tool, idea: Idea) -> Flow[Trial]:
        """Answer the request by a loop of calls and results."""
        self.messages.append(Message("user", _SOLVE))
        begun = len(self.messages)
        calls: list[tuple[Call, Observation]] = []
        here = self.session.fork()
        try:
            for _ in range(self.turns):
                own = (Message("user", idea.query), *self.messages[begun:])
                request = Ask(
                    own if self.apart else tuple(self.messages), tools=(tool,), role=self.role,
                    max_tokens=self.max_tokens, temperature=self.temperature,
                )  # fmt: skip
                (reply,) = yield from ask(request)
                self.messages.append(reply.message)
                if not reply.message.calls:
                    return Trial(tool.name, idea.query, tuple(calls), answered(reply))
                observations: Sequence[Observation] = (Observation("", "refused"),) * len(reply.message.calls)
                if self.runs:
                    observations = yield from use(*reply.message.calls, session=here)
                cut = [replace(one, text=one.text[: self.limit]) for one in observations]
                self.messages += results(reply.message.calls, cut)
                calls += zip(reply.message.calls, cut, strict=True)
            return Trial(tool.name, idea.query, tuple(calls))
        finally:
            here.close()

    def judge(self, tool: Tool, trial: Trial) -> Flow[bool | None]:
        """Let the model say whether it did what was asked."""
        self.messages.append(Message("user", _REFLECT))
        reply = yield from self._ask(tuple(self.messages))
        self.messages.append(reply)
        return self.read(plain_text(reply))

    def _ask(self, messages: tuple[Message, ...]) -> Flow[Message]:
        (reply,) = yield from ask(
            Ask(messages, role=self.role, max_tokens=self.max_tokens, temperature=self.temperature)
        )
        # nothing is called here, and servers refuse a dialogue in which a call has no result
        return replace(reply.message, calls=()) if reply.message.calls else reply.message


def imagine(
    tool: Tool, begin: Callable[[], Dialogue], *, episodes: int = 15, slots: int = 4, memory: bool = True,
    reflects: bool = True,
) -> Flow[Probed]:  # fmt: skip
    """Explore a tool in ``episodes`` dialogues of ``slots`` trials each, and return all trials.

    ``begin`` opens a dialogue. Without ``memory`` no earlier trial is shown when a request is imagined, without
    ``reflects`` nobody says whether a trial was solved; one slot is exploration without a short-term memory. Raises
    ``ValueError`` for fewer than one episode.
    """
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}; the least is 1")
    trials: list[Trial] = []
    for _ in range(episodes):
        dialogue = begin()

        def invent(tool: Tool, known: Sequence[Trial], complaint: str, dialogue: Dialogue = dialogue) -> Flow[Idea]:
            return (yield from dialogue.invent(tool, known if memory else (), complaint))

        probed = yield from probe(
            tool, invent, dialogue.attempt, judge=dialogue.judge if reflects else None, rounds=slots,
            diverse=Diverse(limit=2.0, tries=1), trials=trials,
        )  # fmt: skip
        trials = list(probed.trials)
    return Probed(tool.name, tuple(trials), (ToolText(),), "episodes")
