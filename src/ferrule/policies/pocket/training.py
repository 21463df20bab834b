"""The training loop of a build: Muon and AdamW on a lean model, with a state that a killed build goes on from."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ferrule.core.arrays import IntArray
from ferrule.policies.pocket.net import Net
from ferrule.policies.pocket.rows import GIVEN, LEARNED, SHOWN, Rows, batches

__all__ = ["Schedule", "Trainer", "replies_right"]

_LOGGED = 25
"""Steps per line of the curve; a state is only ever written behind a whole line."""


@dataclass(frozen=True)
class Schedule:
    """How a model is trained: ``tokens`` per step, rates per step; the rate rises, then falls to 2 % along a cosine.

    ``given_weight`` is the weight of the loss on text that the model was given, beside that on its replies.
    """

    seed: int
    max_steps: int
    tokens: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float
    given_weight: float

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.max_steps - self.warmup_steps)
        return self.learning_rate * max(0.02, 0.5 * (1 + math.cos(math.pi * done)))


class Trainer:
    """Trains a net on rows; ``state.pt`` and ``curve.jsonl`` in ``folder`` hold all that a killed run goes on from.

    Batches depend on seed and step alone, so weights, optimisers and the number of the step are the whole state.
    ``say`` is told one line of text every few seconds.
    """

    def __init__(
        self, net: Net, rows: Rows, held_out: Rows, schedule: Schedule, folder: Path, say: Callable[[str], None]
    ) -> None:
        self.net, self.rows, self.held_out = net, rows, held_out
        self.schedule, self.folder, self.say = schedule, folder, say
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        rate, decay = schedule.learning_rate, schedule.weight_decay
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                net.matrices, lr=rate, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw", ns_steps=4
            ),
            torch.optim.AdamW(net.others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]
        self._epochs: dict[int, list[list[int]]] = {}
        self._load()

    def run(self, *, save_seconds: float = 120.0, evaluate_seconds: float = 480.0) -> None:
        """Train to the last step, with states and evaluations between whole lines of the curve."""
        saved = evaluated = shown = time.monotonic()
        while self.step < self.schedule.max_steps:
            began = time.perf_counter()
            steps = min(_LOGGED, self.schedule.max_steps - self.step)
            row = self._line([self._update() for _ in range(steps)], time.perf_counter() - began)
            self._log(row)
            now, last = time.monotonic(), self.step == self.schedule.max_steps
            if now - shown >= 5 or last:
                self.say(self._text(row))
                shown = now
            if now - evaluated >= evaluate_seconds or last:
                self._evaluate()
                evaluated = time.monotonic()
            if now - saved >= save_seconds or last:
                self._save()
                saved = time.monotonic()

    def _batch(self) -> list[int]:
        """Return the rows of the current step: the epochs' batches, one after the other."""
        step, epoch = self.step, 0
        while True:
            if epoch not in self._epochs:
                rng = np.random.default_rng((self.schedule.seed, epoch))
                self._epochs = {epoch: batches(self.rows.lengths, self.schedule.tokens, rng), **self._epochs}
            if step < len(self._epochs[epoch]):
                return self._epochs[epoch][step]
            step, epoch = step - len(self._epochs[epoch]), epoch + 1

    def _update(self) -> tuple[float, float, int]:
        """Take one step and return the losses on replies and on given text (nats per token) and the tokens in it."""
        ids_NT, kind_NT = (torch.from_numpy(a) for a in self.rows.padded(self._batch()))
        rate = self.schedule.rate(self.step)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
        reply, given = _losses(self.net, ids_NT, kind_NT)
        torch.autograd.backward(reply + self.schedule.given_weight * given)
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.schedule.max_grad_norm)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return float(reply.detach()), float(given.detach()), int((kind_NT >= 0).sum())

    def _line(self, updates: list[tuple[float, float, int]], seconds: float) -> dict[str, Any]:
        reply, given, tokens = (np.array(column) for column in zip(*updates, strict=True))
        self.tokens, self.seconds = self.tokens + int(tokens.sum()), self.seconds + seconds
        return {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            "reply_loss": round(float(reply.mean()), 5),
            "given_loss": round(float(given.mean()), 5),
            "tokens_per_second": round(float(tokens.sum()) / seconds),
            "learning_rate": self.schedule.rate(self.step - 1),
        }

    def _text(self, row: Mapping[str, Any]) -> str:
        left = self.seconds / self.step * (self.schedule.max_steps - self.step)
        return (
            f"step {self.step}/{self.schedule.max_steps}  {self.tokens / 1e6:.2f} M tokens  "
            f"{row['tokens_per_second']} a second  reply loss {row['reply_loss']:.4f}  given {row['given_loss']:.3f}  "
            f"{left / 60:.0f} min left"
        )

    def _evaluate(self) -> None:
        """Log the share of held-out conversations whose first reply, and whose every reply, is right."""
        began = time.perf_counter()
        right = replies_right(self.net, self.held_out)
        first = {family: round(float(np.mean([one for one, _ in rows])), 4) for family, rows in right.items()}
        every = {family: round(float(np.mean([whole for _, whole in rows])), 4) for family, rows in right.items()}
        took = round(time.perf_counter() - began, 1)
        self._log({"step": self.step, "tokens": self.tokens, "first": first, "all": every, "evaluation_seconds": took})
        shown = "  ".join(f"{family} {first[family]:.0%}/{every[family]:.0%}" for family in first)
        self.say(f"held out, first reply / all replies right: {shown}")

    def _log(self, row: Mapping[str, Any]) -> None:
        with (self.folder / "curve.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _save(self) -> None:
        state = {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "net": self.net.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        partly = self.folder / ".state.pt"
        with partly.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partly, self.folder / "state.pt")

    def _load(self) -> None:
        """Go on from the last state, if there is one; lines of the curve that were written after it are dropped."""
        path, curve = self.folder / "state.pt", self.folder / "curve.jsonl"
        if path.is_file():
            state = torch.load(path, weights_only=True)
            self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
            self.net.load_state_dict(state["net"])
            for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(kept)
        lines = curve.read_text(encoding="utf-8").splitlines(keepends=True) if curve.is_file() else []
        kept_lines = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.step]
        curve.write_text("".join(kept_lines), encoding="utf-8")


