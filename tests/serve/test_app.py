"""The HTTP server as a process: forms, keys, sizes, back-pressure, metrics, drain."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.serve.serving_kit import Kit
from tests.serve.serving_server import KEY, act, serving

from ferrule.serve.app import tools_app
from ferrule.serve.host import InProcess

SLOW = '''
import time

from ferrule.tools import tool


@tool
def nap(seconds: float) -> str:
    """Sleep."""
    time.sleep(seconds)
    return "awake"


@tool
def hold(path: str) -> str:
    """Wait until a file exists."""
    import pathlib

    for _ in range(3000):
        if pathlib.Path(path).exists():
            return "there"
        time.sleep(0.01)
    return "never"


@tool
def write_down(path: str, line: str) -> str:
    """Append a line to a file."""
    time.sleep(0.02)
    with open(path, "a") as file:
        file.write(line + "\\n")
    return line
'''


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    with serving("tools", "python", "calculator", "--workers", "2", "--max-body", "100000") as client:
        yield client


@pytest.fixture
def slow(tmp_path: Path) -> str:
    path = tmp_path / "slow.py"
    path.write_text(SLOW)
    return str(path)


def test_plain_calls_keep_state_by_episode(server: httpx.Client) -> None:
    for name, value in (("p1", 1), ("p2", 2), ("p%2F3%3F", 3)):
        assert act(server, name, "python", code=f"x = {value}")["status"] == "ok"
    assert act(server, "p1", "python", code="x")["text"] == "1"
    seen = act(server, "p%2F3%3F", "python", code="x")
    assert seen["text"] == "3"
    assert seen["data"]["value"] == "3"
    assert set(seen) == {"text", "status", "data", "seconds", "artifacts", "repairs", "terminal", "peak_mb"}
    assert server.post("/episodes/p2/end").json() == {"ended": True}
    assert "NameError" in act(server, "p2", "python", code="x")["text"]


def test_a_call_may_name_its_time_limit(server: httpx.Client) -> None:
    seen = act(server, "limit", "python", 0.3, code="while True: pass")
    assert seen["status"] == "timeout"
    assert act(server, "limit", "python", 5, code="1")["status"] == "ok"


def test_episodes_can_be_branched(server: httpx.Client) -> None:
    act(server, "trunk", "python", code="x = [1]")
    branch = server.post("/episodes/trunk/fork").json()["data"]["episode"]
    assert act(server, branch, "python", code="x.append(2); x")["text"] == "[1, 2]"
    assert act(server, "trunk", "python", code="x")["text"] == "[1]"


def test_tools_are_described(server: httpx.Client) -> None:
    listed = server.get("/tools").json()["tools"]
    assert [one["name"] for one in listed] == ["python", "calculator"]
    assert listed[0]["parameters"]["required"] == ["code"]
    assert listed[0]["effects"] == "write"


def test_the_batch_form(server: httpx.Client) -> None:
    body = {"trajectory_ids": ["b1", "b2"], "actions": ["<python>print(6*7)</python>", "?"], "finish": [False, False]}
    said = server.post("/get_observation", json=body).json()
    assert set(said) == {"observations", "dones", "valids", "processing_time_ms", "queue_time_ms"}
    assert said["observations"][0] == "\n<result>\n42\n</result>\n"
    assert (said["dones"], said["valids"]) == ([False, False], [True, False])


def test_requests_without_the_key_are_refused(server: httpx.Client) -> None:
    for headers in ({"authorization": ""}, {"authorization": f"Bearer {KEY}x"}, {"authorization": KEY}):
        refused = server.post("/episodes/k/act", json={"name": "python"}, headers=headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert server.get("/metrics", headers=headers).status_code == 401
        assert server.get("/health", headers=headers).json()["status"] == "healthy"


@pytest.mark.parametrize(
    ("path", "content", "status", "said"),
    [
        ("/episodes/x/act", b"{nope", 400, "not JSON"),
        ("/episodes/x/act", b"[" * 50_000, 400, "not JSON"),
        ("/episodes/x/act", b'"text"', 400, "name"),
        ("/episodes/x/act", b'{"name": "python", "arguments": []}', 400, "arguments"),
        ("/episodes/x/act", b'{"name": "python", "seconds": -1}', 400, "seconds"),
        ("/episodes/" + "x" * 300 + "/act", b'{"name": "python"}', 400, "256"),
        ("/get_observation", b'{"trajectory_ids": ["a"], "actions": []}', 400, "actions has 0 items"),
        ("/get_observation", b"x" * 100_001, 413, "100000"),
        ("/nothing", b"{}", 404, "Not Found"),
    ],
)
def test_bad_requests_say_what_is_wrong(
    server: httpx.Client, path: str, content: bytes, status: int, said: str
) -> None:
    answer = server.post(path, content=content)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_size_is_limited_for_requests_that_do_not_say_theirs(server: httpx.Client) -> None:
    def pieces(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield b" " * 10_000

    assert server.post("/get_observation", content=pieces(30)).status_code == 413
    assert server.post("/get_observation", content=pieces(5)).status_code == 400


def test_metrics_count_by_tool_and_status(server: httpx.Client) -> None:
    def value(line: str) -> float:
        found = [one for one in server.get("/metrics").text.splitlines() if one.startswith(line)]
        return float(found[0].split()[-1]) if found else 0.0

    ok, bad = (
        'ferrule_calls_total{status="ok",tool="calculator"}',
        'ferrule_calls_total{status="unknown_tool",tool="unknown"}',
    )
    before = value(ok), value(bad), value('ferrule_call_seconds_count{tool="calculator"}')
    act(server, "m", "calculator", expression="1+1")
    act(server, "m", "calculatr", expression="1+1")
    after = value(ok), value(bad), value('ferrule_call_seconds_count{tool="calculator"}')
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]
    assert value("ferrule_live_episodes") >= 1
    assert value("ferrule_workers") == 2
    assert value("ferrule_worker_restarts") == 0
    assert value("ferrule_queue_depth") == 0
    assert value("ferrule_resident_memory_bytes") > 10_000_000


def test_back_pressure_has_statuses_of_its_own(slow: str, tmp_path: Path) -> None:
    """One episode at most, one call at most: the second episode gets 429, the second call gets 429."""
    with serving("tools", slow, "--workers", "1", "--max-episodes", "1", "--queue", "1", key=None) as client:
        act(client, "a", "nap", seconds=0)
        full = client.post("/episodes/b/act", json={"name": "nap", "arguments": {"seconds": 0}})
        assert (full.status_code, full.json()["data"]["reason"]) == (429, "too_many_episodes")
        assert int(full.headers["retry-after"]) > 0
        with ThreadPoolExecutor() as pool:
            held = pool.submit(act, client, "a", "hold", path=str(tmp_path / "go"))
            while client.get("/health").json()["running_calls"] == 0:
                time.sleep(0.01)
            busy = client.post("/episodes/a/act", json={"name": "nap", "arguments": {"seconds": 0}})
            assert (busy.status_code, busy.json()["data"]["reason"]) == (429, "queue_full")
            assert busy.json()["status"] == "refused"
            (tmp_path / "go").touch()
            assert held.result()["text"] == "there"


def test_a_server_without_a_key_answers_this_machine_only(slow: str) -> None:
    """A web page's request carries its origin, a rebound name its host: both are refused."""
    with serving("tools", slow, "--workers", "1", key=None) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/health", headers={"origin": "http://localhost:3000"}).status_code == 200
        assert client.get("/tools", headers={"origin": "https://pages.example"}).status_code == 403
        assert client.get("/tools", headers={"host": "pages.example"}).status_code == 403


