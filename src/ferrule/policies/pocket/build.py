"""Build the pocket model from nothing: corpus, tokenizer, training; seeded, and under half an hour on two cores."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ferrule.chat.codec import codec
from ferrule.chat.renderer import ChatML
from ferrule.data.formats import Row, conversation, pad
from ferrule.policies.local import Local
from ferrule.policies.pocket.corpus import Conversation, conversations
from ferrule.policies.pocket.wiring import wire

__all__ = ["Build", "build", "renderer", "tokenizer_for"]


@dataclass(frozen=True)
class Build:
    """Settings of a build; sizes in units, ``tokens`` per optimiser step, rates per step."""

    seed: int = 0
    conversations: int = 60_000
    max_steps: int = 2_200
    tokens: int = 4_096
    vocab_size: int = 640
    hidden_size: int = 192
    num_hidden_layers: int = 4
    num_attention_heads: int = 3
    intermediate_size: int = 384
    learning_rate: float = 2e-3
    warmup_steps: int = 50


def renderer() -> ChatML:
    """Return the pocket model's layout: one token per role header, one line per tool."""
    return ChatML(codec("hermes", style="signature", shape="tight"), header="<|{role}|>", end="<|end|>", gap="")


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


def _model(settings: Build, size: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(settings.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size,
            hidden_size=settings.hidden_size,
            intermediate_size=settings.intermediate_size,
            num_hidden_layers=settings.num_hidden_layers,
            num_attention_heads=settings.num_attention_heads,
            num_key_value_heads=settings.num_attention_heads,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
        )
    )
    wire(model, seed=settings.seed)
    return model


def _batches(rows: Sequence[Row], tokens: int, rng: random.Random) -> list[list[Row]]:
    """Cut shuffled rows into batches of similar length with about ``tokens`` padded tokens each."""
    order = list(rows)
    rng.shuffle(order)
    batches: list[list[Row]] = []
    for start in range(0, len(order), 2048):
        chunk = sorted(order[start : start + 2048], key=lambda row: len(row.ids))
        batch: list[Row] = []
        for row in chunk:
            if batch and (len(batch) + 1) * len(row.ids) > tokens:
                batches.append(batch)
                batch = []
            batch.append(row)
        batches.append(batch)
    rng.shuffle(batches)
    return batches


def _train(
    model: Any, rows: Sequence[Row], settings: Build, progress: Callable[[int, int, float], None] | None
) -> list[float]:
    """Minimise the mean negative log-likelihood of the assistant's tokens; the rate falls to zero along a cosine."""
    rng = random.Random(settings.seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    losses: list[float] = []
    queue: list[list[Row]] = []
    model.train()
    for step in range(settings.max_steps):
        queue = queue or _batches(rows, settings.tokens, rng)
        ids_NT, turn_NT = (torch.from_numpy(a) for a in pad(queue.pop()))
        scale = min(1.0, (step + 1) / settings.warmup_steps) * 0.5 * (1 + math.cos(math.pi * step / settings.max_steps))
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * max(scale, 0.01)
        targets = torch.where(turn_NT[:, 1:] >= 0, ids_NT[:, 1:], -100)
        logits = model(input_ids=ids_NT.clamp(min=0), use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if progress:
            progress(step + 1, settings.max_steps, losses[-1])
    return losses


def build(
    folder: Path, settings: Build | None = None, progress: Callable[[int, int, float], None] | None = None
) -> dict[str, Any]:
    """Train the model, write weights, tokenizer and ``build.json`` to ``folder``, and return that report."""
    settings = settings or Build()
    began = time.perf_counter()
    drawn: list[Conversation] = list(conversations(settings.conversations, settings.seed))
    layout = renderer()
    texts = (layout.opening(c.messages, c.tools) for c in drawn[:20_000])
    tokenizer = tokenizer_for(list(texts), settings.vocab_size)

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    rows = [conversation(c.messages, c.tools, layout, encode) for c in drawn]
    model = _model(settings, len(tokenizer))
    losses = _train(model, rows, settings, progress)
    Local(model, tokenizer, layout, name="pocket").save(folder)
    report = {
        "settings": asdict(settings),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_seen": settings.max_steps * settings.tokens,
        "loss_first": round(sum(losses[:20]) / len(losses[:20]), 4),
        "loss_last": round(sum(losses[-100:]) / len(losses[-100:]), 4),
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    (folder / "build.json").write_text(json.dumps(report, indent=1) + "\n")
    return report
