"""Programs that a model writes and plays through itself, those of which it plays the undefined parts only, and votes.

Source: "Learning to Reason via Program Generation, Emulation, and Search" (61).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from ferrule.agents.code import fresh_python
from ferrule.agents.flow import together
from ferrule.agents.search import refuse_below_one
from ferrule.chat.program import (
    CALL,
    CODE,
    OUTPUT,
    PseudoProgram,
    answer_of,
    call_of,
    leaf_stub,
    parts_of,
    program_prompt,
    read_output,
    read_program,
)
from ferrule.core.flows import Ask, Flow, Session, ask, use
from ferrule.core.records import Answer, Call, Message, Task, plain_text
from ferrule.tools.program import LeafCall, ran, running

__all__ = ["Emulated", "Execute", "Programmed", "emulate", "execute_mixed", "vote", "write_programs"]


@dataclass(frozen=True)
class Emulated:
    """What playing a program gave: its output and answer, None where unreadable, and the leaves that were asked for.

    ``problem`` says what went wrong in the sandbox.
    """

    call: str = ""
    output: Any = None
    answer: Answer = None
    leaves: tuple[str, ...] = ()
    problem: str = ""


Execute: TypeAlias = Callable[..., Flow[Emulated]]
"""Plays a program for an instruction and an input, and by a given ``call`` where it is not left to the model."""


def write_programs(
    instruction: str, argument: str = "", *, samples: int = 1, temperature: float | None = 0.7, max_tokens: int = 512,
    role: str = "solver",
) -> Flow[list[PseudoProgram]]:  # fmt: skip
    """Ask a model for programs, each with a call and an output of its own, which are dropped."""
    shown = (Message("user", program_prompt(instruction, argument)),)
    request = Ask(
        shown, n=samples, temperature=temperature, max_tokens=max_tokens, role=role, prefill=f"{CODE}\n", stop=(OUTPUT,)
    )
    replies = yield from ask(request)
    return [read_program(plain_text(reply.message)) for reply in replies]


def emulate(
    program: PseudoProgram, instruction: str, argument: str = "", *, call: str = "", temperature: float | None = 0.05,
    max_tokens: int = 512, role: str = "solver",
) -> Flow[Emulated]:  # fmt: skip
    """Let a model play a program: it is given the program, and writes the call (unless it is given) and the output."""
    begun = f"{CODE}\n{program.text}\n" + (f"{CALL} {call}\n{OUTPUT}\n" if call else "")
    shown = (Message("user", program_prompt(instruction, argument)),)
    request = Ask(shown, prefill=begun, temperature=temperature, max_tokens=max_tokens, role=role)
    (reply,) = yield from ask(request)
    text = plain_text(reply.message).removeprefix(begun)
    return Emulated(call or call_of(text), read_output(text), answer_of(text))


def execute_mixed(
    program: PseudoProgram, instruction: str, argument: str = "", *, call: str = "", temperature: float | None = 0.05,
    max_tokens: int = 256, role: str = "solver", most: int = 32, definitions: str = "",
) -> Flow[Emulated]:  # fmt: skip
    """Run what a program defines in the sandbox, and let a model give the results of its undefined leaves only.

    The model writes the call first, unless it is given. ``definitions`` is Python source of leaves that are known: with
    all of them the program is executed truly, and the model plays no part of it. At most ``most`` results of leaves are
    asked for.
    """
    how: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens, "role": role}
    if not call:
        shown = (Message("user", program_prompt(instruction, argument)),)
        begun = f"{CODE}\n{program.text}\n{CALL} {program.name}("
        (reply,) = yield from ask(Ask(shown, prefill=begun, stop=("\n", OUTPUT), **how))
        call = call_of(plain_text(reply.message))
    whole = replace(program, text=f"{definitions}\n{program.text}" if definitions else program.text)
    known: dict[str, Any] = {}
    with closing(fresh_python()) as sandbox:
        while True:
            try:
                source = running(whole, call, known)
            except ValueError as error:
                return Emulated(call, leaves=tuple(known), problem=str(error))
            (observation,) = yield from use(Call("python", {"code": source}), session=sandbox)
            state = ran(observation)
            if state.waits is None or len(known) >= most:
                break
            output = yield from _leaf(program, state.waits, how)
            if output is None:
                return Emulated(call, leaves=tuple(known), problem=f"no result of {state.waits.text} was given")
            known[state.waits.text] = output["answer"]
    problem = state.problem or (f"more than {most} leaves" if state.waits else "")
    value = state.value if isinstance(state.value, dict) else None
    answer = str(value["answer"]) if value is not None and "answer" in value else None
    return Emulated(call, value, answer, tuple(known), problem)


def _leaf(program: PseudoProgram, leaf: LeafCall, how: dict[str, Any]) -> Flow[Any]:
    """Ask for what a leaf gives, as the output of a program that calls nothing else; None where there is no answer."""
    body = f"def solve():\n    return {{'answer': {leaf.text}}}"
    text = "\n".join(filter(None, (leaf_stub(program.text, leaf.name), body)))
    begun = f"{CODE}\n{text}\n{CALL} solve()\n{OUTPUT}\n"
    shown = (Message("user", program_prompt(f"Return what {leaf.name} gives.", leaf.text)),)
    (reply,) = yield from ask(Ask(shown, prefill=begun, **how))
    output = read_output(plain_text(reply.message).removeprefix(begun))
    return output if output is not None and "answer" in output else None


def vote(answers: Iterable[Answer]) -> Answer:
    """Return the answer that most give, unreadable ones (None) left out; of equals the one that comes first."""
    given = Counter(answer for answer in answers if answer is not None)
    return given.most_common(1)[0][0] if given else None


@dataclass(frozen=True)
class Programmed:
    """Answer by programs: given ones, or ``samples`` that the model writes for the task, and a vote over their answers.

    The instruction and the input of a task are ``meta["instruction"]`` and ``meta["input"]``, else its prompt and
    nothing. The model plays a program itself; with ``sandbox`` only its undefined leaves (``execute_mixed``).
    """

    programs: tuple[PseudoProgram, ...] = ()
    samples: int = 1
    sandbox: bool = False
    writing: float = 0.7
    playing: float = 0.05
    max_tokens: int = 512

    def __post_init__(self) -> None:
        """Refuse an agent without programs."""
        refuse_below_one(self, "samples", "max_tokens")

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Play one episode."""
        instruction, argument = parts_of(task)
        limit = self.max_tokens
        programs: Sequence[PseudoProgram] = self.programs or (
            yield from write_programs(
                instruction, argument, samples=self.samples, temperature=self.writing, max_tokens=limit
            )
        )
        execute = partial(execute_mixed if self.sandbox else emulate, temperature=self.playing, max_tokens=limit)
        outcomes = yield from together(*(execute(program, instruction, argument) for program in programs))
        return vote(outcome.answer for outcome in outcomes)


AGENTS = {"program": Programmed}
