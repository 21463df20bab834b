"""A restart storm: training that is killed at random moments again and again, beside the same run undisturbed.

Every life of a run is a process group of its own that ends by SIGKILL and is followed by one that resumes. Half of the
kills come at any time from the start of a life on, half after its first step. Metrics (without clock times), episodes
and weights must equal those of the undisturbed run, bit for bit, and nothing may be left behind:

``ahead``  batches are sampled one step ahead of the update
``ray``    episodes are played by a Ray worker of a cluster that the run starts and that dies with it
``vllm``   a vLLM child samples (``--python`` names its interpreter); it decodes one sample at a time, because the last
           bits of a logit depend on what is decoded beside it

A tiny model with random weights is trained; its reward is what it happened to write, so that every group has a spread.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import report
from soaking.server import keep_orphans, left_behind

from ferrule.core.records import Score, Task, Trajectory
from ferrule.policies.local import Local
from ferrule.policies.vllm.vllm import Server, Vllm
from ferrule.rollout.cluster import RayWorkers
from ferrule.rollout.drive import drive
from ferrule.rollout.record import load
from ferrule.train.grpo import grpo
from ferrule.train.loop import train
from ferrule.train.settings import Settings
from ferrule.worlds.arithmetic import Arithmetic

VARIANTS = ("ahead", "ray", "vllm")
_CLOCKS = ("seconds", "per_second", "vllm/")  # what a life of a run took, and what its child saw
_STEPS = 2  # of progress in one life at most
_PATIENCE = 1200.0  # seconds in which a life must come to its first step
_DYING = 30.0  # seconds that everything below a killed run has to end


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--variants", default="ahead,ray", help="default ahead,ray; vllm needs --python")
    parser.add_argument("--kills", type=int, default=20, help="of each variant, default 20")
    parser.add_argument("--steps", type=int, default=0, help="of each run, default a few more than the kills can take")
    parser.add_argument("--python", default=os.environ.get("FERRULE_VLLM_PYTHON"), help="the interpreter that has vLLM")
    given = parser.parse_args()
    given.variants = given.variants.split(",")
    if unknown := set(given.variants) - set(VARIANTS):
        parser.error(f"unknown variants {sorted(unknown)}; valid: {', '.join(VARIANTS)}")
    given.steps = given.steps or _STEPS * given.kills + 4
    return given


# --------------------------------------------------------------------------------------------------------- one life


def written(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score a trajectory by the ids of its tokens."""
    return [Score(sum(sum(turn.sampled) for turn in one.turns) % 101 / 101) for one in trajectories]


