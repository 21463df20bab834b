"""One environment of the OpenEnv face: a world's session behind reset, step and state; frames in, frames out."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.core.arrays import nearest
from ferrule.core.exact import plain
from ferrule.core.flows import Reward, Session, World
from ferrule.core.records import Answer, Call, Finish, Message, Observation, Task, Trajectory, Turn

__all__ = ["ACTION", "Environment", "Unfit", "listed"]

_TEXT = {"type": "string"}
ACTION: dict[str, Any] = {
    "title": "FerruleAction",
    "description": "A tool call {name, arguments}, or the answer {answer}. MCP-style actions are taken as well.",
    "type": "object",
    "properties": {
        "name": _TEXT,
        "arguments": {"type": "object"},
        "answer": _TEXT,
        "type": {"enum": ["call_tool", "list_tools"]},
        "tool_name": _TEXT,
        "metadata": {"type": "object"},
    },
}
"""JSON schema of what ``step`` takes."""


class Unfit(ValueError):
    """A request that does not fit; the message says why. Nothing ran."""


def listed(session: Session) -> list[dict[str, Any]]:
    """Return the tools of a session as OpenEnv lists them."""
    return [
        {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
        for tool in session.tools
    ]


class Environment:
    """Episodes of ``world``, one after another; not for several threads at once.

    The reward is computed when the episode ends, from the answer and the session's final state, and travels beside
    the observation: no tool returns it. ``steps`` bounds an episode; one that uses them up ends without an answer.
    """

    def __init__(self, world: World, tasks: Sequence[Task], reward: Reward, *, steps: int) -> None:
        self._world = world
        self._tasks = tasks
        self._reward = reward
        self._steps = steps
        self._session: Session | None = None
        self._task: Task | None = None
        self._turns: list[Turn] = []
        self._episode = ""
        self._done = False

    def reset(self, data: Mapping[str, Any], turn: int = 0) -> dict[str, Any]:
        """Start the task that ``task_id`` names, ``seed`` picks, or else the ``turn``-th; returns the frame's data."""
        task = self._choose(data, turn)
        seed, episode = data.get("seed"), data.get("episode_id")
        if episode is not None and not (isinstance(episode, str) and len(episode) <= 255):
            raise Unfit("episode_id must be a text of at most 255 characters")
        self.close()
        self._session = self._world.start(task, seed or 0)
        self._task, self._turns, self._done = task, [], False
        self._episode = episode or uuid.uuid4().hex
        shown = {"prompt": task.prompt, "text": task.prompt, "status": "ok", "task_id": task.id}
        return {"observation": shown | {"tools": listed(self._session)}, "reward": None, "done": False}

    def _choose(self, data: Mapping[str, Any], turn: int) -> Task:
        seed, wanted = data.get("seed"), data.get("task_id")
        if seed is not None and not (isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0):
            raise Unfit(f"seed is {seed!r}; it must be a whole number of at least 0")
        if wanted is None:
            return self._tasks[(turn if seed is None else seed) % len(self._tasks)]
        for task in self._tasks:
            if task.id == wanted:
                return task
        raise Unfit(f"unknown task {wanted!r}; {nearest(str(wanted), [task.id for task in self._tasks])}")

    def step(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out an action: a tool call, an answer, or a listing of the tools; returns the frame's data."""
        if self._session is None or self._task is None:
            raise Unfit("no episode yet; send reset first")
        given = {name: value for name, value in data.items() if name != "metadata"}
        if given == {"type": "list_tools"}:
            return {"observation": {"tools": listed(self._session)}, "reward": None, "done": self._done}
        if self._done:
            raise Unfit("the episode is over; send reset")
        if set(given) == {"answer"}:
            answer = given["answer"]
            if not isinstance(answer, (str, int, float)) or isinstance(answer, bool):
                raise Unfit("the answer must be a text or a number")
            self._note((), ())
            return self._end({"text": "", "status": "ok"}, str(answer), "answer")
        return self._act(_call(given, len(self._turns)), styled="tool_name" in given)

    def _act(self, call: Call, *, styled: bool) -> dict[str, Any]:
        assert self._session is not None
        observation = self._session.act(call)
        self._note((call,), (observation,))
        shown = _shown(observation)
        if styled:  # as OpenEnv's own tool environments answer
            failed = {"error_type": _KINDS.get(observation.status, "execution_error"), "message": observation.text}
            value = shown.get("data", observation.text)
            shown |= {"tool_name": call.name, "result": value, "error": None if observation.status == "ok" else failed}
        if observation.terminal:
            return self._end(shown, observation.text, "answer")
        if len(self._turns) >= self._steps:
            return self._end(shown, None, "turns")
        return {"observation": shown, "reward": None, "done": False}

    def _note(self, calls: tuple[Call, ...], observations: tuple[Observation, ...]) -> None:
        number = len(self._turns)
        message = Message("assistant", calls=calls)
        self._turns.append(Turn(number, number - 1 if number else None, (), (), (), message, observations=observations))

    def _end(self, shown: dict[str, Any], answer: Answer, finish: Finish) -> dict[str, Any]:
        assert self._session is not None
        assert self._task is not None
        self._done = True
        path = Trajectory(self._task, tuple(self._turns), answer, finish, final=self._session.final())
        value = float(self._reward(self._task, [path])[0].value)
        return {"observation": shown, "reward": value if math.isfinite(value) else None, "done": True}

    def state(self) -> dict[str, Any]:
        """Return the episode's id, its count of steps, and which task it plays."""
        task = self._task.id if self._task else None
        return {"episode_id": self._episode or None, "step_count": len(self._turns), "task_id": task}

    @property
    def session(self) -> Session | None:
        """The session that is played, if any."""
        return self._session

    def close(self) -> None:
        """Close the session; may be called twice."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


_KINDS = {"timeout": "timeout", "unknown_tool": "tool_not_found", "malformed": "invalid_args"}


def _call(given: Mapping[str, Any], number: int) -> Call:
    names = {"type", "tool_name", "arguments"} if "tool_name" in given else {"name", "arguments"}
    name, arguments = given.get("tool_name", given.get("name")), given.get("arguments", {})
    if set(given) - names or not isinstance(name, str) or given.get("type", "call_tool") != "call_tool":
        raise Unfit(
            "an action is {name, arguments}, {answer}, {type: call_tool, tool_name, arguments} or {type: list_tools}"
        )
    if not isinstance(arguments, dict):
        raise Unfit("the arguments of a call must be an object")
    return Call(name, arguments, id=str(number))


def _shown(observation: Observation) -> dict[str, Any]:
    """Return an observation as JSON data; what has no JSON form is left out."""
    shown: dict[str, Any] = {"text": observation.text, "status": observation.status}
    if observation.data is not None:
        shown["data"] = plain(observation.data)
    if observation.artifacts:
        shown["artifacts"] = [
            {"name": file.name, "media": file.media, "size": file.size, "source": file.source}
            for file in observation.artifacts
        ]
    return shown
