"""Failed calls: which failed, where to resume an episode before one, and which candidate failed least.

Source: "THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning" (paper 39).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from ferrule.agents.resume import prefix_of, resumed
from ferrule.core.arrays import nearest
from ferrule.core.records import Observation, Reply, Task, Trajectory, Turn, plain_text

__all__ = ["Pieces", "best_of", "cut", "pass_rate", "passed", "repair", "shortened", "thought_size", "words"]

Pieces: TypeAlias = Callable[[str], Sequence[str]]
"""Cuts a text into pieces that joined are the text again."""


def words(text: str) -> list[str]:
    """Cut a text into words, each with the white space before it; joined they are the text."""
    return re.findall(r"\s*\S+|\s+\Z", text)


def shortened(text: str, suffix: int, pieces: Pieces = words) -> str:
    """Take the last ``suffix`` pieces off a text."""
    parts = list(pieces(text))
    return "".join(parts[: max(0, len(parts) - suffix)])


def thought_size(reply: Reply | Turn) -> int | None:
    """Return how many of the sampled ids of a reply stand before its first call; None where nobody can tell.

    That takes a policy that tells ids, and which of them are a call (``spans``).
    """
    starts = [span.start for span in reply.spans if span.label == "call"]
    return min(starts) if starts and reply.sampled else None


def passed(observation: Observation, *, silent: bool = False) -> bool:
    """Return whether a call ran without an error and had output (``silent``: output is not needed).

    Of an interpreter that tells its streams apart, what it printed and its last value count, and warnings do not.
    """
    shown, data = observation.text, observation.data
    if isinstance(data, Mapping) and "stdout" in data:
        shown = f"{data['stdout'] or ''}{data.get('value') or ''}"
    return observation.status == "ok" and (silent or bool(shown.strip()))


def pass_rate(trajectory: Trajectory, *, silent: bool = False, reference: bool = False) -> float:
    """Share of an episode's calls that passed, 0 without calls.

    ``reference`` returns 1 when all passed or there were none, and 0 otherwise.
    """
    passes = [passed(observation, silent=silent) for _, observation in trajectory.calls]
    if reference:
        return float(all(passes))
    return sum(passes) / len(passes) if passes else 0.0


def best_of(trajectories: Sequence[Trajectory], *, silent: bool = False, reference: bool = False) -> int:
    """Return the place of the candidate with the highest pass rate, the first of equals; no answer is looked at."""
    if not trajectories:
        raise ValueError("there is no candidate to choose from")
    rates = [pass_rate(t, silent=silent, reference=reference) for t in trajectories]
    return rates.index(max(rates))


_BLOCK = re.compile(
    r"(?:^|(?<=[^`]))```(?P<tag>[^\n`]*?)[ \t]*\r?\n.*?(?:^```[ \t]*\r?$\n?|\Z)", re.MULTILINE | re.DOTALL
)


def cut(transcript: str, *, suffix: int = 100, pieces: Pieces = words, reference: bool = False) -> str:
    """Cut a text of fenced ``python`` and ``output`` blocks at its last executed code, and ``suffix`` pieces before it.

    A block may begin anywhere in a line, and the last may be left open. Pieces are taken off the thought, which begins
    behind the block before (``reference``: off all that is left). A text without an executed block stays as it is.
    Raises ``ValueError`` on a ``suffix`` below 0.
    """
    if suffix < 0:
        raise ValueError(f"suffix is {suffix}; the least is 0")
    blocks = list(_BLOCK.finditer(transcript))
    ran = [
        i for i, block in enumerate(blocks[:-1])
        if block["tag"].strip().lower() in ("python", "py") and blocks[i + 1]["tag"].strip().lower() == "output"
    ]  # fmt: skip
    if not ran:
        return transcript
    start = blocks[ran[-1]].start()
    thought = 0 if reference or not ran[-1] else blocks[ran[-1] - 1].end()
    return transcript[:thought] + shortened(transcript[thought:start], suffix, pieces)


def repair(
    trajectory: Trajectory, *, label: str, world_seed: int | None = None, suffix: int = 100, pieces: Pieces = words,
    at: Literal["executed", "failed"] = "executed", silent: bool = False,
) -> Task | None:  # fmt: skip
    """Return the task of writing the last executed call of an episode again, None when nothing failed.

    Its episodes start in the world as it stood before that turn, with the turn's thought less its end as the beginning
    of the reply: by the very ids that were sampled, less the last ``suffix`` tokens (100; 500 for long thoughts), or
    where the record has none by its text less as many ``pieces``. ``at="failed"`` goes back to the last call that
    failed. ``label`` sets the task's episodes apart, ``world_seed`` is the seed of the episode. Raises ``ValueError``
    on an unknown ``at``.
    """
    if at not in ("executed", "failed"):
        raise ValueError(f"at is {at!r}; {nearest(at, ('executed', 'failed'))}")
    failed = [k for k, t in enumerate(trajectory.turns) if not all(passed(o, silent=silent) for o in t.observations)]
    if not failed:
        return None
    ran = [k for k, turn in enumerate(trajectory.turns) if any(o.executed for o in turn.observations)]
    turn = ran[-1] if ran and at == "executed" else failed[-1]
    size = thought_size(trajectory.turns[turn])
    if size is not None and trajectory.turns[turn].given:
        prefix = prefix_of(trajectory, turn, cut=max(0, size - suffix))
    else:
        prefix = prefix_of(
            trajectory, turn, prefill=shortened(plain_text(trajectory.turns[turn].reply), suffix, pieces)
        )
    return resumed(trajectory.task, prefix, label=label, world_seed=world_seed)
