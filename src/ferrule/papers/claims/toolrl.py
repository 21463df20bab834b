"""ToolRL: a table that must write one right call, by coarse, fine and length rewards."""

from __future__ import annotations

import json
from functools import partial

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.core.flows import Reward
from ferrule.core.records import Task, Trajectory
from ferrule.papers.toolrl import turn_reward
from ferrule.studies.conditions import at_least, less, over
from ferrule.studies.study import Study
from ferrule.studies.table import Player, plain, steps_to, train_table

__all__ = ["STUDY", "arm", "play", "start", "tasks"]

TOOLS, VALUES, KINDS = 5, 6, 4
WORDS = (8, 16, 32, 64, 128, 256, 512)  # of thought that a turn may have; none of them helps


def _text(tool: int, first: int, second: int, words: int = 1) -> str:
    call = json.dumps({"name": f"tool{tool}", "parameters": {"a": first, "b": second}})
    return f"<think>{'so ' * words}</think>\n<tool_call>\n{call}\n</tool_call>"


def _gold(kind: int) -> tuple[int, int, int]:
    return kind, (2 * kind + 1) % VALUES, (5 - kind) % VALUES


def tasks() -> list[Task]:
    """Return four tasks, each with a gold turn that calls one of five tools with two values of six."""
    return [Task(f"call{kind}", f"{kind}", answer=_text(*_gold(kind)), meta={"kind": kind}) for kind in range(KINDS)]


def play(task: Task, player: Player) -> Trajectory:
    """Choose words of thought, a tool and two values, and write the turn."""
    state = 4 * task.meta["kind"]
    words = WORDS[player.decide(state, "think")]
    tool, first, second = (player.decide(state + k, "call") for k in (1, 2, 3))
    return player.trajectory(task, _text(tool, first, second, words))


def start() -> FloatArray:
    """Return the first logits: short thoughts are likelier (half as likely for every doubling), calls are even."""
    logits = np.full((4 * KINDS, len(WORDS)), -40.0)
    logits[0::4] = -np.log(2) * np.arange(len(WORDS))
    logits[1::4, :TOOLS] = 0.0
    logits[2::4, :VALUES] = logits[3::4, :VALUES] = 0.0
    return logits


def _watch(step: int, chance_SA: FloatArray) -> dict[str, float]:
    """Chance of a fully right call and expected words of thought, means over the tasks."""
    right = [np.prod([chance_SA[4 * kind + 1 + k, _gold(kind)[k]] for k in range(3)]) for kind in range(KINDS)]
    return {"right": float(np.mean(right)), "words": float((chance_SA[0::4] @ np.asarray(WORDS)).mean())}


def arm(*, seed: int, steps: int, reward: Reward) -> dict[str, float]:
    """Train one arm; return updates until 80 % right calls (``steps`` if never), and where it stands on the way."""
    recipe, rate = plain(reward=reward, num_generations=4), 4.0 * KINDS
    table = train_table(recipe, play, tasks(), start(), steps=steps, learning_rate=rate, seed=seed, watch=_watch)
    right = [row["right"] for row in table.curve]
    numbers = {f"right after {at}": right[at - 1] for at in (20, 40, 80) if at <= steps}
    return {**numbers, "updates to 80 %": steps_to(right, 0.8, steps), **table.curve[-1]}


STUDY = Study(
    paper="toolrl",
    statement="Scoring names and values one by one teaches a call in at most half the updates of all or nothing.",
    falsifier="The coarse reward reaches 80 % right calls as fast as the fine one.",
    grade="B",
    trained="a table of 16 rows (thought, tool and two values of a call, by task)",
    arms={
        "coarse": partial(arm, reward=partial(turn_reward, grain="coarse")),
        "intermediate": partial(arm, reward=partial(turn_reward, grain="intermediate")),
        "fine": partial(arm, reward=turn_reward),
        "fine, length": partial(arm, reward=partial(turn_reward, target=lambda step: 512.0)),
    },
    asks=(
        at_least("updates to 80 % right calls, coarse over fine", over("updates to 80 %", "coarse", "fine"), 2.0),
        at_least("words of thought, paid for length over not", over("words", "fine, length", "fine"), 2.0),
        at_least("right calls, fine minus paid for length", less("right", "fine", "fine, length"), -0.02),
    ),
    sizes={"small": {"steps": 400}, "tiny": {"steps": 6}},
    setup={"samples": 4, "tools": TOOLS, "values": VALUES, "tasks": KINDS},
)
