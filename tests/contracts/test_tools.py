"""Every tool in the package keeps the promises of a tool, and the suite catches those that do not."""

from __future__ import annotations

import re

import pytest
from tests.contracts import kinds, wrong_kinds
from tests.contracts.checks import Broken
from tests.toys import NOTE

TOOLS = kinds.tools("ferrule.tools", "ferrule.worlds", "ferrule.papers")


def test_discovery_finds_the_basics() -> None:
    assert "ferrule.tools.calculator:calculator" in TOOLS


@pytest.mark.parametrize("name", TOOLS)
def test_tool(name: str) -> None:
    kinds.check_tool(TOOLS[name])


def test_the_sound_tool_passes() -> None:
    kinds.check_tool(NOTE)


@pytest.mark.parametrize("promise", wrong_kinds.TOOLS)
def test_wrong_tool_is_caught(promise: str) -> None:
    with pytest.raises(Broken, match=f"^{re.escape(promise)}"):
        kinds.check_tool(wrong_kinds.TOOLS[promise])
