"""The official MCP SDK, both of its lines, against our servers; real MCP servers against our client."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from tests.serve import mcp_toolbox

from ferrule.core.records import Call, Task
from ferrule.serve.mcp import mcp_routes
from ferrule.tools.invoke import invoke
from ferrule.tools.mcp import connect
from ferrule.tools.sources import tool_source
from ferrule.worlds.session import ToolSession

_PROGRAM = [sys.executable, "-m", "tests.serve.mcp_toolbox"]
_ROOT = str(Path(__file__).parents[2])

_TALK = """
async def talk(session, version):
    listed = await session.list_tools()
    first = await session.call_tool("add", {"amount": 40})
    second = await session.call_tool("add", {"amount": 2})
    failed = await session.call_tool("fail", {"why": "no luck"})
    drawn = await session.call_tool("draw", {})
    words = await session.call_tool("split", {"text": "a b"})
    unknown = await session.call_tool("nothing", {})
    dump = lambda one: one.model_dump(mode="json", by_alias=True, exclude_none=True)
    print(json.dumps({
        "tools": [dump(one) for one in listed.tools],
        "first": dump(first), "second": dump(second), "failed": dump(failed), "drawn": dump(drawn),
        "words": dump(words), "unknown": dump(unknown), "version": version,
    }))
"""

_ONE = (
    """
import asyncio, json, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client
"""
    + _TALK
    + """
async def main():
    if sys.argv[1].startswith("http"):
        wire = streamablehttp_client(sys.argv[1])
    else:
        wire = stdio_client(StdioServerParameters(command=sys.argv[1], args=sys.argv[2:-1], cwd=sys.argv[-1]))
    async with wire as streams, ClientSession(streams[0], streams[1]) as session:
        hello = await session.initialize()
        await session.send_ping()
        await talk(session, hello.protocolVersion)
asyncio.run(main())
"""
)

_TWO = (
    """
import asyncio, json, sys
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
"""
    + _TALK
    + """
async def main():
    if sys.argv[1].startswith("http"):
        target = sys.argv[1]
    else:
        target = stdio_client(StdioServerParameters(command=sys.argv[1], args=sys.argv[2:-1], cwd=sys.argv[-1]))
    async with Client(target) as client:
        await talk(client, client.protocol_version)
