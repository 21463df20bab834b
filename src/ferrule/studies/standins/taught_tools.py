"""Requests as bags of words, small networks that learn which call each wants, and an explorer of one tool's uses."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ferrule.agents.probe import Trial
from ferrule.core.arrays import FloatArray, IntArray
from ferrule.core.flows import Ask
from ferrule.core.records import Call, Message, Tool, plain_text

__all__ = ["BATCHES", "NOISE", "USES", "Batches", "Imaginer", "Learner", "draw_batches", "regime_tool", "regimes_of"]

BATCHES, TOOLS, QUERIES, OWN, SHARED, WORDS = 4, 12, 80, 8, 60, 6
"""Batches of tools, tools of each, requests per tool, words of a tool, words of all, and words of a request."""


@dataclass(frozen=True)
class Batches:
    """Bags of words and the tool that each wants, by batch, to learn from and to test on."""

    learn: tuple[tuple[FloatArray, IntArray], ...]
    test: tuple[tuple[FloatArray, IntArray], ...]


def draw_batches(seed: int, queries: int = QUERIES) -> Batches:
    """Draw requests for tools in batches: words of a tool, rare ones less often, among words that all share."""
    rng = np.random.default_rng(seed)
    tools = BATCHES * TOOLS
    weights = 1.0 / np.arange(1, OWN + 1)
    weights /= weights.sum()

    def bags(count: int, batch: int) -> tuple[FloatArray, IntArray]:
        label_N = np.repeat(np.arange(batch * TOOLS, (batch + 1) * TOOLS), count)
        bag_NV = np.zeros((len(label_N), tools * OWN + SHARED))
        for row, tool in zip(bag_NV, label_N, strict=True):
            row[tool * OWN + rng.choice(OWN, 2, p=weights)] = 1.0
            row[tools * OWN + rng.choice(SHARED, WORDS - 2)] = 1.0
        return bag_NV, label_N

    learn = tuple(bags(queries, batch) for batch in range(BATCHES))
    return Batches(learn, tuple(bags(20, batch) for batch in range(BATCHES)))


class Learner:
    """A network of one hidden layer that is trained on and on (Adam, whose state starts anew with every ``fit``)."""

    def __init__(
        self, inputs: int, outputs: int, seed: int, *, hidden: int = 64, unit: type[torch.nn.Module] = torch.nn.ReLU
    ) -> None:
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(inputs, hidden), unit(), torch.nn.Linear(hidden, outputs))
        self.rng = np.random.default_rng(seed)

    def fit(self, bag_NV: FloatArray, label_N: IntArray, *, steps: int, rate: float, batch: int = 32) -> None:
        """Take ``steps`` on batches drawn from the items."""
        optimiser = torch.optim.Adam(self.model.parameters(), lr=rate)
        bags, labels = torch.from_numpy(bag_NV).float(), torch.from_numpy(label_N)
        for _ in range(steps):
            rows = torch.from_numpy(self.rng.integers(len(label_N), size=batch))
            loss = torch.nn.functional.cross_entropy(self.model(bags[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    def right(self, bag_NV: FloatArray, label_N: IntArray) -> float:
        """Return the share of items whose label the network says."""
        with torch.no_grad():
            said_N = self.model(torch.from_numpy(bag_NV).float()).argmax(1).numpy()
        return float((said_N == label_N).mean())


# -------------------------------------------------------------------------------------------------------- exploration

USES, SKEW, NOISE = 40, 1.2, 12
"""Ways to use one tool, how steeply they fall in what comes to mind (in proportion to ``k ** -SKEW``), noise words."""
_USE = re.compile(r"use(\d+)")


def _use_of(text: str) -> int:
    named = _USE.search(text)
    return int(named[1]) if named else -1


def regime_tool() -> Tool:
    """Return a tool with ``USES`` forms of its argument, each for requests of one kind."""
    parameters = {"type": "object", "properties": {"form": {"type": "integer"}}, "required": ["form"]}
    return Tool("records", "Looks a record up.", parameters, run=lambda form: f"record {form}")


@dataclass
class Imaginer:
    """A scripted prober: uses come to mind with unequal chances, and one that it sees among earlier ones is put aside.

    It thinks again up to ``tries`` times, and heeds what it sees in the dialogue and in the list with two chances.
    """

    seed: int
    tries: int = 3
    heeds: tuple[float, float] = (0.95, 0.8)
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Draw the order in which uses come to mind."""
        self.rng = random.Random(f"imaginer/{self.seed}")
        self.order = self.rng.sample(range(USES), USES)

    def __call__(self, request: Ask, sample: int) -> str | Message:
        """Reply as a model would in the dialogue of ``agents.imagine``."""
        last = plain_text(request.messages[-1])
        if "the request alone" in last:
            dialogue = {_use_of(plain_text(message)) for message in request.messages if message.role == "assistant"}
            return self._request(dialogue, {int(number) for number in _USE.findall(last)})
        if "answer the request" in last:
            asked = plain_text(request.messages[-2])
            return Message("assistant", "", (Call("records", {"form": _use_of(asked)}),))
        return "Yes" if "Yes or No" in last else f"It is {last}."

    def _request(self, dialogue: set[int], listed: set[int]) -> str:
        weights = [(place + 1) ** -SKEW for place in range(USES)]
        use = -1
        for _ in range(self.tries):
            (use,) = self.rng.choices(self.order, weights)
            pairs = zip(self.heeds, (dialogue, listed), strict=True)
            heeded = max((chance for chance, uses in pairs if use in uses), default=0.0)
            if self.rng.random() >= heeded:
                break
        noise = " ".join(f"word{self.rng.randrange(NOISE)}" for _ in range(2))
        return f"{noise} use{use} cue{use}{'ab'[self.rng.randrange(2)]}"


def regimes_of(trials: Sequence[Trial], seed: int) -> tuple[FloatArray, IntArray]:
    """Return requests as bags of words without the word that names their use, and the use that each wants.

    What is left are a cue, which is one of two, and noise; the seed numbers the words.
    """
    texts = [trial.query for trial in trials]
    order = np.random.default_rng(seed).permutation(2 * USES + NOISE)
    bag_NV = np.zeros((len(texts), 2 * USES + NOISE))
    for row, text in zip(bag_NV, texts, strict=True):
        for use, side in re.findall(r"cue(\d+)([ab])", text):
            row[order[2 * int(use) + "ab".index(side)]] = 1.0
        for word in re.findall(r"word(\d+)", text):
            row[order[2 * USES + int(word)]] = 1.0
    return bag_NV, np.array([_use_of(text) for text in texts], dtype=np.int64)
