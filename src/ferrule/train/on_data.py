"""Steps that learn from given rows and pairs: supervised fine-tuning and preference learning."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.core.recipe import Drawn, Stage
from ferrule.data.formats import Pair, Row
from ferrule.train.step import Equipment, Step, Taken
from ferrule.train.update import Lesson, Sequences

__all__ = ["on_data", "on_pairs", "on_rows", "pairs", "rows"]


def _arrays(row: Row) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.asarray(row.ids, dtype=np.int64), np.asarray(row.turn, dtype=np.int64)


def rows(data: Sequence[Row]) -> Sequences:
    """Return rows as sequences for ``update``; ``chosen_N`` carries their labels (for unpaired preference losses)."""
    listed = [_arrays(row) for row in data]
    return Sequences(
        [i for i, _ in listed], [t for _, t in listed], per_row={"chosen_N": [float(r.label) for r in data]}
    )


def pairs(data: Sequence[Pair]) -> Sequences:
    """Return pairs as sequences; the members of a pair share ``pair_N`` and a micro-batch."""
    flat = [(k, row, chosen) for k, p in enumerate(data) for row, chosen in ((p.chosen, 1.0), (p.rejected, 0.0))]
    listed = [_arrays(row) for _, row, _ in flat]
    numbers = {"pair_N": [float(k) for k, _, _ in flat], "chosen_N": [c for _, _, c in flat]}
    return Sequences([i for i, _ in listed], [t for _, t in listed], per_row=numbers, unit=[k for k, _, _ in flat])


class _OnData:
    """Steps over shuffled rows or pairs, again from the start when they run out."""

    def __init__(
        self, stage: Stage, drawn: Drawn, equipment: Equipment, laid_out: Callable[[Any], Sequences], members: int
    ) -> None:
        if not drawn.items:
            raise ValueError("there is nothing to learn from: the data is empty")
        self.stage, self.drawn, self.equipment, self.laid_out, self.members = stage, drawn, equipment, laid_out, members
        self.rng, self.order = np.random.default_rng(equipment.settings.seed), list[int]()

    def __call__(self, step: int) -> Taken:
        equipment, stage, items, began = self.equipment, self.stage, self.drawn.items, time.perf_counter()
        size = equipment.settings.samples(equipment.processes)
        while len(self.order) < min(size, len(items)):
            self.order += self.rng.permutation(len(items)).tolist()
        chosen, self.order = self.order[:size], self.order[size:]
        seqs = self.laid_out([items[i] for i in chosen])
        metrics = equipment.learn(
            [Lesson(seqs, stage.objective, stage.reduce, reference=stage.reference)], step,
            rows=equipment.settings.per_device_train_batch_size * self.members, seed=equipment.settings.seed + step,
        )  # fmt: skip
        learned = seqs.total(range(len(seqs.ids))).tokens
        counts = {
            "rows": float(len(seqs.ids)),
            "tokens/learned": learned,
            "seconds/update": time.perf_counter() - began,
        }
        return Taken({**metrics, **counts}, 0 if self.drawn.sampled else int(learned))

    @property
    def settled(self) -> bool:
        return True

    def settle(self) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {"order": list(self.order), "random": self.rng.bit_generator.state}

    def load(self, state: Mapping[str, Any]) -> None:
        self.order, self.rng.bit_generator.state = [int(i) for i in state["order"]], state["random"]

    def close(self) -> None:
        pass


def on_rows(stage: Stage, data: Sequence[Row] | Drawn, equipment: Equipment) -> Step:
    """Return the step that learns from rows: ``Settings.samples`` of them, in micro-batches of the device's size."""
    return _OnData(stage, _drawn(data), equipment, rows, 1)


def on_pairs(stage: Stage, data: Sequence[Pair] | Drawn, equipment: Equipment) -> Step:
    """Return the step that learns from pairs; sizes count pairs."""
    return _OnData(stage, _drawn(data), equipment, pairs, 2)


def on_data(stage: Stage, data: Sequence[Any] | Drawn, equipment: Equipment) -> Step:
    """Return ``on_pairs`` for pairs and ``on_rows`` for rows; an objective for the other kind is refused."""
    drawn = _drawn(data)
    kinds = {type(item) for item in drawn.items}
    if len(kinds) > 1 or not kinds <= {Row, Pair}:
        raise TypeError(f"the data of a stage are rows or pairs, all of one kind; it gave {_names(kinds)}")
    paired = kinds == {Pair}
    reads = "pair_N" in _parameters(stage.objective)
    if kinds and paired is not reads:
        reader = "compares pairs (it reads pair_N)" if reads else "learns from rows (it reads no pair_N)"
        raise ValueError(f"the objective of the stage {reader}, and its data are {'pairs' if paired else 'rows'}")
    return on_pairs(stage, drawn, equipment) if paired else on_rows(stage, drawn, equipment)


def _drawn(data: Sequence[Any] | Drawn) -> Drawn:
    return data if isinstance(data, Drawn) else Drawn(data)


def _names(kinds: Iterable[type]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds))


def _parameters(function: Callable[..., Any]) -> set[str]:
    bound = set(function.keywords) if isinstance(function, partial) else set()
    return set(inspect.signature(function).parameters) - bound
