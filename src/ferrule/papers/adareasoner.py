"""AdaReasoner: dynamic tool orchestration for iterative visual reasoning (paper 29), January 2026,
https://arxiv.org/abs/2601.18631.

Which tool to call, when, and with what arguments should hold up under new names. A right answer earns everything
however it was reached; a wrong one earns up to half for calls that are well formed, name an offered tool, give its
parameters and fit its values. Tools and parameters carry made-up names in a part of the tasks, so that the schema must
be read.

Departures from the paper:

1. The reward, the names and the paraphrases are built here. What is still open: the visual tools, and the cold start
   from executed blueprints.
2. The last call of an episode counts even when it was malformed; the release trims trailing zeros and so forgets it
   (``reference=True``). The answering turn is left out in both.
3. Values are valid when the call came out ``ok``; ``valid`` takes another judge. Without ``offered`` tools the share
   of required parameters is read off the status: none for arguments that did not fit, all for a call that ran.
4. ``formed`` is the format gate for recorded episodes: an answer, one call in every turn before the last, at most one
   there; it asks for no thoughts. The gate on tags is ``gate_holds`` (``gate=written(gate_holds)``). Further calls of a
   turn are not scored; the loop of the base runs them, where the paper's runs one per turn and ten turns.
5. Names are six random letters and digits that begin with a letter, drawn once per task so that a group shares its
   prompt. Paraphrases are given as overlays (``renamed(world, paraphrases=...)``, about 11 in the paper), of which one
   is drawn per description. The share of tasks that keep real names and words is a choice.
6. The ladder of the online tools is ``names="union"``, one ladder for all tools; a judge model for accuracy is any base
   reward.
7. The claim measures the asymmetry on a table, with the reading of renamed tools left unmeasured. A call is made to
   cost accuracy where it is useless (.97 to .80). Where it costs nothing, partial credit on failures draws calls even
   there, which the arm ``asymmetric, harmless`` reports outside the verdict. The budget is what tool credit needs until
   about nine calls in ten are valid; accuracy alone gets there later (``accuracy only, longer``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from types import MappingProxyType
from typing import get_args

from ferrule.chat.tags import balanced, tag_counts
from ferrule.core.arrays import nearest
from ferrule.core.flows import Reward
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Call, Observation, Score, Task, Tool, Trajectory
from ferrule.credit.group import group_relative
from ferrule.rewards.calls import Names, call_score
from ferrule.rewards.format import all_text
from ferrule.rewards.matching import readable
from ferrule.rewards.outcome import outcome
from ferrule.studies.paper import Paper
from ferrule.worlds.aliased import on_canonical, renamed

__all__ = [
    "PAPER", "VARIANTS", "adareasoner_reward", "came_out_ok", "combined", "formed", "gate_holds", "reaches_goal",
    "recipe", "reduced", "turn_scores", "written",
]  # fmt: skip

VARIANTS: Mapping[str, Mapping[str, float]] = MappingProxyType({
    "main": {"right": 8.0, "weight": 1.0},
    "1:2": {"right": 3.0, "weight": 0.25},
    "2:1": {"right": 3.0, "weight": 0.5},
    "accuracy": {"right": 1.0, "weight": 0.0},
})  # fmt: skip
"""What a right answer earns, and what the tool score of a wrong one is multiplied by."""
_BY_STATUS = {"unknown_tool": 1.0, "malformed": 2.0, "refused": 3.0, "error": 3.0}
_MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def reduced(scores: Iterable[float], *, trim: bool = True) -> float:
    """Mean of the scores before the first negative one (padding), without zeros at the end when ``trim``; 0 if none."""
    kept = list(takewhile(lambda score: score >= 0, scores))
    while trim and kept and kept[-1] == 0:
        kept.pop()
    return sum(kept) / len(kept) if kept else 0.0


def combined(correct: bool, tools: float, *, right: float = 8.0, weight: float = 1.0, added: bool = False) -> float:
    """Reward of a formed episode: ``right`` when correct, else ``weight * tools``; ``added`` pays tools always."""
    return right * correct + (0.0 if correct and not added else weight * tools)


def formed(trajectory: Trajectory) -> bool:
    """Say whether an episode ended with an answer and made one call in every turn, in the last one at most one."""
    counts = [len(turn.reply.calls) for turn in trajectory.turns]
    return trajectory.answer is not None and all(n == 1 for n in counts[:-1]) and all(n <= 1 for n in counts[-1:])


def came_out_ok(call: Call, observation: Observation) -> float:
    """Say whether a call ran without trouble: 1, else 0."""
    return float(observation.status == "ok")


def turn_scores(
    trajectory: Trajectory,
    *,
    offered: Sequence[Tool] | None = None,
    names: Names = "required",
    valid: Callable[[Call, Observation], float] = came_out_ok,
) -> list[float]:
    """Score the first call of every turn 0 to 4 by ``call_score``; a turn without one 0, the answering turn left out.

    ``offered`` are the tools with their schemas; without them statuses decide (see the departures). Calls that were not
    run have no valid values. Raises ``ValueError`` on unknown ``names``, and on ``"union"`` without ``offered``.
    """
    if names not in get_args(Names):
        raise ValueError(f"unknown ladder {names!r}; {nearest(names, get_args(Names))}")
    if names == "union" and offered is None:
        raise ValueError('names="union" compares with the schemas of the tools; give them as offered')
    required = None if offered is None else {t.name: list(t.parameters.get("required", ())) for t in offered}
    turns = list(trajectory.turns)
    if turns and trajectory.answer is not None and not turns[-1].reply.calls:
        turns.pop()
    scores = []
    for turn in turns:
        call, observation = turn.pairs[0] if turn.pairs else (None, None)
        if call is None or not readable(call):
            scores.append(0.0)
            continue
        good = 0.0 if observation is None else min(max(valid(call, observation), 0.0), 1.0)
        if required is None:
            scores.append(3.0 + good if observation is None else _BY_STATUS.get(observation.status, 3.0 + good))
        else:
            scores.append(call_score(call, required, names=names, valid=lambda _, good=good: good))  # type: ignore[misc]
    return scores


def written(judge: Callable[[str], bool]) -> Callable[[Trajectory], bool]:
    """Return a gate for recorded episodes that judges all that the model wrote, joined."""
    return lambda trajectory: judge(all_text(trajectory))


def gate_holds(text: str) -> bool:
    """Say whether all tags are closed, there is one response and at least one thought, and a thought for every act.

    Acts are calls and the response: ``#think = #response + #tool_call``.
    """
    thoughts, calls, responses = (tag_counts(text, tag)[0] for tag in ("think", "tool_call", "response"))
    return balanced(text, "think", "tool_call", "response") and responses == 1 and thoughts == 1 + calls


def reaches_goal(grid: Sequence[str], moves: Sequence[str]) -> bool:
    """Say whether moves (up, down, left, right) from ``S`` end on the goal ``G`` of a grid that does not slip.

    Walls and the border keep the walker in its place (``#``), holes (``H``) and the goal keep it for good. Case of the
    moves does not matter; a path with a move that does not exist leads nowhere. Raises ``ValueError`` for a grid
    without one start.
    """
    starts = [(i, row.index("S")) for i, row in enumerate(grid) if "S" in row]
    if len(starts) != 1:
        raise ValueError(f"the grid has {len(starts)} rows with a start 'S'; it needs one")
    row, column = starts[0]
    for move in (str(move).strip().lower() for move in moves):
        if move not in _MOVES:
            return False
        if grid[row][column] in "HG":
            break
        down, right = row + _MOVES[move][0], column + _MOVES[move][1]
        if 0 <= down < len(grid) and 0 <= right < len(grid[down]) and grid[down][right] != "#":
            row, column = down, right
    return grid[row][column] == "G"


def adareasoner_reward(
    task: Task,
    trajectories: Sequence[Trajectory],
    *,
    base: Reward = outcome,
    offered: Callable[[Task], Sequence[Tool]] | None = None,
    gate: Callable[[Trajectory], bool] = formed,
    names: Names = "required",
    valid: Callable[[Call, Observation], float] = came_out_ok,
    right: float = 8.0,
    weight: float = 1.0,
    added: bool = False,
    reference: bool = False,
) -> list[Score]:
    """Score 0 unless formed, ``right`` when the base reward is above a half, else ``weight`` times the tool score.

    ``offered(task)`` are the tools of the task under their real names; ``names`` and ``valid`` (clipped to 0 to 1) are
    those of ``turn_scores``. ``added`` pays the tool score of right answers too (an older reward). Parts are
    ``outcome``, ``tools`` (0 to 4) and ``format``. Source: AdaReasoner (29).
    """
    tools = None if offered is None else offered(task)
    scores = []
    for trajectory, score in zip(trajectories, base(task, trajectories), strict=True):
        accuracy = score.parts.get("outcome", score.value)
        earned = reduced(turn_scores(trajectory, offered=tools, names=names, valid=valid), trim=reference)
        form = gate(trajectory)
        value = combined(accuracy > 0.5, earned, right=right, weight=weight, added=added) if form else 0.0
        parts = {**score.parts, "outcome": accuracy, "tools": earned, "format": float(form)}
        scores.append(replace(score, value=value, parts=parts))
    return scores


def recipe(base: Recipe, *, offered: Callable[[Task], Sequence[Tool]] | None = None) -> Recipe:
    """Return ``base`` with asymmetric tool credit under real names, four samples and a doubly clipped surrogate.

    Rename the tools of the training world by ``worlds.aliased.renamed``.
    """
    from ferrule.objectives.reduce import token_mean
    from ferrule.objectives.surrogate import surrogate

    return vary(
        base,
        reward=on_canonical(partial(adareasoner_reward, base=base.reward, offered=offered)),
        credit=partial(group_relative, std="unbiased"),
        objective=partial(surrogate, dual=3.0),
        reduce=token_mean,
        reference=False,
        num_generations=4,
    )


PAPER = Paper(
    number=29,
    slug="adareasoner",
    title="AdaReasoner: dynamic tool orchestration for iterative visual reasoning",
    date="2026-01",
    url="https://arxiv.org/abs/2601.18631",
    pieces={"reward": adareasoner_reward, "world": renamed, "recipe": recipe},
    summary="Pays right answers in full and calls on failure only, and renames tools so that schemas must be read.",
    reported="Average gain of 24.9 points over the 7B base model (abstract).",
)
