"""What is wrong with a call beside the right one: typed signals, and the shares of tools, slots and whole calls.

Source: "JTPRO: A Joint Tool-Prompt Reflective Optimization Framework for Language Agents" (56).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal, TypeAlias

from ferrule.core.records import Call
from ferrule.rewards.matching import equal_values, readable, same_name

__all__ = ["Signal", "SignalKind", "SlotScores", "signals", "slot_scores", "slot_share"]

SignalKind: TypeAlias = Literal["no_call", "wrong_tool", "missing_slot", "wrong_value", "extra_slot"]


@dataclass(frozen=True)
class Signal:
    """One thing that is wrong with a call: the slot, what it has (``got``) and what it should have (``wanted``).

    Of a wrong tool these are names of tools. As text it is ``kind:slot``, or ``wrong_tool:wanted->got``.
    """

    kind: SignalKind
    slot: str = ""
    got: Any = None
    wanted: Any = None

    def __str__(self) -> str:
        """Return the signal in short."""
        if self.kind == "wrong_tool":
            return f"{self.kind}:{self.wanted}->{self.got}"
        return f"{self.kind}:{self.slot}" if self.slot else self.kind


def _trimmed(call: Call) -> Call:
    return replace(call, arguments={k: v.strip() if isinstance(v, str) else v for k, v in call.arguments.items()})


def signals(call: Call | None, gold: Call) -> tuple[Signal, ...]:
    """Return what is wrong with a call, nothing where it is right.

    Slots stand in the order of the gold call, extra ones last. Texts are compared without blanks around them, other
    values by equality (1 is not True). None is no call, and so is one that cannot be read.
    """
    if call is None or not readable(call):
        return (Signal("no_call", wanted=gold.name),)
    if not same_name(call, gold):
        return (Signal("wrong_tool", got=call.name, wanted=gold.name),)
    given, due = _trimmed(call).arguments, _trimmed(gold).arguments
    wrong = []
    for slot, value in due.items():
        if slot not in given:
            wrong.append(Signal("missing_slot", slot, wanted=value))
        elif not equal_values(Call("", {slot: given[slot]}), Call("", {slot: value})):
            wrong.append(Signal("wrong_value", slot, given[slot], value))
    extra = (Signal("extra_slot", slot, got=value) for slot, value in given.items() if slot not in due)
    return (*wrong, *extra)


def slot_share(call: Call | None, gold: Call) -> float:
    """Return the share of slots with equal values among those of either call; 1 where neither has any.

    It is 0 for no call, one that cannot be read, and another tool.
    """
    wrong = signals(call, gold)
    if call is None or any(signal.kind in ("no_call", "wrong_tool") for signal in wrong):
        return 0.0
    slots = {*call.arguments, *gold.arguments}
    return 1.0 - len(wrong) / len(slots) if slots else 1.0


@dataclass(frozen=True)
class SlotScores:
    """How calls compare with the right ones: right tools (TSA), right slots (SFA), and calls right as a whole (OSR).

    ``slots`` is the mean of ``slot_share`` over calls of the right tool, 0 without any.
    """

    tools: float
    slots: float
    whole: float
    count: int


def slot_scores(calls: Sequence[Call | None], golds: Sequence[Call]) -> SlotScores:
    """Return the scores of calls beside the right ones, one for one. Raises ``ValueError`` without calls."""
    if not golds:
        raise ValueError("no calls to score; the least is 1")
    pairs = list(zip(calls, golds, strict=True))
    right = [(c, g) for c, g in pairs if c is not None and readable(c) and same_name(c, g)]
    whole = sum(not signals(call, gold) for call, gold in pairs)
    slots = fmean(slot_share(call, gold) for call, gold in right) if right else 0.0
    return SlotScores(len(right) / len(pairs), slots, whole / len(pairs), len(pairs))
