"""What the turns of an episode earn, and what an episode earns for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from types import MappingProxyType
from typing import get_args

from ferrule.core.arrays import nearest
from ferrule.core.records import Call, Observation, Tool, Trajectory
from ferrule.papers.adareasoner.ladder import Names, call_score
from ferrule.rewards.format import all_text
from ferrule.rewards.matching import readable

__all__ = ["VARIANTS", "came_out_ok", "combined", "formed", "reduced", "turn_scores", "written"]


VARIANTS: Mapping[str, Mapping[str, float]] = MappingProxyType({
    "main": {"right": 8.0, "weight": 1.0},
    "1:2": {"right": 3.0, "weight": 0.25},
    "2:1": {"right": 3.0, "weight": 0.5},
    "accuracy": {"right": 1.0, "weight": 0.0},
})  # fmt: skip
"""What a right answer earns, and what the tool score of a wrong one is multiplied by."""


_BY_STATUS = {"unknown_tool": 1.0, "malformed": 2.0, "refused": 3.0, "error": 3.0}


def reduced(scores: Iterable[float], *, trim: bool = True) -> float:
    """Mean of the scores before the first negative one (padding), without zeros at the end when ``trim``; 0 if none."""
    kept = list(takewhile(lambda score: score >= 0, scores))
    while trim and kept and kept[-1] == 0:
        kept.pop()
    return sum(kept) / len(kept) if kept else 0.0


def combined(correct: bool, tools: float, *, right: float = 8.0, weight: float = 1.0, added: bool = False) -> float:
    """Reward of a formed episode: ``right`` when correct, else ``weight * tools``; ``added`` pays tools always."""
    return right * correct + (0.0 if correct and not added else weight * tools)


def formed(trajectory: Trajectory) -> bool:
    """Say whether an episode ended with an answer and made one call in every turn, in the last one at most one."""
    counts = [len(turn.reply.calls) for turn in trajectory.turns]
    return trajectory.answer is not None and all(n == 1 for n in counts[:-1]) and all(n <= 1 for n in counts[-1:])


def came_out_ok(call: Call, observation: Observation) -> float:
    """Say whether a call ran without trouble: 1, else 0."""
    return float(observation.status == "ok")


def turn_scores(
    trajectory: Trajectory,
    *,
    offered: Sequence[Tool] | None = None,
    names: Names = "required",
    valid: Callable[[Call, Observation], float] = came_out_ok,
) -> list[float]:
    """Score the first call of every turn 0 to 4 by ``call_score``; a turn without one 0, the answering turn left out.

    ``offered`` are the tools with their schemas; without them statuses decide (see the departures). Calls that were not
    run have no valid values. Raises ``ValueError`` on unknown ``names``, and on ``"union"`` without ``offered``.
    """
    if names not in get_args(Names):
        raise ValueError(f"no ladder {names!r}; {nearest(names, get_args(Names))}")
    if names == "union" and offered is None:
        raise ValueError('names="union" compares with the schemas of the tools; give them as offered')
    required = None if offered is None else {t.name: list(t.parameters.get("required", ())) for t in offered}
    turns = list(trajectory.turns)
    if turns and trajectory.answer is not None and not turns[-1].reply.calls:
        turns.pop()
    out = []
    for turn in turns:
        call, seen = turn.pairs[0] if turn.pairs else (None, None)
        if call is None or not readable(call):
            out.append(0.0)
            continue
        good = 0.0 if seen is None else min(max(valid(call, seen), 0.0), 1.0)
        if required is None:
            out.append(3.0 + good if seen is None else _BY_STATUS.get(seen.status, 3.0 + good))
        else:
            out.append(call_score(call, required, names=names, valid=lambda _, good=good: good))  # type: ignore[misc]
    return out


def written(judge: Callable[[str], bool]) -> Callable[[Trajectory], bool]:
    """Return a gate for recorded episodes that judges all that the model wrote, joined."""

    return lambda trajectory: judge(all_text(trajectory))
