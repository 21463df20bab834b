"""Records of a data set as rows and pairs of ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ferrule.core.records import Message, Tool
from ferrule.data.formats import Pair, Row, Writes, conversation
from ferrule.data.records import Completion, Conversation, Labelled, Preference, Record, Text
from ferrule.worlds.cells import Said

__all__ = ["laid_out"]

Encode = Callable[[str], Sequence[int]]


def laid_out(record: Record, renderer: Writes, encode: Encode) -> Row | Pair:
    """Return a record as a row, or a preference as a pair; what stands in a prompt is read and not learned.

    Messages are laid out by ``renderer`` with the tools on offer, as in a rollout. Texts are encoded as they are, the
    completion with the end token behind it. Raises ``ValueError`` for a record that nothing is learned from
    (``Prompt``, ``Steps``) and for messages without a reply of the assistant.
    """
    match record:
        case Text(text):
            ids = tuple(encode(text + renderer.end))
            return Row(ids, (-1, *[0] * (len(ids) - 1)))  # nothing stands before the first token to tell it from
        case Conversation(messages, tools, learned):
            return conversation(messages, tools, renderer, encode, learned=learned)
        case Completion(prompt, completion, tools):
            return _continued(prompt, completion, tools, renderer, encode)
        case Labelled(prompt, completion, label, tools):
            return replace(_continued(prompt, completion, tools, renderer, encode), label=label)
        case Preference(prompt, chosen, rejected, tools):
            return Pair(
                _continued(prompt, chosen, tools, renderer, encode),
                _continued(prompt, rejected, tools, renderer, encode),
            )
    raise ValueError(f"a {type(record).__name__} makes no row to learn from; rows, labelled rows and preferences do")


def _continued(prompt: Said, answer: Said, tools: Sequence[Tool], renderer: Writes, encode: Encode) -> Row:
    if isinstance(prompt, str) and isinstance(answer, str):
        given, written = tuple(encode(prompt)), tuple(encode(answer + renderer.end))
        return Row((*given, *written), (*[-1] * len(given), *[0] * len(written)))
    before = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    after = (Message("assistant", answer),) if isinstance(answer, str) else answer
    learned = (*[False] * len(before), *[True] * len(after))
    return conversation((*before, *after), tools, renderer, encode, learned=learned)
