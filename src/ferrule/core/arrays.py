"""Named arrays that credit rules and objectives read, and the one place that calls functions by name.

Legend of the suffixes
    N  trajectories (rows)           K  turns of a trajectory
    T  tokens of a trajectory        C  reward channels
``turn_NT`` holds the turn index of every token the model wrote and ``-1`` for all others (prompt, observation,
inserted text, padding): one array is both turn index and loss mask. ``node_NK`` holds turn ids that shared
prefixes share, ``-1`` past the last turn; a tree is this matrix.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ferrule.core.records import Score, Trajectory
from ferrule.core.tally import tally

__all__ = [
    "BoolArray",
    "FloatArray",
    "IntArray",
    "Signals",
    "apply",
    "by_name",
    "chain",
    "cut_rows",
    "first_call",
    "nearest",
    "pack",
    "part_of",
    "spread_turns",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Signals:
    """Everything a credit rule may name. Shapes follow the legend at the top of the module.

    ``reward_N`` scalar rewards; ``parts_CN`` named channels in the order of ``channels``; ``group_N`` group index;
    ``episode_N`` episode index (paths of one tree share it); ``turn_reward_NK`` per-turn rewards (0 where
    absent); ``node_NK`` turn ids; ``ids_NT`` token ids (-1 is padding); ``segment_NT`` context segment of each token
    (-1 is padding); ``span_NT`` the labelled stretch of each token as an index into ``labels`` (-1: none);
    ``logp_NT`` sampler log-probs; ``calls_N`` calls that count (``ferrule.core.tally``), ``first_call_N``
    the column where the first of them begins (-1: none), and ``malformed_N`` those that could not be read;
    ``turns_N`` and ``size_N`` valid lengths along K and T; ``value_NT`` critic values when a value head is in use;
    ``ref_NT`` log-probs under the reference weights when a recipe asks for them;
    ``adv_NT`` is present while a chain of credit rules runs; ``step`` counts training steps.
    """

    reward_N: FloatArray
    group_N: IntArray
    turn_NT: IntArray
    ids_NT: IntArray
    logp_NT: FloatArray
    node_NK: IntArray
    turn_reward_NK: FloatArray
    parts_CN: FloatArray
    segment_NT: IntArray
    episode_N: IntArray
    calls_N: IntArray
    malformed_N: IntArray
    turns_N: IntArray
    size_N: IntArray
    span_NT: IntArray
    first_call_N: IntArray
    labels: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    step: int = 0
    value_NT: FloatArray | None = None
    ref_NT: FloatArray | None = None
    adv_NT: FloatArray | None = None

    def named(self) -> dict[str, Any]:
        """Return the signals that are present, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}


