"""Tool-Light: Toward Effective Tool-Integrated Reasoning via Self-Evolved Preference Learning (27), September 2025.

https://arxiv.org/abs/2509.23285

Models with tools skip calls that they need, make too many, or think on after a result. Tool-Light samples one chain per
question and branches it where its steps begin least surely, makes preference pairs by calls and entropy, and learns
from them in a loop: first right, lean and sure chains over wrong ones with more calls, then on easy questions lean
chains over others, and on hard ones the longest right chain over the shortest wrong one.

The sampler is ``agents.entropy``.

Departures from the paper:

1. The selection of pairs is not released; the criteria are those of a second-hand summary. A question is easy when at
   least half of its chains are right (``least``), which is a choice.
2. A branch goes on from the ids that were sampled. The released code encodes the text again, special tokens added, so
   that its counts of tokens differ; a branch whose opening is the whole step writes at least the last token anew.
3. Calls beyond a limit are refused by the world's budget and the model is told so; the released code lets it write on
   as if nothing had been called.
4. The necessity metric (``evaluate.metrics``) compares a method with all others. The released code leaves out the one
   whose place is that of the sample: ``necessity(..., reference=True)``.
5. The entropy of a plain chain is estimated by the mean of -log p of its tokens; branches have that of their openings.
6. A longest right chain may ramble; ``thorough(most_calls=, most_length=)`` bounds it.
7. Chains are sampled at temperature 1 from the whole distribution; top-p 0.8 and top-k 20 (0.95 and 40 where questions
   are tried without tools) are left to the policy. Whole weights are trained, in place of adapters of rank 8.
8. Where no chain is right the pair needs a reference chain (``references``); without one the question gives none.
9. Chains are judged by their answers. Tasks that are judged by the state of the world are not meant: the state that a
   branch leaves is not kept.
10. The claim on pairs is measured on the pocket model and arithmetic with a calculator: no call or one is needed. The
    claim on sampling is measured on short chains of calls, of two or three steps: one step is branched, as often as
    the tokens allow, in place of three, three times each, which would be all of them whatever their entropy.
11. ``method`` takes its questions as they come; ``unsolved`` sorts out those that a model answers without tools. The
    warm-up of a tenth of the updates is left to the settings of the stages.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, TypeAlias

from ferrule.agents.entropy import EntropyBranch
from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Agent, Reward, World
from ferrule.core.recipe import Data, Drawn, Method, Recipe, Stage
from ferrule.core.records import Task, Trajectory
from ferrule.core.tally import tally
from ferrule.data.formats import Pair, Row
from ferrule.data.fragments import chain_row
from ferrule.evaluate.metrics import efficiency, necessity
from ferrule.evaluate.unsolved import unsolved
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive, seed_of
from ferrule.rollout.record import Episode
from ferrule.studies.paper import Paper

__all__ = [
    "PAPER", "Candidate", "Rule", "balanced", "chains", "fewest_calls", "lean", "method", "pre_aligned",
    "preferred_chains", "self_evolved", "shortest", "thorough",
]  # fmt: skip


_SHARED = ("turns", "system", "max_tokens", "stop")


@dataclass(frozen=True)
class Candidate:
    """What the criteria know of a chain: 1 where its answer is right and 0 where it is wrong, calls, entropy, tokens.

    ``source`` is ``branch`` for chains of a branched sample and ``plain`` for independent ones.
    """

    name: str
    correct: float
    calls: int
    entropy: float
    length: int
    source: str = "branch"


Pairs: TypeAlias = list[tuple[Candidate, Candidate]]
Rule: TypeAlias = Callable[[Sequence[Candidate], bool], Pairs]
"""Makes pairs (preferred, other) of the chains of one question, which is easy or not."""


def _right(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [c for c in candidates if c.correct >= 1]


def _wrong(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [c for c in candidates if c.correct <= 0]


def _surest(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the right chain with the fewest calls, of those the one with the least entropy."""
    return min(_right(candidates), key=lambda c: (c.calls, c.entropy), default=None)


def fewest_calls(candidates: Sequence[Candidate], reference: Candidate | None = None) -> Pairs:
    """Prefer the right chain with the fewest calls, then the least entropy, to wrong ones with more calls.

    This is criterion 1 for branched chains. ``reference`` takes its place where no chain is right.
    """
    best = _surest(candidates) or reference
    return [(best, c) for c in _wrong(candidates) if c.calls > best.calls] if best is not None else []


