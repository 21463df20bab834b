"""Recurrent and hybrid models: no cache is shared, and what is sampled is what a plain forward pass says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.toys import layout, tiny_model, tokenizer

from ferrule.core.flows import Ask
from ferrule.core.records import Message
from ferrule.policies.local import Local
from ferrule.policies.packing.packed import why_padded

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
]

_SSM = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
_DELTA = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 1,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
KINDS: dict[str, dict[str, Any]] = {
    "qwen3_next": {
        "layer_types": ["linear_attention", "full_attention"], "num_experts": 2, "num_experts_per_tok": 1,
        "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, **_DELTA,
    },
    "falcon_h1": {**_SSM, "mamba_d_ssm": 64},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 16},
    "jamba": {
        "mamba_d_state": 8, "mamba_dt_rank": 4, "use_mamba_kernels": False, "num_experts": 2, "num_experts_per_tok": 1,
        "attn_layer_period": 2, "attn_layer_offset": 1,
    },
    "granitemoehybrid": {
        **_SSM, "layer_types": ["mamba", "attention"], "num_local_experts": 2, "num_experts_per_tok": 1,
        "shared_intermediate_size": 32,
    },
    "nemotron_h": {
        "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 1, "chunk_size": 16,
        "hybrid_override_pattern": "M*",
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 16},
    "rwkv": {"attention_hidden_size": 32},
}  # fmt: skip


def model_of(kind: str) -> Any:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 16,
    }
    sizes |= {"num_key_value_heads": 1, "vocab_size": len(tokenizer()), "max_position_embeddings": 256}
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](pad_token_id=0, bos_token_id=None, eos_token_id=1, **{**sizes, **KINDS[kind]})
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_hybrid_models_sample_and_score_what_a_plain_forward_pass_says(kind: str) -> None:
    """Prompts of several lengths in one batch: padding would show in the states of recurrent layers."""
    policy = Local(model_of(kind), tokenizer(), layout(), max_tokens=4)
    asks = [Ask((Message("user", "x" * size),), n=2, seed=size, temperature=1.0, max_tokens=4) for size in (1, 9, 30)]
    replies = [reply for group in policy.generate(asks) for reply in group]
    assert policy.engine.kind == "recompute"
    for reply in replies:
        ids, first = torch.tensor([[*reply.given, *reply.sampled]]), len(reply.given)
        with torch.no_grad():
            logp = policy.model(input_ids=ids, use_cache=False).logits.log_softmax(-1)
        expected = [float(logp[0, first + i - 1, token]) for i, token in enumerate(reply.sampled)]
        assert reply.logps == pytest.approx(expected, abs=1e-4)
    width = max(len(reply.given) + len(reply.sampled) for reply in replies)
    ids, turn = torch.full((6, width), -1), torch.full((6, width), -1)
    for row, reply in enumerate(replies):
        end = len(reply.given) + len(reply.sampled)
        ids[row, :end], turn[row, len(reply.given) : end] = torch.tensor([*reply.given, *reply.sampled]), 0
    scored = policy.logps(ids, turn)["logp_NT"]
    for row, reply in enumerate(replies):
        assert torch.allclose(scored[row][turn[row] >= 0], torch.tensor(reply.logps), atol=1e-4)
    scored.sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in policy.parameters())
    assert why_padded(policy.model)


def test_recomputing_draws_what_the_paged_engine_draws() -> None:
    """Stop strings, hidden states and greedy rows included; at most two rows move at once here."""
    asks = [
        Ask((Message("user", "x" * size),), n=2, seed=size, max_tokens=6, stop=stop, want=("hidden",), temperature=heat)
        for size, stop, heat in ((3, (), 1.0), (11, ("e",), 1.0), (20, (), 0.0))
    ]
    one, other = (
        Local(tiny_model(), tokenizer(), layout(), engine=engine, **more)
        for engine, more in (("paged", {}), ("recompute", {"rows": 2}))
    )
    for group, twins in zip(one.generate(asks), other.generate(asks), strict=True):
        for reply, twin in zip(group, twins, strict=True):
            assert (reply.sampled, reply.finish) == (twin.sampled, twin.finish)
            assert reply.logps == pytest.approx(twin.logps, abs=1e-4)
            assert reply.extras["hidden"] == pytest.approx(twin.extras["hidden"], abs=1e-3)


def test_whole_batches_are_refused_by_name_where_they_would_be_wrong() -> None:
    policy = Local(model_of("mamba"), tokenizer(), layout(), engine="whole")
    with pytest.raises(ValueError, match="engine 'whole' does not fit: its cache is not one of keys and values"):
        policy.generate([Ask((Message("user", "x"),))])
