"""OpenEnv's own client against our server, and its own server classes against our client."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ferrule.core.records import Call, Task, Trajectory
from ferrule.serve.openenv import openenv_app
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.openenv import OpenEnvWorld, remote_reward

_GENERIC = """
import asyncio, json, sys
from openenv.core import GenericEnvClient

async def main():
    said = {}
    async with GenericEnvClient(base_url=sys.argv[1]) as env:
        first = await env.reset(task_id=sys.argv[2])
        said["first"] = first.observation
        seen = await env.step({"name": "calculator", "arguments": {"expression": sys.argv[3]}})
        said["seen"] = [seen.observation, seen.reward, seen.done]
        last = await env.step({"answer": sys.argv[4]})
        said["last"] = [last.reward, last.done]
        said["state"] = await env.state()
        again = await env.reset(seed=0)
        wrong = await env.step({"answer": "no number"})
        said["wrong"] = [again.done, wrong.reward, wrong.done]
    print(json.dumps(said))
asyncio.run(main())
"""

_TOOLS = """
import asyncio, json, sys
from openenv.core.mcp_client import MCPToolClient

async def main():
    async with MCPToolClient(base_url=sys.argv[1]) as env:
        await env.reset(task_id=sys.argv[2])
        tools = [tool.name for tool in await env.list_tools()]
        value = await env.call_tool("calculator", expression=sys.argv[3])
        state = await env.state()
        print(json.dumps({"tools": tools, "value": value, "steps": state.step_count}))
asyncio.run(main())
"""


@pytest.mark.integration
def test_their_client_drives_our_world(peer: Callable[..., Any], serving: Callable[..., str]) -> None:
    world = Arithmetic("expression")
    task = world.tasks("test", 256, seed=0)[3]
    url = serving(openenv_app(world))
    said = peer("one", _GENERIC, url, task.id, "6 * 7", str(task.answer))
    assert said["first"]["prompt"] == task.prompt
    assert [tool["name"] for tool in said["first"]["tools"]] == ["calculator", "python"]
    observation, reward, done = said["seen"]
    assert (observation["text"], observation["status"], reward, done) == ("42", "ok", None, False)
    assert said["last"] == [1.0, True]
    assert (said["state"]["step_count"], said["state"]["task_id"]) == (2, task.id)
    assert said["wrong"] == [False, 0.0, True]


@pytest.mark.integration
def test_their_tool_client_drives_our_world(peer: Callable[..., Any], serving: Callable[..., str]) -> None:
    world = Arithmetic("expression")
    task = world.tasks("test", 256, seed=0)[0]
    said = peer("one", _TOOLS, serving(openenv_app(world)), task.id, "6 * 7")
    assert said["tools"] == ["calculator", "python"]
    assert said["value"] in (42, "42")
    assert said["steps"] == 1


_ECHO = """
import asyncio, socket, sys, time
import uvicorn
from openenv.core.env_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

class EchoAction(Action):
    message: str

class EchoObservation(Observation):
    echoed: str
    count: int

