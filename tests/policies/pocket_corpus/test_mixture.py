"""The corpus: seeded, valid, apart from every shipped world, and with words kept for measuring."""

import random
import re
from collections import Counter

import pytest

from ferrule.chat.describe import plan
from ferrule.policies.pocket.corpus import CALLING, FAMILIES, Conversation, conversation
from ferrule.policies.pocket.corpus.draw import Draw, english, held_out, in_words, paired, printed
from ferrule.policies.pocket.corpus.free import build, question
from ferrule.policies.pocket.corpus.kit import Kit
from ferrule.tools.invoke import arguments
from ferrule.worlds.apis import Apis
from ferrule.worlds.apps.catalogue import apis
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.facts import Facts
from ferrule.worlds.knapsack import Knapsack


def sample(count: int = 400, split: str = "train") -> list[Conversation]:
    return [conversation(seed, split) for seed in range(count)]


def test_a_seed_gives_the_same_conversation_and_another_seed_another_one():
    assert [c.messages for c in sample(30)] == [c.messages for c in sample(30)]
    assert len({repr(c.messages) for c in sample(200)}) == 200


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_drawn_alone_and_calls_only_what_is_on_offer(family):
    for seed in range(12):
        drawn = conversation(seed, "test", family)
        assert drawn.family == family
        offered = {tool.name: tool for tool in drawn.tools}
        assert len(offered) >= 2 or family not in CALLING
        replies = [message for message in drawn.messages if message.role == "assistant"]
        assert len(replies) == len(drawn.learned)
        for message, learned in zip(replies, drawn.learned, strict=True):
            for call in message.calls if learned else ():
                checked, repairs = arguments(offered[call.name], dict(call.arguments))
                assert (checked, repairs) == (dict(call.arguments), ())
                listing = offered[call.name].parameters["properties"]
                assert list(call.arguments) == [name for name in listing if name in call.arguments]


def test_every_call_is_answered_and_every_conversation_ends_with_a_reply_without_calls():
    for drawn in sample():
        waiting: list[str] = []
        for message in drawn.messages:
            if message.role == "tool":
                assert message.call_id == waiting.pop(0)
            else:
                assert not waiting
            waiting += [call.id for call in message.calls]
        assert drawn.messages[-1].role == "assistant"
        assert not drawn.messages[-1].calls
        assert len({tool.name for tool in drawn.tools}) == len(drawn.tools)


def test_a_plan_is_the_description_of_the_tool_that_is_called():
    plans = 0
    for drawn in sample():
        offered = {tool.name: plan(tool) for tool in drawn.tools}
        for message in drawn.messages:
            if len(message.calls) == 1 and message.calls[0].name in offered:
                plans += str(message.content) == offered[message.calls[0].name]
    assert plans > 200


def test_mixture_holds_every_family_and_one_to_a_dozen_tools():
    drawn = sample(1500)
    assert set(Counter(c.family for c in drawn)) == set(FAMILIES)
    counts = {len(c.tools) for c in drawn if c.family in CALLING}
    assert min(counts) == 1
    assert 10 <= max(counts) <= 14
    assert {c.form for c in drawn} == {"hermes", "raw_json", "react", "tagged", "fence"}


def shipped_names() -> set[str]:
    names = {*apis(), "price", "stock"}
    for world in (Apis(), Facts(), Knapsack(), Arithmetic()):
        for task in world.tasks("train", 300) + world.tasks("test", 300):
            names |= {tool.name for tool in world.start(task).tools}
    return names


def test_no_tool_name_and_no_task_of_a_shipped_world_occurs():
    names = {tool.name for drawn in sample(1500) for tool in drawn.tools}
    assert not names & shipped_names()
    asked = {str(m.content) for drawn in sample(1500) for m in drawn.messages if m.role == "user"}
    for world in (Apis(), Facts(), Knapsack(), Arithmetic()):
        assert not asked & {task.prompt for task in world.tasks("train", 200) + world.tasks("test", 200)}


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_kind_of_word_is_drawn_from_the_words_of_its_split(split):
    for seed in range(60):
        draw = Draw(random.Random(seed), split)
        kinds = (draw.word, draw.english, draw.paired, draw.content, draw.noun, draw.field)
        assert {held_out(kind()) for kind in kinds for _ in range(5)} == {split == "test"}
    assert sum(map(held_out, english())) / len(english()) == pytest.approx(1 / 8, abs=0.02)


