"""JTPRO: rules and documents searched together by labelled calls."""

from __future__ import annotations

import json

import pytest
from tests.toys import layout

from ferrule.agents.context_asks import instructions, read_edits, told_case
from ferrule.agents.contexts import Case, Context, LabelledCall
from ferrule.agents.refine import Candidate, Checked
from ferrule.agents.text_search import by_item, item_fronts
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Tool, plain_text
from ferrule.papers.claims.jtpro import STUDY
from ferrule.papers.jtpro import inventory, optimised, scored
from ferrule.policies.scripted import Scripted
from ferrule.rewards.slots import signals
from ferrule.studies.standins.lookalikes import DATES, Clerk, draw_lookalikes
from ferrule.studies.standins.unnamed import draw_lookups, noted_words, requests_for, tools_of
from ferrule.tools.documents import about, edited
from ferrule.tools.overlay import Overlay

PARAMETERS = {"type": "object", "properties": {"day": {"type": "string", "description": "a day"}}}
TOOLS = [Tool(name, f"{name}s a table", PARAMETERS, run=dict) for name in ("book", "hold")]


def test_candidates_are_picked_by_the_examples_that_they_are_best_on() -> None:
    """Worked examples 3 and 4."""
    assert item_fronts([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0]]) == {0: 3, 1: 3}
    assert item_fronts([[1, 1, 1], [1, 1, 0], [0, 1, 1]]) == {0: 3}
    candidates = [Candidate(str(i), Checked(0, scores=(i == 0, i == 1)), i) for i in range(3)]
    assert {by_item(seed)(candidates)[0][0].text for seed in range(9)} == {"0", "1"}


def reply(request: Ask, sample: int) -> str | Message:
    """Takes the first tool whose description has the verb of a request, and writes days as the rules say."""
    if request.role == "reflector":
        edits = {"rules": {"days": "days are numbers"}, "tools": {"hold": {"description": "hold, keep"}, "no": {}}}
        return f"I propose {json.dumps(edits)}"
    told, asked = (plain_text(message) for message in request.messages)
    verb, day = asked.split()
    name = next((tool.name for tool in request.tools if verb in tool.description), "book")
    return Message("assistant", "", (Call(name, {"day": day if "numbers" in told else f"day {day}"}),))


EXAMPLES = [
    LabelledCall(f"{verb} {day}", Call(tool, {"day": str(day)}))
    for day in range(6) for verb, tool in (("book", "book"), ("keep", "hold"))
]  # fmt: skip


def test_a_model_improves_what_it_reads_of_tools() -> None:
    """Half of the calls name the right tool at first, and none is right as a whole."""
    policy = Scripted(reply, renderer=layout("hermes"))
    before = scored(TOOLS, Context(), EXAMPLES, policy)
    assert (before.tools, before.slots, before.whole) == (0.5, 0.0, 0.0)
    result = optimised(TOOLS, EXAMPLES, policy, size=4, rounds=2)
    assert result.context.rules["days"] == "days are numbers"
    assert result.context.overlay.texts["hold"].description == "hold, keep"
    after = scored(TOOLS, result.context, EXAMPLES, policy)
    assert (after.tools, after.whole, after.count) == (1.0, 1.0, 12)
    assert result.refined.best.checked.score == 1.0
    with pytest.raises(ValueError, match="1 examples; one is needed to learn"):
        optimised(TOOLS, EXAMPLES[:1], policy)


def test_edits_are_read_where_they_fit() -> None:
    said = {
        "rules": {"a": "one two", "b": None, "c": "one two three", "d": 5},
        "tools": {
            "book": {"description": "x", "parameters": {"day": "ISO", "hour": "no"}}, "other": {"description": "x"},
            "hold": "no",
        },
    }  # fmt: skip
    edits = read_edits(json.dumps(said), TOOLS, longest=2)
    assert edits.rules == {"a": "one two", "b": None}
    assert edits.texts == {("book", "description"): "x", ("book", about("day")): "ISO"}
    assert read_edits("nothing", TOOLS) == read_edits("[]", TOOLS)


def test_what_is_told() -> None:
    gold = Call("book", {"day": "1"})
    case = Case(LabelledCall("book 1", gold), Call("book", {"day": "May"}), signals(Call("book", {"day": "May"}), gold))
    assert told_case(case) == '- book 1\n  called book({"day": "May"}), right is book({"day": "1"}): wrong_value:day'
    assert told_case(Case(case.example, None, signals(None, gold))).endswith('right is book({"day": "1"}): no_call')
    assert instructions(Context({"R1": "ISO"}), "Call.") == "Call.\nR1: ISO"


def test_distractors_fill_an_inventory() -> None:
    others = [Tool(f"t{place}", "", PARAMETERS, run=dict) for place in range(20)]
    names = {tool.name for tool in inventory(TOOLS, others, 10)}
    assert len(names) == 10
    assert names > {"book", "hold"}
    assert [tool.name for tool in inventory(TOOLS, others, 22, seed=1)] != [tool.name for tool in (*TOOLS, *others)]
    with pytest.raises(ValueError, match="count is 23"):
        inventory(TOOLS, others, 23)


# ------------------------------------------------------------------------------------------------------------ the claim


def test_a_clerk_knows_forms_from_rules_and_documents() -> None:
    drawn = draw_lookalikes(0, groups=2)
    clerk, requests = Clerk(drawn.tools), drawn.requests(60, 1)
    dated = [place for place, request in enumerate(requests) if "date" in request.gold.arguments]

    def dates_right(context: Context) -> int:
        calls = clerk(context, requests)
        return sum(calls[p].arguments["date"] == requests[p].gold.arguments["date"] for p in dated)

    name = drawn.tools[0].name
    assert dates_right(Context()) == 0
    assert dates_right(Context({"dates": DATES})) == len(dated)
    told = Overlay() if not dated else edited(Overlay(), {(name, about("date")): "see R1"})
    assert 0 < dates_right(Context({"R1": DATES}, told)) < len(dated)
    assert dates_right(Context({"R2": DATES}, told)) == 0


def test_words_of_failing_requests_are_noted() -> None:
    lookups = draw_lookups(0, 4)
    tools, (request, *_) = tools_of(lookups), requests_for(lookups, 8, 0)
    name = request.gold.name
    noun, field = lookups[name]
    assert request.query == f"What is the {field} of {noun} {request.gold.arguments['id']}?"
    other = Call(next(other for other in lookups if other != name), {"id": 1})
    case = Case(request, other, signals(other, request.gold))
    edits = noted_words(tools, True, True, Context(), [case])
    assert edits.texts == {(name, "description"): f"{field} of a {noun}"}
    assert edits.rules == {name: f"for the {field} of a {noun} call {name}"}
    assert noted_words(tools, False, True, Context(), [case]).rules == {}
    assert noted_words(tools, True, False, Context(), [case]).texts == {}


def test_parts_do_what_they_may() -> None:
    """Rules alone leave the choice of tools as it is, documents alone write no rule."""
    rows = {name: STUDY.arms[name](seed=1, examples=200, test=150) for name in STUDY.arms if "25" not in name}
    assert rows["rules, 8 x 16"]["tools"] == rows["first"]["tools"] == pytest.approx(0.25, abs=0.08)
    assert rows["rules, 8 x 16"]["whole"] > rows["first"]["whole"]
    assert rows["both, 8 x 16"]["tools"] > rows["first"]["tools"] + 0.1
    assert rows["documents, 15 x 16"]["whole"] > rows["rules, 8 x 16"]["whole"]
    assert rows["documents, 8 x 16"]["words"] > rows["first"]["words"]
