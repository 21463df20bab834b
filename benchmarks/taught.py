"""Agents that learned without gradients, on ``apis`` and ``apps``, beside the plain loop and best-of-n at equal tokens.

    python benchmarks/taught.py --folder FOLDER --json docs/records/taught.json

Every way learns from the same training tasks of a seed and is measured on others of the same split, so that it has met
the tools; controls are learned things that are shuffled, and no learning at all. The model is pocket. Two rules choose
what is played, on development seeds below 100, before anything is measured:

1. ``apis`` is played at the level whose untrained success lies nearest to 50 %, of those between 10 and 90 %.
2. pocket solves nothing of ``apps``, however short the prompts. There it begins from the fewest supervised steps of 40,
   80, 120, 160 and 200, after which its success lies between 10 and 90 %, on solutions of tasks of seed 9000.

What was finished in FOLDER is not done again: a killed run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ferrule.agents.named import agent
from ferrule.evaluate.agent_arena import SCRIPT, AgentArena, play_agents
from ferrule.evaluate.evaluate import evaluate
from ferrule.papers import ways
from ferrule.policies.named import load
from ferrule.train.loop import train
from ferrule.train.settings import Settings
from ferrule.train.stage import demonstrations, sft
from ferrule.worlds.named import world

PLAIN = ("loop", "best-of-n:samples=4", "best-of-n:samples=8")
WAYS = ("calls", "draft", "jtpro", "xskill", "alphaopt", "ste", "sit-graph")
DEVELOPMENT, MEASURED, LEAST, MOST = (0, 1), 100, 0.1, 0.9
APPS, STEPS, RATE = "apps:level=1,narrow=true,docs=false", (40, 80, 120, 160, 200), 1e-3


def _success(policy: Any, place: str, count: int) -> float:
    """Return the untrained success of the plain loop on tasks of the development seeds."""
    stage = world(place)
    shares = [
        evaluate(
            agent("loop"), policy, stage, stage.tasks("train", count, seed=seed), seed=seed, temperature=0.0
        ).success
        for seed in DEVELOPMENT
    ]
    return sum(shares) / len(shares)


def _kept(path: Path, make: Any) -> Any:
    """Return what a file holds, or make and keep it."""
    if not path.is_file():
        path.write_text(json.dumps(make()))
    return json.loads(path.read_text())


def level(folder: Path, count: int) -> dict[str, Any]:
    """Choose the level of ``apis``."""
    policy = load("pocket")
    found = _kept(folder / "levels.json", lambda: {n: _success(policy, f"apis:level={n}", count) for n in range(1, 6)})
    able = {int(n): share for n, share in found.items() if LEAST <= share <= MOST}
    if not able:
        raise SystemExit(f"no level of apis lies between {LEAST:.0%} and {MOST:.0%}: {found}")
    return {"level": min(able, key=lambda n: abs(able[n] - 0.5)), "success by level": found}


def base(folder: Path, count: int) -> dict[str, Any]:
    """Train the model that ``apps`` is played with, until the rule is met."""
    return dict(_kept(folder / "base.json", lambda: _trained(folder / "base", count)))


def _trained(folder: Path, count: int) -> dict[str, Any]:
    policy: Any = load("pocket")
    stage, shares, before = world(APPS), dict[int, float](), 0
    for steps in STEPS:
        source = demonstrations(stage, tasks=8 * (steps - before), seed=9000 + before, levels=(1,))
        how = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "warmup_steps": 0}
        train(sft(source, max_steps=steps - before, learning_rate=RATE, **how), stage, policy, Settings(), None)
        shares[steps], before = _success(policy, APPS, count), steps
        print(f"apps after {steps} supervised steps: {shares[steps]:.1%}", file=sys.stderr, flush=True)
        if LEAST <= shares[steps] <= MOST:
            policy.save(folder)
            return {"steps": steps, "success by steps": shares}
    raise SystemExit(f"after no number of steps lies apps between {LEAST:.0%} and {MOST:.0%}: {shares}")


def main() -> None:
    """Choose, play both arenas, and write their results into one file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="what was finished lies here")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=12, help="tasks to learn from, and as many that are measured")
    parser.add_argument("--worlds", default="apis,apps")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    chosen, arenas = dict[str, Any](), list[Any]()
    for name in given.worlds.split(","):
        if name == "apis":
            chosen[name] = level(given.folder, given.tasks)
            place, model = f"apis:level={chosen[name]['level']}", "pocket"
        else:
            chosen[name] = base(given.folder, given.tasks)
            place, model = APPS, str(given.folder / "base")
        arena = AgentArena(
            (*PLAIN, *(f"loop+{way}" for way in WAYS)), (place,), model, seeds=given.seeds, first_seed=MEASURED,
            eval_tasks=given.tasks, learn_tasks=given.tasks, split="train", writer=SCRIPT,
        )  # fmt: skip
        result = play_agents(
            arena, given.folder / name, known=ways(), show=lambda text: print(text, file=sys.stderr, flush=True)
        )
        arenas.append(result)
        data = {"arenas": arenas, "chosen": chosen, "development": DEVELOPMENT, "least": LEAST, "most": MOST}
        if given.json is not None:  # after each world: what was measured is not lost where the next one cannot be
            given.json.write_text(json.dumps(data, indent=1) + "\n")
    print(json.dumps(data, indent=1))


if __name__ == "__main__":
    main()
