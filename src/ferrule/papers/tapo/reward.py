"""What TAPO pays: the form of an episode, its answer by source, and its own length."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from ferrule.chat.tagged import Tagged
from ferrule.core.arrays import FloatArray, IntArray
from ferrule.core.marks import exempt
from ferrule.core.records import Message, Reward, Score, Task, Trajectory, plain_text
from ferrule.papers.tapo.scores import TAGS, bare, final_answer, soft_score, text_gate
from ferrule.rewards.efficiency import overlong, written
from ferrule.rewards.format import well_formed_share
from ferrule.rewards.outcome import outcome

__all__ = ["formed", "tapo_reward", "thinned", "transcript"]


def formed(trajectory: Trajectory, *, result: str = "response") -> bool:
    """Say whether an episode came to an answer, all its calls could be read, and the model wrote no results itself.

    Replies without calls hold tags of ``TAGS`` only, and the tags of the last one, beside those of a leading thought,
    pass ``text_gate``.
    """
    made_up = any(f"<{result}>" in plain_text(turn.reply).lower() for turn in trajectory.turns)
    if trajectory.answer is None or made_up or well_formed_share(trajectory) < 1.0:
        return False
    *before, last = [None if turn.reply.calls else plain_text(turn.reply) for turn in trajectory.turns] or [""]
    known = all(text is None or text_gate(text + "<answer></answer>") for text in before)
    return known and (last is None or bare(last) or text_gate(last))


def transcript(trajectory: Trajectory) -> str:
    """Return an episode as one tagged response; result blocks are left empty."""
    parts = []
    for turn in trajectory.turns:
        text = plain_text(turn.reply)
        if turn.reply.calls:
            calls = [call.raw or f"<{call.name}></{call.name}>" for call in turn.reply.calls]
            parts += [text, *calls, "<response></response>" * len(turn.observations)]
        else:
            last = turn is trajectory.turns[-1] and bare(text)
            parts.append(Tagged(result="response").write(Message("assistant", text)) if last else text)
    return "".join(parts)


def tapo_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    base: Reward = outcome,
    longest: int = 2048,
    buffer: int = 1024,
    factor: float = 1.0,
    length: Callable[[Trajectory], float] = written,
    tags: frozenset[str] = TAGS,
    reference: bool = False,
) -> list[Score]:
    """Score the answer by its source, -1 for the wrong form, less what the model wrote beyond a length.

    ``s + min(0, -(n - (longest - buffer)) / buffer factor)`` with ``n`` the model's own tokens and no floor. ``s`` is
    ``soft_score`` by ``task.meta["source"]``, else the value of ``base``. Part ``acc`` is 1 for ``s`` above 0.9 and a
    right form; filters read it. ``reference`` judges the form by ``text_gate`` with ``tags``. ``info`` counts the
    ``calls`` per tool.
    """
    source = task.meta.get("source")
    own = base(task, trajectories) if source is None else [None] * len(trajectories)
    long = overlong(
        task, trajectories, longest=longest, buffer=buffer, factor=factor, floor=-math.inf, length=length
    )  # fmt: skip
    scores = []
    for trajectory, given, penalty in zip(trajectories, own, long, strict=True):
        good = text_gate(transcript(trajectory), tags=tags) if reference else formed(trajectory)
        if given is None:
            answer = None if trajectory.answer is None else final_answer(trajectory.answer)
            soft = soft_score(answer, task.answer, source=str(source))
        else:
            soft = given.value
        acc = float(good and soft > 0.9)
        value = soft if good else -1.0
        parts = {"acc": acc, "outcome": acc, "score": value, **penalty.parts}
        calls = Counter(call.name for call, seen in trajectory.calls if seen.counted)
        scores.append(Score(value + penalty.value, parts=parts, info={"calls": dict(calls)}))
    return scores


@exempt("independent")
def thinned(adv_NT: FloatArray, turn_NT: IntArray, size_N: IntArray) -> FloatArray:
    """Scale advantages so that a mean over the model's tokens becomes one over all tokens of the responses.

    A response reaches from the first token that the model wrote to the end of its row: ``A T / T'`` with ``T`` the
    model's tokens and ``T'`` all of them, observations included, over the whole batch.
    """
    mine_NT = turn_NT >= 0
    own_N = mine_NT.sum(axis=1)
    first_N = np.where(own_N > 0, mine_NT.argmax(axis=1), size_N)
    spanned = np.maximum(size_N - first_N, own_N).sum()
    return np.asarray(adv_NT * (own_N.sum() / spanned if spanned else 1.0), dtype=np.float64)
