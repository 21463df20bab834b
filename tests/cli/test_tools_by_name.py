"""Tools by name from the shell: the pack, and a web API by its document."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ferrule.cli import main
from ferrule.core.records import Call, Message
from ferrule.policies.scripted import Scripted


class _Server(BaseHTTPRequestHandler):
    def log_message(self, *args: Any) -> None: ...

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _said(monkeypatch: pytest.MonkeyPatch, tools: str, name: str, arguments: dict[str, Any]) -> str:
    replies = [Message("assistant", "", (Call(name, arguments),)), "done"]
    monkeypatch.setattr("ferrule.cli.run_command.load_policy", lambda *given, **options: Scripted(replies))
    result = CliRunner().invoke(main, ["run", "Do it.", "--tools", tools, "--model", "pocket"])
    assert result.exit_code == 0, result.output
    return result.output


def test_run_takes_the_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    output = _said(monkeypatch, "pack:route,units", "route", {"start": "Arden", "end": "Birk"})
    assert '-> [ok] {"kilometres":12.0,"places":["Arden","Birk"]}' in output
    wrong = CliRunner().invoke(main, ["run", "Do it.", "--tools", "pack:rout"])
    assert wrong.exit_code != 0
    assert "the pack has no tool 'rout'; did you mean 'route'" in wrong.output


def test_run_takes_a_document_of_a_web_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parameter = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
    book = {"operationId": "book", "parameters": [parameter], "responses": {}}
    (tmp_path / "api.json").write_text(json.dumps({"openapi": "3.1.0", "paths": {"/books/{id}": {"get": book}}}))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        tools = f"openapi:{tmp_path / 'api.json'} http://127.0.0.1:{server.server_port}"
        assert '-> [ok] {"path":"/books/7"}' in _said(monkeypatch, tools, "book", {"id": 7})
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    lacking = CliRunner().invoke(main, ["run", "Do it.", "--tools", f"openapi:{tmp_path / 'api.json'}"])
    assert lacking.exit_code != 0
    assert "names no server; give its address" in lacking.output
