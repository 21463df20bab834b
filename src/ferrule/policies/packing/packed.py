"""Log-probs of rows on local weights, with every shared prefix computed once.

``logps`` lays the rows out as one sequence (see ``prefix_tree``), lets the model's layers attend along the tree, and
lets its output layer answer with log-probs instead of logits. Models that cannot do this are scored row by row on a
padded batch; ``why_padded`` says which they are and why.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ferrule.policies.engine.attention import exchanged
from ferrule.policies.forward import logits_at
from ferrule.policies.packing.linear_logp import linear_logp
from ferrule.policies.packing.prefix_tree import Pack, by_length, cut, pack
from ferrule.policies.vocab import OutputRows

__all__ = ["logps", "micro_batches", "packed_logps", "padded_logps", "token_budget", "why_padded"]

_NAME = "ferrule_tree"  # under which a model's layers find the attention of this module
_reasons: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def token_budget(device: torch.device) -> int:
    """Return how many tokens to compute at once: enough to fill the matrix products, few enough for the memory."""
    return 1024 if device.type == "cpu" else 16384


def logps(model: Any, ids_NT: Tensor, turn_NT: Tensor, *, temperature: float = 1.0, autocast: bool = False,
          value_head: Any = None) -> dict[str, Tensor]:  # fmt: skip
    """Return ``logp_NT``, ``entropy_NT`` and ``value_NT`` of right-padded rows, zero where ``turn_NT`` is -1.

    A token's log-prob is given the tokens before it in its row. Packed where the model can, padded where not.
    """
    score = padded_logps if why_padded(model, autocast=autocast) else packed_logps
    return score(model, ids_NT, turn_NT, temperature=temperature, autocast=autocast, value_head=value_head)


def micro_batches(model: Any, ids: Sequence[Any], turn: Sequence[Any], *, units: Sequence[Sequence[int]] | None = None,
                  rows: int, tokens: int | None = None, autocast: bool = False) -> Iterator[list[int]]:  # fmt: skip
    """Cut rows (numpy, each of its own length or right-padded) into parts for ``logps``; return row numbers.

    A part has at most ``rows`` rows and ``tokens`` tokens (None: ``token_budget``), but one unit at least; ``units``
    are rows that stay together. Shared prefixes count once where the model can be packed.
    """
    device = next(model.parameters()).device
    budget = token_budget(device) if tokens is None else tokens
    units = [[i] for i in range(len(ids))] if units is None else units
    if why_padded(model, autocast=autocast):
        return by_length(ids, turn, units, rows=rows, tokens=budget)
    # Half of it fills a processor's products; rows that share nothing would only take memory beyond that.
    apart = budget // 2 if tokens is None and device.type == "cpu" else budget
    return cut(ids, turn, units, rows=rows, tokens=budget, apart=apart)


def why_padded(model: Any, *, autocast: bool = False) -> str:
    """Return why a model cannot be packed, or nothing if it can: both forms are tried once on a few tokens."""
    if model not in _reasons:
        was = model.training
        model.eval()
        try:
            with torch.no_grad():
                _reasons[model] = _try(model, autocast)
        except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            own = isinstance(error, ValueError)  # the others are what third-party code raises
            _reasons[model] = str(error) if own else f"{type(error).__name__}: {error}"
        finally:
            model.train(was)
    return _reasons[model]


def _try(model: Any, autocast: bool) -> str:
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    others = sorted({*(getattr(config, "layer_types", None) or ())} - {"full_attention"})
    if others:
        return f"it has layers of the kind {others[0]}"
    if not isinstance(head, torch.nn.Linear | OutputRows) or head.weight.shape != (head.out_features, head.in_features):
        return f"its output layer is a {type(head).__name__}"
    rows = [[1, 2, 3, 4, 5, 6], [1, 2, 3, 6, 5, 4], [1, 2, 3, 6, 1, 2], [2, 3, 4, 5, 6, 7]]
    ids = torch.tensor(rows, device=next(model.parameters()).device) % head.out_features
    turn = torch.zeros_like(ids)
    packed, padded = (score(model, ids, turn, autocast=autocast)["logp_NT"] for score in (packed_logps, padded_logps))
    exact = head.weight.dtype is torch.float32 and not autocast
    gap = float((packed - padded).abs().max())
    return "" if gap < (1e-3 if exact else 0.1) else f"its log-probs differ by {gap:.2g} when packed"


def packed_logps(model: Any, ids_NT: Tensor, turn_NT: Tensor, *, temperature: float = 1.0, autocast: bool = False,
                 value_head: Any = None) -> dict[str, Tensor]:  # fmt: skip
    """Do what ``logps`` does on one sequence. Raises ``ValueError`` for a model whose layers go another way."""
    device = ids_NT.device
    head, config = model.get_output_embeddings(), model.config.get_text_config()
    scores = _empty(ids_NT, head)
    tree = pack(list(ids_NT.clamp(min=0).cpu().numpy()), list(turn_NT.cpu().numpy()))
    if not len(tree.at_M):
        return scores
    on = partial(_tensor, device=device)
    target_M, answers, values = on(tree.target_M), [], []

    def answer(hidden: Tensor) -> Tensor:
        hidden_MD = hidden[0]
        both = linear_logp(hidden_MD, head.weight, target_M, bias_V=head.bias, temperature=temperature)
        if value_head is not None:
            values.append(value_head(hidden_MD.to(value_head.weight.dtype).detach()).squeeze(-1))
        answers.append(torch.stack((torch.stack(both, -1),)))
        return answers[-1]

    kind = torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast)
    with kind, exchanged(config, _NAME, _attention), _answering(head, answer):
        result = model(input_ids=on(tree.ids_T)[None], position_ids=on(tree.position_T)[None], use_cache=False,
                       logits_to_keep=on(tree.at_M), tree=tree)  # fmt: skip
    if tree.calls != config.num_hidden_layers:
        raise ValueError(f"{tree.calls} of the model's {config.num_hidden_layers} layers took the tree attention")
    scores_M2 = result.logits[0]
    if scores_M2.shape != answers[0][0].shape or not torch.equal(scores_M2, answers[0][0]):
        raise ValueError("the model changes the logits after its output layer")
    if scores_M2.requires_grad and any(getattr(m, "gradient_checkpointing", False) for m in model.modules()):
        scores_M2.register_hook(lambda grad: _attend_again(config))
    cell_C = on(tree.row_C * ids_NT.shape[1] + tree.column_C)
    pair_C = on(tree.pair_C)
    parts = {"logp_NT": scores_M2[:, 0], "entropy_NT": scores_M2[:, 1], **({"value_NT": values[0]} if values else {})}
    for name, score_M in parts.items():
        flat = scores[name].view(-1)
        scores[name] = flat.index_copy(0, cell_C, score_M[pair_C].to(flat.dtype)).view(ids_NT.shape)
    return scores


def padded_logps(model: Any, ids_NT: Tensor, turn_NT: Tensor, *, temperature: float = 1.0, autocast: bool = False,
                 value_head: Any = None) -> dict[str, Tensor]:  # fmt: skip
    """Do what ``logps`` does on a padded batch; logits are computed only at columns that some row needs."""
    needed = torch.nonzero((turn_NT[:, 1:] >= 0).any(0)).squeeze(1)
    scores = _empty(ids_NT, model.get_output_embeddings())
    if needed.numel() == 0:
        return scores
    ids, columns = ids_NT.clamp(min=0), needed + 1
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=autocast):
        logits, states = logits_at(model, ids, needed, hidden=value_head is not None)
    logp = torch.log_softmax(logits.to(scores["logp_NT"].dtype) / temperature, dim=-1)
    chosen = logp.gather(2, ids[:, columns, None]).squeeze(2)
    parts = {"logp_NT": chosen, "entropy_NT": -(logp.exp() * logp.clamp(min=-1e4)).sum(-1)}
    if value_head is not None:
        parts["value_NT"] = value_head(states[-1][:, needed].to(value_head.weight.dtype).detach()).squeeze(-1)
    mine = turn_NT[:, columns] >= 0
    for name, score in parts.items():
        scores[name] = scores[name].index_copy(
            1, columns, torch.where(mine, score, torch.zeros_like(score)).to(scores[name].dtype)
        )
    return scores


def _empty(ids_NT: Tensor, head: Any) -> dict[str, Tensor]:
    """Return zeros for all results: fp32, or the type of the weights where it is wider."""
    dtype = torch.promote_types(head.weight.dtype, torch.float32)
    names = ("logp_NT", "entropy_NT", "value_NT")
    return {name: torch.zeros(ids_NT.shape, dtype=dtype, device=ids_NT.device) for name in names}


def _tensor(array: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)


# ----------------------------------------------------------------------------------------------------------- attention


def _attention(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, *,
               scaling: float | None = None, dropout: float = 0.0, tree: Pack | None = None,
               **options: Any) -> tuple[Tensor, None]:  # fmt: skip
    """Attend along the tree, run by run; queries (1, H, T, d) in, (1, T, H, d) out."""
    if tree is None:
        raise ValueError(f"{type(module).__name__} keeps its options from the attention")
    for name in ("softcap", "s_aux", "position_bias", "sliding_window"):
        if options.get(name) is not None:
            raise ValueError(f"{type(module).__name__} attends with {name}")
    tree.calls += 1
    if query.is_cuda and not dropout:  # one kernel for the whole tree; it knows no dropout
        from transformers.integrations.flex_attention import flex_attention_forward

        blocks = tree.block_mask(query.device)
        query, key = query.to(value.dtype), key.to(value.dtype)  # autocast leaves rotated ones in fp32
        return flex_attention_forward(module, query, key, value, blocks, scaling=scaling)[0], None
    sizes = [stop - start for start, stop, _ in tree.runs]
    attend: Callable[..., Tensor] = partial(
        scaled_dot_product_attention, dropout_p=dropout, scale=scaling, enable_gqa=key.shape[1] != query.shape[1]
    )
    past: dict[Any, list[Tensor]] = {}  # runs below the same path read one copy of it
    attended = []
    for mine, *key_value, run in zip(*(torch.split(x, sizes, 2) for x in (query, key, value)), tree.runs, strict=True):
        if not run[2]:
            attended.append(attend(mine, *key_value, is_causal=True))
            continue
        if run[2] not in past:
            past[run[2]] = [torch.cat([x[:, :, a:b] for a, b in run[2]], dim=2) for x in (key, value)]
        whole = [torch.cat(pair, dim=2) for pair in zip(past[run[2]], key_value, strict=True)]
        mask = tree.run_mask(mine.shape[2], whole[0].shape[2] - mine.shape[2], query)
        attended.append(attend(mine, *whole, attn_mask=mask))
    return torch.cat(attended, dim=2).transpose(1, 2).contiguous(), None


def _attend_again(config: Any) -> None:
    """Let layers that are computed again in the backward pass attend as they did in the forward pass."""
    was, config._attn_implementation = config._attn_implementation, _NAME

    def leave() -> None:
        config._attn_implementation = was

    torch.autograd.Variable._execution_engine.queue_callback(leave)


@contextlib.contextmanager
def _answering(head: Any, answer: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let an output layer answer with something else than logits."""
    before = head.__dict__.get("forward")
    head.forward = answer
    try:
        yield
    finally:
        del head.forward
        if before is not None:
            head.forward = before
