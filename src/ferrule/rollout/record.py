"""Recording by object identity, and episodes as JSON lines that reload to equal objects.

A turn's parent is the turn whose whole context it extends with the very same ``Message`` objects, so trees, rewritten
contexts and sub-agents need nothing special: a context that extends no recorded one starts a new segment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ferrule.core.exact import line_of, read, write
from ferrule.core.flows import Ask, Leaves
from ferrule.core.records import Answer, Finish, Message, Observation, Reply, Task, Trajectory, Turn
from ferrule.rollout.spent import Spent

__all__ = ["Asked", "Episode", "Recorder", "append", "dump", "load", "parse", "save"]


@dataclass(frozen=True)
class Episode:
    """The record of one run of an agent on a task; ``trajectories[0]`` holds the agent's answer.

    ``spent`` is what each role took, by its name.
    """

    task: Task
    sample: int
    seed: int
    trajectories: tuple[Trajectory, ...]
    problem: str = ""
    drifted: bool = False
    seconds: float = field(default=0.0, compare=False)
    spent: Mapping[str, Spent] = field(default_factory=dict, hash=False)

    @property
    def sampled_count(self) -> int:
        """Number of tokens the models wrote, shared prefixes once and discarded branches included."""
        turns = {turn.id: len(turn.sampled) for path in self.trajectories for turn in path.turns}
        return sum(turns.values())

    def of_role(self, role: str) -> tuple[Trajectory, ...]:
        """Return the paths of a role, each with those of all other roles as ``others``.

        A path without any turn belongs to every role: the episode failed before it asked.
        """
        paths = [path for path in self.trajectories if path.role == role or not path.turns]
        others = tuple(path for path in self.trajectories if path.role != role and path.turns)
        return tuple(replace(path, others=others) for path in paths) if others else tuple(paths)


def _extends(messages: Sequence[Message], known: Sequence[Message]) -> bool:
    return len(messages) >= len(known) and all(a is b for a, b in zip(messages, known, strict=False))


@dataclass(frozen=True, slots=True)
class Asked:
    """An ask as a policy gets it, and where its replies belong.

    ``parent`` is the turn that it extends, ``before`` what came before it in time, ``branch`` what its path goes on
    from when the agent says how its branches ended.
    """

    request: Ask
    parent: int | None
    before: int | None
    branch: int | None


_PASSED_OVER = Observation("the agent did not make this call", "refused")


class Recorder:
    """Collects the turns of one episode and checks that token ids are append-only."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.turns: list[Turn] = []
        self.drifted = False
        self._contexts: list[tuple[Message, ...]] = []
        self._ids: list[tuple[int, ...]] = []
        self._before: list[int | None] = []
        self._branch: list[int | None] = []
        self._observed: list[dict[int, Observation]] = []
        self._depth: list[int] = []

    @property
    def depth(self) -> int:
        """Number of turns on the longest path."""
        return max(self._depth, default=0)

    def extend(self, request: Ask) -> Asked:
        """Return the ask with ``context`` and ``fresh`` filled in, and the place of its replies in the record.

        An ask that extends no turn keeps what it brings along: the ids of another episode that it goes on from.
        Asks that are extended before any of them is answered stand side by side: none comes before another.
        """
        best: int | None = None
        for i, known in enumerate(self._contexts):
            if self.turns[i].role != request.role:
                continue  # another role may be another model, to which these ids mean something else
            longer = best is None or len(known) > len(self._contexts[best])
            if longer and _extends(request.messages, known):
                best = i
        if best is not None:
            request = replace(request, context=self._ids[best], fresh=len(self._contexts[best]))
            return Asked(request, best, best, best)
        latest = next((turn.id for turn in reversed(self.turns) if turn.role == request.role), None)
        return Asked(request, None, latest, self._opened(request, latest))

    def add(self, asked: Asked, reply: Reply) -> Turn:
        """Record one reply to a filled ask; ids that do not continue the context mark the episode as drifted."""
        request, before = asked.request, asked.before
        kept = reply.given[: len(request.context)] == request.context
        known = len(request.context) if asked.parent is not None and kept else 0
        if not kept or len(reply.logps) != len(reply.sampled):
            self.drifted = True
        turn = Turn(
            id=len(self.turns),
            parent=asked.parent,
            given=reply.given[known:],
            sampled=reply.sampled,
            logps=reply.logps,
            reply=reply.message,
            messages=request.messages[request.fresh if asked.parent is not None else 0 :],
            spans=reply.spans,
            finish=reply.finish,
            role=request.role,
            notes=dict(request.notes),
        )
        self._before.append(before)
        self._depth.append(1 + (self._depth[before] if before is not None else 0))
        self._branch.append(asked.branch)
        self.turns.append(turn)
        self._observed.append({})
        self._contexts.append((*request.messages, reply.message))
        self._ids.append((*reply.given, *reply.sampled))
        return turn

    def _opened(self, request: Ask, latest: int | None) -> int | None:
        """Return what comes before an ask that extends no turn: a repeated opening is a branch beside the first."""
        for i, known in enumerate(self._contexts):
            again = self.turns[i].role == request.role and len(known) == len(request.messages) + 1
            if again and _extends(known, request.messages):
                return self._branch[i]
        return latest

    def observe(self, call_observations: Iterable[tuple[Any, Observation]]) -> None:
        """Attach observations to the turn whose reply holds the very same ``Call`` objects, each at its call's place.

        The latest such turn that has no answer yet is meant. A call that was passed over while a later one was made
        is answered as ``refused``.
        """
        for call, observation in call_observations:
            calls = [
                (i, k, made_call) for i, turn in enumerate(self.turns) for k, made_call in enumerate(turn.reply.calls)
            ]
            places = [(i, k) for i, k, made_call in calls if made_call is call]
            places = [(i, k) for i, k in places if k not in self._observed[i]] or places
            if not places:
                continue
            place = min(places, key=lambda at: (-at[0], at[1]))
            answered = self._observed[place[0]]
            answered[place[1]] = observation
            filled = tuple(answered.get(k, _PASSED_OVER) for k in range(max(answered) + 1))
            self.turns[place[0]] = replace(self.turns[place[0]], observations=filled)

    def paths(
        self, answer: Answer, finish: Finish, final: Mapping[str, Any], problem: str, tree: Leaves | None = None
    ) -> tuple[Trajectory, ...]:
        """Return one trajectory per leaf; the path of the latest turn comes first and holds the answer.

        Where several roles asked, the latest turn of ``solver`` is meant, else that of the role which asked first. With
        ``tree`` (what an agent said of its branches) the paths of its leaves come first, in that order, and what leads
        to none of them ended ``discarded``.
        """
        if tree is not None and not problem:
            return self._branches(tree)
        paths = []
        lead = next(
            (turn.role for turn in self.turns if turn.role == "solver"), self.turns[0].role if self.turns else ""
        )
        ends = sorted(self._ends(self._before), key=lambda end: self.turns[end].role != lead)
        for place, leaf in enumerate(ends):
            first = place == 0
            paths.append(
                self._path(
                    leaf,
                    self._before,
                    answer=answer if first else None,
                    finish=finish if first else "cancelled",
                    final=dict(final) if first else {},
                    problem=problem if first else "",
                )
            )
        if not paths:
            paths.append(Trajectory(self.task, (), answer, finish, final=dict(final), problem=problem))
        return tuple(paths)

    def _branches(self, tree: Leaves) -> tuple[Trajectory, ...]:
        places = {id(turn.reply): i for i, turn in enumerate(self.turns)}
        for step in tree.steps:
            place = places[id(step.reply)]
            self._branch[place] = None if step.after is None else places[id(step.after)]
            notes = {**self.turns[place].notes, **step.notes}
            self.turns[place] = replace(self.turns[place], notes=notes)
        branches = [
            self._path(
                places[id(leaf.reply)], self._branch, answer=leaf.answer, finish=leaf.finish, final=dict(leaf.final)
            )
            for leaf in tree.leaves
        ]
        kept = {turn.id for trajectory in branches for turn in trajectory.turns}
        ends = self._ends(self._branch)
        return (*branches, *(self._path(i, self._branch, finish="discarded") for i in ends if i not in kept))

    def _ends(self, befores: Sequence[int | None]) -> list[int]:
        """Return the turns that nothing follows, the latest first."""
        inner = {before for before in befores if before is not None}
        return sorted((i for i in range(len(self.turns)) if i not in inner), reverse=True)

    def _path(self, leaf: int, befores: Sequence[int | None], **ending: Any) -> Trajectory:
        """Return the trajectory from the root to a turn."""
        path: list[Turn] = []
        node: int | None = leaf
        while node is not None:
            path.append(self.turns[node])
            node = befores[node]
        turns = tuple(reversed(path))
        return Trajectory(self.task, turns, role=turns[-1].role, **ending)


