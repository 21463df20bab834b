"""Write the pages under ``docs/records`` from recorded figures.

``python scripts/records.py demo runs/demo runs/demo-1 runs/demo-2`` collects demo runs into ``demo.json``, ``demo.md``
and the learning curve of the README; ``python scripts/records.py smollm2`` writes the page of the real-model record and
``python scripts/records.py pocket`` that of the pocket model's capability card; ``python scripts/records.py bfcl``
that of the real model on function calls.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["bfcl", "demo", "pocket", "smollm2"]

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "docs" / "records"
ARMS = ("with tools", "without tools")


def _share(numbers: Mapping[str, Any]) -> str:
    low, high = numbers["interval"]
    return f"{numbers['success']:.1%} [{low:.1%}, {high:.1%}]"


def demo(folders: Sequence[Path]) -> None:
    """Collect finished demo runs into one record and one page."""
    from ferrule.view.figures import learning_curve

    runs = []
    for folder in folders:
        parts = {
            name: json.loads((folder / f"{name}.json").read_text()) for name in ("settings", "summary", "versions")
        }
        parts["evaluations"] = json.loads((folder / "evaluations.json").read_text())
        runs.append(parts)
    runs.sort(key=lambda run: run["settings"]["seed"])
    count = runs[0]["evaluations"]["before"]["arms"][ARMS[0]]["count"]
    RECORDS.mkdir(parents=True, exist_ok=True)
    (RECORDS / "demo.json").write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# The demo, three seeds",
        "",
        "`ferrule demo --seed 0` (1, 2) trains the pocket model by GRPO for at most five minutes on `arithmetic` and",
        f"`apis`, all levels, and measures it before and after on the same {count} held-out tasks,",
        "sampled at temperature 1, with and without tools. 95% intervals in brackets (Wilson).",
        "",
        "| seed | steps | training | with tools, before | with tools, after | rise | without tools, before | after |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        before, after = (run["evaluations"][phase]["arms"] for phase in ("before", "after"))
        rise = 100 * (after[ARMS[0]]["success"] - before[ARMS[0]]["success"])
        lines.append(
            f"| {run['settings']['seed']} | {run['summary']['steps']} | {run['summary']['seconds']:.0f} s "
            f"| {_share(before[ARMS[0]])} | {_share(after[ARMS[0]])} | {rise:+.1f} points "
            f"| {_share(before[ARMS[1]])} | {_share(after[ARMS[1]])} |"
        )
    lines += [
        "",
        "All settings, levels and versions are in [demo.json](demo.json). The step count depends on the machine,",
        "because the training time is capped. Made by `python scripts/records.py demo runs/...`.",
        "",
    ]
    (RECORDS / "demo.md").write_text("\n".join(lines), encoding="utf-8")
    picture = ROOT / "docs" / "assets" / "learning-curve.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    learning_curve(list(folders), picture)


def smollm2() -> None:
    """Write the page of the real-model record."""
    record = json.loads((RECORDS / "smollm2-arithmetic.json").read_text(encoding="utf-8"))
    options = record["options"]
    lines = [
        "# SmolLM2-135M on arithmetic word problems",
        "",
        "A real pretrained model with the isolated `python` tool on word problems of level 1 to 3: supervised cold",
        f"start on 80 demonstrations ({options['sft_steps']} steps), then GRPO ({options['grpo_steps']} steps of four",
        f"tasks with eight samples each). Success on the same {record['before']['count']} held-out tasks, sampled at",
        "temperature 1, 95% intervals in brackets.",
        "",
        "| phase | success | calls per task | malformed calls | minutes so far |",
        "| --- | --- | --- | --- | --- |",
    ]
    for phase, name in (("before", "pretrained"), ("after_sft", "after the cold start"), ("after_grpo", "after GRPO")):
        numbers = record[phase]
        malformed = "-" if numbers["malformed"] is None else f"{numbers['malformed']:.1%}"
        lines.append(f"| {name} | {_share(numbers)} | {numbers['calls']:.2f} | {malformed} | {numbers['minutes']} |")
    lines += [
        "",
        "The cold start teaches the form of a call. The GRPO part is short: read its effect from the intervals above.",
        "Everything is in [smollm2-arithmetic.json](smollm2-arithmetic.json); the script is",
        "`examples/smollm2_arithmetic.py`.",
        "",
    ]
    (RECORDS / "smollm2-arithmetic.md").write_text("\n".join(lines), encoding="utf-8")


def bfcl() -> None:
    """Write the page of the real model on function calls, before and after supervised fine-tuning."""
    record = json.loads((RECORDS / "smollm2-bfcl.json").read_text(encoding="utf-8"))
    training = record["training"]
    lines = [
        "# SmolLM2-135M on function calls",
        "",
        f"A real pretrained model on {record['tasks']} tasks of `{record['suite']}` (one function, one call, judged as",
        f"BFCL does), greedily, before and after {training['steps']} steps of supervised fine-tuning of an adapter on",
        f"{training['rows']} conversations with other tools ({training['minutes']} minutes on a busy core, bfloat16).",
        "95% intervals in brackets; shares are of the calls tried, the loss is of 16 rows that were held out.",
        "",
        "| when | success | calls tried per task | malformed | of unknown tools | loss |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for when in ("before", "after"):
        row = record[when]
        lines.append(
            f"| {when} | {_share(row)} | {row['calls tried']:.2f} | {row['malformed']:.1%} | {row['unknown tool']:.1%} "
            f"| {row['held-out loss']:.3f} |"
        )
    lines += ["", "```bash", *record["commands"], "```", "", f"The rows are those of {record['rows']}.", ""]
    (RECORDS / "smollm2-bfcl.md").write_text("\n".join(lines), encoding="utf-8")


def pocket() -> None:
    """Write the page of the shipped pocket model: how it was built, and its capability card."""
    from ferrule.evaluate.card import page
    from ferrule.policies.pocket import WEIGHTS

    built = json.loads((WEIGHTS / "build.json").read_text(encoding="utf-8"))
    card = json.loads((WEIGHTS / "card.json").read_text(encoding="utf-8"))
    lines = [
        "# The pocket model's capability card",
        "",
        f"{built['parameters']:,} parameters, trained from nothing in {built['minutes']:.0f} minutes on",
        f"{built['threads']} cores ({built['processor']}, {built['dtype']}) by `ferrule models build pocket` (seed",
        f"{built['settings']['seed']}, {built['tokens_seen']:,} tokens). The losses of the build are in `curve.jsonl`",
        "beside the weights. Its training conversations draw tools, names, parameters and words anew each time, and",
        "hold no tool and no task of a world below. Measured by",
        f"`ferrule models card --eval-tasks {card['tasks_per_level']}`, greedily; 95% intervals in brackets. First the",
        "worlds, with calls per episode and the share of malformed calls (`apis renamed`: tools and parameters under",
        "made-up names). Then the share of groups of samples at temperature 1 that hold successes and",
        "failures. Then skills, on words that training never saw and 2 to 12 tools: the first reply unless `whole` is",
        "said, without a plan where the row says so, in the main written form unless another is named.",
        "",
        "```text",
        page(card),
        "```",
        "",
    ]
    (RECORDS / "pocket.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["demo"] and len(sys.argv) > 2:
        demo([Path(name) for name in sys.argv[2:]])
    elif sys.argv[1:] == ["smollm2"]:
        smollm2()
    elif sys.argv[1:] == ["pocket"]:
        pocket()
    elif sys.argv[1:] == ["bfcl"]:
        bfcl()
    else:
        sys.exit(__doc__)
