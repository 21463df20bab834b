"""Evolving Medical Imaging Agents via Experience-driven Self-skill Discovery (paper 28), March 2026.

No page is known; the abstract alone could be read.

Image reading is a chain of tools, and fixed chains break when domain or task shifts. MACRO starts from primitive tools,
keeps verified runs, finds sequences of calls that recur and succeed, and offers each as one composite tool, so that the
set of actions grows. A memory of image features says which tools worked on similar images, and group-relative learning
reinforces the use of composites.

Mining and data flow are in ``tools.forge_composite``, composites in a session in ``worlds.composed``, discovery as a
memory in ``agents.composing`` (part of checkpoints, so that a resumed run goes on with the same tools).

Departures from the paper (the order of the loop is that of the abstract; all contents are a reconstruction):

1. Candidates are contiguous sequences of 2 or 3 calls. Kept are those in at least ``support`` verified runs (5, or
   2 for few data) and in verified runs at least in the share ``rate`` (0.6) of all that have
   them; at most ``most`` (6) are offered.
2. What a step passed on in all supporting runs is a wire, also from within an object or a list; what was the same in
   all of at least two runs is a constant, the rest are parameters. A wire goes before a constant.
3. Names and descriptions say which tools follow each other; ``named_composites`` asks a model for better ones.
4. ``replayed`` validates on supporting or held-out runs, ``needless_steps`` finds steps that change nothing. In
   training composites are offered as they are mined: a mined composite repeats what verified runs did.
5. In training composites are mined anew from the last ``runs`` runs, which retires those that no longer recur;
   ``outdone`` says which do worse than the best of their steps. Frequencies are not normalised by families of tasks.
6. The memory takes feature vectors (``image_scores``); an encoder of images is the user's own.
7. The bonus for a composite is paid only with a right answer, since paid otherwise it invites needless calls; failed
   calls cost ``penalty`` each. Both are small settings.
8. Discovery and training alternate from step to step, and not in two phases. Episodes of one step are offered the same
   tools; accuracy between steps is compared on a fixed suite.
9. Contracts of a composite are those of its first step before and of its last after (``contract_of``).
10. The claim trains tables on synthetic clusters; no clinical data or models are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from ferrule.agents.composing import discovering, named_composites
from ferrule.agents.remembering import Remembering
from ferrule.core.flows import Reward
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Tool, Trajectory
from ferrule.credit.group import group_relative
from ferrule.rewards.outcome import outcome
from ferrule.studies.paper import Paper
from ferrule.tools.forge_composite import composed, contract_of, expanded, frequent, mined, outdone
from ferrule.worlds.composed import needless_steps, replayed, with_composites

__all__ = ["PAPER", "advantages", "composite_bonus", "image_scores", "recipe"]


def image_scores(
    memory: Sequence[tuple[Sequence[float], str, bool]], query: Sequence[float], *, k: int = 8
) -> dict[str, float]:
    """Score tools by how they did on the ``k`` nearest images: ``sum(max(cos, 0) * success) / sum(max(cos, 0))``.

    ``memory`` holds a feature vector, a tool and whether it succeeded. A tool whose weights vanish has the score 0; one
    that is not among the neighbours has none.
    """
    near = sorted(((_cosine(key, query), name, won) for key, name, won in memory), key=lambda row: -row[0])[:k]
    scores = {}
    for tool in dict.fromkeys(name for _, name, _ in near):
        weights = [(max(cosine, 0.0), won) for cosine, name, won in near if name == tool]
        total = sum(weight for weight, _ in weights)
        scores[tool] = sum(weight for weight, won in weights if won) / total if total else 0.0
    return scores


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    norms = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / norms if norms else 0.0


def composite_bonus(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome, bonus: float = 0.1, penalty: float = 0.05
) -> list[Score]:
    """Score by ``base``, with a bonus for a right answer that used a composite, and a penalty per failed call.

    A composite is a call that made several inside, of which every one ran. Parts are ``bonus`` and ``penalty``.
    """
    scores = []
    for trajectory, score in zip(trajectories, base(task, trajectories), strict=True):
        pairs = trajectory.calls
        whole = any(seen.status == "ok" and len(expanded(call, seen)) > 1 for call, seen in pairs)
        paid = bonus if whole and score.value > 0 else 0.0
        lost = penalty * sum(seen.status != "ok" for _, seen in pairs)
        parts = {**score.parts, "bonus": paid, "penalty": -lost}
        scores.append(Score(score.value + paid - lost, score.turns, parts, score.info, score.group, score.drop))
    return scores


advantages = partial(group_relative, std="population", eps=1e-6)
"""``(r - mean) / (std + 1e-6)`` within a group, with the population's spread."""


def recipe(
    base: Recipe, tools: Sequence[Tool], *, support: int = 5, rate: float = 0.6, most: int = 6, bonus: float = 0.1,
    penalty: float = 0.05, num_generations: int = 8,
) -> Recipe:  # fmt: skip
    """Return ``base`` with composites of ``tools`` discovered on the way, a bonus for them, and groups of 8.

    ``tools`` are the primitives of the world, as a session of it offers them.
    """
    memory = discovering(tools, support=support, rate=rate, most=most)
    return vary(
        base,
        agent=Remembering(base.agent, memory),
        reward=partial(composite_bonus, base=base.reward, bonus=bonus, penalty=penalty),
        credit=advantages,
        num_generations=num_generations,
    )


PAPER = Paper(
    number=28,
    slug="macro",
    title="Evolving Medical Imaging Agents via Experience-driven Self-skill Discovery",
    date="2026-03",
    url="",
    pieces={
        "frequent": frequent,
        "mined": mined,
        "composed": composed,
        "contract": contract_of,
        "session": with_composites,
        "replayed": replayed,
        "needless": needless_steps,
        "outdone": outdone,
        "discovery": discovering,
        "naming": named_composites,
        "memory": image_scores,
        "reward": composite_bonus,
        "credit": advantages,
        "with_composites": recipe,
    },
    summary="Turns sequences of calls that recur in verified runs into composite tools, and learns to use them.",
    reported="Gains in accuracy over several steps and in other domains (abstract; no figures confirmed).",
)
