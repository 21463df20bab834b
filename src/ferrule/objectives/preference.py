"""Preference losses over summed log-probabilities of the model's own tokens, and their use as an objective.

The pair losses take one entry per pair (suffix P): summed log-probs of the chosen and the rejected row under the
policy and, where needed, under the reference. Prompts and tool results never enter the sums. Sources: DPO and its
family as catalogued in "A Technical Survey of Reinforcement Learning Techniques for Large Language Models" (52).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from ferrule.core.arrays import by_name
from ferrule.core.marks import exempt
from ferrule.credit.wrap import naming
from ferrule.objectives.penalty import Objective

__all__ = [
    "bradley_terry", "dpo", "dpo_margin", "ipo", "kto", "labelled", "mean_margin", "on_pairs", "on_rows", "orpo",
    "ranked", "rpo", "sequence_logp", "simpo",
]  # fmt: skip


@exempt("loss")
def sequence_logp(logp_NT: Tensor, turn_NT: Tensor, *, mean: bool = False) -> Tensor:
    """Sum (or ``mean``) of log-probs over the model tokens of each row: ``logp_N`` in nats."""
    own_N = torch.where(turn_NT >= 0, logp_NT, torch.zeros_like(logp_NT)).sum(1)
    return own_N / (turn_NT >= 0).sum(1).clamp(min=1) if mean else own_N


def bradley_terry(chosen_P: Tensor, rejected_P: Tensor, *, preference: Tensor | float = 1.0) -> Tensor:
    """Reward-model loss per pair: ``-p log sigmoid(c - r) - (1 - p) log sigmoid(r - c)``.

    ``preference`` is the probability ``p`` that the first is better (1 for hard labels, a soft label from a labeller).
    """
    return -preference * logsigmoid(chosen_P - rejected_P) - (1 - preference) * logsigmoid(rejected_P - chosen_P)


def _positive(beta: float) -> None:
    if not beta > 0:
        raise ValueError(f"beta is {beta}; it must be above 0")


def dpo_margin(
    chosen_P: Tensor, rejected_P: Tensor, ref_chosen_P: Tensor, ref_rejected_P: Tensor, *, beta: float = 0.1
) -> Tensor:
    """Margin of a pair: ``h_P = beta ((chosen - ref_chosen) - (rejected - ref_rejected))``.

    It is the lead of the chosen row in the reward that DPO implies, 0 at the reference; where it is above 0 the pair is
    told apart. Both rows must begin with the same prompt. Results of tools may differ as far as the calls before them
    decide them; a result that came by chance speaks for its row without saying anything about the model. Raises
    ``ValueError`` for a ``beta`` that is not above 0.
    """
    _positive(beta)
    return beta * ((chosen_P - ref_chosen_P.detach()) - (rejected_P - ref_rejected_P.detach()))


def dpo(
    chosen_P: Tensor,
    rejected_P: Tensor,
    ref_chosen_P: Tensor,
    ref_rejected_P: Tensor,
    *,
    preference_P: Tensor | None = None,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Tensor:
    """DPO loss per pair: ``-(1 - e) log sigmoid(h) - e log sigmoid(-h)``.

    ``h`` is ``dpo_margin``; ``e`` is ``label_smoothing``, the assumed share of flipped labels. ``preference_P``
    replaces ``1 - e`` by a soft label per pair (RLAIF).
    """
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"smoothing is {label_smoothing}; it must lie in 0 up to but not including 0.5")
    margin_P = dpo_margin(chosen_P, rejected_P, ref_chosen_P, ref_rejected_P, beta=beta)
    return bradley_terry(
        margin_P, torch.zeros_like(margin_P), preference=1 - label_smoothing if preference_P is None else preference_P
    )


def rpo(
    chosen_P: Tensor,
    rejected_P: Tensor,
    ref_chosen_P: Tensor,
    ref_rejected_P: Tensor,
    chosen_length_P: Tensor,
    *,
    beta: float = 0.1,
    alpha: float = 1.0,
) -> Tensor:
    """DPO with a likelihood term on the chosen row: ``dpo - alpha chosen / len_c`` (RPO).

    The term keeps the chosen row from losing likelihood together with the rejected one.
    """
    likelihood_P = chosen_P / chosen_length_P.clamp(min=1)
    return dpo(chosen_P, rejected_P, ref_chosen_P, ref_rejected_P, beta=beta) - alpha * likelihood_P


def ipo(
    chosen_P: Tensor, rejected_P: Tensor, ref_chosen_P: Tensor, ref_rejected_P: Tensor, *, beta: float = 0.1
) -> Tensor:
    """IPO loss per pair: ``(margin - 1 / (2 beta))^2`` with the ``dpo_margin`` at beta 1."""
    _positive(beta)
    margin_P = dpo_margin(chosen_P, rejected_P, ref_chosen_P, ref_rejected_P, beta=1.0)
    return (margin_P - 1 / (2 * beta)).square()


def mean_margin(chosen_P: Tensor, rejected_P: Tensor, chosen_length_P: Tensor, rejected_length_P: Tensor) -> Tensor:
    """Margin of a pair without reference: ``chosen / len_c - rejected / len_r``, in nats per model token.

    Where it is above 0 the model tells the pair apart. Lengths are counts of model tokens.
    """
    return chosen_P / chosen_length_P.clamp(min=1) - rejected_P / rejected_length_P.clamp(min=1)


def simpo(
    chosen_P: Tensor,
    rejected_P: Tensor,
    chosen_length_P: Tensor,
    rejected_length_P: Tensor,
    *,
    beta: float = 2.0,
    gamma: float = 0.5,
) -> Tensor:
    """SimPO loss per pair, without reference: ``-log sigmoid(beta m - gamma)`` with ``m`` the ``mean_margin``.

    ``gamma`` is the target margin.
    """
    return -logsigmoid(beta * mean_margin(chosen_P, rejected_P, chosen_length_P, rejected_length_P) - gamma)


def _log_odds(mean_P: Tensor) -> Tensor:
    """Return ``log(p / (1 - p))`` of log-probabilities; one that rounds to 0 counts as the nearest below it."""
    mean_P = mean_P.clamp(max=-torch.finfo(mean_P.dtype).eps)
    return mean_P - torch.log(-torch.expm1(mean_P))


def orpo(
    chosen_P: Tensor,
    rejected_P: Tensor,
    chosen_length_P: Tensor,
    rejected_length_P: Tensor,
    *,
    beta: float = 0.1,
) -> Tensor:
    """ORPO loss per pair, without reference: ``-c - beta log sigmoid(odds(c) - odds(r))``.

    ``c`` and ``r`` are the rows' mean log-probabilities per model token and ``odds(x) = log(e^x / (1 - e^x))``; the
    first term imitates the chosen row. Source: Hong, Lee and Thorne, "ORPO: Monolithic Preference Optimization without
    Reference Model" (2024). Raises ``ValueError`` for a ``beta`` that is not above 0.
    """
    _positive(beta)
    mean_chosen_P = chosen_P / chosen_length_P.clamp(min=1)
    mean_rejected_P = rejected_P / rejected_length_P.clamp(min=1)
    return -mean_chosen_P - beta * logsigmoid(_log_odds(mean_chosen_P) - _log_odds(mean_rejected_P))


def kto(
    logp_N: Tensor,
    ref_N: Tensor,
    desirable_N: Tensor,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    baseline: Tensor | None = None,
) -> Tensor:
    """KTO loss per unpaired row: ``w (1 - sigmoid(+-(beta (logp - ref) - z)))``, plus for desirable rows.

    ``z`` is the ``baseline``: beta times a KL estimate of mismatched pairs; without one, the batch mean of
    ``beta (logp - ref)`` clamped at 0 is used, without gradient.
    """
    gap_N = logp_N - ref_N.detach()
    z = (beta * gap_N.mean()).clamp(min=0).detach() if baseline is None else baseline.detach()
    good_N = desirable_N.bool()
    sign_N = torch.where(good_N, 1.0, -1.0).to(gap_N.dtype)
    weight_N = torch.where(good_N, desirable_weight, undesirable_weight).to(gap_N.dtype)
    return weight_N * (1 - torch.sigmoid(sign_N * (beta * gap_N - z)))


def on_pairs(loss: Callable[..., Tensor]) -> Objective:
    """Turn a pair loss into an objective on rows: ``(logp_NT, ref_NT, turn_NT, pair_N, chosen_N) -> loss_NT``.

    ``pair_N`` gives rows of one pair the same index and ``chosen_N`` is 1 for the preferred one. Both rows carry the
    loss of their pair on their first model token, so that ``sequence_mean(tokens="sum")`` is the mean over pairs.
    Both members must be in the same micro-batch; a broken pair raises ``ValueError``. ``ref_NT`` is named only when
    ``loss`` reads it.
    """
    needs_reference = "ref_chosen_P" in inspect.signature(loss).parameters

    def paired(logp_NT: Tensor, turn_NT: Tensor, pair_N: Tensor, chosen_N: Tensor) -> Tensor:
        return _paired(loss, logp_NT, None, turn_NT, pair_N, chosen_N)

    def paired_with_reference(
        logp_NT: Tensor, ref_NT: Tensor, turn_NT: Tensor, pair_N: Tensor, chosen_N: Tensor
    ) -> Tensor:
        return _paired(loss, logp_NT, ref_NT, turn_NT, pair_N, chosen_N)

    return paired_with_reference if needs_reference else paired


def ranked(head: str = "reward", *, loss: Callable[..., Tensor] = bradley_terry) -> Objective:
    """Return the objective of a reward model: ``loss(chosen_P, rejected_P)`` on what a head says of the rows of a pair.

    It reads ``HEAD_N``, ``pair_N`` and ``chosen_N``; the loss of a pair stands as in ``on_pairs``.
    """
    key = f"{head}_N"

    def scored(turn_NT: Tensor, pair_N: Tensor, chosen_N: Tensor, **by_head: Tensor) -> Tensor:
        first, second = _members(pair_N, chosen_N)
        pair_P = loss(by_head[key][first], by_head[key][second])
        row_N = torch.zeros_like(by_head[key]).index_put((first,), pair_P).index_put((second,), pair_P)
        return _on_first(row_N, turn_NT)

    return naming(scored, scored, adds=(key,))


def labelled(head: str = "probe") -> Objective:
    """Return the objective of a probe per row: the log loss of ``sigmoid(HEAD_N)`` against the labels ``chosen_N``."""
    key = f"{head}_N"

    def labelled_rows(turn_NT: Tensor, chosen_N: Tensor, **by_head: Tensor) -> Tensor:
        row_N = binary_cross_entropy_with_logits(by_head[key], chosen_N.to(by_head[key].dtype), reduction="none")
        return _on_first(row_N, turn_NT)

    return naming(labelled_rows, labelled_rows, adds=(key,))


def on_rows(loss: Callable[..., Tensor]) -> Objective:
    """Turn an unpaired loss such as ``kto`` into an objective: ``(logp_NT, ref_NT, turn_NT, chosen_N) -> loss_NT``.

    ``chosen_N`` is 1 for desirable rows. Each row carries its loss on its first model token, so that
    ``sequence_mean(tokens="sum")`` is the mean over rows. A loss with a baseline taken from the batch (``kto`` without
    ``baseline``) sees the micro-batch: keep its size fixed, or bind a baseline with ``functools.partial``.
    """

    def rows(logp_NT: Tensor, ref_NT: Tensor, turn_NT: Tensor, chosen_N: Tensor) -> Tensor:
        row_N = loss(sequence_logp(logp_NT, turn_NT), sequence_logp(ref_NT, turn_NT), chosen_N)
        return _on_first(row_N, turn_NT)

    return rows


def _on_first(row_N: Tensor, turn_NT: Tensor) -> Tensor:
    """Lay one value per row on the row's first model token, 0 elsewhere."""
    mine_NT = turn_NT >= 0
    first_NT = mine_NT & (mine_NT.cumsum(1) == 1)
    return torch.where(first_NT, row_N[:, None], torch.zeros_like(row_N)[:, None])


