"""The memory that an update takes, beside what the plan line of a run expects: one row forward and backward.

The peak of the process is read after the model was loaded and again after two rows of each length, so that what the
allocator keeps counts as it does in a run. Each length runs in a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import report


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--model", default="smollm2-135m", help="default smollm2-135m")
    parser.add_argument("--dtype", default="float32", help="default float32")
    parser.add_argument("--lora-r", type=int, default=0, help="rank of an adapter, default 0: all weights train")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048], help="tokens of a row")
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def peak() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def one(given: argparse.Namespace) -> dict[str, float]:
    """Compute the gradients of one length and return what was taken and expected, in GB, weights left out."""
    import torch

    from ferrule.policies.named import load
    from ferrule.policies.packing.packed import logps
    from ferrule.speed.expected import memory_expected

    policy: Any = load(given.model, device="cpu", dtype=given.dtype)
    if given.lora_r:
        policy.add_adapter(lora_r=given.lora_r)
    gradients = sum(p.numel() * p.element_size() for p in policy.parameters())
    before = peak()
    ids_NT = torch.randint(5, 1000, (1, given.one), generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        logps(policy.model, ids_NT, torch.zeros_like(ids_NT))["logp_NT"].sum().backward()
    expected = memory_expected(policy, plays=False, longest=given.one)["activations"]
    return {"tokens": given.one, "taken": (peak() - before - gradients) / 1e9, "expected": expected / 1e9}


def main() -> None:
    given = options()
    if given.one:
        print(json.dumps(one(given)))
        return
    rows = []
    for length in given.lengths:
        told = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--one", str(length)], capture_output=True, text=True, check=True
        )
        rows.append(json.loads(told.stdout.splitlines()[-1]))
    report("memory", {"model": given.model, "dtype": given.dtype, "lora_r": given.lora_r, "rows": rows}, given.json)


if __name__ == "__main__":
    main()
