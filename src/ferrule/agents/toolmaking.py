"""Makers, users and dispatchers: a strong model writes a function for a class of questions, a weak one calls it.

What a maker made is a text: the function, and for some questions the code that answers them. Its user writes such code
for a new question, and a dispatcher says to which class a question belongs.

Source: "Large Language Models as Tool Makers" (43).
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from ferrule.agents.code import fresh_python
from ferrule.chat.program import read_literal
from ferrule.core.flows import Ask, Flow, Session, ask, use
from ferrule.core.records import Answer, Call, Message, Observation, Task, plain_text

__all__ = [
    "UNKNOWN", "ToolUser", "WrappedTool", "answer_variable", "code_blocks", "dispatched", "make_wrapped", "normalised",
]  # fmt: skip

UNKNOWN = "unknown"
"""What a dispatcher says of a question that belongs to no known class."""
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
_OPTION = re.compile(r"^\s*\(([A-Z])\)\s*(.*?)\s*$", re.MULTILINE)
_NUMBERS = {str(number): f"({letter})" for number, letter in enumerate("ABCDEFGHIJ", 1)}
_LETTERS = {letter: f"({letter})" for letter in "ABCDEFGHIJ"}
NO_SLOT = "No time slot works."


def code_blocks(text: str) -> list[str]:
    """Return the fenced blocks of a text that are tagged ``python`` and begin on a new line."""
    return [code.strip("\n") for code in _BLOCK.findall(text)]


def answer_variable(code: str) -> str:
    """Return the name beginning with ``ans`` that a code assigns last; empty where there is none."""
    names = re.findall(r"(?<![\w.])(ans\w*)\s*=(?!=)", code)
    return names[-1] if names else ""


def normalised(value: Any, question: str) -> str:
    """Return the answer that a value stands for: the label of an option where the question has some, else its text.

    No value is the answer that no time works, a pair a span of time. Where there are options, numbers 1 to 10 and
    letters A to J are theirs, and a value that names none is the first one whose line holds it.
    """
    if value is None:
        return NO_SLOT
    if isinstance(value, tuple | list) and len(value) == 2:
        return f"{value[0]} - {value[1]}"
    text = str(value)
    options = dict(_OPTION.findall(question.partition("Options:")[2]))
    known = {*options, *(f"({letter})" for letter in options)}
    if options and text not in known:
        text = next((f"({letter})" for letter, line in options.items() if text in f"({letter}) {line}"), text)
    return {**_NUMBERS, **_LETTERS}.get(text, text) if options else text


@dataclass(frozen=True)
class WrappedTool:
    """What a maker made of a class of questions: the source of the function, and the text that its user is shown.

    ``problem`` says why there is none (``text`` is empty then); ``asks`` is how often the maker was asked.
    """

    source: str = ""
    text: str = ""
    problem: str = ""
    asks: int = 0


def make_wrapped(
    train: Sequence[Task], validation: Sequence[Task], *, tries: int = 3, verify: bool = True, role: str = "maker",
    max_tokens: int = 2048, temperature: float | None = 0.3,
) -> Flow[WrappedTool]:  # fmt: skip
    """Let a maker propose a function from ``train``, write tests of it from ``validation``, and wrap both for a user.

    All of it is one dialogue. A function that cannot be run, and tests that fail, are written again at most ``tries``
    times each. Tests count when they carry out an assertion for every question. Without ``verify`` nothing is tested,
    and the function is taken as it is once it runs.
    """
    how: dict[str, Any] = {"role": role, "max_tokens": max_tokens, "temperature": temperature}
    talk = [Message("user", f"{_pairs(train)}\n\n{_PROPOSE}")]
    with closing(fresh_python()) as python:
        source, problem, asks = yield from _until(talk, python, "", 0, _FIX, tries, how)
        if problem:
            return WrappedTool(source, "", f"no function could be run: {problem}", asks)
        if not verify:
            return WrappedTool(source, f"```python\n{source}\n```", "", asks)
        talk.append(Message("user", f"{_pairs(validation)}\n\n{_VERIFY}"))
        _, problem, more = yield from _until(talk, python, source, len(validation), _FIX_CALLS, tries, how)
    if problem:
        return WrappedTool(source, "", f"the tests fail: {problem}", asks + more)
    talk.append(Message("user", _WRAP))
    (reply,) = yield from ask(Ask(tuple(talk), **how))
    return WrappedTool(source, plain_text(reply.message), "", asks + more + 1)


def _until(
    talk: list[Message], python: Session, source: str, asserts: int, fix: str, tries: int, how: Mapping[str, Any]
) -> Flow[tuple[str, str, int]]:
    """Ask for code until it runs after ``source`` and carries out ``asserts`` assertions; return it, or what failed."""
    code, problem = "", "no code"
    for number in range(tries):
        (reply,) = yield from ask(Ask(tuple(talk), **how))
        talk.append(reply.message)
        code = "\n\n".join(code_blocks(plain_text(reply.message)))
        problem = yield from _ran(python, source, code, asserts)
        if not problem:
            return code, "", number + 1
        if number + 1 < tries:
            talk.append(Message("user", fix.format(problem=problem)))
    return code, problem, tries


def _ran(python: Session, source: str, code: str, asserts: int) -> Flow[str]:
    """Run code in a fresh interpreter, and return what went wrong."""
    if not code.strip():
        return "the reply has no block of Python"
    (observation,) = yield from use(Call("python", {"code": _counted(f"{source}\n\n{code}")}), session=python)
    problem = _problem(observation)
    if problem:
        return problem
    ran = read_literal(str(observation.data["value"])) if isinstance(observation.data, Mapping) else 0
    return "" if (ran or 0) >= asserts else f"{ran} assertions are carried out; {asserts} are needed"


def _problem(observation: Observation) -> str:
    if observation.status == "ok":
        return ""
    data = observation.data if isinstance(observation.data, Mapping) else {}
    lines = str(data.get("exception") or observation.text).strip().splitlines()
    return (lines or [observation.status])[-1]


class _Counting(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> Any:
        return [ast.parse("_asserted.append(1)").body[0], node]


def _counted(code: str) -> str:
    """Return code whose last expression is the number of assertions that it carried out; as it is where it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = _Counting().visit(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code
    return f"_asserted = []\n{ast.unparse(ast.fix_missing_locations(tree))}\nlen(_asserted)"


def dispatched(task: Task, known: Mapping[str, str], *, role: str = "dispatcher", max_tokens: int = 256) -> Flow[str]:
    """Ask to which class a question belongs: a name of ``known``, which has a question of each, or ``UNKNOWN``."""
    listed = "\n\n".join(f"Task: {name}\nQuestion: {question}" for name, question in known.items())
    text = (
        f"These are known kinds of questions, with an example each:\n\n{listed}\n\nQuestion: {task.prompt}\n\nTo which "
        f"kind does the last question belong? Reply 'Task: name', or 'Task: {UNKNOWN}' if it fits none."
    )
    (reply,) = yield from ask(Ask((Message("user", text),), role=role, max_tokens=max_tokens, temperature=0.0))
    said = re.search(r"Task:[ \t]*(.+)", plain_text(reply.message))
    name = said[1].strip().strip("'\"`*. ") if said else ""
    return name if name in known else UNKNOWN


@dataclass(frozen=True)
class ToolUser:
    """Answer with a tool that was made for the class of the question: the model writes the call, the sandbox runs it.

    ``tools`` holds what a maker made by class. The class is ``meta[label]``, or what a dispatcher says where ``known``
    has an example of each; a question of no class that has a tool gets no answer.
    """

    tools: Mapping[str, WrappedTool] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)
    label: str = "class"
    role: str = "solver"
    max_tokens: int = 256

    def __call__(self, task: Task, session: Session) -> Flow[Answer]:
        """Play one episode."""
        kind = (yield from dispatched(task, self.known)) if self.known else str(task.meta.get(self.label, ""))
        tool = self.tools.get(kind)
        if tool is None or not tool.text:
            return None
        shown = (Message("user", f"{tool.text}\n\nQuestion: {task.prompt}\n\n{_USE}"),)
        (reply,) = yield from ask(Ask(shown, role=self.role, max_tokens=self.max_tokens, temperature=0.0))
        with closing(fresh_python()) as python:
            return (yield from _answer(python, tool.text, plain_text(reply.message), task.prompt))


