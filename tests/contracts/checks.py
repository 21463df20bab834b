"""The checks behind the contract suite: each takes one piece and fails with ``Broken`` when it breaks a promise."""

from __future__ import annotations

import copy
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ferrule.core.arrays import Signals, apply, by_name
from ferrule.core.marks import exemptions
from ferrule.core.records import Call, Message, Observation, Score, Task, Trajectory, Turn


class Broken(AssertionError):
    """A piece broke a promise of its kind."""


def _need(condition: Any, promise: str, detail: str = "") -> None:
    if not condition:
        raise Broken(f"{promise}{': ' if detail else ''}{detail}")


# ------------------------------------------------------------------------------------------------------------ discovery


def public_functions(*packages: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every function that a module below ``packages`` exports in ``__all__`` and defines itself."""
    for package in packages:
        root = importlib.import_module(package)
        names = [package, *(entry.name for entry in pkgutil.walk_packages(root.__path__, prefix=f"{package}."))]
        for name in names:
            module = importlib.import_module(name)
            for attribute in getattr(module, "__all__", ()):
                value = getattr(module, attribute)
                if inspect.isfunction(value) and value.__module__ == name:
                    yield f"{name}:{attribute}", value


def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def credit_rules(*packages: str) -> dict[str, Callable[..., Any]]:
    """Functions that name ``turn_NT`` and neither ``logp_NT`` as a tensor nor ``loss_NT``: credit rules."""
    return {n: f for n, f in public_functions(*packages) if "turn_NT" in _parameters(f) and not _on_tensors(f)}


def _on_tensors(function: Callable[..., Any]) -> bool:
    return any("Tensor" in str(p.annotation) for p in inspect.signature(function).parameters.values())


def objectives(*packages: str) -> dict[str, Callable[..., Any]]:
    """Functions over tensors that name ``turn_NT`` but are no reduction: objectives."""
    return {
        n: f
        for n, f in public_functions(*packages)
        if _on_tensors(f)
        and "turn_NT" in _parameters(f)
        and "loss_NT" not in _parameters(f)
        and "loss" not in exemptions(f)
    }


def reductions(*packages: str) -> dict[str, Callable[..., Any]]:
    """Functions that start with ``(loss_NT, turn_NT, total)``: reductions."""
    return {n: f for n, f in public_functions(*packages) if _parameters(f)[:3] == ["loss_NT", "turn_NT", "total"]}


def rewards(*packages: str) -> dict[str, Callable[..., Any]]:
    """Functions that start with ``(task, trajectories)``: rewards."""
    return {n: f for n, f in public_functions(*packages) if _parameters(f)[:2] == ["task", "trajectories"]}


# --------------------------------------------------------------------------------------------------------------- credit

SHAPES = ((2, 2, 3), (3, 1), (0, 2), (1,), (2, 1, 2, 1), (3, 3))
"""Tokens per turn of example rows; 0 is a turn without model tokens, one row may have none at all."""


def signals_of(rows: Sequence[int], groups: Sequence[int], *, seed: int = 0, equal: bool = False) -> Signals:
    """Build a batch whose row ``i`` has the turns ``SHAPES[rows[i]]`` (no model tokens for -1) in group ``groups[i]``.

    ``equal`` makes all rewards the same and leaves turn rewards out. Numbers depend on the row index and seed only.
    """
    laid = [_row(shape) for shape in rows]
    width, turns = max(len(row) for row in laid) + 2, 5
    n = len(rows)
    turn_NT = np.full((n, width), -1, dtype=np.int64)
    node_NK = np.full((n, turns), -1, dtype=np.int64)
    float_NT = {name: np.zeros((n, width)) for name in ("logp", "value", "adv")}
    reward_N, parts_CN, turn_reward_NK = np.zeros(n), np.zeros((2, n)), np.zeros((n, turns))
    for i, row in enumerate(laid):
        rng = np.random.default_rng([seed, i])
        turn_NT[i, 1 : 1 + len(row)] = row
        count = max((k for k in row), default=-1) + 1
        node_NK[i, :count] = 100 * i + np.arange(count)
        mine = turn_NT[i] >= 0
        for values in float_NT.values():
            values[i, mine] = rng.normal(size=int(mine.sum()))
        float_NT["logp"][i] = -np.abs(float_NT["logp"][i])
        reward_N[i] = rng.integers(0, 3) / 2 + 0.3 * rng.normal()
        parts_CN[:, i] = rng.normal(size=2)
        turn_reward_NK[i, :count] = rng.normal(size=count)
    if equal:
        reward_N[:], parts_CN[:], turn_reward_NK[:] = 0.7, 0.3, 0.0
        float_NT["adv"][:] = 0.0
    return Signals(
        reward_N=reward_N,
        group_N=np.asarray(groups, dtype=np.int64),
        turn_NT=turn_NT,
        ids_NT=np.where(turn_NT >= 0, 7, -1),
        logp_NT=float_NT["logp"],
        node_NK=node_NK,
        turn_reward_NK=turn_reward_NK,
        parts_CN=parts_CN,
        segment_NT=np.where(turn_NT >= 0, 0, -1),
        episode_N=np.arange(n),
        calls_N=np.arange(n) % 3,
        malformed_N=np.arange(n) % 2,
        turns_N=(node_NK >= 0).sum(1),
        size_N=(turn_NT >= 0).sum(1),
        span_NT=np.where(turn_NT >= 0, np.arange(width)[None, :] % 3 - 1, -1),
        first_call_N=np.where(np.arange(n) % 2 == 0, (turn_NT >= 0).argmax(1), -1),
        labels=("call", "think"),
        channels=("outcome", "format"),
        value_NT=float_NT["value"],
        adv_NT=float_NT["adv"],
    )


def _row(shape: int) -> list[int]:
    """Lay out the turns of a shape with an observation token (-1) between them."""
    row: list[int] = []
    for k, tokens in enumerate(SHAPES[shape] if shape >= 0 else ()):
        row += ([-1] if k else []) + [k] * tokens
    return row or [-1]


def take(signals: Signals, rows: Sequence[int]) -> Signals:
    """Return the rows of a batch in a new order, or a part of them."""
    index = np.asarray(rows)
    changes = {}
    for name, value in signals.named().items():
        if isinstance(value, np.ndarray):
            changes[name] = value[:, index] if name == "parts_CN" else value[index]
    return replace(signals, **changes)


def _credit(rule: Callable[..., Any], signals: Signals) -> np.ndarray:
    """Call a rule with the signals it names; a reference model's log-probs are at hand as well."""
    ref_NT = np.where(signals.turn_NT >= 0, signals.logp_NT - 0.25, 0.0)
    with np.errstate(all="ignore"):
        return apply(rule, signals, ref_NT=ref_NT)


MIXED = signals_of([0, 1, 2, 3, -1, 4, 5, 0], [0, 0, 0, 1, 1, 1, 2, 3])
"""Unequal groups, two groups of one, a row without model tokens."""


def check_credit(rule: Callable[..., Any]) -> None:
    """Check every promise of a credit rule that it is not exempt from."""
    exempt = exemptions(rule)
    before = copy.deepcopy(MIXED.named())
    adv_NT = _credit(rule, MIXED)
    _need(adv_NT.shape == MIXED.turn_NT.shape, "token-shaped", f"{adv_NT.shape}, not {MIXED.turn_NT.shape}")
    for name, value in MIXED.named().items():
        _need(np.array_equal(value, before[name]), "inputs untouched", name)
    _need(not adv_NT[MIXED.turn_NT < 0].any(), "zero off the model's tokens")
    _need(np.array_equal(adv_NT, _credit(rule, MIXED), equal_nan=True), "same inputs, same result")
    for name, batch in _hard_batches().items():
        result = _credit(rule, batch)
        _need(np.isfinite(result).all(), "finite", name)
        _need(not result[batch.turn_NT < 0].any(), "zero off the model's tokens", name)
    if "centred" not in exempt:
        _need(
            not _credit(rule, signals_of([0, 1, 4, 2, 3], [0, 0, 0, 1, 1], equal=True)).any(), "equal rewards give zero"
        )
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    _need(np.allclose(_credit(rule, take(MIXED, order)), adv_NT[order]), "permutation-equivariant")
    if "independent" not in exempt:
        for group in range(4):
            rows = np.flatnonzero(MIXED.group_N == group)
            _need(np.allclose(_credit(rule, take(MIXED, rows)), adv_NT[rows]), "independent across groups", str(group))


def _hard_batches() -> dict[str, Signals]:
    large = signals_of([0, 1, 2], [0, 0, 0])
    return {
        "constant groups": signals_of([0, 1, 4, 2, 3], [0, 0, 0, 1, 1], equal=True),
        "groups of one": signals_of([0, 1, 2], [4, 7, 1]),
        "one row": signals_of([0], [0]),
        "no model tokens": signals_of([-1, -1], [0, 0]),
        "large rewards": replace(large, reward_N=large.reward_N * 1e9),
        "tiny spread": replace(large, reward_N=np.asarray([0.1, 0.1 + 1e-16, 0.1 + 1e-12])),
    }


# -------------------------------------------------------------------------------------------------------------- rewards


def example_trajectories(task: Task, *, observed: str = "4") -> list[Trajectory]:
    """A right answer after two calls, a wrong one with trouble, a long one without calls, and an empty trajectory."""

    def turn(index: int, statuses: Sequence[str], tokens: int) -> Turn:
        calls = tuple(Call("calculator", {"expression": "2+2"}, id=f"call_{i}") for i in range(len(statuses)))
        observations = tuple(Observation(observed, status=status) for status in statuses)  # type: ignore[arg-type]
        sampled = tuple(range(tokens))
        reply = Message("assistant", "thinking", calls=calls)
        parent = index - 1 if index else None
        return Turn(index, parent, (1, 2), sampled, (-0.5,) * tokens, reply, observations=observations)

    return [
        Trajectory(task, (turn(0, ["ok", "ok"], 4), turn(1, [], 3)), answer="4"),
        Trajectory(task, (turn(0, ["malformed"], 4), turn(1, ["unknown_tool", "timeout"], 9)), answer="5"),
        Trajectory(task, (turn(0, [], 40),), answer="The answer is \\boxed{4}"),
        Trajectory(task, (), answer=None, finish="error"),
    ]


_GOLD = {"calls": [{"name": "calculator", "arguments": {"expression": "2+2"}}]}
TASKS = (
    Task("numeric", "How much is 2 + 2?", answer="4", meta={**_GOLD, "verifier": "numeric"}),
    Task("exact", "How much is 2 + 2?", answer="4", meta=_GOLD),
    Task("nobody", "How much is 2 + 2?", answer="6", meta=_GOLD),
)


def check_reward(reward: Callable[..., Sequence[Score]]) -> None:
    """Check every promise of a reward that it is not exempt from."""
    exempt = exemptions(reward)
    for task in TASKS:
        group = example_trajectories(task)
        scores = reward(task, group)
        _need(len(scores) == len(group), "one score per trajectory", f"{len(scores)} for {len(group)}")
        for score in scores:
            _need(isinstance(score, Score), "scores are Score records", type(score).__name__)
            _need(all(map(math.isfinite, (score.value, *score.turns, *score.parts.values()))), "finite", str(score))
        for order in ([3, 1, 0, 2], [1, 0, 3, 2]):
            shuffled = reward(task, [group[i] for i in order])
            _need(list(shuffled) == [scores[i] for i in order], "order-equivariant")
        _need(list(reward(task, [])) == [], "happy without trajectories")
        _need(len(reward(task, group[3:])) == 1, "happy with an empty trajectory")
        _need(list(reward(task, group)) == list(scores), "same inputs, same result")
        if "blind" not in exempt:
            other = replace(task, prompt="Something else entirely: 5")
            blind = reward(other, example_trajectories(other, observed="The answer is 5"))
            _need([s.value for s in blind] == [s.value for s in scores], "reads neither prompt nor observation text")


# ----------------------------------------------------------------------------------------------------------- objectives


def arrays(*, scale: float = 1.0, seed: int = 0, widen: int = 0, extra_rows: int = 0) -> dict[str, Any]:
    """Tensors an objective may name, four rows; garbage (infinite, NaN) stands off the model's tokens.

    Pairs are rows (0, 1) and (2, 3). ``widen`` adds garbage columns and ``extra_rows`` rows without model tokens.
    """
    import torch

    shapes = [[-1, 0, 0, -1, 1, 1], [-1, 0, -1, 1, 1, -1], [-1, -1, 0, 0, 0, -1], [-1, 0, 0, 0, 1, 1]]
    rows = [row + [-1] * widen for row in shapes] + [[-1] * (6 + widen)] * extra_rows
    turn_NT = torch.tensor(rows)
    out: dict[str, Any] = {"turn_NT": turn_NT}
    generator = torch.Generator().manual_seed(seed)
    for name in ("logp_NT", "old_NT", "ref_NT", "adv_NT", "entropy_NT", "value_NT", "old_value_NT", "target_NT"):
        core = torch.randn(4, 6, generator=generator, dtype=torch.float64) * scale
        if name in ("logp_NT", "old_NT", "ref_NT"):
            core = -core.abs()
        values = torch.full(turn_NT.shape, float("nan"), dtype=torch.float64)
        values[::2] = float("inf")
        values[:4, :6] = torch.where(turn_NT[:4, :6] >= 0, core, values[:4, :6])
        out[name] = values
    out["pair_N"], out["chosen_N"] = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 0, 1])
    return out


