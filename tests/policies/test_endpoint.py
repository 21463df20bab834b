"""The endpoint policy against a real HTTP server on this machine; what goes over the wire is asserted."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ferrule.chat.codec import codec
from ferrule.core.flows import Ask, Sampling
from ferrule.core.records import Call, Image, Message, Tool, plain_text
from ferrule.policies.endpoint.endpoint import Endpoint, Meter, PolicyError
from ferrule.policies.endpoint.http import retry_after
from ferrule.policies.endpoint.wire import from_choice, whole

ADD = Tool(
    "add",
    "Add two numbers.",
    {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]},
    lambda a, b: a + b,
)
QUESTION = (Message("user", "What is 1 + 2?"),)


def choice(text: str | None = "3", finish: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, **more.pop("message", {})}
    return {"index": 0, "finish_reason": finish, "message": message, **more}


def answer(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 7, "completion_tokens": 2 * len(choices)}
    return {"object": "chat.completion", "choices": list(choices), "usage": usage, **more}


def called(arguments: Any, name: Any = "add", identity: Any = "c1") -> dict[str, Any]:
    entry = {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}
    return choice(None, "tool_calls", message={"tool_calls": [entry]})


class Wire:
    """What the server was sent, and how it answers: ``respond(handler, body, number)``."""

    def __init__(self, respond: Callable[[Handler, dict[str, Any], int], Any]) -> None:
        self.respond = respond
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.url = ""
        self.lock = threading.Lock()
        self.released = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wire: Wire

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.wire.paths.append(self.path)
        self.reply({"data": [{"id": "only-model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        wire = self.wire
        with wire.lock:
            number = len(wire.bodies)
            wire.bodies.append(body)
            wire.paths.append(self.path)
            wire.headers.append(dict(self.headers.items()))
            wire.times.append(time.monotonic())
        made = wire.respond(self, body, number)
        if made is not None:
            self.reply(made)

    def reply(self, body: Any, status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def reset(self) -> None:
        """Send half an answer and reset the connection."""
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices": [')
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


class Quiet(ThreadingHTTPServer):
    """A server that does not print when a client hangs up."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        pass


@contextmanager
def serving(respond: Callable[[Handler, dict[str, Any], int], Any]) -> Iterator[Wire]:
    wire = Wire(respond)
    server = Quiet(("127.0.0.1", 0), type("Bound", (Handler,), {"wire": wire}))
    wire.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield wire
    finally:
        wire.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def one(wire: Wire, ask: Ask | None = None, **options: Any) -> Any:
    """Return the only reply to an ask."""
    with Endpoint(wire.url, "m", backoff=0.01, **options) as policy:
        ((reply,),) = policy.generate([ask or Ask(QUESTION)])
        return reply


def test_request_and_reply() -> None:
    with serving(lambda h, body, i: answer(choice("It is 3."))) as wire:
        ask = Ask(QUESTION, max_tokens=9, temperature=0.25, stop=("END",), seed=5)
        reply = one(wire, ask, api_key="secret", seed=2, headers={"X-Team": "t"}, extra={"top_p": 0.5})
    assert (plain_text(reply.message), reply.finish, reply.message.calls) == ("It is 3.", "stop", ())
    assert (reply.given, reply.sampled, reply.logps) == ((), (), ())
    assert wire.paths == ["/v1/chat/completions"]
    assert wire.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "What is 1 + 2?"}],
            "temperature": 0.25,
            "max_tokens": 9,
            "seed": 7,
            "stop": ["END"],
            "top_p": 0.5,
        }
    ]
    sent = {name.lower(): value for name, value in wire.headers[0].items()}
    assert (sent["authorization"], sent["x-team"]) == ("Bearer secret", "t")


def test_the_only_model_of_a_server_is_asked_for_once() -> None:
    with serving(lambda h, body, i: answer(choice())) as wire:
        with Endpoint(wire.url.removesuffix("/v1")) as policy:
            policy.generate([Ask(QUESTION)] * 4)
            assert policy.name == "only-model"
        assert [body["model"] for body in wire.bodies] == ["only-model"] * 4
        assert wire.paths.count("/v1/models") == 1


