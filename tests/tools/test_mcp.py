"""The MCP client against servers that misbehave in every way the protocol leaves room for."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ferrule.core.records import Artifact, Call
from ferrule.tools.invoke import invoke
from ferrule.tools.mcp import Connection, connect
from ferrule.tools.mcp_content import observation
from ferrule.tools.mcp_wire import Lost, events

# A server written out by hand: it answers out of order, late, with noise, or not at all.
_ODD = r"""
import json, os, subprocess, sys, threading, time
VERSION, cancelled, replies, grown, lock = sys.argv[1], [], [], [], threading.Lock()

def put(message):
    with lock:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

def give(number, text, **more):
    put({"jsonrpc": "2.0", "id": number, "result": {"content": [{"type": "text", "text": text}], **more}})

def tool(name, **annotations):
    return {"name": name, "inputSchema": {"type": "object", "additionalProperties": True}, "annotations": annotations}

def call(number, name, given):
    if name == "echo":
        give(number, given["text"])
    elif name == "slow":
        def later():
            time.sleep(given["seconds"])
            give(number, "late")
        threading.Thread(target=later).start()
    elif name == "cancelled":
        give(number, json.dumps(cancelled))
    elif name == "crash":
        sys.stderr.write("out of cheese\n")
        sys.stderr.flush()
        os._exit(7)
    elif name == "ask":
        put({"jsonrpc": "2.0", "id": "p", "method": "ping"})
        put({"jsonrpc": "2.0", "id": "s", "method": "sampling/createMessage", "params": {}})
        def wait():
            while len(replies) < 2:
                time.sleep(0.01)
            give(number, json.dumps(replies))
        threading.Thread(target=wait).start()
    elif name == "grow":
        grown.append(tool("grown"))
        put({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        give(number, "")
    elif name == "environment":
        give(number, json.dumps(sorted(os.environ)))
    elif name == "child":
        give(number, str(subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL).pid))
    elif name == "batch":
        put([{"jsonrpc": "2.0", "id": 999999, "result": {}},
             {"jsonrpc": "2.0", "id": number, "result": {"content": [{"type": "text", "text": "of two"}]}}])
    elif name == "flood":
        give(number, "x" * given["size"])
    elif name == "deaf":
        time.sleep(1000)
    elif name == "wrong":
        put({"jsonrpc": "2.0", "id": number, "error": {"code": -32602, "message": "no such thing", "data": {"a": 1}}})

print("a banner that does not belong here", flush=True)
for line in sys.stdin:
    message = json.loads(line)
    method, number, params = message.get("method"), message.get("id"), message.get("params", {})
    if method == "initialize":
        put({"jsonrpc": "2.0", "id": number, "result": {
            "protocolVersion": VERSION, "capabilities": {"tools": {}}, "serverInfo": {"name": "odd", "version": "1"}}})
    elif method == "notifications/cancelled":
        cancelled.append(params["requestId"])
    elif method == "tools/list":
        pages = [[tool("echo", readOnlyHint=True), tool("slow", destructiveHint=False)],
                 [tool("cancelled", idempotentHint=True), tool("echo")], grown]
        page = int(params.get("cursor", 0))
        more = {"nextCursor": str(page + 1)} if page < 2 else {}
        put({"jsonrpc": "2.0", "id": number, "result": {"tools": pages[page], **more}})
    elif method == "tools/call":
        call(number, params["name"], params.get("arguments", {}))
    elif method is None:
        replies.append(message)
"""


def _odd(version: str = "2025-11-25", **settings: Any) -> Connection:
    return connect(command=[sys.executable, "-c", _ODD, version], **{"seconds": 60.0, **settings})


@pytest.fixture
def odd() -> Iterator[Connection]:
    with _odd() as server:
        yield server


def test_tools_of_all_pages_with_their_effects(odd: Connection) -> None:
    # The second page names echo again: the first counts. What is unsaid may destroy, as in the protocol.
    shown = [(tool.name, tool.effects, tool.idempotent) for tool in odd.tools]
    assert shown == [("echo", "read", True), ("slow", "write", False), ("cancelled", "irreversible", True)]
    assert odd.tools[0].parameters == {"type": "object", "additionalProperties": True}


def test_a_prefix_and_effects_of_ones_own() -> None:
    with _odd(prefix="odd_", effects={"slow": "read"}) as server:
        tools = {tool.name: tool for tool in server.tools}
        assert list(tools) == ["odd_echo", "odd_slow", "odd_cancelled"]
        assert tools["odd_slow"].effects == "read"
        assert invoke(tools["odd_echo"], Call("odd_echo", {"text": "hi"})).text == "hi"


def _under_way(server: Connection) -> None:
    """Wait until the server has been asked something that it has not answered."""
    while not server._pending:
        time.sleep(0.01)


def test_a_late_answer_is_dropped_and_the_server_is_told(odd: Connection) -> None:
    tools = {tool.name: tool for tool in odd.tools}
    seen = invoke(tools["slow"], Call("slow", {"seconds": 0.6}), seconds=0.2)
    assert seen.status == "timeout"
    assert odd.call("slow", {"seconds": 5}, seconds=0.1).status == "timeout"
    answers = [odd.call("echo", {"text": str(number)}).text for number in range(20)]
    time.sleep(0.6)  # the late answer of the first call has come by now
    answers += [odd.call("echo", {"text": str(number)}).text for number in range(20, 40)]
    assert answers == [str(number) for number in range(40)]
    # Requests 1 to 4 were the handshake and three pages; 5 and 6 were stopped.
    assert odd.call("cancelled").text == "[5, 6]"


def test_many_threads_get_their_own_answers() -> None:
    with _odd(concurrent=4) as server, ThreadPoolExecutor(16) as pool:
        texts = [f"{number}" for number in range(200)]
        assert [seen.text for seen in pool.map(lambda text: server.call("echo", {"text": text}), texts)] == texts


def test_waiting_for_a_free_place_counts_towards_the_limit() -> None:
    with _odd(concurrent=1) as server:
        holder = threading.Thread(target=lambda: server.call("slow", {"seconds": 3}, seconds=60))
        holder.start()
        _under_way(server)
        assert server.call("echo", {"text": "x"}, seconds=0.3).status == "timeout"
        holder.join()
        assert server.call("echo", {"text": "x"}).text == "x"


def test_a_crash_is_an_observation_with_the_last_words(odd: Connection) -> None:
    held: list[Any] = []
    waiting = threading.Thread(target=lambda: held.append(odd.call("slow", {"seconds": 60})))
    waiting.start()
    _under_way(odd)
    seen = odd.call("crash")
    waiting.join()
    assert (seen.status, seen.data) == ("error", {"lost": True})
    assert "exit code 7" in seen.text
    assert "out of cheese" in seen.text
    assert held[0].status == "error"  # the call that was under way ends as well
    assert odd.call("echo", {"text": "x"}).status == "error"


def test_requests_of_the_server_are_answered(odd: Connection) -> None:
    seen = odd.call("ask").text
    assert '"id": "p", "result": {}' in seen
    assert '"code": -32601' in seen


def test_the_list_is_renewed_when_it_changed(odd: Connection) -> None:
    odd.call("grow")
    until = time.monotonic() + 20
    while "grown" not in [tool.name for tool in odd.tools] and time.monotonic() < until:
        time.sleep(0.01)
    assert [tool.name for tool in odd.tools] == ["echo", "slow", "cancelled", "grown"]


def test_the_server_does_not_see_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET_KEY", "1")
    with _odd(env={"GIVEN": "2"}) as server:
        names = server.call("environment").text
    assert "GIVEN" in names
    assert "PATH" in names
    assert "MY_SECRET_KEY" not in names


def test_closing_kills_the_whole_group() -> None:
    with _odd() as server:
        child = int(server.call("child").text)
        assert Path(f"/proc/{child}").exists()
    until = time.monotonic() + 20
    while _alive(child) and time.monotonic() < until:
        time.sleep(0.01)
    assert not _alive(child)
    assert server.call("echo", {"text": "x"}).status == "error"
    server.close()  # a second time does nothing


def _alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_server_that_stops_reading_is_closed_all_the_same() -> None:
    with _odd(seconds=20.0) as server:
        assert server.call("deaf", seconds=0.2).status == "timeout"
        assert server.call("echo", {"text": "x" * 1_000_000}, seconds=0.3).status == "timeout"


def test_text_is_clipped_and_a_line_has_a_limit() -> None:
    with _odd(limit=100, largest=100_000) as server:
        text = server.call("flood", {"size": 5000}).text
        assert "[... 4900 characters left out ...]" in text
        seen = server.call("flood", {"size": 200_000})
        assert seen.status == "error"
        assert "more than 100000 bytes" in seen.text


def test_an_error_and_a_batch(odd: Connection) -> None:
    seen = odd.call("wrong")
    assert (seen.status, seen.text) == ("error", 'the MCP server refused: no such thing {"a": 1} (-32602)')
    assert odd.call("batch").text == "of two"


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_every_revision_is_spoken(version: str) -> None:
    with _odd(version) as server:
        assert server.version == version
        assert server.call("echo", {"text": "x"}).text == "x"


def test_what_is_no_server_is_refused_with_the_reason() -> None:
    with pytest.raises(ConnectionError, match=r"revision '1999-01-01'.*2024-11-05"):
        _odd("1999-01-01")
    with pytest.raises(ConnectionError, match="exit code 3; it said:\nbad config"):
        connect(command=[sys.executable, "-c", "import sys; print('bad config', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(ConnectionError, match="cannot be started"):
        connect(command=["/nothing/here"])
    with pytest.raises(ConnectionError, match=r"no answer within 0\.5 s"):
        connect(command=["sleep", "1000"], seconds=0.5)
    with pytest.raises(ConnectionError, match="no answer: ConnectError"):
        connect(url="http://127.0.0.1:9/mcp")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "one of the two"),
        ({"command": ["x"], "url": "http://x"}, "one of the two"),
        ({"url": "ftp://x"}, "http://"),
        ({"command": []}, "empty"),
        ({"command": ["x"], "headers": {"a": "b"}}, "headers belong to a url"),
        ({"command": ["x"], "seconds": 0}, "above 0"),
        ({"command": ["x"], "effects": {"t": "rite"}}, "write"),
    ],
)
def test_unusable_settings(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        connect(**settings)


def test_results_become_observations() -> None:
    image = {"type": "image", "data": "AAEC", "mimeType": "image/png"}
    blob = {"type": "resource", "resource": {"uri": "file:///a/b.bin", "mimeType": "application/x-b", "blob": "AA=="}}
    text = {"type": "resource", "resource": {"uri": "file:///n.txt", "text": "note"}}
    link = {"type": "resource_link", "name": "more", "uri": "file:///m"}
    odd = [{"type": "hologram"}, {"type": "image", "data": "%", "mimeType": "image/png"}, 7]
    seen = observation({"content": [{"type": "text", "text": "a"}, image, blob, text, link, *odd]})
    assert seen.text.splitlines() == [
        "a",
        "[image-1.png: image/png, 3 bytes]",
        "[b.bin: application/x-b, 1 bytes]",
        "note",
        "[more: file:///m]",
        "[content of an unknown kind: hologram]",
        "[image that cannot be read]",
        "[content of an unknown kind: None]",
    ]
    assert seen.artifacts == (
        Artifact("image-1.png", "image/png", 3, "data:image/png;base64,AAEC"),
        Artifact("b.bin", "application/x-b", 1, "data:application/x-b;base64,AA=="),
    )
    assert observation({"structuredContent": {"n": 1}}).text == '{"n":1}'
    assert observation({"isError": True, "content": []}).status == "error"


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
def test_events_are_read_however_the_stream_is_cut(cut: int) -> None:
    import asyncio

    stream = b": hello\r\ndata: one\r\n\r\nevent: message\ndata: two\ndata:three\nid: 5\n\nevent: other\ndata: no\n\ndata: last"

    async def read(largest: int) -> list[bytes]:
        async def blocks() -> Any:
            for start in range(0, len(stream), cut):
                yield stream[start : start + cut]

        return [data async for data in events(blocks(), largest)]

    # The last event is not ended by an empty line, so it never happened.
    assert asyncio.run(read(1000)) == [b"one", b"two\nthree"]
    if cut == 1:
        with pytest.raises(Lost, match="more than 5 bytes"):
            asyncio.run(read(5))


class _Web(BaseHTTPRequestHandler):
    """A server that agrees to a session and then answers every call in the way that its path names."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        import json

        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number, method = message.get("id"), message.get("method")
        if method == "initialize":
            result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {}}
            return self._give(200, json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode())
        if number is None:
            return self._give(202, b"")
        if method == "tools/list":
            result = {"tools": [{"name": "do"}]}
            return self._give(200, json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode())
        kind = self.path.strip("/")
        if kind == "gone":
            return self._give(404, b"{}")
        if kind == "page":
            return self._give(502, b"<html>bad gateway</html>", "text/html")
        if kind == "other":
            return self._give(200, json.dumps({"jsonrpc": "2.0", "id": number + 1, "result": {}}).encode())
        if kind == "ends":
            return self._give(200, b": nothing\n\n", "text/event-stream")
        if kind == "refuses":
            error = {"code": -32600, "message": "not now"}
            return self._give(400, json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode())
        text = f"{self.headers['mcp-session-id']} {self.headers['mcp-protocol-version']} {self.headers['x-key']}"
        result = {"content": [{"type": "text", "text": text}]}
        return self._give(200, json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode())

    def do_GET(self) -> None:
        self._give(405, b"")

    def do_DELETE(self) -> None:
        self.server.ended.append(self.headers["mcp-session-id"])  # type: ignore[attr-defined]
        self._give(200, b"")

    def _give(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("mcp-session-id", "abc")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    server.ended = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("fine", "ok", "abc 2025-06-18 k"),
        ("gone", "error", "the server has ended the session"),
        ("page", "error", "502 Bad Gateway: <html>bad gateway"),
        ("other", "error", "the server answered 200 OK"),
        ("ends", "error", "ended the stream before the answer"),
        ("refuses", "error", "not now"),
    ],
)
def test_answers_over_http(web: ThreadingHTTPServer, path: str, status: str, said: str) -> None:
    url = f"http://127.0.0.1:{web.server_address[1]}/{path}"
    with connect(url=url, headers={"x-key": "k"}, seconds=20.0) as server:
        seen = server.call("do")
        assert seen.status == status
        assert said in seen.text
    assert web.ended == ["abc"]  # type: ignore[attr-defined]


def test_no_thread_and_no_descriptor_is_left() -> None:
    _odd().close()
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        _odd().close()
    new = [thread for thread in threading.enumerate() if thread not in threads]
    for thread in new:  # one that is on its way out may take a moment
        thread.join(10)
    assert [thread.name for thread in new if thread.is_alive()] == []
    assert len(os.listdir("/proc/self/fd")) <= files
