"""One policy-gradient update side by side with TRL's GRPO trainer: row tokens a second, and peak memory.

Both sides get the same weights, ids and advantages, 8 rows of 300 + 64 tokens: log-probs and entropy of completions,
clipped surrogate over all tokens, backward, clipping to norm 1, AdamW; fp32. ``shared``: one prompt with 8 samples.
``unshared``: 8 prompts with one sample each. Every contender is a process of its own that stays alive, and they take
turns update by update. TRL runs as it comes (gradient checkpointing on), and once more with checkpointing off.
TRL lives in an environment of its own; `--trl-python` names its interpreter.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import report, spread
from contenders import Child, answer, quiet_output

ROWS, PROMPT, COMPLETION = 8, 300, 64
RATE = 1e-6
CONTENDERS = ("trl", "trl without checkpointing", "ferrule")


def batch(setting: str) -> dict[str, Any]:
    """The rows of a setting: prompts, completions and advantages, the same for everybody."""
    import numpy as np

    rng = np.random.default_rng(0)
    prompt, completion = rng.integers(100, 40_000, (ROWS, PROMPT)), rng.integers(100, 40_000, (ROWS, COMPLETION))
    if setting == "shared":
        prompt[:] = prompt[0]
    return {"prompt": prompt, "completion": completion, "advantages": rng.normal(size=ROWS)}


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ------------------------------------------------------------------------------------------------------------- ferrule


def ferrule(setting: str, model: str, out: Any) -> None:
    """Our side, in a child process."""
    import numpy as np
    import torch

    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate
    from ferrule.policies.local import load
    from ferrule.policies.packing.packed import packed_logps, padded_logps
    from ferrule.train.optimiser import optimiser_of
    from ferrule.train.settings import Settings
    from ferrule.train.update import Sequences, update

    policy, data = load(model), batch(setting)
    ids = [np.concatenate(pair) for pair in zip(data["prompt"], data["completion"], strict=True)]
    turn = [np.array([-1] * PROMPT + [0] * COMPLETION) for _ in ids]
    stacked = torch.from_numpy(np.stack(ids)), torch.from_numpy(np.stack(turn))
    with torch.no_grad():
        sampled = policy.logps(*stacked)["logp_NT"].double().numpy()
    adv = [np.full(len(row), a) for row, a in zip(ids, data["advantages"], strict=True)]
    seqs = Sequences(ids, turn, {"old_NT": list(sampled), "adv": adv})
    optimiser = optimiser_of(policy, Settings(learning_rate=RATE))
    norms: list[float] = []

    def step() -> float:
        began = time.perf_counter()
        norms.append(update(policy, seqs, surrogate, token_mean, optimiser, rows=ROWS)["grad_norm"])
        return time.perf_counter() - began

    def agreement() -> dict[str, float]:
        """How far gradients of two rows lie apart, packed, padded and in double precision, relative to the last."""

        def gradient(score: Any) -> Any:
            policy.model.zero_grad(set_to_none=True)
            logp = score(policy.model, *(array[:2] for array in stacked))["logp_NT"]
            torch.autograd.backward((logp * torch.from_numpy(np.stack(adv[:2]))).sum())
            return torch.cat([p.grad.flatten() for p in policy.parameters()]).double()

        one, other = gradient(packed_logps), gradient(padded_logps)
        policy.model.double()
        exact = gradient(padded_logps)
        apart = {"packed to padded": one - other, "packed to exact": one - exact, "padded to exact": other - exact}
        return {name: float(gap.norm() / exact.norm()) for name, gap in apart.items()}

    answers = {"peak": peak_mb, "norm": lambda: norms[0], "agreement": agreement, "cpu": time.process_time}
    answers["versions"] = versions
    answer(out, {**answers, "update": step})


def versions() -> dict[str, str]:
    """Versions of what decides the figures."""
    import importlib.metadata

    out = {}
    for name in ("torch", "transformers", "trl", "accelerate"):
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


# ----------------------------------------------------------------------------------------------------------------- trl


def trl(setting: str, model: str, out: Any, checkpointing: bool) -> None:
    """The peer, in a child process of its own environment: its trainer's loop, fed with our rows instead of samples."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    data = {name: torch.from_numpy(array) for name, array in batch(setting).items()}
    inputs = {
        "prompt_ids": data["prompt"], "prompt_mask": torch.ones_like(data["prompt"]),
        "completion_ids": data["completion"], "completion_mask": torch.ones_like(data["completion"]),
        "advantages": data["advantages"].float(), "num_items_in_batch": torch.tensor(ROWS * COMPLETION),
    }  # fmt: skip
    norms: list[float] = []

    class Fed(GRPOTrainer):  # type: ignore[misc]
        def _prepare_inputs(self, generation_batch: Any) -> Any:
            return dict(inputs)

    class Turns(TrainerCallback):  # type: ignore[misc]
        """Waits for the parent before a step and tells it the seconds after."""

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            print(json.dumps("ready"), file=out, flush=True)

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            answers = {"peak": peak_mb, "norm": lambda: norms[0], "versions": versions, "cpu": time.process_time}
            for line in sys.stdin:
                asked = json.loads(line)["what"]
                if asked == "update":
                    break
                print(json.dumps(answers[asked]()), file=out, flush=True)
            else:
                os._exit(0)
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seconds = time.perf_counter() - self.began
            control.should_log = not norms
            print(json.dumps(seconds), file=out, flush=True)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            norms.append(logs["grad_norm"])

    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=ROWS, num_generations=ROWS, max_completion_length=COMPLETION,
            max_steps=10_000, report_to=[], bf16=False, use_cpu=True, save_strategy="no", disable_tqdm=True,
            logging_steps=10**6, model_init_kwargs={"dtype": "float32"}, learning_rate=RATE,
            lr_scheduler_type="constant", gradient_checkpointing=checkpointing,
        )  # fmt: skip
        Fed(
            model=model, args=config, train_dataset=Dataset.from_list([{"prompt": "x"}] * 16), callbacks=[Turns()],
            processing_class=AutoTokenizer.from_pretrained(model), reward_funcs=lambda completions, **_: [0.0] * ROWS,
        ).train()  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- parent


