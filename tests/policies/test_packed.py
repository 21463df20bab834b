"""Packed rows give the log-probs, entropies, values and gradients of padded rows; models that cannot are padded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toys import tiny_model, tiny_policy

from ferrule.policies.heads import VALUE
from ferrule.policies.packing.packed import logps, micro_batches, packed_logps, padded_logps, token_budget, why_padded

pytestmark = pytest.mark.usefixtures("one_thread")

NESTED = [[5, 6, 7, 8, 9, 10, 11], [5, 6, 7, 8, 9, 10, 12, 13], [5, 6, 7, 20], [5, 6, 7, 20, 21, 5], [5, 6, 7, 20]]
SHARED = [[*range(3, 33), *range(n, n + 8)] for n in (40, 50, 60, 40)]
APART = [[40 + n, *range(10 + n, 22 + n)] for n in range(5)]
SHAPES = {"nested": NESTED, "shared": SHARED, "apart": APART, "one": [[4, 5, 6]], "all": NESTED + SHARED + APART}


def tensors(rows: list[list[int]], every: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pad rows; the model's tokens come in turns of three, the last token included."""
    width = max(len(row) for row in rows)
    ids, turn = torch.full((len(rows), width), -1), torch.full((len(rows), width), -1)
    for n, row in enumerate(rows):
        ids[n, : len(row)] = torch.tensor(row)
        mine = torch.arange(len(row)).flip(0) // every % 2 == 0
        turn[n, : len(row)] = torch.where(mine, 0, -1)
    return ids, turn


def gradients(score: Callable[..., Any], model: Any, rows: list[list[int]], **more: Any) -> tuple[Any, list[Any]]:
    """Values and gradients of a loss that reads everything, each row with weights of its own."""
    ids, turn = tensors(rows)
    head = more.get("value_head")
    parameters = [*model.parameters(), *(head.parameters() if head is not None else [])]
    for p in parameters:
        p.grad = None
    out = score(model, ids, turn, **more)
    weigh = torch.randn(3, *ids.shape, generator=torch.Generator().manual_seed(0))
    loss = (weigh[0] * out["logp_NT"].exp() + weigh[1] * out["entropy_NT"].square() + weigh[2] * out["value_NT"]).sum()
    torch.autograd.backward(loss)
    return out, [p.grad.clone() for p in parameters if p.grad is not None]


def same(model: Any, rows: list[list[int]], **more: Any) -> None:
    """Values within rounding, gradients within a relative 1e-5, whole and parameter by parameter."""
    (one, first), (other, second) = (gradients(score, model, rows, **more) for score in (packed_logps, padded_logps))
    for name in one:
        assert torch.allclose(one[name], other[name], atol=3e-5), name
    assert len(first) == len(second) > 0
    scale = max(float(b.norm()) for b in second)
    for a, b in zip(first, second, strict=True):
        assert float((a - b).norm()) < 1e-5 * max(float(b.norm()), 1e-2 * scale)


