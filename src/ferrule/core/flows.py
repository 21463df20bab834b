"""What agents yield and return, and who answers: policies, sessions and worlds.

An agent is a generator: it yields requests (``Ask`` a model, ``Use`` tools, or a tuple of both) and is sent the
replies and observations. It does no I/O itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from ferrule.core.records import Answer, Call, Finish, Message, Observation, Reply, Score, Task, Tool, Trajectory

__all__ = [
    "Agent",
    "Ask",
    "Flow",
    "Leaf",
    "Leaves",
    "Policy",
    "Reward",
    "Sampling",
    "Session",
    "Step",
    "Use",
    "World",
    "ask",
    "use",
]


@dataclass(frozen=True, slots=True)
class Leaf:
    """How one branch of an episode ended: ``reply`` is its last model message, the very object that was received."""

    reply: Message
    answer: Answer = None
    finish: Finish = "answer"
    final: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """Where a reply stands in the tree of a search: ``after`` is the reply that it goes on from, None at the root.

    Both are the very objects that were received. ``notes`` is what the agent knew of the step in the end (its value,
    visits, how it ended); it becomes ``Turn.notes``.
    """

    reply: Message
    after: Message | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Leaves:
    """What an agent returns that followed several branches: one trajectory per leaf, in this order.

    Turns on the way to no leaf were given up: they make trajectories that ended ``discarded``, which cost tokens but
    are neither scored nor trained on. ``steps`` says where replies stand whose contexts do not show it, because what
    the model was shown was rewritten; other replies follow the one whose context they extend.
    """

    leaves: tuple[Leaf, ...]
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of a reply are drawn beyond its temperature; the defaults draw from the whole distribution.

    ``top_k`` (0: all) and ``top_p`` keep the most probable tokens. ``bias`` is added to logits (token id or text of one
    token). ``ban`` lists token ids and texts that are never written. ``allowed(ids so far)`` returns the only ids that
    may come next, or ``None`` for all. ``ignore_end`` samples on past the end token, up to the token limit.
    Log-probs of a reply stay those of the whole distribution, which is what a learner scores.
    """

    top_k: int = 0
    top_p: float = 1.0
    bias: Mapping[int | str, float] = field(default_factory=dict)
    ban: tuple[int | str, ...] = ()
    allowed: Callable[[tuple[int, ...]], Sequence[int] | None] | None = None
    ignore_end: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to the model, as an agent yields it.

    ``role`` names which policy answers when several are at hand. ``prefill`` is text the reply must start with
    (never trained on). ``begun`` are ids that the model sampled earlier under the same context (and after ``prefill``),
    cut at any token: the reply goes on from exactly those. They are part of ``Reply.given``, so that nothing is trained
    on twice, and ``Reply.message`` is read from them and the new ids together. ``must_call`` names a tool: the reply is
    a call of it. ``max_tokens`` bounds the new ids; with 0 nothing is written and no turn is recorded.

    ``want`` names what a reply's ``extras`` should hold as well: ``"entropy"`` (per token), ``"hidden"`` (the last
    hidden state the last token was drawn from), ``"top_logps:5"`` (per token the most probable ones, each with its
    log-prob; ids from local models, texts from servers), ``"top_texts:5"`` (the same with texts from
    all), ``"pieces"`` (per token the text it adds), ``"score"`` (the log-probs of the ids that ``prefill`` and
    ``begun`` stand for; ``"scored"`` holds those ids), ``"head:NAME"`` (what a head beside the model says: a number per
    reply, or one per token). A policy that lacks what an ask needs is refused before it is asked
    (``ferrule.core.powers``).

    ``notes`` say something of the ask in the record (which entries of a memory its messages hold); they become
    ``Turn.notes`` and reach no policy.

    The driver fills three fields: ``context`` holds the ids of the turn this ask extends, ``fresh`` the index of the
    first message that is not part of it, ``seed`` the sampling seed. An ask that goes on from another episode brings
    ``context`` and ``fresh`` along; they stay as they are where it extends no turn of its own episode.
    """

    messages: tuple[Message, ...]
    n: int = 1
    tools: tuple[Tool, ...] = ()
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    temperature: float | None = None
    prefill: str = ""
    role: str = "solver"
    want: tuple[str, ...] = ()
    begun: tuple[int, ...] = ()
    must_call: str = ""
    context: tuple[int, ...] = ()
    fresh: int = 0
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    notes: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Use:
    """A request to run tool calls, as an agent yields it.

    Calls of tools that only read (``Tool.effects``) run at the same time; when one of the calls may change state, all
    of the ``Use`` run in their order. ``session`` is a branch of the episode (``Session.fork``) that the calls belong
    to; None is the episode itself.
    """

    calls: tuple[Call, ...]
    session: Session | None = field(default=None, repr=False, compare=False)


T = TypeVar("T")


Flow: TypeAlias = Generator["Ask | Use | tuple[Ask | Use, ...]", Any, T]


"""An agent's body: what it yields is carried out and sent back, a tuple all at once and its results in order."""


def ask(request: Ask) -> Flow[tuple[Reply, ...]]:
    """Yield an ``Ask`` and return its ``n`` replies, typed: ``replies = yield from ask(Ask(messages))``."""
    replies = yield request
    return tuple(replies)


def use(*calls: Call, session: Session | None = None) -> Flow[tuple[Observation, ...]]:
    """Yield a ``Use`` and return one observation per call, in order; ``session`` is a branch to run them in."""
    observations = yield Use(calls, session)
    return tuple(observations)


@runtime_checkable
class Session(Protocol):
    """One episode of a world: its tools, the act of calling them, branching, and closing."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Tools on offer now."""
        ...

    def act(self, call: Call) -> Observation:
        """Run one call; every failure is an observation."""
        ...

    def fork(self) -> Session:
        """Return an independent session in the same state, budgets included."""
        ...

    def final(self) -> Mapping[str, Any]:
        """Return the part of the state that a verifier may read."""
        ...

    def close(self) -> None:
        """Free what the session holds; may be called twice."""
        ...


@runtime_checkable
class World(Protocol):
    """Where tasks come from and are acted out."""

    @property
    def name(self) -> str:
        """Name used in ``Task.world``."""
        ...

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return at most ``count`` tasks of ``split`` (``train`` or ``test``), the same for the same seed.

        No task comes twice; fewer than ``count`` come back when the world holds no more.
        """
        ...

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session for a task."""
        ...


class Policy(Protocol):
    """A model: one list of ``ask.n`` replies for every ask, in order."""

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks."""
        ...


Agent: TypeAlias = Callable[[Task, Session], Flow[Answer] | Flow[Leaves]]


Reward: TypeAlias = Callable[[Task, Sequence[Trajectory]], Sequence[Score]]
