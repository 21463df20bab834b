"""Choose the levels of the arena's columns by the rule of ``ferrule.evaluate.columns``, on a development seed.

``python benchmarks/arena_cells.py`` measures pass@8 of the untrained model on every level of every column, trains plain
GRPO for the whole budget on the levels that are left, and writes ``docs/records/arena-profile/cells.json``. What it has
measured is kept there, and a second start goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ferrule.evaluate.arena import base_of, model_of
from ferrule.evaluate.columns import CANDIDATES, CEILING, HIGH, LOW, Level, kept
from ferrule.evaluate.evaluate import evaluate
from ferrule.evaluate.profile import TRIAL_SEED, Profile, play_run
from ferrule.papers import known
from ferrule.policies.named import weights_digest
from ferrule.worlds.named import world

__all__ = ["levels_of", "main"]

RECORD = Path(__file__).resolve().parent.parent / "docs/records/arena-profile/cells.json"
SEED, TASKS, SAMPLES, RATE = 0, 16, 8, 3e-4


def levels_of(data: Mapping[str, Any]) -> list[Level]:
    """Return what the record says of every level."""
    return [Level(row["column"], row["level"], row["pass_at_8"], row.get("end")) for row in data["levels"]]


def _save(data: Mapping[str, Any]) -> None:
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _seen(stored: Mapping[str, Any], data: Mapping[str, Any]) -> list[Any]:
    """Return the levels that a record holds; raises ``SystemExit`` where they were seen in another model or way."""
    other = [f"{key} {stored.get(key)}" for key in ("weights", "seed", "samples") if stored.get(key) != data[key]]
    if other:
        raise SystemExit(f"{RECORD} was measured with {', '.join(other)}; remove it to measure all levels again")
    return list(stored["levels"])


def _untrained(profile: Profile, name: str, level: int, tasks: int) -> dict[str, Any]:
    """Measure pass@8 on one level, of tasks that nothing is measured on."""
    arena = profile.arena(RATE, profile.budget)
    home = world(CANDIDATES[name].world)
    found = evaluate(
        base_of(arena).agent, model_of(arena), home, home.tasks("test", tasks, seed=SEED, levels=(level,)),
        num_generations=SAMPLES, seed=SEED, temperature=1.0,
    )  # fmt: skip
    return {
        "column": name, "level": level, "tasks": len(found.scores()), "success": found.success,
        "pass_at_8": found.pass_at(8),
    }  # fmt: skip


def main() -> None:
    """Measure, choose and say what was chosen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=int, default=Profile.budget, help="tokens of the run of plain GRPO")
    parser.add_argument("--tasks", type=int, default=TASKS, help="tasks per level")
    options = parser.parse_args()
    profile = Profile(("grpo",), tuple(CANDIDATES.values()), budget=options.budget, eval_tasks=60)
    data: dict[str, Any] = {
        "rule": {"low": LOW, "high": HIGH, "ceiling": CEILING}, "weights": weights_digest("pocket"), "seed": SEED,
        "samples": SAMPLES, "rate": RATE, "budget": options.budget, "levels": [],
    }  # fmt: skip
    if RECORD.is_file():
        data["levels"] = _seen(json.loads(RECORD.read_text(encoding="utf-8")), data)
    known_levels = {(row["column"], row["level"]) for row in data["levels"]}
    for name, column in CANDIDATES.items():
        for level in column.levels:
            if (name, level) not in known_levels:
                data["levels"].append(_untrained(profile, name, level, options.tasks))
                print(data["levels"][-1], flush=True)
                _save(data)
    first = kept(levels_of({"levels": [{**row, "end": None} for row in data["levels"]]}))
    columns = tuple(replace(CANDIDATES[name], levels=levels) for name, levels in first.items())
    with TemporaryDirectory() as folder:
        run = play_run(replace(profile, columns=columns), "grpo", SEED, RATE, Path(folder) / "grpo", known, TRIAL_SEED)
    for row in data["levels"]:
        row.pop("end", None)
        if row["level"] in first.get(row["column"], ()):
            row["end"] = run["columns"][row["column"]]["by_level"][str(row["level"])]
    data["curve"] = run["curve"]
    _save(data)
    for name, levels in kept(levels_of(data)).items():
        print(f"{name}: {levels}")


if __name__ == "__main__":
    main()
