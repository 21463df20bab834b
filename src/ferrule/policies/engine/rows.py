"""One sample on its way, when it ends, and how its next id is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ferrule.chat.reply import first_stop

__all__ = ["Row", "Stops", "advance"]

_BLOCK = 256


@dataclass(eq=False)
class Row:
    """One sample: prompt ids, limits, seed and constraints in; sampled ids and their log-probs out.

    ``top_k=0`` and ``top_p=1`` cut nothing. ``bias`` is added to logits by id; ``bans`` are id sequences that are never
    completed; ``allowed(written)`` names the only ids that may come next (``None``: all). ``top_logps`` is how many of
    the most probable ids are kept per token. ``begun`` are the last ids of ``given`` that belong to the reply already:
    stop strings, bans and draws go on from there, so that with the seed of the whole reply its rest is drawn again.
    ``opened`` says that they begin inside thinking, which no stop string ends.
    """

    given: tuple[int, ...]
    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...] = ()
    begun: tuple[int, ...] = ()
    opened: bool = False
    top_k: int = 0
    top_p: float = 1.0
    bias: Mapping[int, float] = field(default_factory=dict)
    bans: tuple[tuple[int, ...], ...] = ()
    allowed: Callable[[tuple[int, ...]], Sequence[int] | None] | None = None
    ignore_end: bool = False
    entropy: bool = False
    top_logps: int = 0
    wants_hidden: bool = False
    sampled: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    tops: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    hidden: np.ndarray[Any, Any] | None = None
    finish: str = ""

    @cached_property
    def noise(self) -> np.ndarray[Any, Any]:
        """Uniform numbers that decide this row's draws, one per token; they depend on the seed alone."""
        count = len(self.begun) + self.max_tokens
        return np.random.Generator(np.random.Philox(key=self.seed)).random(count)[len(self.begun) :]

    def tail(self, count: int) -> Sequence[int]:
        """Return the last ``count`` ids of the reply so far."""
        missing = count - len(self.sampled)
        if missing <= 0 or not self.begun:
            return self.sampled[-count:] if count else []
        return [*self.begun[-missing:], *self.sampled]

    @property
    def constrained(self) -> bool:
        """Whether draws come from less than the whole distribution."""
        return bool(self.top_k or self.top_p < 1 or self.bias or self.bans or self.allowed is not None)


