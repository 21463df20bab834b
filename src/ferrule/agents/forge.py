"""Tools that models make: a maker writes a function and its tests, the forge examines them, and a critic reviews.

Maker, critic and curator are roles of their own, so that any policy can play them and what each took is counted apart.

Sources: "Large Language Models as Tool Makers" (43).
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from ferrule.agents.code import blocks_of
from ferrule.agents.flow import cut_off
from ferrule.core.flows import Ask, Flow, Session, ask, use
from ferrule.core.records import Call, Effect, Message, Observation, Reply, Task, Tool, plain_text
from ferrule.tools.forge import Examined, Proposal, agreed, examine
from ferrule.tools.forge_rules import MODULES, Finding, main_function
from ferrule.tools.forge_shelf import Forged, Shelf
from ferrule.tools.forge_trial import Made, Trial
from ferrule.tools.schema import signature
from ferrule.worlds.session import ToolSession

__all__ = ["Forging", "Workbench", "categories", "make_tool", "opinion", "read_proposal", "reviewed_by"]


@dataclass(frozen=True)
class Forging:
    """What making a tool led to: every examination in order, the last of which decides."""

    attempts: tuple[Examined, ...]

    @property
    def last(self) -> Examined:
        """The last examination."""
        return self.attempts[-1]

    @property
    def promotable(self) -> bool:
        """True when the last proposal passed and the critic agreed."""
        return self.last.passed and self.last.critic is True


class Workbench:
    """A session with the one tool ``examine``, so that the driver runs examinations and the record shows them.

    ``results`` holds the examinations by proposal. ``earlier`` are tests that every version must pass, or such tests by
    the name of the tool.
    """

    def __init__(
        self, examples: Sequence[Made] = (), earlier: Sequence[str] | Mapping[str, Sequence[str]] = (),
        trial: Trial | None = None,
    ) -> None:  # fmt: skip
        self.results: dict[Proposal, Examined] = {}
        self._earlier = earlier
        self._how: dict[str, Any] = {"examples": examples, "trial": trial}
        texts = {"type": "array", "items": {"type": "string"}}
        words = {name: {"type": "string"} for name in ("source", "tests", "name", "effects", "origin")}
        schema = {
            "type": "object",
            "properties": {**words, "pre": texts, "post": texts},
            "required": ["source", "tests"],
        }
        about = "Examine a proposed tool and say what is wrong with it."
        examining = Tool("examine", about, schema, self._examine, seconds=600.0)
        self.session: Session = ToolSession(Task("forge", ""), lambda state: (examining,), None, limit=4000)

    def _examine(self, **given: Any) -> Observation:
        proposal = _proposal(given)
        earlier = self._earlier
        if isinstance(earlier, Mapping):
            earlier = earlier.get(_name_of(proposal), ())
        examined = self.results[proposal] = examine(proposal, earlier=earlier, **self._how)
        findings = [{"check": finding.check, "text": finding.text} for finding in examined.findings]
        return Observation(examined.feedback or "nothing is wrong", data={"findings": findings})

    def examined(self, proposal: Proposal) -> Flow[Examined]:
        """Examine a proposal as a call of the tool and return the result."""
        call = Call("examine", {key: list(v) if isinstance(v, tuple) else v for key, v in vars(proposal).items()})
        (observation,) = yield from use(call, session=self.session)
        if observation.status != "ok":
            return Examined(proposal, (Finding("source", f"it could not be examined: {observation.text}"),))
        return self.results[proposal]


def _proposal(given: Mapping[str, Any]) -> Proposal:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return Proposal(**fields)


def _name_of(proposal: Proposal) -> str:
    try:
        return main_function(proposal.source, proposal.name).name
    except ValueError:
        return ""  # the examination says what is wrong with it


def make_tool(
    shown: Sequence[Task], held: Sequence[Task] = (), *, examples: Sequence[Made] = (),
    earlier: Sequence[str] | Mapping[str, Sequence[str]] = (), taken: Collection[str] = (),
    before: Proposal | None = None, said: str = "", rounds: int = 3, trial: Trial | None = None, role: str = "maker",
    critic: str = "critic", max_tokens: int = 2048, temperature: float | None = 0.3, origin: str = "",
) -> Flow[Forging]:  # fmt: skip
    """Let a maker write a function for a class of tasks, and its tests, until it may be promoted or for ``rounds``.

    The maker sees the tasks ``shown`` with their answers, writes the function, then sees those ``held`` and writes
    tests, of which at least as many assertions are carried out as there are tasks in ``held``. What the examination
    finds and what the critic says comes back to it. ``examples`` and ``earlier`` are those of
    ``ferrule.tools.forge.examine``, the latter also by the name of the tool; ``taken`` are the names of other tools.
    With ``before`` and ``said`` it starts from a tool that failed, and how.
    """
    trial = trial or Trial()
    bench = Workbench(examples, earlier, replace(trial, asserts=max(trial.asserts, len(held))))
    how: dict[str, Any] = {"role": role, "max_tokens": max_tokens, "temperature": temperature}
    messages = [Message("user", _request(shown, before, said))]
    source, tests, name = (before.source, before.tests, before.name) if before else ("", "", "")
    attempts: list[Examined] = []
    for _ in range(rounds):
        reply = yield from _said(messages, how)
        fresh, written = read_proposal(reply)
        source, tests = fresh or source, written or tests
        if source and not written and not (attempts and tests):
            messages.append(Message("user", _tests_request(held)))
            _, written = read_proposal((yield from _said(messages, how)))
            tests = written or tests
        proposal = replace(declared(source), tests=tests, name=name, origin=origin)
        examined = _free(taken, (yield from bench.examined(proposal)))
        if examined.passed:
            examined = yield from reviewed_by(examined, shown, role=critic)
        attempts.append(examined)
        if examined.passed:
            break
        messages.append(Message("user", _AGAIN.format(findings=examined.feedback)))
    return Forging(tuple(attempts))


def _free(taken: Collection[str], examined: Examined) -> Examined:
    if examined.tool is None or examined.tool.name not in taken:
        return examined
    finding = Finding("signature", f"another tool is called {examined.tool.name!r}; give this one another name")
    return replace(examined, findings=(*examined.findings, finding))


def _said(messages: list[Message], how: Mapping[str, Any]) -> Flow[Reply]:
    (reply,) = yield from ask(Ask(tuple(messages), **how))
    messages.append(reply.message)
    return reply


_RULES = (
    "Annotate all parameters and the result (int, float, str, bool, list, dict, tuple, None), and write a docstring "
    "that says what the function does and, under 'Args:', what each parameter is. Import nothing but: {modules}. The "
    "same arguments give the same result; nothing is printed, kept, or changed. If it must keep something or write "
    "files, say so in a line '# effects: write'. Conditions that always hold may be declared in lines '# pre: args.n "
    ">= 0' and '# post: result >= 0'."
)
_AGAIN = (
    "This is wrong with it:\n{findings}\n\nWrite the function again, whole, in a ```python block, and the tests in "
    "another one where they should change."
)


def _request(shown: Sequence[Task], before: Proposal | None, said: str) -> str:
    rules = _RULES.format(modules=", ".join(sorted(MODULES)))
    if before is not None:
        return (
            f"This function is in use:\n```python\n{before.source}\n```\nIt failed: {said}\n\n{_pairs(shown)}\n\nWrite "
            f"it again so that it does this right as well. {rules} Then write its tests anew, in another block."
        )
    return (
        f"Here are questions of one kind, with their answers:\n\n{_pairs(shown)}\n\nWrite one Python function, in a "
        f"```python block, that answers every question of this kind once its parts are given as arguments. {rules}"
    )


def _tests_request(held: Sequence[Task]) -> str:
    more = f"Here are further questions of this kind, with their answers:\n\n{_pairs(held)}\n\n" if held else ""
    return (
        f"{more}Write tests of the function in a ```python block: for every question call it with the arguments that "
        "the question gives, and assert the result. Add tests of edge cases. The function is there under its name; "
        "do not import or repeat it, and import no test framework."
    )


def _pairs(tasks: Sequence[Task]) -> str:
    return "\n\n".join(f"Question: {task.prompt}\nAnswer: {_answer(task)}" for task in tasks)


def _answer(task: Task) -> str:
    answer = task.answer[0] if isinstance(task.answer, list | tuple) and task.answer else task.answer
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def read_proposal(reply: Reply) -> tuple[str, str]:
    """Return the source and the tests of a reply; either is empty where the reply has none, or was cut off.

    A block of Python with a function of its own is source; its assertions and functions ``test...`` are tests, as is a
    block without any other function.
    """
    if cut_off(reply):
        return "", ""
    codes = [str(call.arguments.get("code", "")) for call in blocks_of(reply) if not call.problem]
    sources, tests = [], []
    for code in codes:
        source, test = _divided(code)
        sources += [source] if source.strip() else []
        tests += [test] if test.strip() else []
    return "\n\n".join(sources), "\n\n".join(tests)


def _divided(code: str) -> tuple[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code, ""  # the examination says what is wrong with it
    checks = [node for node in tree.body if isinstance(node, ast.Assert) or _is_test(node)]
    if not any(isinstance(node, ast.FunctionDef) and not _is_test(node) for node in tree.body):
        return "", code
    if not checks:
        return code, ""
    lines = code.splitlines()
    taken = {number for node in checks for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    kept = [line for number, line in enumerate(lines, 1) if number not in taken]
    return "\n".join(kept), "\n".join(lines[number - 1] for number in sorted(taken))


def _is_test(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test")


def declared(source: str) -> Proposal:
    """Return a proposal without tests, with what lines ``# effects:``, ``# pre:`` and ``# post:`` of its source say."""
    said: dict[str, list[str]] = {}
    for name, text in re.findall(r"^#\s*(effects|pre|post):[ \t]*(.+?)[ \t]*$", source, re.MULTILINE):
        said.setdefault(name, []).append(text)
    effects: Effect = next((known for known in get_args(Effect) if known in said.get("effects", ())), "read")
    return Proposal(source, "", effects=effects, pre=tuple(said.get("pre", ())), post=tuple(said.get("post", ())))


