from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.toys import tiny_policy
from tests.train.pieces import LETTERS, Speller, draw, fixed, recipe

from ferrule.core.arrays import pack
from ferrule.core.records import Score
from ferrule.credit.group import broadcast
from ferrule.objectives.preference import dpo, on_pairs
from ferrule.objectives.reduce import constant, sequence_mean, token_mean
from ferrule.objectives.supervised import nll
from ferrule.objectives.surrogate import reinforce, surrogate
from ferrule.policies.local import Local
from ferrule.train.sample import Batch, sample
from ferrule.train.update import Sequences, clip_and_step, sequences, update

pytestmark = pytest.mark.usefixtures("one_thread")


def batch_of(*shapes: list[tuple[int, int]], fold: bool = False, channels: int = 0) -> Batch:
    """Trajectories of given shapes, row n with advantage n + 1 on its model tokens."""
    s = pack(fixed(list(shapes), fold=fold), [Score(float(i + 1)) for i in range(len(shapes))], [0] * len(shapes))
    adv = broadcast(s.reward_N, s.turn_NT)
    return Batch(s, np.stack([adv * (c + 1) for c in range(channels)]) if channels else adv, ())


def sgd(policy: Local, rate: float = 0.1) -> Any:
    return torch.optim.SGD(policy.parameters(), lr=rate)


def weights(policy: Local) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in policy.model.named_parameters()}


def moved(policy: Local, before: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(p, before[n]) for n, p in policy.model.named_parameters())


# ------------------------------------------------------------------------------------------------------------ sequences


def test_every_segment_is_a_row() -> None:
    """Row 0 has one segment of 8 ids; row 1 two segments; the trailing given ids of row 2 are not computed."""
    mixed = batch_of([(2, 1), (3, 2)], [(2, 3), (9, 0)])
    seqs = sequences(mixed)
    assert [ids.tolist() for ids in seqs.ids] == [list(range(10, 18)), list(range(10, 15))]
    assert [t.tolist() for t in seqs.turn] == [[-1, -1, 0, -1, -1, -1, 1, 1], [-1, -1, 0, 0, 0]]
    assert seqs.beside["adv"][1].tolist() == [0, 0, 2, 2, 2]
    assert seqs.beside["old_NT"][1].tolist() == [0, 0, -0.5, -0.5, -0.5]
    folded = sequences(batch_of([(2, 1), (3, 2)], fold=True))
    assert [ids.tolist() for ids in folded.ids] == [[10, 11, 12], [13, 14, 15, 16, 17]]


def test_totals_count_model_tokens_and_rows() -> None:
    seqs = sequences(batch_of([(2, 1), (3, 2)], [(2, 4)]))
    total = seqs.total([0, 1])
    assert (total.tokens, total.rows) == (7.0, 2.0)


def test_rows_without_model_tokens_are_left_out() -> None:
    assert sequences(batch_of([(3, 0)], [(2, 1)])).ids[0].tolist() == [10, 11, 12]
    assert sequences(batch_of([(3, 0)])).ids == []


def test_channels_ride_along() -> None:
    seqs = sequences(batch_of([(1, 2)], channels=3))
    assert seqs.beside["adv"][0].tolist() == [[0, 1, 1], [0, 2, 2], [0, 3, 3]]


# --------------------------------------------------------------------------------------------------------------- update


def test_the_loss_is_the_one_written_out_by_hand(tiny: Local) -> None:
    """REINFORCE with the token mean: -sum(A logp) / 7, with the log-probs of the untouched model."""
    batch = batch_of([(2, 1), (3, 2)], [(2, 4)])
    expected = 0.0
    for row, (ids, turn) in enumerate(zip(sequences(batch).ids, sequences(batch).turn, strict=True)):
        with torch.no_grad():
            logp = tiny.model(input_ids=torch.from_numpy(ids)[None]).logits[0].log_softmax(-1)
        expected -= sum((row + 1) * float(logp[t - 1, ids[t]]) for t in np.flatnonzero(turn >= 0)) / 7
    before = weights(tiny)
    found = update(tiny, sequences(batch), reinforce, token_mean, sgd(tiny), max_grad_norm=0.0)
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    assert found["optimizer_steps"] == 1.0
    assert moved(tiny, before)


def test_channels_add_up_in_the_loss_and_not_in_the_arrays(tiny: Local) -> None:
    """Three channels with 1, 2 and 3 times the advantage weigh 6 times one of them."""

    def loss(channels: int) -> float:
        seqs = sequences(batch_of([(2, 3)], [(1, 2)], channels=channels))
        return update(tiny, seqs, reinforce, token_mean, sgd(tiny, 0.0))["loss"]

    assert loss(3) == pytest.approx(6 * loss(0), rel=1e-4)


