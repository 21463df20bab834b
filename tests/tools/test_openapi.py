"""Tools of OpenAPI documents, against a server that really listens and says what reached it."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ferrule.core.records import Call, Observation, Task, Tool
from ferrule.tools.invoke import invoke
from ferrule.tools.openapi import openapi
from ferrule.tools.openapi_document import load_document, operations, path_name
from ferrule.tools.sources import tool_source
from ferrule.worlds.session import ToolSession

SPEC: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "shelf", "version": "1"},
    "components": {
        "securitySchemes": {"shelf_key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
        "parameters": {"Trace": {"name": "X-Trace", "in": "header", "schema": {"type": "string"}}},
        "schemas": {
            "Base": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
            "Book": {
                "allOf": [
                    {"$ref": "#/components/schemas/Base"},
                    {
                        "type": "object",
                        "properties": {
                            "pages": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
                            "note": {"type": "string", "nullable": True},
                            "next": {"$ref": "#/components/schemas/Book"},
                        },
                    },
                ]
            },
        },
    },
    "paths": {
        "/books/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {
                "operationId": "getBook",
                "summary": "Get a book.",
                "parameters": [
                    {"name": "tags", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {"name": "range", "in": "query", "style": "deepObject", "schema": {"type": "object"}},
                    {
                        "name": "ids",
                        "in": "query",
                        "explode": False,
                        "schema": {"type": "array", "items": {"type": "integer"}},
                    },
                    {"name": "limit", "in": "query", "schema": {"type": "integer"}},
                    {"$ref": "#/components/parameters/Trace"},
                    {"name": "Accept", "in": "header", "schema": {"type": "string"}},
                    {"name": "session", "in": "cookie", "schema": {"type": "string"}},
                ],
                "responses": {"200": {"content": {"application/json": {"schema": {"type": "object"}}}}},
            },
            "put": {
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Book"}}},
                },
                "security": [{"shelf_key": []}],
                "responses": {"200": {}},
            },
        },
        "/form": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/x-www-form-urlencoded": {
                            "schema": {"type": "object", "properties": {"a": {"type": "string"}}}
                        }
                    }
                },
                "responses": {"200": {}},
            }
        },
        "/list": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"type": "array", "items": {"type": "integer"}}}},
                },
                "responses": {"200": {}},
            }
        },
        "/missing": {"get": {"responses": {}}},
        "/moved": {"get": {"responses": {}}},
        "/slow": {"get": {"responses": {}}},
        "/large": {"get": {"responses": {}}},
        "/picture": {"get": {"responses": {}}},
        "/odd": {"get": {"responses": {}}},
    },
}


class _Shelf(BaseHTTPRequestHandler):
    def log_message(self, *args: Any) -> None: ...

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        seen = {"method": self.command, "path": self.path, "body": body, "type": self.headers.get("content-type")}
        for header in ("X-Trace", "X-Key", "Cookie"):
            seen[header] = self.headers.get(header)
        code, kind, payload, more = 200, "application/json", json.dumps(seen).encode(), {}
        if self.path == "/v1/missing":
            code, payload = 404, b'{"detail": "no such shelf"}'
        elif self.path == "/v1/moved":
            code, payload, more = 302, b"", {"Location": "http://elsewhere.example/"}
        elif self.path == "/v1/slow":
            time.sleep(1.0)
        elif self.path == "/v1/large":
            kind, payload = "text/plain", b"x" * 5000
        elif self.path == "/v1/odd":
            kind, payload = "application/json; charset=moon", b'{"a": "\xff"'
        elif self.path == "/v1/nan":
            payload = b'{"a": NaN}'
        elif self.path == "/v1/half":
            payload = b'{"a": "\\ud800"}'
        elif self.path == "/v1/cut":
            more, self.close_connection = {"content-length": "500"}, True
        elif self.path == "/v1/picture":
            kind, payload = "image/png", b"\x89PNG"
        elif self.path == "/openapi.json":
            payload = json.dumps({**SPEC, "servers": [{"url": "/v1"}]}).encode()
        self.send_response(code)
        for name, value in {"content-type": kind, "content-length": str(len(payload)), **more}.items():
            self.send_header(name, value)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a caller that waited no longer
            self.end_headers()
            self.wfile.write(payload)

    do_GET = do_PUT = do_POST = _answer


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Shelf)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def _call(address: str, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> Observation:
    tools = {tool.name: tool for tool in openapi(SPEC, server=f"{address}/v1", **options)}
    return invoke(tools[name], Call(name, arguments or {}))


def test_names_schemas_and_effects_come_from_the_document(address: str) -> None:
    tools = {tool.name: tool for tool in openapi(SPEC, server=address)}
    assert list(tools)[:4] == ["getBook", "put_books_id", "post_form", "post_list"]
    get, put = tools["getBook"], tools["put_books_id"]
    assert get.description == "Get a book."
    # Accept is one of the three headers that the specification has ignored.
    assert list(get.parameters["properties"]) == ["id", "tags", "range", "ids", "limit", "X-Trace", "session"]
    assert get.parameters["required"] == ["id"]
    # The parts of allOf are one object; 3.0's bound and nullable are those of JSON schema; the pointer to itself ends.
    assert put.parameters["required"] == ["id", "title"]
    assert put.parameters["properties"]["pages"] == {"type": "integer", "exclusiveMinimum": 0}
    assert put.parameters["properties"]["note"] == {"type": ["string", "null"]}
    assert (get.effects, put.effects, tools["post_form"].effects) == ("read", "irreversible", "irreversible")
    assert (get.idempotent, put.idempotent, tools["post_form"].idempotent) == (True, True, False)
    assert get.output == {"type": "object"}
    assert [path_name(each) for each in operations(SPEC)][:2] == ["get_books_id", "put_books_id"]


def test_arguments_go_where_the_document_says(address: str) -> None:
    given = {"id": "a/b c", "tags": ["x", "y z"], "range": {"from": 1}, "ids": [1, 2], "limit": 3}
    observation = _call(address, "getBook", {**given, "X-Trace": "t1", "session": "s=1"})
    seen = json.loads(observation.text)
    assert seen["path"] == "/v1/books/a%2Fb%20c?tags=x&tags=y+z&range%5Bfrom%5D=1&ids=1%2C2&limit=3"
    assert (seen["X-Trace"], seen["Cookie"]) == ("t1", "session=s%3D1")
    assert observation.data["http"] == 200
    assert observation.data["body"] == seen


def test_bodies_are_json_forms_or_whole_values(address: str) -> None:
    book = json.loads(_call(address, "put_books_id", {"id": "7", "title": "Oaks", "note": None}).text)
    assert (book["method"], json.loads(book["body"])) == ("PUT", {"title": "Oaks", "note": None})
    assert book["type"] == "application/json"
    form = json.loads(_call(address, "post_form", {"a": "1 & 2"}).text)
    assert (form["body"], form["type"]) == ("a=1+%26+2", "application/x-www-form-urlencoded")
    assert json.loads(_call(address, "post_list", {"body": [1, 2]}).text)["body"] == "[1,2]"


def test_secrets_are_sent_where_they_are_wanted_and_shown_to_no_model(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(_call(address, "put_books_id", {"id": "7", "title": "t"}).text)["X-Key"] is None
    monkeypatch.setenv("SHELF_KEY", "not meant for it")
    assert json.loads(_call(address, "put_books_id", {"id": "7", "title": "t"}).text)["X-Key"] is None
    monkeypatch.setenv("OPENAPI_SHELF_KEY", "from the environment")
    assert json.loads(_call(address, "put_books_id", {"id": "7", "title": "t"}).text)["X-Key"] == "from the environment"
    given = _call(address, "put_books_id", {"id": "7", "title": "t"}, secrets={"shelf_key": "k"})
    assert json.loads(given.text)["X-Key"] == "k"
    assert json.loads(_call(address, "getBook", {"id": "7"}).text)["X-Key"] is None  # it asks for none
    with pytest.raises(ValueError, match="unknown security scheme 'shelf'; did you mean 'shelf_key'"):
        openapi(SPEC, server=address, secrets={"shelf": "k"})


def test_errors_are_data_with_their_code(address: str) -> None:
    missing = _call(address, "get_missing")
    assert (missing.status, missing.text) == ("error", 'HTTP 404 Not Found: {"detail":"no such shelf"}')
    assert missing.data == {"http": 404, "body": {"detail": "no such shelf"}}
    assert _call(address, "get_moved").text.startswith("HTTP 302 Found (leads to http://elsewhere.example/)")
    assert _call(address, "getBook", {"id": ".."}).status == "error"  # would be another path
    assert _call(address, "getBook", {}).status == "malformed"
    assert _call(address, "put_books_id", {"id": "7", "title": "t", "pages": 0}).status == "malformed"
    odd = _call(address, "get_odd")  # an unknown encoding, and JSON that is cut off
    assert (odd.status, odd.text, odd.data["body"]) == ("ok", '{"a": "\ufffd"', None)
    assert _call(address, "getBook", {"id": "1", "X-Trace": "a\r\nX-Key: b"}).status == "error"
    gone = _call("http://127.0.0.1:1", "get_missing")
    assert (gone.status, gone.data) == ("error", {"http": None})
    assert gone.text.startswith("no answer from 127.0.0.1: ConnectError")


def test_time_length_and_size_are_limited(address: str) -> None:
    assert _call(address, "get_slow", seconds=0.2).status == "timeout"
    assert _call(address, "get_large", limit=10).text == "xxxxxxxxxx\n[... 4990 characters left out ...]"
    assert _call(address, "get_large", largest=100).text == "HTTP 200: the answer is longer than 100 bytes"
    picture = _call(address, "get_picture")
    assert (picture.text, picture.artifacts[0].media) == ("[image/png, 4 bytes]", "image/png")


def test_a_document_is_a_file_or_a_url_and_the_shell_may_name_the_server(address: str, tmp_path: Path) -> None:
    source = tool_source(f"openapi:{address}/openapi.json")
    assert "put_books_id" in source.note
    session = ToolSession(Task("t", "p"), source.build, source.start())
    assert json.loads(session.act(Call("getBook", {"id": "1"})).text)["path"] == "/v1/books/1"
    assert session.fork().act(Call("post_form", {"a": "1"})).status == "refused"  # a branch must not change a server
    file = tmp_path / "shelf.yaml"
    file.write_text("openapi: 3.1.0\npaths:\n  /missing:\n    get: {responses: {}}\n")
    with pytest.raises(ValueError, match=r"names no server; give its address: server=URL, or openapi:DOCUMENT URL"):
        tool_source(f"openapi:{file}")
    (tool,) = tool_source(f"openapi:{file} {address}/v1").offer()
    assert invoke(tool, Call(tool.name)).text.startswith("HTTP 404")


def test_what_is_no_document_is_refused(address: str, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text('{"swagger": "2.0"}')
    with pytest.raises(ValueError, match="it is Swagger 2: convert it"):
        load_document(file)
    file.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_document(file)
    with pytest.raises(FileNotFoundError, match="no OpenAPI document"):
        load_document(tmp_path / "none.json")
    with pytest.raises(ConnectionError, match="HTTP 404"):
        load_document(f"{address}/v1/missing")
    twice = {**SPEC, "paths": {p: {"get": {"operationId": "x", "responses": {}}} for p in ("/a", "/b")}}
    with pytest.raises(ValueError, match="two operations named 'y'"):
        openapi(twice, server=address, named=lambda operation: "y")
    assert [tool.name for tool in openapi(twice, server=address)] == ["get_a", "get_b"]  # one operationId for both
    assert [tool.name for tool in openapi(twice, server=address, named=path_name)] == ["get_a", "get_b"]
    outside = {**SPEC, "paths": {"/a": {"get": {"parameters": [{"$ref": "other.json#/x"}], "responses": {}}}}}
    with pytest.raises(ValueError, match=r"'other.json#/x' points out of the document; bundle it"):
        openapi(outside, server=address)
    with pytest.raises(ValueError, match="effects names an unknown tool 'getbook'; did you mean 'getBook'"):
        openapi(SPEC, server=address, effects={"getbook": "read"})


def _tools(paths: dict[str, Any], server: str = "http://x", **more: Any) -> dict[str, Tool]:
    return {tool.name: tool for tool in openapi({"openapi": "3.1.0", "paths": paths, **more}, server=server)}


def _body(schema: Any, **more: Any) -> dict[str, Any]:
    return {"post": {"requestBody": {"content": {"application/json": {"schema": schema}}, **more}, "responses": {}}}


def test_schemas_are_whole_however_deep_they_lie_and_whatever_their_properties_are_called() -> None:
    """Of a schema that lies too deep nothing is left, never a part that is no schema."""

    def inside(levels: int) -> dict[str, Any]:
        leaf: dict[str, Any] = {"type": "string", "enum": ["x", "y"]}
        return {"type": "object", "properties": {"a": inside(levels - 1)}} if levels else leaf

    tools = _tools({"/four": _body(inside(4)), "/five": _body(inside(5))})
    assert tools["post_four"].parameters["properties"] == inside(4)["properties"]
    four = tools["post_five"].parameters["properties"]["a"]["properties"]["a"]["properties"]["a"]["properties"]["a"]
    assert four == {"type": "object", "properties": {"a": {}}}
    names = {name: {"type": "string"} for name in ("type", "default", "example", "nullable", "$ref", "allOf", "items")}
    (odd,) = _tools({"/odd": _body({"type": "object", "properties": names, "required": ["example"]})}).values()
    assert dict(odd.parameters["properties"]) == names
    tree = {"type": "object", "properties": {"of": {"type": "array", "items": {"$ref": "#/components/schemas/T"}}}}
    (grown,) = _tools({"/t": _body({"$ref": "#/components/schemas/T"})}, components={"schemas": {"T": tree}}).values()
    assert grown.parameters["properties"]["of"]["items"]["properties"]["of"] == {"type": "array", "items": {}}


def test_pointers_are_unescaped_and_parts_of_allof_inside_are_one_schema() -> None:
    far = "#/paths/~1a~1b/post/requestBody/content/application~1json/schema"
    word = {"type": "string", "enum": ["x"]}
    inner = {"type": "object", "properties": {"w": {"allOf": [{"$ref": far}], "description": "A word."}}}
    tools = _tools({"/a/b": _body(word), "/c": _body(inner)})
    assert tools["post_c"].parameters["properties"] == {"w": {"description": "A word.", **word}}


def test_what_documents_forget_or_forbid(address: str) -> None:
    """Parameters of a path that are not listed, fields that only answers have, bodies of optional fields alone."""
    made = {"id": {"type": "string", "readOnly": True}, "n": {"type": "string"}}
    paths: dict[str, Any] = {
        "/books/{id}": {"get": {"responses": {}}},
        "/made": _body({"type": "object", "properties": made, "required": ["id"]}, required=True),
        "/fixed?kind=a": {"get": {"parameters": [{"name": "q", "in": "query"}], "responses": {}}},
        "/nothing": None,
    }
    tools = _tools(paths, f"{address}/v1")
    assert tools["get_books_id"].parameters["required"] == ["id"]
    assert list(tools["post_made"].parameters["properties"]) == ["n"]
    assert tools["post_made"].parameters["required"] == []
    assert json.loads(invoke(tools["get_books_id"], Call("", {"id": "7"})).text)["path"] == "/v1/books/7"
    assert json.loads(invoke(tools["post_made"], Call("")).text)["body"] == "{}"
    assert json.loads(invoke(tools["get_fixed_kind_a"], Call("", {"q": "1"})).text)["path"] == "/v1/fixed?kind=a&q=1"
    long = _tools({f"/{'a' * 80}/{end}": {"get": {}} for end in "bc"})
    assert [len(name) for name in long] == [64, 64]


def test_answers_that_are_broken_are_text_or_errors(address: str) -> None:
    tools = _tools({f"/{name}": {"get": {}} for name in ("nan", "half", "cut")}, f"{address}/v1")
    said = {name: invoke(tool, Call(name)) for name, tool in tools.items()}
    assert (said["get_nan"].text, said["get_nan"].data["body"]) == ('{"a": NaN}', None)  # no JSON
    assert said["get_half"].data["body"] is None  # half a character cannot be stored
    assert said["get_cut"].status == "error"
    assert "RemoteProtocolError" in said["get_cut"].text


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"swagger": "2.0", "paths": {}}, "the document is no OpenAPI 3 document; it is Swagger 2"),
        ({"openapi": "3.0.0", "paths": ["/a"]}, "'paths' should be an object"),
        ({"openapi": "3.0.0", "paths": {}, "servers": {"url": "http://x"}}, "'servers' should be a list"),
        ({"openapi": "3.0.0", "paths": {"/a": {"get": {"parameters": [{"in": "query"}]}}}}, "GET /a has no name"),
        (
            {"openapi": "3.0.0", "paths": {"/a": {"get": {"parameters": [{"name": "q", "content": [1]}]}}}},
            "GET /a is not described as OpenAPI 3",
        ),
    ],
)
def test_broken_documents_are_refused_where_they_break(spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        openapi(spec, server="http://x")


def test_servers_are_addresses_and_a_secret_is_sent_where_it_may_be_left_out(address: str) -> None:
    with pytest.raises(ValueError, match="server is 'shelf'; write an address"):
        openapi(SPEC, server="shelf")
    paths: dict[str, Any] = {"/books/1": {"get": {"security": [{}, {"shelf_key": []}]}}}
    (tool,) = openapi({**SPEC, "paths": paths}, server=f"{address}/v1", secrets={"shelf_key": "k"})
    assert json.loads(invoke(tool, Call("")).text)["X-Key"] == "k"
