"""Frames, JSON forms, and who counts as this machine."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrule.core.exact import line_of, read, write
from ferrule.core.records import Artifact, Call, Observation
from ferrule.serve.access import check_key, loopback
from ferrule.serve.frames import FrameError, pack, pack_observation, read_frame
from ferrule.serve.wire import host_reason, http_body, observation_of, refusal


def frames(data: bytes, largest: int = 1000) -> list[dict[str, object]]:
    async def work() -> list[dict[str, object]]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        found = []
        while (message := await read_frame(reader, largest)) is not None:
            found.append(message)
        return found

    return asyncio.run(work())


def test_frames_follow_one_another() -> None:
    """{"a":1} has 7 bytes: the frame is 00 00 00 07 and the text."""
    assert pack({"a": 1}) == b'\x00\x00\x00\x07{"a":1}'
    assert frames(pack({"a": 1}) + pack({"b": [None, "é"]})) == [{"a": 1}, {"b": [None, "é"]}]
    assert frames(pack({"a": 1}) + pack({"b": 2})[:-1]) == [{"a": 1}]  # the stream ended within a frame


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x00\x00\x03\xe9", "1001 bytes"),
        (b"\x00\x00\x00\x02{x", "not JSON"),
        (b"\x00\x00\x00\x02[]", "list"),
        (b"HTTP/1.1 200 OK", "the most is 1000"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(FrameError, match=said):
        frames(data)


def test_a_result_beyond_the_limit_becomes_an_error_that_fits() -> None:
    frame = pack_observation(7, Observation("y" * 5000, data={"big": "z" * 5000}), 2000, lost=False)
    assert len(frame) <= 2004
    (answer,) = frames(frame, 2000)
    assert answer["id"] == 7
    seen = observation_of(answer["observation"])
    assert (seen.status, host_reason(seen)) == ("error", "too_large")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(), st.dictionaries(st.text(), JSON, max_size=3), st.text(), st.text(), st.text())
def test_calls_survive_the_link(name: str, arguments: dict[str, object], number: str, raw: str, problem: str) -> None:
    call = Call(name, arguments, number, raw, problem, ("number:x",))
    assert read(Call, json.loads(line_of(write(call)))) == call


@given(st.text(), JSON, st.booleans())
def test_observations_survive_the_link(text: str, data: object, terminal: bool) -> None:
    files = (Artifact("a.png", "image/png", 3, "data:image/png;base64,AAAA"),)
    seen = Observation(text, "timeout", data, files, 1.5, ("case:y",), terminal)
    back = observation_of(json.loads(line_of(write(seen))))
    assert back == seen
    assert back.seconds == 1.5


def test_everything_has_a_json_form() -> None:
    circle: dict[str, object] = {"text": "t"}
    circle["self"] = circle
    assert json.loads(http_body(circle)) == {"text": "t", "self": "..."}
    assert json.loads(http_body({"nan": float("nan"), "kind": int})) == {"nan": None, "kind": "<class 'int'>"}
    assert json.loads(http_body({"lone": "a\ud800b"})) == {"lone": "a\ufffdb"}


@pytest.mark.parametrize("record", [{}, {"text": 1, "status": "ok"}, {"text": "", "status": "fine"}, {"text": "", "status": "ok", "artifacts": [1]}])  # fmt: skip
def test_records_of_another_form_are_refused(record: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"Observation\.|Artifact"):
        observation_of(record)


def test_reasons_of_tools_are_not_those_of_the_host() -> None:
    assert host_reason(refusal("queue_full", "busy")) == "queue_full"
    assert host_reason(Observation("", "refused", data={"reason": "precondition"})) == ""
    assert host_reason(Observation("", data=["queue_full"])) == ""


def test_this_machine() -> None:
    assert [name for name in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost") if not loopback(name)] == []
    strange = ("", "0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org", "127.0.0.1.example.org")
    assert [name for name in strange if loopback(name)] == []


@pytest.mark.parametrize("key", ["", "short", "has a blank in it", "ünïcödé-key", "line\nbreak-key"])
def test_keys_that_cannot_be_used_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="API key"):
        check_key(key)
