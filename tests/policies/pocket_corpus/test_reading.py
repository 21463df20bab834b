"""Several questions on one text have answers that the text holds; copies repeat pieces of themselves."""

from __future__ import annotations

import json
import random
import re

import pytest

from ferrule.policies.pocket.corpus import conversation
from ferrule.policies.pocket.corpus.contexts import readings
from ferrule.policies.pocket.corpus.copies import copy
from ferrule.policies.pocket.corpus.draw import Draw, held_out


def _draw(seed: object, split: str = "train") -> Draw:
    return Draw(random.Random(f"reading/{seed}"), split)


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_answer_stands_in_what_was_given_before(split: str) -> None:
    bare = asked = 0
    for seed in range(300):
        system, exercises = readings(_draw(seed, split), 6)
        assert len(exercises) == 6
        given = system
        for place, exercise in enumerate(exercises):
            given += "\n" + exercise.ask
            assert exercise.rounds == ()
            assert exercise.answer in given or re.fullmatch(r"\d|yes|no|\d, \d", exercise.answer), exercise
            bare += place > 0 and "\n" not in exercise.ask
            asked += place > 0
    assert bare / asked > 0.75


def test_rows_of_json_are_read_by_name_and_column() -> None:
    checked = 0
    for seed in range(600):
        system, exercises = readings(_draw(seed), 6)
        if not system.startswith("[{"):
            continue
        rows = {str(next(iter(row.values()))): row for row in json.loads(system)}
        for exercise in exercises:
            match = re.fullmatch(r"Tell me the (\S+) of (.+)\.", exercise.ask)
            if match and match[2] in rows and match[1] in rows[match[2]]:
                assert str(rows[match[2]][match[1]]) == exercise.answer
                checked += 1
    assert checked > 5


def test_a_text_in_the_system_message_is_followed_by_questions_alone() -> None:
    told = 0
    for seed in range(4000):
        drawn = conversation(seed)
        if drawn.family != "context":
            continue
        replies = [message for message in drawn.messages if message.role == "assistant"]
        assert 4 <= len(replies) <= 8
        first, second = drawn.messages[:2]
        told += first.role == "system" and "\n" in str(first.content) and "\n" not in str(second.content)
        if told > 8:
            return
    raise AssertionError(told)


@pytest.mark.parametrize("split", ["train", "test"])
def test_words_that_repeat_a_piece_are_of_the_split(split: str) -> None:
    for seed in range(40):
        draw = _draw(seed, split)
        for word in (draw.repeating(), *draw.doubled()):
            assert held_out(word) == (split == "test")
        word, other = draw.doubled()
        assert other.startswith(word) or other.endswith(word)
        assert re.search(r"(.{2,4})\1", draw.repeating())


def test_a_share_of_all_copies_repeats_a_piece() -> None:
    answers = [copy(_draw(seed)).answer for seed in range(600)]
    repeated = [text for text in answers if re.search(r"(\w{2,4})\1", text)]
    # 15 % of the words do, and a fifth of the lists hold one; invented words do so by chance now and then.
    assert 0.1 < len(repeated) / len(answers) < 0.6