def test_at_the_sampling_weights_the_ratio_is_one(tiny: Local) -> None:
    """On the sampler's own ids the surrogate is -mean(A), whatever the log-probs are; the divergence is 0."""
    batch = sample(recipe(agent=Speller(turns=2, tokens=5), temperature=0.8), draw, 2, LETTERS, tiny)
    mine = batch.signals.turn_NT >= 0
    found = update(tiny, sequences(batch), surrogate, token_mean, sgd(tiny, 0.0), temperature=0.8)
    assert found["loss"] == pytest.approx(-batch.adv[mine].mean(), abs=1e-4)
    assert abs(found["kl"]) < 1e-4
    assert found["entropy"] > 0


def test_epochs_and_minibatches_are_optimiser_steps(tiny: Local) -> None:
    seqs = sequences(batch_of(*[[(2, 2)]] * 5))
    assert (
        update(tiny, seqs, reinforce, token_mean, sgd(tiny), num_iterations=3, num_mini_batches=2)["optimizer_steps"]
        == 6.0
    )
    assert update(tiny, seqs, reinforce, token_mean, sgd(tiny), num_mini_batches=99)["optimizer_steps"] == 5.0


def test_the_second_epoch_sees_the_moved_weights(tiny: Local) -> None:
    """The ratio leaves 1, so the clipped surrogate changes; the divergence is no longer 0."""
    batch = sample(recipe(), draw, 2, LETTERS, tiny)
    found = update(tiny, sequences(batch), surrogate, token_mean, sgd(tiny, 1.0), num_iterations=2)
    assert abs(found["kl"]) > 1e-4


def test_the_seed_only_shuffles(tiny: Local) -> None:
    seqs = sequences(batch_of([(2, 1)], [(2, 2)], [(2, 3)], [(2, 4)]))

    def after(seed: int, **more: Any) -> torch.Tensor:
        policy = tiny_policy()
        update(policy, seqs, reinforce, token_mean, sgd(policy), seed=seed, **more)
        return policy.model.lm_head.weight.detach()

    assert torch.allclose(after(1), after(2), atol=1e-6)  # one step over all rows
    assert not torch.allclose(after(1, num_mini_batches=2), after(2, num_mini_batches=2), atol=1e-6)
    assert torch.equal(after(1, num_mini_batches=2), after(1, num_mini_batches=2))


def ones(logp_NT: Any, turn_NT: Any) -> Any:
    """A loss of 1 on every token of the model, with a gradient."""
    return torch.where(turn_NT >= 0, 1.0 + 0.0 * logp_NT, torch.zeros_like(logp_NT))


def test_minibatches_of_one_size_divide_by_it(tiny: Local) -> None:
    """Of four rows one has no advantage: three rows in parts of 2 give 2 / 2 and 1 / 2, so .75 on average."""
    batch = batch_of(*[[(2, 2)]] * 4)
    seqs = sequences(replace(batch, adv=np.where(np.arange(4)[:, None] == 1, 0.0, batch.adv)))
    told = update(tiny, seqs, ones, sequence_mean, sgd(tiny, 0.0), mini_batch_size=2)
    assert (told["optimizer_steps"], told["loss"]) == (2.0, pytest.approx(0.75))
    told = update(tiny, seqs, ones, sequence_mean, sgd(tiny, 0.0), mini_batch_size=32, num_iterations=2)
    assert (told["optimizer_steps"], told["loss"]) == (2.0, pytest.approx(3 / 32))
    told = update(tiny, seqs, ones, sequence_mean, sgd(tiny, 0.0), num_mini_batches=2)
    assert (told["optimizer_steps"], told["loss"]) == (2.0, pytest.approx(1.0))
    none = sequences(replace(batch, adv=np.zeros_like(batch.adv)))
    assert update(tiny, none, ones, sequence_mean, sgd(tiny), mini_batch_size=2)["optimizer_steps"] == 0.0


@pytest.mark.parametrize(("most", "steps"), [(8.9, 0.0), (9.1, 2.0)])
def test_rows_that_moved_too_far_end_the_steps_of_a_batch(tiny: Local, most: float, steps: float) -> None:
    """Rows of 2 and 4 tokens whose old log-probs lie 3 nats below: ratios of 6 and 12 nats, 9 on average."""
    seqs = sequences(batch_of([(2, 2)], [(2, 4)]))
    for ids, turn, old in zip(seqs.ids, seqs.turn, seqs.beside["old_NT"], strict=True):
        old[turn >= 0] = tiny.scores(ids[None], turn[None])[0][turn >= 0] - 3.0
    before = weights(tiny)
    told = update(tiny, seqs, ones, sequence_mean, sgd(tiny), max_log_ratio=most, num_iterations=2)
    assert (told["optimizer_steps"], told["stopped_early"]) == (steps, float(not steps))
    assert moved(tiny, before) is False  # the loss does not depend on the weights
    assert all(p.grad is None for p in tiny.model.parameters())