def test_native_tools_go_out_as_schemas_and_come_back_as_calls() -> None:
    with serving(lambda h, body, i: answer(called('{"a": 1, "b": 2}'))) as wire:
        reply = one(wire, Ask(QUESTION, tools=(ADD,)))
    (tool,) = wire.bodies[0]["tools"]
    assert tool == {
        "type": "function",
        "function": {"name": "add", "description": "Add two numbers.", "parameters": ADD.parameters},
    }
    (call,) = reply.message.calls
    assert (call.name, call.arguments, call.id, call.problem) == ("add", {"a": 1, "b": 2}, "c1", "")
    assert (plain_text(reply.message), reply.finish) == ("", "stop")


@pytest.mark.parametrize(
    ("arguments", "name", "problem"),
    [
        ('{"a": 1, "b"', "add", "not JSON"),
        ("NaN", "add", "must be a JSON object, not the text 'NaN'"),
        ("[1, 2]", "add", "must be a JSON object, not list"),
        (7, "add", "must be a JSON object, not int"),
        ('{}{"a": 1}', "add", "several JSON values"),
        ("{}", None, "no name"),
        ("{}", "", "no name"),
    ],
)
def test_bad_calls_carry_a_problem(arguments: Any, name: Any, problem: str) -> None:
    with serving(lambda h, body, i: answer(called(arguments, name))) as wire:
        reply = one(wire, Ask(QUESTION, tools=(ADD,)))
    (call,) = reply.message.calls
    assert problem in call.problem
    assert json.loads(call.raw)["function"]["arguments"] == arguments


def test_calls_of_odd_servers_are_read() -> None:
    # Arguments as an object, no arguments, no id; an entry that is no call at all.
    entries = [
        {"function": {"name": "add", "arguments": {"a": 1}}},
        {"function": {"name": "add", "arguments": ""}},
        "nothing",
        {"id": "x", "name": "add", "arguments": {"a": 2}},  # without the inner object
        {"id": "x", "function": {"name": "add", "arguments": '{"a": 3}""'}},
        {"function": {"name": "add", "arguments": json.dumps('{"a": 4}')}},  # in quotes twice
    ]
    with serving(lambda h, body, i: answer(choice("", message={"tool_calls": entries}))) as wire:
        calls = one(wire, Ask(QUESTION, tools=(ADD,))).message.calls
    assert [(c.id, dict(c.arguments), bool(c.problem)) for c in calls] == [
        ("call_0", {"a": 1}, False),
        ("call_1", {}, False),
        ("call_2", {}, True),
        ("x", {"a": 2}, False),
        ("call_4", {"a": 3}, False),
        ("call_5", {"a": 4}, False),
    ]
    assert [c.repairs for c in calls[-2:]] == [("trailing text", "repeated id"), ("arguments as text",)]


@pytest.mark.parametrize(
    ("entries", "arguments"),
    [
        ([{"name": "f", "parameters": {"x": 1}}], {"x": 1}),
        ([{"name": "f", "input": '{"x": 1}'}], {"x": 1}),
        ([{"function": {"name": "f"}, "arguments": {"x": 1}}], {"x": 1}),
        ('[{"function": {"name": "f", "arguments": "{\\"x\\": 1}"}}]', {"x": 1}),
        ([{"name": "f", "index": 0, "type": "function", "output": None}], {}),
        ([{"name": "f", "arguments": {"x": 1}, "parsed_arguments": {}, "status": "completed"}], {"x": 1}),
        ([{"function": {"name": "f", "arguments": {"x": 1}}, "arguments": {"x": 1}, "signature": "s"}], {"x": 1}),
        ([{"name": "f", "x": 1}], "stand beside the name"),
        ([{"name": "f", "arguments": "{}", "x": 1}], "['x'] stand beside 'arguments'"),
        ([{"name": "f", "arguments": {"y": 1}, "parameters": {"x": 1}}], "['parameters'] stand beside 'arguments'"),
        ([{"function": {"name": "f"}, "x": 1}], "['x'] stand beside the name"),
        ([{"function": {"name": "f", "arguments": ""}, "x": 1}], "['x'] stand beside 'arguments'"),
        ([{"function": {"name": "f", "arguments": "{}"}, "arguments": {"x": 1}}], "['arguments'] stand beside"),
        ("f(x=1)", "the call has no function"),
    ],
)
def test_arguments_that_servers_write_elsewhere_are_not_dropped(entries: Any, arguments: Any) -> None:
    (call,) = from_choice(choice(None, message={"tool_calls": entries}), {}, codec=None).message.calls
    if isinstance(arguments, str):
        assert arguments in call.problem
    else:
        assert (call.name, dict(call.arguments), call.problem) == ("f", arguments, "")


