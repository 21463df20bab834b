"""The page of an arena with a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.evaluate.columns import CEILING, HIGH, LOW
from ferrule.evaluate.profile_standings import APART, OVERALL
from ferrule.evaluate.standings import as_points, as_share

__all__ = ["PICTURE", "apart_text", "profile_page"]

PICTURE = "assets/arena-profile.png"
_RULE = (
    f"Levels of a column were kept by a rule written before anything was measured: untrained pass@8 between {LOW:.0%} "
    f"and {HIGH:.0%}, and an end of plain GRPO below {CEILING:.0%}, on a development seed.\n\n"
)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def _head(cells: Sequence[str], left: int = 1) -> str:
    return _row(cells) + _row(["---"] * left + ["---:"] * (len(cells) - left))


def _thousands(tokens: float | None) -> str:
    return "never" if tokens is None else f"{tokens / 1000:.0f}k"


def apart_text(data: Mapping[str, Any]) -> str:
    """Say which pairs of recipes are told apart in at least ``APART`` columns, or that none is."""
    clear = [pair for pair in data["pairs"] if len(pair["better"]) + len(pair["worse"]) >= APART]
    names = [row["recipe"] for row in data["rows"] if row["seeds"]]
    count = len(names) * (len(names) - 1) // 2
    if not clear:
        return (
            f"**No pair of recipes is told apart in at least {APART} columns**: of {count} pairs "
            f"{len(data['pairs'])} are told apart in one column or more.\n"
        )
    lines = [f"Of {count} pairs of recipes {len(clear)} are told apart in at least {APART} columns:\n\n"]
    for pair in clear:
        parts = [f"{word} in {', '.join(pair[side])}" for side, word in (("better", "better"), ("worse", "worse"))
                 if pair[side]]  # fmt: skip
        lines.append(f"- `{pair['first']}` against `{pair['second']}`: {'; '.join(parts)}\n")
    return "".join(lines)


def _overview(data: Mapping[str, Any]) -> str:
    names = [column["name"] for column in data["about"]["columns"]]
    lines = [_head(["recipe", "rate", "seeds", "tokens", *names, OVERALL])]
    for row in data["rows"]:
        rate = "" if row["rate"] is None else f"{row['rate']:g}"
        ends = [f"{100 * row['columns'][name]['success']:.1f}" for name in (*names, OVERALL)]
        lines.append(
            _row([f"`{row['recipe']}`", rate, str(len(row["seeds"]) or ""), _thousands(row["sampled"]), *ends])
        )
    return "".join(lines)


def _section(data: Mapping[str, Any], name: str) -> str:
    against = data["about"]["against"]
    level = data["rows"][0]["columns"][name]["level"]
    reach = "tokens to the level" if level is None else f"tokens to {100 * level:.1f}%"
    lines = [_head(["recipe", "end", f"against {against}", "area", reach])]
    for row in data["rows"]:
        found = row["columns"][name]
        difference = "" if found["difference"] is None else as_points(found["difference"], found["difference_interval"])
        tokens = "" if level is None or not row["seeds"] else _thousands(found["tokens_to_level"])
        end = as_share(found["success"], found["interval"])
        lines.append(_row([f"`{row['recipe']}`", end, difference, f"{100 * found['area']:.1f}", tokens]))
    return "".join(lines)


def profile_page(data: Mapping[str, Any]) -> str:
    """Return the result as a Markdown page: who is told apart, ends in all columns, and each column by itself."""
    about = data["about"]
    seeds = f"{about['seeds']} seeds from {about['first_seed']} on"
    if about["leading"]:
        seeds += (
            f" ({about['leading_seeds']} for `{about['against']}` and the {about['leading']} that lead after those, "
            "the ones they were chosen by among them)"
        )
    rates = ", ".join(f"{rate:g}" for rate in about["rates"])
    machines = "; ".join(" ".join(filter(None, machine.values())) for machine in data["machines"])
    parts = [
        "# Arena with a profile\n\n",
        "Training recipes on equal footing: every run trains the same model on one mixture of worlds for the same "
        "number of generated tokens (dropped groups and discarded branches included; of rows that nobody generated "
        "the tokens learned from), and every world is measured by itself with the plain tool loop. Each recipe has the "
        f"best of the learning rates {rates}, chosen at a quarter of the budget with seed {about['rate_seed']} on "
        "tasks that nothing is measured on. Pairs that are drawn in the round in which the budget ends are paid for "
        "and no longer learned from. `untrained` is the model before training, `random` in a stack a reward by "
        "coin.\n\n",
        f"Model `{about['model']}`, {about['budget']:,} tokens per run, {about['groups']} tasks per step, {seeds}; "
        f"{about['eval_tasks']} held-out tasks per column with {about['num_generations_eval']} samples each at "
        "temperature 1. Intervals are 95% Student intervals over training seeds; differences are paired by seed.\n\n",
        _RULE if about["by_rule"] else "",
        _head(["column", "world", "levels"], 3),
        *(
            _row([column["name"], f"`{column['world']}`", ", ".join(map(str, column["levels"]))])
            for column in about["columns"]
        ),
        "\n## Told apart\n\n",
        apart_text(data),
        f"\nEach interval errs once in twenty times by chance, and columns of one run are not independent: a pair in a "
        f"single column says little, {APART} columns say more.\n\n",
        f"![Every recipe against {about['against']} in every column]({PICTURE})\n\n",
        "## Ends\n\nSuccess in percent, mean over seeds; the last column is the mean over columns.\n\n",
        _overview(data),
        "\n## Column by column\n\nThe area is the mean success over the budget, from the untrained model on; the level "
        f"is half way from the untrained model to the end of `{about['against']}`. Both are taken from the first "
        f"{about['curve_tasks']} tasks of a column, which are measured after each quarter of the budget as well.\n",
    ]
    for name in (*(column["name"] for column in about["columns"]), OVERALL):
        title = "Mean over columns" if name == OVERALL else name.capitalize()
        parts += [f"\n### {title}\n\n", _section(data, name)]
    versions = ", ".join(f"{name} {value}" for name, value in data["versions"].items())
    parts.append(f"\nMeasured on: {machines}; {versions}. Play it again: `{about['command']}`.\n")
    return "".join(parts)