def _loss_and_slope(objective: Callable[..., Any], named: Mapping[str, Any]) -> tuple[Any, Any]:
    import torch

    leaf = next(n for n in ("logp_NT", "value_NT") if n in inspect.signature(objective).parameters)
    values = named[leaf].clone().requires_grad_(True)
    loss_NT = by_name(objective, {**named, leaf: values})
    (slope,) = torch.autograd.grad(loss_NT.sum(), values, allow_unused=True)
    return loss_NT, torch.zeros_like(values) if slope is None else slope


def check_objective(objective: Callable[..., Any], *, rows_apart: bool = True) -> None:
    """Check every promise of an objective; ``rows_apart=False`` leaves out rows without a partner (pair losses)."""
    import torch

    named = arrays()
    mine_NT = named["turn_NT"] >= 0
    loss_NT, slope_NT = _loss_and_slope(objective, named)
    _need(loss_NT.shape == mine_NT.shape, "token-shaped", str(tuple(loss_NT.shape)))
    _need(torch.isfinite(loss_NT).all(), "finite with garbage off the model's tokens")
    _need(not bool(loss_NT.detach()[~mine_NT].any()), "no loss off the model's tokens")
    _need(torch.isfinite(slope_NT).all(), "finite gradient with garbage off the model's tokens")
    _need(not bool(slope_NT[~mine_NT].any()), "zero gradient for masked tokens")
    names = inspect.signature(objective).parameters
    if "adv_NT" in names:
        flat = {**named, "adv_NT": torch.zeros_like(named["adv_NT"]), "ref_NT": named["logp_NT"]}
        _, slope = _loss_and_slope(objective, {**flat, "entropy_NT": torch.zeros_like(named["entropy_NT"])})
        _need(not bool(slope.any()), "zero gradient for zero advantage")
    for scale in (1e2, 1e4):
        loss, slope = _loss_and_slope(objective, arrays(scale=scale))
        _need(torch.isfinite(loss).all() and torch.isfinite(slope).all(), "finite at extreme ratios", f"scale {scale}")
    wide_loss, wide_slope = _loss_and_slope(objective, arrays(widen=3, extra_rows=2 if rows_apart else 0))
    _need(torch.allclose(wide_loss[:4, :6], loss_NT), "independent of padding")
    _need(torch.allclose(wide_slope[:4, :6], slope_NT), "gradient independent of padding")
    _need(not bool(wide_loss.detach()[:, 6:].any()) and not bool(wide_loss.detach()[4:].any()), "no loss on padding")


