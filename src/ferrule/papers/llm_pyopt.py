"""LLM Interactive Optimization of Open Source Python Libraries: Case Studies and Generalization (paper 35), 2023.

https://arxiv.org/abs/2312.14949

A chat model makes small functions of mature libraries faster, with an expert beside it who supplies context, runs tests
and benchmarks, rejects versions that are wrong or slow, and decides what to ask next. What can be used again is the
loop: a proposal, a test that it does the same, a benchmark, and what both said as the next question.

The loop is ``agents.refiner.Refiner`` on ``agents.refine``, the world is ``pyopt``.

Departures from the paper:

1. The paper is a qualitative study of dialogues. The loop, its rule of acceptance and its numbers (gain of 1.05, no
   class slower by 5 %, 7 repeats, patience 3, 8 turns, temperatures 0.2 and 0.8, 50 inputs each) are a formalisation.
2. Dialogues are reconstructed: the function and what must stay, then for every proposal the first test that fails or
   the table of speed-ups. Explanations that a model writes are read past.
3. The loci: ``extrema`` of the bank is the one that became a change of pillow; ``counts`` is recollected; six further
   slow forms are this project's. The numpy locus is not known for certain and left out.
4. Whoever plays the expert is a ``Critic``: none, a scripted one, a model, or a person (``ferrule refine --critic``).
   Who chooses the locus and sends the result upstream is still a person.
5. An equal program that is not accepted is worth 0, one that differs -1, an accepted one the log of its speed-up.
6. The contract is checked before a test by reading the program: parameters, imports, no state, builtins that compute.
   Results are compared with their types; ``-0.0`` is not ``0.0``, and of exceptions the type counts.
7. Where the original against itself is off by more than 3 % in three tries, that difference is added to the gain that
   is asked for. Tests of a session are drawn once, inputs of a benchmark every time.
8. The claim's proposer draws from a pool of written rewrites, about half of them right. It cannot invent: what feedback
   does to its draws is written down (``worlds.pyopt.scripted``), so the claim illustrates the loop and no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ferrule.agents.refine import Candidate
from ferrule.agents.refiner import Critic, Refiner, advised
from ferrule.agents.search import Node
from ferrule.core.recipe import Recipe, vary
from ferrule.core.records import Score, Task, Trajectory, Turn, plain_text
from ferrule.studies.paper import Paper
from ferrule.worlds.pyopt import Pyopt
from ferrule.worlds.pyopt.scripted import claim_of, proposer
from ferrule.worlds.pyopt.timing import accepts

__all__ = ["PAPER", "claimed", "expert", "optimiser", "recipe", "speed_reward"]


def optimiser(
    *, rounds: int = 8, patience: int = 3, temperatures: tuple[float, float] | None = (0.2, 0.8), **settings: Any
) -> Refiner:
    """Return the loop of the paper; ``settings`` are further fields of ``Refiner``."""
    return Refiner(rounds=rounds, patience=patience, temperatures=temperatures, **settings)


def expert(world: Pyopt | None = None) -> Critic:
    """Return the scripted critic, who names the family of ideas to try next on a function of the bank."""
    source = world or Pyopt()

    def critic(task: Task, candidates: Sequence[Candidate]) -> str:
        return source.expert(task, [candidate.text for candidate in candidates])

    return critic


def claimed(task: Task, node: Node) -> float:
    """Return how many times as fast a step says that its program is: the value of blind repeats."""
    return claim_of(plain_text(node.reply.message)) if node.reply is not None else 0.0


def speed_reward(task: Task, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score trajectories by the log of their speed-up, 0 without one; their turns by what was said of each program.

    A turn is worth the log of the speed-up that it reached, 0 for an equal program that was not accepted or no program,
    and -1 for one that differs.
    """
    scores = []
    for trajectory in trajectories:
        value = math.log(max(1.0, float(trajectory.final.get("speedup", 1.0))))
        turns = tuple(map(_turn_value, trajectory.turns))
        scores.append(Score(value, turns, {"speed": value}))
    return scores


def _turn_value(turn: Turn) -> float:
    """Return the best score of a turn's benchmarks: of its calls, or what the agent noted of its proposal."""
    said = [o.data["score"] for o in turn.observations if isinstance(o.data, dict) and "score" in o.data]
    return max([float(score) for score in said] or [max(-1.0, float(turn.notes.get("value", 0.0)))])


def recipe(base: Recipe, **settings: Any) -> Recipe:
    """Return ``base`` with the loop (``settings`` are its own) as agent, and the speed-up as reward."""
    settings = {"max_tokens": getattr(base.agent, "max_tokens", 1024), "temperatures": None, **settings}
    return vary(base, agent=optimiser(**settings), reward=speed_reward)


PAPER = Paper(
    number=35,
    slug="llm-pyopt",
    title="LLM Interactive Optimization of Open Source Python Libraries - Case Studies and Generalization",
    date="2023-12",
    url="https://arxiv.org/abs/2312.14949",
    pieces={
        "agent": optimiser,
        "world": Pyopt,
        "accept": accepts,
        "critic": advised,
        "expert": expert,
        "proposer": proposer,
        "claimed": claimed,
        "reward": speed_reward,
        "recipe": recipe,
    },
    summary="Makes slow functions faster: propose, test that nothing changed, time it, and propose again from both.",
    reported="Library functions up to 38 times as fast, with an expert in the loop (abstract).",
)
