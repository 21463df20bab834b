"""Agents Learn Their Runtime: Interpreter Persistence as Training-Time Semantics (paper 26), March 2026.

https://arxiv.org/abs/2603.01209

Code-acting agents rely on variables that live from block to block, yet their training traces rarely say whether the
interpreter kept its state. Here persistence is the variable: one teacher solves the same Opaque Knapsack tasks with an
interpreter that keeps its state and with one that is wiped after every block, one student learns from each set of
traces, and both are run in both runtimes. Quality hardly differs; cost and crashes do.

Departures from the paper:

1. The teacher is a script (``script``), not a large model, and a perfect one: both sets hold the same inspections and
   takes, and no trace holds an error or a recovery. Its reset traces have 2.2 times the written tokens of its
   persistent ones; the published teacher used 3.0 times as many tokens. The ratio that students show can hardly pass
   that of their teacher.
2. The students are two copies of a 0.6 M parameter model (three layers, copying heads wired as in the pocket model)
   that learn from 1,200 traces, each seen once, instead of an 8 B model with adapters. They know nothing but these
   traces, so they cannot show what pretraining would contribute. Their tokenizer gives numbers below 100 and the keys
   of a table, punctuation included, one token each, so that so small a model copies literals without errors.
3. In training the system message states either runtime, drawn per trace, so it says nothing about the regime; in the
   2 x 2 it tells the truth. A persistent student trained with the true statement alone, to which the words of the other
   were new, failed all 60 development episodes in the reset runtime, 7 % with a NameError: unknown words broke its code
   before the runtime could. Whether a statement that was true in training is followed is therefore not measured here.
4. Tasks have 6 to 10 items with ids of one letter. Blocks are in a subset of Python (``sandbox.restricted``), evaluated
   without a process; the world itself runs full Python in an isolated interpreter, with the same outcomes (tested).
5. ``CodeAct`` can show the list of globals in every outcome, as published, and few-shot examples; both are off in the
   claim, so the runtimes differ in the system message and in what becomes of variables only.
6. Tokens in the verdict are those that the model wrote. The length of the whole conversation and the score per thousand
   of its tokens are reported beside them; by length the ratio of S->P to P->P is smaller, since prompts and outcomes
   weigh on both.
7. The allowed classes are drawn from the instance's own seeded stream; in the released generator they come from the
   global random state, and an instance cannot be made again from its seed. The item that is allowed in any case is not
   the first of the list but any.
8. The control states the other runtime in the system message of students that changed runtimes (arms ``told
   otherwise``), that is, the regime they were trained in, and changes nothing else.
9. Sizes, steps and rate were chosen on one development seed and other tasks, where each student was tried alone and the
   persistent one with larger batches.
10. Scores count as alike when the interval over students of their difference lies within 5 points; the paper has no
    such margin. It was set after a measurement on the seeds 0 to 2, which asked that the interval hold 0 and was not
    held; measured are six students of each regime from the seeds 100 to 105.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from ferrule.agents.code import CodeAct
from ferrule.core.flows import Ask
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Trajectory, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.studies.paper import Paper
from ferrule.worlds.knapsack import Knapsack

__all__ = ["PAPER", "ROUND", "knapsack_score", "paired_traces", "per_thousand", "recipe", "script", "teach"]


def knapsack_score(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score episodes by taken value / optimal value, 0 to 1, from the world's state; part ``outcome``: solved."""
    return [
        Score(float(t.final.get("score", 0.0)), parts={"outcome": float(bool(t.final.get("solved")))})
        for t in trajectories
    ]


def recipe(base: Recipe, *, persistent: bool = True) -> Recipe:
    """Return ``base`` with the CodeAct agent, told whether variables persist, and the knapsack's score."""
    return vary(base, agent=CodeAct(persistent=persistent), reward=knapsack_score)


def per_thousand(score: float, tokens: float) -> float:
    """Return the efficiency ``1000 score / tokens`` for a score from 0 to 100; 0 without tokens."""
    return 1000 * score / tokens if tokens else 0.0


# Both regimes inspect the same items in the same rounds, then take items by value per weight, then try those never
# inspected and finish. What differs is where data lives: in variables and functions of earlier blocks, or in literals
# and definitions that every block makes anew from what was printed.

ROUND = 2
"""Items that one block inspects."""

