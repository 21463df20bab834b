"""What a call must do to pass, where a repair begins, what either level is paid, and choosing among candidates."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ferrule.agents.resume import prefix_of, resumed
from ferrule.core.arrays import FloatArray, IntArray, nearest
from ferrule.core.marks import exempt
from ferrule.core.records import Observation, Reward, Score, Task, Trajectory, plain_text
from ferrule.rewards.outcome import outcome

if TYPE_CHECKING:
    from ferrule.train.sample import Group

__all__ = [
    "Pieces", "best_of", "cut", "episode", "execution", "observed", "own_share", "pass_rate", "passed", "repair",
    "repairs", "shortened", "words",
]  # fmt: skip

Pieces: TypeAlias = Callable[[str], Sequence[str]]
"""Cuts a text into pieces that joined are the text again."""

_LIMIT, _KEPT = 256, 128


def words(text: str) -> list[str]:
    """Cut a text into words, each with the white space before it; joined they are the text."""
    return re.findall(r"\s*\S+|\s+\Z", text)


def shortened(text: str, suffix: int, pieces: Pieces = words) -> str:
    """Take the last ``suffix`` pieces off a text."""
    own = list(pieces(text))
    return "".join(own[: max(0, len(own) - suffix)])


def observed(
    stdout: str, stderr: str, code: int, *, silent: bool = False, reference: bool = False,
    late: str = "TimeoutError: the code ran too long",
) -> tuple[str, bool]:  # fmt: skip
    """Return what a model is shown of a run, and whether the run passed.

    Passed means a return code of 0 and some output (``silent``: output or not). A failure shows the last line of
    ``stderr`` when it names an error, and ``late`` when there is none. Of a text of 256 characters or more the
    first and last 128 are shown. ``reference`` reduces passed output that holds "Error" to its last line as well.
    """
    good = code == 0 and (silent or bool(stdout.strip()))
    text = stdout if good else stderr
    if "Error" in text and (reference or not good):
        text = text.strip().splitlines()[-1]
    text = text.strip()
    if not text and not good:
        text = late
    return (text if len(text) < _LIMIT else f"{text[:_KEPT]}...{text[-_KEPT:]}"), good


def passed(observation: Observation, *, silent: bool = False) -> bool:
    """Say whether a call ran without trouble and had something to show (``silent``: or not).

    Of an interpreter that tells its streams apart, what it printed and its last value count, and warnings do not.
    """
    shown, data = observation.text, observation.data
    if isinstance(data, Mapping) and "stdout" in data:
        shown = f"{data['stdout'] or ''}{data.get('value') or ''}"
    return observation.status == "ok" and (silent or bool(shown.strip()))


def pass_rate(trajectory: Trajectory, *, silent: bool = False, reference: bool = False) -> float:
    """Share of an episode's calls that passed, 0 without calls.

    ``reference`` returns 1 when all passed, or none was made, and else 0.
    """
    seen = [passed(observation, silent=silent) for _, observation in trajectory.calls]
    if reference:
        return float(all(seen))
    return sum(seen) / len(seen) if seen else 0.0


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
    """Return the task of making the last executed call of an episode over again, None when nothing failed.

    Its episodes start in the world as it stood before that turn, with the turn's thought less ``suffix`` pieces
    (100; 500 for long thoughts) as the beginning of the reply. ``at="failed"`` goes back to the last call that failed.
    ``label`` sets the task's episodes apart, ``world_seed`` is the seed of the episode. Raises ``ValueError`` on an
    unknown ``at``.
    """
    if at not in ("executed", "failed"):
        raise ValueError(f"at is {at!r}; {nearest(at, ('executed', 'failed'))}")
    failed = [k for k, t in enumerate(trajectory.turns) if not all(passed(o, silent=silent) for o in t.observations)]
    if not failed:
        return None
    ran = [k for k, turn in enumerate(trajectory.turns) if any(o.executed for o in turn.observations)]
    turn = ran[-1] if ran and at == "executed" else failed[-1]
    begun = shortened(plain_text(trajectory.turns[turn].reply), suffix, pieces)
    return resumed(trajectory.task, prefix_of(trajectory, turn, prefill=begun), label=label, world_seed=world_seed)


def repairs(groups: Sequence[Group], *, most: int | None = None, seed: int = 0, **settings: Any) -> list[Task]:
    """Return repair tasks of dropped trajectories of these groups, at most ``most`` (None: as many as groups).

    More are thinned out at random by ``seed``. ``settings`` are those of ``repair``.
    """
    found = []
    for i, group in enumerate(groups):
        for j, (trajectory, score) in enumerate(zip(group.trajectories, group.scores, strict=True)):
            if score.drop:
                world_seed = group.episodes[group.owners[j]].seed if group.episodes else None
                task = repair(trajectory, label=f"repair/{group.step}/{i}/{j}", world_seed=world_seed, **settings)
                found += [task] if task is not None else []
    most = len(groups) if most is None else most
    if len(found) <= most:
        return found
    return [found[i] for i in sorted(random.Random(seed).sample(range(len(found)), most))]


def episode(
    task: Task, trajectories: Sequence[Trajectory], *, base: Reward = outcome, least_tokens: int = 150,
    silent: bool = False,
) -> list[Score]:  # fmt: skip
    """Score answers by ``base`` and drop what the episode level does not train on.

    Dropped are trajectories with any call that did not pass, without an answer, or of at most ``least_tokens`` tokens.
    ``info`` holds the pass rate (key ``passes``).
    """
    out = []
    for trajectory, score in zip(trajectories, base(task, trajectories), strict=True):
        failed = not all(passed(seen, silent=silent) for _, seen in trajectory.calls)
        short = trajectory.sampled_count <= least_tokens or trajectory.finish != "answer"
        info = {**score.info, "passes": pass_rate(trajectory, silent=silent), "failed": failed}
        out.append(replace(score, drop=score.drop or failed or short, info=info))
    return out


def execution(
    task: Task, trajectories: Sequence[Trajectory], *, silent: bool = False, reference: bool = False
) -> list[Score]:
    """Score continuations 1 when every call they made passed, else 0; the part ``repair`` marks them.

    Without any call the score is 0 (``reference``: 1).
    """
    out = []
    for trajectory in trajectories:
        seen = [observation for _, observation in trajectory.calls]
        good = all(passed(observation, silent=silent) for observation in seen) and bool(seen or reference)
        out.append(Score(float(good), parts={"repair": 1.0}))
    return out


@exempt("centred", "independent")
def own_share(
    turn_NT: IntArray, parts_CN: FloatArray, channels: tuple[str, ...], adv_NT: FloatArray, *, positives: bool = False
) -> FloatArray:
    """Weight that makes one mean over all tokens the sum of a mean per level: ``T / T_level`` on tokens of a level.

    The part ``repair`` tells the levels apart. ``positives`` counts, and weighs, only tokens with a positive advantage:
    ``T / T_level+``.
    """
    mine_NT = turn_NT >= 0
    step_N = parts_CN[channels.index("repair")] > 0 if "repair" in channels else np.zeros(len(turn_NT), dtype=bool)
    out = np.zeros(turn_NT.shape)
    for level_N in (step_N, ~step_N):
        own_NT = mine_NT & level_N[:, None]
        if positives:
            own_NT = own_NT & (adv_NT > 0)
        if own_NT.any():
            out[own_NT] = mine_NT.sum() / own_NT.sum()
    return out