def check_reduction(reduce: Callable[..., Any]) -> None:
    """Check that a reduction adds up over micro-batches, ignores padding and garbage, and survives an empty batch."""
    import torch

    from ferrule.objectives.reduce import totals

    turn_NT = arrays()["turn_NT"]
    loss_NT = torch.where(turn_NT >= 0, arrays()["adv_NT"], torch.tensor(float("nan"), dtype=torch.float64))
    total = totals(turn_NT)
    whole = reduce(loss_NT, turn_NT, total)
    _need(whole.ndim == 0 and bool(torch.isfinite(whole)), "a finite scalar")
    for split in ([[0], [1, 2, 3]], [[0, 3], [1], [2]], [[3, 1, 0, 2]]):
        parts = sum(reduce(loss_NT[rows], turn_NT[rows], total) for rows in split)
        _need(torch.allclose(parts, whole), "additive over micro-batches", str(split))
    padded = torch.nn.functional.pad(turn_NT, (0, 4, 0, 2), value=-1)
    nan = torch.nn.functional.pad(loss_NT, (0, 4, 0, 2), value=float("nan"))
    _need(totals(padded) == total, "totals count model tokens and their rows only")
    _need(torch.allclose(reduce(nan, padded, total), whole), "independent of padding")
    nothing = torch.full_like(turn_NT, -1)
    _need(float(reduce(loss_NT, nothing, totals(nothing))) == 0.0, "zero for a batch without model tokens")


# -------------------------------------------------------------------------------------------------------------- records


def check_ids(trajectory: Trajectory, seen: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    """Check that ids given and sampled, joined along the path, are what the model saw and wrote at every turn.

    ``seen`` holds for every turn all ids the model was fed before its first sampled id, and the ids it then wrote.
    """
    _need(len(seen) == len(trajectory.turns), "one entry per turn", f"{len(seen)} for {len(trajectory.turns)}")
    context: tuple[int, ...] = ()
    last: int | None = None
    for turn, (fed, wrote) in zip(trajectory.turns, seen, strict=True):
        if turn.parent is None or turn.parent != last:
            context = ()
        _need(context + turn.given == tuple(fed), "ids given are what the model saw", f"turn {turn.id}")
        _need(turn.sampled == tuple(wrote), "ids sampled are what the model wrote", f"turn {turn.id}")
        _need(len(turn.logps) in (0, len(turn.sampled)), "one log-prob per sampled id", f"turn {turn.id}")
        context += turn.given + turn.sampled
        last = turn.id
