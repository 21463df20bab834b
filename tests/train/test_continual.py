"""Continual rounds: what each trains on, and that a method of them runs through."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.toys import tiny_policy
from tests.train.pieces import LETTERS

from ferrule.core.recipe import Stage
from ferrule.data.formats import Row
from ferrule.data.mixing import replayed
from ferrule.train.continual import continual
from ferrule.train.held_out import held_out
from ferrule.train.loop import train
from ferrule.train.settings import Settings
from ferrule.train.stage import sft

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_round_has_its_batch_a_share_of_each_earlier_one_and_what_is_general() -> None:
    batches = [[f"{name}{i}" for i in range(size)] for name, size in (("a", 20), ("b", 30), ("c", 4))]
    assert replayed(batches, 0, general=["g"]) == [*batches[0], "g"]
    last = replayed(batches, 2, general=["g"])
    assert last[:4] == batches[2]
    assert [item[0] for item in last[4:]] == ["a", "a", "b", "b", "b", "g"]  # 0.1 of 20 and of 30
    assert len(set(last)) == len(last)
    # What is drawn of a batch is the same in every later round, by the seed of the batch.
    assert replayed(batches, 1)[30:] == last[4:6]
    assert replayed(batches, 2, share=0.0) == batches[2]
    with pytest.raises(ValueError, match="round 3 has no batch"):
        replayed(batches, 3)
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        replayed(batches, 0, share=1.5)


def test_the_method_has_a_round_per_batch() -> None:
    method = continual([["a"], ["b"]], share=1.0, max_steps=3)
    (stage,) = method.stages
    assert isinstance(stage, Stage)
    assert method.rounds == 2
    assert stage.settings == {"max_steps": 3}
    assert [stage.data(None, lap) for lap in range(2)] == [["a"], ["b", "a"]]
    with pytest.raises(ValueError, match="one batch at least"):
        continual([])
    with pytest.raises(ValueError, match="share is -1"):
        continual([["a"]], share=-1)


def test_replay_keeps_what_an_earlier_round_taught(tmp_path: Path) -> None:
    """The second batch answers the same prompt differently at its end; without replay the first answer is unlearned."""
    first, second = [[Row((3, 4, *ids), (-1, -1, 0, 0, 0))] * 4 for ids in ((40, 41, 42), (40, 51, 52))]
    losses = {}
    for share in (0.0, 1.0):
        policy = tiny_policy()
        run = Settings(
            max_steps=12, learning_rate=1e-2, per_device_train_batch_size=2, gradient_accumulation_steps=1
        )  # fmt: skip
        method = continual([first, second], share=share)
        assert train(method, LETTERS, policy, run, tmp_path / str(share))["steps"] == 24
        losses[share] = [held_out(policy, sft(rows), rows)["loss"] for rows in (first, second)]
    assert losses[1.0][0] < losses[0.0][0] - 0.5
    assert losses[0.0][1] < losses[1.0][1]
