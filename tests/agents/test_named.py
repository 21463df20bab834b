"""Agents by name: settings as text, what is refused, and the temperature that suits them."""

from __future__ import annotations

import pytest

from ferrule.agents.best_of import BestOf
from ferrule.agents.correct import SelfCorrect
from ferrule.agents.depth_first import DepthFirst
from ferrule.agents.frontier import Beam
from ferrule.agents.named import agent, agent_names, temperature_for
from ferrule.agents.react import ToolLoop
from ferrule.agents.search import Budget
from ferrule.agents.values import calls_that_ran, first, most_passed


def test_agents_by_name() -> None:
    assert {"loop", "dfsdt", "best-of-n", "beam", "best-first", "mcts", "entropy"} <= set(agent_names())
    assert agent("loop", max_tokens=9, turns=3, depth=4) == ToolLoop(turns=3, max_tokens=9)
    assert agent("dfsdt:width=3,reference=true", tokens=400) == DepthFirst(
        width=3, reference=True, budget=Budget(tokens=400)
    )
    assert agent("best-of-n:samples=2,pick=first,system=Be brief.") == BestOf(2, pick=first, system="Be brief.")
    assert agent("beam:value=calls_that_ran", depth=2) == Beam(depth=2, value=calls_that_ran)
    assert agent("best-of-n:pick=most_passed") == BestOf(pick=most_passed)
    assert agent("self-correct:suffix=20,most=2") == SelfCorrect(most=2, suffix=20)


@pytest.mark.parametrize(
    ("text", "tokens", "problem"),
    [
        ("dfsd", None, "unknown agent 'dfsd'; .*dfsdt"),
        ("beam:widht=2", None, "'widht=2' is no setting of 'beam'; .*width"),
        ("beam:width", None, "beam: 'width' has no value; write width=VALUE"),
        ("beam:2", None, "write field=value"),
        ("beam:width=2,depth=3,width=4", None, "beam: 'width' is set twice"),
        ("mcts:weight=nan", None, "weight is a number"),
        ("mcts:weight=-1", None, "MonteCarlo.weight is -1.0; it is a number from 0 on"),
        ("mcts:weight=inf", None, "MonteCarlo.weight is inf"),
        ("beam:width=two", None, "width is a whole number"),
        ("beam:width=0", None, "Beam.width is 0; the least is 1"),
        ("beam:value=best", None, "unknown; .*likelihood"),
        ("dfsdt:reference=yes", None, "reference is true or false"),
        ("dfsdt:hint=x", None, "hint is set from Python only"),
        ("loop", 100, "does not search"),
    ],
)
def test_what_is_unknown_is_refused(text: str, tokens: int | None, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        agent(text, tokens=tokens)


def test_agents_that_search_draw_different_steps() -> None:
    assert temperature_for("loop") == 0.0
    assert temperature_for("beam:width=2") == 1.0