def test_epochs_end_where_the_first_has_moved_the_weights(tiny: Local) -> None:
    batch = sample(recipe(), draw, 2, LETTERS, tiny)
    free = update(tiny_policy(), sequences(batch), surrogate, token_mean, sgd(tiny_policy()), num_iterations=3)
    assert (free["optimizer_steps"], "stopped_early" in free) == (3.0, False)
    told = update(
        tiny, sequences(batch), surrogate, token_mean, sgd(tiny, 5.0), num_iterations=3, max_log_ratio=1e-3
    )  # fmt: skip
    assert (told["optimizer_steps"], told["stopped_early"]) == (1.0, 1.0)


def test_a_loss_that_is_no_number_ends_the_steps_and_is_told(tiny: Local) -> None:
    before = weights(tiny)
    told = update(
        tiny, sequences(batch_of([(2, 2)])), lambda logp_NT, turn_NT: logp_NT * math.nan, token_mean, sgd(tiny),
        max_log_ratio=20.0, num_iterations=2,
    )  # fmt: skip
    assert (told["optimizer_steps"], told["stopped_early"]) == (0.0, 1.0)
    assert math.isnan(told["loss"])
    assert not moved(tiny, before)


@pytest.mark.parametrize("reduce", [token_mean, sequence_mean, partial(constant, denominator=8.0)])
def test_an_empty_batch_takes_no_step(tiny: Local, reduce: Any) -> None:
    before = weights(tiny)
    for batch in (batch_of(), batch_of([(3, 0)])):
        found = update(tiny, sequences(batch), reinforce, reduce, sgd(tiny))
        assert found == {"loss": 0.0, "grad_norm": 0.0, "optimizer_steps": 0.0}  # no tokens, so no entropy of 0
    assert not moved(tiny, before)


def test_a_gradient_that_is_no_number_takes_no_step(tiny: Local) -> None:
    def broken(logp_NT: Any, turn_NT: Any) -> Any:
        return torch.where(turn_NT >= 0, logp_NT * math.inf, torch.zeros_like(logp_NT))

    before = weights(tiny)
    found = update(tiny, sequences(batch_of([(2, 2)])), broken, token_mean, sgd(tiny))
    assert not math.isfinite(found["grad_norm"])
    assert not moved(tiny, before)
    assert all(p.grad is None for p in tiny.model.parameters())
    assert math.isfinite(update(tiny, sequences(batch_of([(2, 2)])), reinforce, token_mean, sgd(tiny))["grad_norm"])


def test_gradients_are_cut_to_the_norm() -> None:
    """Plain gradient descent with rate 1 moves the weights by exactly the clipped norm."""
    for most, expected in ((0.25, 0.25), (0.0, None)):
        policy = tiny_policy()
        before = weights(policy)
        found = update(
            policy, sequences(batch_of([(2, 4)])), reinforce, token_mean, sgd(policy, 1.0), max_grad_norm=most
        )
        step = math.sqrt(
            sum(float((p.detach() - before[n]).square().sum()) for n, p in policy.model.named_parameters())
        )
        assert found["grad_norm"] > 0.25
        assert step == pytest.approx(found["grad_norm"] if expected is None else expected, rel=1e-3)


def test_clip_and_step_forgets_the_gradients(tiny: Local) -> None:
    tiny.model.lm_head.weight.grad = torch.ones_like(tiny.model.lm_head.weight)
    size = tiny.model.lm_head.weight.numel()
    assert clip_and_step(tiny, sgd(tiny), 1.0) == pytest.approx(math.sqrt(size), rel=1e-4)
    assert tiny.model.lm_head.weight.grad is None


def test_an_objective_may_name_the_reference(tiny: Local) -> None:
    """At the reference itself the squared distance is 0; after the weights moved it is not."""

    def distance(logp_NT: Any, ref_NT: Any, turn_NT: Any) -> Any:
        return torch.where(turn_NT >= 0, (logp_NT - ref_NT).square(), torch.zeros_like(logp_NT))

    seqs = sequences(batch_of([(2, 3)]))
    with pytest.raises(TypeError, match="ref_NT"):
        update(tiny, seqs, distance, token_mean, sgd(tiny))
    tiny.keep_reference()
    assert update(tiny, seqs, distance, token_mean, sgd(tiny), reference=True)["loss"] < 1e-9
    update(tiny, seqs, reinforce, token_mean, sgd(tiny, 1.0))
    assert update(tiny, seqs, distance, token_mean, sgd(tiny), reference=True)["loss"] > 1e-6


