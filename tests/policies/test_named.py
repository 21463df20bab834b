"""Policies by name: the names of the command line, from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrule.chat.codec import codec
from ferrule.policies.endpoint.endpoint import Endpoint
from ferrule.policies.local import Local
from ferrule.policies.named import load
from ferrule.policies.pocket import WEIGHTS
from ferrule.policies.pocket.forms import layout


def test_a_name_a_folder_and_a_url_are_loaded_alike() -> None:
    pocket = load("pocket")
    assert isinstance(pocket, Local)
    folder = load(Path(WEIGHTS), dtype="float32")
    assert isinstance(folder, Local)
    assert folder.encode("a") == pocket.encode("a")
    server = load("http://127.0.0.1:1/v1", codec="hermes", retries=0)
    assert isinstance(server, Endpoint)
    assert (server.codec.name, server.retries) == ("hermes", 0)


def test_a_codec_replaces_that_of_the_model() -> None:
    own = load("pocket").renderer
    assert load("pocket", codec="react").renderer == layout("react")
    other = load(Path(WEIGHTS), codec="tagged:call").renderer
    assert (other.codec, other.end) == (codec("tagged", style="call"), own.end)


def test_what_would_do_nothing_and_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dtype, device would do nothing: http://127.0.0.1:1/v1 is a server"):
        load("http://127.0.0.1:1/v1", dtype="auto", device="cpu")
    with pytest.raises(ValueError, match="did you mean 'pocket'"):
        load("pockt")
