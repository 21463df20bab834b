"""How far the planner is off: every batch that was measured here, predicted from the shares that the others reached."""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from common import report

from ferrule.policies.named import load
from ferrule.speed.devices import measured
from ferrule.speed.measure import Bench, bench
from ferrule.speed.plan import Fractions, Setup, Workload, generation
from ferrule.speed.shapes import Shape


def predictions(found: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Return measured and predicted tokens/s of every batch; its own shares are left out of the prediction."""
    device, _ = measured(path)
    shape, size = Shape(**found["shape"]), found["settings"]
    made = []
    for row in found["rollout"]:
        others = [other for other in found["rollout"] if other is not row]
        shares = Fractions(
            decode=min(statistics.median(other["decode_fraction"] for other in others), 1.0),
            prefill=min(statistics.median(other["prefill_fraction"] for other in others), 1.0),
            overhead=0.0,
        )
        load = Workload(row["prompts"] * row["samples"], row["samples"], size["prompt"], size["new"], 0, 1, 0.0)
        planned = generation(shape, device, load, Setup(gpus=1, fractions=shares))["tokens_per_second"]
        made.append(
            {
                "rows": f"{row['prompts']} x {row['samples']}",
                "measured": row["tokens_per_second"],
                "planned": planned,
                "ratio": planned / row["tokens_per_second"],
            }
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--bench", type=Path, default=None, help="take this file of 'ferrule bench --json'")
    parser.add_argument("--cpu", action="store_true", help="one thread by its CPU seconds, where others work as well")
    given = parser.parse_args()
    path = given.bench or Path("runs/planning-bench.json")
    if given.bench is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if given.cpu:
            time.perf_counter = time.process_time  # what all timers of the package read
        settings = Bench(rows=((1, 8), (2, 8), (4, 8)), repeats=2, threads=int(given.cpu))
        found = bench(load(given.model), settings, name=given.model, progress=print)
        path.write_text(json.dumps(found, indent=1))
    found = json.loads(path.read_text())
    about = {key: found[key] for key in ("model", "device", "threads", "engine", "load", "reached")}
    about["clock"] = "CPU seconds of one thread" if given.cpu else "wall"
    report("planning", {**about, "rollout": predictions(found, path)}, given.json)


if __name__ == "__main__":
    main()
