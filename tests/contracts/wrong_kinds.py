"""Deliberately wrong agents, codecs, worlds and policies, one per promise; the suite must catch every one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.toys import Bench, Prober, layout, tiny_policy

from ferrule.chat.codec import codec
from ferrule.chat.hermes import Hermes
from ferrule.core.demonstration import Demonstration
from ferrule.core.flows import Ask, Session, Use
from ferrule.core.records import Call, Message, Observation, Reply, Task, Tool
from ferrule.policies.scripted import Scripted
from ferrule.tools.budget import Budget
from ferrule.worlds.session import ToolSession

# --------------------------------------------------------------------------------------------------------------- agents


def yields_junk(task: Task, session: Session) -> Any:
    yield Ask((Message("user", "x"),))
    yield "junk"


def yields_junk_beside_an_ask(task: Task, session: Session) -> Any:
    yield (Ask((Message("user", "x"),)), "junk")


def yields_nothing_to_wait_for(task: Task, session: Session) -> Any:
    yield ()


def uses_a_tuple(task: Task, session: Session) -> Any:
    yield Use(((Call("note"),),))  # type: ignore[arg-type]


def asks_for_ever(task: Task, session: Session) -> Any:
    messages = [Message("user", "x")]
    while True:
        (reply,) = yield Ask(tuple(messages), max_tokens=5)
        messages += [reply.message, Message("user", "more")]


def acts_for_ever(task: Task, session: Session) -> Any:
    while True:
        yield Use(())


def trusts_the_model(task: Task, session: Session) -> Any:
    """Takes for granted that a reply has a call."""
    (reply,) = yield Ask((Message("user", "x"),), tools=session.tools)
    (seen,) = yield Use((reply.message.calls[0],))
    return seen.text


DICE: list[int] = []


def rolls_dice(task: Task, session: Session) -> Any:
    """Depends on something besides its seed: how often it was run before."""
    DICE.append(1)
    yield Ask((Message("user", f"throw {len(DICE)}"),))
    return "x"


AGENTS = {
    "yields Ask or Use only": yields_junk,
    "yields Ask or Use only: agent yielded str": yields_junk_beside_an_ask,
    "yields Ask or Use only: agent yielded a Use of ((Call(": uses_a_tuple,
    "yields Ask or Use only: agent yielded an empty tuple": yields_nothing_to_wait_for,
    "ends by itself": asks_for_ever,
    "ends by itself: more than 40 rounds": acts_for_ever,
    "never raises": trusts_the_model,
    "same seed, same record": rolls_dice,
}

# --------------------------------------------------------------------------------------------------------------- codecs


class Raises(Hermes):
    def read(self, text: str) -> Message:
        if "{" in text and "}" not in text:
            raise KeyError("no closing brace")
        return super().read(text)


class Forgets(Hermes):
    def read(self, text: str) -> Message:
        message = super().read(text)
        return replace(message, calls=tuple(replace(c, arguments={}) for c in message.calls))


class Adds(Hermes):
    def write(self, message: Message) -> str:
        return super().write(message) + "\n"


class Blurts(Hermes):
    def read(self, text: str) -> Message:
        return super().read(text.replace("<think>", "").replace("</think>", ""))


class Hurries(Hermes):
    def read(self, text: str) -> Message:
        message = super().read(text)
        return replace(message, calls=tuple(replace(c, repairs=()) for c in message.calls))


class Alters(Hermes):
    said = 0

    def read(self, text: str) -> Message:
        Alters.said += 1
        return replace(super().read(text), content=f"{Alters.said}")


class Overreaches(Hermes):
    def spans(self, text: str) -> Any:
        return (("call", 0, len(text) + 1),)


class Silent(Hermes):
    def show(self, message: Message) -> str:
        return "done"


class Speaks(Hermes):
    def describe(self, tools: Sequence[Tool]) -> str:
        return "You may call search."


CODECS = {
    "never raises": Raises(),
    "reads what it wrote": Forgets(),
    "same text, same message": Alters(),
    "spans lie in the text": Overreaches(),
    "shows results": Silent(),
    "nothing to say without tools": Speaks(),
    "carries plain text": Adds(),
    "reads no call inside thinking": Blurts(),
    "runs no call that was cut off": Hurries(),
}

# ---------------------------------------------------------------------------------------------------------------- tools


def wrong_tool(description: str = "d", run: Any = str, **schema: Any) -> Tool:
    whole = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"], **schema}
    return Tool("wrong", description, whole, run)


TOOLS = {
    "describes itself": wrong_tool(description=" "),
    "parameters are a schema of an object": wrong_tool(type="string"),
    "required parameters are among the properties": wrong_tool(required=["text", "other"]),
    "parameters have types": wrong_tool(properties={"text": {}}),
    "calls that do not fit say so": wrong_tool(required=[], additionalProperties=True, run=lambda **_: "fine"),
}

# --------------------------------------------------------------------------------------------------------------- worlds


@dataclass(frozen=True)
class World(Bench):
    """The sound world that the wrong ones depart from."""

    name: str = "sound"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        return [replace(t, prompt=f"{split} {i}") for i, t in enumerate(super().tasks(split, count, seed=seed))]


@dataclass(frozen=True)
class Repeating(World):
    """Gives the same tasks again under other ids when they run out."""

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        return [replace(t, prompt=f"{split} {i % 100}") for i, t in enumerate(super().tasks(split, count, seed=seed))]


@dataclass(frozen=True)
class SharedBranch(World):
    """Its sessions fork to themselves."""

    def start(self, task: Task, seed: int = 0) -> Any:
        session = super().start(task, seed)
        session.fork = lambda: session  # type: ignore[method-assign]
        return session


@dataclass(frozen=True)
class SharedState(World):
    """A branch has its own session and the same lines."""

    def start(self, task: Task, seed: int = 0) -> Any:
        session: Any = super().start(task, seed)
        session._state.fork = lambda: session._state
        return session


@dataclass(frozen=True)
class Raising(World):
    def start(self, task: Task, seed: int = 0) -> Any:
        session = super().start(task, seed)
        act = session.act
        session.act = lambda call: {"write": act}[call.name](call)  # type: ignore[method-assign]
        return session


@dataclass(frozen=True)
class Lying(World):
    """Says yes to everything."""

    def start(self, task: Task, seed: int = 0) -> Any:
        session = super().start(task, seed)
        session.act = lambda call: Observation("fine")  # type: ignore[method-assign]
        return session


@dataclass(frozen=True)
class Textual(World):
    """Answers with text."""

    def start(self, task: Task, seed: int = 0) -> Any:
        session = super().start(task, seed)
        session.act = lambda call: "fine"  # type: ignore[assignment, method-assign, return-value]
        return session


@dataclass(frozen=True)
class Random(World):
    drawn: list[int] = field(default_factory=list)

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        self.drawn.append(1)
        return super().tasks(split, count, seed=seed + len(self.drawn))


@dataclass(frozen=True)
class Unstable(World):
    """What the first tasks are depends on how many are asked for."""

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        return super().tasks(split, count, seed=seed)[::-1]


@dataclass(frozen=True)
class Leaking(World):
    """The same tasks in both splits."""

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        return super().tasks("train", count, seed=seed)


@dataclass(frozen=True)
class Unlimited(World):
    def start(self, task: Task, seed: int = 0) -> Any:
        session: Any = super().start(task, seed)
        session._budget = Budget()
        return session


@dataclass(frozen=True)
class Insistent(World):
    """Offers its tools to tasks that want none."""

    def start(self, task: Task, seed: int = 0) -> Any:
        return super().start(replace(task, tools=None), seed)


class CloseOnce(ToolSession):
    def close(self) -> None:
        if self._state == "closed":
            raise RuntimeError("closed already")
        self._state: Any = "closed"


@dataclass(frozen=True)
class Demonstrating(World):
    """A world with reference solutions: write a line twice, then answer ``answered`` (the right answer is yes)."""

    answered: str = "yes"
    tool: str = "write"
    rounds: int = 2

    def demonstrate(self, task: Task) -> Demonstration:
        return Demonstration(((Call(self.tool, {"line": task.id}),),) * self.rounds, self.answered)


@dataclass(frozen=True)
class Wavering(Demonstrating):
    times: list[str] = field(default_factory=list, compare=False)

    def demonstrate(self, task: Task) -> Demonstration:
        self.times.append("again")
        return Demonstration(((Call("write", {"line": " ".join(self.times)}),),), "yes")


WORLDS = {
    "a solution solves its task": (Demonstrating(answered="no"),),
    "every call of a solution works": (Demonstrating(tool="wrote"), Demonstrating(rounds=9)),
    "a solution makes calls": (Demonstrating(rounds=0),),
    "the same solution every time": (Wavering(),),
    "a branch shares no state": (SharedBranch(), SharedState()),
    "every call is answered": (Raising(), Textual()),
    "calls that cannot run say so": (Lying(),),
    "same seed, same tasks": (Random(),),
    "no task comes twice": (Repeating(),),
    "more tasks begin with fewer": (Unstable(),),
    "splits are apart": (Leaking(),),
    "calls are budgeted": (Unlimited(),),
    "the same task without tools": (Insistent(),),
}

# ------------------------------------------------------------------------------------------------------------- policies


def scripted() -> Scripted:
    return Scripted(lambda ask, sample: f"reply {ask.seed % 5} {sample}", renderer=layout())


class Again(Scripted):
    """Makes the ids of a context again from its text."""

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        changed = [
            replace(a, messages=tuple(replace(m, content=f"{m.content} ") for m in a.messages), context=(), fresh=0)
            if a.context
            else a
            for a in asks
        ]
        return super().generate(changed)


class Few(Scripted):
    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return [replies[:1] for replies in super().generate(asks)]


class Unscored(Scripted):
    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return [[replace(r, logps=()) for r in replies] for replies in super().generate(asks)]


class Longwinded(Scripted):
    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return super().generate([replace(a, max_tokens=None) for a in asks])


class Probabilities(Scripted):
    """Reports probabilities where log-probs belong."""

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return [[replace(r, logps=(0.5,) * len(r.sampled)) for r in replies] for replies in super().generate(asks)]


class Moody(Scripted):
    """What it says depends on how much it has said."""

    moods = 0

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        Moody.moods += 1
        return [[replace(r, message=Message("assistant", str(Moody.moods))) for r in x] for x in super().generate(asks)]


class Crowded(Scripted):
    """What it says depends on its neighbours."""

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        return [[replace(r, message=Message("assistant", str(len(asks)))) for r in x] for x in super().generate(asks)]


def wrong(kind: type[Scripted]) -> Any:
    return lambda: kind(lambda ask, sample: f"a long reply {ask.seed % 5} {sample}", renderer=layout())


POLICIES = {
    "ids are append-only": wrong(Again),
    "one list per ask, one reply per sample": wrong(Few),
    "one log-prob per sampled id": wrong(Unscored),
    "no more tokens than allowed": wrong(Longwinded),
    "log-probs are not positive": wrong(Probabilities),
    "same asks, same replies": wrong(Moody),
    "independent of the batch": wrong(Crowded),
}
SOUND_POLICIES = {"scripted": scripted, "local": tiny_policy}
SOUND_AGENT = Prober(turns=2)
SOUND_CODEC = codec("hermes")
