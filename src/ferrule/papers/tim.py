"""From Proof to Program: Characterizing Tool-Induced Reasoning Hallucinations in Large Language Models (11), Nov. 2025.

https://arxiv.org/abs/2511.10899

A code interpreter makes answers better and can hollow reasoning out: what code prints takes the place of the argument.
The same problems are solved with and without it, and compared by accuracy, by judged wins, by missing reference steps
and by right steps, all by the number of calls (``ferrule.evaluate.paired``). Models are then realigned by DPO on pairs
of trajectories with tools of which one keeps the derivation.

Departures from the paper:

1. Only the abstract, summaries and a README were at hand: the wording of all questions to judges, how verdicts are
   added up, the threshold 0.5 of right steps (a score equal to it is right), order handling (both orders, disagreement
   ties) and DPO's beta of 0.1 are choices. Shares are given as means over problems, and pooled.
2. Problems are not part of the package: ``pymath`` reads records of any file. Which part is for evaluation is drawn by
   the CRC-32 of the problem's text, about 60 % of them; ``needs_more`` words the judgement that code helps and is not
   enough.
3. Judges are any model or function: GPT-5 and Qwen2.5-Math-7B-PRM800K are not included. A process reward model is
   asked by ``rewards.steps.modelled_steps``; it was trained on solutions without tools.
4. Steps are sentences and lines that the model wrote itself. Comments of code count only with
   ``Judges(comments=True)``.
5. Wins are also given at equal length (a logistic model as in length-controlled AlpacaEval), since solutions with
   tools have less prose, and numbers by calls apart for problems that are solved without tools.
6. The four patterns are flagged by cheap rules (``rewards.signs``) with limits of our own; ``judged_myopia`` asks a
   judge about the transcript. An episode is of high risk where its answer first appears in a result, or it has more
   than four calls.
7. Pairs are of right trajectories with the same answer and at least one call, the best and the worst of a problem by
   coverage, by a judge's coverage, or by comparisons. Pairs that differ in the answer are those of
   ``train.stage.best_and_worst`` and are kept apart.
8. The claim is measured on the pocket model, not on seven large ones, and on generated chains of sums, whose reference
   steps are exact: a lemma with a wrong value has no counterpart in the reference and counts as missing. One chain in
   ten is shown with two calls, so what more calls do is reported beside the verdict. Every arm takes equally many
   updates after its start, at the rate of three with the largest accuracy minus missing lemmas, both with the tool.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from ferrule.agents.flow import returned
from ferrule.core.arrays import nearest
from ferrule.core.flows import Ask, Flow, Reward, World, ask
from ferrule.core.recipe import Method, Recipe, vary
from ferrule.core.records import Message, Score, Task, Trajectory, plain_text
from ferrule.core.tally import tally
from ferrule.evaluate.paired import Better, by_role, paired
from ferrule.rewards.derivation import Covers, coverage, own_steps
from ferrule.rewards.outcome import is_right, outcome
from ferrule.rewards.signs import high_risk, patterns, signs
from ferrule.rewards.tooleval import read_label
from ferrule.rollout.drive import Policies
from ferrule.rollout.settle import settle
from ferrule.studies.paper import Paper

__all__ = [
    "EVIDENCE", "PAPER", "as_evidence", "by_comparison", "by_coverage", "equal_answers", "error_kind", "judged_myopia",
    "method", "myopic_share", "needs_more", "pymath",
]  # fmt: skip

A = TypeVar("A")
EVIDENCE = (
    "You may run code. What it prints is evidence for a derivation and never takes its place: state and justify every "
    "step of the argument yourself, and use results to check them."
)
Error: TypeAlias = Literal["arithmetic", "logic", "assumption", "creativity"]
"""Kinds of errors: a wrong computation, a wrong inference, an unjustified assumption, a wrong or missing key idea."""


def as_evidence(agent: A, text: str = EVIDENCE) -> A:
    """Return an agent that is told to take results as evidence only, before its own system text.

    Raises ``TypeError`` for an agent without ``system``.
    """
    if not hasattr(agent, "system"):
        raise TypeError(f"{type(agent).__name__} has no system text; this takes agents such as ToolLoop")
    return replace(agent, system=f"{text}\n\n{agent.system}".strip())  # type: ignore[type-var]


def pymath(rows: Iterable[Mapping[str, Any]], *, part: str = "test", verifier: str = "math-verify") -> list[Task]:
    """Return tasks of PYMATH records ``{id, source, problem, answer, solution_steps}``, of ``part`` test or train.

    About 60 % are for evaluation (``test``). Raises ``ValueError`` for an unknown part, for a record without problem or
    answer, and for one without steps, whose miss rate could not be told.
    """
    if part not in ("test", "train"):
        raise ValueError(f"part is {part!r}; {nearest(part, ('test', 'train'))}")
    tasks = []
    for number, row in enumerate(rows, 1):
        steps, lacking = row.get("solution_steps"), [name for name in ("problem", "answer") if name not in row]
        if lacking:
            raise ValueError(f"record {number} has no {' and no '.join(lacking)}")
        if not steps or isinstance(steps, str | Mapping):
            raise ValueError(f"record {number} has no list of solution_steps; it is what the miss rate counts")
        if ("test" if zlib.crc32(str(row["problem"]).encode()) % 5 < 3 else "train") == part:
            meta = {"verifier": verifier, "solution_steps": tuple(steps), "source": row.get("source", "")}
            tasks.append(Task(str(row.get("id", number)), row["problem"], row["answer"], "pymath", meta=meta))
    return tasks


def _label(text: str, labels: Sequence[str], role: str) -> Flow[str | None]:
    asked = f"{text}\n\nReply with one word: {', '.join(labels)}."
    (reply,) = yield from ask(Ask((Message("user", asked),), role=role, max_tokens=64))
    return read_label(plain_text(reply.message), labels) if reply.finish in ("stop", "answer") else None


def needs_more(problem: str, *, role: str = "judge") -> Flow[bool | None]:
    """Ask a judge whether code helps with a problem and is not enough: which problems PYMATH keeps."""
    text = f"Problem:\n{problem}\n\nIs running code useless here, helpful but not sufficient, or sufficient by itself?"
    label = yield from _label(text, ("useless", "helpful", "sufficient"), role)
    return None if label is None else label == "helpful"


def error_kind(task: Task, steps: Sequence[str], place: int) -> Flow[str | None]:
    """Ask the judge what kind of error a step is (``Judges.kind``)."""
    before = "\n".join(steps[:place]) or "none"
    text = (
        f"Problem:\n{task.prompt}\n\nSteps before:\n{before}\n\nWrong step:\n{steps[place]}\n\nIs it an error of "
        "arithmetic, of logic, an unjustified assumption, or a lack of creativity (a wrong or missing key idea)?"
    )
    return (yield from _label(text, get_args(Error), "judge"))


# ----------------------------------------------------------------------------------------------------------- myopia


def judged_myopia(trajectory: Trajectory, *, role: str = "judge") -> Flow[bool | None]:
    """Ask a judge whether code that gives the answer stands in for a derivation that was needed."""
    lines = []
    for turn in trajectory.turns:
        lines.append(plain_text(turn.reply))
        for call, observation in turn.pairs:
            lines += [f"{call.name}({dict(call.arguments)})", f"-> {observation.text if observation else ''}"]
    told = "\n".join(filter(None, lines))
    text = (
        f"Problem:\n{trajectory.task.prompt}\n\nTranscript:\n{told}\n\nDoes code that gives the answer stand in for a "
        "derivation that was needed (myopic), or is the argument there (sound)?"
    )
    label = yield from _label(text, ("myopic", "sound"), role)
    return None if label is None else label == "myopic"


def myopic_share(trajectories: Sequence[Trajectory], judge: Policies, *, most: int = 4) -> dict[str, float | None]:
    """Return the share of trajectories of high risk, and that of myopic ones among them, as a judge says."""
    risky = [path for path in trajectories if high_risk(signs(path), most=most)]
    flags = settle([judged_myopia(path) for path in risky], judge).values
    known = [flag for flag in flags if flag is not None]
    return {
        "high risk": len(risky) / len(trajectories) if trajectories else None,
        "myopic": fmean(known) if known else None,
    }


# ------------------------------------------------------------------------------------------------------- realignment


def by_coverage(covers: Covers, judge: Policies) -> Reward:
    """Return the reward that is the share of reference steps which a trajectory has, as a judge says.

    A trajectory of which a step is unknown is dropped (``Score.drop``): it is in no pair.
    ``ferrule.rewards.derivation.coverage`` is the same by the text of the steps.
    """

    def reward(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        said = settle([returned(covers(task, own_steps(path))) for path in trajectories], judge).values
        return [_score(verdicts or ()) for verdicts in said]

    return reward


def by_comparison(judge: Policies, better: Better | None = None) -> Reward:
    """Return the reward that is the share of comparisons which a trajectory's derivation wins within its group.

    A tie counts one half; ``better`` compares (None: as ``by_role()`` does). A trajectory with a comparison without a
    result is dropped.
    """
    asked = better or by_role().better
    assert asked is not None

    def reward(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
        texts = ["\n".join(own_steps(path)) for path in trajectories]
        places = list(combinations(range(len(texts)), 2))
        said = settle([returned(asked(task, texts[i], texts[j])) for i, j in places], judge).values
        won: list[list[float | None]] = [[] for _ in texts]
        for (i, j), value in zip(places, said, strict=True):
            won[i].append(value)
            won[j].append(None if value is None else 1.0 - value)
        return [_score(own) for own in won]

    return reward


def _score(parts: Sequence[float | None]) -> Score:
    """Return the mean of parts; where one is unknown, or there are none, the trajectory is dropped."""
    known = [part for part in parts if part is not None]
    return Score(fmean(known) if known else 0.0, drop=len(known) < len(parts) or not parts)


def equal_answers(trajectory: Trajectory) -> str | None:
    """Return what tells answers apart of trajectories that are right and called a tool; None for all others.

    Right answers of a task count as equal however they are put.
    """
    calls = tally(observation for _, observation in trajectory.calls).calls
    right = is_right(outcome(trajectory.task, [trajectory])[0])
    return "right" if calls and right else None


def method(
    base: Recipe, world: World, *, quality: Reward = coverage, tasks: int = 64, levels: Sequence[int] = (1, 2, 3, 4, 5),
    seed: int = 0, margin: float = 0.25, beta: float = 0.1, rounds: int = 1, **settings: Any,
) -> Method:  # fmt: skip
    """Return DPO on pairs of right answers with tools, of which one is derived better by ``quality``.

    The policy plays ``base.num_generations`` episodes of ``tasks`` tasks a round; the best and the worst of those that
    ``equal_answers`` keeps make a pair where they lie more than ``margin`` apart. The reference is the policy as it was
    before; tool results carry no loss. ``settings`` are those of the stage.
    """
    from ferrule.train.stage import best_and_worst, dpo

    data = best_and_worst(
        vary(base, reward=quality), world, alike=equal_answers, tasks=tasks, levels=levels, seed=seed, margin=margin
    )
    return Method((dpo(data, beta=beta, **settings),), rounds=rounds)


PAPER = Paper(
    number=11,
    slug="tim",
    title="From Proof to Program: Characterizing Tool-Induced Reasoning Hallucinations in Large Language Models",
    date="2025-11",
    url="https://arxiv.org/abs/2511.10899",
    pieces={
        "agent": as_evidence,
        "problems": pymath,
        "paired": paired,
        "judges": by_role,
        "signs": signs,
        "patterns": patterns,
        "myopia": judged_myopia,
        "errors": error_kind,
        "quality": by_coverage,
        "comparison": by_comparison,
        "pairs": equal_answers,
        "method": method,
    },
    summary="Compares reasoning with and without tools; prefers right answers that keep their derivation.",
    reported=(
        "With tools up to 19.3 points more right answers, while reasoning without tools is preferred up to 41.5 "
        "points more often (abstract)."
    ),
)
