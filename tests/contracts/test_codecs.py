"""Every codec in the package keeps the promises of a codec, and the suite catches those that do not."""

from __future__ import annotations

import re

import pytest
from tests.contracts import kinds, wrong_kinds
from tests.contracts.checks import Broken

from ferrule.chat.codec import codec, codec_names

SETTINGS = {
    **{name: {} for name in codec_names()},
    "hermes, several": {"several": True},
    "hermes, tight": {"shape": "tight", "style": "signature"},
    "mistral, args": {"form": "args"},
    "deepseek, bare": {"form": "bare"},
    "gemma, function": {"form": "function_gemma"},
    "tagged, known tools": {"arguments": (("search", "query"), ("note", "text"))},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_codec(name: str) -> None:
    kinds.check_codec(codec(name.split(",")[0], **SETTINGS[name]))


@pytest.mark.parametrize("promise", wrong_kinds.CODECS)
def test_wrong_codec_is_caught(promise: str) -> None:
    with pytest.raises(Broken, match=f"^{re.escape(promise)}"):
        kinds.check_codec(wrong_kinds.CODECS[promise])