def _losses(net: Net, ids_NT: Tensor, kind_NT: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean negative log-likelihood of learned replies and of all other text."""
    logits = net(ids_NT)[:, :-1].flatten(0, 1).float()
    target, kind = ids_NT[:, 1:].flatten(), kind_NT[:, 1:].flatten()
    loss = functional.cross_entropy(logits, target, reduction="none")
    masks = (kind == LEARNED, (kind == GIVEN) | (kind == SHOWN))
    reply, given = ((loss * mask).sum() / mask.sum().clamp(min=1) for mask in masks)
    return reply, given


def _runs(kinds: IntArray) -> Iterator[tuple[int, int]]:
    """Yield first and last place + 1 of every learned reply."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kinds == LEARNED, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


@torch.no_grad()
def replies_right(net: Net, rows: Rows, tokens: int = 8192) -> dict[str, list[tuple[bool, bool]]]:
    """Return for every conversation of a family whether its first learned reply, and whether all of them, are right.

    A reply is right when each of its tokens is the most probable one after the right ones before it, which is the same
    as greedy decoding of the whole reply.
    """
    right: dict[str, list[tuple[bool, bool]]] = {family: [] for family in dict.fromkeys(rows.families.tolist())}
    for chosen in batches(rows.lengths, tokens, np.random.default_rng(0)):
        ids_NT, kind_NT = rows.padded(chosen)
        best_NT = net(torch.from_numpy(ids_NT)).argmax(-1).numpy()
        same_NT = np.concatenate([np.ones((len(chosen), 1), bool), best_NT[:, :-1] == ids_NT[:, 1:]], axis=1)
        for row, same, kinds in zip(chosen, same_NT, kind_NT, strict=True):
            replies = [bool(same[begin:end].all()) for begin, end in _runs(kinds)]
            if replies:
                right[str(rows.families[row])].append((replies[0], all(replies)))
    return {family: outcomes for family, outcomes in right.items() if outcomes}
