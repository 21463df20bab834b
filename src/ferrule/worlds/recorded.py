"""Worlds whose sessions are recorded to a cassette, played from it, or answered without running anything."""

from __future__ import annotations

import difflib
import itertools
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.core.acting import Place, act
from ferrule.core.exact import decode, encode, text_of
from ferrule.core.flows import Session, World
from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools.invoke import render
from ferrule.tools.placeholder import placeholder
from ferrule.worlds.cassette import Branch, Cassette, Rows, called

__all__ = ["Recorded", "recorded"]

_SHOWN = 120


def _encoded(call: Call) -> dict[str, Any]:
    problem = {"problem": call.problem} if call.problem else {}
    return {"name": call.name, "arguments": encode(call.arguments), **problem}


def _shown(call: Mapping[str, Any]) -> str:
    text = f"{call['name']}({text_of(call['arguments'])})" if not call.get("problem") else "a malformed call"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


class _Recording:
    """A session that runs every call in the wrapped session and records the results."""

    def __init__(
        self, inner: Session, cassette: Cassette, episode: tuple[str, int], take: int, branch: Branch = ()
    ) -> None:
        self._inner, self._cassette, self._branch = inner, cassette, branch
        self._episode, self._take = episode, take
        self._lock = threading.Lock()
        self._forks = itertools.count()
        self._tools = inner.tools
        self._write("fork" if branch else "start", tools=encode(self._tools))

    def _write(self, kind: str, **more: Any) -> None:
        place = {"episode": list(self._episode), "take": self._take, "branch": list(self._branch)}
        self._cassette.write({"kind": kind, **place, **more})

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools of the wrapped session."""
        return self._inner.tools

    def act(self, call: Call) -> Observation:
        """Run a call whose place is not known."""
        return self._run(call, None)

    def act_at(self, call: Call, place: Place) -> Observation:
        """Run a call inside and record it."""
        return self._run(call, place)

    def _run(self, call: Call, place: Place | None) -> Observation:
        observation = act(self._inner, call, place)
        with self._lock:  # the last line of calls that run side by side says which tools are on offer after them
            tools = self._inner.tools
            changed = {} if tools == self._tools else {"tools": encode(tools)}
            self._tools = tools
            where = [place.turn, place.position] if place is not None else None
            self._write("call", place=where, call=_encoded(call), seen=encode(observation), **changed)
        return observation

    def fork(self) -> Session:
        """Branch the wrapped session; the branch is recorded under its own name."""
        with self._lock:
            branch = (*self._branch, next(self._forks))
        return _Recording(self._inner.fork(), self._cassette, self._episode, self._take, branch)

    def final(self) -> Mapping[str, Any]:
        """Ask the wrapped session for its final state and record it, or its failure."""
        try:
            state = dict(self._inner.final())
        except Exception as error:
            self._write("final", raised=[type(error).__name__, str(error)])
            raise
        self._write("final", state=encode(state))
        return state

    def close(self) -> None:
        """Close the wrapped session."""
        self._inner.close()


class _Replaying:
    """A session that answers from a recording; it wraps no session."""

    def __init__(
        self, cassette: Cassette, episode: tuple[str, int], branches: Mapping[Branch, Rows], name: Branch = ()
    ) -> None:
        self._cassette, self._episode, self._branches, self._name = cassette, episode, branches, name
        self._rows = branches.get(name, Rows())
        self._tools = tuple(decode(self._rows.tools))
        self._lock = threading.Lock()
        self._forks = itertools.count()
        self._finals = itertools.count()
        self._loose: Counter[str] = Counter()
        self._latest = -1

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools that were on offer at this point of the recording; they cannot be run."""
        return self._tools

    def act(self, call: Call) -> Observation:
        """Answer a call whose place is not known: the next recorded one of the same name and arguments."""
        wanted = _encoded(call)
        key = called(wanted)
        with self._lock:
            rows, number = self._rows.loose.get(key, []), self._loose[key]
            self._loose[key] += 1
        if number < len(rows):
            return self._answer(rows[number])
        close = difflib.get_close_matches(key, [k for k in self._rows.loose if k != key], n=1, cutoff=0.0)
        hint = f"; nearest recorded: {_shown(self._rows.loose[close[0]][0]['call'])}" if close else ""
        times = f" for the {number + 1}. time" if number else ""
        return self._miss(f"the call {_shown(wanted)}{times}{hint}")

    def act_at(self, call: Call, place: Place) -> Observation:
        """Answer the call that was recorded at this place, when it is the same call."""
        wanted, at = _encoded(call), (place.turn, place.position)
        row = self._rows.placed.get(at)
        if row is not None and called(row["call"]) == called(wanted):
            return self._answer(row)
        where = f"turn {place.turn}, call {place.position}"
        if row is not None:
            return self._miss(f"{where} is {_shown(wanted)}, recorded is {_shown(row['call'])}")
        return self._miss(f"{where}, {_shown(wanted)}{self._nearest(at, wanted)}")

    def _nearest(self, at: tuple[int, int], wanted: Mapping[str, Any]) -> str:
        """Name the recorded call that comes nearest: the same one elsewhere, else the one at the nearest place."""
        if not self._rows.placed:
            return ""
        key = called(wanted)
        turn, position = min(
            self._rows.placed,
            key=lambda p: (
                called(self._rows.placed[p]["call"]) != key,
                abs(p[0] - at[0]),
                abs(p[1] - at[1]),
            ),
        )
        recorded = self._rows.placed[turn, position]["call"]
        return f"; nearest recorded: turn {turn}, call {position}, {_shown(recorded)}"

    def _miss(self, wanted: str) -> Observation:
        task, seed = self._episode
        branch = f", branch {'.'.join(map(str, self._name))}" if self._name else ""
        if not self._branches:
            wanted += _nearest_episode(self._cassette, self._episode)
        return Observation(self._cassette.missed(f"task {task!r}, seed {seed}{branch}, {wanted}"), "refused")

    def _answer(self, row: Mapping[str, Any]) -> Observation:
        observation: Observation = decode(row["seen"])
        if "tools" in row:
            with self._lock:  # calls of one turn may be played in another order than they ended in
                if row["line"] > self._latest:
                    self._latest, self._tools = row["line"], tuple(decode(row["tools"]))
        return observation

    def fork(self) -> Session:
        """Return the branch that was recorded at this fork."""
        with self._lock:
            name = (*self._name, next(self._forks))
        return _Replaying(self._cassette, self._episode, self._branches, name)

    def final(self) -> Mapping[str, Any]:
        """Return the recorded final state; raises the recorded exception, or ``LookupError`` without a record."""
        finals = self._rows.finals
        if not finals:
            task, seed = self._episode
            wanted = f"the final state of task {task!r}, seed {seed}"
            if not self._branches:
                wanted += _nearest_episode(self._cassette, self._episode)
            raise LookupError(self._cassette.missed(wanted))
        row = finals[min(next(self._finals), len(finals) - 1)]
        if "raised" in row:
            name, text = row["raised"]
            raise type(name, (RuntimeError,), {})(text)  # reports name the same error as the recording
        state: Mapping[str, Any] = decode(row["state"])
        return state

    def close(self) -> None:
        """Do nothing: a replay holds nothing."""


