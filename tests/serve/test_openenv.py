"""Our OpenEnv server, frame by frame, and our OpenEnv client against servers that misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from tests.contracts.kinds import check_world
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Session
from ferrule.core.records import Call, Message, Observation, Score, Task, Tool, Trajectory
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.serve.openenv import openenv_app
from ferrule.tools.budget import Budget
from ferrule.worlds.openenv import OpenEnvWorld, remote_reward
from ferrule.worlds.openenv_wire import Broken, Refusal
from ferrule.worlds.session import ToolSession


@dataclass(frozen=True)
class Sums:
    """Keep a running sum until it is the wanted one; ``closed`` counts the sessions that were closed."""

    closed: list[str]
    name: str = "sums"

    def tasks(self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> list[Task]:
        return [
            Task(f"sum-{one}", f"Reach {one}.", answer=str(one), meta={"state": {"sum": one}}) for one in range(count)
        ]

    def start(self, task: Task, seed: int = 0) -> Session:
        state = {"sum": 0}

        def build(state: dict[str, int]) -> tuple[Tool, ...]:
            shape: dict[str, Any] = {
                "type": "object",
                "properties": {"amount": {"type": "integer"}},
                "required": ["amount"],
            }

            def add(amount: int) -> Any:
                if amount == 13:
                    threading.Event().wait(1.5)
                state["sum"] += amount
                return Observation(f"now {state['sum']}", data={"sum": state["sum"], "share": float("nan")})

            stop = Tool("stop", "Stop.", {"type": "object", "properties": {}}, lambda: str(state["sum"]), terminal=True)
            return Tool("add", "Add.", shape, add, effects="write", seconds=30.0), stop

        closed = self.closed

        class Closing(ToolSession):
            def close(self) -> None:
                closed.append(self.task.id)
                super().close()

        return Closing(task, build, state, budget=Budget(total=4), final=lambda state: dict(state))


@contextmanager
def _socket(url: str, path: str = "/ws", **headers: str) -> Iterator[ClientConnection]:
    with connect(url.replace("http", "ws", 1) + path, proxy=None, additional_headers=headers) as socket:
        yield socket


def _ask(socket: ClientConnection, kind: str, data: Mapping[str, Any] | None = None) -> Any:
    socket.send(json.dumps({"type": kind} | ({} if data is None else {"data": data})))
    answer = json.loads(socket.recv(timeout=60))
    return answer["data"] if answer["type"] != "error" else answer["data"]["code"]


def test_an_episode_from_reset_to_reward(serving: Callable[..., str]) -> None:
    closed: list[str] = []
    with _socket(serving(openenv_app(Sums(closed), tasks=50))) as socket:
        assert _ask(socket, "state") == {"episode_id": None, "step_count": 0, "task_id": None}
        assert _ask(socket, "step", {"answer": "1"}) == "VALIDATION_ERROR"  # nothing to step in yet
        first = _ask(socket, "reset", {"task_id": "sum-42", "episode_id": "mine"})
        assert (first["observation"]["prompt"], first["reward"], first["done"]) == ("Reach 42.", None, False)
        assert first["observation"]["tools"][0]["input_schema"]["required"] == ["amount"]
        assert "42" not in json.dumps({**first["observation"], "prompt": "", "text": "", "task_id": ""})
        seen = _ask(socket, "step", {"name": "add", "arguments": {"amount": 40}})
        assert seen["observation"] == {"text": "now 40", "status": "ok", "data": {"sum": 40, "share": None}}
        styled = _ask(
            socket, "step", {"type": "call_tool", "tool_name": "add", "arguments": {"amount": 2}, "metadata": {}}
        )
        assert styled["observation"]["result"] == {"sum": 42, "share": None}
        wrong = _ask(socket, "step", {"type": "call_tool", "tool_name": "subtract", "arguments": {}})
        assert wrong["observation"]["error"]["error_type"] == "tool_not_found"
        assert _ask(socket, "step", {"answer": 42}) == {
            "observation": {"text": "", "status": "ok"},
            "reward": 1.0,
            "done": True,
        }
        assert _ask(socket, "state") == {"episode_id": "mine", "step_count": 4, "task_id": "sum-42"}
        assert _ask(socket, "step", {"answer": "42"}) == "VALIDATION_ERROR"  # a second try has no second reward
        assert _ask(socket, "reset", {"seed": 7})["observation"]["task_id"] == "sum-7"
        assert closed == ["sum-42"]


@pytest.mark.parametrize(
    ("amounts", "answer", "reward"),
    [((3,), "3", 1.0), ((2,), "3", 0.0), ((3,), "4", 0.0)],
)
def test_the_reward_looks_at_answer_and_state(
    serving: Callable[..., str], amounts: Sequence[int], answer: str, reward: float
) -> None:
    with _socket(serving(openenv_app(Sums([])))) as socket:
        _ask(socket, "reset", {"task_id": "sum-3"})
        for amount in amounts:
            _ask(socket, "step", {"name": "add", "arguments": {"amount": amount}})
        assert _ask(socket, "step", {"answer": answer})["reward"] == reward


def test_other_ends_of_an_episode(serving: Callable[..., str]) -> None:
    def count(task: Task, paths: Sequence[Trajectory]) -> list[Score]:
        # 10 points a call, and one for an answer
        return [Score(10.0 * len(path.calls) + (path.answer is not None)) for path in paths]

    with _socket(serving(openenv_app(Sums([]), steps=2, reward=count))) as socket:
        _ask(socket, "reset")
        seen = _ask(socket, "step", {"name": "stop"})
        assert (seen["done"], seen["reward"]) == (True, 11.0)
        _ask(socket, "reset")
        assert not _ask(socket, "step", {"name": "add", "arguments": {"amount": 1}})["done"]
        last = _ask(socket, "step", {"name": "add", "arguments": {"amount": 1}})
        assert (last["done"], last["reward"]) == (True, 20.0)


def test_resets_without_a_seed_go_through_the_tasks(serving: Callable[..., str]) -> None:
    with _socket(serving(openenv_app(Sums([]), tasks=3))) as socket:
        ids = [_ask(socket, "reset")["observation"]["task_id"] for _ in range(4)]
    assert ids == ["sum-0", "sum-1", "sum-2", "sum-0"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"task_id": "sum-99999"}, "VALIDATION_ERROR"),
        ({"seed": -1}, "VALIDATION_ERROR"),
        ({"seed": "x"}, "VALIDATION_ERROR"),
        ({"episode_id": "x" * 300}, "VALIDATION_ERROR"),
    ],
)
def test_resets_that_do_not_fit_leave_the_episode_alone(
    serving: Callable[..., str], data: dict[str, Any], code: str
) -> None:
    with _socket(serving(openenv_app(Sums([])))) as socket:
        _ask(socket, "reset", {"task_id": "sum-3"})
        assert _ask(socket, "reset", data) == code
        assert _ask(socket, "state")["task_id"] == "sum-3"


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"name": 5},
        {"name": "add", "arguments": []},
        {"name": "add", "answer": "x"},
        {"answer": True},
        {"type": "dance"},
        {"type": "list_tools", "tool_name": "add"},
    ],
)
def test_actions_that_do_not_fit_run_nothing(serving: Callable[..., str], action: dict[str, Any]) -> None:
    with _socket(serving(openenv_app(Sums([])))) as socket:
        _ask(socket, "reset")
        assert _ask(socket, "step", action) == "VALIDATION_ERROR"
        assert _ask(socket, "state")["step_count"] == 0


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", "INVALID_JSON"),
        ("[" * 5000, "INVALID_JSON"),
        ("7", "UNKNOWN_TYPE"),
        ('{"type": "dance"}', "UNKNOWN_TYPE"),
        ('{"type": "step"}', "VALIDATION_ERROR"),
        ('{"type": "reset", "data": []}', "VALIDATION_ERROR"),
        ("x" * 20_000, "VALIDATION_ERROR"),
        (b"bytes", "VALIDATION_ERROR"),
    ],
)
def test_a_bad_frame_closes_the_connection(serving: Callable[..., str], frame: str | bytes, code: str) -> None:
    with _socket(serving(openenv_app(Sums([]), largest=10_000))) as socket:
        socket.send(frame)
        assert json.loads(socket.recv(timeout=60))["data"]["code"] == code
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=60)


def test_a_step_that_takes_too_long_closes_the_connection(serving: Callable[..., str]) -> None:
    closed: list[str] = []
    with _socket(serving(openenv_app(Sums(closed), seconds=0.3))) as socket:
        _ask(socket, "reset", {"task_id": "sum-1"})
        assert _ask(socket, "step", {"name": "add", "arguments": {"amount": 13}}) == "SESSION_ERROR"
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=60)
    _until(lambda: closed == ["sum-1"])


def _until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came true")


def test_a_failing_reward_ends_the_connection_and_says_so(serving: Callable[..., str]) -> None:
    def broken(task: Task, paths: Sequence[Trajectory]) -> list[Score]:
        raise KeyError("no key")

    with _socket(serving(openenv_app(Sums([]), reward=broken))) as socket:
        _ask(socket, "reset")
        assert _ask(socket, "step", {"answer": "1"}) == "EXECUTION_ERROR"


def test_sessions_are_counted_and_freed(serving: Callable[..., str]) -> None:
    closed: list[str] = []
    url = serving(openenv_app(Sums(closed), max_sessions=1))
    with _socket(url) as socket:
        _ask(socket, "reset", {"task_id": "sum-5"})
        with _socket(url) as second:
            assert json.loads(second.recv(timeout=60))["data"]["code"] == "CAPACITY_REACHED"
    _until(lambda: closed == ["sum-5"])
    with _socket(url) as socket:
        assert _ask(socket, "reset", {"task_id": "sum-6"})["done"] is False


def test_silence_ends_a_session(serving: Callable[..., str]) -> None:
    with _socket(serving(openenv_app(Sums([]), idle=0.2))) as socket:
        assert json.loads(socket.recv(timeout=60))["data"]["code"] == "SESSION_ERROR"
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=60)


def test_pages_from_elsewhere_may_not_connect(serving: Callable[..., str]) -> None:
    url = serving(openenv_app(Sums([])))
    with pytest.raises(InvalidStatus), _socket(url, Origin="http://evil.example"):
        pass
    with _socket(url, Origin="http://localhost:3000") as socket:
        assert _ask(socket, "reset")["done"] is False
    assert (
        httpx.post(f"{url}/mcp", json={}, headers={"origin": "http://evil.example"}, trust_env=False).status_code == 403
    )


def test_the_http_routes(serving: Callable[..., str]) -> None:
    url = serving(openenv_app(Sums([]), max_sessions=2))
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as web:
        assert web.get("/health").json() == {"status": "healthy"}
        assert web.get("/metadata").json()["name"] == "sums"
        assert set(web.get("/schema").json()) == {"action", "observation", "state"}

        def rpc(method: str, **params: Any) -> Any:
            answer = web.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).json()
            return answer.get("result", answer.get("error"))

        name = rpc("openenv/session/create")["session_id"]
        assert rpc("tools/list", session_id=name)["code"] == -32000  # no reset yet
        with _socket(url, f"/ws?session_id={name}") as socket:
            _ask(socket, "reset", {"task_id": "sum-2"})
            assert [tool["name"] for tool in rpc("tools/list", session_id=name)["tools"]] == ["add", "stop"]
            assert rpc("tools/call", session_id=name, name="add", arguments={"amount": 2})["data"]["sum"] == 2
            assert rpc("tools/call", session_id=name, name="nothing")["isError"] is True
            assert _ask(socket, "step", {"answer": "2"})["reward"] == 1.0
            with _socket(url, f"/ws?session_id={name}") as second:
                assert json.loads(second.recv(timeout=60))["data"]["code"] == "SESSION_ERROR"
        assert rpc("openenv/session/close", session_id=name)["closed"] is True
        assert rpc("openenv/session/close", session_id=name)["code"] == -32602
        assert rpc("openenv/session/dance", session_id=name)["code"] == -32602
        assert web.post("/mcp", content=b"{").status_code == 400
        assert [bool(rpc("openenv/session/create").get("session_id")) for _ in range(3)] == [True, True, False]


def test_a_world_without_tasks_is_refused() -> None:
    class Empty(Sums):
        def tasks(
            self, split: str, count: int, *, seed: int = 0, levels: Sequence[int] = (1, 2, 3, 4, 5)
        ) -> list[Task]:
            return []

    with pytest.raises(ValueError, match="no tasks of split 'test'"):
        openenv_app(Empty([]))


# ------------------------------------------------------------------------------------------------------- our client


def test_a_whole_rollout_over_the_wire(serving: Callable[..., str]) -> None:
    remote = OpenEnvWorld(serving(openenv_app(Sums([]), tasks=50)))
    (task,) = remote.tasks("train", 1)
    task = replace(task, meta={"reset": {"task_id": "sum-3"}})
    calls = (Call("add", {"amount": 3}, id="1"),), (Call("answer", {"answer": "3"}, id="2"),)
    script = [Message("assistant", calls=one) for one in calls]
    (episode,) = drive(ToolLoop(), [task], remote, Scripted(script))
    assert episode.trajectories[0].answer == "3"
    assert episode.trajectories[0].final == {"reward": 1.0, "done": True, "steps": 2}
    assert [seen.text for _, seen in episode.trajectories[0].calls] == ["now 3", "3"]


@contextmanager
def _odd(
    handle: Callable[[ServerConnection, dict[str, Any]], None], left: threading.Event | None = None
) -> Iterator[str]:
    """Serve WebSocket connections that answer resets properly and everything else with ``handle``."""

    def talk(socket: ServerConnection) -> None:
        for text in socket:
            frame = json.loads(text)
            if frame["type"] == "reset":
                socket.send(
                    json.dumps({"type": "observation", "data": {"observation": {"message": "go"}, "done": False}})
                )
            else:
                handle(socket, frame)
        if left is not None:
            left.set()

    with serve(talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("{", "no frame of the protocol"),
        ("[]", "no frame of the protocol"),
        ('{"type": "observation"}', "no frame of the protocol"),
        ("x" * 5000, "closed the connection"),
        (None, "closed the connection"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_left(reply: str | None, said: str) -> None:
    def handle(socket: ServerConnection, frame: dict[str, Any]) -> None:
        socket.close() if reply is None else socket.send(reply)

    with _odd(handle) as url:
        session = OpenEnvWorld(url, kind="generic", seconds=20.0, largest=2000).start(Task("t", ""))
        first, second = (session.act(Call("step", {"a": 1})) for _ in range(2))
        assert (first.status, second.status) == ("error", "error")
        assert said in first.text
        assert first.data == {"lost": True}
        with pytest.raises(RuntimeError, match="cannot be branched"):
            session.fork()
        session.close()


def test_a_time_out_closes_the_socket_at_once() -> None:
    left = threading.Event()
    with _odd(lambda socket, frame: None, left) as url:
        session = OpenEnvWorld(url, kind="generic", seconds=0.5).start(Task("t", ""))
        assert session.act(Call("step", {"a": 1})).status == "timeout"
        assert left.wait(60)  # the server sees the end although nobody closed the session
        assert session.act(Call("step", {"a": 1})).status == "error"


def test_a_refused_step_leaves_the_session_usable() -> None:
    def handle(socket: ServerConnection, frame: dict[str, Any]) -> None:
        if frame["data"]["a"] == 1:
            socket.send(json.dumps({"type": "error", "data": {"message": "not one", "code": "EXECUTION_ERROR"}}))
        else:
            socket.send(json.dumps({"type": "observation", "data": {"observation": {"x": 2}, "reward": 0.5}}))

    with _odd(handle) as url:
        session = OpenEnvWorld(url, kind="generic", seconds=20.0, calls=3).start(Task("t", ""))
        refused = session.act(Call("step", {"a": 1}))
        assert (refused.status, refused.text) == ("error", "the server refused: not one (EXECUTION_ERROR)")
        assert session.act(Call("step", {"a": 2})).text == '{"x":2}'
        branch = session.fork()
        assert session.act(Call("step", {"a": 2})).status == "ok"
        assert session.act(Call("step", {"a": 2})).status == "refused"  # three calls an episode
        assert session.act(Call("stop")).status == "unknown_tool"
        # The branch has one of the three calls left, and the rewards up to the branching.
        assert branch.act(Call("step", {"a": 2})).status == "ok"
        assert branch.act(Call("step", {"a": 2})).status == "refused"
        assert [one.final()["reward"] for one in (session, branch)] == [1.0, 1.0]
        (score,) = remote_reward(Task("t", ""), [Trajectory(Task("t", ""), (), final=branch.final())])
        assert score.value == 1.0
        branch.close()
        session.close()


def test_what_the_client_refuses() -> None:
    with pytest.raises(ValueError, match="must start with"):
        OpenEnvWorld("localhost:8000")
    with pytest.raises(ValueError, match=r"kind is 'tool'.*tools"):
        OpenEnvWorld("http://localhost", kind="tool")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="above 0"):
        OpenEnvWorld("http://localhost", seconds=0)
    with pytest.raises(Broken, match=r"no OpenEnv server at ws://127\.0\.0\.1:9/ws"):
        OpenEnvWorld("http://127.0.0.1:9").start(Task("t", ""))


def test_a_full_server_is_said(serving: Callable[..., str]) -> None:
    world = OpenEnvWorld(serving(openenv_app(Sums([]), max_sessions=1)))
    session = world.start(Task("t", ""))
    with pytest.raises(Refusal, match="1 sessions are open already"):
        world.start(Task("t", ""))
    session.close()


def test_the_remote_world_keeps_the_rules_of_a_world(serving: Callable[..., str]) -> None:
    check_world(OpenEnvWorld(serving(openenv_app(Sums([]), tasks=50))))


def test_tasks_are_resets_with_seeds(serving: Callable[..., str]) -> None:
    world = OpenEnvWorld(serving(openenv_app(Sums([]), tasks=50)))
    train, test = world.tasks("train", 3), world.tasks("test", 3)
    # Even seeds are for training, odd ones for testing; the server takes the task at seed modulo 50.
    assert [task.prompt for task in train] == ["Reach 0.", "Reach 2.", "Reach 4."]
    assert [task.prompt for task in test] == ["Reach 1.", "Reach 3.", "Reach 5."]
    assert world.tasks("train", 3) == train
    fixed = replace(world, prompt="Go.").tasks("train", 2, seed=1)
    assert [task.prompt for task in fixed] == ["Go.", "Go."]
    read = replace(world, prompt=lambda seen: str(seen["task_id"])).tasks("train", 1)
    assert read[0].prompt == "sum-0"