def tiny() -> Local:
    """Return a policy of two layers with random weights that speaks as the pocket model does."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from ferrule.policies.named import load as policy_of

    pocket: Any = policy_of("pocket")
    torch.manual_seed(0)
    config = LlamaConfig(
        **{**pocket.model.config.to_dict(), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
           "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "layer_types": None}
    )  # fmt: skip
    return Local(LlamaForCausalLM(config).eval(), pocket.tokenizer, pocket.renderer)


def trained(policy: Local, variant: str, folder: Path, steps: int, python: str | None) -> None:
    """Train until the end, going on from what lies in ``folder``."""
    torch.manual_seed(os.getpid())  # no two lives begin alike
    recipe = replace(grpo(num_generations=4, max_completion_length=16), reward=written, keep=None)
    settings = Settings(
        max_steps=steps, learning_rate=1e-3, per_device_train_batch_size=8, gradient_accumulation_steps=1,
        save_steps=2, seed=5, sample_ahead=int(variant == "ahead"),
    )  # fmt: skip
    samples, play = policy, drive
    with contextlib.ExitStack() as stack:
        if variant == "ray":
            play = stack.enter_context(RayWorkers(count=1, address="local", patience=_PATIENCE)).drive
        if variant == "vllm":
            samples = stack.enter_context(Vllm(policy, Server(python=python, threads=1, rows=1, ready=_PATIENCE)))
        resume = (folder / "settings.json").is_file()
        train(recipe, Arithmetic(), samples, settings, folder, play=play, resume=resume)
        samples.save(folder / "model")


def begun(life: Callable[[], None], log: Path) -> int:
    """Fork a process that leads a group of its own and lives this life; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        life()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pid: int, seconds: float) -> int | None:
    """Wait for the end of a life and return its exit code; None when it goes on after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.01)


# ----------------------------------------------------------------------------------------------------------- a storm


def steps_in(folder: Path) -> int:
    """Return how many steps the metrics of a run hold."""
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def undisturbed(life: Callable[[], None], folder: Path, log: Path) -> tuple[float, float]:
    """Live one life to its end; returns the seconds to its first step and those of a step after that."""
    began, first, pid = time.monotonic(), 0.0, begun(life, log)
    while (code := ended(pid, 0.05)) is None:
        if not first and steps_in(folder):
            first = time.monotonic() - began
    if code:
        raise RuntimeError(f"the undisturbed run ended with exit code {code}:\n{log.read_text()[-4000:]}")
    return first, (time.monotonic() - began - first) / max(1, steps_in(folder) - 1)


def killed(life: Callable[[], None], folder: Path, log: Path, wait: float, *, stepping: bool) -> dict[str, Any] | None:
    """Live one life and kill it after ``wait`` seconds (``stepping``: from its first step on), or after two steps.

    None when it ended before.
    """
    had, pid, code = steps_in(folder), begun(life, log), None
    end = time.monotonic() + _PATIENCE
    while stepping and code is None and steps_in(folder) <= had and time.monotonic() < end:
        code = ended(pid, 0.02)
    end = time.monotonic() + wait
    while code is None and steps_in(folder) < had + _STEPS and time.monotonic() < end:
        code = ended(pid, 0.002)
    if code is not None:
        if code:
            raise RuntimeError(f"a life ended by itself with exit code {code}:\n{log.read_text()[-4000:]}")
        return None
    os.killpg(pid, signal.SIGKILL)
    if ended(pid, _DYING) is None:
        raise RuntimeError("a killed process lives on")
    return {"after seconds": round(wait, 2), "stepping": stepping, "steps": steps_in(folder)}


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if not any(part in name for part in _CLOCKS)}
        for line in lines
    ]


def compared(one: Path, other: Path) -> dict[str, Any]:
    """Say which parts of two runs are equal."""
    first, second = ([*load(folder / "episodes.jsonl")] for folder in (one, other))
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (one, other)]
    return {
        "steps": len(rows(one)),
        "metrics equal": rows(one) == rows(other),
        "episodes": len(first),
        "episodes equal": first == second,
        "weights equal": weights[0] == weights[1],
    }


def storm(policy: Local, variant: str, given: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Run once undisturbed and once under fire."""
    chance, log = random.Random(variant), place / "log"
    calm, stormy = place / "calm", place / "stormy"
    begin, step = undisturbed(partial(trained, policy, variant, calm, given.steps, given.python), calm, log)
    life = partial(trained, policy, variant, stormy, given.steps, given.python)
    kills: list[dict[str, Any]] = []
    left = 0
    while len(kills) < given.kills:
        stepping = len(kills) % 2 == 1
        wait = chance.uniform(0, 2 * step if stepping else begin + 2 * step)
        kill = killed(life, stormy, log, wait, stepping=stepping)
        if kill is None:
            raise RuntimeError(f"the run was over after {len(kills)} kills; raise --steps")
        kills.append(kill)
        left += left_behind(_DYING)
        print(json.dumps({variant: kill}), flush=True)
    code = ended(begun(life, log), _PATIENCE + 10 * given.steps * step)
    if code != 0:
        raise RuntimeError(f"the last life ended with exit code {code}:\n{log.read_text()[-4000:]}")
    left += left_behind(_DYING)
    return {
        "kills": len(kills),
        "kills that saw no new step": sum(
            now["steps"] <= before for now, before in zip(kills, [0, *(kill["steps"] for kill in kills)], strict=False)
        ),
        "begin seconds": round(begin, 2),
        "step seconds": round(step, 3),
        **compared(calm, stormy),
        "processes left behind": left,
    }


def main() -> None:
    given = options()
    keep_orphans()
    torch.set_num_threads(1)
    policy, figures = tiny(), {}  # a life is a fork of this process: what is imported need not be imported anew
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        os.environ |= {"RAY_TMPDIR": folder, "RAY_raylet_start_wait_time_s": str(int(_PATIENCE))}
        for variant in given.variants:
            place = Path(folder) / variant
            place.mkdir()
            figures[variant] = storm(policy, variant, given, place)
    report("storm", {"steps": given.steps, **figures}, given.json)
    same = ("metrics equal", "episodes equal", "weights equal")
    if not all(figures[name][part] for name in given.variants for part in same):
        raise SystemExit(1)
    if any(figures[name]["processes left behind"] for name in given.variants):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