@pytest.mark.parametrize("content", ["Yes.", ["Yes."], [{"type": "text", "text": "Yes."}]])
def test_a_plain_reply_is_no_refusal(content: Any) -> None:
    reply = from_choice(choice(None, message={"content": content}), {}, codec=None)
    assert (reply.message.content, dict(reply.extras)) == ("Yes.", {})


def test_replies_of_old_servers_and_refusals_are_not_lost() -> None:
    def reply(finish: str, **message: Any) -> Any:
        return from_choice(choice(None, finish, message=message), {}, codec=None)

    old = reply("function_call", function_call={"name": "add", "arguments": '{"a": 1, "b": 2}'})
    assert [(c.name, c.arguments, c.problem) for c in old.message.calls] == [("add", {"a": 1, "b": 2}, "")]
    for refused in (
        reply("stop", refusal="I cannot."),
        reply("stop", content=[{"type": "refusal", "refusal": "I cannot."}]),
    ):
        assert (refused.message.content, refused.extras["refusal"]) == ("I cannot.", "I cannot.")
    single = reply("tool_calls", tool_calls={"function": {"name": "add", "arguments": "{}"}})
    assert single.message.calls[0].name == "add"
    textual = from_choice(called("{}"), {}, codec=codec("hermes"))
    assert [c.name for c in textual.message.calls] == ["add"]  # read by the server, though it was asked for text


@pytest.mark.parametrize("finish", ["length", "max_tokens", "model_length", "content_filter"])
def test_the_last_call_of_a_reply_that_was_cut_off_is_malformed(finish: str) -> None:
    entries = [{"function": {"name": "add", "arguments": '{"a": 1}'}} for _ in range(2)]
    reply = from_choice(choice(None, finish, message={"tool_calls": entries}), {}, codec=None)
    assert [(c.problem, dict(c.arguments)) for c in reply.message.calls] == [("", {"a": 1}), ("cut off", {})]


CALL = '<tool_call>{"name": "add", "arguments": {"a": %d}}'


def test_a_stop_string_inside_thinking_does_not_end_a_reply() -> None:
    text = f"<think>maybe {CALL % 1}</tool_call> no.</think>{CALL % 2}"
    reply = from_choice(choice(text), {}, codec=codec("hermes"), stops=("</tool_call>",))
    assert [(c.arguments, c.repairs) for c in reply.message.calls] == [({"a": 2}, ())]

    def respond(_: Handler, body: dict[str, Any], i: int) -> Any:
        return answer(choice(text.split("</tool_call>")[0] if "stop" in body else f"{text}</tool_call> and on"))

    with serving(respond) as wire:
        again = one(wire, Ask(QUESTION, tools=(ADD,)), codec="hermes")
    assert [c.arguments for c in again.message.calls] == [{"a": 2}]
    assert str(again.message.content).endswith("</think>")
    assert ["stop" in body for body in wire.bodies] == [True, False]


def test_a_server_whose_template_opens_thinking_is_told_apart() -> None:
    text = f"maybe {CALL % 1}</tool_call>"
    with serving(lambda h, body, i: answer(choice(text, "length"))) as wire:
        plain = one(wire, Ask(QUESTION, tools=(ADD,)), codec="hermes")
        thinking = one(wire, Ask(QUESTION, tools=(ADD,)), codec="hermes", opens_thinking=True)
    assert (len(plain.message.calls), len(thinking.message.calls)) == (1, 0)
    assert ["stop" in body for body in wire.bodies] == [True, False]


def test_history_ties_results_to_calls() -> None:
    history = (
        *QUESTION,
        Message("assistant", "", (Call("add", {"a": 1}), Call("", problem="unreadable", raw="{x"))),
        Message("tool", "1"),
        Message("tool", "cannot be read"),
        Message("assistant", "", (Call("add", {"a": 2}, id="z"),)),
        Message("tool", "2", name="add", call_id="z"),
    )
    with serving(lambda h, body, i: answer(choice())) as wire:
        one(wire, Ask(history, tools=(ADD,)))
    sent = wire.bodies[0]["messages"]
    assert [[c["id"] for c in m.get("tool_calls", [])] for m in sent] == [
        [],
        ["call_1_0", "call_1_1"],
        [],
        [],
        ["z"],
        [],
    ]
    assert [m.get("tool_call_id") for m in sent] == [None, None, "call_1_0", "call_1_1", None, "z"]
    assert [json.loads(c["function"]["arguments"]) for c in sent[1]["tool_calls"]] == [{"a": 1}, {}]
    assert all(c["function"]["name"] for c in sent[1]["tool_calls"])


