"""Searching for an instruction: ``ferrule.agents.text_search`` beside ``gepa`` at equal runs, on one world.

Every sum of the world ``arithmetic`` follows one of some hidden rules. The model is a script that solves a task when
the instruction states its rule; the reflector is one too: it states the rule of the first task that failed, and at
times loses another rule over it. Both searches are given the same tasks, scripts and number of runs (a task played with
an instruction), and start from an empty instruction. What they find is measured on tasks that neither has met. Where
``gepa`` is not installed ours is measured alone.
"""

import importlib.util
import random
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from common import arguments, report, spread

from ferrule.agents.react import ToolLoop
from ferrule.agents.refine import settled
from ferrule.agents.text_search import OnItems, search_texts
from ferrule.core.flows import Ask
from ferrule.core.records import Task, plain_text
from ferrule.evaluate.metrics import student_interval
from ferrule.evaluate.texts import played_with
from ferrule.policies.scripted import Scripted
from ferrule.worlds.arithmetic import Arithmetic

LOST = 0.3
"""How often a rewrite loses a rule."""
START = "Solve it."


def rule_of(task: Task, rules: int) -> str:
    return f"rule {zlib.crc32(task.prompt.encode()) % rules};"


def script(tasks: Sequence[Task], rules: int) -> Scripted:
    """Return the model: right where the instruction states the rule of the task."""
    known = {task.prompt: (str(task.answer), rule_of(task, rules)) for task in tasks}

    def reply(request: Ask, sample: int) -> str:
        told, asked = (plain_text(message) for message in request.messages)
        answer, rule = known[asked]
        return answer if rule in told else "unknown"

    return Scripted(reply)


def reflector(rules: int, seed: int) -> Callable[[str, Sequence[tuple[Task, float]]], list[str]]:
    """Return what states the rule of the first task that failed, and loses another rule with the chance ``LOST``."""
    rng = random.Random(seed)

    def rewrite(text: str, told: Sequence[tuple[Task, float]]) -> list[str]:
        failed = [task for task, score in told if score < 1]
        stated = [f"{part};" for part in text.removeprefix(START).split(";") if part]
        if stated and rng.random() < LOST:
            stated.remove(rng.choice(stated))
        added = [f" {rule_of(failed[0], rules)}"] if failed else []
        return ["".join([START, *dict.fromkeys([*stated, *added])])]

    return rewrite


def by_ferrule(run: Any, rewrite: Any, learn: Sequence[Task], judge: Sequence[Task], most: int, seed: int) -> str:
    on = OnItems(run, [*learn, *judge], most)
    places = range(len(learn)), range(len(learn), len(on.items))
    return settled(search_texts([START], rewrite, on, learn=places[0], judge=places[1], seed=seed)).best.text


def by_gepa(run: Any, rewrite: Any, learn: Sequence[Task], judge: Sequence[Task], most: int, seed: int) -> str:
    import gepa
    from gepa.core.adapter import EvaluationBatch
    from gepa.logging.logger import LoggerProtocol

    class Quiet(LoggerProtocol):
        def log(self, message: str) -> None:
            """Drop a line."""

    class Adapter:
        def evaluate(self, batch: list[Task], candidate: dict[str, str], capture_traces: bool = False) -> Any:
            scores = run(candidate["system"], batch)
            return EvaluationBatch(scores, scores, list(zip(batch, scores, strict=True)) if capture_traces else None)

        def make_reflective_dataset(self, candidate: Any, evaluated: Any, components: list[str]) -> dict[str, Any]:
            return {"system": [{"task": task, "score": score} for task, score in evaluated.trajectories]}

        def propose_new_texts(self, candidate: Any, shown: Any, components: list[str]) -> dict[str, str]:
            told = [(row["task"], row["score"]) for row in shown["system"]]
            return {"system": rewrite(candidate["system"], told)[0]}

    result = gepa.optimize(
        {"system": START}, list(learn), list(judge), adapter=Adapter(), max_metric_calls=most, seed=seed,
        logger=Quiet(), reflection_minibatch_size=3,
    )  # fmt: skip
    return str(result.best_candidate["system"])


def once(search: Any, seed: int, given: Any) -> dict[str, float]:
    """Search once; count the runs that really took place, and play the tasks that are left with what was found."""
    world = Arithmetic()
    tasks = world.tasks("train", given.learn + given.judge + given.test, seed=seed)
    learn, judge = tasks[: given.learn], tasks[given.learn : given.learn + given.judge]
    play = played_with(lambda text: ToolLoop(system=text, turns=1), script(tasks, given.rules), world)
    runs = 0

    def run(text: str, items: Sequence[Task]) -> list[float]:
        nonlocal runs
        runs += len(items)
        return play(text, items)

    began = time.perf_counter()
    text = search(run, reflector(given.rules, seed), learn, judge, given.runs, seed)
    seconds = time.perf_counter() - began
    scores = play(text, tasks[given.learn + given.judge :])
    return {"success": sum(scores) / len(scores), "runs": float(runs), "seconds": seconds}


def main() -> None:
    """Measure both, interleaved, and report.

    ``gepa`` cuts the tasks to learn from into threes: of 42 none comes twice. Its cache stays off, since it knows tasks
    by their places and so takes one to learn from for one to judge on.
    """
    given = arguments(str(__doc__), seeds=16, runs=600, rules=12, learn=42, judge=40, test=100)
    searches = {"ferrule": by_ferrule}
    if importlib.util.find_spec("gepa") is not None:
        searches["gepa"] = by_gepa
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in searches}
    for seed in range(given.seeds):
        for name, search in searches.items():
            rows[name].append(once(search, seed, given))
    keys = ("success", "runs", "seconds")
    figures: dict[str, Any] = {
        name: {key: spread([row[key] for row in measured]) for key in keys} for name, measured in rows.items()
    }
    if "gepa" in rows:
        pairs = zip(rows["ferrule"], rows["gepa"], strict=True)
        ahead = [ours["success"] - theirs["success"] for ours, theirs in pairs]
        low, high = student_interval(ahead)
        mean = sum(ahead) / len(ahead)
        figures["success, ferrule minus gepa"] = {"mean": mean, "low": low, "high": high}
    settings = {name: getattr(given, name) for name in ("seeds", "runs", "rules", "learn", "judge", "test")}
    report("text_search", {"settings": settings, **figures}, given.json)


if __name__ == "__main__":
    main()
