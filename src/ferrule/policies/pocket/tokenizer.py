"""The pocket models' tokenizer: bytes, single digits, a mark before capitals, and merges inside words only.

* A capital of ASCII is a shift mark and its small letter, so that ``Name`` and ``name`` share their pieces.
* A space is a token of its own, except before a few words such as ``the``.
* Merges join letters inside a run of small letters, so a word begins with the same pieces wherever it stands.
* Role marks, tags and frequent pieces of JSON and of other call forms are one token each.

Any text comes back exactly: where a text holds the character that serves as the mark, it is written as ``mark 0``. A
mark whose letter is still to come decodes to U+FFFD, as the first bytes of a longer letter do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from string import ascii_uppercase
from typing import Any

__all__ = ["ROLES", "STRUCTURE", "tokenizer_for"]

ROLES = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
"""Padding (0), the end of a turn (1) and the heads of turns."""
STRUCTURE = (
    *("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
    *("<answer>", "</answer>", "<result>", "</result>"),
    *('{"name": "', '", "arguments": {"', '", "arguments": {}}', '": "', '": ', '", "', ', "', '"}', '"}}', "}}"),
    *('["', '"]', '": ["', '": [', '": {"', '": true', '": false', '": null'),
    *("\n```\n", "```python\n", "Action: ", "\nAction Input: ", "\nObservation:", "Thought: ", "Final Answer: "),
    *('{"result": ', '{"answer": "', '"thought": "', "Tools:\n"),
)
"""Texts that are one token wherever they stand."""
_MARK = "\x0e"
_GLUED = ["a", "and", "by", "does", "for", "have", "in", "is", "it", "of", "or", "the", "to", "with"]


def tokenizer_for(texts: Iterable[str], size: int = 768) -> Any:
    """Train a tokenizer of at most ``size`` tokens on texts.

    Bytes, roles and structure are always in it, so that it can have more tokens than a very small ``size``.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    marked = [normalizers.Replace(letter, _MARK + letter.lower()) for letter in ascii_uppercase]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(_MARK, _MARK + "0"), *marked])
    pieces = rf"{_MARK}| (?:{'|'.join(_GLUED)})(?![a-z0-9_{_MARK}])|[a-z]+|\d|\s|[^a-z\d\s{_MARK}]"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    letters = [decoders.Replace(_MARK + letter.lower(), letter) for letter in ascii_uppercase]
    waiting = decoders.Replace(Regex(f"{_MARK}(?!0)"), "\ufffd")
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), *letters, waiting, decoders.Replace(_MARK + "0", _MARK)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(STRUCTURE),
        special_tokens=list(ROLES),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    whole = re.compile("|".join(re.escape(t) for t in sorted((*ROLES, *STRUCTURE), key=len, reverse=True)))
    tokenizer.train_from_iterator((part for text in texts for part in whole.split(text)), trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in STRUCTURE])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", clean_up_tokenization_spaces=False
    )
