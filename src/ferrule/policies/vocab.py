"""New tokens beside a model: their embedding and output rows are trained alone while the model stays as it is.

A tool, an object or an act that shall be one token gets a row in the embedding and a row in the output layer. The rows
are values beside the model, as heads are: saved, loaded and checkpointed with it, and taken off again by
``without_tokens``. Source: "ToolkenGPT: Augmenting Frozen Language Models with Massive Tools via Tool Embeddings",
arXiv 2305.11554; there only the output rows are new and the input sees the name of a tool, here both are.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ferrule.policies.engine.rows import Stops

__all__ = [
    "EmbeddingRows",
    "HasTokens",
    "OutputRows",
    "add_tokens",
    "load_tokens",
    "new_rows",
    "save_tokens",
    "without_tokens",
]


class HasTokens(Protocol):
    """A policy that can carry new tokens; ``tokens`` are those it has."""

    model: Any
    tokenizer: Any
    stops: Stops
    tokens: tuple[str, ...]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ...


class EmbeddingRows(nn.Module):
    """An embedding whose ids from ``first`` on have rows of their own, (K, D)."""

    def __init__(self, base: nn.Module, rows_KD: nn.Parameter, first: int) -> None:
        super().__init__()
        self.base, self.rows, self.first = base, rows_KD, first

    @property
    def weight(self) -> Tensor:
        """The whole table, with the new rows in their places."""
        return _placed(self.base.weight, self.rows, self.first, dim=0)  # type: ignore[arg-type]

    def forward(self, ids: Tensor) -> Tensor:
        """Look ids up."""
        place = ids - self.first
        new = (place >= 0) & (place < len(self.rows))
        known: Tensor = self.base(ids.masked_fill(new, 0))
        mine = self.rows[place.clamp(0, len(self.rows) - 1)].to(known.dtype)
        return torch.where(new[..., None], mine, known)


class OutputRows(nn.Module):
    """An output layer whose logits from ``first`` on come from rows of their own, (K, D); they have no bias."""

    def __init__(self, base: nn.Linear, rows_KD: nn.Parameter, first: int) -> None:
        super().__init__()
        self.base, self.rows, self.first = base, rows_KD, first
        self.in_features, self.out_features = base.in_features, max(base.out_features, first + len(rows_KD))

    @property
    def weight(self) -> Tensor:
        """The whole matrix, with the new rows in their places."""
        return _placed(self.base.weight, self.rows, self.first, dim=0)

    @property
    def bias(self) -> Tensor | None:
        """The whole bias, 0 for the new rows; None where the layer has none."""
        bias = self.base.bias
        return None if bias is None else _placed(bias, bias.new_zeros(len(self.rows)), self.first, dim=0)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits of all tokens."""
        known = self.base(hidden)
        new = nn.functional.linear(hidden.to(self.rows.dtype), self.rows).to(known.dtype)
        return _placed(known, new, self.first, dim=-1)


def _placed(known: Tensor, new: Tensor, first: int, *, dim: int) -> Tensor:
    """Return ``known`` with ``new`` from place ``first`` on: over what is there, and beyond its end."""
    after = first + new.shape[dim]
    parts = [known.narrow(dim, 0, first), new.to(known.dtype)]
    if after < known.shape[dim]:  # models with more rows than their tokenizer has tokens
        parts.append(known.narrow(dim, after, known.shape[dim] - after))
    return torch.cat(parts, dim)


