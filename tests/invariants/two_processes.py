"""One of two processes: do every job with the pool and write what was found to the folder of the first argument."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from tests.invariants import jobs


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    pool = Accelerator(cpu=True)
    assert pool.num_processes == 2
    found: dict[str, object] = {}
    for name, policy in jobs.policies().items():
        found[f"sampled {name}"] = jobs.lines(jobs.sampled(policy, pool))
    for name in jobs.REDUCTIONS:
        found[f"updated {name}"] = jobs.updated(name, 4, pool)
    found["trained"] = jobs.trained(folder / "run", pool)
    torch.save(found, folder / f"rank{pool.process_index}.pt")
    pool.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
