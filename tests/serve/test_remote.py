"""The remote interpreter: the local one's surface over a server, and every trouble an observation with a reason."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from tests.serve.serving_server import KEY, serving

from ferrule.core.records import Observation
from ferrule.sandbox.remote import RemoteInterpreter


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    with serving("tools", "python", "--workers", "1") as client:
        yield client


def remote(server: httpx.Client, **settings: str | float) -> RemoteInterpreter:
    return RemoteInterpreter(str(server.base_url), key=KEY, **settings)  # type: ignore[arg-type]


def reason(seen: Observation) -> str:
    return str(seen.data["reason"])


def test_state_is_kept_and_results_are_structured(server: httpx.Client) -> None:
    with remote(server) as one, remote(server) as other:
        assert one.run("x = 20\nprint('hello')\nx + 1").text == "hello\n21"
        seen = one.run("x")
        assert (seen.text, seen.status, seen.data["value"]) == ("20", "ok", "20")
        assert other.run("x").status == "error"
        failed = one.run("1/0")
        assert (failed.status, failed.data["kind"]) == ("error", "ZeroDivisionError")
        assert one.run("while True: pass", 0.3).status == "timeout"


def test_names_are_told_with_their_types(server: httpx.Client) -> None:
    with remote(server) as one:
        one.run("x = 1\ntext = 'a'")
        found = one.names()
        assert {name: found[name] for name in ("x", "text")} == {"x": "int", "text": "str"}


def test_a_branch_is_independent(server: httpx.Client) -> None:
    with remote(server) as one:
        one.run("x = [1]")
        with one.fork() as twin:
            assert twin.run("x.append(2); x").text == "[1, 2]"
            assert one.run("x").text == "[1]"
    with remote(server) as early, early.fork() as twin:
        assert twin.run("1 + 1").text == "2"


def test_close_ends_the_episode(server: httpx.Client) -> None:
    before = server.get("/health").json()["live_episodes"]
    one = remote(server)
    one.run("1")
    assert server.get("/health").json()["live_episodes"] == before + 1
    one.close()
    one.close()
    assert server.get("/health").json()["live_episodes"] == before
    assert reason(one.run("1")) == "closed"


def test_a_wrong_key_is_said(server: httpx.Client) -> None:
    with RemoteInterpreter(str(server.base_url), key="not-the-key") as one:
        assert reason(one.run("1")) == "unauthorised"
        assert one.names() == {}
        with one.fork() as twin:
            assert "branch" in twin.run("1").text
            assert reason(twin.run("1")) == "unauthorised"


def test_nobody_there_and_nothing_is_run_here() -> None:
    """A port that was free a moment ago: no server. The code would leave a mark in this process if it ran here."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with RemoteInterpreter(f"http://127.0.0.1:{port}") as one:
        seen = one.run("'w' + 'e' * 3")  # no port and no message holds this result
        assert (seen.status, reason(seen)) == ("error", "unreachable")
        assert "weee" not in seen.text


def answering(*answers: bytes) -> tuple[str, threading.Thread]:
    """Start a server that gives one prepared answer per connection; returns its address."""
    listening = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        with listening:
            for answer in answers:
                link, _ = listening.accept()
                with link:
                    link.recv(1 << 16)
                    link.sendall(answer)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}", thread


def http(status: str, body: bytes, extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{extra}\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (b"", "no_answer"),
        (http("200 OK", b"<html>hello"), "bad_answer"),
        (http("200 OK", b'{"text": 1, "status": "ok"}'), "bad_answer"),
        (http("200 OK", b'{"text": "x", "status": "fine"}'), "bad_answer"),
        (http("500 Oops", b"no"), "bad_answer"),
    ],
)
def test_strange_answers_are_errors(answer: bytes, wanted: str) -> None:
    url, thread = answering(answer, http("200 OK", b"{}"))
    with RemoteInterpreter(url) as one:
        seen = one.run("1")
        assert (seen.status, reason(seen)) == ("error", wanted)
    thread.join(30)


def test_a_busy_server_is_asked_again() -> None:
    """Refused with 429 once, answered then; with no patience the refusal is what comes back."""
    busy = http(
        "429 Busy", b'{"text": "busy", "status": "refused", "data": {"reason": "queue_full"}}', "retry-after: 0\r\n"
    )
    done = http("200 OK", b'{"text": "42", "status": "ok"}')
    for patience, wanted in ((30.0, "42"), (0.0, "busy")):
        url, thread = answering(busy, done, done)
        with RemoteInterpreter(url, patience=patience) as one:
            assert one.run("6 * 7").text == wanted
        with RemoteInterpreter(url) as one:  # takes what is left of the prepared answers
            one.run("1")
        thread.join(30)


def test_addresses_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="http://"):
        RemoteInterpreter("localhost:8000")
