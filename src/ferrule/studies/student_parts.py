"""What students start from: a small byte-level tokenizer, and two attention heads that copy from the first step on.

Copying (find the last place where this token stood, and say what followed) takes small transformers most of their
training to discover. Here it is put into the first two layers before training starts, which then refines it:

* the embedding holds a constant, a random code per token (slot A), and two empty slots B and D;
* a head of layer 0 attends one position back (its query and key come from the constant alone, turned by the rotary
  angle of one step) and writes that token's code into B;
* a head of layer 1 matches its own code A against B, so it attends to what followed the same token before, and
  writes that token's code into D;
* the output layer reads D.

The pocket models begin with a circuit that matches two tokens and with a tokenizer that splits at capitals, made for
lists of tools (``ferrule.policies.pocket``). The stored numbers of students rest on the parts here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["tokenizer_for", "wire"]

BACK = 6.0
"""Score, per rotary pair, by which the look-back head prefers distance one."""
MATCH = 14.0
"""Score of an exact match in the copying head."""


def wire(model: Any, *, slot: int = 48, seed: int = 0) -> None:
    """Set the weights of a Llama-shaped model with untied embeddings in place; ``3 * slot`` must be below its width."""
    config = model.config
    width, size = config.hidden_size, config.hidden_size // config.num_attention_heads
    if 3 * slot + 1 > width or slot > size:
        raise ValueError(f"slot is {slot}; 3 * slot must be below the width {width} and slot at most a head's {size}")
    generator = torch.Generator().manual_seed(seed)
    half = size // 2
    angles = [config.rope_parameters["rope_theta"] ** (-i / half) for i in range(half)]
    code = torch.randn(config.vocab_size, slot, generator=generator)
    code = code / code.norm(dim=1, keepdim=True)
    with torch.no_grad():
        table = model.model.embed_tokens.weight
        table.zero_()
        table[:, 1 + 3 * slot :] = 0.05 * torch.randn(table.shape[0], width - 1 - 3 * slot, generator=generator)
        table[:, 0] = 1.0
        table[:, 1 : 1 + slot] = code
        head = model.lm_head.weight
        head.copy_(0.02 * torch.randn(head.shape, generator=generator))
        head[:, 1 + 2 * slot : 1 + 3 * slot] = 0.8 * code
        _look_back(model.model.layers[0].self_attn, angles, size, slot, math.sqrt(width / 2))
        _copy(model.model.layers[1].self_attn, angles, size, slot, math.sqrt(width / 3), generator)


def _quiet(attention: Any, size: int) -> None:
    """Turn the random start of the first head down, so that what is written into it stands out."""
    for part in (attention.q_proj, attention.k_proj, attention.v_proj):
        part.weight[:size] *= 0.1


def _look_back(attention: Any, angles: list[float], size: int, slot: int, norm: float) -> None:
    _quiet(attention, size)
    gain, half = math.sqrt(BACK * math.sqrt(size)) / norm, size // 2
    for i in range(min(8, half)):
        attention.q_proj.weight[i, 0] = gain
        attention.k_proj.weight[i, 0] = gain * math.cos(angles[i])
        attention.k_proj.weight[i + half, 0] = gain * math.sin(angles[i])
    for j in range(slot):
        attention.v_proj.weight[j, 1 + j] = 1 / norm
        attention.o_proj.weight[1 + slot + j, j] = 1.0


def _copy(attention: Any, angles: list[float], size: int, slot: int, norm: float, generator: torch.Generator) -> None:
    _quiet(attention, size)
    half = size // 2
    slow = [i for i in range(half) if angles[i] <= 0.012]  # pairs that hardly turn over a prompt's length
    dims = [*slow, *(i + half for i in slow)]
    basis = torch.linalg.qr(torch.randn(slot, slot, generator=generator))[0][: len(dims)]
    gain = math.sqrt(MATCH * math.sqrt(size) / (norm * norm * len(basis) / slot))
    for row, dim in zip(basis, dims, strict=False):
        attention.q_proj.weight[dim, 1 : 1 + slot] = gain * row
        attention.k_proj.weight[dim, 1 + slot : 1 + 2 * slot] = gain * row
    for j in range(slot):
        attention.v_proj.weight[j, 1 + j] = 2 / norm
        attention.o_proj.weight[1 + 2 * slot + j, j] = 1.0


def tokenizer_for(texts: Sequence[str], size: int) -> Any:
    """Train a byte-level BPE tokenizer with single digits; role headers and call tags are single tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
    tags = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(tags),
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in tags])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>")
