"""The memory that an update takes, beside what the plan line of a run expects: one row forward and backward.

Weights and gradients are there before the measurement begins. Then two rows are computed, and while they are the C
library is asked again and again how much of its memory is in use. What it keeps of freed memory comes on top.
"""

import argparse
import ctypes
import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from common import report
from transformers import AutoConfig, AutoModelForCausalLM

from ferrule.policies.named import load
from ferrule.speed.expected import memory_expected
from ferrule.train.memory import checkpointed

SHAPES: dict[str, dict[str, int]] = {
    "llama": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 9,
              "num_key_value_heads": 3, "head_dim": 64},
    "qwen3": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4, "num_attention_heads": 8,
              "num_key_value_heads": 4, "head_dim": 128},
}  # fmt: skip
"""Models of random weights, by their architecture; the vocabulary is that of the pocket model."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--models", nargs="+", default=list(SHAPES), help=f"names, or {', '.join(SHAPES)}")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], help="float32, bfloat16, mixed")
    parser.add_argument("--ranks", type=int, nargs="+", default=[0, 16], help="of adapters; 0: all weights train")
    parser.add_argument("--tokens", type=int, default=1024, help="of a row")
    return parser.parse_args()


_UNUSED = ("arena", "ordblks", "smblks", "hblks")


class Mallinfo(ctypes.Structure):
    """What ``mallinfo2`` of the C library returns."""

    _fields_ = [(name, ctypes.c_size_t) for name in (*_UNUSED, "hblkhd", "b", "c", "uordblks", "d", "e")]


def in_use() -> int:
    """Return the bytes that this process has allocated and not freed."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = Mallinfo
    info = ask()
    return int(info.uordblks + info.hblkhd)


@contextmanager
def watched() -> Iterator[list[int]]:
    """Collect the largest number of bytes in use meanwhile, read every few milliseconds."""
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            most[0] = max(most[0], in_use())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def policy_of(name: str, dtype: str, rank: int) -> Any:
    """Return a policy, of random weights for the name of an architecture."""
    held = "bfloat16" if dtype == "bfloat16" else "float32"
    policy: Any = load("pocket" if name in SHAPES else name, device="cpu", dtype=held, bf16=dtype == "mixed")
    if name in SHAPES:
        config = AutoConfig.for_model(name, vocab_size=len(policy.tokenizer), **SHAPES[name])
        policy.model = AutoModelForCausalLM.from_config(config).to(getattr(torch, held))
    if rank:
        policy.add_adapter(lora_r=rank)
    policy.model.train()
    return policy


def one(policy: Any, tokens: int, again: bool) -> dict[str, float]:
    """Compute the gradients of two rows and return what was taken and expected, in MB, weights and gradients aside."""

    def learn(count: int) -> None:
        ids_NT = torch.randint(5, 300, (1, count), generator=torch.Generator().manual_seed(0))
        policy.logps(ids_NT, torch.zeros_like(ids_NT))["logp_NT"].sum().backward()

    with checkpointed(policy, again):
        learn(16)
        expected = memory_expected(policy, plays=False, longest=tokens, gradient_checkpointing=again)["activations"]
        before = in_use()
        with watched() as most:
            learn(tokens)
            learn(tokens)
    taken = most[0] - before
    return {"taken": round(taken / 1e6, 1), "expected": round(expected / 1e6, 1), "ratio": round(expected / taken, 3)}


def main() -> None:
    given = options()
    rows = []
    for model, dtype, rank in itertools.product(given.models, given.dtypes, given.ranks):
        policy = policy_of(model, dtype, rank)
        for again in (False, True):
            case = {"model": model, "dtype": dtype, "lora_r": rank, "gradient_checkpointing": again}
            rows.append({**case, **one(policy, given.tokens, again)})
            print(rows[-1], file=sys.stderr)
    report("memory", {"tokens": given.tokens, "shapes": SHAPES, "rows": rows}, given.json)


if __name__ == "__main__":
    main()