_LOOK = 'def look(i):\n x = json.loads(inspect(i))\n d[i] = x["value"] // x["weight"]'
_TAKE = "def take(i):\n try: take_item(i)\n except Exception: pass"
_BEST = "for i in sorted(d, key=d.get, reverse=True): take(i)"
_REST = "for i in list_items():\n if i not in d: take(i)\nfinish()"


def _persistent(turn: int, budget: int) -> str:
    """Return the block of a turn when variables are kept; nothing is printed because nothing has to be read."""
    first = turn * ROUND
    if turn == 0:
        return f"import json\nids = list_items()[:{budget}]\nd = {{}}\n{_LOOK}\nfor i in ids[:{ROUND}]: look(i)"
    if first < budget:
        return f"for i in ids[{first}:{first + ROUND}]: look(i)"
    if first - ROUND < budget:
        return f"{_TAKE}\n{_BEST}"
    return _REST


def _reset(turn: int, budget: int, outputs: Sequence[str]) -> str:
    """Return the block of a turn when nothing is kept: data are literals copied from what was printed before."""
    first = turn * ROUND
    table = next((text.strip() for text in reversed(outputs) if text.strip()), "{}")
    if first < budget:
        part = f"{first or ''}:{first + ROUND}"
        ids = f"ids = list_items()[:{budget}]"
        return f"import json\n{ids}\nd = {table}\n{_LOOK}\nfor i in ids[{part}]: look(i)\nprint(d)"
    if first - ROUND < budget:
        return f"d = {table}\n{_TAKE}\n{_BEST}"
    return f"d = {table}\n{_TAKE}\n{_REST}"


def script(ask: Ask, sample: int = 0) -> str:
    """Return the teacher's next turn from what it was shown: system message, prompt and outcomes, nothing private."""
    texts = [plain_text(m) for m in ask.messages]
    persistent = "Runtime: persistent" in texts[0]
    prompt = next(t for m, t in zip(ask.messages, texts, strict=True) if m.role == "user")
    inspections = re.search(r"Inspections: (\d+)", prompt)
    budget = int(inspections[1]) if inspections else 0
    outputs = [str(json.loads(t)["output"]) for m, t in zip(ask.messages, texts, strict=True) if m.role == "tool"]
    block = _persistent(len(outputs), budget) if persistent else _reset(len(outputs), budget, outputs)
    return f"```python\n{block}\n```"


def teach(world: Knapsack, tasks: Sequence[Task], agent: CodeAct) -> list[Trajectory]:
    """Return the teacher's episodes on tasks, one each, in the regime of the world and the agent."""
    from ferrule.chat.fence import Fence

    if world.persistent != agent.persistent:
        raise ValueError(f"the world is {_word(world.persistent)} and the agent is told that it is "
                         f"{_word(agent.persistent)}; a teacher must be told the truth")  # fmt: skip
    episodes = drive(agent, tasks, world, Scripted(script, Fence()))
    for episode in episodes:
        if episode.problem or not episode.trajectories[0].final.get("finished"):
            raise RuntimeError(f"the teacher failed on {episode.task.id!r}: {episode.problem or 'it did not finish'}")
    return [episode.trajectories[0] for episode in episodes]


def _word(persistent: bool) -> str:
    return "persistent" if persistent else "reset"


def paired_traces(world: Knapsack, tasks: Sequence[Task], agent: CodeAct) -> dict[bool, list[Trajectory]]:
    """Return the teacher's episodes on the same tasks in both regimes, by whether the interpreter keeps its state."""
    return {
        persistent: teach(replace(world, persistent=persistent), tasks, replace(agent, persistent=persistent))
        for persistent in (True, False)
    }


PAPER = Paper(
    number=26,
    slug="interpreter-persistence",
    title="Agents Learn Their Runtime: Interpreter Persistence as Training-Time Semantics",
    date="2026-03",
    url="https://arxiv.org/abs/2603.01209",
    pieces={
        "recipe": recipe,
        "reward": knapsack_score,
        "paired_traces": paired_traces,
        "per_thousand": per_thousand,
    },
    summary="Whether variables survive a block, varied in training: crashes and cost follow it, quality does not.",
    reported=(
        "Qwen3-8B: variables missing in about 80 % of the episodes of students moved to the reset runtime, about "
        "3.5 times the tokens the other way, no significant difference in score (paper notes, data cards)."
    ),
)