def _answer(python: Session, wrapped: str, said: str, question: str) -> Flow[Answer]:
    """Run the function and the first block of a reply; None where it fails or assigns no answer."""
    blocks = [(code_blocks(text) or [""])[0] for text in (wrapped, said)]
    code = "\n\n".join(blocks)
    name = answer_variable(blocks[1])
    if not name:
        return None
    (observation,) = yield from use(Call("python", {"code": f"{code}\n(({name}),)"}), session=python)
    if observation.status != "ok" or not isinstance(observation.data, Mapping):
        return None
    value = read_literal(str(observation.data["value"]))
    return normalised(value[0], question) if isinstance(value, tuple) else None


def _pairs(tasks: Sequence[Task]) -> str:
    return "\n\n".join(f"Question: {task.prompt}\nAnswer: {task.answer}" for task in tasks)


_PROPOSE = (
    "Write one generic Python function that solves every question of this kind, given its parts as arguments. Use only "
    "the standard library, and put the code into a ```python block."
)
_FIX = "The function cannot be run: {problem}. Write it again, whole."
_VERIFY = (
    "Write a test for each of these questions, in one ```python block: parse the question into the arguments of the "
    "function; call it and store what it returns in ret; where there are options, parse them; convert ret into the "
    "answer ans; assert that ans equals the answer. The function is there; do not repeat it."
)
_FIX_CALLS = "The tests fail: {problem}. The function stays as it is; write the tests again, with other calls of it."
_WRAP = (
    "Restate the function in a ```python block of its own. Then write, for each question of the tests, the question "
    "and a ```python block with the code that answers it: arguments, call, ret, ans, and no assertion."
)
_USE = "Write the code that answers the question, in one ```python block, as in the examples; store the answer in ans."
