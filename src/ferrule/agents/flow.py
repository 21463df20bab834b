"""What agents have in common: how they open, what counts as an answer, acting on a reply, and running side by side.

``ask`` and ``use`` of ``ferrule.core.records`` are the two steps of a flow; these functions are built from them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from ferrule.core.flows import Ask, Flow, Session, Use, use
from ferrule.core.records import Answer, Call, Message, Observation, Reply, Task, plain_text
from ferrule.worlds.session import SAY

__all__ = [
    "Requests", "acted", "answered", "cut_off", "ended", "opening", "placed", "prefixed", "relayed", "results",
    "returned", "spoken", "together",
]  # fmt: skip

T = TypeVar("T")
Requests: TypeAlias = tuple[Ask | Use, ...]
"""What a flow yields in one round."""


def opening(task: Task, system: str = "", examples: Sequence[Message] = ()) -> list[Message]:
    """Return the messages an episode begins with: ``system`` unless it is empty, ``examples``, and what is asked.

    A task with a system message of its own has it after ``system``, in the same message.
    """
    asked = list(task.conversation)
    if asked[0].role == "system":
        first = prefixed([asked.pop(0)], f"{system}\n\n" if system else "")
    else:
        first = [Message("system", system)] if system else []
    return [*first, *examples, *asked]


def prefixed(messages: Sequence[Message], text: str) -> list[Message]:
    """Return ``messages`` with ``text`` at the start of the last one, which is the question of a task."""
    *before, last = messages
    content = f"{text}{last.content}" if isinstance(last.content, str) else (text, *last.content)
    return [*before, replace(last, content=content)]


def cut_off(reply: Reply) -> bool:
    """Tell whether a reply ended before the model was done with it: at a limit, or because it was given up."""
    return reply.finish not in ("stop", "answer")


def answered(reply: Reply, read: Callable[[Message], Answer] | None = None) -> Answer:
    """Return the answer of a reply: its text, or what ``read`` finds. One with calls or cut off has none."""
    if reply.message.calls or cut_off(reply):
        return None
    return read(reply.message) if read is not None else plain_text(reply.message).strip()


def results(
    calls: Sequence[Call], observations: Sequence[Observation], show: Callable[[str], str] = str
) -> list[Message]:
    """Return one tool message per call; ``show`` turns the text of an observation into what the model reads."""
    return [
        Message("tool", show(observation.text), name=call.name, call_id=call.id)
        for call, observation in zip(calls, observations, strict=True)
    ]


def ended(observations: Iterable[Observation]) -> Answer:
    """Return the text of the first observation that ended the episode, which is its answer; None when none did."""
    return next((observation.text for observation in observations if observation.terminal), None)


def acted(
    messages: list[Message],
    reply: Message,
    *,
    calls: Sequence[Call] | None = None,
    session: Session | None = None,
    show: Callable[[str], str] = str,
) -> Flow[Answer]:
    """Run the calls of a reply, append it and its results to ``messages``, and return the answer a call has given.

    None means that the episode goes on. ``calls`` are run in place of the reply's own; ``session`` is the branch they
    run in and ``show`` as in ``results``.
    """
    calls = reply.calls if calls is None else calls
    observations = yield from use(*calls, session=session)
    messages += [reply, *results(calls, observations, show)]
    return ended(observations)


def spoken(messages: list[Message], reply: Message) -> Flow[bool]:
    """Say a reply to the user of the world (``ferrule.worlds.session.SAY``) and append it and what they answer.

    Return whether the dialogue is over.
    """
    (heard,) = yield from use(Call(SAY, {"content": plain_text(reply)}))
    messages += [reply, Message("user", heard.text)]
    return heard.terminal or heard.status != "ok"


def returned(value: Flow[T] | T) -> Flow[T]:
    """Return a value, or what the flow in its place returns: for pieces that may ask a model and need not."""
    return (yield from value) if isinstance(value, Generator) else value


def placed(request: Ask | Use, session: Session) -> Ask | Use:
    """Return a request whose calls run in ``session`` where it names no branch of its own."""
    return Use(request.calls, session) if isinstance(request, Use) and request.session is None else request


def relayed(flow: Flow[T], change: Callable[[Requests], Flow[Requests] | Requests]) -> Flow[T]:
    """Run a flow whose requests are carried out as ``change`` returns them, round by round, and return what it returns.

    ``change`` is given the requests of a round and returns as many, in their order; as a flow it may ask a model first.
    """
    value: Any = None
    try:
        while True:
            wanted = flow.send(value)
            requests = wanted if isinstance(wanted, tuple) else (wanted,)
            changed: Requests = yield from returned(change(requests))
            value = yield changed if isinstance(wanted, tuple) else changed[0]
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()


def together(*flows: Flow[T]) -> Flow[tuple[T, ...]]:
    """Run the bodies of agents side by side and return what they return, in order.

    Each may ask and use, in its own branch (``Use.session``). In every round all that the unfinished flows wait
    for is carried out at once: asks share a batch, calls run at the same time. An exception in one closes the others
    and is raised. Flows may be ``together`` themselves.
    """
    returned: dict[int, T] = {}
    waiting: dict[int, Ask | Use | tuple[Ask | Use, ...]] = {}

    def advance(number: int, value: Any) -> None:
        waiting.pop(number, None)
        try:
            waiting[number] = flows[number].send(value)
        except StopIteration as stop:
            returned[number] = stop.value

    with ExitStack() as closing:
        for flow in flows:
            closing.callback(flow.close)
        for number in range(len(flows)):
            advance(number, None)
        while waiting:
            wanted = dict(waiting)
            requests = [
                part for request in wanted.values() for part in (request if isinstance(request, tuple) else (request,))
            ]
            answers = iter((yield tuple(requests)))
            for number, request in wanted.items():
                advance(number, tuple(next(answers) for _ in request) if isinstance(request, tuple) else next(answers))
    return tuple(returned[number] for number in range(len(flows)))
