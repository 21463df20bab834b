"""A user's own tools: first calls that are right and tasks that are solved, before and after ``ferrule train``.

Every folder holds ``tools.py`` and ``tasks.jsonl``, as those of ``examples/`` do. A first call is right when it is the
first of the task's reference calls (its field ``calls``): the same tool and equal arguments, once the tool has checked
them and its defaults are filled in. Training is the command of the quickstart with ``--seed`` and ``--max-minutes``.
What was trained is measured on the split ``test`` alone.
"""

import argparse
import contextlib
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import report
from rich.console import Console
from rich.table import Table

import ferrule as fe
from ferrule.core.records import Call, Task, Tool, Trajectory
from ferrule.evaluate.metrics import shown, wilson
from ferrule.policies.named import weights_digest
from ferrule.rewards.calls import correctness
from ferrule.tools.invoke import Malformed, arguments
from ferrule.worlds.experts import reference_calls

EXAMPLES = Path(__file__).parents[1] / "examples"
SAMPLES = 4  # episodes of a task at temperature 1


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [EXAMPLES / "own_tools", EXAMPLES / "gear_desk"]
    parser.add_argument("folders", type=Path, nargs="*", default=default, help="default: own_tools and gear_desk")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--model", default="pocket", help="default pocket")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--minutes", type=float, default=5.0, help="longest training, default 5")
    parser.add_argument("--steps", type=int, default=None, help="most steps, default that of ferrule train")
    parser.add_argument("--tasks", type=int, default=200, help="most tasks of a split to measure on, default 200")
    parser.add_argument(
        "--train", type=shlex.split, default=[], help='more flags of ferrule train: --train="--retries 2"'
    )
    return parser.parse_args()


def ready(call: Call, tools: Mapping[str, Tool]) -> Call:
    """Return a call with the arguments that its tool is given: checked, and completed by defaults.

    One that its tool refuses, and one of an unknown tool, is returned as it is.
    """
    tool = tools.get(call.name)
    if tool is not None:
        defaults = {name: e["default"] for name, e in tool.parameters["properties"].items() if "default" in e}
        with contextlib.suppress(Malformed):
            return replace(call, arguments={**defaults, **arguments(tool, call.arguments)[0]})
    return call


def first_right(trajectory: Trajectory, tools: Mapping[str, Tool]) -> bool:
    """Tell whether the first call of an episode is the first of its task's reference calls."""
    made = [ready(call, tools) for call, _ in trajectory.calls[:1]]
    wanted = [ready(call, tools) for call in reference_calls(trajectory.task)[:1]]
    return correctness(made, wanted, grain="coarse") == 1.0


def measured(model: Any, world: Any, tasks: Sequence[Task], seed: int) -> dict[str, Any]:
    """Return success, greedy and at temperature 1, and the share of tasks whose first call (greedy) is right."""
    agent = fe.grpo().agent  # the one that ferrule train measures and trains
    greedy = fe.evaluate(agent, model, world, tasks, temperature=0.0, seed=seed)
    warm = fe.evaluate(agent, model, world, tasks, temperature=1.0, num_generations=SAMPLES, seed=seed)
    tools = {tool.name: tool for tool in world.tools}
    judged = [episode.trajectories[0] for episode in greedy.episodes if "calls" in episode.task.meta]
    return {
        "first call": wilson(sum(first_right(t, tools) for t in judged), len(judged)).as_dict("right"),
        "greedy": greedy.estimate.as_dict("success"),
        "temperature 1": warm.estimate.as_dict("success"),
    }


def train(flags: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run ``ferrule train`` into a folder and return its summary."""
    subprocess.run([sys.executable, "-m", "ferrule", "train", *flags, "--output-dir", str(folder)], check=True)
    return dict(json.loads((folder / "summary.json").read_text()))


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measure the tools of one folder before training, and after it with every seed."""
    files = {"tools": folder / "tools.py", "tasks": folder / "tasks.jsonl"}
    world = fe.world(files["tasks"], tools=files["tools"])
    test = world.tasks("test", given.tasks)
    model, every = fe.load(given.model), [*world.tasks("train", given.tasks), *test]
    before = {"all tasks": measured(model, world, every, 0), "test": measured(model, world, test, 0)}
    flags = ["--model", given.model, "--tools", str(files["tools"]), "--tasks", str(files["tasks"])]
    flags += ["--max-minutes", str(given.minutes), "--eval-tasks", "0", *given.train]
    flags += [] if given.steps is None else ["--max-steps", str(given.steps)]
    after = []
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / f"{folder.resolve().name}-{seed}"
            run = train([*flags, "--seed", str(seed)], output)
            trained = measured(fe.load(output / "model"), world, test, seed)
        about = {"seed": seed, "steps": run["steps"], "minutes": round(run["seconds"] / 60, 2)}
        after.append({**about, "stopped by": run["stopped_by"], **trained})
    return {"tasks": world.sizes, "before": before, "after": after}


def table(figures: Mapping[str, Any]) -> Table:
    """Return a row for every folder before training, and one for each seed after it."""
    grid = Table(title="right or solved [95 % interval]; after training: of the split test")
    for name in ("tools", "tasks", "first call", "greedy", "temp. 1", "minutes", "steps"):
        grid.add_column(name)
    for name, figure in figures.items():
        for split, row in figure["before"].items():
            grid.add_row(name, split, *cells(row), "", "")
        for row in figure["after"]:
            grid.add_row(name, f"seed {row['seed']}", *cells(row), str(row["minutes"]), str(row["steps"]))
    return grid


def cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the three shares of a row as text."""
    return shown(row["first call"], "right"), shown(row["greedy"]), shown(row["temperature 1"])


def main() -> None:
    """Measure every folder, report, and print the table."""
    given = options()
    tools = {folder.resolve().name: measure(folder, given) for folder in given.folders}
    model = {"model": given.model, "weights": weights_digest(given.model)}
    training = {name: getattr(given, name) for name in ("minutes", "steps", "train")}
    report("own_tools", {**model, **training, "samples at temperature 1": SAMPLES, "tools": tools}, given.json)
    Console().print(table(tools))


if __name__ == "__main__":
    main()
