"""The corpus as ids: every conversation laid out as a rollout would have laid it out, in one file, and in batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ferrule.chat.renderer import ChatML
from ferrule.core.arrays import IntArray
from ferrule.core.records import Message, Tool
from ferrule.policies.pocket.forms import layout

__all__ = [
    "GIVEN",
    "LEARNED",
    "SHOWN",
    "Corpus",
    "Rows",
    "Source",
    "Told",
    "batches",
    "encode",
    "prepare",
    "read_tokenizer",
    "text_of",
]

GIVEN, LEARNED, SHOWN, PADDING = 0, 1, 2, -1
"""Kinds of tokens: given to the model, a reply to learn, a reply that is shown but not learned, padding."""
_CHUNK = 500


class Told(Protocol):
    """A conversation to learn from: ``learned`` says of every assistant message whether it is a good example."""

    @property
    def family(self) -> str:
        """What kind of conversation it is."""
        ...

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages in order."""
        ...

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools on offer."""
        ...

    @property
    def learned(self) -> tuple[bool, ...]:
        """One entry per assistant message."""
        ...

    @property
    def form(self) -> str:
        """Name of the codec that it is written in."""
        ...


Source = Callable[[int, str, str | None], Told]
"""Draws conversation ``seed`` of a split (``train`` or ``test``), of one family where that is named."""


@dataclass(frozen=True)
class Corpus:
    """Where conversations come from: a function of a module, so that processes can share the work, and its families."""

    draw: Source
    families: tuple[str, ...]


def _pieces(told: Told, form: ChatML) -> Iterator[tuple[str, int]]:
    """Yield the text of a conversation in the pieces that a rollout would tokenise, each with its kind.

    A reply is followed by the end mark, learned with it, unless its codec keeps the turn open for results.
    """
    messages = told.messages
    places = [i for i, message in enumerate(messages) if message.role == "assistant"]
    if not places or places[0] == 0:
        raise ValueError(f"a conversation of {told.family} has no assistant message after a first one")
    if len(told.learned) != len(places):
        raise ValueError(f"a conversation of {told.family} has {len(places)} replies; learned has {len(told.learned)}")
    yield form.opening(messages[: places[0]], told.tools), GIVEN
    for place, following, learned in zip(places, [*places[1:], len(messages)], told.learned, strict=True):
        between = messages[place + 1 : following]
        goes_on = form.codec.inline and bool(between) and between[0].role == "tool"
        text = form.codec.write(messages[place])
        yield text if goes_on else text + form.end, LEARNED if learned else SHOWN
        if following < len(messages):
            yield form.extension(between, closed=not goes_on), GIVEN


def text_of(told: Told) -> str:
    """Return the whole text of a conversation, which a tokenizer learns from."""
    return "".join(text for text, _ in _pieces(told, layout(told.form)))


def encode(told: Told, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the ids of a conversation and the kind of each."""
    ids: list[int] = []
    kinds: list[int] = []
    for text, kind in _pieces(told, layout(told.form)):
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += piece
        kinds += [kind] * len(piece)
    return ids, kinds


@dataclass(frozen=True, eq=False)
class Rows:
    """Encoded conversations laid end to end: ids and kinds of all tokens, lengths and families of all rows."""

    ids: np.ndarray[Any, Any]
    kinds: np.ndarray[Any, Any]
    lengths: IntArray
    families: np.ndarray[Any, Any]

    def __len__(self) -> int:
        """Return the number of conversations."""
        return len(self.lengths)

    @cached_property
    def _starts(self) -> IntArray:
        return np.cumsum(self.lengths) - self.lengths

    def padded(self, chosen: Sequence[int]) -> tuple[IntArray, IntArray]:
        """Return ids and kinds (N, T) of rows, padded on the right with id 0 and kind -1."""
        width = int(self.lengths[list(chosen)].max())
        ids_NT = np.zeros((len(chosen), width), np.int64)
        kind_NT = np.full((len(chosen), width), PADDING, np.int64)
        for i, row in enumerate(chosen):
            begin, length = self._starts[row], self.lengths[row]
            ids_NT[i, :length] = self.ids[begin : begin + length]
            kind_NT[i, :length] = self.kinds[begin : begin + length]
        return ids_NT, kind_NT

    def save(self, path: Path) -> None:
        """Write the rows to one file, which appears whole or not at all."""
        partly = path.with_name(f".{path.name}")
        with partly.open("wb") as file:
            np.savez(file, ids=self.ids, kinds=self.kinds, lengths=self.lengths, families=self.families)
        os.replace(partly, path)

    @classmethod
    def load(cls, path: Path) -> Rows:
        """Read rows that ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in ("ids", "kinds", "lengths", "families")})


def _collect(encoded: Sequence[tuple[str, IntArray, IntArray]]) -> Rows:
    families, ids, kinds = zip(*encoded, strict=True)
    return Rows(np.concatenate(ids), np.concatenate(kinds), np.array([len(x) for x in ids]), np.array(families))


def _encoded(job: tuple[int, int, str, str | None], folder: str, source: Source, longest: int) -> list[Any]:
    """Draw and encode the conversations of one job: first and last seed, split and family."""
    tokenizer = read_tokenizer(folder)
    begin, end, split, family = job
    rows = []
    for seed in range(begin, end):
        told = source(seed, split, family)
        ids, kinds = encode(told, tokenizer)
        if len(ids) <= longest:
            rows.append((told.family, np.array(ids, np.int16), np.array(kinds, np.int8)))
    return rows


@cache
def read_tokenizer(folder: str) -> Any:
    """Read a tokenizer that was saved to a folder, once per process."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def prepare(
    folder: Path, source: Source, jobs: Sequence[tuple[int, int, str, str | None]], longest: int, workers: int = 1
) -> Rows:
    """Draw, encode and collect conversations in ``workers`` processes, in the order of the jobs.

    A job is ``(first seed, last seed + 1, split, family)``; the tokenizer lies in ``folder``. Conversations of more
    than ``longest`` tokens are left out.
    """
    parts = [
        (begin, min(begin + _CHUNK, end), split, family)
        for first, end, split, family in jobs
        for begin in range(first, end, _CHUNK)
    ]
    work = partial(_encoded, folder=str(folder), source=source, longest=longest)
    if workers == 1 or sum(end - first for first, end, _, _ in jobs) <= 2 * _CHUNK:
        return _collect([row for part in parts for row in work(part)])
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return _collect([row for rows in pool.map(work, parts) for row in rows])


def batches(lengths: IntArray, tokens: int, rng: np.random.Generator) -> list[list[int]]:
    """Cut all rows, shuffled, into batches of like length with at most ``tokens`` padded tokens (one row at least)."""
    order = rng.permutation(len(lengths))
    cut: list[list[int]] = []
    for begin in range(0, len(order), 2048):
        part = order[begin : begin + 2048]
        part = part[np.argsort(lengths[part], kind="stable")]
        group: list[list[int]] = [[]]
        for row in part.tolist():
            if group[-1] and (len(group[-1]) + 1) * lengths[row] > tokens:
                group.append([])
            group[-1].append(row)
        cut += [group[i] for i in rng.permutation(len(group))]
    return cut