asyncio.run(main())
"""
)


def _check(said: dict[str, Any]) -> None:
    tools = {tool["name"]: tool for tool in said["tools"]}
    assert list(tools) == ["add", "fail", "pause", "draw", "split"]
    assert tools["add"]["inputSchema"]["properties"]["amount"] == {"type": "integer", "description": "what is added"}
    assert tools["add"]["annotations"] == {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False}
    assert tools["draw"]["annotations"] == {"readOnlyHint": True}
    # 40 + 2 = 42: the second call sees the state that the first left.
    assert (said["first"]["content"][0]["text"], said["second"]["content"][0]["text"]) == ("40", "42")
    assert not said["second"]["isError"]
    assert said["failed"]["isError"]
    assert said["failed"]["content"][0]["text"] == "RuntimeError: no luck"
    image = said["drawn"]["content"][1]
    assert (image["type"], image["mimeType"], image["data"]) == ("image", "image/png", mcp_toolbox.PIXEL)
    assert said["words"]["structuredContent"] == {"words": ["a", "b"]}
    assert said["unknown"]["isError"]


@pytest.mark.integration
@pytest.mark.parametrize(("line", "program"), [("one", _ONE), ("two", _TWO)])
def test_the_official_client_uses_our_tools_over_stdio(peer: Callable[..., Any], line: str, program: str) -> None:
    said = peer(line, program, *_PROGRAM, _ROOT)
    assert said["version"] == "2025-11-25"
    _check(said)


@pytest.mark.integration
@pytest.mark.parametrize(("line", "program"), [("one", _ONE), ("two", _TWO)])
def test_the_official_client_uses_our_tools_over_http(
    peer: Callable[..., Any], serving: Callable[..., str], line: str, program: str
) -> None:
    host = mcp_toolbox.host()
    url = serving(Starlette(routes=mcp_routes(host)))
    said = peer(line, program, f"{url}/mcp")
    assert said["version"] == "2025-11-25"
    _check(said)
    assert host.figures()["live"] == 0  # the client ended its session, and with it the episode


@pytest.mark.integration
def test_a_real_server_of_the_current_time(peers: dict[str, Path]) -> None:
    command = [str(peers["one"]), "-m", "mcp_server_time", "--local-timezone", "UTC"]
    with connect(command=command, prefix="time_", seconds=60.0) as server:
        tools = {tool.name: tool for tool in server.tools}
        assert list(tools) == ["time_get_current_time", "time_convert_time"]
        assert tools["time_convert_time"].parameters["required"] == ["source_timezone", "time", "target_timezone"]
        ask = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
        seen = invoke(tools["time_convert_time"], Call("time_convert_time", ask))
        # Tokyo is nine hours ahead of UTC and has no summer time.
        assert seen.status == "ok"
        assert '"time_difference": "+9.0h"' in seen.text
        wrong = invoke(tools["time_convert_time"], Call("time_convert_time", ask | {"source_timezone": "Nowhere"}))
        assert wrong.status == "error"
        assert "Nowhere" in wrong.text


@pytest.mark.integration
def test_a_real_server_with_state(peers: dict[str, Path], tmp_path: Path) -> None:
    program = "import mcp_server_sqlite; mcp_server_sqlite.main()"
    with connect(
        command=[str(peers["one"]), "-c", program, "--db-path", str(tmp_path / "a.db")], seconds=60.0
    ) as server:
        assert server.server["name"] == "sqlite"
        assert server.call("create_table", {"query": "create table t (a int)"}).status == "ok"
        assert server.call("write_query", {"query": "insert into t values (40), (2)"}).status == "ok"
        assert server.call("read_query", {"query": "select sum(a) as s from t"}).text == "[{'s': 42}]"
        assert server.call("read_query", {"query": "select nothing"}).text.startswith("Database error")


_OPEN = {
    "one": "from mcp.server.fastmcp import Context, FastMCP, Image\napp = FastMCP('peer', json_response=AS_JSON)",
    "two": "from mcp.server.mcpserver import Context, Image, MCPServer\napp = MCPServer('peer')",
}
_WEB = {"one": "app.streamable_http_app()", "two": "app.streamable_http_app(json_response=AS_JSON)"}
_SERVER = """
import asyncio, base64, socket, sys
import uvicorn
AS_JSON = sys.argv[1] == "json"
{open}

@app.tool()
async def slow(seconds: float, context: Context) -> str:
    await context.report_progress(0.5, 1.0)
    await asyncio.sleep(seconds)
    return "done"

@app.tool()
def total(parts: list[int]) -> dict[str, int]:
    return {{"sum": sum(parts)}}

@app.tool()
def dot() -> Image:
    return Image(data=bytes(4), format="png")

listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
asyncio.run(uvicorn.Server(uvicorn.Config({web}, log_level="error")).serve(sockets=[listening]))
"""


@pytest.mark.integration
@pytest.mark.parametrize("line", ["one", "two"])
@pytest.mark.parametrize("form", ["json", "stream"])
def test_a_server_of_the_official_sdk_over_http(peers: dict[str, Path], line: str, form: str) -> None:
    program = _SERVER.format(open=_OPEN[line], web=_WEB[line])
    with subprocess.Popen([str(peers[line]), "-c", program, form], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = f"http://127.0.0.1:{int(process.stdout.readline())}/mcp"
            with connect(url=url, seconds=60.0) as server:
                assert server.version == "2025-11-25"
                tools = {tool.name: tool for tool in server.tools}
                seen = invoke(tools["total"], Call("total", {"parts": [40, 2]}))
                assert seen.data == {"sum": 42}
                assert tools["total"].output is not None
                late = invoke(tools["slow"], Call("slow", {"seconds": 30}), seconds=0.3)
                assert late.status == "timeout"
                assert server.call("slow", {"seconds": 0}).text == "done"  # not the answer of the call before
                (image,) = server.call("dot").artifacts
                assert (image.media, image.size) == ("image/png", 4)
            source = tool_source(f"mcp:{url}")
            assert source.note.endswith("what the server keeps beyond it, all share")
            session = ToolSession(Task("t", "q"), source.build, source.start())
            assert session.act(Call("total", {"parts": [1, 2]})).data == {"sum": 3}
            session.close()
        finally:
            process.kill()
