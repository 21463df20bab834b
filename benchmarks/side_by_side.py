"""Filtered depth-first search over many tasks: all side by side in one batch, and the same search one ask at a time.

The pocket model searches tasks of ``apis``: two steps at a place are drawn together, and gone on from by how likely the
model found them. Both ways have the same tasks and seeds, and take turns; the ratio is that of the two runs of a turn.
The records are compared as well: what was sampled, called and answered, and the trees. Beside the clock's seconds stand
the processor's, which other work on the machine moves less.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from common import arguments, report, spread

from ferrule.agents.depth_first import DepthFirst
from ferrule.agents.search import Budget, Node, no_answer
from ferrule.agents.values import likelihood, valued
from ferrule.policies.named import load
from ferrule.rollout.drive import Limits, drive
from ferrule.rollout.record import Episode
from ferrule.worlds.apis import Apis

LEVELS = (2, 3, 4)
PARTS: Mapping[str, Callable[[Any], Any]] = {
    "ids": lambda turn: (turn.given, turn.sampled),
    "calls": lambda turn: (turn.reply.calls, turn.observations),
    "trees": lambda turn: (turn.id, turn.parent, turn.notes),
}


def failed(node: Node) -> bool:
    """Give up after a call that failed, and without an answer."""
    return no_answer(node) or any(observation.status != "ok" for observation in node.observations)


def agent(tokens: int) -> DepthFirst:
    return DepthFirst(
        width=2, depth=6, budget=Budget(tokens=tokens), order=partial(valued, likelihood), stuck=failed, max_tokens=64
    )


def turns_of(episode: Episode) -> list[Any]:
    turns = {turn.id: turn for path in episode.trajectories for turn in path.turns}
    return [turns[number] for number in sorted(turns)]


def endings(episode: Episode) -> list[Any]:
    return [(path.finish, path.answer) for path in episode.trajectories]


def compare(these: Sequence[Episode], others: Sequence[Episode]) -> dict[str, Any]:
    """Return how many tasks agree in each part of the record, and by how much log-probs differ at most where ids do."""
    pairs = [(turns_of(one), turns_of(other)) for one, other in zip(these, others, strict=True)]
    agreed = {name: sum([*map(part, a)] == [*map(part, b)] for a, b in pairs) for name, part in PARTS.items()}
    agreed["answers"] = sum(endings(a) == endings(b) for a, b in zip(these, others, strict=True))
    agreed["whole records"] = sum(a == b for a, b in zip(these, others, strict=True))
    apart = [
        abs(x - y)
        for a, b in pairs
        for one, other in zip(a, b, strict=False)
        if one.sampled == other.sampled
        for x, y in zip(one.logps, other.logps, strict=True)
    ]
    return {"tasks that agree": agreed, "log-probs apart at most": max(apart, default=0.0)}


def main() -> None:
    """Measure both, interleaved, after one small run of each that is not counted."""
    given = arguments(str(__doc__), tasks=64, tokens=400, repeats=3)
    world, policy = Apis(), load("pocket")
    search = agent(given.tokens)
    todo = world.tasks("test", given.tasks, levels=LEVELS)
    ways = {"one ask at a time": Limits(episodes=1), "side by side": Limits(episodes=given.tasks)}
    for limits in ways.values():
        drive(search, todo[:2], world, policy, temperature=1.0, limits=limits)
    took: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in ways} for kind in ("clock", "processor")}
    compared: list[dict[str, Any]] = []
    tokens = 0
    for turn in range(given.repeats):
        played: dict[str, list[Episode]] = {}
        for name in list(ways)[:: 1 if turn % 2 else -1]:  # neither always comes first
            began, busy = time.perf_counter(), time.process_time()
            played[name] = drive(search, todo, world, policy, seed=turn, temperature=1.0, limits=ways[name])
            took["clock"][name].append(time.perf_counter() - began)
            took["processor"][name].append(time.process_time() - busy)
        compared.append(compare(*played.values()))
        tokens += sum(episode.sampled_count for episode in played["side by side"])
    figures: dict[str, Any] = {"tasks": given.tasks, "tokens per task": tokens / given.tasks / given.repeats}
    for kind, seconds in took.items():
        ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
        figures[kind] = {name: spread(each) for name, each in seconds.items()} | {"ratio": spread(ratios)}
    report("side_by_side", figures | {"records": compared}, given.json)


if __name__ == "__main__":
    main()
