"""Objectives and reductions by hand-computed numbers."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from ferrule.core.arrays import by_name
from ferrule.objectives.penalty import add, kl_k1, kl_k2, kl_k3, weighted, with_entropy, with_kl
from ferrule.objectives.preference import (
    bradley_terry,
    dpo,
    dpo_margin,
    ipo,
    kto,
    mean_margin,
    on_pairs,
    on_rows,
    orpo,
    sequence_logp,
    simpo,
)
from ferrule.objectives.reduce import Totals, constant, sequence_mean, token_mean, totals
from ferrule.objectives.supervised import nll, nll_on_positives, value_loss
from ferrule.objectives.surrogate import diagnostics, importance, reinforce, surrogate


def t(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


TURN = torch.zeros(1, 3, dtype=torch.int64)
NEW, OLD, ADV = t(-1, -0.5, -2), t(-1.1, -0.9, -1.5), t(1, 1, -1)


def test_surrogate_with_dual_clip() -> None:
    """Ratios e^.1 = 1.10517, e^.4 -> clipped 1.2, e^-.5 = .60653 -> clipped .8: losses -1.10517, -1.2, .8; mean
    -.501724.
    """
    loss = surrogate(NEW, OLD, ADV, TURN, dual=3.0)
    assert loss[0].tolist() == pytest.approx([-math.exp(0.1), -1.2, 0.8])
    assert token_mean(loss, TURN, totals(TURN)).item() == pytest.approx(-0.501724, abs=1e-6)
    found = diagnostics(NEW, OLD, ADV, TURN)
    assert found["clip_fraction"] == pytest.approx(2 / 3)
    assert found["approx_kl"] == pytest.approx(0, abs=1e-12)


def test_dual_clip_caps_the_loss_of_negative_advantages() -> None:
    """Ratio e^2 = 7.39 with A = -1: 7.39 without, 3 with dual 3."""
    one = TURN[:, :1]
    assert surrogate(t(-1), t(-3), t(-1), one).item() == pytest.approx(math.exp(2))
    assert surrogate(t(-1), t(-3), t(-1), one, dual=3.0).item() == pytest.approx(3.0)


def test_reciprocal_lower_bound() -> None:
    """lo = 1: the lower bound is 1/2; ratio e^-2 with A = -1 gives .5."""
    assert surrogate(t(-3), t(-1), t(-1), TURN[:, :1], lo=1.0, reciprocal=True).item() == pytest.approx(0.5)


def test_sequence_ratio_is_the_geometric_mean_over_model_tokens() -> None:
    """Log-ratios .1, .4 and, off the model's tokens, anything: the mean of the two is .25."""
    turn = torch.tensor([[0, 0, -1]])
    ratio = importance(NEW, OLD, turn, ratio="sequence")
    assert ratio[0, 0].item() == pytest.approx(math.exp(0.25))


