"""Students: small Llama-shaped models that know nothing but the traces they learn from."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from typing import Any

from ferrule.core.records import Message, Tool, Trajectory
from ferrule.data.formats import Row, conversation
from ferrule.policies.replies import Speaker

__all__ = ["messages_of", "rows_of", "shuffled", "student", "texts_of"]

HIDDEN, LAYERS, HEADS, INNER, VOCABULARY, SLOT = 128, 3, 4, 256, 640, 32
"""Shape of a student: about 0.6 M parameters."""

_PIECES = (
    *(str(n) for n in range(10, 100)),
    *(f"{before}'{letter}': " for letter in string.ascii_lowercase for before in ("{", ", ")),
)
"""Tokens of their own: numbers of two digits, and the keys of a table with their punctuation."""


def messages_of(trajectory: Trajectory) -> tuple[Message, ...]:
    """Return an episode as one conversation: what was shown and what was replied, in order."""
    return tuple(message for turn in trajectory.turns for message in (*turn.messages, turn.reply))


def _layout() -> Any:
    from ferrule.chat.fence import Fence
    from ferrule.chat.renderer import ChatML

    return ChatML(Fence(), header="<|{role}|>", end="<|end|>", gap="")


def texts_of(conversations: Sequence[Sequence[Message]], tools: Sequence[Tool]) -> list[str]:
    """Return conversations as the texts that a tokenizer learns from."""
    layout = _layout()
    return [layout.opening(messages, tools) for messages in conversations]


def student(texts: Sequence[str], *, seed: int = 0) -> Any:
    """Return an untrained student whose tokenizer is made of ``texts``: words, numbers below 100 and keys of tables.

    Two attention heads start as a circuit that looks one token back and copies what followed an equal token
    (``ferrule.studies.student_parts``); weights are drawn from ``seed``.
    """
    import torch
    from tokenizers import AddedToken
    from transformers import LlamaConfig, LlamaForCausalLM

    from ferrule.policies.local import Local
    from ferrule.studies.student_parts import tokenizer_for, wire

    tokenizer = tokenizer_for(texts, VOCABULARY)
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in _PIECES])
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
        )
    )
    wire(model, slot=SLOT, seed=seed)
    return Local(model, tokenizer, _layout(), name="student")


def shuffled(conversations: Sequence[Sequence[Message]], systems: Sequence[Message], seed: int) -> list[list[Message]]:
    """Put one of ``systems``, drawn per conversation, in the place of each first message.

    What the system message says is then read in training, and says nothing about what follows it.
    """
    rng = random.Random(seed)
    return [[rng.choice(systems), *messages[1:]] for messages in conversations]


def rows_of(policy: Speaker, conversations: Sequence[Sequence[Message]], tools: Sequence[Tool]) -> list[Row]:
    """Return conversations as training rows of a policy: loss on the assistant's tokens only."""
    return [conversation(messages, tools, policy.renderer, policy.encode) for messages in conversations]