class Echo(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self._state = State(episode_id="", step_count=0)
        self.seed = 0

    def reset(self, seed=None, episode_id=None, **kwargs):
        self.seed = seed or 0
        self._state = State(episode_id=episode_id, step_count=0)
        return EchoObservation(echoed=f"ready with seed {self.seed}", count=0, done=False, reward=0.0)

    def step(self, action, timeout_s=None, **kwargs):
        self._state.step_count += 1
        if action.message == "sleep":
            time.sleep(3)
        said = str(time.time()) if action.message == "clock" else action.message
        return EchoObservation(
            echoed=said, count=self._state.step_count, done=action.message == "bye", reward=float(len(action.message))
        )

    @property
    def state(self):
        return self._state

app = create_fastapi_app(Echo, EchoAction, EchoObservation, max_concurrent_envs=8)
"""

_MCP = """
import asyncio, socket, sys
import uvicorn
from fastmcp import FastMCP
from openenv.core.env_server import create_fastapi_app
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Observation, State

class Counter(MCPEnvironment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        server = FastMCP("counter")
        self._sum = 0
        self._state = State(episode_id="", step_count=0)

        @server.tool
        def add(amount: int) -> int:
            "Add to the sum."
            self._sum += amount
            return self._sum

        super().__init__(server)

    def reset(self, seed=None, episode_id=None, **kwargs):
        self._sum = 0
        return Observation(done=False, reward=0.0, metadata={})

    def _step_impl(self, action, timeout_s=None, **kwargs):
        return Observation(done=False, reward=None, metadata={"error": "unknown action"})

    @property
    def state(self):
        return self._state

app = create_fastapi_app(Counter, CallToolAction, CallToolObservation, max_concurrent_envs=8)
"""

_RUN = """
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
asyncio.run(uvicorn.Server(uvicorn.Config(app, log_level="error")).serve(sockets=[listening]))
"""


@contextmanager
def _their_server(python: Path, program: str) -> Iterator[str]:
    with subprocess.Popen([str(python), "-c", program + _RUN], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.mark.integration
def test_our_client_drives_their_echo_server(peers: dict[str, Path]) -> None:
    with _their_server(peers["one"], _ECHO) as url:
        world = OpenEnvWorld(url, seconds=60.0)
        tasks = world.tasks("test", 2, seed=3)
        assert "ready with seed" in tasks[0].prompt
        session = world.start(tasks[0])
        (step,) = session.tools
        assert (step.name, step.parameters["required"]) == ("step", ["message"])
        assert "metadata" not in step.parameters["properties"]
        seen = session.act(Call("step", {"message": "hello"}))
        assert (seen.status, seen.data) == ("ok", {"echoed": "hello", "count": 1})
        assert "reward" not in seen.text
        assert session.act(Call("step", {"massage": "x"})).status == "malformed"
        branch = session.fork()
        assert session.act(Call("step", {"message": "bye"})).terminal
        # The branch is at one step, like the session when it was branched: its next step is the second.
        assert branch.act(Call("step", {"message": "abcd"})).data == {"echoed": "abcd", "count": 2}
        # Rewards are lengths: hello + bye = 8, hello + abcd = 9.
        assert session.final() == {"reward": 8.0, "done": True, "steps": 2}
        assert branch.final()["reward"] == 9.0
        session.close()
        assert session.act(Call("step", {"message": "late"})).status == "refused"
        assert branch.act(Call("step", {"message": "clock"})).status == "ok"
        with pytest.raises(RuntimeError, match="answer to step 3"):
            branch.fork()
        branch.close()
        assert branch.act(Call("step", {"message": "late"})).status == "error"


@pytest.mark.integration
def test_a_time_out_closes_the_socket_and_no_reply_shifts(peers: dict[str, Path]) -> None:
    with _their_server(peers["one"], _ECHO) as url:
        session = OpenEnvWorld(url, seconds=1.0).start(Task("t", ""))
        seen = session.act(Call("step", {"message": "sleep"}))
        assert seen.status == "timeout"
        after = session.act(Call("step", {"message": "hello"}))
        assert after.status == "error"  # and not the echo of "sleep"
        assert "the connection is closed" in after.text
        session.close()


@pytest.mark.integration
def test_our_client_drives_their_tool_environment(peers: dict[str, Path]) -> None:
    with _their_server(peers["one"], _MCP) as url:
        session = OpenEnvWorld(url, seconds=60.0).start(Task("t", ""))
        (add,) = session.tools
        assert (add.name, add.parameters["required"]) == ("add", ["amount"])
        assert session.act(Call("add", {"amount": 40})).text == "40"
        assert session.act(Call("add", {"amount": 2})).text == "42"
        branch = session.fork()
        assert branch.act(Call("add", {"amount": 1})).text == "43"
        branch.close()
        session.close()


def test_our_client_drives_our_server(serving: Callable[..., str]) -> None:
    world = Arithmetic("expression")
    url = serving(openenv_app(world, max_sessions=2))
    remote = OpenEnvWorld(url)
    (task,) = remote.tasks("test", 1, seed=5)
    inner = next(one for one in world.tasks("test", 256, seed=0) if one.prompt == task.prompt)
    session = remote.start(task)
    assert [tool.name for tool in session.tools] == ["calculator", "python", "answer"]
    assert session.act(Call("calculator", {"expression": "6 * 7"})).text == "42"
    assert session.act(Call("calculator", {"expression": "6 *"})).status == "error"
    last = session.act(Call("answer", {"answer": str(inner.answer)}))
    assert (last.text, last.terminal) == (str(inner.answer), True)
    assert session.final() == {"reward": 1.0, "done": True, "steps": 3}
    (score,) = remote_reward(task, [Trajectory(task, (), final=session.final())])
    assert score.value == 1.0
    session.close()