def _members(pair_N: Tensor, chosen_N: Tensor) -> tuple[Tensor, Tensor]:
    """Places of the chosen and the rejected row of every pair."""
    order = torch.argsort(pair_N * 2 + (1 - chosen_N.long().clamp(0, 1)), stable=True)
    first, second = order[0::2], order[1::2]
    whole = len(first) == len(second) and bool((pair_N[first] == pair_N[second]).all())
    if not whole or not bool((chosen_N[first] > chosen_N[second]).all()):
        raise ValueError("on_pairs needs exactly one chosen and one rejected row of every pair in a micro-batch")
    return first, second


def _paired(
    loss: Callable[..., Tensor],
    logp_NT: Tensor,
    ref_NT: Tensor | None,
    turn_NT: Tensor,
    pair_N: Tensor,
    chosen_N: Tensor,
) -> Tensor:
    """Match the rows of each pair, call ``loss`` and lay its values on the rows' first model tokens."""
    first, second = _members(pair_N, chosen_N)
    length_N = (turn_NT >= 0).sum(1)
    logp_N = sequence_logp(logp_NT, turn_NT)
    named = {
        "chosen_P": logp_N[first],
        "rejected_P": logp_N[second],
        "chosen_length_P": length_N[first],
        "rejected_length_P": length_N[second],
    }
    if ref_NT is not None:
        ref_N = sequence_logp(ref_NT, turn_NT)
        named |= {"ref_chosen_P": ref_N[first], "ref_rejected_P": ref_N[second]}
    pair_loss = by_name(loss, named)
    row_N = torch.zeros_like(logp_N).index_put((first,), pair_loss).index_put((second,), pair_loss)
    return _on_first(row_N, turn_NT)
