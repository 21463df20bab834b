"""Cheap signs that what a tool returned took the place of an argument, read from a trajectory without a judge.

Source: "From Proof to Program: Characterizing Tool-Induced Reasoning Hallucinations in Large Language Models" (11).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ferrule.core.records import Trajectory
from ferrule.core.tally import tally
from ferrule.rewards.derivation import own_steps, standing

__all__ = ["Signs", "high_risk", "patterns", "signs"]

_LOOP = re.compile(r"\bfor\b.+\bin\b|\bwhile\b|itertools|\bbrute")
_CHECKED = re.compile(r"\b(?:verif|confirm|check|holds? for|tested|numerically)", re.IGNORECASE)


@dataclass(frozen=True)
class Signs:
    """What a transcript shows of how it was reasoned.

    ``before`` is the share of its own steps before the first call (1 without a call), ``after`` the number of those
    after the last result, ``echoed`` whether the answer first appeared in a result, ``own`` the share of its words that
    are derivation and not arguments of calls, ``loops`` whether code tries cases, and ``checks`` whether a step after
    the last result speaks of a check.
    """

    calls: int
    before: float
    after: int
    echoed: bool
    own: float
    loops: bool
    checks: bool


def signs(trajectory: Trajectory) -> Signs:
    """Read the signs of a trajectory."""
    turns = [own_steps(replace(trajectory, turns=(turn,))) for turn in trajectory.turns]
    calling = [place for place, turn in enumerate(trajectory.turns) if turn.reply.calls]
    code = [str(value) for call, _ in trajectory.calls for value in call.arguments.values()]
    own = [step for steps in turns for step in steps]
    first = sum(map(len, turns[: calling[0] + 1])) if calling else len(own)
    ending = [step for steps in turns[calling[-1] + 1 :] for step in steps] if calling else []
    words, written = (sum(len(text.split()) for text in texts) for texts in (own, code))
    return Signs(
        calls=tally(observation for _, observation in trajectory.calls).calls,
        before=first / len(own) if own else float(not calling),
        after=len(ending),
        echoed=_echoed(trajectory, turns),
        own=words / (words + written) if words + written else 0.0,
        loops=any(map(_LOOP.search, code)),
        checks=any(map(_CHECKED.search, ending)),
    )


def _echoed(trajectory: Trajectory, steps: Sequence[Sequence[str]]) -> bool:
    """Tell whether the answer stands in a result before the model writes it itself."""
    if not trajectory.answer or not trajectory.answer.strip():
        return False
    answer = standing(trajectory.answer.strip())
    for turn, said in zip(trajectory.turns, steps, strict=True):
        if any(map(answer.search, said)):
            return False
        if any(answer.search(observation.text) for observation in turn.observations):
            return True
    return False


def patterns(seen: Signs) -> dict[str, bool]:
    """Say which of four patterns of failure signs point to; there is none where the answer was not taken from a result.

    ``enumeration`` where code tries cases; ``skipped derivation`` where at most one step, the answer, follows the last
    result; ``check as guarantee`` where a step after it speaks of a check; ``premature stop`` where nothing was derived
    before the only call, and at most one step after it. The limits are choices.
    """
    taken = seen.calls > 0 and seen.echoed
    return {
        "enumeration": taken and seen.loops,
        "skipped derivation": taken and seen.after <= 1,
        "check as guarantee": taken and seen.checks,
        "premature stop": taken and seen.calls == 1 and seen.before == 0 and seen.after <= 1,
    }


def high_risk(seen: Signs, *, most: int = 4) -> bool:
    """Tell whether an answer was taken from a result, or more than ``most`` calls were made."""
    return seen.calls > most or (seen.calls > 0 and seen.echoed)