def add_tokens(policy: HasTokens, tokens: Sequence[str]) -> None:
    """Freeze a policy's weights and give new tokens trainable rows; each begins as the mean of what its text was.

    Input and output rows are one where the model's are. The same tokens again do nothing. Raises ``ValueError`` for
    tokens that are empty, doubled or known to the tokenizer already, and for a second set of them.
    """
    tokens = tuple(tokens)
    if tokens and policy.tokens == tokens:
        return
    if policy.tokens:
        raise ValueError(f"the policy has new tokens already: {', '.join(policy.tokens)}; add all of them at once")
    known = policy.tokenizer.get_vocab()
    wrong = [token for token in tokens if not token.strip() or token in known or tokens.count(token) > 1]
    if wrong or not tokens:
        raise ValueError(f"new tokens must be texts that are no tokens yet, each once; not {wrong or 'an empty list'}")
    pieces = [policy.encode(token) for token in tokens]
    inner, first = _inner(policy.model), _named(policy, tokens)
    one, other = inner.get_input_embeddings().weight, inner.get_output_embeddings().weight
    means = [torch.stack([table.detach()[ids].float().mean(0) for ids in pieces]) for table in (one, other)]
    _put(policy, tokens, first, means[0], None if one is other else means[1])


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _named(policy: HasTokens, tokens: Sequence[str]) -> int:
    """Make texts tokens of a tokenizer of the policy's own and return the first id; they take the next free ids."""
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(policy.tokenizer)  # the one given may serve other policies
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    size = _inner(policy.model).get_input_embeddings().weight.shape[0]
    if ids != list(range(ids[0], ids[0] + len(ids))) or ids[0] > size:
        raise ValueError(f"the new tokens got the ids {ids}; they must follow each other and the model's {size} rows")
    policy.tokenizer = tokenizer
    policy.stops = Stops(tokenizer, policy.stops.end_ids)
    return int(ids[0])


def _put(policy: HasTokens, tokens: tuple[str, ...], first: int, into_KD: Tensor, out_KD: Tensor | None) -> None:
    inner = _inner(policy.model)
    table, head = inner.get_input_embeddings(), inner.get_output_embeddings()
    policy.model.requires_grad_(False)
    rows = nn.Parameter(into_KD.to(table.weight))
    own = rows if out_KD is None else nn.Parameter(out_KD.to(head.weight))
    inner.set_input_embeddings(EmbeddingRows(table, rows, first))
    inner.set_output_embeddings(OutputRows(head, own, first))
    inner.config.vocab_size = max(inner.config.vocab_size, first + len(tokens))
    policy.tokens = tokens


def new_rows(model: Any) -> dict[str, nn.Parameter]:
    """Return the new rows of a model by name: ``input`` and, where they are not one, ``output``; nothing without."""
    inner = _inner(model)
    table, head = inner.get_input_embeddings(), inner.get_output_embeddings()
    if not isinstance(head, OutputRows):
        return {}
    return {"input": table.rows} | ({} if head.rows is table.rows else {"output": head.rows})


@contextlib.contextmanager
def without_tokens(model: Any) -> Iterator[None]:
    """Take the new rows off a model for the time of a block: it is the model that it was before, in every respect."""
    inner = _inner(model)
    table, head, size = inner.get_input_embeddings(), inner.get_output_embeddings(), inner.config.vocab_size
    if not isinstance(head, OutputRows):
        yield
        return
    inner.set_input_embeddings(table.base)
    inner.set_output_embeddings(head.base)
    inner.config.vocab_size = head.base.out_features
    try:
        yield
    finally:
        inner.set_input_embeddings(table)
        inner.set_output_embeddings(head)
        inner.config.vocab_size = size


def save_tokens(policy: HasTokens, folder: Path) -> None:
    """Write the new tokens beside the model: texts as JSON, rows as safetensors; nothing without any."""
    if policy.tokens:
        (folder / "tokens.json").write_text(json.dumps(policy.tokens, indent=1), encoding="utf-8")
        rows = {name: p.detach().contiguous() for name, p in new_rows(policy.model).items()}
        save_file(rows, folder / "tokens.safetensors")


def load_tokens(policy: HasTokens, folder: Path) -> None:
    """Add the tokens that lie beside a model in a folder, with their rows; nothing where there are none."""
    if not (folder / "tokens.json").is_file():
        return
    tokens = tuple(json.loads((folder / "tokens.json").read_text(encoding="utf-8")))
    rows = load_file(folder / "tokens.safetensors")
    _put(policy, tokens, _named(policy, tokens), rows["input"], rows.get("output"))