def test_textual_mode_describes_tools_and_reads_calls() -> None:
    # The server cuts the stop string off, as most do; the call must come back whole and unrepaired.
    text = 'Sure.\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n'
    history = (
        Message("system", "Be brief."),
        *QUESTION,
        Message("assistant", "", (Call("add", {"a": 1, "b": 2}, id="call_0"),)),
        Message("tool", "3", name="add"),
        Message("tool", "4", name="add"),
    )
    with serving(lambda h, body, i: answer(choice(text))) as wire:
        reply = one(wire, Ask(history, tools=(ADD,)), codec="hermes")
    (body,) = wire.bodies
    assert "tools" not in body
    assert body["stop"] == ["</tool_call>"]
    roles = [m["role"] for m in body["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    system, _, assistant, results = (m["content"] for m in body["messages"])
    assert system.startswith("Be brief.\n\n# Tools")
    assert '"add"' in system
    assert assistant == '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    assert results == "<tool_response>\n3\n</tool_response>\n<tool_response>\n4\n</tool_response>"
    (call,) = reply.message.calls
    assert (call.name, call.arguments, call.problem, call.repairs) == ("add", {"a": 1, "b": 2}, "", ())
    assert plain_text(reply.message) == "Sure."


@pytest.mark.parametrize(
    ("text", "stops", "hit", "stopped", "expected"),
    [
        ("a</x>b", ("</x>",), None, True, "a</x>"),  # the server went on: cut
        ("<x>a", ("</x>",), None, True, "<x>a</x>"),  # an open tag: the stop string was hit
        ("a", ("</x>",), None, True, "a"),  # nothing open: the turn ended by itself
        ("<x>a", ("</x>",), None, False, "<x>a"),  # cut off by length: nothing is put back
        ("a", ("END",), "END", True, "aEND"),  # the server names what it hit
        ("<think>a</x></think><x>b</x>c", ("</x>",), None, True, "<think>a</x></think><x>b</x>"),  # not in thinking
        ("a</x></think><x>b", ("</x>",), None, True, "a</x></think><x>b</x>"),  # thinking that the prompt opened
    ],
)
def test_stop_strings_are_put_back(
    text: str, stops: tuple[str, ...], hit: str | None, stopped: bool, expected: str
) -> None:
    assert whole(text, stops, None, hit, stopped) == expected


def test_images_go_out_as_data_urls(tmp_path: Path) -> None:
    path = tmp_path / "dot.png"
    path.write_bytes(b"\x89PNG")
    message = Message("user", ("see ", Image(str(path)), Image("data:image/gif;base64,AA==", "image/gif")))
    with serving(lambda h, body, i: answer(choice())) as wire:
        one(wire, Ask((message,)))
    assert wire.bodies[0]["messages"][0]["content"] == [
        {"type": "text", "text": "see "},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()}},
        {"type": "image_url", "image_url": {"url": "data:image/gif;base64,AA=="}},
    ]


def test_samples_in_one_request_when_the_server_can() -> None:
    def respond(h: Handler, body: dict[str, Any], i: int) -> Any:
        return answer(*[choice(str(k)) for k in range(body.get("n", 1))])

    with serving(respond) as wire, Endpoint(wire.url, "m") as policy:
        (row,) = policy.generate([Ask(QUESTION, n=3)])
    assert [plain_text(r.message) for r in row] == ["0", "1", "2"]
    assert [body.get("n") for body in wire.bodies] == [3]


def test_server_that_ignores_n_is_asked_again_with_other_seeds() -> None:
    with serving(lambda h, body, i: answer(choice(str(body["seed"])))) as wire, Endpoint(wire.url, "m") as policy:
        rows = [policy.generate([Ask(QUESTION, n=3, seed=10)])[0] for _ in range(2)]
    # First ask: n=3 gives one choice (seed 10), then samples 1 and 2 alone. Second: three single requests.
    assert [[plain_text(r.message) for r in row] for row in rows] == [["10", "11", "12"]] * 2
    assert [body.get("n") for body in wire.bodies] == [3, None, None, None, None, None]


