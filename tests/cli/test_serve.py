"""``ferrule serve`` as a user meets it: what is refused, and the one line that says where the server is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.serve.serving_server import act, serving

from ferrule.cli import main


def refused(*arguments: str, **environment: str) -> str:
    found = CliRunner().invoke(main, ["serve", *arguments], env={"FERRULE_API_KEY": None, **environment})
    assert found.exit_code == 2, found.output
    return " ".join(found.output.split())


def test_help_names_the_faces() -> None:
    text = CliRunner().invoke(main, ["serve", "--help"]).output
    assert all(name in text for name in ("tools", "mcp", "world"))
    flags = CliRunner().invoke(main, ["serve", "tools", "--help"]).output
    for flag in (
        "host",
        "port",
        "workers",
        "max-episodes",
        "queue",
        "idle-seconds",
        "seconds",
        "api-key-file",
        "max-body",
    ):
        assert f"--{flag}" in flags


def test_other_machines_need_a_key() -> None:
    assert "set an API key" in refused("tools", "calculator", "--host", "0.0.0.0")
    assert "set an API key" in refused("world", "apis", "--host", "0.0.0.0")


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("short\n")
    assert "at least 8" in refused("tools", "calculator", "--api-key-file", str(path))
    assert "at least 8" in refused("tools", "calculator", FERRULE_API_KEY="abc")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("calculater",), "'calculator'"),
        (("calculator", "calculator"), "two tools are named 'calculator'"),
        (("missing.py",), "no tool file"),
        (("calculator", "--workers", "0"), "count is 0"),
        (("calculator", "--queue", "0"), "queue is 0"),
        (("calculator", "--host", "999.1.1.1"), "999.1.1.1"),
    ],
)
def test_unusable_settings_say_what_to_do(arguments: tuple[str, ...], said: str) -> None:
    assert said in refused("tools", *arguments)


def test_a_file_of_tools_and_a_key_file(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        'from ferrule.tools import tool\n\n\n@tool\ndef greet(name: str) -> str:\n    """Greet."""\n    print("out")\n'
        '    return f"Hello {name}"\n'
    )
    (tmp_path / "key").write_text("a-long-enough-key\n")
    arguments = ("tools", str(tmp_path / "own.py"), "calculator", "--workers", "1", "--port", "0")
    with serving(*arguments, "--api-key-file", str(tmp_path / "key"), key=None) as client:
        assert client.get("/tools").status_code == 401
        client.headers["authorization"] = "Bearer a-long-enough-key"
        assert [one["name"] for one in client.get("/tools").json()["tools"]] == ["greet", "calculator"]
        assert act(client, "a", "greet", name="Ada")["text"] == "Hello Ada"


def test_mcp_over_standard_input_and_output(tmp_path: Path) -> None:
    """A tool that prints must not break the protocol: every line of standard output is a message."""
    (tmp_path / "own.py").write_text(
        'from ferrule.tools import tool\n\n\n@tool\ndef greet(name: str) -> str:\n    """Greet."""\n    print("out")\n'
        '    return f"Hello {name}"\n'
    )
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    asked = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "greet", "arguments": {"name": "Ada"}}},
    ]
    command = [sys.executable, "-m", "ferrule", "serve", "mcp", str(tmp_path / "own.py"), "--workers", "1"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    answers = []
    for message in asked:
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        if "id" in message:
            answers.append(json.loads(process.stdout.readline()))
    rest, said = process.communicate(timeout=60)
    assert [one["id"] for one in answers] == [1, 2]
    assert answers[1]["result"]["content"][0]["text"] == "Hello Ada"
    assert (process.returncode, rest) == (0, ""), said


def test_mcp_over_http_shares_the_server() -> None:
    with serving("tools", "calculator", "--workers", "1") as client:
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        headers = {"accept": "application/json, text/event-stream"}
        assert client.post("/mcp", json=body, headers={**headers, "authorization": ""}).status_code == 401
        answer = client.post("/mcp", json=body, headers=headers)
        assert answer.status_code == 200
        assert "serverInfo" in answer.text


def test_a_world_is_served() -> None:
    with serving("world", "arithmetic") as client:
        assert client.get("/health").status_code == 200
        assert client.get("/schema", headers={"authorization": ""}).status_code == 401