def test_words_of_the_test_split_are_never_names_of_tools_in_training():
    # The corpus itself spells these out, so they name tools in both splits.
    spelt = {"evaluate", "mean", "notify", "reminder", "sorted", *printed()}
    names = {tool.name for drawn in sample(1500) for tool in drawn.tools}
    words = {name for name in names - spelt if re.fullmatch(r"[a-z0-9]{3,}", name)}
    assert len(words) > 1000
    assert not [word for word in words if held_out(word)]


def test_training_never_says_a_word_of_the_test_split_in_place_of_a_drawn_one():
    # A synonym is drawn by the other word, an ending is put to a word: neither is drawn itself.
    vocabulary = {*english(), *paired()}
    for seed in range(300):
        draw = Draw(random.Random(seed), "train")
        kit = Kit(draw)
        ask, _ = question(draw, build(kit))
        assert not [word for word in re.findall("[a-z]{5,}", ask.lower()) if word in vocabulary and held_out(word)]


def test_what_may_be_left_out_is_said_by_name_and_no_word_of_the_description_names_it():
    checked = 0
    for seed in range(600):
        draw = Draw(random.Random(seed), "train")
        target = build(Kit(draw))
        ask, given = question(draw, target)
        for parameter, kind in zip(target.parameters, target.kinds, strict=True):
            if kind == "boolean" or not parameter.required:
                assert parameter.name not in target.words
            if not parameter.required and kind in ("string", "integer", "number") and parameter.name in given:
                name, value = re.escape(parameter.name), re.escape(str(given[parameter.name]))
                assert re.search(rf"{name}(:| =)? [\"']?{value}|{value} {name}", ask), ask
                checked += 1
    assert checked > 80


@pytest.mark.parametrize("family", ["action", "free", "texts"])
def test_a_value_stands_in_the_question_as_it_is_passed_on(family):
    for seed in range(150):
        drawn = conversation(seed, "test", family)
        ask = next(str(message.content) for message in drawn.messages if message.role == "user")
        (call,) = next(message.calls for message in drawn.messages if message.calls)
        for value in call.arguments.values():
            for item in value if isinstance(value, list) else [value]:
                said = str(item).partition(" of ")[2] if family == "texts" else str(item)
                assert said in ask or isinstance(item, bool)


def test_what_is_refused_never_turns_into_a_call():
    answers = {conversation(seed, "train", "refuse").messages[-1].content for seed in range(150)}
    assert answers == {"No tool for that."}


def test_an_instruction_follows_a_greeting_in_a_third_of_the_conversations():
    greetings = ("You are a helpful assistant.", "You help with tools.", "Answer shortly.")
    texts = [str(conversation(seed, "train", "instruct").messages[0].content) for seed in range(300)]
    greeted = [text for text in texts if text.startswith(tuple(f"{greeting} " for greeting in greetings))]
    # 300 draws of probability 1/3: four standard deviations are 33.
    assert 67 <= len(greeted) <= 133
    assert not {*texts} & {*greetings}


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "zero"),
        (45, "forty-five"),
        (110, "one hundred and ten"),
        (1000, "one thousand"),
        (8508, "eight thousand five hundred and eight"),
        (2_000_017, "two million and seventeen"),
        (10**9, "1000000000"),
    ],
)
def test_numbers_in_words(number, text):
    assert in_words(number) == text


def test_no_tool_bears_a_name_that_marks_something_else():
    kit = Kit(Draw(random.Random(1), "train"))
    assert {kit.title("answer", hidden=0.0) for _ in range(20)}.isdisjoint({"answer"})