def opinion(text: str) -> tuple[bool, str]:
    """Read what a critic says: ``AGREE``, or ``REJECT: why``. Anything else is no agreement."""
    word, _, rest = text.strip().partition("\n")
    if re.fullmatch(r"\W*agree[ds]?\W*", word, re.IGNORECASE):
        return True, ""
    said = re.match(r"\W*reject(?:ed)?\W*", word, re.IGNORECASE)
    why = " ".join(f"{word[said.end() :] if said else word} {rest}".split())
    return False, why or "the critic did not say AGREE"


def reviewed_by(
    examined: Examined, shown: Sequence[Task] = (), *, role: str = "critic", max_tokens: int = 256
) -> Flow[Examined]:
    """Ask a critic whether an examined proposal should become a tool, and return the examination with the answer."""
    (reply,) = yield from ask(Ask(_review(examined, shown), role=role, max_tokens=max_tokens, temperature=0.0))
    return agreed(examined, *((False, "the critic's reply was cut off") if cut_off(reply) else opinion(_spoken(reply))))


def _spoken(reply: Reply) -> str:
    return plain_text(reply.message)


def _review(examined: Examined, shown: Sequence[Task]) -> tuple[Message, ...]:
    tool, proposal, contract = examined.tool, examined.proposal, examined.contract
    conditions = "; ".join((*contract.pre, *contract.post)) or "none"
    told = signature(tool) if tool is not None else ""
    tasks = f"It is for questions like these:\n\n{_pairs(shown)}\n\n" if shown else ""
    text = (
        f"Should this function become a tool? Its tests pass, and notice {examined.noticed} of {examined.varied} small "
        f"changes.\n\n{tasks}{told}\nEffects: {proposal.effects}. Conditions: {conditions}.\n\n```python\n"
        f"{proposal.source}\n```\n\nTests:\n```python\n{proposal.tests}\n```\n\nReject it if it is wrong for some "
        "arguments, made for the questions shown alone, or if its description does not say what it does. Reply AGREE, "
        "or REJECT: and why, in one line."
    )
    return (Message("user", text),)


def categories(shelf: Shelf, *, role: str = "curator", max_tokens: int = 512) -> Flow[dict[str, str]]:
    """Ask a curator to file the tools on offer; returns a category by name, for ``forge_shelf.categorised``.

    Lines of its reply that name no tool on offer are left out.
    """
    entries = shelf.offered
    if not entries:
        return {}
    listed = "\n".join(map(_line, entries))
    text = f"File these tools under a few categories. Write one line per tool: name: category.\n\n{listed}"
    (reply,) = yield from ask(Ask((Message("user", text),), role=role, max_tokens=max_tokens))
    rows = (line.partition(":") for line in _spoken(reply).splitlines())
    known = {entry.name for entry in entries}
    return {
        name.strip(" -*`"): label.strip() for name, _, label in rows if name.strip(" -*`") in known and label.strip()
    }


def _line(entry: Forged) -> str:
    return signature(entry.tool)
