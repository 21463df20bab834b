"""Frozen records that describe tasks, tool calls, model turns and whole trajectories.

A change is ``dataclasses.replace``. Fields that only measure the machine (wall-clock seconds) do not take
part in equality, so that two runs of the same seed compare equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any, Literal, TypeAlias

from ferrule.core.described import described

__all__ = [
    "Answer",
    "Artifact",
    "Call",
    "Effect",
    "Finish",
    "Image",
    "Message",
    "Observation",
    "Part",
    "Reply",
    "Role",
    "Score",
    "Span",
    "Status",
    "Task",
    "Tool",
    "Trajectory",
    "Turn",
    "plain_text",
]

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Status: TypeAlias = Literal["ok", "error", "timeout", "refused", "unknown_tool", "malformed"]
Effect: TypeAlias = Literal["read", "write", "irreversible"]
Finish: TypeAlias = Literal["stop", "length", "answer", "turns", "budget", "cancelled", "discarded", "drift", "error"]
Answer: TypeAlias = str | None


@dataclass(frozen=True, slots=True)
class Image:
    """An image part of a message: a path or ``data:`` URL and its media type."""

    source: str
    media: str = "image/png"


Part: TypeAlias = str | Image


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a tool call left: its name, media type, size (bytes), and its content as a ``data:`` URL.

    ``source`` is empty when the file was too large to be brought along.
    """

    name: str
    media: str
    size: int
    source: str = field(default="", repr=False)

    @property
    def image(self) -> Image | None:
        """The file as an image part of a message; None when it is not an image."""
        return Image(self.source, self.media) if self.source and self.media.startswith("image/") else None


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call as a model wrote it.

    ``problem`` is empty for a well-formed call; otherwise it says why the text could not be read as one, and
    the call is answered by an observation of status ``malformed``. ``repairs`` names every liberty the codec
    took to read it. ``raw`` is the exact text the call was read from.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    raw: str = ""
    problem: str = ""
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of a tool call: text for the model, a status, and data that the model does not see.

    ``status`` is ``ok``, ``error`` (the tool failed), ``timeout``, ``refused`` (by a budget or a rule),
    ``unknown_tool`` or ``malformed``. Tool trouble is data, never an exception. ``seconds`` (wall time) and
    ``peak_mb`` (the most memory that the tool's process has held, MiB; 0 where unknown) measure the machine and are
    left out of comparisons. ``repairs`` names the coercions of arguments that were applied.
    """

    text: str
    status: Status = "ok"
    data: Any = None
    artifacts: tuple[Artifact, ...] = ()
    seconds: float = field(default=0.0, compare=False)
    repairs: tuple[str, ...] = ()
    terminal: bool = False
    peak_mb: float = field(default=0.0, compare=False)

    @property
    def executed(self) -> bool:
        """True when the tool really ran (status ok, error or timeout)."""
        return self.status in ("ok", "error", "timeout")

    @property
    def counted(self) -> bool:
        """True for a call that counts (``ferrule.core.tally``): its tool ran and the episode went on."""
        return self.executed and not self.terminal


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message; assistant messages may carry calls, tool messages name the call they answer."""

    role: Role
    content: str | tuple[Part, ...] = ""
    calls: tuple[Call, ...] = ()
    name: str = ""
    call_id: str = ""


def plain_text(message: Message) -> str:
    """Return the text of a message, leaving images out."""
    if isinstance(message.content, str):
        return message.content
    return "".join(part for part in message.content if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Tool:
    """A named callable with a JSON schema of its parameters.

    ``run`` takes the validated arguments as keywords and returns a value or an ``Observation``; it may be async.
    ``terminal`` ends the episode and is not counted as cost. ``cost`` is in calls. ``seconds`` is the time limit
    of one call. ``effects`` says what a call does beyond its result: ``read`` nothing, ``write`` changes state that
    belongs to the session (and is branched with it), ``irreversible`` changes the world outside. A call of an
    ``idempotent`` tool may be made twice with the effect of one. ``output`` is a JSON schema of the result, where
    one is known.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[..., Any] = field(repr=False, compare=False)
    terminal: bool = False
    cost: float = 1.0
    effects: Effect = "read"
    seconds: float = 10.0
    idempotent: bool = False
    output: Mapping[str, Any] | None = None

    @classmethod
    def from_schema(cls, schema: Mapping[str, Any], run: Callable[..., Any] | None = None) -> Tool:
        """Return the tool that a schema describes, for data that bring no functions.

        ``schema`` has ``name``, ``description`` and ``parameters``, itself or under ``function`` (see
        ``ferrule.core.described``). Without ``run`` the tool can be offered, and a call of it is refused. Raises
        ``ValueError`` for what is not such a schema.
        """
        name, description, parameters = described(schema)
        return cls(name, description, parameters, run or partial(_no_function, name))


def _no_function(name: str, **arguments: Any) -> Observation:
    return Observation(f"{name!r} has no function behind it, only a schema", "refused")


@dataclass(frozen=True, slots=True)
class Task:
    """One problem: a prompt, the expected answer, the world it lives in, and free ``meta``.

    ``tools=None`` offers all tools of the world, ``()`` none (the same task without tools), and a tuple of names
    a subset. ``meta["verifier"]`` names how an answer is compared (default ``exact``); ``meta["state"]``, when
    given, is the part of the final world state that must hold as well. ``messages`` is what the model is asked where
    that is more than one text (a system message, earlier turns, images); ``prompt`` is then the text of its last one.
    """

    id: str
    prompt: str
    answer: Any = None
    world: str | None = None
    tools: tuple[str, ...] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()

    @property
    def conversation(self) -> tuple[Message, ...]:
        """What the model is asked: ``messages``, or the prompt as one user message."""
        return self.messages or (Message("user", self.prompt),)


@dataclass(frozen=True, slots=True)
class Span:
    """A labelled stretch ``[start, stop)`` of a turn's sampled token ids (think, call, answer, fold, ...)."""

    label: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What a policy returns for one sample of one ask.

    ``given`` holds all ids the model was fed before its first sampled id (context and ``Ask.begun`` included);
    ``sampled`` the ids it wrote, and ``logps`` their log-probabilities under the sampling distribution (nats). Policies
    without token access leave the three empty. ``extras`` carries what ``Ask.want`` asked for.
    """

    message: Message
    given: tuple[int, ...] = ()
    sampled: tuple[int, ...] = ()
    logps: tuple[float, ...] = ()
    finish: Finish = "stop"
    spans: tuple[Span, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """One model turn, stored as the difference to its parent.

    ``given`` are the ids added since the parent's last sampled id (the whole prompt when ``parent`` is None) and
    ``sampled`` the ids the model wrote; joined along a path they are exactly what the model saw. ``messages``
    are the messages that ``given`` renders; ``reply`` is the model's message and ``observations`` answer
    ``reply.calls`` one for one. ``notes`` is what an agent noted: of the ask (``Ask.notes``), or of the step in a
    search.
    """

    id: int
    parent: int | None
    given: tuple[int, ...]
    sampled: tuple[int, ...]
    logps: tuple[float, ...]
    reply: Message
    messages: tuple[Message, ...] = ()
    observations: tuple[Observation, ...] = ()
    spans: tuple[Span, ...] = ()
    finish: Finish = "stop"
    role: str = "solver"
    notes: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def pairs(self) -> tuple[tuple[Call, Observation | None], ...]:
        """Every call with its observation, None where it was never run."""
        return tuple(zip_longest(self.reply.calls, self.observations[: len(self.reply.calls)]))


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A root-to-leaf path of turns with its answer; branches of a tree share ``Turn`` objects.

    A turn whose ``parent`` is not the turn before it starts a new segment (its context was rewritten). ``final``
    is what the session reports about the world's state at the end. ``others`` are the paths of the same episode under
    other roles (a judge, a critic) as rewards get them; episode files hold them beside this one.
    """

    task: Task
    turns: tuple[Turn, ...]
    answer: Answer = None
    finish: Finish = "answer"
    role: str = "solver"
    final: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    others: tuple[Trajectory, ...] = field(default=(), compare=False, repr=False)

    @property
    def calls(self) -> tuple[tuple[Call, Observation], ...]:
        """All answered calls of the path with their observations, in order."""
        return tuple(pair for turn in self.turns for pair in zip(turn.reply.calls, turn.observations, strict=False))

    @property
    def sampled_count(self) -> int:
        """Number of tokens that the model itself wrote."""
        return sum(len(turn.sampled) for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Score:
    """A reward for one trajectory: a scalar, optional values per turn, and named parts (channels).

    ``group`` tells apart which trajectories of a task are compared with each other (all of them when it is the same).
    ``drop`` takes the trajectory out of training; filters still see it.
    """

    value: float
    turns: tuple[float, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    drop: bool = False
