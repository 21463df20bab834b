"""The shelf of forged tools: versions, statistics of use, and what is merged, retired or thrown out.

A shelf is a value; every change returns a new one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.records import Tool, Trajectory
from ferrule.tools.contracts import Contract
from ferrule.tools.effects import result_of
from ferrule.tools.files import ToolSource
from ferrule.tools.forge import Examined, Proposal, examine
from ferrule.tools.forge_contract import breaches
from ferrule.tools.forge_rules import main_function
from ferrule.tools.forge_run import forged_source
from ferrule.tools.forge_schema import described_tool
from ferrule.tools.forge_trial import Made, Trial, called, tested

__all__ = [
    "Forged", "Shelf", "Uses", "alike", "categorised", "consolidated", "from_json", "merged", "noted", "promoted",
    "pruned", "retired", "revised", "to_json", "tools_of", "used",
]  # fmt: skip


@dataclass(frozen=True)
class Uses:
    """How a tool did: calls, of which failed, and of which broke its contract; ``last`` is the task of the last one."""

    calls: int = 0
    failures: int = 0
    breaches: int = 0
    last: int = -1

    @property
    def rate(self) -> float:
        """Share of the calls that gave a result within the contract; 1 without calls."""
        return 1.0 - (self.failures + self.breaches) / self.calls if self.calls else 1.0

    def __add__(self, other: Uses) -> Uses:
        return Uses(
            self.calls + other.calls, self.failures + other.failures, self.breaches + other.breaches,
            max(self.last, other.last),
        )  # fmt: skip


@dataclass(frozen=True)
class Forged:
    """One version of a forged tool: its proposal, contract and statistics.

    ``calls`` are those of its tests, ``born`` is the task it was promoted at, ``retired`` says why it is no longer
    offered (empty while it is), ``category`` files it, ``covers`` names the tools that were merged into it.
    """

    name: str
    proposal: Proposal
    version: int = 1
    contract: Contract = field(default_factory=Contract)
    calls: tuple[Made, ...] = ()
    uses: Uses = field(default_factory=Uses)
    born: int = 0
    retired: str = ""
    category: str = ""
    covers: tuple[str, ...] = ()

    @property
    def tool(self) -> Tool:
        """The tool that it describes; it cannot be called (``tools_of`` returns tools that can)."""
        function = main_function(self.proposal.source, self.name)
        return described_tool(function, effects=self.proposal.effects)


@dataclass(frozen=True)
class Shelf:
    """All versions of forged tools by name, oldest first."""

    versions: Mapping[str, tuple[Forged, ...]] = field(default_factory=dict)

    @property
    def offered(self) -> tuple[Forged, ...]:
        """The newest version of every tool that is not retired, by name."""
        newest = [entries[-1] for _, entries in sorted(self.versions.items())]
        return tuple(entry for entry in newest if not entry.retired)

    def newest(self, name: str) -> Forged:
        """Return the newest version of a tool; raises ``KeyError`` with the nearest name for an unknown one."""
        if name not in self.versions:
            known = sorted(self.versions)
            raise KeyError(f"no forged tool {name!r}; {nearest(name, known) if known else 'the shelf is empty'}")
        return self.versions[name][-1]


def _put(shelf: Shelf, entry: Forged) -> Shelf:
    """Return the shelf with an entry in the place of its own version, or behind the others."""
    kept = [other for other in shelf.versions.get(entry.name, ()) if other.version != entry.version]
    return Shelf({**shelf.versions, entry.name: (*kept, entry)})


def promoted(shelf: Shelf, examined: Examined, *, category: str = "", now: int = 0) -> Shelf:
    """Return the shelf with an examined proposal as a tool, a new version where there is one of its name.

    Raises ``ValueError`` for one with findings, and one that no critic agreed to.
    """
    if not examined.passed or examined.tool is None:
        raise ValueError(f"the proposal is not promoted: {examined.feedback or 'it was not examined'}")
    if examined.critic is not True:
        raise ValueError("the proposal is not promoted: no critic agreed to it")
    name = examined.tool.name
    before = shelf.versions.get(name, ())
    entry = Forged(
        name, examined.proposal, len(before) + 1, examined.contract, examined.calls, born=now,
        category=category or (before[-1].category if before else ""), covers=before[-1].covers if before else (),
    )  # fmt: skip
    return _put(shelf, entry)


def revised(shelf: Shelf, proposal: Proposal, *, examples: Sequence[Made] = (), trial: Trial | None = None) -> Examined:
    """Examine a proposal for the next version of a tool: it must pass the tests of all versions before it as well."""
    name = main_function(proposal.source, proposal.name).name
    earlier = [entry.proposal.tests for entry in shelf.versions.get(name, ())]
    return examine(proposal, examples=examples, earlier=earlier, trial=trial)


def used(shelf: Shelf, name: str, *, failed: bool = False, breach: bool = False, now: int = 0) -> Shelf:
    """Return the shelf with one more use of the newest version of a tool."""
    entry = shelf.newest(name)
    return _put(shelf, replace(entry, uses=entry.uses + Uses(1, int(failed), int(breach), now)))


def noted(shelf: Shelf, trajectories: Sequence[Trajectory], *, now: int = 0) -> Shelf:
    """Return the shelf with every call of tools on offer in these trajectories counted, by the newest contracts.

    A call that did not run well has failed; one whose result, or whose arguments, the contract does not accept is a
    breach. Calls that never ran (malformed, refused), and calls of a name that the shelf has retired, do not count.
    """
    for call, observation in (pair for trajectory in trajectories for pair in trajectory.calls):
        entry = shelf.versions.get(call.name, (None,))[-1]
        if entry is None or entry.retired or not observation.executed:
            continue
        made = Made(call.arguments, result_of(observation, entry.contract.output))
        failed = observation.status != "ok"
        shelf = used(
            shelf, call.name, failed=failed, breach=not failed and bool(breaches(entry.contract, [made])), now=now
        )
    return shelf


def retired(shelf: Shelf, name: str, why: str) -> Shelf:
    """Return the shelf with a tool that is no longer offered; its versions stay."""
    return _put(shelf, replace(shelf.newest(name), retired=why or "retired"))


def pruned(
    shelf: Shelf, now: int, *, idle: int = 100, rate: float = 0.5, calls: int = 5, most: int | None = None
) -> Shelf:
    """Return the shelf without what does not prove itself: it is retired, not deleted.

    Retired are tools unused for ``idle`` tasks, those whose rate over at least ``calls`` calls is below ``rate``, and
    of more than ``most`` tools those with the fewest calls.
    """
    for entry in shelf.offered:
        if entry.uses.calls >= calls and entry.uses.rate < rate:
            shelf = retired(shelf, entry.name, f"{entry.uses.rate:.0%} of {entry.uses.calls} calls gave a result")
        elif now - max(entry.uses.last, entry.born) > idle:
            shelf = retired(shelf, entry.name, f"unused for {now - max(entry.uses.last, entry.born)} tasks")
    ranked = sorted(shelf.offered, key=lambda entry: (-entry.uses.calls, entry.name))
    for entry in ranked[most:] if most is not None else ():
        shelf = retired(shelf, entry.name, f"there is room for {most} tools, and others are used more")
    return shelf


def categorised(shelf: Shelf, by: Callable[[Forged], str] | Mapping[str, str]) -> Shelf:
    """Return the shelf with every tool on offer filed by ``by``; a name that a mapping does not have stays as it is."""
    for entry in shelf.offered:
        label = by.get(entry.name, entry.category) if isinstance(by, Mapping) else by(entry)
        shelf = _put(shelf, replace(entry, category=label))
    return shelf


def alike(one: Forged, other: Forged, *, trial: Trial | None = None) -> bool:
    """Return whether two tools do the same: same parameters and effects, and each gives the other's results.

    They are called in the sandbox with the calls of both their tests.
    """
    if one.proposal.effects != other.proposal.effects or not one.calls or not other.calls:
        return False
    if one.tool.parameters.get("properties", {}).keys() != other.tool.parameters.get("properties", {}).keys():
        return False
    reads, trial = one.proposal.effects == "read", trial or Trial()
    calls = [call.arguments for call in (*one.calls, *other.calls)]
    outcomes = [called(each.proposal.source, each.name, calls, reads=reads, trial=trial) for each in (one, other)]
    return isinstance(outcomes[0], tuple) and outcomes[0] == outcomes[1]


def merged(shelf: Shelf, keep: str, drop: str, *, trial: Trial | None = None) -> Shelf:
    """Return the shelf with ``drop`` merged into ``keep``: its uses and its name are taken over, and it is retired.

    Raises ``ValueError`` unless ``keep`` passes the tests of ``drop``: a merged tool must do all that its parts did.
    """
    one, other = shelf.newest(keep), shelf.newest(drop)
    if keep == drop or one.retired or other.retired:
        raise ValueError(f"{keep!r} and {drop!r} cannot be merged; two different tools on offer are needed")
    tests = f"{other.name} = {one.name}\n{other.proposal.tests}"
    reads = one.proposal.effects == "read"
    tried = tested(one.proposal.source, one.name, tests, reads=reads, trial=trial or Trial())
    if tried.findings:
        raise ValueError(f"{keep!r} does not do what {drop!r} did: {tried.findings[0].text}")
    proposal = replace(one.proposal, tests=f"{one.proposal.tests}\n{tests}")
    covers = (*one.covers, other.name, *other.covers)
    shelf = _put(shelf, replace(one, proposal=proposal, uses=one.uses + other.uses, covers=covers))
    return retired(shelf, drop, f"merged into {keep!r}")


def consolidated(shelf: Shelf, *, trial: Trial | None = None) -> Shelf:
    """Return the shelf with tools that do the same merged, into the one that was called more often.

    Where neither passes the tests of the other both stay.
    """
    for one, other in itertools.combinations([entry.name for entry in shelf.offered], 2):
        first, second = shelf.newest(one), shelf.newest(other)
        if first.retired or second.retired or not alike(first, second, trial=trial):
            continue
        keep, drop = (one, other) if first.uses.calls >= second.uses.calls else (other, one)
        with contextlib.suppress(ValueError):
            shelf = merged(shelf, keep, drop, trial=trial)
    return shelf


def tools_of(shelf: Shelf, *, seconds: float = 10.0) -> ToolSource:
    """Return the tools on offer as a source for worlds: every episode runs them in a sandbox of its own."""
    entries = [
        {"source": entry.proposal.source, "name": entry.name, "effects": entry.proposal.effects}
        for entry in shelf.offered
    ]
    return forged_source(entries, seconds=seconds)


def to_json(shelf: Shelf) -> str:
    """Return the shelf as JSON: ``{"tools": [version, ...]}``, contracts by their conditions."""
    rows = [_row(entry) for _, entries in sorted(shelf.versions.items()) for entry in entries]
    return json.dumps({"tools": rows}, ensure_ascii=False, indent=1)


def _row(entry: Forged) -> dict[str, Any]:
    proposal, uses = vars(entry.proposal), vars(entry.uses)
    calls = [vars(call) for call in entry.calls]
    more = {name: getattr(entry, name) for name in ("name", "version", "born", "retired", "category", "covers")}
    contract = {"pre": entry.contract.pre, "post": entry.contract.post}
    return {**more, "proposal": proposal, "contract": contract, "uses": uses, "calls": calls}


def from_json(text: str) -> Shelf:
    """Read what ``to_json`` wrote; raises ``ValueError`` for other text."""
    try:
        rows = json.loads(text)["tools"]
        entries = [_entry(row) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a shelf of forged tools: {type(error).__name__}: {error}") from None
    shelf = Shelf()
    for entry in entries:
        shelf = _put(shelf, entry)
    return shelf


def _entry(row: Mapping[str, Any]) -> Forged:
    given = dict(row["proposal"])
    proposal = Proposal(**{**given, "pre": tuple(given["pre"]), "post": tuple(given["post"])})
    more = {name: row[name] for name in ("name", "version", "born", "retired", "category")}
    entry = Forged(proposal=proposal, covers=tuple(row["covers"]), uses=Uses(**row["uses"]), **more)
    contract = Contract(tuple(row["contract"]["pre"]), tuple(row["contract"]["post"]), output=entry.tool.output)
    return replace(entry, contract=contract, calls=tuple(Made(**call) for call in row["calls"]))