def _nearest_episode(cassette: Cassette, episode: tuple[str, int]) -> str:
    known = [(str(key[1]), key[2]) for key in cassette.keys("episode")]
    seeds = sorted(seed for task, seed in known if task == episode[0])
    if seeds:
        return f"; the task is recorded with the seeds {', '.join(map(str, seeds[:5]))}"
    close = difflib.get_close_matches(episode[0], sorted({task for task, _ in known}), n=1, cutoff=0.0)
    return f"; the episode is not recorded, the nearest task is {close[0]!r}" if close else "; it holds no episodes"


class _Unmade:
    """A session whose calls are not run: they are refused, or answered by a placeholder."""

    def __init__(self, inner: Session, cassette: Cassette) -> None:
        self._inner, self._cassette = inner, cassette

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools of the wrapped session."""
        return self._inner.tools

    def act(self, call: Call) -> Observation:
        """Answer without running anything; calls that could not run anyway are told so."""
        if self._cassette.mode == "refuse":
            return Observation("calls are refused in this run", "refused")
        if call.problem:
            return Observation(f"malformed call: {call.problem}", "malformed")
        tool = next((tool for tool in self._inner.tools if tool.name == call.name), None)
        if tool is None:
            return Observation(f"unknown tool {call.name!r}", "unknown_tool")
        observation = _stand_in(tool, self._cassette.dummy)
        return Observation(observation.text, data=observation.data, terminal=tool.terminal)

    def fork(self) -> Session:
        """Branch the wrapped session."""
        return _Unmade(self._inner.fork(), self._cassette)

    def final(self) -> Mapping[str, Any]:
        """The state of the wrapped session, which no call has changed."""
        return self._inner.final()

    def close(self) -> None:
        """Close the wrapped session."""
        self._inner.close()


def _stand_in(tool: Tool, fixed: str | None) -> Observation:
    if fixed is not None or tool.output is None:
        return Observation("ok" if fixed is None else fixed)
    return render(placeholder(tool.output))


@dataclass(frozen=True)
class Recorded:
    """``world`` with ``cassette`` around every session; a replay never starts a session of ``world``."""

    world: World
    cassette: Cassette

    @property
    def name(self) -> str:
        """The name of the wrapped world: tasks name their world by it."""
        return self.world.name

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        """Return the tasks of the wrapped world."""
        return self.world.tasks(split, count, seed=seed, levels=levels)

    def start(self, task: Task, seed: int = 0) -> Session:
        """Open a session as the cassette's mode says."""
        cassette, episode = self.cassette, (task.id, seed)
        if cassette.mode == "replay":
            return _Replaying(cassette, episode, cassette.entry(("episode", *episode)) or {})
        inner = self.world.start(task, seed)
        if cassette.mode == "record":
            return _Recording(inner, cassette, episode, cassette.turn(("episode", *episode)))
        return inner if cassette.mode == "live" else _Unmade(inner, cassette)


def recorded(world: World, cassette: Cassette) -> World:
    """Return ``world`` as ``cassette`` has it: recorded, replayed, answered by placeholders, refused, or as it is."""
    return Recorded(world, cassette)