@dataclass(frozen=True)
class _Path:
    turns: tuple[int, ...]
    answer: Answer
    finish: Finish
    role: str
    final: Mapping[str, Any]
    problem: str


@dataclass(frozen=True)
class _Row:
    """One line of an episode file: every turn once, paths by turn id, and what the caller adds."""

    task: Task
    sample: int
    seed: int
    turns: tuple[Turn, ...]
    paths: tuple[_Path, ...]
    problem: str
    drifted: bool
    seconds: float
    extra: Mapping[str, Any]
    spent: Mapping[str, Spent] = field(default_factory=dict)


def dump(episode: Episode, extra: Mapping[str, Any] | None = None) -> str:
    """Return an episode as one JSON line; what has no exact form (``ferrule.core.exact``) is written as its text.

    ``extra`` (scores, step, phase) is kept beside the episode and returned by ``parse``.
    """
    turns: dict[int, Turn] = {}
    for trajectory in episode.trajectories:
        turns.update((turn.id, turn) for turn in trajectory.turns)
    row = _Row(
        task=episode.task,
        sample=episode.sample,
        seed=episode.seed,
        turns=tuple(turns[i] for i in sorted(turns)),
        paths=tuple(
            _Path(tuple(turn.id for turn in t.turns), t.answer, t.finish, t.role, t.final, t.problem)
            for t in episode.trajectories
        ),
        problem=episode.problem,
        drifted=episode.drifted,
        seconds=episode.seconds,
        extra=extra or {},
        spent=episode.spent,
    )
    return line_of(write(row)).decode("utf-8")


