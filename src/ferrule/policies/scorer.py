"""A reward model as a policy: it answers a conversation with a number for each of its replies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ferrule.chat.renderer import Renderer
from ferrule.core.flows import Ask
from ferrule.core.records import Message, Reply
from ferrule.data.formats import Row, conversation, pad
from ferrule.policies.heads import HasHeads, turn_values

__all__ = ["Scorer"]


class _Reads(HasHeads, Protocol):
    """A policy with heads that lays conversations out itself."""

    renderer: Renderer

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ...


class Scorer:
    """Score every reply in a conversation by a head of ``policy``: a list of numbers in 0 to 1, written as JSON.

    A conversation is laid out as for training, so that of a head which was trained on pairs of steps the number of a
    reply is that of a step after its history, and of one that was trained on pairs of runs the last number is that of
    the run (``ferrule.train.stage.reward_model`` trains both). A number is the sigmoid of what the head says; ``rows``
    bounds the conversations of a pass. Nothing is sampled. ``ferrule.agents.scored`` asks it from within a search.
    """

    def __init__(self, policy: _Reads, head: str = "reward", *, rows: int = 32) -> None:
        self.policy, self.head, self.rows = policy, head, rows

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks; a conversation without a reply gets an empty list."""
        rows = {place: self._row(ask) for place, ask in enumerate(asks) if _replied(ask)}
        order = sorted(rows, key=lambda place: len(rows[place].ids))
        texts = ["[]"] * len(asks)
        for first in range(0, len(order), self.rows):
            places = order[first : first + self.rows]
            ids_NT, turn_NT = pad([rows[place] for place in places])
            for place, scores in zip(places, self._scores(ids_NT, turn_NT), strict=True):
                texts[place] = json.dumps(scores[: max(rows[place].turn) + 1])
        return [[Reply(Message("assistant", text))] * ask.n for ask, text in zip(asks, texts, strict=True)]

    def _row(self, ask: Ask) -> Row:
        return conversation(ask.messages, ask.tools, self.policy.renderer, self.policy.encode)

    @torch.no_grad()
    def _scores(self, ids_NT: object, turn_NT: object) -> list[list[float]]:
        device = next(self.policy.heads.parameters()).device
        ids_BT, turn_BT = (torch.as_tensor(array, device=device) for array in (ids_NT, turn_NT))
        said_BK: Tensor = turn_values(self.policy, self.head, ids_BT, turn_BT).double().sigmoid()
        scores: list[list[float]] = said_BK.tolist()
        return scores


def _replied(ask: Ask) -> bool:
    return any(message.role == "assistant" for message in ask.messages)
