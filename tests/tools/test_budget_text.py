"""Budgets and cutting text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ferrule.core.clip import clean, clip
from ferrule.core.records import Tool
from ferrule.tools.budget import Budget


def make(name: str, cost: float = 1.0, terminal: bool = False) -> Tool:
    return Tool(name, "", {}, run=print, cost=cost, terminal=terminal)


def test_total_counts_cost_and_refusals_spend_nothing() -> None:
    budget = Budget(total=1.0)
    cheap, dear = make("cheap", 0.1), make("dear", 0.5)
    for _ in range(6):
        assert budget.charge(cheap) is None
    # 0.6 is spent, so 0.5 more does not fit, 0.4 does: ten times 0.1 is exactly the total
    assert "(0.6 of 1 used, 'dear' costs 0.5)" in str(budget.charge(dear))
    assert [budget.charge(cheap) for _ in range(4)] == [None] * 4
    assert budget.charge(cheap) is not None
    assert budget.left == pytest.approx(0.0)


def test_per_tool_counts_calls_and_terminal_tools_are_free() -> None:
    budget = Budget(per_tool={"look": 1})
    look, end = make("look"), make("answer", terminal=True)
    assert budget.charge(look) is None
    assert budget.charge(look) == "the budget of 1 call(s) of 'look' is spent"
    assert budget.left is None
    assert Budget(total=0).charge(end) is None
    assert Budget(total=0).charge(look) is not None


def test_copies_are_independent() -> None:
    first = Budget(total=2)
    first.charge(make("a"))
    second = first.copy()
    assert second.charge(make("a")) is None
    assert (first.left, second.left) == (1.0, 0.0)


def test_many_threads_spend_exactly_the_total() -> None:
    budget, one = Budget(total=50), make("a")
    with ThreadPoolExecutor(8) as pool:
        granted = sum(reason is None for reason in pool.map(lambda _: budget.charge(one), range(200)))
    assert granted == 50


def test_negative_allowances_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Budget\.total is -1"):
        Budget(total=-1)
    with pytest.raises(ValueError, match=r"per_tool\['a'\] is -2"):
        Budget(per_tool={"a": -2})


def test_clip_keeps_the_asked_part_and_counts_the_rest() -> None:
    text = "0123456789"
    assert clip(text, 10) == text
    assert clip(text, None) == text
    assert clip(text, 3) == "012\n[... 7 characters left out ...]"
    assert clip(text, 3, "tail") == "[... 7 characters left out ...]\n789"
    # an odd limit gives the extra character to the front: 2 + 1
    assert clip(text, 3, "middle") == "01\n[... 7 characters left out ...]\n9"
    assert clip(text, 0, "tail") == "[... 10 characters left out ...]\n"
    with pytest.raises(ValueError, match="did you mean 'middle'"):
        clip(text, 3, "midle")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="limit is -1"):
        clip(text, -1)


def test_clean_replaces_only_lone_surrogates() -> None:
    assert clean("a😀é") == "a😀é"
    assert clean("a\udc80b") == "a\ufffdb"
