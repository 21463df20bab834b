"""The tool question: what is held out, what is recorded, and what a reward model learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ferrule.studies.standins import question
from ferrule.studies.standins import question_learners as learners

pytestmark = pytest.mark.usefixtures("one_thread")


def test_held_out_questions_are_never_drawn_for_training() -> None:
    rng = np.random.default_rng(0)
    train, _ = question.questions(2000, rng)
    test, _ = question.questions(2000, rng, held_out=True)
    pairs = [{tuple(row) for row in prompts[:, :2].tolist()} for prompts in (train, test)]
    assert not pairs[0] & pairs[1]
    assert (len(pairs[0]), len(pairs[1])) == (75, 25)


def test_episodes_are_recorded_as_the_model_saw_them() -> None:
    """Log-probs recorded while sampling equal those of one pass over the whole sequence; results follow calls."""
    torch.manual_seed(0)
    model = question.model()
    prompts, answers = question.questions(64, np.random.default_rng(1))
    played = question.play(model, prompts, answers, torch.Generator().manual_seed(0))
    again = model.logps(played.ids_NT, played.turn_NT)
    assert torch.allclose(again, played.logp_NT, atol=1e-5)
    for ids, turn, answer in zip(played.ids_NT.tolist(), played.turn_NT.tolist(), answers.tolist(), strict=True):
        for t in range(3, len(ids) - 1):
            if ids[t] == question.CALL and turn[t] >= 0 and ids[t + 1] >= 0:
                assert (ids[t + 1], turn[t + 1]) == (question.RESULT + answer, -1)
    assert played.calls_N.sum() > 0


def test_reward_model_prefers_right_answers() -> None:
    torch.manual_seed(0)
    start = question.demonstrated(80, seed=0)
    reward = learners.reward_model(learners.stored(start, steps=40, seed=0), seed=0)
    fresh = learners.stored(start, steps=3, seed=1)
    score = np.concatenate([reward(played) for played in fresh])
    right = np.concatenate([played.right_N for played in fresh])
    assert score[right == 1].mean() > score[right == 0].mean() + 0.1
