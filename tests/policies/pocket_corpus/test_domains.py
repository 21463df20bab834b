"""Tools and questions of trades: every question says what its call holds, and chains pass on what came back."""

import random
import re

import pytest

from ferrule.core.records import plain_text
from ferrule.policies.pocket.corpus import conversation
from ferrule.policies.pocket.corpus.domains import _said, domains
from ferrule.policies.pocket.corpus.draw import Draw, held_out, listed, printed


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_question_says_its_values_and_leaves_no_mark(split):
    draw = Draw(random.Random(1), split)
    for row in domains(split):
        for job in row.tools:
            needed = {name for name, slot in job.parameters.items() if not slot.optional}
            for ask in job.asks:
                text, values = _said(draw, job, ask)
                assert not re.search(r"[\[\]{}]", text), (row.domain, text)
                assert needed <= values.keys()
                for value in values.values():
                    shown = listed(value) if isinstance(value, list) else str(value)
                    assert isinstance(value, bool) or shown in text, (row.domain, text, value)


def test_optional_values_are_said_or_left_out_of_the_call():
    draw = Draw(random.Random(2), "train")
    jobs = [job for row in domains("train") for job in row.tools if any(s.optional for s in job.parameters.values())]
    given = [len(_said(draw, job, ask)[1]) == len(job.parameters) for job in jobs for ask in job.asks]
    assert 0.2 < sum(given) / len(given) < 0.8


def test_the_splits_share_no_domain_and_measuring_no_word_that_training_prints():
    train, test = ({row.domain for row in domains(split)} for split in ("train", "test"))
    assert train
    assert test
    assert not train & test
    draw = Draw(random.Random(3), "test")
    words = {draw.english() for _ in range(100)}
    assert all(held_out(word) for word in words)
    assert not words & printed()


def test_the_second_call_of_a_chain_takes_what_the_first_returned():
    for seed in range(40):
        drawn = conversation(seed, "test", "domain chain")
        calls = [call for message in drawn.messages for call in message.calls]
        first = next(plain_text(message) for message in drawn.messages if message.role == "tool")
        assert len(calls) == 2
        assert any(str(value) in first for value in calls[1].arguments.values()), (calls, first)
