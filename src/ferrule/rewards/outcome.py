"""The outcome reward: is the answer right, and did the world end in the wanted state?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.core.records import Score, Task, Trajectory
from ferrule.rewards.comparing import Comparison
from ferrule.rewards.verify import compare

__all__ = ["holds", "is_right", "outcome"]


def holds(final: Any, wanted: Any) -> bool:
    """Return whether ``wanted`` is part of ``final``.

    A mapping holds when each of its keys does, a list when it has the same length and each entry does, anything else
    when it is equal. Further keys in ``final`` do not matter.
    """
    if isinstance(wanted, Mapping):
        return isinstance(final, Mapping) and all(k in final and holds(final[k], v) for k, v in wanted.items())
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(final, (list, tuple))
            and len(final) == len(wanted)
            and all(holds(f, w) for f, w in zip(final, wanted, strict=True))
        )
    return bool(final == wanted)


def outcome(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score every trajectory 0 to 1 by its answer and by the world's final state.

    The answer is compared with ``task.answer`` by the verifier ``task.meta["verifier"]`` (default ``exact``); when
    ``task.meta["state"]`` is given it must be part of ``Trajectory.final`` as well, otherwise the score is 0. A task
    with a state and no answer is judged by the state alone. With the verifier ``world`` the score is the ``reward`` in
    ``Trajectory.final``, on the world's own scale. The value is also the part ``outcome``. ``Score.info`` holds
    ``comparison`` and ``problem`` where a comparison was stopped at its time limit or failed, and in ``also`` what the
    verifiers in ``task.meta["also_by"]`` say, which does not count. Raises ``ValueError`` for a task with neither, and
    for an unknown verifier.
    """
    if task.meta.get("verifier") == "world":
        values = [float(trajectory.final.get("reward", 0.0)) for trajectory in trajectories]
        return [Score(value=value, parts={"outcome": value}) for value in values]
    wanted = task.meta.get("state")
    if task.answer is None and wanted is None:
        raise ValueError(f"task {task.id!r} has neither an answer nor meta['state']; there is nothing to verify")
    verifier, also_by = str(task.meta.get("verifier", "exact")), task.meta.get("also_by", ())
    scores = []
    for trajectory in trajectories:
        compared = Comparison(1.0) if task.answer is None else compare(verifier, trajectory.answer, task.answer)
        value = compared.value if wanted is None or holds(trajectory.final, wanted) else 0.0
        info: dict[str, Any] = {}
        if compared.status != "ok":
            info = {"comparison": compared.status, "problem": compared.problem}
        if also := {name: compare(name, trajectory.answer, task.answer).value for name in also_by}:
            info["also"] = also
        scores.append(Score(value=value, parts={"outcome": value}, info=info))
    return scores


def is_right(score: Score) -> bool:
    """Say whether a score means a right answer: its part ``outcome``, else its value, is above one half."""
    return score.parts.get("outcome", score.value) > 0.5