class Stops:
    """Decides whether a sampled row has reached its end token or one of its stop strings."""

    def __init__(self, tokenizer: Any, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self.end_ids = end_ids
        self._pieces: list[str] | None = None
        self._enders: dict[tuple[str, ...], frozenset[int]] = {}

    def text(self, ids: Sequence[int]) -> str:
        """Return the exact text of ids, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def check(self, row: Row) -> str:
        """Return the finish of a row, or an empty text while it goes on."""
        last = row.sampled[-1]
        if last in self.end_ids and not row.ignore_end:
            return "stop"
        if row.stop and last in self._may_end(row.stop):
            # A token is a byte or the mark of a capital at least; the text of the first may be cut off in a letter.
            tail = self.text(row.tail(max(48, 8 + 2 * max(len(stop.encode()) for stop in row.stop))))
            if any(stop in tail for stop in row.stop) and self._ends(row):
                return "stop"
        return "length" if len(row.sampled) >= row.max_tokens else ""

    def _ends(self, row: Row) -> bool:
        """Return whether a stop string stands in the reply outside thinking."""
        return first_stop(self.text([*row.begun, *row.sampled]), row.stop, row.opened) >= 0

    def _may_end(self, stops: tuple[str, ...]) -> frozenset[int]:
        """Return the tokens after which a stop string may be complete: its last character is in them.

        Letters outside ASCII may be spread over several tokens, blanks get lost when a token is decoded alone, and
        tokenizers that mark capitals write the small letter.
        """
        if stops not in self._enders:
            if self._pieces is None:
                size = len(self._tokenizer)
                self._pieces = self._tokenizer.batch_decode([[i] for i in range(size)], skip_special_tokens=False)
            ends = {end for stop in stops for end in (stop[-1], stop[-1].lower())}
            every = any(not end.isascii() or end.isspace() for end in ends)
            enders = (i for i, piece in enumerate(self._pieces) if every or any(end in piece for end in ends))
            self._enders[stops] = frozenset(enders)
        return self._enders[stops]


def _constrain(logits: Tensor, row: Row) -> Tensor:
    """Return the logits (V) a constrained row draws from, at its temperature; what it may not take is ``-inf``."""
    scaled = logits / (row.temperature or 1.0)
    for token, more in row.bias.items():
        scaled[token] += more
    for ban in row.bans:
        if tuple(row.tail(len(ban) - 1)) == ban[:-1]:
            scaled[ban[-1]] = -torch.inf
    if row.allowed is not None:
        ids = row.allowed((*row.begun, *row.sampled))
        if ids is not None:
            keep = torch.zeros_like(scaled, dtype=torch.bool)
            keep[torch.as_tensor(list(ids), dtype=torch.long, device=scaled.device)] = True
            scaled = scaled.masked_fill(~keep, -torch.inf)
    if row.top_k and row.top_k < len(scaled):
        scaled = scaled.masked_fill(scaled < scaled.topk(row.top_k).values[-1], -torch.inf)
    if row.top_p < 1:
        order = scaled.argsort(descending=True)
        probs = scaled[order].softmax(-1)
        scaled[order[probs.cumsum(-1) - probs >= row.top_p]] = -torch.inf
    if not bool(torch.isfinite(scaled).any()):
        raise ValueError("the constraints of an ask leave no token to sample; check bias, ban and allowed")
    return scaled


def _draw(weights: Tensor, noise: Sequence[float]) -> Tensor:
    """Invert each row's distribution (M, V, not normalised) at its own uniform number: by blocks, then inside one."""
    rows, size = weights.shape
    blocks = (size + _BLOCK - 1) // _BLOCK
    padded = torch.nn.functional.pad(weights, (0, blocks * _BLOCK - size)).view(rows, blocks, _BLOCK)
    upto = padded.sum(-1, dtype=torch.float64).cumsum(-1)
    u = torch.tensor(noise, dtype=torch.float64, device=weights.device)[:, None]
    target = u * upto[:, -1:] * (1 - 1e-12)
    block = torch.searchsorted(upto, target, right=True).clamp(max=blocks - 1)
    before = torch.where(block > 0, upto.gather(1, (block - 1).clamp(min=0)), 0.0)
    inside = padded[torch.arange(rows, device=weights.device), block[:, 0]].double().cumsum(-1)
    rest = torch.minimum(target - before, inside[:, -1:] * (1 - 1e-12)).clamp(min=0)
    return block[:, 0] * _BLOCK + torch.searchsorted(inside, rest, right=True)[:, 0].clamp(max=_BLOCK - 1)


@torch.no_grad()
def advance(rows: Sequence[Row], logits: Tensor, stops: Stops, hidden: Tensor | None = None) -> None:
    """Draw one id for each row (logits (M, V)), note its log-prob and what was asked for, and tell whether it ended.

    A row's draw depends on its logits and its seed only, never on its neighbours. Log-probs are those of the
    distribution at the row's temperature without its constraints, which is what a learner scores. Temperature 0 takes
    the most probable id and reports its log-prob at temperature 1. Raises ``FloatingPointError`` where logits are not
    numbers.
    """
    # Rows that do not lie one after the other are summed in another order, which shows where a token is nearly certain.
    logits = logits.float().contiguous()
    if logits.device.type == "mps":  # which has no double precision
        logits = logits.cpu()
    heat = torch.tensor([row.temperature or 1.0 for row in rows], device=logits.device)
    scaled = logits if bool((heat == 1.0).all()) else logits / heat[:, None]
    top = scaled.amax(-1, keepdim=True)
    weights = (scaled - top).exp_()
    # Summed in double and rounded at the end, so that how a library cuts a sum does not show in the result.
    log_total = weights.sum(-1, dtype=torch.float64).log() + top[:, 0]
    if not bool(log_total.isfinite().all()):
        raise FloatingPointError(
            f"the model's logits are not finite in {int((~log_total.isfinite()).sum())} of {len(rows)} rows: its "
            "weights have diverged (go back to an earlier checkpoint, lower the learning rate)"
        )
    _note(rows, scaled, weights, log_total)
    tight = {i: _constrain(logits[i], row) for i, row in enumerate(rows) if row.constrained}
    for i, constrained in tight.items():
        weights[i] = (constrained - constrained.amax()).exp()
    drawn = _draw(weights, [row.noise[len(row.sampled)] for row in rows])
    for i, row in enumerate(rows):
        if row.temperature == 0:
            drawn[i] = tight.get(i, logits[i]).argmax()
    chosen = (scaled.gather(1, drawn[:, None])[:, 0] - log_total).float().tolist()
    for i, (row, token) in enumerate(zip(rows, drawn.tolist(), strict=True)):
        row.sampled.append(token)
        row.logps.append(chosen[i])
        row.finish = stops.check(row)
        if row.wants_hidden and hidden is not None:
            row.hidden = hidden[i].float().cpu().numpy().copy()


def _note(rows: Sequence[Row], scaled: Tensor, weights: Tensor, log_total: Tensor) -> None:
    """Keep entropies and most probable ids of the rows that want them."""
    asked = [i for i, row in enumerate(rows) if row.entropy]
    if asked:
        logp = (scaled[asked] - log_total[asked, None]).clamp(min=-1e4)
        spread = -(logp.exp() * logp).sum(-1)
        for i, value in zip(asked, spread.float().tolist(), strict=True):
            rows[i].entropies.append(value)
    for i, row in enumerate(rows):
        if row.top_logps:
            top = (scaled[i] - log_total[i]).topk(min(row.top_logps, scaled.shape[1]))
            row.tops.append(tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)))