@pytest.mark.parametrize("rows", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_packed_is_padded(rows: list[list[int]], temperature: float) -> None:
    same(tiny_model(), rows, temperature=temperature)


@pytest.mark.parametrize("config", [{"num_key_value_heads": 1}, {"tie_word_embeddings": True}, {"mlp_bias": True}])
def test_other_shapes(config: dict[str, Any]) -> None:
    same(tiny_model(**config), SHAPES["all"])


def test_with_a_value_head() -> None:
    policy = tiny_policy()
    policy.add_head(VALUE)
    torch.nn.init.normal_(policy.heads["value"].weight)
    same(policy.model, SHAPES["all"], value_head=policy.heads["value"])


def test_under_autocast_the_forms_agree_as_far_as_half_precision_goes() -> None:
    model = tiny_model()
    assert why_padded(model, autocast=True) == ""
    ids, turn = tensors(SHAPES["all"])
    one, other = (score(model, ids, turn, autocast=True) for score in (packed_logps, padded_logps))
    exact = padded_logps(model, ids, turn)["logp_NT"]
    assert one["logp_NT"].dtype is torch.float32
    assert 0 < float((one["logp_NT"] - exact).detach().abs().max()) < 0.2
    assert float((one["logp_NT"] - other["logp_NT"]).detach().abs().max()) < 0.1


def test_with_adapters() -> None:
    policy = tiny_policy()
    policy.add_adapter(lora_r=2)
    for name, p in policy.model.named_parameters():
        if "lora_B" in name:  # zero at the start, which would hide the gradient of the other factor
            torch.nn.init.normal_(p, std=0.1)
    assert why_padded(policy.model) == ""
    same(policy.model, SHAPES["all"])


@pytest.mark.parametrize("reentrant", [False, True])
def test_with_gradient_checkpointing(reentrant: bool) -> None:
    """Layers are computed again in the backward pass, after the call has ended, and must attend along the tree there."""
    model = tiny_model().train()
    whole = gradients(packed_logps, model, SHAPES["all"])
    layers = [m for m in model.modules() if hasattr(m, "gradient_checkpointing")]
    from functools import partial

    from torch.utils.checkpoint import checkpoint

    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=reentrant)
    if reentrant:  # this kind of checkpoint wants an input with a gradient
        model.get_input_embeddings().register_forward_hook(lambda module, args, out: out.requires_grad_())
    again = gradients(packed_logps, model, SHAPES["all"])
    assert model.config._attn_implementation == "sdpa"
    for a, b in zip(whole[1], again[1], strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_what_rows_share_is_computed_once_and_padding_never() -> None:
    """Rows of 7, 8, 4, 6 and 4 ids, the last never read: by hand 5 6 7 8 9 10 | 12 | 20 | 21."""
    model, sizes = tiny_model(), []
    assert why_padded(model) == ""
    model.get_input_embeddings().register_forward_pre_hook(lambda module, args: sizes.append(args[0].tolist()))
    logps(model, *tensors(NESTED))
    assert sizes == [[[5, 6, 7, 8, 9, 10, 12, 20, 21]]]


def test_logits_are_never_made() -> None:
    model, shapes = tiny_model(), []
    assert why_padded(model) == ""
    model.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.logits.shape)))
    logps(model, *tensors(NESTED))
    assert len(shapes) == 1
    assert shapes[0][-1] == 2  # a log-prob and an entropy


def test_the_model_is_left_as_it_was() -> None:
    model = tiny_model()
    ids, turn = tensors(NESTED)
    before = model(input_ids=ids.clamp(min=0)).logits
    logps(model, ids, turn)
    with pytest.raises(RuntimeError):
        packed_logps(model, ids, turn, value_head=torch.nn.Linear(3, 1))
    assert model.config._attn_implementation == "sdpa"
    assert "forward" not in model.get_output_embeddings().__dict__
    assert torch.equal(model(input_ids=ids.clamp(min=0)).logits, before)


def test_nothing_to_foretell_is_all_zero() -> None:
    ids, turn = tensors(NESTED)
    for score in (packed_logps, padded_logps):
        assert all(not value.any() for value in score(tiny_model(), ids, torch.full_like(turn, -1)).values())


# ------------------------------------------------------------------------------------------- models of many makers


SMALL = {"vocab_size": 80, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "bos_token_id": None,
         "eos_token_id": 1, "pad_token_id": 0}  # fmt: skip


def small(kind: str, **more: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SMALL, **more})).eval()
    with torch.no_grad():  # fresh weights are so small that contexts hardly matter
        for p in model.parameters():
            if p.ndim == 2:
                p.mul_(5.0)
    return model


