"""Our MCP server's protocol, message by message, over HTTP and stdio; and our client against it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from tests.serve import mcp_toolbox

from ferrule.core.records import Artifact, Call, Observation, Tool
from ferrule.serve.mcp import mcp_routes
from ferrule.serve.mcp_rpc import McpSession, described, near, plain, result
from ferrule.tools.invoke import invoke
from ferrule.tools.mcp import connect

_COMMAND = [sys.executable, "-m", "tests.serve.mcp_toolbox"]
_ROOT = str(Path(__file__).parents[2])


def _ask(number: Any, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def _hello(version: str = "2025-06-18") -> dict[str, Any]:
    return _ask(0, "initialize", protocolVersion=version, capabilities={}, clientInfo={"name": "t", "version": "1"})


@pytest.fixture
def web(serving: Callable[..., str]) -> Iterator[httpx.Client]:
    host = mcp_toolbox.host()
    routes = mcp_routes(host, largest=10_000, sessions=3, origins=["https://friend.example"])
    with httpx.Client(base_url=serving(Starlette(routes=routes)), trust_env=False, timeout=60) as client:
        client.host = host  # type: ignore[attr-defined]
        yield client


def _open(web: httpx.Client, version: str = "2025-06-18") -> dict[str, str]:
    answer = web.post("/mcp", json=_hello(version))
    assert answer.status_code == 200
    return {"mcp-session-id": answer.headers["mcp-session-id"]}


def test_a_session_is_an_episode_and_delete_ends_it(web: httpx.Client) -> None:
    one, two = _open(web), _open(web)
    assert (
        web.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=one).status_code == 202
    )

    def add(amount: int, session: dict[str, str]) -> str:
        answer = web.post("/mcp", json=_ask(1, "tools/call", name="add", arguments={"amount": amount}), headers=session)
        return str(answer.json()["result"]["content"][0]["text"])

    # 1 + 2 = 3 in one episode, 10 + 20 = 30 in the other.
    assert [add(1, one), add(10, two), add(2, one), add(20, two)] == ["1", "10", "3", "30"]
    assert web.host.figures()["live"] == 2  # type: ignore[attr-defined]
    assert web.delete("/mcp", headers=one).status_code == 204
    assert web.host.figures()["live"] == 1  # type: ignore[attr-defined]
    assert web.post("/mcp", json=_ask(2, "ping"), headers=one).status_code == 404
    assert web.delete("/mcp", headers=one).status_code == 404
    assert web.post("/mcp", json=_ask(2, "ping"), headers=two).json() == {"jsonrpc": "2.0", "id": 2, "result": {}}


@pytest.mark.parametrize(
    ("asked", "agreed"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ],
)
def test_the_revision_is_negotiated(web: httpx.Client, asked: str, agreed: str) -> None:
    said = web.post("/mcp", json=_hello(asked)).json()["result"]
    assert said["protocolVersion"] == agreed
    assert said["capabilities"] == {"tools": {"listChanged": False}}


def test_what_the_http_face_refuses(web: httpx.Client) -> None:
    session = _open(web)
    ping = _ask(1, "ping")

    def status(**sent: Any) -> int:
        headers = sent.pop("headers", session)
        return web.post("/mcp", headers=headers, **sent).status_code

    assert status(json=ping) == 200
    assert status(json=ping, headers={}) == 400  # no session
    assert status(json=ping, headers={"mcp-session-id": "made-up"}) == 404
    assert status(json=ping, headers=session | {"mcp-protocol-version": "1999-01-01"}) == 400
    assert status(json=ping, headers=session | {"mcp-protocol-version": "2025-06-18"}) == 200
    assert status(json=ping, headers=session | {"origin": "http://evil.example"}) == 403
    assert status(json=ping, headers=session | {"origin": "null"}) == 403
    assert status(json=ping, headers=session | {"origin": "http://localhost:6274"}) == 200
    assert status(json=ping, headers=session | {"origin": "https://friend.example"}) == 200
    assert status(content=b"{") == 400
    assert status(content=b"[" * 9_000) == 400
    assert status(content=b" " * 20_000) == 413
    answer = web.get("/mcp")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, DELETE")
    _open(web)
    _open(web)
    assert web.post("/mcp", json=_hello()).status_code == 503  # three sessions are open
    assert web.delete("/mcp", headers=session).status_code == 204
    assert web.post("/mcp", json=_hello()).status_code == 200


def test_messages_that_are_no_requests(web: httpx.Client) -> None:
    session = _open(web)

    def code(message: Any) -> int:
        return int(web.post("/mcp", json=message, headers=session).json()["error"]["code"])

    assert code(7) == -32600
    assert code({"id": 1, "method": "ping"}) == -32600
    assert code({"jsonrpc": "2.0", "id": [1], "method": "ping"}) == -32600
    assert code([_ask(1, "ping")]) == -32600  # 2025-06-18 has no batches
    assert code(_ask(1, "resources/list")) == -32601
    assert code(_ask(1, "tools/call", name=5)) == -32602
    assert code(_ask(1, "tools/call", name="add", arguments=[])) == -32602
    assert code(_ask(1, "tools/list", cursor="x")) == -32602
    old = _open(web, "2025-03-26")
    batch = web.post("/mcp", json=[_ask(1, "ping"), {"jsonrpc": "2.0", "method": "x"}, _ask(2, "ping")], headers=old)
    assert [one["id"] for one in batch.json()] == [1, 2]


def test_a_call_is_cancelled_by_its_id() -> None:
    async def play() -> tuple[Any, Any]:
        host = mcp_toolbox.host()
        talk = McpSession(host, "e", name="t")
        asked = asyncio.ensure_future(talk.answer(_ask(5, "tools/call", name="pause", arguments={"seconds": 50})))
        while 5 not in talk.running:
            await asyncio.sleep(0.01)
        again = await talk.answer(_ask(5, "tools/call", name="pause", arguments={"seconds": 50}))
        await talk.answer({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}})
        try:
            return again, await asyncio.wait_for(asked, 20)
        finally:
            await host.aclose()

    again, stopped = asyncio.run(play())
    assert "under way" in again["error"]["message"]
    assert stopped["error"] == {"code": -32800, "message": "the call was cancelled"}


def test_long_lists_come_in_pages() -> None:
    class Many:
        tools = tuple(Tool(f"t{number}", "", {"type": "object"}, print) for number in range(450))

        async def act(self, episode: str, call: Call, seconds: float | None = None) -> Observation:
            return Observation("")

        async def end(self, episode: str) -> None:
            pass

    async def play() -> list[int]:
        talk, sizes, cursor = McpSession(Many(), "e", name="t"), [], {}
        while True:
            page = (await talk.answer(_ask(1, "tools/list", **cursor)))["result"]
            sizes.append(len(page["tools"]))
            if "nextCursor" not in page:
                return sizes
            cursor = {"cursor": page["nextCursor"]}

    # 450 tools are two pages of 200 and one of 50.
    assert asyncio.run(play()) == [200, 200, 50]


def test_observations_become_results() -> None:
    words = {"type": "object", "properties": {}}
    tool = Tool("t", "text", {"properties": {}}, print, effects="irreversible", idempotent=True, output=words)
    assert described(tool) == {
        "name": "t",
        "description": "text",
        "inputSchema": {"type": "object", "properties": {}},
        "outputSchema": words,
        "annotations": {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": True},
    }
    assert result(Observation("x", data={"n": float("nan")}), tool)["structuredContent"] == {"n": None}
    assert result(Observation('{"n":1}'), tool)["structuredContent"] == {"n": 1}
    assert "structuredContent" not in result(Observation("x", data=[1]), tool)
    assert "structuredContent" not in result(Observation("x", data={"n": 1}))
    refused = result(Observation("too many calls", "refused"), tool)
    assert (refused["isError"], refused["_meta"]) == (True, {"ferrule/status": "refused"})
    large = Artifact("big.png", "image/png", 10**9)  # its content was left behind
    plainly = Artifact("n.txt", "text/plain", 2, "data:text/plain,hi")
    content = result(Observation("x", artifacts=(large, plainly)))["content"]
    assert content[1:] == [
        {"type": "resource", "resource": {"uri": "artifact:///n.txt", "mimeType": "text/plain", "blob": "aGk="}}
    ]
    assert plain({"a": {1}, "b": float("inf")}) == {"a": [1], "b": None}


@pytest.mark.parametrize(
    ("origin", "served"),
    [
        (None, True),
        ("http://localhost", True),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:80", True),
        ("http://localhost.evil.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("https://Friend.example", True),
        ("http://[", False),
        ("null", False),
    ],
)
def test_origins(origin: str | None, served: bool) -> None:
    assert near(origin, ["https://friend.example/"]) is served


def _stdio(lines: list[bytes]) -> list[Any]:
    made = subprocess.run(_COMMAND, input=b"".join(lines), capture_output=True, cwd=_ROOT, timeout=120)
    assert made.returncode == 0, made.stderr.decode()[-2000:]
    return [json.loads(line) for line in made.stdout.splitlines()]


def test_stdio_survives_bad_lines_and_answers_what_was_asked_before_the_end() -> None:
    lines = [
        json.dumps(one).encode() + b"\n"
        for one in (_hello(), _ask("a", "tools/call", name="add", arguments={"amount": 4}))
    ]
    lines += [b"not json\n", b"\n", b"[" * 100_000 + b"\n", b'"' + b"x" * (5 << 20) + b'"\n']
    lines += [json.dumps(_ask("b", "tools/call", name="pause", arguments={"seconds": 0.3})).encode() + b"\n"]
    lines += [json.dumps(_ask("c", "ping")).encode()]  # the last line may end without a newline
    answers = _stdio(lines)
    by_id = {answer["id"]: answer for answer in answers if answer["id"] is not None}
    assert by_id["a"]["result"]["content"][0]["text"] == "4"
    assert by_id["b"]["result"]["content"][0]["text"] == "slept 0.3 s"
    assert by_id["c"]["result"] == {}
    codes = [answer["error"]["code"] for answer in answers if answer["id"] is None]
    assert sorted(codes) == [-32700, -32700, -32600]


@pytest.mark.parametrize("wire", ["stdio", "http"])
def test_our_client_and_our_server_agree(wire: str, serving: Callable[..., str]) -> None:
    if wire == "http":
        server = connect(url=serving(Starlette(routes=mcp_routes(mcp_toolbox.host()))) + "/mcp", seconds=60.0)
    else:
        server = connect(command=_COMMAND, cwd=_ROOT, seconds=60.0)
    with server:
        tools = {tool.name: tool for tool in server.tools}
        build = {tool.name: tool for tool in mcp_toolbox.build({})}
        assert [(tool.name, tool.effects, tool.parameters) for tool in tools.values()] == [
            (tool.name, tool.effects, tool.parameters) for tool in build.values()
        ]
        assert invoke(tools["add"], Call("add", {"amount": 40})).text == "40"
        assert invoke(tools["add"], Call("add", {"amount": "2"})).text == "42"
        assert invoke(tools["split"], Call("split", {"text": "a b"})).data == {"words": ["a", "b"]}
        drawn = invoke(tools["draw"], Call("draw"))
        assert [(file.media, file.size) for file in drawn.artifacts] == [("image/png", 16), ("application/x-t", 2)]
        assert invoke(tools["fail"], Call("fail", {"why": "no luck"})).status == "error"
        late = invoke(tools["pause"], Call("pause", {"seconds": 2}), seconds=0.3)
        assert late.status == "timeout"


def test_an_unused_session_makes_room(serving: Callable[..., str]) -> None:
    host = mcp_toolbox.host()
    url = serving(Starlette(routes=mcp_routes(host, sessions=1, idle=0.2)))
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as web:
        first = _open(web)
        web.post("/mcp", json=_ask(1, "tools/call", name="add", arguments={"amount": 1}), headers=first)
        assert host.figures()["live"] == 1
        time.sleep(0.3)
        _open(web)
        assert web.post("/mcp", json=_ask(1, "ping"), headers=first).status_code == 404
        assert host.figures()["live"] == 0
