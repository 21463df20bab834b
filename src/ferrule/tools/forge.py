"""The forge: code becomes a tool only after it was examined, in the sandbox, and a critic agreed.

``examine`` says what is wrong with a proposal: its text, its signature, its tests (which must pass, assert something,
and notice changes of the source), its effects, its results from run to run, examples that its maker did not see, and
its contract. ``ferrule.tools.forge_shelf`` keeps what passed, ``ferrule.agents.forge`` asks models to make and to
review proposals.

Sources: "Large Language Models as Tool Makers" (43), "Chain of Tools" (21).
"""

from __future__ import annotations

import builtins
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ferrule.core.records import Effect, Tool
from ferrule.tools.contracts import Contract
from ferrule.tools.forge_contract import breaches, inferred
from ferrule.tools.forge_rules import Finding, broken, main_function
from ferrule.tools.forge_schema import described_tool
from ferrule.tools.forge_trial import Made, Trial, called, noticed, tested

__all__ = ["Examined", "Proposal", "agreed", "examine", "same_result"]


@dataclass(frozen=True)
class Proposal:
    """What a maker hands in: the source of a module around one function, and tests of that function.

    ``name`` is the function (empty: the last public one). ``tests`` are assertions as a script, or in functions
    ``test...``; the function is there under its name. ``effects`` is what the tool declares to do beyond its result;
    ``pre`` and ``post`` are conditions on ``args`` and ``result`` (``ferrule.tools.contracts_text``) that it declares
    to keep. ``origin`` says where it comes from.
    """

    source: str
    tests: str
    name: str = ""
    effects: Effect = "read"
    pre: tuple[str, ...] = ()
    post: tuple[str, ...] = ()
    origin: str = ""


@dataclass(frozen=True)
class Examined:
    """What an examination found: ``findings`` say what is wrong, and are empty for a proposal that may be promoted.

    ``tool`` describes it and cannot be called (``ferrule.tools.forge_run`` makes one that runs). ``calls`` are those of
    the tests; ``noticed`` of ``varied`` small changes of the source make a test fail. ``critic`` is True when a critic
    agreed, and None before one was asked.
    """

    proposal: Proposal
    findings: tuple[Finding, ...] = ()
    tool: Tool | None = None
    contract: Contract = field(default_factory=Contract)
    calls: tuple[Made, ...] = ()
    asserts: int = 0
    noticed: int = 0
    varied: int = 0
    critic: bool | None = None

    @property
    def passed(self) -> bool:
        """True when nothing was found wrong."""
        return not self.findings and self.tool is not None

    @property
    def feedback(self) -> str:
        """What its author is told, one finding a line."""
        return "\n".join(f"{finding.check}: {finding.text}" for finding in self.findings)


def examine(
    proposal: Proposal, *, examples: Sequence[Made] = (), earlier: Sequence[str] = (), trial: Trial | None = None
) -> Examined:
    """Examine a proposal and return what is wrong with it, or the tool that it describes and its contract.

    ``examples`` are calls with known results, which its maker need not have seen; ``earlier`` are tests of versions
    before it, all of which must pass. Nothing of the proposal runs outside the sandbox. Raises
    ``IsolationUnavailable`` where there is none.
    """
    trial = trial or Trial()
    described = _read(proposal, earlier, trial)
    if described.findings:
        return described
    assert described.tool is not None
    how: dict[str, Any] = {"reads": proposal.effects == "read", "trial": trial}
    source, name = proposal.source, described.tool.name
    tried = tested(source, name, proposal.tests, **how)
    examined = replace(described, findings=tried.findings, calls=tried.calls, asserts=tried.asserts)
    if not examined.passed:
        return examined
    for number, text in enumerate(earlier):
        before = tested(source, name, text, **how)
        if before.findings:
            findings = [Finding(f.check, f"the tests of version {number + 1}: {f.text}") for f in before.findings]
            return replace(examined, findings=tuple(findings))
    finding = _repeats(source, name, tried.calls, how) or _examples(source, name, examples, how)
    if finding is not None:
        return replace(examined, findings=(finding,))
    count, varied, finding = noticed(source, name, proposal.tests, calls=tried.calls, **how)
    examined = replace(examined, noticed=count, varied=varied, findings=(finding,) if finding else ())
    return _contracted(examined, examples) if examined.passed else examined


def agreed(examined: Examined, agrees: bool, why: str = "") -> Examined:
    """Return an examination with what a critic said of it; one who does not agree is a finding."""
    findings = (
        examined.findings if agrees else (*examined.findings, Finding("critic", why or "the critic does not agree"))
    )
    return replace(examined, critic=agrees, findings=findings)