def test_adapters_alone_are_trained(tiny: Local) -> None:
    tiny.add_adapter(lora_r=2)
    before = weights(tiny)
    for _ in range(2):  # in the first step only B has a gradient: A is multiplied by B, which begins at zero
        update(tiny, sequences(batch_of([(2, 4)])), reinforce, token_mean, sgd(tiny, 1.0))
    for name, p in tiny.model.named_parameters():
        assert torch.equal(p, before[name]) is ("lora_" not in name), name


# ---------------------------------------------------------------------------------------------------------------- units


def pairs() -> Sequences:
    rows = [np.arange(10, 10 + n) for n in (4, 9, 5, 6, 7, 8)]
    turn = [np.array([-1, -1, *[0] * (len(r) - 2)]) for r in rows]
    numbers = {"pair_N": [0.0, 0.0, 1.0, 1.0, 2.0, 2.0], "chosen_N": [1.0, 0.0] * 3}
    return Sequences(rows, turn, per_row=numbers, unit=[0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 99])
def test_the_members_of_a_pair_share_a_micro_batch(tiny: Local, rows: int) -> None:
    seen: list[list[float]] = []

    def looking(logp_NT: Any, turn_NT: Any, pair_N: Any) -> Any:
        seen.append(pair_N.tolist())
        return -logp_NT

    update(tiny, pairs(), looking, token_mean, sgd(tiny), rows=rows)
    assert sorted(x for part in seen for x in part) == [0, 0, 1, 1, 2, 2]
    for part in seen:
        assert len(part) <= max(rows, 2)
        assert all(part.count(x) == 2 for x in part)


def test_a_pair_loss_does_not_depend_on_the_micro_batches() -> None:
    def after(rows: int) -> tuple[float, torch.Tensor]:
        policy = tiny_policy()
        policy.keep_reference()
        with torch.no_grad():
            policy.model.lm_head.weight.mul_(1.1)
        found = update(
            policy, pairs(), on_pairs(dpo), partial(sequence_mean, tokens="sum"), sgd(policy), rows=rows, reference=True
        )
        return found["loss"], policy.model.lm_head.weight.detach()

    (one, first), (all_, last) = after(2), after(99)
    assert one == pytest.approx(all_, rel=1e-5)
    assert torch.allclose(first, last, atol=1e-6)


def test_supervised_rows_have_no_advantages(tiny: Local) -> None:
    seqs = replace(pairs(), per_row={}, unit=None)
    first = update(tiny, seqs, nll, token_mean, sgd(tiny, 0.5))["loss"]
    for _ in range(10):
        last = update(tiny, seqs, nll, token_mean, sgd(tiny, 0.5))["loss"]
    assert last < 0.7 * first


# ---------------------------------------------------------------------------------------------------------------- packs


@pytest.mark.parametrize(("tokens", "expected"), [(13, [13, 13]), (12, [11, 11, 11, 11]), (26, [26]), (None, [26])])
def test_the_token_budget_bounds_what_is_computed_at_once(tiny: Local, tokens: int | None, expected: list[int]) -> None:
    """Two prompts of 9, two replies of 3 each: one row reads 9 + 2 tokens, two with one prompt 9 + 2 + 2."""
    ids = [np.array([*range(p, p + 9), 50 + n, 60, 61]) for n, p in enumerate((10, 30, 10, 30))]
    seqs = Sequences(ids, [np.array([-1] * 9 + [0] * 3)] * 4)
    sizes: list[int] = []
    update(tiny, seqs, nll, token_mean, sgd(tiny, 0.0))  # the first one also tries whether the model can be packed
    tiny.model.get_input_embeddings().register_forward_pre_hook(lambda module, args: sizes.append(args[0].numel()))
    update(tiny, seqs, nll, token_mean, sgd(tiny, 0.0), tokens=tokens)
    assert sizes == expected


@pytest.mark.parametrize("tokens", [1, 13, 20])
def test_the_token_budget_does_not_change_the_result(tokens: int) -> None:
    ids = [np.array([*range(p, p + 9), 50 + n, 60, 61]) for n, p in enumerate((10, 30, 10, 30))]
    seqs = Sequences(ids, [np.array([-1] * 9 + [0] * 3)] * 4)

    def after(**more: Any) -> dict[str, torch.Tensor]:
        policy = tiny_policy()
        update(policy, seqs, nll, token_mean, sgd(policy, 1.0), **more)
        return weights(policy)

    whole = after()
    for name, found in after(tokens=tokens).items():
        assert torch.allclose(found, whole[name], atol=1e-6), name
