"""Records of a data set as rows and pairs of ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

from ferrule.chat.renderer import Renderer
from ferrule.core.records import Message, Tool
from ferrule.data.formats import Pair, Row, conversation
from ferrule.data.records import Completion, Conversation, Labelled, Preference, Record, Text
from ferrule.worlds.cells import Said

__all__ = ["laid_out", "shortened", "whole"]

Encode = Callable[[str], Sequence[int]]


def laid_out(record: Record, renderer: Renderer, encode: Encode) -> Row | Pair:
    """Return a record as a row, or a preference as a pair; what stands in a prompt is read and not learned.

    Messages are laid out by ``renderer`` with the tools on offer, as in a rollout. Texts are encoded as they are, the
    completion with the end token behind it unless it is spelled out. Raises ``ValueError`` for a record that nothing is
    learned from (``Prompt``, ``Steps``) and for messages without a reply of the assistant.
    """
    match record:
        case Text(text):
            ids = tuple(encode(text + renderer.end))
            return Row(ids, (-1, *[0] * (len(ids) - 1)))  # nothing stands before the first token to tell it from
        case Conversation(messages, tools, learned):
            return conversation(messages, tools, renderer, encode, learned=learned)
        case Completion(prompt, completion, tools):
            return _continued(prompt, completion, tools, renderer, encode, renderer.end)
        case Labelled(prompt, completion, label, tools, spelled_out):
            end = "" if spelled_out else renderer.end
            return replace(_continued(prompt, completion, tools, renderer, encode, end), label=label)
        case Preference(prompt, chosen, rejected, tools, _, spelled_out):
            end = "" if spelled_out else renderer.end
            return Pair(
                _continued(prompt, chosen, tools, renderer, encode, end),
                _continued(prompt, rejected, tools, renderer, encode, end),
            )
    raise ValueError(f"a {type(record).__name__} makes no row to learn from; rows, labelled rows and preferences do")


def whole(row: Row) -> Row:
    """Return a row of which every token but the first is learned, those of prompts and of results too.

    Nothing stands before the first token to tell it from. Tokens that the model did not write count to the turn before.
    """
    turns = accumulate((max(turn, 0) for turn in row.turn), max)
    return replace(row, turn=(-1, *list(turns)[1:]))


def shortened(item: Row | Pair, most: int) -> Row | Pair | None:
    """Return a row, or both rows of a pair, cut to their first ``most`` tokens; None where that leaves none to learn.

    Of a pair, both rows must keep a token of the model.
    """
    if isinstance(item, Pair):
        chosen, rejected = shortened(item.chosen, most), shortened(item.rejected, most)
        both = isinstance(chosen, Row) and isinstance(rejected, Row)
        return Pair(chosen, rejected) if both else None  # type: ignore[arg-type]
    turn = item.turn[:most]
    return replace(item, ids=item.ids[:most], turn=turn) if max(turn, default=-1) >= 0 else None


def _continued(prompt: Said, answer: Said, tools: Sequence[Tool], renderer: Renderer, encode: Encode, end: str) -> Row:
    if isinstance(prompt, str) and isinstance(answer, str):
        given, written = tuple(encode(prompt)), tuple(encode(answer + end))
        return Row((*given, *written), (*[-1] * len(given), *[0] * len(written)))
    before = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    after = (Message("assistant", answer),) if isinstance(answer, str) else answer
    learned = (*[False] * len(before), *[True] * len(after))
    return conversation((*before, *after), tools, renderer, encode, learned=learned)