def shortest(candidates: Sequence[Candidate]) -> Pairs:
    """Prefer the shortest right chain to longer wrong ones (criterion 1, independent chains)."""
    best = min(_right(candidates), key=lambda c: c.length, default=None)
    return [(best, c) for c in _wrong(candidates) if c.length > best.length] if best is not None else []


def lean(candidates: Sequence[Candidate]) -> Pairs:
    """Prefer the right chain with the fewest calls, then the least entropy, to all with more (criterion 2, easy)."""
    best = _surest(candidates)
    return [(best, c) for c in candidates if c.calls > best.calls] if best is not None else []


def thorough(candidates: Sequence[Candidate], *, most_calls: float = math.inf, most_length: float = math.inf) -> Pairs:
    """Prefer the longest right chain within the bounds to the shortest wrong one (criterion 2, hard)."""
    right = [c for c in _right(candidates) if c.calls <= most_calls and c.length <= most_length]
    best = max(right, key=lambda c: c.length, default=None)
    worst = min(_wrong(candidates), key=lambda c: c.length, default=None)
    return [(best, worst)] if best is not None and worst is not None else []


def pre_aligned(candidates: Sequence[Candidate], easy: bool) -> Pairs:
    """Return the pairs of criterion 1: of branched chains and of independent ones."""
    branches, plain, references = (
        [c for c in candidates if c.source == source] for source in ("branch", "plain", "reference")
    )
    return [*fewest_calls(branches, *references[:1]), *shortest(plain)]


def self_evolved(candidates: Sequence[Candidate], easy: bool) -> Pairs:
    """Return the pairs of criterion 2: lean chains on easy questions, thorough ones on hard ones."""
    own = [c for c in candidates if c.source != "reference"]
    return lean(own) if easy else thorough(own)


def balanced(hard: Sequence[Any], easy: Sequence[Any], *, ratio: float = 2.0, seed: int = 0) -> list[Any]:
    """Return as many of both as can be had with ``ratio`` hard ones to each easy one, drawn at random.

    Where one kind is missing nothing is balanced, and all of the other are returned.
    """
    if not hard or not easy:
        return [*hard, *easy]
    count = min(len(easy), math.floor(len(hard) / ratio)) or 1
    rng = random.Random(seed)
    return [*rng.sample(list(hard), min(len(hard), round(ratio * count))), *rng.sample(list(easy), count)]


# ------------------------------------------------------------------------------------------------------------- sampling


def chains(episode: Episode, *, source: str = "branch", base: Reward = outcome) -> list[tuple[Candidate, Row]]:
    """Return the chains of an episode with their rows, those that were branched off and given up included.

    An episode that failed (``Episode.problem``) has none: what it broke off says nothing of the model.
    """
    own = []
    for place, path in enumerate(() if episode.problem else episode.of_role("solver")):
        if not path.turns or not any(turn.sampled for turn in path.turns):
            continue
        notes = path.turns[-1].notes
        answer = path.answer if path.finish != "discarded" else notes.get("answer")
        correct = base(path.task, [replace(path, answer=answer)])[0].value if answer is not None else 0.0
        row = chain_row(path)
        length = sum(turn >= 0 for turn in row.turn)
        calls = tally(observation for _, observation in path.calls).calls
        name = f"{source} {episode.sample}.{place}"
        own.append((Candidate(name, correct, calls, _entropy(path), length, source), row))
    return own


def _entropy(path: Trajectory) -> float:
    """Return the mean entropy of a chain's steps, by the notes of its search or estimated by its log-probs."""
    steps = [
        float(turn.notes["entropy"]) if "entropy" in turn.notes else -fmean(turn.logps)
        for turn in path.turns
        if turn.logps
    ]
    return fmean(steps) if steps else 0.0