def parse(line: str | bytes) -> tuple[Episode, Mapping[str, Any]]:
    """Return the episode and the extras of one line; raises ``ValueError`` when the line is not an episode."""
    try:
        row = read(_Row, json.loads(line))
    except RecursionError:
        raise ValueError("the line is nested too deeply to be read") from None
    turns = {turn.id: turn for turn in row.turns}
    paths = tuple(
        Trajectory(row.task, tuple(turns[i] for i in p.turns), p.answer, p.finish, p.role, p.final, p.problem)
        for p in row.paths
    )
    episode = Episode(row.task, row.sample, row.seed, paths, row.problem, row.drifted, row.seconds, row.spent)
    return episode, row.extra


def append(path: Path, episodes: Iterable[Episode], extras: Iterable[Mapping[str, Any]] | None = None) -> None:
    """Append episodes to a file and flush them to disk, so that a killed run keeps them."""
    import os

    path.parent.mkdir(parents=True, exist_ok=True)
    listed = list(episodes)
    notes = list(extras) if extras is not None else [{}] * len(listed)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(dump(episode, extra) + "\n" for episode, extra in zip(listed, notes, strict=True))
        file.flush()
        os.fsync(file.fileno())


def save(path: Path, episodes: Iterable[Episode]) -> None:
    """Write episodes to a new file."""
    path.unlink(missing_ok=True)
    append(path, episodes)


def load(path: Path) -> Iterator[tuple[Episode, Mapping[str, Any]]]:
    """Yield the episodes of a file with their extras; a cut-off last line (a killed run) is left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield parse(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not an episode: {error}") from error
