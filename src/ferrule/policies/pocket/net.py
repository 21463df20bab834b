"""A lean twin of transformers' ``LlamaForCausalLM`` for training on a processor; parameters have the same names.

Only what the pocket models need: no grouped heads, no bias, no cache, right padding. Attention takes the queries in
blocks, each against the keys up to its own end, which leaves out half of the products and never holds a whole square
of scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["EPSILON", "Net", "Shape", "attend"]

EPSILON = 1e-6
"""Added to the mean square in every norm, as in the configuration of the saved model."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model by the names of a Hugging Face configuration; ``rope_theta`` is the base of rotary angles."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    rope_theta: float = 1e6
    max_position_embeddings: int = 2048


def attend(q: Tensor, k: Tensor, v: Tensor, block: int = 128) -> Tensor:
    """Return causal attention (B, H, T, D) of queries, keys and values (B, H, T, D), in blocks of queries."""
    length, parts = q.shape[2], []
    q = q * q.shape[-1] ** -0.5
    for begin in range(0, length, block):
        end = min(length, begin + block)
        later = torch.full((end - begin, end), -math.inf, dtype=q.dtype).triu(begin + 1)
        scores = q[:, :, begin:end] @ k[:, :, :end].transpose(-1, -2) + later
        parts.append(scores.softmax(-1) @ v[:, :, :end])
    return torch.cat(parts, 2)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class _Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), EPSILON)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        weight = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
        parts = functional.linear(x, weight).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        out: Tensor = attend(_turned(q, cos, sin), _turned(k, cos, sin), v)
        mixed: Tensor = self.o_proj(out.transpose(1, 2).reshape(batch, length, width))
        return mixed


class _Gated(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class _Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = _Attention(shape.hidden_size, shape.num_attention_heads)
        self.mlp = _Gated(shape.hidden_size, shape.intermediate_size)
        self.input_layernorm, self.post_attention_layernorm = _Norm(shape.hidden_size), _Norm(shape.hidden_size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class _Body(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList([_Layer(shape) for _ in range(shape.num_hidden_layers)])
        self.norm = _Norm(shape.hidden_size)


class Net(nn.Module):
    """Logits (B, T, V) of ids (B, T); weights are float32, ``dtype`` is the type that activations are kept in.

    Matrices start normal: deviation ``0.8 / sqrt(inputs)`` in the layers, those that write into the residual stream
    scaled by ``1 / sqrt(2 * layers)``, 0.02 in embedding and output.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape, *, seed: int = 0) -> None:
        super().__init__()
        self.shape, self.dtype = shape, torch.float32
        self.model = _Body(shape)
        self.lm_head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() != 2:
                continue
            deep = ".layers." in name
            nn.init.normal_(parameter, std=0.8 / math.sqrt(parameter.shape[1]) if deep else 0.02, generator=generator)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.data.mul_(1 / math.sqrt(2 * shape.num_hidden_layers))
        size = shape.hidden_size // shape.num_attention_heads
        frequency = shape.rope_theta ** -(torch.arange(0, size, 2).float() / size)
        angle = torch.outer(torch.arange(shape.max_position_embeddings).float(), frequency)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    @property
    def matrices(self) -> list[nn.Parameter]:
        """The matrices inside the layers."""
        return [p for name, p in self.named_parameters() if p.dim() == 2 and ".layers." in name]

    @property
    def others(self) -> list[nn.Parameter]:
        """Embedding, output layer and norms."""
        inside = {id(p) for p in self.matrices}
        return [p for p in self.parameters() if id(p) not in inside]

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits of the next token at every place."""
        length = ids.shape[1]
        cos, sin = self.cos[:length].to(self.dtype), self.sin[:length].to(self.dtype)
        x = self.model.embed_tokens(ids).to(self.dtype)
        with torch.autocast("cpu", self.dtype, enabled=self.dtype is torch.bfloat16):
            for layer in self.model.layers:
                x = layer(x, cos, sin)
            logits: Tensor = self.lm_head(self.model.norm(x))
        return logits

    def llama(self) -> Any:
        """Return the same model as a ``LlamaForCausalLM`` with weights of its own; token 1 ends, token 0 pads."""
        from transformers import LlamaConfig, LlamaForCausalLM

        shape = self.shape
        config = LlamaConfig(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_hidden_layers,
            num_attention_heads=shape.num_attention_heads,
            num_key_value_heads=shape.num_attention_heads,
            max_position_embeddings=shape.max_position_embeddings,
            rms_norm_eps=EPSILON,
            rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
        )
        model = LlamaForCausalLM(config)
        model.load_state_dict(self.state_dict())
        return model.eval()
