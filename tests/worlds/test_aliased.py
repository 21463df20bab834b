"""Aliases: other names for the model, the real ones for everything behind, and back again for scoring."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.contracts import kinds

from ferrule.agents.react import ToolLoop
from ferrule.core.flows import Session
from ferrule.core.records import Call, Message, Observation, Score, Task, Tool, Trajectory
from ferrule.policies.scripted import Scripted
from ferrule.rollout.drive import drive
from ferrule.tools import tool
from ferrule.tools.budget import Budget
from ferrule.tools.contracts import Contract
from ferrule.tools.overlay import Overlay, ParameterText, ToolText, names
from ferrule.worlds.aliased import Aliased, aliases, canonical, on_canonical, renamed
from ferrule.worlds.apis import Apis
from ferrule.worlds.gated import Gated
from ferrule.worlds.session import Toolbox, ToolSession
from ferrule.worlds.wrap import Wrapped


@tool
def find_town(name: str, limit: int = 3) -> dict[str, Any]:
    """Find a town; like 'book', but reads. See also find_town.

    Args:
        name: its 'name' as written
    """
    if name == "?":
        raise ValueError("find_town needs a better 'name' than that, limit or no limit")
    return {"town": name, "limit": limit}


@tool(effects="write")
def book(town: str) -> str:
    """Book a town."""
    return f"book {town}"


GIVEN = Overlay(
    {
        "find_town": ToolText("book", parameters={"name": ParameterText("limit"), "limit": ParameterText("name")}),
        "book": ToolText("zap", parameters={"town": ParameterText("t")}),
    }
)
"""A hard case: aliases that are real names of others."""


def inner(**more: Any) -> ToolSession:
    return ToolSession(Task("t", "p"), lambda state: (find_town, book), **more)


def test_aliases_are_drawn_from_a_seed_and_hit_no_real_name() -> None:
    drawn = aliases((find_town, book), 3)
    assert drawn == aliases((find_town, book), 3) != aliases((find_town, book), 4)
    shown = [entry["name"] for entry in names(drawn).values()]
    shown += [name for entry in names(drawn).values() for name in entry["parameters"].values()]
    assert len(set(shown)) == len(shown) == 5
    assert not {"find_town", "book", "name", "limit", "town"} & set(shown)
    assert all(re.fullmatch("([a-z][aeiou]){3}", name) for name in shown)
    kept = names(aliases((find_town,), 3, parameters=False))["find_town"]["parameters"]
    assert kept == {"name": "name", "limit": "limit"}


def test_aliases_of_letters_and_digits() -> None:
    shown = names(aliases((find_town, book), 3, words="characters"))
    made = [entry["name"] for entry in shown.values()] + [n for e in shown.values() for n in e["parameters"].values()]
    assert all(re.fullmatch("[a-z][a-z0-9]{5}", name) for name in made)
    assert any(re.search("[0-9]", name) for name in made)
    with pytest.raises(ValueError, match="did you mean 'syllables'"):
        aliases((book,), 3, words="syllable")  # type: ignore[arg-type]


def test_descriptions_speak_of_aliases() -> None:
    session = Aliased(inner(), aliases((find_town, book), 3))
    find, other = session.tools
    assert find.description == f"Find a town; like '{other.name}', but reads. See also {find.name}."
    first = next(iter(find.parameters["properties"]))
    assert find.parameters["properties"][first]["description"] == f"its '{first}' as written"


WAYS = tuple(
    Overlay(
        {"find_town": ToolText(description=f"way {i} of 'find_town'", parameters={"name": ParameterText(None, way)})}
    )
    for i, way in enumerate(("the 'name' to find", "as it is called"))
)


def test_descriptions_are_drawn_from_paraphrases_one_by_one() -> None:
    """Two ways for the tool and two for its parameter are drawn apart, so four pairs; what has none stays as it is."""
    pairs = set()
    for seed in range(30):
        plain, drawn = aliases((find_town, book), seed), aliases((find_town, book), seed, paraphrases=WAYS)
        assert names(drawn) == names(plain)
        text, shown = drawn.texts["find_town"], names(drawn)["find_town"]
        tool_text, of_name = str(text.description), str(text.parameters["name"].description)
        pairs.add((tool_text[:5], of_name[:2]))
        assert tool_text.endswith(f"of '{shown['name']}'")
        assert of_name in (f"the '{shown['parameters']['name']}' to find", "as it is called")
        assert drawn.texts["book"] == plain.texts["book"]
        assert text.parameters["limit"] == plain.texts["find_town"].parameters["limit"]
    assert pairs == {(f"way {i}", way) for i in (0, 1) for way in ("th", "as")}


def test_an_empty_paraphrase_takes_the_place_of_a_description() -> None:
    """It must not bring back the description that names real parameters."""
    empty = Overlay({"find_town": ToolText(parameters={"name": ParameterText(None, "")})})
    assert aliases((find_town,), 1, paraphrases=(empty,)).texts["find_town"].parameters["name"].description == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ToolText(parameters={"nane": ParameterText(None, "x")}), "did you mean 'name'"),
        (ToolText("other"), "gives a name"),
        (ToolText(parameters={"name": ParameterText("other")}), "gives a name"),
        (ToolText(examples=("find_town(name='x')",)), "or an example"),
    ],
)
def test_paraphrases_word_descriptions_alone(text: ToolText, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        aliases((find_town,), 1, paraphrases=(Overlay({"find_town": text}),))
    assert aliases((book,), 1, paraphrases=(Overlay({"find_town": text}),)) == aliases((book,), 1)


def test_renamed_worlds_paraphrase_where_they_rename() -> None:
    world = renamed(Toolbox((find_town, book)), paraphrases=WAYS)
    words = [world.start(Task(f"t{i}", "p")).tools[0].description for i in range(40)]
    kept = [text for text in words if text == find_town.description]
    assert 5 < len(kept) < 35
    assert {text[:5] for text in words if text not in kept} == {"way 0", "way 1"}


def test_calls_are_translated_back() -> None:
    session = Aliased(inner(), GIVEN)
    assert session.act(Call("book", {"limit": "Oslo", "name": 2})).data == {"town": "Oslo", "limit": 2}
    assert session.act(Call("zap", {"t": "Oslo"})).text == "book Oslo"  # what went well is passed on as it is
    assert session.final() == {"aliases": names(GIVEN)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("own", "arguments"),
    [
        ("find_town", {"wrong": 1}),
        ("find_town", {}),
        ("find_town", {"name": []}),
        ("find_town", {"name": "?"}),
        ("find_town", {"name": "a", "limit": "many"}),
        ("nobody", {}),
        ("book", "no object"),
    ],
)
def test_no_real_name_leaks_when_a_call_goes_wrong(seed: int, own: str, arguments: Any) -> None:
    overlay = aliases((find_town, book), seed)
    shown = names(overlay)
    session = Aliased(inner(), overlay)
    said = (
        {shown[own]["parameters"].get(k, k): v for k, v in arguments.items()}
        if own in shown and isinstance(arguments, dict)
        else arguments
    )
    seen = session.act(Call(shown[own]["name"] if own in shown else own, said))
    assert seen.status != "ok"
    assert not re.search(r"\b(find_town|book|name|limit|town)\b", seen.text), seen.text
    if own in shown:
        assert shown[own]["name"] in seen.text


def test_real_names_are_unknown_here() -> None:
    overlay = aliases((find_town, book), 0)
    session = Aliased(inner(), overlay)
    shown = names(overlay)["find_town"]
    unknown = session.act(Call("find_town", {"name": "Oslo"}))
    assert unknown.status == "unknown_tool"
    assert "book" not in unknown.text
    seen = session.act(Call(shown["name"], {"name": "Oslo"}))
    assert (seen.status, "limit" in seen.text) == ("malformed", False)


def test_budgets_and_gates_behind_speak_of_real_tools() -> None:
    overlay = aliases((find_town, book), 0)
    shown = names(overlay)
    session = Aliased(inner(budget=Budget(per_tool={"book": 0})), overlay)
    refused = session.act(Call(shown["book"]["name"], {shown["book"]["parameters"]["town"]: "Oslo"}))
    assert refused.text == f"the budget of 0 call(s) of '{shown['book']['name']}' is spent"
    gate = Gated(inner(), {"book": Contract(pre=("exists(town)",))})
    seen = Aliased(gate, overlay).act(Call(shown["book"]["name"], {shown["book"]["parameters"]["town"]: "Oslo"}))
    assert seen.status == "refused"
    assert "book" not in seen.text
    assert gate.trace[0].tool == "book"


def test_malformed_calls_are_charged_as_without_aliases() -> None:
    plain, other = inner(budget=Budget(total=1)), Aliased(inner(budget=Budget(total=1)), GIVEN)
    for session, call in ((plain, Call("book", {"x": 1})), (other, Call("zap", {"x": 1}))):
        assert [session.act(call).status for _ in range(2)] == ["malformed", "refused"]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"find_town": ToolText("book")}, "two tools the name 'book'"),
        ({"find_town": ToolText(parameters={"name": ParameterText("limit")})}, "two parameters of 'find_town'"),
    ],
)
def test_collisions_are_refused(texts: dict[str, ToolText], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Aliased(inner(), Overlay(texts))


def behind(session: Session, task: Task, seed: int) -> Session:
    return Aliased(session, aliases(session.tools, seed))


WORLD = Wrapped(Apis(), behind)


def test_aliased_worlds_keep_the_promises_of_worlds() -> None:
    kinds.check_world(WORLD)


def test_scoring_sees_real_names() -> None:
    """The expert plays in aliases; a reward that counts calls by name finds them under their real names again."""
    (task,) = Apis().tasks("train", 1, levels=(3,))
    rounds = list(Apis().demonstrate(task).rounds)
    wanted = [call.name for calls in rounds for call in calls]

    def speak(ask: Any, sample: int) -> Message:
        made = sum(message.role == "assistant" for message in ask.messages)
        if made == len(rounds):
            return Message("assistant", str(task.answer))
        (call,) = rounds[made]
        alias = next(
            t
            for t in ask.tools
            if len(t.parameters["properties"]) == len(call.arguments) and t.name == by_own[call.name]
        )
        return Message(
            "assistant",
            "",
            (
                Call(
                    alias.name, dict(zip(alias.parameters["properties"], call.arguments.values(), strict=True)), id="c"
                ),
            ),
        )

    shown: dict[str, Any] = {}

    def watched(session: Session, task: Task, seed: int) -> Session:
        made = behind(session, task, seed)
        shown.update(made.final()["aliases"])
        by_own.update({own: entry["name"] for own, entry in shown.items()})
        return made

    by_own: dict[str, str] = {}
    (episode,) = drive(ToolLoop(), [task], Wrapped(Apis(), watched), Scripted(speak))
    (trajectory,) = episode.trajectories
    assert [call.name for call, _ in trajectory.calls] == [by_own[name] for name in wanted]

    def reward(task: Task, group: Sequence[Trajectory]) -> list[Score]:
        return [Score(float([c.name for c, _ in t.calls] == wanted)) for t in group]

    assert [score.value for score in reward(task, [trajectory])] == [0.0]
    assert [score.value for score in on_canonical(reward)(task, [trajectory])] == [1.0]
    back = canonical(trajectory)
    assert [dict(call.arguments) for call, _ in back.calls] == [dict(c.arguments) for calls in rounds for c in calls]
    assert [o for _, o in back.calls] == [o for _, o in trajectory.calls]
    assert canonical(replace(trajectory, final={})) == replace(trajectory, final={})
    json.dumps(dict(trajectory.final))


def test_branches_keep_the_names() -> None:
    session = Aliased(inner(), GIVEN)
    assert session.fork().tools == session.tools
    assert session.fork().act(Call("zap", {"t": "x"})) == Observation("book x")


def test_tools_that_are_not_on_offer_need_no_alias() -> None:
    few = ToolSession(Task("t", "p", tools=("book",)), lambda state: (find_town, book))
    assert [one.name for one in Aliased(few, GIVEN).tools] == ["zap"]
    assert isinstance(Aliased(few, GIVEN).tools[0], Tool)


def test_tools_that_come_later_are_worded_as_well() -> None:
    class Growing(ToolSession):
        @property
        def tools(self) -> tuple[Tool, ...]:
            return self._tools

    session = Growing(Task("t", "p"), lambda state: (book,))
    made = Aliased(session, GIVEN)
    session._tools = (book, find_town)
    assert [one.name for one in made.tools] == ["zap", "book"]
    assert made.act(Call("book", {"limit": "Oslo"})).data == {"town": "Oslo", "limit": 3}


def test_renamed_worlds_keep_names_for_a_share_of_their_tasks() -> None:
    world = Apis()
    tasks = world.tasks("train", 40, seed=1)

    def named(share: float, task: Task, seed: int) -> tuple[str, ...]:
        session = renamed(world, share=share).start(task, seed)
        return tuple(tool.name for tool in session.tools)

    plain = [named(0.0, task, 0) for task in tasks]
    assert all(a != b for a, b in zip(plain, (named(1.0, task, 0) for task in tasks), strict=True))
    half = [named(0.5, task, 0) for task in tasks]
    assert half == [named(0.5, task, 9) for task in tasks]  # all rollouts of a task see the same names
    assert 5 < sum(a == b for a, b in zip(plain, half, strict=True)) < 35
    with pytest.raises(ValueError, match="between 0 and 1"):
        renamed(world, share=2.0)