def compare(setting: str, options: argparse.Namespace) -> dict[str, Any]:
    """Let all contenders update in turn; the first round is not counted."""
    children = {
        name: Child(
            sys.executable if name == "ferrule" else options.trl_python,
            __file__,
            name,
            options.threads,
            "--setting",
            setting,
            "--model",
            options.model,
        )
        for name in CONTENDERS
        if name not in options.without
    }
    seconds: dict[str, list[float]] = {name: [] for name in children}
    work: dict[str, list[float]] = {name: [] for name in children}  # processor seconds: less moved by other processes
    loads = []
    for turn in range(options.repeats + 1):
        for name, child in children.items():
            before = child.ask("cpu")
            took = child.ask("update")
            if turn:
                seconds[name].append(took)
                work[name].append(child.ask("cpu") - before)
        loads.append(round(os.getloadavg()[0], 2))
        print(json.dumps({"setting": setting, "round": turn, "load": loads[-1]}), file=sys.stderr, flush=True)
    tokens = ROWS * (PROMPT + COMPLETION)
    rates = {name: spread([tokens / s for s in took]) for name, took in seconds.items()}
    peaks = {name: round(child.ask("peak")) for name, child in children.items()}
    norms = {name: child.ask("norm") for name, child in children.items()}
    others = {name: child.ask("versions") for name, child in children.items() if name != CONTENDERS[1]}
    agreement = children["ferrule"].ask("agreement")
    for child in children.values():
        child.close()
    ratios = {
        f"ratio_to_{name.replace(' ', '_')}": round(rates["ferrule"]["median"] / rate["median"], 3)
        for name, rate in rates.items()
        if name != "ferrule"
    }
    return {
        **ratios,
        "memory_ratio": round(peaks["ferrule"] / peaks["trl"], 3),
        "gradient_agreement": agreement,
        "row_tokens_a_second": rates,
        "processor_seconds": {name: spread(used) for name, used in work.items()},
        "peak_resident_MB": peaks,
        "first_gradient_norm": norms,
        "load": loads,
        "versions": others,
    }


def main() -> None:
    """Compare in both settings, or be a contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--repeats", type=int, default=5, help="updates that count, of each contender (default 5)")
    parser.add_argument("--trl-python", default=sys.executable, help="interpreter of an environment with trl")
    parser.add_argument("--model", default="smollm2-135m", help="name or folder (default smollm2-135m)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each contender")
    parser.add_argument("--without", choices=CONTENDERS[1:2], action="append", default=[], help="leave one out")
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--setting", choices=("shared", "unshared"), action="append", help="default: both")
    options = parser.parse_args()
    if options.child is None:
        from ferrule.policies.models import resolve

        options.model = resolve(options.model).where
        settings = options.setting or ["shared", "unshared"]
        figures: dict[str, Any] = {setting: compare(setting, options) for setting in settings}
        rows = f"{ROWS} rows of {PROMPT} + {COMPLETION} tokens, fp32, {options.threads} threads"
        report("update", {**figures, "what": rows}, options.json)
        return
    out = quiet_output()
    import torch

    torch.set_num_threads(options.threads)
    if options.child == "ferrule":
        ferrule(options.setting[0], options.model, out)
    else:
        trl(options.setting[0], options.model, out, options.child == "trl")


if __name__ == "__main__":
    main()
