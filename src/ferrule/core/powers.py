"""Powers beyond plain sampling that an ask may need and a policy may lack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ferrule.core.flows import Ask

__all__ = ["POWERS", "lacking", "needed", "require"]

POWERS: Mapping[str, str] = {
    "begun": "go on from ids that were sampled before (Ask.begun)",
    "score": "score what a reply begins with (Ask.want 'score')",
    "head": "tell what its heads say (Ask.want 'head:NAME')",
    "pieces": "say what text each token adds (Ask.want 'pieces')",
    "must_call": "make a call of a given tool (Ask.must_call)",
}
"""Every power by name, and what it is. A policy lists those it has in its attribute ``powers``."""


def needed(ask: Ask) -> tuple[str, ...]:
    """Return the powers that an ask needs."""
    if not (ask.begun or ask.want or ask.must_call):
        return ()  # nearly all asks
    wanted = {
        "begun": bool(ask.begun),
        "score": "score" in ask.want,
        "head": any(entry.startswith("head:") for entry in ask.want),
        "pieces": "pieces" in ask.want,
        "must_call": bool(ask.must_call),
    }
    return tuple(name for name, on in wanted.items() if on)


def lacking(policy: Any, ask: Ask) -> str:
    """Return why a policy cannot carry out an ask, or an empty text: a power it does not list."""
    wanted = needed(ask)
    if not wanted:
        return ""
    powers = getattr(policy, "powers", ())
    missing = [POWERS[name] for name in wanted if name not in powers]
    if not missing:
        return ""
    name = str(getattr(policy, "name", "") or type(policy).__name__)
    has = f"it can {'; '.join(POWERS[power] for power in sorted(powers))}" if powers else "it can only write replies"
    return f"the policy {name!r} cannot {'; '.join(missing)}; {has}"


def require(policy: Any, asks: Iterable[Ask]) -> None:
    """Refuse asks (``ValueError``) that need a power which the policy lacks, before any of them is carried out."""
    for ask in asks:
        if problem := lacking(policy, ask):
            raise ValueError(problem)