def test_server_that_refuses_n_is_asked_one_by_one() -> None:
    def respond(h: Handler, body: dict[str, Any], i: int) -> Any:
        if body.get("n", 1) > 1:
            return h.reply({"error": {"message": "only one completion choice is allowed"}}, 400)
        return answer(choice())

    with serving(respond) as wire, Endpoint(wire.url, "m") as policy:
        assert len(policy.generate([Ask(QUESTION, n=2)])[0]) == 2


def test_busy_server_is_given_the_time_it_asks_for() -> None:
    def respond(h: Handler, body: dict[str, Any], i: int) -> Any:
        if i == 0:
            return h.reply({"error": {"message": "slow down"}}, 429, Retry_After="0.3")
        return answer(choice())

    with serving(respond) as wire, Endpoint(wire.url, "m", backoff=0.001) as policy:
        policy.generate([Ask(QUESTION)])
        assert wire.times[1] - wire.times[0] >= 0.3
        meter = policy.meters["solver"]
        assert (meter.requests, meter.retries, meter.errors) == (2, 1, 0)


def test_too_long_a_wait_is_an_error_that_says_so() -> None:
    with serving(lambda h, body, i: h.reply({"error": "busy"}, 503, Retry_After="900")) as wire:
        with pytest.raises(PolicyError, match="HTTP 503: busy; it asks for 900 s"):
            one(wire)
        assert len(wire.bodies) == 1


@pytest.mark.parametrize("trouble", ["500", "reset", "garbage", "list", "no choices", "timeout"])
def test_trouble_that_passes_is_retried(trouble: str) -> None:
    def respond(h: Handler, body: dict[str, Any], i: int) -> Any:
        if i >= 2:
            return answer(choice("fine"))
        if trouble == "500":
            return h.reply(b"oops", 500)
        if trouble == "reset":
            return h.reset()
        if trouble == "timeout":
            wire.released.wait(5)
            h.close_connection = True
            return None
        return h.reply({"garbage": b"<html>", "list": b"[1]", "no choices": b'{"choices": []}'}[trouble])

    with serving(respond) as wire, Endpoint(wire.url, "m", backoff=0.01, timeout=0.5) as policy:
        ((reply,),) = policy.generate([Ask(QUESTION)])
        assert plain_text(reply.message) == "fine"
        meter = policy.meters["solver"]
        assert (meter.requests, meter.retries, meter.errors) == (3, 2, 0)


@pytest.mark.parametrize(
    ("respond", "said"),
    [
        (lambda h, body, i: h.reply({"error": {"message": "out of memory"}}, 500), "HTTP 500: out of memory"),
        (lambda h, body, i: h.reset(), "Error"),
        (lambda h, body, i: h.reply(b"<html>"), "something else than JSON: '<html>'"),
        (lambda h, body, i: h.wire.released.wait(5) and None, "no answer within 0.3 s"),
    ],
)
def test_trouble_that_stays_ends_in_an_error_with_its_cause(respond: Any, said: str) -> None:
    with serving(respond) as wire, Endpoint(wire.url, "m", backoff=0.01, timeout=0.3, retries=2) as policy:
        with pytest.raises(PolicyError) as caught:
            policy.generate([Ask(QUESTION)])
        assert said in str(caught.value)
        assert f"{wire.url}/chat/completions: no usable answer in 3 attempts" in str(caught.value)
        meter = policy.meters["solver"]
        assert (meter.requests, meter.retries, meter.errors) == (3, 2, 1)


def test_slow_trickle_does_not_outlive_the_timeout() -> None:
    def respond(h: Handler, body: dict[str, Any], i: int) -> Any:
        h.send_response(200)
        h.send_header("Content-Length", "1000")
        h.end_headers()
        while not wire.released.wait(0.05):  # every read succeeds, the answer never ends
            h.wfile.write(b" ")
            h.wfile.flush()

    with serving(respond) as wire, pytest.raises(PolicyError, match=r"no answer within 0\.4 s"):
        one(wire, timeout=0.4, retries=0)


def test_dead_server_names_address_and_cause() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with Endpoint(url, "m", backoff=0.01, retries=1) as policy, pytest.raises(PolicyError) as caught:
            policy.generate([Ask(QUESTION)])
    assert url in str(caught.value)
    assert "ConnectError" in str(caught.value)


