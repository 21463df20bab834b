"""The engine's kernels of two checkouts, paired: milliseconds of a step and of prompts, and whether logits are equal.

`python benchmarks/kernels_paired.py --before OTHER/CHECKOUT` runs both in turn on the same random tokens, on one
thread. Times are CPU time, of a step the least of many; ``logits`` says whether all logits are equal bit for bit.
`--model NAME` takes another model than pocket, and `--rows` so many at the most.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from paired import paired

from ferrule.policies.engine.kernels import PAGE
from ferrule.policies.engine.lean import Lean
from ferrule.policies.named import load

ROWS = (1, 4, 8, 16, 32, 64, 128)


class Batch:
    """Rows of random tokens of one length in the cache of the kernels, and their next step."""

    def __init__(self, lean: Lean, rows: int, length: int, seed: int) -> None:
        self.lean, self.rows, self.length = lean, np.arange(rows), length
        self.ids = np.random.default_rng(seed).integers(5, lean.vocab - 5, (rows, length + 1))
        each = length // PAGE + 1
        self.table = np.arange(rows * each).reshape(rows, each)
        lean.grow(rows * each)

    def prompt(self) -> torch.Tensor:
        """Compute all tokens but the last ones at once; return the logits after them."""
        rows, positions = np.repeat(self.rows, self.length), np.tile(np.arange(self.length), len(self.rows))
        last = (self.rows + 1) * self.length - 1
        where = self.table[rows, positions // PAGE]
        return self.lean(self.ids[:, :-1].ravel(), positions, where, rows, self.table, last)[0]

    def step(self) -> torch.Tensor:
        """Compute the last token of every row; return the logits after it."""
        positions, where = np.full(len(self.rows), self.length), self.table[self.rows, self.length // PAGE]
        return self.lean(self.ids[:, -1], positions, where, self.rows, self.table, self.rows)[0]


def measured(model: str, repeats: int, most: int) -> dict[str, float | str]:
    """Measure the kernels of the sources in use."""
    torch.set_num_threads(1)
    lean = Lean(load(model, device="cpu", dtype="float32").model)
    seen = hashlib.sha256()
    figures: dict[str, float | str] = {}
    for rows, length in ((1, 5), (3, 37), (9, 33), (17, 64), (40, 50)):
        batch = Batch(lean, rows, length, seed=rows)
        for logits in (batch.prompt(), batch.step()):
            seen.update(logits.numpy().tobytes())
    for rows in (count for count in ROWS if count <= most):
        batch = Batch(lean, rows, 150, seed=0)
        figures[f"prompts of 150 tokens, {rows} at once, ms"] = _milliseconds(batch.prompt)
        figures[f"a step, {rows} at once, ms"] = min(_milliseconds(batch.step) for _ in range(repeats))
    return {**figures, "logits": seen.hexdigest()}


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return 1000 * (time.process_time() - began)


def main() -> None:
    """Measure both checkouts ``--pairs`` times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of the other commit")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=30, help="of a step")
    parser.add_argument("--rows", type=int, default=ROWS[-1], help="at the most")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.model, options.repeats, options.rows)))
        return
    if options.before is None:
        parser.error("--before names the checkout to compare with")
    more = ["--model", options.model, "--repeats", str(options.repeats), "--rows", str(options.rows)]
    paired("kernels, paired", __file__, options.before, options.pairs, more, options.json)


if __name__ == "__main__":
    main()