def test_product_ratio_is_that_of_whole_rows() -> None:
    """The same log-ratios .1 and .4 add up to .5 on every token; a row without model tokens has 1."""
    turn = torch.tensor([[0, 0, -1], [-1, -1, -1]])
    ratio = importance(NEW.repeat(2, 1), OLD.repeat(2, 1), turn, ratio="product")
    assert ratio[0].tolist() == pytest.approx([math.exp(0.5)] * 3)
    assert ratio[1].tolist() == [1.0] * 3


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"dual": 1.0}, "above 1"),
        ({"lo": 1.0}, "below 1"),
        ({"hi": -0.1}, "at least 0"),
        ({"ratio": "sequenec"}, "did you mean 'sequence'"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        surrogate(NEW, OLD, ADV, TURN, **settings)  # type: ignore[arg-type]


def test_gradient_of_the_surrogate_on_policy_is_that_of_reinforce() -> None:
    values = NEW.clone().requires_grad_(True)
    (a,) = torch.autograd.grad(surrogate(values, NEW, ADV, TURN).sum(), values)
    (b,) = torch.autograd.grad(reinforce(values, ADV, TURN).sum(), values)
    assert torch.allclose(a, b)


def test_kl_estimators() -> None:
    """logp -1, ref -1.5 -> .5, .125, .106531; swapped -> -.5, .125, .148721."""
    for logp, ref, expected in ((-1.0, -1.5, (0.5, 0.125, 0.106531)), (-1.5, -1.0, (-0.5, 0.125, 0.148721))):
        got = [kl(t(logp), t(ref)).item() for kl in (kl_k1, kl_k2, kl_k3)]
        assert got == pytest.approx(expected, abs=1e-6)


def test_k3_is_clamped() -> None:
    """x = 5: e^5 - 6 = 142.4, clamped to 10 unless told otherwise."""
    assert kl_k3(t(-6), t(-1)).item() == 10.0
    assert kl_k3(t(-6), t(-1), limit=None).item() == pytest.approx(math.exp(5) - 6)


def test_k1_has_no_mean_gradient_on_policy_but_k2_has_the_right_one() -> None:
    """Under the policy itself E[d k1] = E[d logp] = 0, while E[d k2] is the gradient of KL(policy, reference)."""
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([0.1, 0.5, -0.4], dtype=torch.float64).log_softmax(0)
    logp, chance = logits.log_softmax(0), logits.softmax(0).detach()
    (k1,) = torch.autograd.grad((chance * kl_k1(logp, ref)).sum(), logits, retain_graph=True)
    (k2,) = torch.autograd.grad((chance * kl_k2(logp, ref)).sum(), logits, retain_graph=True)
    (true,) = torch.autograd.grad((logp.exp() * (logp - ref)).sum(), logits)
    assert torch.allclose(k1, torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(k2, true)


def test_composed_objectives_name_what_they_read() -> None:
    composed = with_entropy(with_kl(partial(surrogate, dual=3.0), 0.5, estimator=kl_k2), 0.1)
    ref, entropy = t(-1.5, -0.5, -2), t(1.0, 2.0, 3.0)
    named = {"logp_NT": NEW, "old_NT": OLD, "adv_NT": ADV, "turn_NT": TURN}
    with pytest.raises(TypeError, match=r"ref_NT|entropy_NT"):
        by_name(composed, named)
    loss = by_name(composed, {**named, "ref_NT": ref, "entropy_NT": entropy})
    plain = surrogate(NEW, OLD, ADV, TURN, dual=3.0)
    assert torch.allclose(loss, plain + 0.5 * t(0.125, 0, 0) - 0.1 * entropy)


def test_a_weight_beside_scales_an_objective_and_0_turns_it_off() -> None:
    """Weights 2, 0, 1 on -A log p; where the weight is 0 even a loss that is not finite counts nothing."""
    named = {"logp_NT": NEW, "adv_NT": ADV, "turn_NT": TURN, "w_NT": t(2.0, 0.0, 1.0)}
    plain = reinforce(NEW, ADV, TURN)
    assert torch.equal(by_name(weighted(reinforce, "w_NT"), named), plain * t(2.0, 0.0, 1.0))
    broken = weighted(lambda logp_NT: logp_NT * torch.inf, "w_NT")
    assert by_name(broken, named)[0, 1] == 0.0
    with pytest.raises(TypeError, match="w_NT"):
        by_name(weighted(reinforce, "w_NT"), {"logp_NT": NEW, "adv_NT": ADV, "turn_NT": TURN})


def test_imitation_of_positives() -> None:
    assert nll(NEW, TURN)[0].tolist() == [1.0, 0.5, 2.0]
    assert nll_on_positives(NEW, ADV, TURN)[0].tolist() == [1.0, 0.5, 0.0]
    mixed = by_name(add(reinforce, nll_on_positives, 0.1), {"logp_NT": NEW, "adv_NT": ADV, "turn_NT": TURN})
    assert mixed[0].tolist() == pytest.approx([1.1, 0.55, -2.0])


def test_value_loss() -> None:
    """Prediction .5, 1.2; targets .3, .4; old .4, .9; clip .2: .5 stays, 1.2 -> 1.1; max(.04, .04), max(.64, .49);
    mean .34.
    """
    turn = TURN[:, :2]
    loss = value_loss(t(0.5, 1.2), t(0.4, 0.9), t(0.3, 0.4), turn, clip=0.2)
    assert token_mean(loss, turn, totals(turn)).item() == pytest.approx(0.34)
    half = value_loss(t(0.5, 1.2), t(0.4, 0.9), t(0.3, 0.4), turn, clip=None, half=True)
    assert half[0].tolist() == pytest.approx([0.02, 0.32])


def test_reductions_weigh_long_rows_differently() -> None:
    """Row 0 has losses 1, 1, 1; row 1 has 5: token mean 2; row means 1 and 5 -> 3; row sums 3 and 5 -> 4; over 4 ->
    1.
    """
    turn = torch.tensor([[0, 0, 0], [0, -1, -1]])
    loss = torch.tensor([[1.0, 1.0, 1.0], [5.0, 99.0, 99.0]])
    total = totals(turn)
    assert total == Totals(4, 2)
    assert token_mean(loss, turn, total).item() == 2
    assert sequence_mean(loss, turn, total).item() == 3
    assert sequence_mean(loss, turn, total, tokens="sum").item() == 4
    assert constant(loss, turn, total, denominator=4).item() == 1
    assert totals(turn[:1]) + totals(turn[1:]) == total
    with pytest.raises(ValueError, match="did you mean 'mean'"):
        sequence_mean(loss, turn, total, tokens="means")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="above 0"):
        constant(loss, turn, total, denominator=0)


PAIR = (torch.tensor([-10.0]), torch.tensor([-12.0]), torch.tensor([-11.0]), torch.tensor([-11.0]))


def test_dpo() -> None:
    """Margin .1 * ((-10 + 11) - (-12 + 11)) = .2; -log sigmoid(.2) = .598139; smoothing .1 adds .1 * .2."""
    assert dpo(*PAIR, beta=0.1).item() == pytest.approx(0.598139, abs=1e-6)
    assert dpo(*PAIR, beta=0.1, label_smoothing=0.1).item() == pytest.approx(0.598139 + 0.1 * 0.2, abs=1e-6)
    soft = dpo(*PAIR, beta=0.1, preference_P=torch.tensor([0.9]))
    assert soft.item() == pytest.approx(0.598139 + 0.1 * 0.2, abs=1e-6)
    with pytest.raises(ValueError, match="smoothing"):
        dpo(*PAIR, label_smoothing=0.5)


def test_the_margin_of_dpo() -> None:
    """.1 * ((-10 + 11) - (-12 + 11)) = .2, 0 at the reference, and no gradient into the reference."""
    assert dpo_margin(*PAIR, beta=0.1).item() == pytest.approx(0.2)
    assert dpo_margin(*PAIR[:2], *PAIR[:2]).item() == 0.0
    chosen, rejected, *reference = (logp.clone().requires_grad_(True) for logp in PAIR)
    dpo_margin(chosen, rejected, *reference, beta=0.1).sum().backward()
    assert (chosen.grad, rejected.grad) == (pytest.approx(0.1), pytest.approx(-0.1))
    assert [logp.grad for logp in reference] == [None, None]
    for loss in (dpo_margin, dpo, ipo):
        for beta in (0.0, -0.1, math.nan):
            with pytest.raises(ValueError, match="beta is"):
                loss(*PAIR, beta=beta)


def test_dpo_family() -> None:
    """IPO: margin 2, 1/(2 * .1) = 5 -> 9. SimPO: -10/5 + 12/4 = 1 -> 2 * 1 - .5 = 1.5. Bradley-Terry: softplus(-2)."""
    assert ipo(*PAIR, beta=0.1).item() == pytest.approx(9.0)
    lengths = torch.tensor([5.0]), torch.tensor([4.0])
    assert simpo(*PAIR[:2], *lengths, beta=2.0, gamma=0.5).item() == pytest.approx(math.log1p(math.exp(-1.5)), abs=1e-6)
    assert bradley_terry(*PAIR[:2]).item() == pytest.approx(math.log1p(math.exp(-2)), abs=1e-6)


def test_orpo() -> None:
    """Means log .5 and log .25: odds 1 and 1/3, so -log .5 - .2 log sigmoid(log 3) = log 2 + .2 log(4/3)."""
    chosen, rejected = torch.tensor([2 * math.log(0.5)]), torch.tensor([3 * math.log(0.25)])
    lengths = torch.tensor([2.0]), torch.tensor([3.0])
    assert mean_margin(chosen, rejected, *lengths).item() == pytest.approx(math.log(2), abs=1e-6)
    expected = math.log(2) + 0.2 * math.log(4 / 3)
    assert orpo(chosen, rejected, *lengths, beta=0.2).item() == pytest.approx(expected, abs=1e-6)
    certain = torch.zeros(
        1, requires_grad=True
    )  # a row of probability 1 has no finite odds, and a gradient all the same
    orpo(certain, rejected, *lengths).sum().backward()
    assert certain.grad is not None
    assert bool(certain.grad.isfinite().all())
    with pytest.raises(ValueError, match="beta is"):
        orpo(chosen, rejected, *lengths, beta=0.0)


def test_kto() -> None:
    """Gaps 1 and -3, mean -1 -> z = 0: 1 - sigmoid(.1) for the desirable row, 2 (1 - sigmoid(.3)) for the other."""
    logp, ref = torch.tensor([-10.0, -13.0]), torch.tensor([-11.0, -10.0])
    loss = kto(logp, ref, torch.tensor([1, 0]), beta=0.1, undesirable_weight=2.0)
    assert loss.tolist() == pytest.approx([1 / (1 + math.exp(0.1)), 2 / (1 + math.exp(0.3))], abs=1e-6)
    pushed = kto(logp, ref, torch.tensor([1, 0]), beta=0.1, baseline=torch.tensor(0.1))
    assert pushed[0].item() == pytest.approx(0.5)


def test_on_pairs_is_the_mean_over_pairs_whatever_the_row_order() -> None:
    """Rows sum to -10, -12 (pair 0) and -3, -1 (pair 1, chosen second); reference 0 everywhere."""
    logp = torch.tensor([[-4.0, -6.0], [-12.0, 9.0], [-3.0, 9.0], [-1.0, 9.0]])
    turn = torch.tensor([[0, 0], [0, -1], [0, -1], [0, -1]])
    pair, chosen = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 0, 1])
    objective = on_pairs(partial(dpo, beta=0.1))
    expected = (math.log1p(math.exp(-0.2)) + math.log1p(math.exp(-0.2))) / 2
    for order in ([0, 1, 2, 3], [3, 0, 2, 1]):
        loss = objective(logp[order], torch.zeros(4, 2), turn[order], pair[order], chosen[order])
        value = sequence_mean(loss, turn[order], totals(turn), tokens="sum")
        assert value.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("chosen", [[1, 1, 0, 1], [1, 0, 0, 0]])
