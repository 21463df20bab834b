"""Tools that are hard to tell apart, texts of digits, and arguments taken from rows of results."""

from __future__ import annotations

import json
import random
import re
from itertools import combinations

import pytest

from ferrule.core.records import Tool
from ferrule.policies.pocket.corpus import conversation
from ferrule.policies.pocket.corpus.actions import action
from ferrule.policies.pocket.corpus.chains import hop, trio
from ferrule.policies.pocket.corpus.draw import Draw
from ferrule.policies.pocket.corpus.free import build, free, question
from ferrule.policies.pocket.corpus.kit import Kit
from ferrule.policies.pocket.corpus.lookups import codes, look_up
from ferrule.policies.pocket.corpus.twins import twin
from ferrule.policies.pocket.forms import layout
from ferrule.tools.invoke import arguments


def _kit(seed: object, split: str = "train") -> Kit:
    return Kit(Draw(random.Random(f"twins/{seed}"), split))


def test_words_of_schemas_do_not_tell_twins_apart() -> None:
    # Number 673 describes a tool with the drawn word "false", which its schema holds as a value.
    drawn = conversation(673, "test", "instruct", form="hermes")
    assert any("is false" in tool.description for tool in drawn.tools)
    assert all(tool.parameters["additionalProperties"] is False for tool in drawn.tools)


def _other_words(first: Tool, second: Tool) -> tuple[list[str], list[str]]:
    """Return the words in which two descriptions differ, place by place; nothing where their lengths differ."""
    words = [re.findall(r"\w+", each.description) for each in (first, second)]
    if len(words[0]) != len(words[1]):
        return [], []
    pairs = [(a, b) for a, b in zip(*words, strict=True) if a != b]
    return [a for a, _ in pairs], [b for _, b in pairs]


@pytest.mark.parametrize("builder", [free, action, look_up])
def test_twins_differ_in_one_word_which_the_question_holds(builder: object) -> None:
    pairs = 0
    for seed in range(80):
        kit = _kit(seed)
        builder(kit)  # type: ignore[operator]
        twin(kit)
        if not kit.due:
            continue
        first, second = kit.tools
        (old,), (new,) = _other_words(first, second)
        assert first.name != second.name
        for make, tool, word, wrong in zip(kit.due, kit.tools, (old, new), (new, old), strict=True):
            exercise = make()
            ((called, given),) = exercise.rounds[0].calls
            assert called is tool
            assert arguments(tool, given) == (given, ())
            said = re.findall("[a-z]+", exercise.ask.lower())
            assert word.lower() in said
            assert wrong.lower() not in said
        pairs += 1
    assert pairs > 30


def test_both_twins_are_asked_for_in_one_conversation() -> None:
    pairs = both = 0
    for seed in range(700):
        drawn = conversation(seed)
        called = {call.name for message in drawn.messages for call in message.calls}
        for first, second in combinations(drawn.tools, 2):
            if len(_other_words(first, second)[0]) == 1:
                pairs += 1
                both += {first.name, second.name} <= called
    assert pairs > 100
    # Tools may also be alike by chance; those are asked for as any others are.
    assert both / pairs > 0.6


def test_a_question_is_never_made_of_words_that_another_tool_has_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Draw, "synonyms", lambda self, word: [])
    shared = 0
    for seed in range(200):
        kit = _kit(seed)
        targets = [build(kit) for _ in range(5)]
        for target in targets:
            ask = question(kit.draw, target)[0].lower()
            said = {word for word in target.words if re.search(rf"\b{word[:-1]}", ask)}
            others = [set(other.words) for other in targets if other is not target]
            assert not [other for other in others if said <= other], ask
            shared += any(len(other & set(target.words)) > 1 for other in others)
    assert shared > 50


def test_a_word_with_an_ending_gets_no_second_one() -> None:
    checked = 0
    for seed in range(400):
        kit = _kit(seed)
        target = build(kit)
        ask = question(kit.draw, target)[0].lower()
        for word in target.words:
            if word.endswith(("ed", "ing")) and word in ask:
                assert not re.search(rf"\b{word}(ed|ing|er)\b", ask)
                checked += 1
    assert checked > 60


def test_texts_of_digits_stay_texts_in_every_form() -> None:
    checked = 0
    for seed in range(500):
        drawn = conversation(seed)
        types = {tool.name: tool.parameters["properties"] for tool in drawn.tools}
        if drawn.form == "fence":
            continue
        codec = layout(drawn.form).codec
        for message, learned in zip([m for m in drawn.messages if m.role == "assistant"], drawn.learned, strict=True):
            for call in message.calls if learned else ():
                digits = [n for n, v in call.arguments.items() if isinstance(v, str) and v.isdecimal()]
                assert all(types[call.name][name]["type"] == "string" for name in digits)
                if digits:
                    assert codec.read(codec.write(message)).calls[0].arguments == dict(message.calls[0].arguments)
                    checked += 1
    assert checked > 80


def test_a_number_and_a_code_of_one_thing_are_passed_on_by_type() -> None:
    for seed in range(50):
        kit = _kit(seed)
        codes(kit)
        kinds = []
        for maker in kit.makers:
            if "notes" not in maker.families:
                exercise = maker.make()
                ((_, given),) = exercise.rounds[0].calls
                (value,) = given.values()
                assert str(value) in exercise.ask
                kinds.append(type(value))
        assert kinds == [int, str]


@pytest.mark.parametrize("builder", [hop, trio])
def test_what_a_row_holds_under_the_right_key_is_passed_on(builder: object) -> None:
    rows = longest = 0
    for seed in range(200):
        kit = _kit(seed)
        builder(kit)  # type: ignore[operator]
        for maker in kit.makers:
            exercise = maker.make()
            if exercise.family != "chain" or not exercise.rounds[0].results[0].startswith("{"):
                continue
            row = json.loads(exercise.rounds[0].results[0])
            passed = list(exercise.rounds[1].calls[0][1].values())
            if len(row) > 1:
                key = next(name for name, value in row.items() if value in passed)
                assert not re.match("(old|other|second|owner|parent|group)_", key)
                rows += 1
            longest = max(longest, len(exercise.rounds))
    assert rows > 40
    assert longest == 3


def test_what_is_looked_for_by_a_field_is_not_shown_under_it() -> None:
    checked = 0
    for seed in range(800):
        kit = _kit(seed)
        action(kit)
        match = re.match(
            r"(?:Find a|Look for a|Which) \w+ (?:by its|with a certain|has a) (\w+)", kit.tools[0].description
        )
        if match:
            exercise = kit.makers[0].make()
            assert match[1] not in exercise.rounds[0].results[0]
            checked += 1
    assert checked > 15