def cut_rows(order: IntArray, count: int = 1, size: int | None = None) -> list[IntArray]:
    """Cut row numbers into ``count`` parts as equal as can be, or into parts of ``size`` (the last may be smaller).

    No part is empty, unless there are no rows.
    """
    if size is None:
        return list(np.array_split(order, min(count, max(len(order), 1))))
    return [order[i : i + size] for i in range(0, len(order), size)]


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a sentence that names the nearest known name, or all of them when none is near."""
    close = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(sorted(known))
    return f"did you mean {close[0]!r}? (known: {listed})" if close else f"known: {listed}"


def by_name(function: Callable[..., Any], available: Mapping[str, Any]) -> Any:
    """Call ``function`` with the entries of ``available`` that its parameters name.

    Keyword-only parameters with a default are hyper-parameters: they keep their default unless a signal of that
    name exists. Raises ``TypeError`` on a parameter that is neither known nor has a default, and lists the known.
    """
    arguments: dict[str, Any] = {}
    bound = set(function.keywords) if isinstance(function, partial) else set()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in bound:
            continue
        if parameter.name in available:
            arguments[parameter.name] = available[parameter.name]
        elif parameter.default is parameter.empty:
            label = getattr(function, "__qualname__", repr(function))
            raise TypeError(
                f"{label} asks for {parameter.name!r}, which is not a signal; "
                f"{nearest(parameter.name, list(available))}"
            )
    return function(**arguments)


def apply(rule: Callable[..., FloatArray], signals: Signals, **more: Any) -> FloatArray:
    """Call a credit rule with the signals it names (``signals`` itself, and ``more``, may be named as well)."""
    return np.asarray(by_name(rule, {**signals.named(), "signals": signals, **more}), dtype=np.float64)


def chain(*rules: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
    """Return a credit rule that runs ``rules`` in order; every later rule may read the result as ``adv_NT``."""
    if not rules:
        raise ValueError("chain needs at least one credit rule")

    def chained(signals: Signals) -> FloatArray:
        for rule in rules:
            signals = replace(signals, adv_NT=apply(rule, signals))
        assert signals.adv_NT is not None
        return signals.adv_NT

    return chained


def part_of(parts_CN: FloatArray, channels: Sequence[str], name: str) -> FloatArray:
    """Return the named part of every row, 0 where no score has such a part."""
    return parts_CN[channels.index(name)] if name in channels else np.zeros(parts_CN.shape[1])


def spread_turns(value_NK: FloatArray, turn_NT: IntArray) -> FloatArray:
    """Give every model token the value of its turn: ``out[n, t] = value[n, turn[n, t]]``, 0 elsewhere."""
    spread_NT = np.zeros(turn_NT.shape, dtype=np.float64)
    rows, columns = np.nonzero(turn_NT >= 0)
    spread_NT[rows, columns] = value_NK[rows, turn_NT[rows, columns]]
    return spread_NT


def _row(trajectory: Trajectory) -> tuple[list[int], list[int], list[float], list[int]]:
    """Flatten one trajectory to ids, turn index, log-probs and segment index per token."""
    ids: list[int] = []
    turn_index: list[int] = []
    logps: list[float] = []
    segments: list[int] = []
    segment, last = -1, None
    for k, turn in enumerate(trajectory.turns):
        if k == 0 or turn.parent is None or turn.parent != last:
            segment += 1
        last = turn.id
        ids += [*turn.given, *turn.sampled]
        turn_index += [-1] * len(turn.given) + [k] * len(turn.sampled)
        logps += [0.0] * len(turn.given) + list(turn.logps)
        segments += [segment] * (len(turn.given) + len(turn.sampled))
    return ids, turn_index, logps, segments


def _marked(trajectory: Trajectory, labels: Sequence[str]) -> list[int]:
    """Return the index of the label of every token, -1 outside spans; where spans overlap the later one holds."""
    marks: list[int] = []
    for turn in trajectory.turns:
        start = len(marks) + len(turn.given)
        marks += [-1] * (len(turn.given) + len(turn.sampled))
        for span in turn.spans:
            marks[start + span.start : start + span.stop] = [labels.index(span.label)] * (span.stop - span.start)
    return marks


def first_call(trajectory: Trajectory) -> int:
    """Return the column where the first executed call begins (its span, or else its turn); -1 without one.

    Calls that end the episode do not count.
    """
    column = 0
    for turn in trajectory.turns:
        column += len(turn.given)
        ran = [i for i, observation in enumerate(turn.observations) if observation.counted]
        if ran:
            calls = [span.start for span in turn.spans if span.label == "call"]
            return column + (calls[ran[0]] if ran[0] < len(calls) else 0)
        column += len(turn.sampled)
    return -1


def _groups(scores: Sequence[Score], groups: Sequence[int]) -> list[int]:
    """Number the groups; the scores of one task may set several apart."""
    if not any(score.group for score in scores):
        return list(groups)
    keys = [(group, score.group) for group, score in zip(groups, scores, strict=True)]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def _padded(rows: Sequence[Sequence[float]], fill: float, dtype: Any) -> Any:
    width = max((len(row) for row in rows), default=0)
    padded = np.full((len(rows), width), fill, dtype=dtype)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


def pack(
    trajectories: Sequence[Trajectory],
    scores: Sequence[Score],
    groups: Sequence[int],
    *,
    episodes: Sequence[int] | None = None,
    step: int = 0,
) -> Signals:
    """Lay trajectories, their scores and group indices out as ``Signals`` (ids are copied, never re-made)."""
    if not len(trajectories) == len(scores) == len(groups):
        raise ValueError(f"{len(trajectories)} trajectories, {len(scores)} scores and {len(groups)} groups differ")
    flat = [_row(t) for t in trajectories]
    counts = [tally(observation for _, observation in t.calls) for t in trajectories]
    labels = tuple(sorted({span.label for t in trajectories for turn in t.turns for span in turn.spans}))
    channels = tuple(dict.fromkeys(name for score in scores for name in score.parts))
    turns = [len(t.turns) for t in trajectories]
    episode_N = np.asarray(range(len(trajectories)) if episodes is None else episodes, dtype=np.int64)
    widest = max(turns, default=0)
    node_NK = np.full((len(trajectories), widest), -1, dtype=np.int64)
    stride = 1 + max((turn.id for t in trajectories for turn in t.turns), default=0)
    for i, trajectory in enumerate(trajectories):
        for k, turn in enumerate(trajectory.turns):
            node_NK[i, k] = int(episode_N[i]) * stride + turn.id
    turn_reward = np.zeros((len(trajectories), widest), dtype=np.float64)
    for i, score in enumerate(scores):
        if len(score.turns) > turns[i]:
            raise ValueError(f"score {i} has {len(score.turns)} turn scores for a trajectory of {turns[i]} turns")
        turn_reward[i, : len(score.turns)] = score.turns
    return Signals(
        reward_N=np.asarray([s.value for s in scores], dtype=np.float64),
        group_N=np.asarray(_groups(scores, groups), dtype=np.int64),
        turn_NT=_padded([f[1] for f in flat], -1, np.int64),
        ids_NT=_padded([f[0] for f in flat], -1, np.int64),
        logp_NT=_padded([f[2] for f in flat], 0.0, np.float64),
        node_NK=node_NK,
        turn_reward_NK=turn_reward,
        parts_CN=np.asarray([[s.parts.get(c, 0.0) for s in scores] for c in channels], dtype=np.float64).reshape(
            len(channels), len(scores)
        ),
        segment_NT=_padded([f[3] for f in flat], -1, np.int64),
        episode_N=episode_N,
        calls_N=np.asarray([count.calls for count in counts], dtype=np.int64),
        malformed_N=np.asarray([count.malformed for count in counts], dtype=np.int64),
        turns_N=np.asarray(turns, dtype=np.int64),
        size_N=np.asarray([len(f[0]) for f in flat], dtype=np.int64),
        span_NT=_padded([_marked(t, labels) for t in trajectories], -1, np.int64),
        first_call_N=np.asarray([first_call(t) for t in trajectories], dtype=np.int64),
        labels=labels,
        channels=channels,
        step=step,
    )