def test_refusals_are_not_retried_and_quote_the_server() -> None:
    with serving(lambda h, body, i: h.reply({"error": {"message": "model 'm' does not exist"}}, 404)) as wire:
        with pytest.raises(PolicyError, match="HTTP 404: model 'm' does not exist"):
            one(wire)
        assert len(wire.bodies) == 1


def test_prompt_that_does_not_fit_ends_as_length() -> None:
    problem = "the request exceeds the available context size"
    with serving(lambda h, body, i: h.reply({"error": {"message": problem}}, 400)) as wire:
        reply = one(wire)
    assert (reply.finish, plain_text(reply.message), reply.extras["problem"]) == ("length", "", problem)


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        *[("stop", "stop"), ("tool_calls", "stop"), ("end_turn", "stop"), ("content_filter", "error")],
        *[("length", "length"), ("max_tokens", "length"), ("model_length", "length")],
    ],
)
def test_finish_words(word: str, finish: str) -> None:
    with serving(lambda h, body, i: answer(choice("x", word))) as wire:
        assert one(wire).finish == finish


def test_log_probs_and_ids_when_the_server_gives_both() -> None:
    pairs = {"content": [{"token": "3", "logprob": -0.5}, {"token": "<end>", "logprob": -0.25}]}
    full = answer(choice("3", logprobs=pairs, token_ids=[33, 2]), prompt_token_ids=[1, 4, 5])
    with serving(
        lambda h, body, i: full if body.get("return_token_ids") else answer(choice("3", logprobs=pairs))
    ) as wire:
        with_ids = one(wire, token_ids=True)
        without = one(wire, Ask(QUESTION, want=("logprobs",)))
    assert [body["logprobs"] for body in wire.bodies] == [True, True]
    assert (with_ids.given, with_ids.sampled, with_ids.logps) == ((1, 4, 5), (33, 2), (-0.5, -0.25))
    assert (without.given, without.sampled, without.logps) == ((), (), ())
    assert without.extras["logprobs"] == (("3", -0.5), ("<end>", -0.25))


def test_ids_that_do_not_match_the_log_probs_are_left_out() -> None:
    pairs = {"content": [{"token": "3", "logprob": -0.5}]}
    body = answer(choice("3", logprobs=pairs, token_ids=[33, 2]), prompt_token_ids=[1])
    with serving(lambda h, b, i: body) as wire:
        assert one(wire, token_ids=True).sampled == ()


def test_of_constraints_only_the_nucleus_is_sent() -> None:
    with serving(lambda h, body, i: answer(choice())) as wire:
        one(wire, Ask(QUESTION, sampling=Sampling(top_p=0.9)))
        assert wire.bodies[0]["top_p"] == 0.9
        with pytest.raises(PolicyError, match=r"top_k=3.*only top_p"):
            one(wire, Ask(QUESTION, sampling=Sampling(top_k=3)))


def test_wish_that_no_server_grants_is_refused() -> None:
    with (
        serving(lambda h, body, i: answer(choice())) as wire,
        pytest.raises(PolicyError, match="cannot give 'entropy'"),
    ):
        one(wire, Ask(QUESTION, want=("entropy",)))


def test_prefill_is_sent_as_the_beginning_of_the_reply() -> None:
    with serving(lambda h, body, i: answer(choice(" tuna"))) as wire:
        reply = one(wire, Ask(QUESTION, prefill="for"))
    assert plain_text(reply.message) == "for tuna"
    assert wire.bodies[0]["messages"][-1] == {"role": "assistant", "content": "for"}
    assert wire.bodies[0]["continue_final_message"] is True


def test_reasoning_is_kept_apart() -> None:
    with serving(lambda h, body, i: answer(choice("3", message={"reasoning_content": "1 + 2 ..."}))) as wire:
        reply = one(wire)
    assert (plain_text(reply.message), reply.extras["reasoning"]) == ("3", "1 + 2 ...")


def test_requests_in_flight_are_bounded_and_reach_the_bound() -> None:
    # Nobody is answered before three requests are in flight; a fourth may come only after one has been answered.
    state = {"now": 0, "most": 0}
    gate = threading.Condition()

    def respond(h: Handler, body: dict[str, Any], i: int) -> Any:
        with gate:
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
            gate.notify_all()
            assert gate.wait_for(lambda: state["most"] >= 3, timeout=20)
        time.sleep(0.02)
        with gate:
            state["now"] -= 1
        return answer(choice(body["messages"][0]["content"]))

    with serving(respond) as wire, Endpoint(wire.url, "m", concurrency=3) as policy:
        asks = [Ask((Message("user", str(i)),)) for i in range(12)]
        rows = policy.generate(asks)
    assert [plain_text(row[0].message) for row in rows] == [str(i) for i in range(12)]
    assert state["most"] == 3