def same_result(given: Any, wanted: Any) -> bool:
    """Return whether two results are the same JSON value: numbers that are not whole within a part in 10^9."""
    if isinstance(given, Mapping) and isinstance(wanted, Mapping):
        return given.keys() == wanted.keys() and all(same_result(given[key], wanted[key]) for key in wanted)
    if isinstance(given, list | tuple) and isinstance(wanted, list | tuple):
        return len(given) == len(wanted) and all(same_result(a, b) for a, b in zip(given, wanted, strict=True))
    if (
        isinstance(given, bool)
        or isinstance(wanted, bool)
        or not all(isinstance(v, int | float) for v in (given, wanted))
    ):
        return type(given) is type(wanted) and bool(given == wanted)
    return given == wanted or math.isclose(given, wanted, rel_tol=1e-9)


def _read(proposal: Proposal, earlier: Sequence[str], trial: Trial) -> Examined:
    """Check what can be read off the text of a proposal."""

    def failed(*findings: Finding) -> Examined:
        return Examined(proposal, tuple(dict.fromkeys(findings)))

    if proposal.effects == "irreversible":
        return failed(Finding("effects", "what cannot be undone cannot be tried out, so it is not forged"))
    try:
        function = main_function(proposal.source, proposal.name)
        for text in (proposal.tests, *earlier):
            _readable(text)
    except ValueError as problem:
        return failed(Finding("source", str(problem)))
    if function.name in dir(builtins):
        return failed(Finding("signature", f"{function.name!r} is the name of a builtin; give it another one"))
    rules = [
        *broken(proposal.source, proposal.effects),
        *broken(proposal.tests, "write", script=True, beside=proposal.source),
    ]
    if rules:
        return failed(*rules)
    try:
        tool = described_tool(function, effects=proposal.effects, seconds=trial.limit)
    except ValueError as problem:
        return failed(Finding("signature", str(problem)))
    try:
        Contract(pre=proposal.pre, post=proposal.post)
    except ValueError as problem:
        return failed(Finding("contract", str(problem)))
    return Examined(proposal, (), tool)


def _readable(tests: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(tests, "<tests>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        raise ValueError(f"the tests are no valid Python: {problem}") from None


def _repeats(source: str, name: str, calls: Sequence[Made], how: Mapping[str, Any]) -> Finding | None:
    """Make the calls of the tests again, the last one first: those of a tool that reads give the same."""
    if not how["reads"]:
        return None
    outcome = called(source, name, [call.arguments for call in calls][::-1], **how)
    if isinstance(outcome, Finding):
        return outcome
    for before, after in zip(calls, outcome[::-1], strict=True):
        if before.raised != after.raised or not same_result(after.result, before.result):
            given = ", ".join(f"{key}={value!r}" for key, value in before.arguments.items())
            text = f"{name}({given}) gives {before.result!r} or {after.result!r}, by what was called before"
            return Finding("effects", text[:400])
    return None


def _examples(source: str, name: str, examples: Sequence[Made], how: Mapping[str, Any]) -> Finding | None:
    if not examples:
        return None
    outcome = called(source, name, [example.arguments for example in examples], **how)
    if isinstance(outcome, Finding):
        return outcome
    wrong = [
        (wanted, given) for wanted, given in zip(examples, outcome, strict=True)
        if wanted.raised != given.raised or not same_result(given.result, wanted.result)
    ]  # fmt: skip
    if not wrong:
        return None
    wanted, given = wrong[0]
    shown = ", ".join(f"{key}={value!r}" for key, value in wanted.arguments.items())
    does = f"raises {given.raised}" if given.raised else f"gives {given.result!r}"
    should = f"raise {wanted.raised}" if wanted.raised else f"give {wanted.result!r}"
    text = f"{len(wrong)} of {len(examples)} examples are wrong: {name}({shown}) {does} and should {should}"
    return Finding("examples", text[:600])


def _contracted(examined: Examined, examples: Sequence[Made]) -> Examined:
    """Infer the contract from the calls of the tests; what is declared must hold for the examples too."""
    tool, proposal = examined.tool, examined.proposal
    assert tool is not None
    declared = Contract(pre=proposal.pre, post=proposal.post, output=tool.output)
    broke = breaches(declared, [*examined.calls, *examples])
    if broke:
        return replace(examined, findings=(Finding("contract", f"it breaks what it declares: {broke[0]}"),))
    contract = inferred(tool, [*examined.calls, *examples], pre=proposal.pre, post=proposal.post)
    return replace(examined, contract=contract)