CAN = {
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": None},
    "gemma": {},
    "olmo2": {},
    "smollm3": {},
    "gpt2": {},
}
CANNOT = {
    "mistral": ({"sliding_window": 4}, "sliding_window"),
    "gemma2": ({}, "sliding_attention"),
    "cohere": ({"logit_scale": 0.5}, "after its output layer"),
    "granite": ({"logits_scaling": 2.0}, "after its output layer"),
    "mamba": ({"state_size": 4}, ""),
    "bloom": ({"n_head": 4, "n_layer": 2}, "tree"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CAN)
def test_models_that_can_be_packed(kind: str) -> None:
    model = small(kind, **CAN[kind])
    assert why_padded(model) == ""
    same(model, SHAPES["all"])


def test_in_double_precision_the_two_forms_agree_to_twelve_digits() -> None:
    """What differs in fp32 is rounding and nothing else. (The norms of Llama compute in fp32 whatever the weights are.)"""
    model = small("gpt2").double()
    (one, first), (other, second) = (gradients(score, model, SHAPES["all"]) for score in (packed_logps, padded_logps))
    for a, b in (*((one[name], other[name]) for name in ("logp_NT", "entropy_NT")), *zip(first, second, strict=True)):
        assert a.dtype is torch.float64
        assert float((a - b).detach().norm()) < 1e-12 * float(b.detach().norm())


@pytest.mark.parametrize("kind", CANNOT)
def test_models_that_cannot_are_padded_and_say_why(kind: str) -> None:
    settings, reason = CANNOT[kind]
    model = small(kind, **settings)
    assert why_padded(model)
    assert reason in why_padded(model)
    ids, turn = tensors(NESTED)
    for name, value in logps(model, ids, turn).items():
        assert torch.equal(value, padded_logps(model, ids, turn)[name])
    parts = list(micro_batches(model, list(ids.numpy()), list(turn.numpy()), rows=2, tokens=100))
    assert [len(part) for part in parts] == [2, 2, 1]


def test_an_adapted_output_layer_is_padded() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["lm_head", "q_proj"], task_type="CAUSAL_LM"))
    assert "output layer" in why_padded(model)


def test_a_form_that_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the mask of plain causal attention, rows would see each other."""
    from ferrule.policies.packing.prefix_tree import Pack

    model = tiny_model()
    monkeypatch.setattr(Pack, "run_mask", lambda self, length, before, like: torch.zeros(length, before + length))
    assert "differ" in why_padded(model)


def test_the_budget_of_the_device_is_the_default() -> None:
    """Rows of 40 ids that share nothing: 39 are read of each, in half the budget; rows that share 30 go together."""
    rows = [[(7 * n + k) % 60 for k in range(40)] for n in range(60)]
    ids, turn = tensors(rows)
    parts = list(micro_batches(tiny_model(), list(ids.numpy()), list(turn.numpy()), rows=99))
    assert max(len(part) for part in parts) == token_budget(torch.device("cpu")) // 2 // 39
    alike = [list(range(30)) + [(7 * n + k) % 60 for k in range(10)] for n in range(60)]
    ids, turn = tensors(alike)
    assert len(list(micro_batches(tiny_model(), list(ids.numpy()), list(turn.numpy()), rows=99))) == 1


@pytest.mark.integration
@pytest.mark.timeout(900)  # where the model has to be fetched first
def test_a_real_model(smollm: Path) -> None:
    """SmolLM2-135M, one prompt with three completions: the whole gradient is within a relative 1e-5 of the exact one.

    Exact is double precision, but for the norms, which compute in fp32. The padded form is as far from it or further.
    """
    from ferrule.policies.local import load

    model = load(smollm).model
    rng = torch.Generator().manual_seed(0)
    prompt = torch.randint(100, 40_000, (24,), generator=rng).tolist()
    ids, turn = tensors([[*prompt, *torch.randint(100, 40_000, (5 + n,), generator=rng).tolist()] for n in range(3)])
    assert why_padded(model) == ""

    def gradient(score: Callable[..., Any]) -> torch.Tensor:
        model.zero_grad(set_to_none=True)
        out = score(model, ids, turn)
        torch.autograd.backward((out["logp_NT"] - 0.01 * out["entropy_NT"]).sum())
        return torch.cat([p.grad.flatten() for p in model.parameters()]).double()

    one, other = gradient(packed_logps), gradient(padded_logps)
    model.double()
    exact = gradient(padded_logps)
    assert float((one - exact).norm() / exact.norm()) < 1e-5
    assert float((one - other).norm() / exact.norm()) < 5e-5
