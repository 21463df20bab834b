"""Every agent in the package keeps the promises of an agent, and the suite catches those that do not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.branching import Fanout
from tests.contracts import kinds, wrong_kinds
from tests.contracts.checks import Broken

AGENTS = kinds.agents("ferrule.agents", "ferrule.papers")


def test_discovery_finds_the_basics() -> None:
    assert "ferrule.agents.react:ToolLoop" in AGENTS


@pytest.mark.parametrize("name", AGENTS)
def test_agent(name: str) -> None:
    kinds.check_agent(AGENTS[name])


@pytest.mark.parametrize("agent", [wrong_kinds.SOUND_AGENT, Fanout()], ids=["one request", "tuples"])
def test_sound_agents_pass(agent: Any) -> None:
    kinds.check_agent(agent)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("promise", wrong_kinds.AGENTS)
def test_wrong_agent_is_caught(promise: str) -> None:
    with pytest.raises(Broken, match=f"^{re.escape(promise)}"):
        kinds.check_agent(wrong_kinds.AGENTS[promise])
