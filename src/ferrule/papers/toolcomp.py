"""ToolComp: A Multi-Tool Reasoning & Process Supervision Benchmark (13), January 2025.

https://arxiv.org/abs/2501.01290

Benchmarks of chains of tools mostly check the answer. ToolComp also has labels of steps: a person reviews each step of
a run and rewrites the first that is wrong, and the model goes on from there. So answers can be graded, judges can be
measured by whether they prefer the better step, and reward models of steps can be compared with those of whole runs.

Reviewed runs are ``agents.reviewed``, preferences of them ``data.corrections``, grades of answers ``rewards.graded``,
judges who are shown both orders ``rewards.pairwise``, and scores of runs ``agents.scored`` and ``policies.scorer``.

Departures from the paper:

1. The prompts and labels of the release are not shipped. Tasks of a file (``prompt``, ``answer`` in the gold form of
   ``gold_of``, ``date``) make the benchmark with tools of your own, and reviewed runs make its items.
2. Tools that search, or tell weather and stocks, drift. None is shipped; record yours (``worlds.recorded``).
3. Steps are messages with calls, in the form of any model family; ``chat.react`` writes thoughts, actions and inputs as
   labelled lines, and the label of the observation stands for the end mark of a step.
4. A reply that fails is drawn again, 5 times a step and in 3 further runs, also where it calls nothing and says
   nothing. The loop is 30 replies deep, its plan included.
5. ``graded`` grades by rule, ``judged_answer`` by a judge. What a judge says unreadably passes nothing, while the share
   of right answers counts correct and badly formatted ones, as published.
6. A judge's ``true`` is unknown; in the release it is the label "True". Both give one half. Requests that failed leave
   the mean; ``on_shared`` leaves them out for every judge. The release asks every model by one type of request, by a
   slip; here a judge is any policy, asked as its server needs. Its 10 attempts, with waits from 10 seconds up, are
   ``retries=9, backoff=10`` of an ``Endpoint``, whose waits are random between half of that and the whole.
7. A step is right or wrong as a whole: which part of it is wrong (thought, tool, input) is not kept. One that nobody
   rewrote is no example of a right step, and a run with a step of which nothing is known gives no pair of runs.
8. How reward models are trained is a recollection of the paper: a ranking loss on pairs. Which way to add steps up is
   best is not known: all of ``AGGREGATES`` are there, and to those that the paper names the mean of log-odds is added.
   A pair of steps says nothing about how its history is scored, so scores of unlike histories need not agree.
9. The claim trains linear scorers on runs of a script in a world of look-ups and sums, and its critic is a script. The
   way to add steps up that decides was chosen on development seeds; all others are reported beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any

from ferrule.agents.best_of import BestOf
from ferrule.agents.flow import together
from ferrule.agents.reviewed import Critic, Reviewed, by_roles, unreviewed
from ferrule.agents.scored import Aggregate, log_odds, scored
from ferrule.agents.values import largest
from ferrule.core.flows import Flow, Policy, World
from ferrule.core.recipe import Method, Recipe
from ferrule.core.records import Message, Task, Tool
from ferrule.data.corrections import corrections, run_corrections
from ferrule.data.records import Preference
from ferrule.evaluate.metrics import Estimate
from ferrule.rewards.graded import three_way
from ferrule.rewards.pairwise import Question, compared
from ferrule.rewards.steps import parted, told
from ferrule.studies.paper import Paper
from ferrule.worlds.cells import Said
from ferrule.worlds.wrap import Worded

__all__ = [
    "FORM", "KEYS", "PAPER", "PLAN", "TODAY", "accuracies", "asked", "asking", "finish_tool", "half_width",
    "judged_items", "method", "on_shared", "question_of", "reranked", "reviewed", "split_of",
]  # fmt: skip

TODAY = "Tuesday, September 03, 2024"
"""The day that a task without a date of its own is asked on."""
PLAN = "First write an action plan: a list of the steps that you will take, and the tool for each. Call nothing yet."
FORM = 'End with a fenced JSON object that holds the answer as a list: ```json\n{"final_answer": [...]}\n```'
KEYS: Mapping[str, str] = {"plan": "better_action_plan", "step": "better_step"}
"""Under which key a judge names the better of two, by the level of an item."""


def split_of(tools: Sequence[Any]) -> str:
    """Return the split of a task by its tools: ``chat`` for two, ``enterprise`` for more."""
    if len(tools) < 2:
        raise ValueError(f"a task of ToolComp has two tools or more, and this one has {len(tools)}")
    return "chat" if len(tools) == 2 else "enterprise"


def asked(task: Task, *, today: str = TODAY, form: str = FORM) -> Task:
    """Return a task that tells the day (``meta["date"]``, else ``today``) before its prompt and the ``form`` after."""
    if task.messages:
        raise ValueError(f"task {task.id!r} is asked by messages; tell the day in its prompt instead")
    return replace(task, prompt=f"Today is {task.meta.get('date') or today}.\n\n{task.prompt}\n\n{form}")


def asking(world: World, *, today: str = TODAY, form: str = FORM) -> Worded:
    """Return ``world`` whose tasks are ``asked``."""
    return Worded(world, partial(asked, today=today, form=form))


def finish_tool() -> Tool:
    """Return the tool that ends an episode with a list of values, which ``rewards.graded`` reads."""
    values = {"type": "array", "items": {}, "description": "the values of the answer"}
    schema = {"type": "object", "properties": {"answer": values}, "required": ["answer"]}
    text = "End with the final answer."
    return Tool("finish", text, schema, run=lambda answer: json.dumps({"answer": answer}), terminal=True)


def reviewed(critic: Critic = unreviewed, **settings: Any) -> Reviewed:
    """Return the agent of the paper: a plan, then steps, which ``critic`` may rewrite; ``settings`` are its fields."""
    return Reviewed(critic, **{"plan": PLAN, "turns": 30, "retries": 5, "restarts": 3, **settings})


# ------------------------------------------------------------------------------------------------------------- measures


def half_width(accuracy: float, count: int) -> float:
    """Return ``1.96 sqrt(a (1 - a) / n)``, half the width of the interval of a share; ``count`` is at least 1."""
    if count < 1 or not 0 <= accuracy <= 1:
        raise ValueError(f"the share is {accuracy} of {count}; it must lie in 0 to 1, of at least 1")
    return 1.96 * math.sqrt(accuracy * (1 - accuracy) / count)


def accuracies(scores: Sequence[float | None], kinds: Sequence[str]) -> dict[str, Estimate]:
    """Return the mean of scores in 0 to 1, of ``all`` and of each kind, with the interval of ``half_width``.

    Of answers the kinds are splits (``split_of``), of judged items levels (``plan``, ``step``). None, for a request
    that failed, leaves the mean and its count; a kind without a score is left out. Raises ``ValueError`` for a kind
    named ``all``.
    """
    if "all" in kinds:
        raise ValueError("a kind is named 'all', which names the mean of all kinds; name it otherwise")
    rows = [(score, kind) for score, kind in zip(scores, kinds, strict=True) if score is not None]
    groups = {"all": [score for score, _ in rows]}
    groups |= {name: [score for score, kind in rows if kind == name] for name in dict.fromkeys(k for _, k in rows)}
    means = {name: (fmean(own), len(own)) for name, own in groups.items() if own}
    return {name: Estimate(m, m - half_width(m, n), m + half_width(m, n), n) for name, (m, n) in means.items()}


def on_shared(scores: Mapping[str, Sequence[float | None]]) -> dict[str, list[float | None]]:
    """Return the scores of several judges with None wherever a request of one of them failed, to compare them."""
    shared = [None not in item for item in zip(*scores.values(), strict=True)]
    return {name: [s if there else None for s, there in zip(own, shared, strict=True)] for name, own in scores.items()}


def question_of(pair: Preference) -> Question:
    """Return the question which of two steps (or plans) is better after the history of a preference.

    Raises ``ValueError`` for a preference that is neither of a plan nor of a step.
    """
    level = str(pair.origin.get("level"))
    if level not in KEYS:
        raise ValueError(f"the level of a judged pair is plan or step, and this one's is {level}; see data.corrections")
    task, steps = parted(_messages(pair.prompt))
    tools = "\n".join(f"{tool.name}: {tool.description}" for tool in pair.tools) or "none"
    what = "action plan" if level == "plan" else "next step"

    def question(first: str, second: str) -> Sequence[Message]:
        text = (
            f"Task:\n{told(task)}\n\nTools:\n{tools}\n\nSteps so far:\n{told(steps) or 'none'}\n\n"
            f"Candidate 1 for the {what}:\n{first}\n\nCandidate 2:\n{second}\n\n"
            f'Which {what} is better? Reply with JSON: {{"{KEYS[level]}": "1"}}, "2" or "tie".'
        )
        return (Message("user", text),)

    return question


def _messages(said: Said) -> Sequence[Message]:
    if isinstance(said, str):
        raise ValueError(f"a judged step is a message, and this preference has the text {said[:40]!r}")
    return said


def judged_items(
    pairs: Sequence[Preference], *, role: str = "judge", max_tokens: int = 256, unknown: float | None = 0.5
) -> Flow[list[float | None]]:
    """Ask a judge about corrected steps, each pair in both orders, and return 1 where the better one was preferred.

    ``pairs`` are those of ``data.corrections``, whose ``origin`` has the level. 0 says that the judge preferred the
    worse one, 0.5 that there was a tie or that the place decided, ``unknown`` that a choice cannot be read, and None
    that a request failed.
    """
    if not pairs:
        return []
    flows = []
    for pair in pairs:
        both = (told(_messages(pair.chosen)), told(_messages(pair.rejected)))
        how: dict[str, Any] = {"role": role, "max_tokens": max_tokens, "unknown": unknown}
        flows.append(compared([both], question_of(pair), key=KEYS[str(pair.origin["level"])], **how))
    return [shares[0] for shares in (yield from together(*flows))]


# -------------------------------------------------------------------------------------------------------- reward models


def reranked(*, samples: int = 16, aggregate: Aggregate = log_odds, **settings: Any) -> BestOf:
    """Return the agent that takes the best of ``samples`` runs by the step scores of the role ``scorer``.

    ``aggregate`` makes one number of the scores of a run (``ferrule.agents.scored.AGGREGATES``); ``last_score`` is for
    a reward model of whole runs. ``settings`` are further fields of ``BestOf``.
    """
    return BestOf(**{"samples": samples, "turns": 30, "pick": largest(scored(aggregate)), **settings})


def method(
    base: Recipe, world: World, *, learn: Any = corrections, critic: Critic | None = None,
    roles: Mapping[str, Policy] | None = None, runs: int = 1000, levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0,
    **settings: Any,
) -> Method:  # fmt: skip
    """Return the training of a reward model on reviewed runs.

    It learns to score steps, or with ``learn=run_corrections`` whole runs. ``critic`` reviews steps (None: the roles
    ``judge`` and ``annotator`` do); ``roles`` are policies that answer beside the trained one, or as ``solver`` in its
    place. System text, length and stop strings are those of the base's agent, ``settings`` those of the stage.
    ``policies.scorer.Scorer`` makes the trained model the role ``scorer``.
    """
    from ferrule.train.stage import reward_model, searched

    kept = {name: getattr(base.agent, name) for name in ("system", "max_tokens", "stop") if hasattr(base.agent, name)}
    agent = reviewed(critic or by_roles(), **kept)
    how: dict[str, Any] = {"tasks": runs, "levels": levels, "seed": seed, "reward": base.reward, "roles": roles or {}}
    return Method((reward_model(searched(agent, world, learn, **how), **settings),))


PAPER = Paper(
    number=13,
    slug="toolcomp",
    title="ToolComp: A Multi-Tool Reasoning & Process Supervision Benchmark",
    date="2025-01",
    url="https://arxiv.org/abs/2501.01290",
    pieces={
        "agent": reviewed,
        "best_of": reranked,
        "grade": three_way,
        "judge": judged_items,
        "accuracy": accuracies,
        "pairs": corrections,
        "run_pairs": run_corrections,
        "method": method,
        "world": asking,
    },
    summary="Grades chains of tools by answers and by judged steps, and learns to score steps from corrected ones.",
    reported=(
        "Best of several runs picked by scores of steps over scores of runs: +19 % for a base model, +11 % for a "
        "fine-tuned one (abstract)."
    ),
)
