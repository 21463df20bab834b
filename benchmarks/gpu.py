"""Everything that a GPU does, once, in a few minutes: load, generate, agree, learn, and the memory it takes.

On a processor it takes the pocket model and few tokens, which shows that it runs and measures nothing.
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from common import report

import ferrule as fe
from ferrule.core.flows import Ask
from ferrule.core.records import Message
from ferrule.data.formats import Row
from ferrule.policies.devices import torch_device
from ferrule.policies.local import Local
from ferrule.policies.packing.packed import why_padded
from ferrule.speed.expected import memory_expected
from ferrule.train.settings import Settings

WORDS = "Say in one word what the sum of {} and {} is, and then count down from there."
STEPS = 3


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Figures:
    """Figures by name; a part that fails says why and lets the others run."""

    def __init__(self, device: torch.device, minutes: float) -> None:
        self.device, self.until = device, time.monotonic() + 60 * minutes
        self.values: dict[str, Any] = {}

    def take(self, name: str, part: Callable[[], dict[str, Any]]) -> None:
        """Run a part with fresh peak memory, and keep its figures, seconds and peak."""
        if time.monotonic() > self.until:
            self.values[name] = {"left_out": "no time left"}
            return
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        began = clock(self.device)
        try:
            figures = part()
        except Exception as error:
            figures = {"failed": f"{type(error).__name__}: {error}"}
        figures["seconds"] = round(clock(self.device) - began, 2)
        if self.device.type == "cuda":
            figures["peak_gb"] = round(torch.cuda.max_memory_allocated(self.device) / 1e9, 3)
        self.values[name] = figures
        print(name, figures, flush=True)


def asks(count: int, samples: int, new: int) -> list[Ask]:
    """Return questions whose samples are ``new`` tokens long unless the model ends them."""
    texts = [WORDS.format(i, 2 * i + 1) for i in range(count)]
    return [
        Ask((Message("user", text),), n=samples, seed=i, temperature=1.0, max_tokens=new)
        for i, text in enumerate(texts)
    ]


def generated(policy: Local, size: Sequence[int]) -> dict[str, Any]:
    """Sample, and compare the log-probs of the replies with a plain forward pass of transformers, row by row."""
    count, samples, new = size
    policy.generate(asks(1, 1, 4))  # engines are opened and compiled by the first ask
    began = clock(policy.device)
    replies = [reply for group in policy.generate(asks(count, samples, new)) for reply in group]
    seconds = clock(policy.device) - began
    tokens = sum(len(reply.sampled) for reply in replies)
    gaps: list[float] = []
    for reply in replies[:8]:
        ids = torch.tensor([[*reply.given, *reply.sampled]], device=policy.device)
        with torch.no_grad(), torch.autocast(policy.device.type, torch.bfloat16, enabled=policy.autocast):
            logits = policy.model(input_ids=ids, use_cache=False).logits[0, len(reply.given) - 1 : -1]
        logp = logits.float().log_softmax(-1).gather(1, ids[0, len(reply.given) :, None])[:, 0]
        gaps += (logp - torch.tensor(reply.logps, device=policy.device)).abs().tolist()
    return {
        "engine": policy.engine.kind, "rows": count * samples, "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
        "logp_gap_mean": sum(gaps) / max(len(gaps), 1), "logp_gap_max": max(gaps, default=0.0),
    }  # fmt: skip


def lessons(policy: Local, count: int, length: int) -> list[Row]:
    """Return rows of equal length that share half of their ids."""
    size = policy.model.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    head = torch.randint(5, min(size, 1000), (length // 2,), generator=generator).tolist()
    tails = torch.randint(5, min(size, 1000), (count, length - length // 2), generator=generator).tolist()
    turn = (-1,) * (length // 2) + (0,) * (length - length // 2)
    return [Row(ids=(*head, *tail), turn=turn) for tail in tails]


def learned(policy: Local, size: Sequence[int], **settings: Any) -> dict[str, Any]:
    """Take supervised steps; memory is expected before and measured after."""
    count, length = size
    expected = memory_expected(
        policy, plays=False, gradient_checkpointing=settings.get("gradient_checkpointing", False)
    )
    rows = lessons(policy, count * STEPS, length)
    losses: list[float] = []
    chosen = Settings(
        max_steps=STEPS, learning_rate=1e-4, per_device_train_batch_size=count, gradient_accumulation_steps=1,
        save_steps=0, **settings,
    )  # fmt: skip
    padded = why_padded(policy.model, autocast=policy.autocast)
    began = clock(policy.device)
    fe.train(fe.sft(rows), None, policy, chosen, None, show=lambda row: losses.append(row.get("loss", float("nan"))))
    seconds = clock(policy.device) - began
    return {
        "packed": not padded, "why_padded": padded, "losses": [loss for loss in losses if loss == loss],
        "row_tokens_per_second": round(count * STEPS * length / seconds, 1),
        "expected_gb": {name: round(value / 1e9, 3) for name, value in expected.items()},
    }  # fmt: skip


def played(policy: Local, generations: int, new: int) -> dict[str, Any]:
    """Take GRPO steps in the world of arithmetic, and check that the replies' ratios begin at 1."""
    rows: list[dict[str, Any]] = []
    settings = Settings(
        max_steps=2, learning_rate=1e-5, per_device_train_batch_size=2 * generations, gradient_accumulation_steps=1,
        save_steps=0,
    )  # fmt: skip
    recipe = fe.grpo(num_generations=generations, max_completion_length=new)
    fe.train(recipe, fe.world("arithmetic"), policy, settings, None, show=lambda row: rows.append(dict(row)))
    steps = [row for row in rows if row.get("phase") == "train"]
    names = ("loss", "kl", "grad_norm", "seconds/sample", "seconds/update", "tokens/sampled")
    return {name: [step.get(name) for step in steps] for name in names}


