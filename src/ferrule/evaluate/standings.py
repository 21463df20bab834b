"""The standings of an arena: what each run cost and reached, and the table that compares recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ferrule.evaluate.evaluate import Evaluation
from ferrule.evaluate.metrics import student_interval

__all__ = ["Cell", "as_points", "as_share", "cell_from", "cell_of", "over_seeds", "page", "summarise"]


@dataclass(frozen=True)
class Cell:
    """One training run and its evaluation: a recipe (or stack) and a seed.

    ``task_scores`` are means per held-out task in a fixed order; ``calls``, ``tokens`` per episode; ``malformed`` a
    share of attempted calls; ``pass_at`` by k; ``sampled`` all tokens generated in training; ``seconds`` of sampling
    and learning.
    """

    recipe: str
    seed: int
    success: float
    task_scores: tuple[float, ...]
    calls: float
    tokens: float
    malformed: float
    pass_at: Mapping[str, float]
    steps: int = 0
    sampled: int = 0
    seconds: float = 0.0
    changes: Mapping[str, Sequence[str]] | None = None


def cell_of(recipe: str, seed: int, evaluation: Evaluation, **training: Any) -> Cell:
    """Return the cell of an evaluation; ``training`` says what the training cost."""
    data = evaluation.as_dict()
    return Cell(
        recipe,
        seed,
        evaluation.success,
        tuple(evaluation.scores().values()),
        data["calls"] or 0.0,
        data["tokens"] or 0.0,
        data["malformed"] or 0.0,
        data.get("pass_at", {"1": evaluation.success}),
        **training,
    )


def cell_from(data: Mapping[str, Any]) -> Cell:
    """Return the cell that was stored as JSON data (``dataclasses.asdict``)."""
    return Cell(**{**data, "task_scores": tuple(data["task_scores"])})


_MEASURED = ("success", "calls", "tokens", "malformed", "steps", "sampled", "seconds")


def summarise(cells: Sequence[Cell], *, against: str) -> list[dict[str, Any]]:
    """Return one row per recipe: means over seeds, 95 % Student intervals over seeds, differences to ``against``.

    Differences are paired by seed. Intervals need at least two seeds and are None with one.
    """
    rows = []
    base = {cell.seed: cell for cell in cells if cell.recipe == against}
    for name in dict.fromkeys(cell.recipe for cell in cells):
        group = [cell for cell in cells if cell.recipe == name]
        row: dict[str, Any] = {"recipe": name, "seeds": [cell.seed for cell in group]}
        row |= {key: fmean(float(getattr(cell, key)) for cell in group) for key in _MEASURED}
        row["success_interval"] = over_seeds([cell.success for cell in group])
        row["pass_at"] = {k: fmean(cell.pass_at[k] for cell in group) for k in group[0].pass_at}
        paired = [cell.success - base[cell.seed].success for cell in group if cell.seed in base]
        comparable = name != against and len(paired) == len(base)
        row["difference"] = fmean(paired) if comparable else None
        row["difference_interval"] = over_seeds(paired) if comparable else None
        row["changes"] = group[0].changes or {}
        rows.append(row)
    return rows


def over_seeds(values: Sequence[float]) -> list[float] | None:
    """Return the 95 % Student interval of the mean over seeds; None with a single one."""
    return list(student_interval(values)) if len(values) > 1 else None


def page(data: Mapping[str, Any]) -> str:
    """Return the result of an arena as a Markdown page: what was equal, one row per recipe, and how to read it."""
    about = data["about"]
    ks = list(data["rows"][0]["pass_at"])
    head = ["recipe", "success", "against " + about["against"], "calls per task", "tokens per task", "malformed",
            *(f"pass@{k}" for k in ks), "steps", "training tokens", "seconds"]  # fmt: skip
    lines = [
        "# Arena\n\n",
        "Training recipes on equal footing: the same model, world, tasks and seeds, the same number of generated "
        "tokens (dropped groups and discarded branches included), the same evaluation by the plain tool loop. Nothing "
        "is tuned per recipe: each brings its paper's values, and the learning rate is the same for all.\n\n",
        f"Model `{about['model']}`, world {', '.join(about['worlds'])}, levels {about['levels']}, "
        f"{about['budget']:,} generated tokens per run, {about['groups']} tasks per step, seeds {about['seeds']}, "
        f"learning rate {about['learning_rate']:g}; {about['eval_tasks']} held-out tasks, "
        f"{about['num_generations_eval']} samples each at temperature 1. Success is the mean over tasks and samples; "
        "intervals are 95% Student intervals over seeds, differences are paired by seed. Seconds are those of one run "
        "on the machine named below and compare only roughly.\n\n",
        "![Success after training, pass@k, and success against generated tokens](assets/arena.png)\n\n",
        "| " + " | ".join(head) + " |\n",
        "| " + " | ".join(["---", *["---:"] * (len(head) - 1)]) + " |\n",
    ]
    for row in data["rows"]:
        difference = "" if row["difference"] is None else as_points(row["difference"], row["difference_interval"])
        cells = [
            f"`{row['recipe']}`",
            as_share(row["success"], row["success_interval"]),
            difference,
            f"{row['calls']:.2f}",
            f"{row['tokens']:.0f}",
            f"{100 * row['malformed']:.1f}%",
            *(f"{100 * row['pass_at'][k]:.1f}%" for k in ks),
            f"{row['steps']:.0f}",
            f"{row['sampled']:,.0f}",
            f"{row['seconds']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |\n")
    lines.append("\n## What each recipe changes\n\n")
    for row in data["rows"]:
        if row["changes"]:
            changed = ", ".join(f"`{field}` ({' then '.join(by)})" for field, by in row["changes"].items())
            lines.append(f"- `{row['recipe']}`: {changed}\n")
    versions = ", ".join(f"{name} {value}" for name, value in data["versions"].items())
    lines.append(f"\nMeasured on: {versions}. Play it again: `{about['command']}`.\n")
    return "".join(lines)


def as_share(value: float, interval: Sequence[float] | None) -> str:
    """Write a share of 1 as per cent, with its interval where there is one."""
    if interval is None:
        return f"{100 * value:.1f}%"
    return f"{100 * value:.1f}% [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def as_points(value: float, interval: Sequence[float] | None) -> str:
    """Write a difference of shares as signed points, with its interval where there is one."""
    if interval is None:
        return f"{100 * value:+.1f}"
    return f"{100 * value:+.1f} [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"
