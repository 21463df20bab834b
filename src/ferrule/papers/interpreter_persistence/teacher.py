"""The scripted teacher: one way to fill a knapsack, written for an interpreter that keeps its state and for one not.

Both regimes inspect the same items in the same rounds, then take items by value per weight, then try those never
inspected and finish. What differs is where data lives: in variables and functions of earlier blocks, or in literals and
definitions that every block makes anew from what was printed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from ferrule.agents.code import CodeAct
from ferrule.core.records import Ask, Task, Trajectory, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.worlds.knapsack import Knapsack

__all__ = ["ROUND", "paired_traces", "script", "teach"]

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
    said = [plain_text(m) for m in ask.messages]
    persistent = "Runtime: persistent" in said[0]
    found = re.search(
        r"Inspections: (\d+)", next(t for m, t in zip(ask.messages, said, strict=True) if m.role == "user")
    )
    budget = int(found[1]) if found else 0
    outputs = [str(json.loads(t)["output"]) for m, t in zip(ask.messages, said, strict=True) if m.role == "tool"]
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
