"""A source of rows: solutions that the policy writes step by step, with code that a refiner puts into the steps.

Source: "THOR: Tool-Integrated Hierarchical Optimization via RL for Mathematical Reasoning" (paper 39), its TIRGen.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from ferrule.agents.repair import passed
from ferrule.agents.reviewed import Reviewed
from ferrule.agents.step_code import by_refiner
from ferrule.chat.answer import boxed
from ferrule.chat.fence import Fence
from ferrule.core.flows import Policy, Reward, World
from ferrule.core.recipe import Data, Drawn
from ferrule.core.records import Message, Task, plain_text
from ferrule.data.corrections import corrected_run
from ferrule.data.filters import solution_flaw
from ferrule.data.formats import Row
from ferrule.data.layout import laid_out
from ferrule.data.mixing import evened, one_per_question
from ferrule.data.records import Conversation
from ferrule.data.trees import tree_of
from ferrule.evaluate.unsolved import unsolved
from ferrule.rewards.outcome import outcome
from ferrule.rollout.drive import drive, seed_of
from ferrule.rollout.record import Episode
from ferrule.train.stream import Stream

__all__ = ["Solution", "coded", "fenced", "solution_of"]


@dataclass(frozen=True)
class Solution:
    """A solution as its steps were rewritten: whether each call passed, and whether its answer is right."""

    task: Task
    conversation: Conversation
    passes: tuple[bool, ...]
    correct: bool


def solution_of(episode: Episode, world: World, *, reward: Reward = outcome, least: float = 0.5) -> Solution | None:
    """Return the solution that an episode of ``Reviewed`` ended with, None where it has no answer.

    It is right where its ``reward`` is at least ``least``.
    """
    path = episode.trajectories[0]
    if episode.problem or path.answer is None:
        return None
    with closing(world.start(episode.task)) as session:
        tree = tree_of([path], lambda path: True, tools=session.tools)
    run = corrected_run(tree)
    if run is None:
        return None
    observations = [
        observation
        for turn in path.turns
        for observation in turn.notes.get("rewritten", {}).get("observations", turn.observations)
        if not observation.terminal
    ]
    correct = reward(path.task, [path])[0].value >= least
    return Solution(episode.task, run, tuple(map(passed, observations)), correct)


def fenced(messages: Sequence[Message], fence: Fence | None = None) -> str:
    """Return a conversation's replies and results as one text, code and output in fences; other calls are left out."""
    fence = fence or Fence()
    lines = []
    for message in messages:
        if message.role == "tool":
            lines.append(fence.show(message))
        elif message.role == "assistant":
            code = [call for call in message.calls if (call.name, *call.arguments) == (fence.tool, fence.argument)]
            lines.append(fence.write(replace(message, calls=tuple(code))))
    return "\n".join(lines)


def coded(
    world: World, *, refiner: Policy | None = None, agent: Reviewed | None = None, tasks: int = 64, samples: int = 1,
    split: str = "train", levels: Sequence[int] = (1, 2, 3, 4, 5), seed: int = 0, reward: Reward = outcome,
    least: float = 0.5, box: bool = True, least_tokens: int = 0, tries: int = 0, most: int | None = None,
    temperature: float = 1.0, **checks: Any,
) -> Data:  # fmt: skip
    """Return a source of rows: solutions of the policy with code in them, those that nothing is wrong with.

    The policy writes ``samples`` solutions for each of ``tasks`` further tasks, in steps that the role ``refiner``
    (None: the policy itself) rewrites as code, by ``agent`` (None: ``Reviewed(by_refiner(), in_parts=True)`` with steps
    of 512 tokens). Left out are questions that the policy solves in one of ``tries`` without tools (0: none is tried),
    and what ``solution_flaw`` objects to (``least_tokens`` and ``checks`` are its keywords; ``box`` asks for the answer
    in a box). Of each question one solution is kept, and of each pair of level and number of calls at most ``most``
    (None: as many as the median pair has). Raises ``ValueError`` where nothing is left.
    """
    writer = agent or Reviewed(by_refiner(), max_tokens=512, uncorrected=False, in_parts=True)

    def drawn(policy: Any, lap: int) -> Drawn:
        todo = Stream(world, split, levels, seed, position=lap * tasks)(tasks)
        if tries:
            first = seed_of(seed, "no tools", lap)
            todo = unsolved(todo, world, policy, samples=tries, most=tasks, base=reward, seed=first)
        episodes = drive(
            writer, todo, world, {"solver": policy, "refiner": refiner or policy},
            num_generations=samples, temperature=temperature, seed=seed_of(seed, "coded", lap),
        )  # fmt: skip
        kept, flaws = list[tuple[str, tuple[Hashable, Row]]](), set[str]()
        for episode in episodes:
            solution = solution_of(episode, world, reward=reward, least=least)
            row, flaw = _checked(solution, policy, box, {"least_tokens": least_tokens, **checks})
            flaws |= {flaw} if flaw else set()
            if solution is not None and row is not None and not flaw:
                kind = solution.task.meta.get("level"), len(solution.passes)
                kept.append((solution.task.id, (kind, row)))
        if not kept:
            raise ValueError(
                f"none of {len(episodes)} solutions to {len(todo)} questions is left to learn from"
                + (f" ({', '.join(sorted(flaws))})" if flaws else "; the policy solves the questions without tools")
            )
        rows = evened(one_per_question(kept, seed=seed + lap), most=most, seed=seed + lap)
        return Drawn(rows, sum(episode.sampled_count for episode in episodes))

    return drawn


def _checked(solution: Solution | None, policy: Any, box: bool, checks: Mapping[str, Any]) -> tuple[Row | None, str]:
    """Return the row of a solution, and what is wrong with it."""
    if solution is None:
        return None, "no answer"
    messages = solution.conversation.messages
    row = laid_out(solution.conversation, policy.renderer, policy.encode)
    assert isinstance(row, Row)
    flaw = solution_flaw(
        fenced(messages),
        answered=not box or boxed(plain_text(messages[-1])) is not None,
        passes=solution.passes,
        correct=solution.correct,
        tokens=sum(turn >= 0 for turn in row.turn),
        **checks,
    )
    return row, flaw
