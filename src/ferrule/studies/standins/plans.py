"""Chains of arithmetic whose thoughts pick plans that some code cannot carry out, played by a table.

A step of a chain takes five decisions: how to read the operation, a plan (the thought), and an opening, an operator and
a closing (the code). Two of four plans lead to text that is not an expression. The calculator runs the code.

Source: a stand-in for the problems of "THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical
Reasoning" (paper 39).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ferrule.agents.repair import passed
from ferrule.core.arrays import FloatArray
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Observation, Task, Trajectory, plain_text
from ferrule.policies.scripted import Scripted
from ferrule.studies.table import Player
from ferrule.tools.calculator import calculate

__all__ = ["LENGTH", "again", "code_of", "expert", "imitated", "make_tasks", "play", "run_code", "speaker"]

OPERATORS = "+-*"
LENGTH = 3
READ, PLAN, OPEN, OPERATE, CLOSE, STATES = 0, 3, 6, 10, 22, 30
"""First state of each decision: by operation, by reading, by plan, by reading and plan, by plan and opening."""


def make_tasks(count: int, rng: np.random.Generator) -> list[Task]:
    """Return chains such as ``7; + 3; * 2; - 5`` with their values as answers."""
    tasks = []
    for i in range(count):
        value = int(rng.integers(2, 10))
        prompt = [str(value)]
        for _ in range(LENGTH):
            operator, number = OPERATORS[rng.integers(3)], int(rng.integers(2, 10))
            prompt.append(f"{operator} {number}")
            value = int(calculate(f"{value} {operator} {number}"))
        tasks.append(Task(f"chain/{i}", "; ".join(prompt), str(value), world="toolbox"))
    return tasks


def code_of(value: str, number: str, reading: int, plan: int, opening: int, operate: int, closing: int) -> str:
    """Return the code that five decisions write."""
    right = OPERATORS[reading]
    operator = (right, "*/", OPERATORS[(reading + 1) % 3], "=")[operate]
    inner = f"{'(' * opening}{value} {operator} {number}{')' * closing}"
    return (inner, f"round{inner}", f"let y be {inner}", f"{value} apples {inner}")[plan]


@lru_cache(maxsize=200_000)
def run_code(code: str) -> Observation:
    """Run code on the calculator."""
    try:
        return Observation(str(calculate(code)))
    except ValueError as error:
        return Observation(f"ValueError: {error}", "error")


def expert() -> FloatArray:
    """Chances of the writer of the first traces: about three episodes of ten hold a failed call."""
    chance = np.zeros((STATES, 4))
    for kind in range(3):
        chance[READ + kind, :3] = 0.04
        chance[READ + kind, kind] = 0.92
        chance[PLAN + kind] = (0.50, 0.46, 0.02, 0.02)
    for plan in range(4):
        chance[OPEN + plan, :2] = (0.02, 0.98) if plan == 1 else (0.5, 0.5)
        for opening in range(2):
            chance[CLOSE + 2 * plan + opening, :2] = (0.02, 0.98) if opening else (0.98, 0.02)
    chance[OPERATE:CLOSE] = (0.92, 0.02, 0.05, 0.01)
    return chance


def step_of(player: Player, kind: int, value: str, number: str, reading: int | None = None) -> Observation:
    """Play one step as a turn (from the plan on when the reading is given) and return what its call showed."""
    read = player.decide(READ + kind, "think") if reading is None else reading
    plan = player.decide(PLAN + read, "think")
    opening = player.decide(OPEN + plan, "call")
    operate = player.decide(OPERATE + 4 * read + plan, "call")
    closing = player.decide(CLOSE + 2 * plan + opening, "call")
    code = code_of(value, number, read, plan, opening, operate, closing)
    observation = run_code(code)
    player.turn(f"R{read} P{plan}", [(Call("calculator", {"expression": code}), observation)])
    return observation


def play(task: Task, player: Player) -> Trajectory:
    """Play a chain; a step that fails leaves the value as it was."""
    value, *steps = task.prompt.split("; ")
    for step in steps:
        observation = step_of(player, OPERATORS.index(step[0]), value, step[2:])
        value = observation.text if passed(observation) else value
    return player.trajectory(task, value)


def again(trajectory: Trajectory, player: Player) -> Trajectory:
    """Make the last call of a chain over again: what it read stays, the plan and the code are new."""
    value, *steps = trajectory.task.prompt.split("; ")
    for turn in trajectory.turns[:-1]:
        value = turn.observations[0].text if passed(turn.observations[0]) else value
    reading = int(plain_text(trajectory.turns[-1].reply)[1])
    step_of(player, OPERATORS.index(steps[-1][0]), value, steps[-1][2:], reading)
    return player.trajectory(trajectory.task, None, finish="turns")


def imitated(traces: int, rng: np.random.Generator) -> FloatArray:
    """Return the logits that are likeliest given the traces of the expert (half a trace of everything added)."""
    chance = expert()
    counts = np.zeros(STATES * 4)
    for task in make_tasks(traces, rng):
        for turn in play(task, Player(chance, rng)).turns:
            np.add.at(counts, list(turn.sampled), 1.0)
    logits = np.log(counts.reshape(STATES, 4) + 0.5)
    for first, last, actions in ((READ, PLAN, 3), (OPEN, OPERATE, 2), (CLOSE, STATES, 2)):
        logits[first:last, actions:] = -30.0
    return logits


def speaker(chance: FloatArray) -> Scripted:
    """Return a policy that writes replies by a table; the beginning of a thought is gone on with."""

    def speak(request: Ask, sample: int) -> Message:
        rng = np.random.default_rng(request.seed)
        value, *steps = plain_text(request.messages[0]).split("; ")
        shown = [plain_text(m) for m in request.messages if m.role == "tool"]
        for text in shown:
            value = text if text.lstrip("-").isdigit() else value
        if len(shown) == len(steps):
            return Message("assistant", value)
        step = steps[len(shown)]
        drawn = iter(rng.random(5))

        def decide(state: int) -> int:
            return int(min(3, np.searchsorted(np.cumsum(chance[state]), next(drawn), side="right")))

        begun = request.prefill.split()
        reading = int(begun[0][1]) if begun else decide(READ + OPERATORS.index(step[0]))
        plan = int(begun[1][1]) if len(begun) > 1 else decide(PLAN + reading)
        opening = decide(OPEN + plan)
        operate, closing = decide(OPERATE + 4 * reading + plan), decide(CLOSE + 2 * plan + opening)
        code = code_of(value, step[2:], reading, plan, opening, operate, closing)
        return Message("assistant", f"R{reading} P{plan}", (Call("calculator", {"expression": code}),))

    return Scripted(speak)