def test_broken_pairs_are_refused(chosen: list[int]) -> None:
    turn = torch.zeros(4, 1, dtype=torch.int64)
    zero = torch.zeros(4, 1)
    with pytest.raises(ValueError, match="one chosen and one rejected"):
        on_pairs(dpo)(zero, zero, turn, torch.tensor([0, 0, 1, 1]), torch.tensor(chosen))
    with pytest.raises(ValueError, match="one chosen and one rejected"):
        on_pairs(dpo)(zero[:3], zero[:3], turn[:3], torch.tensor([0, 0, 1]), torch.tensor([1, 0, 1]))


def test_on_rows_and_sequence_logp() -> None:
    logp = torch.tensor([[-4.0, -6.0], [-13.0, 9.0]])
    turn = torch.tensor([[0, 0], [0, -1]])
    assert sequence_logp(logp, turn).tolist() == [-10.0, -13.0]
    assert sequence_logp(logp, turn, mean=True).tolist() == [-5.0, -13.0]
    loss = on_rows(kto)(logp, torch.zeros(2, 2), turn, torch.tensor([1, 0]))
    direct = kto(torch.tensor([-10.0, -13.0]), torch.zeros(2), torch.tensor([1, 0]))
    assert loss[:, 0].tolist() == pytest.approx(direct.tolist())
    assert not loss[:, 1].any()


def test_soft_labels_in_the_pair_loss() -> None:
    """p = .8, scores 1 and 0: .8 log(1 + e^-1) + .2 log(1 + e) = .513262."""
    loss = bradley_terry(torch.tensor([1.0]), torch.tensor([0.0]), preference=torch.tensor([0.8]))
    assert loss.item() == pytest.approx(0.8 * math.log1p(math.exp(-1)) + 0.2 * math.log1p(math.e), abs=1e-6)