def test_sigterm_lets_running_calls_end(slow: str, tmp_path: Path) -> None:
    with serving("tools", slow, "--workers", "1", key=None) as client, ThreadPoolExecutor() as pool:
        held = pool.submit(act, client, "a", "hold", path=str(tmp_path / "go"))
        while client.get("/health").json()["running_calls"] == 0:
            time.sleep(0.01)
        os.kill(client.process.pid, signal.SIGTERM)  # type: ignore[attr-defined]
        while (health := client.get("/health")).json()["status"] != "draining":
            time.sleep(0.01)
        assert health.status_code == 503
        refused = client.post("/episodes/b/act", json={"name": "nap", "arguments": {"seconds": 0}})
        assert (refused.status_code, refused.json()["data"]["reason"]) == (503, "draining")
        (tmp_path / "go").touch()
        assert held.result()["text"] == "there"
        assert client.process.wait(30) == 0  # type: ignore[attr-defined]


def test_a_drain_under_load_loses_no_answer(slow: str, tmp_path: Path) -> None:
    """Eight clients call without a pause while the server ends: what ran was answered, and the other way round."""
    path = tmp_path / "lines"
    with serving("tools", slow, "--workers", "2", "--drain-seconds", "3", key=None) as client:

        def load(name: str) -> list[str]:
            answers: list[str] = []
            with httpx.Client(base_url=client.base_url, timeout=60, trust_env=False) as mine:
                while True:
                    arguments = {"path": str(path), "line": f"{name} {len(answers)}"}
                    try:
                        said = mine.post(f"/episodes/{name}/act", json={"name": "write_down", "arguments": arguments})
                    except httpx.TransportError:
                        return answers
                    if said.status_code == 503:
                        assert said.headers["connection"] == "close"
                        return answers
                    answers.append(said.json()["text"])

        with ThreadPoolExecutor(8) as pool:
            loads = [pool.submit(load, f"load{i}") for i in range(8)]
            while not path.exists() or path.read_text().count("\n") < 40:
                time.sleep(0.01)
            client.process.send_signal(signal.SIGTERM)  # type: ignore[attr-defined]
            answers = [line for load in loads for line in load.result()]
        assert client.process.wait(30) == 0  # type: ignore[attr-defined]
    assert sorted(answers) == sorted(path.read_text().splitlines())


