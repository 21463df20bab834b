"""Play random action lists on the tasks of tau-bench: is one right only where it leaves the database of the reference?

``python scripts/tau_lists.py --data FOLDER`` plays 1,000 lists on every task whose reference writes, and compares each
database that is left with the reference's, record by record. Reference actions themselves must be right, and wrong as
soon as one of the task's ``outputs`` is not told. Lists mix the actions of the task with those of the others, as they
are and with values of others in place of their own. ``--part 2/8`` plays the second eighth of the tasks.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ferrule.core.records import Call, Task, Trajectory
from ferrule.rewards.outcome import outcome
from ferrule.worlds.named import world

__all__ = ["check", "database", "main"]

_LONGEST = 6


def database(session: Any) -> dict[str, dict[str, Any]]:
    """Return every record of every table as the session has left it."""
    records = session._state
    return {table: dict(records.all(table)) for table in records.tables}


def _played(home: Any, task: Task, calls: Sequence[Call]) -> Any:
    session = home.start(task)
    for call in calls:
        session.act(call)
    return session


def _value(home: Any, task: Task, calls: Sequence[Call], answer: str | None) -> float:
    path = Trajectory(task, (), answer, "answer", final=_played(home, task, calls).final())
    return outcome(task, [path])[0].value


def _list(rng: random.Random, own: Sequence[Call], others: Sequence[Call]) -> list[Call]:
    """Draw a list of calls: half of them of the task itself, a fifth with values that other calls give."""

    def drawn() -> Call:
        call = rng.choice(own if rng.random() < 0.5 else others)
        if rng.random() < 0.8:
            return call
        given = {}
        for name, value in call.arguments.items():
            values = [other.arguments[name] for other in rng.sample(others, min(20, len(others)))
                      if name in other.arguments]  # fmt: skip
            given[name] = rng.choice([value, *values])
        return replace(call, arguments=given)

    return [drawn() for _ in range(rng.randint(1, _LONGEST))]


def check(home: Any, lists: int, part: tuple[int, int] = (1, 1)) -> dict[str, int]:
    """Play ``lists`` random lists on each task of a part and return what was counted.

    ``wrong`` counts lists that are judged otherwise than by the whole database, references that are not right, and
    references that stay right although an output is not told; ``reached`` counts lists that leave the right one.
    """
    tasks = home.tasks("test", 10_000)
    solved = {task.id: home.demonstrate(task) for task in tasks}
    others = [call for solution in solved.values() for call in solution.calls]
    number, parts = part
    counted = dict.fromkeys(("tasks", "right", "outputs", "writing", "lists", "reached", "wrong"), 0)
    for task in tasks[number - 1 :: parts]:
        own, answer = solved[task.id].calls, solved[task.id].answer
        counted["tasks"] += 1
        right = _value(home, task, own, answer) == 1.0
        counted["right"] += right
        counted["wrong"] += not right
        told = [] if task.answer is None else str(task.answer).splitlines()
        counted["outputs"] += bool(told)
        for place in range(len(told)):
            silent = "\n".join(told[:place] + told[place + 1 :])
            if not any(told[place] in line for line in told[:place] + told[place + 1 :]):
                counted["wrong"] += _value(home, task, own, silent) == 1.0
        wanted, rng = database(_played(home, task, own)), random.Random(task.id)
        if wanted == database(home.start(task)):
            continue
        counted["writing"] += 1
        for _ in range(lists):
            session = _played(home, task, _list(rng, own, others))
            same = database(session) == wanted
            counted["lists"] += 1
            counted["reached"] += same
            counted["wrong"] += session.final()["passed"] is not same
    return counted


def _part(text: str) -> tuple[int, int]:
    number, _, parts = text.partition("/")
    if not (number.isdigit() and parts.isdigit() and 1 <= int(number) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a part such as 2/8")
    return int(number), int(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check both domains and print one line of JSON for each; 1 when anything was judged wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Folder with the data of tau-bench.")
    parser.add_argument("--domains", nargs="+", default=["retail", "airline"])
    parser.add_argument("--lists", type=int, default=1000, help="Random lists per task.")
    parser.add_argument("--part", type=_part, default=(1, 1), help="Which part of the tasks, such as 2/8.")
    options = parser.parse_args(arguments)
    results: dict[str, Mapping[str, int]] = {}
    for domain in options.domains:
        results[domain] = check(world(f"tau:{domain}", data=options.data), options.lists, options.part)
        print(json.dumps({"domain": domain, "part": "/".join(map(str, options.part)), **results[domain]}), flush=True)
    return int(any(counted["wrong"] for counted in results.values()))


if __name__ == "__main__":
    sys.exit(main())
