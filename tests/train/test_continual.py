"""Continual rounds: what each trains on, and that a method of them runs through."""

from __future__ import annotations

import pytest

from ferrule.core.recipe import Stage
from ferrule.data.mixing import replayed
from ferrule.train.continual import continual


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
