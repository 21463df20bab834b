"""Searching rules and documents together by labelled calls."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ferrule.agents.contexts import Case, Context, Edits, LabelledCall, accepted, implicated, joined, search_contexts
from ferrule.agents.refine import Candidate, Checked, settled
from ferrule.core.records import Call, Tool
from ferrule.tools.documents import about
from ferrule.tools.overlay import Overlay

TOOLS = [
    Tool(name, "", {"type": "object", "properties": {"day": {"type": "string", "description": ""}}}, run=dict)
    for name in ("book", "hold")
]
DAYS = "ISO date"


def predict(context: Context, items: Sequence[LabelledCall]) -> list[Call | None]:
    """Takes the tool whose description says the first word; writes days right where a text of the tool says how."""
    calls: list[Call | None] = []
    for item in items:
        word, number = item.query.split()
        texts = context.overlay.texts
        name = next((tool for tool, text in texts.items() if word in (text.description or "").split()), "hold")
        told = texts[name].parameters.get("day") if name in texts else None
        said = (told.description if told else "") or ""
        knows = DAYS in said or any(
            rule in said and DAYS.lower() in text.lower() for rule, text in context.rules.items()
        )
        calls.append(Call(name, {"day": f"2024-05-0{number}" if knows else f"May {number}"}))
    return calls


def reflect(context: Context, cases: Sequence[Case]) -> Edits:
    texts = {}
    for case in cases:
        gold = case.example.gold.name
        if case.signals[0].kind == "wrong_tool":
            texts[gold, "description"] = case.example.query.split()[0]
        else:
            texts[gold, about("day")] = DAYS
    return Edits(texts={**texts, ("other", "description"): "not concerned"})


EXAMPLES = [
    LabelledCall(f"{'reserve' if tool == 'book' else 'keep'} {number}", Call(tool, {"day": f"2024-05-0{number}"}))
    for number in range(1, 7) for tool in ("book", "hold")
]  # fmt: skip


def test_failures_are_read_and_what_tools_share_becomes_a_rule() -> None:
    result = settled(
        search_contexts(TOOLS, predict, reflect, EXAMPLES, learn=range(8), judge=range(8, 12), size=4, rounds=4)
    )
    assert result.refined.best.checked.score == 1.0
    assert result.context.rules == {"R1": DAYS.lower()}
    assert result.context.overlay.texts["book"].description == "reserve"
    assert {text.parameters["day"].description for text in result.context.overlay.texts.values()} == {"see R1"}
    assert "other" not in result.context.overlay.texts
    assert len(result.context.overlay.history) > 1
    plain = settled(
        search_contexts(
            TOOLS, predict, reflect, EXAMPLES, learn=range(8), judge=range(8, 12), size=4, rounds=4, least=None
        )
    )
    assert plain.context.rules == {}  # the ablation
    assert plain.refined.best.checked.score == 1.0


def test_a_budget_of_calls_ends_the_search() -> None:
    how = {"learn": range(8), "judge": range(8, 12), "size": 4}
    result = settled(search_contexts(TOOLS, predict, reflect, EXAMPLES, most=10, **how))  # type: ignore[arg-type]
    assert result.runs == 12  # 4 to judge the first, 4 to learn, 4 to judge the next
    assert result.refined.ended == "runs"


def test_examples_are_kept_apart() -> None:
    with pytest.raises(ValueError, match="1 examples are learned from and judged on"):
        settled(search_contexts(TOOLS, predict, reflect, EXAMPLES, learn=range(8), judge=range(7, 12)))
    with pytest.raises(ValueError, match="size is 9 and there are 8 examples"):
        settled(search_contexts(TOOLS, predict, reflect, EXAMPLES, learn=range(8), judge=[9], size=9))


def test_candidates_that_fall_are_dropped() -> None:
    scores = [0.5, 0.4, 0.5, 0.45, 0.7]
    candidates = [Candidate(str(place), Checked(score)) for place, score in enumerate(scores)]
    assert [one.text for one in accepted(candidates)] == ["0", "2", "4"]


def test_edits_of_different_texts_are_united() -> None:
    context = joined(Context({"days": "ISO", "old": "x"}), Edits({"old": None, "money": "EUR"}, {("a", "name"): "b"}))
    assert context.rules == {"days": "ISO", "money": "EUR"}
    again = joined(context, Edits({"days": "DMY"}, {("a", "description"): "y"}))
    assert (again.rules["days"], again.overlay.texts["a"].name) == ("DMY", "b")
    assert Context(again.rules, Overlay(again.overlay.texts)).text == again.text
    assert Context().text != context.text


def test_tools_that_were_taken_for_others_are_implicated() -> None:
    example = LabelledCall("x", Call("a"))
    assert implicated([Case(example, Call("b"), ()), Case(example, None, ())]) == {"a", "b"}


def test_a_rule_that_is_pointed_to_stays() -> None:
    """Taken away it would leave ``see R1`` without a meaning."""
    key = ("book", about("day"))
    context = Context({"R1": DAYS, "old": "x"}, Overlay())
    context = joined(context, Edits(texts={key: "see R1"}))
    assert joined(context, Edits({"R1": None, "old": None})).rules == {"R1": DAYS}
    assert joined(context, Edits({"R1": "DMY"})).rules["R1"] == "DMY"
    assert joined(context, Edits({"R1": None}, {key: DAYS})).rules == {"old": "x"}