def adapted(load: Callable[..., Local], rows: Sequence[int], **options: Any) -> dict[str, Any]:
    """Train adapters, go on with the saved ones, and merge them."""
    policy = load(**options)
    policy.add_adapter(lora_r=16)
    first = learned(policy, rows)
    if options.get("load_in_4bit"):
        return first
    with tempfile.TemporaryDirectory() as folder:
        policy.save(Path(folder) / "adapters")
        config = Path(folder) / "adapters" / "adapter_config.json"
        going_on = fe.load(str(config.parent), device=str(policy.device), **options)
        again = learned(going_on, rows)
        going_on.merge_adapter()
        return {**first, "went_on": again["losses"], "merged": not going_on.has_adapter}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=None, help="where to write [default: results/gpu-NAME.json]")
    parser.add_argument("--device", default="auto", help="default auto")
    parser.add_argument("--model", default="smollm2-135m", help="a name, a folder or a hub name")
    parser.add_argument("--small", action="store_true", help="pocket and few tokens; always so on a processor")
    parser.add_argument("--minutes", type=float, default=7.0, help="parts that would begin later are left out")
    given = parser.parse_args()
    device = torch_device(given.device)
    small = given.small or device.type == "cpu"
    name = "pocket" if small else given.model
    size, rows = ((2, 2, 8), (4, 32)) if small else ((16, 8, 256), (32, 1024))
    figures = Figures(device, given.minutes)

    def load(**options: Any) -> Local:
        return fe.load(name, device=given.device, **options)

    figures.take("generate float32", lambda: generated(load(), size))
    figures.take("generate bf16 products", lambda: generated(load(bf16=True), size))
    figures.take("generate bfloat16", lambda: generated(load(dtype="bfloat16"), size))
    figures.take("sft float32", lambda: learned(load(), rows))
    figures.take("sft bf16 products", lambda: learned(load(bf16=True), rows))
    figures.take("sft bfloat16", lambda: learned(load(dtype="bfloat16"), rows))
    figures.take("sft checkpointing", lambda: learned(load(dtype="bfloat16"), rows, gradient_checkpointing=True))
    figures.take("grpo bfloat16", lambda: played(load(dtype="bfloat16"), 2 if small else 8, 32))
    figures.take("lora on bfloat16", lambda: adapted(load, rows, dtype="bfloat16"))
    if device.type == "cuda":
        figures.take("lora on 4 bits", lambda: adapted(load, rows, load_in_4bit=True))
    told = {"device": device_name(device), "model": name, "small": small, **figures.values}
    label = device_name(device).lower().replace(" ", "-")
    report("gpu", told, given.json or Path(__file__).parent / "results" / f"gpu-{label}.json")


if __name__ == "__main__":
    main()