def test_a_host_with_a_failing_worker_is_degraded() -> None:
    class Failing(InProcess):
        def problems(self) -> tuple[str, ...]:
            return ("worker 1 of 2: 3 starts in a row failed; the log says why",)

    async def work() -> httpx.Response:
        host = Failing(lambda episode: Kit().open(episode))
        transport = httpx.ASGITransport(tools_app(host))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/health")

    health = asyncio.run(work())
    assert health.status_code == 200
    assert health.json()["status"] == "degraded"
    assert health.json()["problems"] == ["worker 1 of 2: 3 starts in a row failed; the log says why"]


def test_a_killed_worker_is_told_over_http(slow: str) -> None:
    with serving("tools", "python", "--workers", "1", key=None) as client:
        act(client, "a", "python", code="x = 1")
        children = Path(f"/proc/{client.process.pid}/task/{client.process.pid}/children")  # type: ignore[attr-defined]
        (worker,) = children.read_text().split()
        os.kill(int(worker), signal.SIGKILL)
        told = act(client, "a", "python", code="x")
        assert (told["status"], told["data"]["reason"]) == ("error", "worker_died")
        assert "NameError" in act(client, "a", "python", code="x")["text"]
        assert client.get("/health").json()["worker_restarts"] == 1


def test_answers_are_json_whatever_a_tool_returns(tmp_path: Path) -> None:
    """Not-a-number has no place in JSON: it arrives as null; an object of no known form as its repr."""
    path = tmp_path / "odd.py"
    path.write_text(
        "from ferrule.core.records import Observation\nfrom ferrule.tools import tool\n\n\n"
        '@tool\ndef odd() -> Observation:\n    """Odd."""\n'
        '    return Observation("t", data={"nan": float("nan"), "thing": object, "lone": "\\ud800"})\n'
    )
    with serving("tools", str(path), "--workers", "1", key=None) as client:
        answer = client.post("/episodes/a/act", json={"name": "odd"})
        data = json.loads(answer.content)["data"]
        assert data["thing"] == "<class 'object'>"
        assert answer.json()["text"] == "t"
