"""The survey's stages: plans at once and step by step, one stage replaced at a time, and what predicts success."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from statistics import fmean

from ferrule.agents.gold import oracles
from ferrule.agents.stages import Iterative, OneStep, StageRecord, Stages, record_of, replaced
from ferrule.core.flows import Agent
from ferrule.evaluate.ranking import complete, ndcg
from ferrule.papers.tool_survey import losses
from ferrule.rollout.drive import drive
from ferrule.studies.conditions import Value, at_least, minus, of, within
from ferrule.studies.standins.staged import StagedTools, echo, erring, gold_of
from ferrule.studies.study import Study

__all__ = ["STUDY", "paradigms", "replacement", "retrievers"]

STAGES = ("plan", "select", "call", "respond")
BUSY = (0.0, 0.2, 0.4)
RATE, K = 0.1, 5
NOISE = 0.0416
"""Half the 95 % interval of a share of 0.1 of 200 runs: ``1.96 * sqrt(0.1 * 0.9 / 200)``."""


def _runs(agent: Agent, world: StagedTools, seed: int, queries: int) -> tuple[list[StageRecord], list[bool]]:
    """Play requests and return their records, and which answers are right."""
    episodes = drive(agent, world.tasks("test", queries, seed=seed), world, echo(), seed=seed)
    paths = [episode.trajectories[0] for episode in episodes]
    records = [record for record in map(record_of, paths) if record is not None]
    return records, [path.answer == path.task.answer for path in paths]


def _success(agent: Agent, world: StagedTools, seed: int, queries: int) -> float:
    return fmean(_runs(agent, world, seed, queries)[1])


def paradigms(*, seed: int, queries: int, retrievers: int) -> dict[str, float]:
    """Solve requests with right stages and tools that are busy, at once and step by step."""
    right = erring({}, seed)
    numbers: dict[str, float] = {}
    for busy in BUSY:
        world = StagedTools(busy, seed)
        for name, agent in (("one step", OneStep(right, K)), ("iterative", Iterative(right, K))):
            numbers[f"{name} {busy:g}"] = _success(agent, world, seed, queries)
        numbers[f"gain {busy:g}"] = numbers[f"iterative {busy:g}"] - numbers[f"one step {busy:g}"]
    return numbers


def replacement(*, seed: int, queries: int, retrievers: int, rate: float = RATE) -> dict[str, float]:
    """Solve requests with stages that err, then with one of them right; beside it what is lost at each by attribution.

    ``left`` is what is lost in all minus the losses of the stages. ``gain in turn`` replaces the stages one after the
    other, the first first.
    """
    stages, right, world = erring(dict.fromkeys(STAGES, rate), seed), _spoken(seed), StagedTools(0.0, seed)
    records, solved = _runs(OneStep(stages, K), world, seed, queries)
    lost = losses(records, solved, gold_of)
    base = fmean(solved)
    numbers = {"success": base, "left": 1 - base - sum(lost.values())}
    before, in_turn = base, stages
    for stage in STAGES:
        gain = _success(OneStep(replaced(stages, stage, right), K), world, seed, queries) - base
        in_turn = replaced(in_turn, stage, right)
        after = _success(OneStep(in_turn, K), world, seed, queries)
        numbers |= {f"{stage} lost": lost[stage], f"{stage} gain": gain, f"{stage} gain in turn": after - before}
        before = after
    return numbers


def _spoken(seed: int) -> Stages:
    """Return the right stages; the answer is put together from what came back, as it is by the stages that err."""
    return replaced(oracles(gold_of), "respond", erring({}, seed))


def retrievers(*, seed: int, queries: int, retrievers: int) -> dict[str, float]:
    """Rank all tools for each request by drawn retrievers, and correlate their measures with what is solved.

    A retriever gives the needed tools 1, with noise on every tool; the further needed ones of a request get less by a
    discount of the retriever: one with much noise and no discount finds all or none, one with the reverse finds the
    first. A request is solved when the tools of all its parts are among the first ``K`` and no later stage fails
    (a tenth of the time); those that need two or three count.
    """
    from scipy.stats import spearmanr

    world, rng = StagedTools(), random.Random(f"retrievers/{seed}")
    tasks = [task for task in world.tasks("test", queries, seed=seed) if len(task.meta["calls"]) > 1]
    names = [tool.name for tool in world.start(tasks[0]).tools]
    rows = []
    for _ in range(retrievers):
        noise, discount = rng.uniform(0.1, 0.6), rng.uniform(0.3, 1.0)
        gains, completes, solved = [], [], []
        for task in tasks:
            needed = [name for name, _ in task.meta["calls"]]
            scores = {name: rng.gauss(0.0, noise) for name in names}
            for place, name in enumerate(needed):
                scores[name] += discount**place
            ranking = sorted(names, key=lambda name: -scores[name])
            gains.append(ndcg(ranking, needed, K))
            completes.append(complete(ranking, needed, K))
            solved.append(completes[-1] * (rng.random() >= RATE))
        rows.append((fmean(gains), fmean(completes), fmean(solved)))
    gain, comp, success = zip(*rows, strict=True)

    def correlation(measure: Sequence[float]) -> float:
        return float(spearmanr(measure, success).statistic) if len(set(measure)) > 1 < len(set(success)) else 0.0

    return {"ndcg": correlation(gain), "comp": correlation(comp), "success": fmean(success)}


def _gap(stage: str, arm: str = "replaced") -> Value:
    return minus(of(arm, f"{stage} gain"), of(arm, f"{stage} lost"))


_MORE = minus(of("paradigms", "gain 0.4"), of("paradigms", "gain 0.2"))

STUDY = Study(
    paper="tool-survey",
    statement="The right stage in the place of one gives back what attribution says is lost there; plans that go on "
    "from what came back gain with the errors of tools; completeness predicts success better than NDCG.",
    falsifier="A replaced stage gains more or less than its loss by the noise of one measurement, or NDCG predicts as "
    "well.",
    grade="C",
    trained="nothing; stages of a script that err as often as they are told, and rankings with drawn scores",
    arms={
        "paradigms": paradigms,
        "replaced": replacement,
        "replaced, rate 0.3": partial(replacement, rate=0.3),
        "retrievers": retrievers,
    },
    asks=(
        within("iterative minus one step, tools never busy", of("paradigms", "gain 0"), 0.01),
        at_least("iterative minus one step, busy 0.2", of("paradigms", "gain 0.2"), 0.05),
        at_least("that gain, busy 0.4 minus 0.2", _MORE, 0.05),
        *(within(f"gain minus loss, {stage}", _gap(stage), NOISE) for stage in STAGES),
        at_least(
            "rank correlation with success, COMP@5 minus NDCG@5",
            minus(of("retrievers", "comp"), of("retrievers", "ndcg")),
            0.0,
        ),
        *(
            within(f"gain minus loss, {stage}, rate 0.3", _gap(stage, "replaced, rate 0.3"), NOISE, decides=False)
            for stage in STAGES
        ),
    ),
    sizes={"small": {"queries": 200, "retrievers": 24}, "tiny": {"queries": 12, "retrievers": 4}},
    notes=lambda seeds: (
        "The stage in which a run fails first may not be the only one that fails in it: its oracle gives back less "
        "than it is charged, the more so the more often stages fail (rate 0.3).",
        "Requests are solved where all tools are among the first 5, but for a tenth that later stages lose, so that "
        "completeness is success with noise; NDCG also counts where in the list they stand.",
    ),
)