def preferred_chains(
    tasks: Sequence[Task], world: World, rule: Rule, *, agent: EntropyBranch | None = None, plain: Agent | None = None,
    samples: int = 10, base: Reward = outcome, least: float = 0.5, ratio: float = 2.0, seed: int = 0,
    references: Mapping[str, tuple[Candidate, Row]] | None = None, **options: Any,
) -> Data:  # fmt: skip
    """Return a source of pairs of chains: the policy plays all tasks, branched and plain, and ``rule`` pairs chains.

    ``agent`` branches (None: ``EntropyBranch()``) and ``plain`` plays ``samples`` independent chains (None: a
    ``ToolLoop``; 0 samples: none). A question is easy where at least the share ``least`` of its chains is right;
    questions that give pairs are thinned out to ``ratio`` hard ones per easy one. ``references`` are chains by task id
    that stand in where none is right (source ``reference``). ``options`` are those of ``drive``.
    """
    branched, alone = agent or EntropyBranch(), plain or ToolLoop()

    def drawn(policy: Any, lap: int) -> Drawn:
        how: dict[str, Any] = {"temperature": 1.0, "seed": seed_of(seed, "chains", lap), **options}
        episodes = drive(branched, tasks, world, policy, **how)
        loops = drive(alone, tasks, world, policy, num_generations=samples, **how) if samples else []
        hard: list[list[Pair]] = []
        easy: list[list[Pair]] = []
        for place, task in enumerate(tasks):
            own = [*chains(episodes[place], base=base)]
            for episode in loops[place * samples : (place + 1) * samples]:
                own += chains(episode, source="plain", base=base)
            if not own:
                continue
            simple = fmean(c.correct >= 1 for c, _ in own) >= least
            own += [references[task.id]] if references and task.id in references else []
            rows = {candidate.name: row for candidate, row in own}
            pairs = [Pair(rows[a.name], rows[b.name]) for a, b in rule([c for c, _ in own], simple)]
            if pairs:
                (easy if simple else hard).append(pairs)
        chosen = balanced(hard, easy, ratio=ratio, seed=seed_of(seed, "balance", lap))
        written = sum(episode.sampled_count for episode in (*episodes, *loops))
        return Drawn([pair for pairs in chosen for pair in pairs], written)

    return drawn


def method(
    base: Recipe, world: World, *, tasks: int = 4000, levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0,
    loops: int = 2, start: Sequence[Stage] = (), beta: float = 0.1, learning_rate: float = 7e-6, **sampling: Any,
) -> Method:  # fmt: skip
    """Return DPO on pairs of criterion 1, then ``loops`` times on pairs of criterion 2 from the same questions.

    Questions are ``tasks`` training tasks of the world (``unsolved`` sorts out those that need no tools), chains are
    played by the agent of ``base``, and branched with what that shares with ``EntropyBranch``. ``start`` are stages
    before (fine-tuning), ``sampling`` settings of ``preferred_chains``. More than two loops made the published model
    worse.
    """
    from ferrule.train.stage import dpo

    questions = world.tasks("train", tasks, seed=seed, levels=levels)
    shared = {name: getattr(base.agent, name) for name in _SHARED if hasattr(base.agent, name)}
    how: dict[str, Any] = {"agent": EntropyBranch(**shared), "plain": base.agent, "base": base.reward, **sampling}
    rules: list[Rule] = [pre_aligned, *[self_evolved] * loops]
    stages = [
        dpo(
            preferred_chains(questions, world, rule, seed=seed_of(seed, "loop", lap), **how),
            beta=beta,
            learning_rate=learning_rate,
            lr_scheduler_type="cosine",
        )
        for lap, rule in enumerate(rules)
    ]
    return Method((*start, *stages))


PAPER = Paper(
    number=27,
    slug="tool-light",
    title="Toward Effective Tool-Integrated Reasoning via Self-Evolved Preference Learning",
    date="2025-09",
    url="https://arxiv.org/abs/2509.23285",
    pieces={
        "agent": EntropyBranch,
        "pool": unsolved,
        "criterion_1": pre_aligned,
        "criterion_2": self_evolved,
        "data": preferred_chains,
        "method": method,
        "efficiency": efficiency,
        "necessity": necessity,
    },
    summary="Branches chains where they are least sure; prefers lean chains on easy questions, thorough on hard ones.",
    reported=(
        "Qwen2.5-7B, average of ten sets: 58.0 %, against 56.6 % for Tool-Star and 53.6 % with random positives "
        "(second-hand notes)."
    ),
)