def test_meters_count_by_role() -> None:
    with serving(lambda h, body, i: answer(*[choice()] * body.get("n", 1))) as wire, Endpoint(wire.url, "m") as policy:
        policy.generate([Ask(QUESTION), Ask(QUESTION, n=2), Ask(QUESTION, role="judge")])
        solver, judge = policy.meters["solver"], policy.meters["judge"]
    # usage is 7 prompt tokens a request and 2 completion tokens a choice.
    assert (solver.requests, solver.prompt_tokens, solver.completion_tokens) == (2, 14, 6)
    assert (judge.requests, judge.prompt_tokens, judge.completion_tokens) == (1, 7, 2)
    assert solver.seconds > 0


def test_works_inside_a_running_loop_and_as_a_coroutine() -> None:
    async def play(policy: Endpoint) -> tuple[int, int]:
        inside = len(policy.generate([Ask(QUESTION)]))
        rows = await asyncio.gather(*(policy.agenerate(Ask(QUESTION, n=2)) for _ in range(3)))
        return inside, sum(len(row) for row in rows)

    with serving(lambda h, body, i: answer(*[choice()] * body.get("n", 1))) as wire, Endpoint(wire.url, "m") as policy:
        assert asyncio.run(play(policy)) == (1, 6)
        assert asyncio.run(play(policy)) == (1, 6), "a second loop uses the same connections"


def test_one_failed_ask_gives_the_others_up() -> None:
    def respond(h: Handler, body: dict[str, Any], i: int) -> Any:
        if body["messages"][0]["content"] == "bad":
            return h.reply({"error": "no"}, 403)
        wire.released.wait(20)
        return answer(choice())

    with serving(respond) as wire, Endpoint(wire.url, "m") as policy:
        with pytest.raises(PolicyError, match="403"):
            policy.generate([Ask(QUESTION), Ask((Message("user", "bad"),))])
        assert not wire.released.is_set()


def test_thread_ends_when_the_policy_is_dropped() -> None:
    def mine() -> int:
        return sum(thread.name == "ferrule-endpoint" for thread in threading.enumerate())

    before = mine()
    with serving(lambda h, body, i: answer(choice())) as wire:
        policy = Endpoint(wire.url, "m")
        policy.generate([Ask(QUESTION)])
        assert mine() == before + 1
        del policy
        deadline = time.monotonic() + 10
        while mine() > before and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.01)
    assert mine() == before


def test_retry_after_forms() -> None:
    assert retry_after("2") == 2.0
    assert retry_after("-1") == 0.0
    assert retry_after(None) is None
    assert retry_after("soon") is None
    assert retry_after(formatdate(1000.0, usegmt=True), now=990.0) == 10.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "localhost:8000"}, "http://HOST:PORT/v1"),
        ({"url": "http://h/v1", "tool_role": "tols"}, "did you mean 'tool'"),
        ({"url": "http://h/v1", "concurrency": 0}, "at least 1"),
        ({"url": "http://h/v1", "extra": {"n": 2}}, "sets \\['n'\\]"),
        ({"url": "http://h/v1", "codec": "hermez"}, "hermes"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Endpoint(**options)


def test_keys_come_from_the_environment_and_stay_out_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "only-for-openai")
    monkeypatch.delenv("FERRULE_API_KEY", raising=False)
    with serving(lambda h, body, i: answer(choice())) as wire:
        one(wire)
        monkeypatch.setenv("FERRULE_API_KEY", "mine")
        one(wire)
        assert "mine" not in repr(Endpoint(wire.url))
    assert [h.get("Authorization", h.get("authorization")) for h in wire.headers] == [None, "Bearer mine"]


def test_meter_ignores_usage_it_cannot_read() -> None:
    meter = Meter()
    meter.add({"usage": {"prompt_tokens": None, "completion_tokens": 3}})
    meter.add({"usage": "none"})
    assert (meter.prompt_tokens, meter.completion_tokens) == (0, 3)
