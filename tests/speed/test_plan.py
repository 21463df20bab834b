"""The calculator's arithmetic on numbers worked out by hand, its refusals, and the page it writes."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ferrule.speed.devices import DEVICES, Device, device_of, measured
from ferrule.speed.plan import (
    Fractions,
    Setup,
    Workload,
    decode_seconds,
    generation,
    network,
    plan,
    training,
    update,
)
from ferrule.speed.shapes import MODELS, Shape, from_config, shape_of

ROOT = Path(__file__).resolve().parents[2]
# A block of this shape: q 4x4, k and v 4x2 each, o 4x4, gate, up and down 4x8 each: 16 + 8 + 8 + 16 + 96 = 144.
TINY = Shape("tiny", layers=3, hidden=4, intermediate=8, heads=2, kv_heads=1, head_dim=2, vocab=10, tied=False)
# 1000 operations, 100 bytes a second, 1e6 bytes; links of 50, a network of 10 bytes a second.
SLOW = Device("slow", 1000.0, 100.0, 1e6, 50.0, 10.0)
FULL = Fractions(train=1.0, prefill=1.0, decode=1.0, network=1.0, overhead=0.0)


def test_parameters_and_arithmetic() -> None:
    """3 blocks of 144, embedding and head of 40 each, 7 norms of 4: 432 + 80 + 28 = 540."""
    assert TINY.block == 144
    assert TINY.parameters == 540
    assert replace(TINY, tied=True).parameters == 500
    assert TINY.read == 432 + 40
    assert TINY.cache_bytes(2) == 2 * 3 * 1 * 2 * 2
    # A token: 3 blocks of (2 x 144 + 4 x 2 x 2 x 5 keys) = 3 x (288 + 80).
    assert TINY.block_flops(1, 5) == 3 * (288 + 80)
    assert TINY.head_flops(2) == 2 * 2 * 40
    assert replace(TINY, gated=False).block == 144 - 32


@pytest.mark.parametrize(
    ("name", "billions"),
    # The numbers of parameters that the models' cards state (Qwen3 technical report, arXiv 2505.09388).
    [("qwen3-0.6b", 0.6), ("qwen3-1.7b", 1.7), ("qwen3-4b", 4.0), ("qwen3-8b", 8.2), ("qwen3-14b", 14.8),
     ("qwen3-32b", 32.8), ("smollm2-135m", 0.135)],
)  # fmt: skip
def test_known_shapes_have_the_published_size(name: str, billions: float) -> None:
    assert MODELS[name].parameters / 1e9 == pytest.approx(billions, rel=0.02)
    assert MODELS[name].source.startswith("https://")


def test_configs_are_read(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 4, "intermediate_size": 16, "vocab_size": 32, "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = shape_of(str(tmp_path))
    assert shape_of(str(tmp_path / "config.json")) == found
    assert (found.heads, found.kv_heads, found.head_dim, found.tied) == (4, 2, 4, True)
    assert found.linears()["q"] == (8, 16)
    assert from_config({"text_config": config}, found.name) == found
    plain = {key: value for key, value in config.items() if key not in ("head_dim", "num_key_value_heads")}
    assert (from_config(plain).kv_heads, from_config(plain).head_dim) == (4, 2)
    old = from_config({"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 32})
    assert (old.intermediate, old.gated, old.tied) == (32, False, True)
    with pytest.raises(ValueError, match="mixtures of experts"):
        from_config({**config, "num_experts": 8})
    with pytest.raises(ValueError, match="lacks 'vocab_size'"):
        from_config({key: value for key, value in config.items() if key != "vocab_size"})
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="one JSON object"):
        shape_of(str(tmp_path))


def test_decode_is_bound_by_memory_or_arithmetic() -> None:
    """Two rows with 5 keys each, 8 tokens cached: reads 472 x 2 + 8 x 24 = 1136 bytes in 11.36 s; computes
    2 x 3 x (288 + 16 x 5) + 2 x 80 = 2368 operations in 2.368 s."""
    assert decode_seconds(TINY, SLOW, 2, 5, 8) == pytest.approx(11.36)
    assert decode_seconds(TINY, replace(SLOW, bandwidth=1e9), 2, 5, 8) == pytest.approx(2.368)
    assert decode_seconds(TINY, SLOW, 2, 5, 8, tensor=2) == pytest.approx(5.68)


def test_generation_of_one_wave() -> None:
    """4 episodes in groups of 2: prompts of 6, one reply of 4.

    Prompts: 2 x 6 tokens of 3 x (288 + 16 x 3) = 1008 and 4 heads of 80: 12416 operations, 12.416 s; reading the
    weights takes 9.44 s, which is less. A decode step reads 944 + (12 + 4 x 2) x 24 = 1424 bytes, 14.24 s; four of them.
    """
    load = Workload(4, 2, 6, 4, 0, 1, 0.0)
    found = generation(TINY, SLOW, load, Setup(gpus=1, fractions=FULL))
    assert (found["engines"], found["rows"], found["waves"]) == (1, 4, 1)
    assert found["prefill"] == pytest.approx(12.416)
    assert found["decode"] == pytest.approx(4 * 14.24)
    assert found["tokens_per_second"] == pytest.approx(16 / found["seconds"])
    assert found["cache"] == pytest.approx(4 * 24 * (6 / 2 + 4))
    half = generation(TINY, SLOW, load, Setup(gpus=1, fractions=replace(FULL, decode=0.5, overhead=1.0)))
    assert half["decode"] == pytest.approx(4 * (2 * 14.24 + 1))


def test_the_cache_bounds_the_rows_at_once() -> None:
    """A row needs 24 x (6 / 2 + 4) = 168 bytes. Usable are 0.9 m, less 16 x 540 of state and 2 x 540 of weights;
    with room for two and a half rows, four episodes take two waves."""
    load = Workload(4, 2, 6, 4, 0, 1, 3.0)
    tight = replace(SLOW, memory=(16 * 540 + 2 * 540 + 2.5 * 168) / 0.9)
    found = generation(TINY, tight, load, Setup(gpus=1))
    assert (found["rows"], found["waves"]) == (2, 2)
    assert found["tools"] == 0  # one reply, no tool
    one = generation(TINY, replace(SLOW, memory=(16 * 540 + 2 * 540 + 0.5 * 168) / 0.9), load, Setup(gpus=1))
    assert not one["fits"]


def test_turns_wait_for_tools_and_keep_their_cache() -> None:
    """The second turn computes its observation only: 4 rows x 5 tokens, with a mean context of 6 + 9 - 2.5 keys."""
    one, two = Workload(4, 2, 6, 4, 5, 1, 2.0), Workload(4, 2, 6, 4, 5, 2, 2.0)
    setup = Setup(gpus=1, fractions=FULL)
    first, both = generation(TINY, SLOW, one, setup), generation(TINY, SLOW, two, setup)
    assert both["tools"] == 2.0
    work = 4 * 5 * 3 * (288 + 16 * 12.5) + 4 * 80
    assert both["prefill"] - first["prefill"] == pytest.approx(work / 1000)
    assert two.continuation == 2 * 4 + 5
    assert two.sampled == 32


def test_update_counts_shared_prompts_once() -> None:
    """4 episodes in 2 groups, prompts of 6, replies of 4, no checkpointing: three passes.

    Own tokens: 16 x 3 x (288 + 16 x 8) = 19968. Prompts: 12 x 3 x (288 + 16 x 3) = 12096. The head
    on 16 written tokens, four times: 16 x 80 x 4 = 5120. AdamW: 28 x 540 / 100 = 151.2 s.
    """
    load = Workload(4, 2, 6, 4, 0, 1, 0.0)
    found = update(TINY, SLOW, load, Setup(gpus=1, gradient_checkpointing=False, fractions=FULL))
    assert load.tokens == 2 * 6 + 16
    assert found["flops"] == 3 * (19968 + 12096) + 5120
    assert found["seconds"] == pytest.approx(found["flops"] / 1000 + 151.2)
    again = update(TINY, SLOW, load, Setup(gpus=1, gradient_checkpointing=True, fractions=FULL))
    assert again["flops"] == 4 * (19968 + 12096) + 5120
    four = update(TINY, SLOW, load, Setup(gpus=4, gradient_checkpointing=False, fractions=FULL))
    assert four["seconds"] == pytest.approx(found["seconds"] / 4)


def test_memory_of_training() -> None:
    """16 bytes for each of 540 parameters over 2 devices: 4320. Gathered: 2 x (2 x 144 + 40) + 4 x 144 = 1232.

    A token in a block, products in bf16 from fp32 weights: two norms of 4 with input and scaled, 64; a copy for each
    of seven matrices, 2 x (6 x 4 + 8) = 64; queries, output, keys and values 2 x 2 x (4 + 2) and 4 for each of two
    heads, 32; three wide vectors of 8, 48: 208. Three blocks are 624; with checkpointing the inputs of three in fp32,
    4 x 4 x 3 = 48. The output layer takes 16 x 4 = 64 a token, three pieces of logits, more than any block, and 4 x 40 =
    160 for its gradient.
    """
    found = training(TINY, SLOW, Setup(gpus=2, micro=10, gradient_checkpointing=False))
    assert found["state"] == 4320
    assert found["gathered"] == 1232
    assert found["activations"] == 10 * (624 + 64) + 160 + 3 * 2**28
    assert training(TINY, SLOW, Setup(gpus=2, micro=10))["activations"] == 10 * (48 + 64) + 160 + 3 * 2**28
    assert training(TINY, SLOW, Setup(gpus=2, micro=10), logits=5)["activations"] == 10 * (48 + 208 + 32) + 160
    # Adapters of rank 1: 3 blocks x (8 + 6 + 6 + 8 + 12 x 3) = 192 trained at 16 bytes, 540 frozen at 4.
    assert training(TINY, SLOW, Setup(gpus=2, lora_r=1))["state"] == (16 * 192 + 4 * 540) / 2
    # Alone: nothing is gathered, but bf16 keeps a second copy; fp32 needs none.
    assert training(TINY, SLOW, Setup(gpus=1))["gathered"] == 1080
    assert training(TINY, replace(SLOW, width=4), Setup(gpus=1))["gathered"] == 0


def test_bytes_over_the_network() -> None:
    """28 packed tokens in micro-batches of 7 on 2 devices: two each. Half of everything comes from the other device:
    gathers 2 x 2 x 1080 / 2 = 2160, gradients 2 x 4 x 540 / 2 = 2160, new weights 1080 / 2 = 540."""
    load = Workload(4, 2, 6, 4, 0, 1, 0.0)
    found = network(TINY, SLOW, load, Setup(gpus=2, micro=7, fractions=FULL))
    assert (found["gather"], found["scatter"], found["push"]) == (2160, 2160, 540)
    assert found["update_seconds"] == pytest.approx(4320 / 50)
    apart = network(TINY, SLOW, load, Setup(gpus=2, per_node=1, micro=7, fractions=FULL))
    assert apart["update_seconds"] == pytest.approx(4320 / 10)
    assert network(TINY, SLOW, load, Setup(gpus=1))["total"] == 0


def test_what_does_not_fit_is_said_with_what_would() -> None:
    shape, device = MODELS["qwen3-8b"], DEVICES["h100"]
    found = plan(shape, device, Workload(), Setup(gpus=1))
    assert not found["fits"]
    assert "step_seconds" not in found
    text = " ".join(found["problems"])
    assert "training needs" in text
    assert "LoRA" in text
    assert "4 devices" in text
    assert plan(shape, device, Workload(), Setup(gpus=4))["fits"]
    assert not plan(shape, device, Workload(), Setup(gpus=2))["fits"]
    hopeless = plan(MODELS["qwen3-32b"], replace(device, memory=1e9), Workload(), Setup(gpus=1))
    assert hopeless["problems"][-1] == "neither adapters nor more devices would fit"


def test_a_step_is_the_sum_of_its_parts() -> None:
    found = plan(MODELS["qwen3-8b"], DEVICES["h100"], Workload(), Setup(gpus=16))
    parts = found["generation"]["seconds"] + found["update"]["seconds"] + found["network"]["push_seconds"]
    assert found["step_seconds"] == pytest.approx(parts)
    assert found["update"]["seconds"] >= found["network"]["update_seconds"]


@pytest.mark.parametrize("device", sorted(DEVICES))
def test_more_devices_are_never_slower_or_fuller(device: str) -> None:
    """Within a node: beyond it the slower network counts."""
    found = [plan(MODELS["qwen3-1.7b"], DEVICES[device], Workload(), Setup(gpus=n)) for n in (1, 2, 4, 8)]
    seconds = [one["step_seconds"] for one in found if one["fits"]]
    assert seconds
    assert seconds == sorted(seconds, reverse=True)
    memory = [one["training_memory"]["total"] for one in found]
    assert memory == sorted(memory, reverse=True)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'qwen3-8b'"):
        shape_of("qwen3-8")
    with pytest.raises(ValueError, match=r"did you mean 'h100'"):
        device_of("h10")
    for kind, wrong in (
        (Workload, {"turns": 0}),
        (Workload, {"tool_seconds": -1.0}),
        (Setup, {"gpus": 0}),
        (Setup, {"lora_r": -1}),
        (Fractions, {"decode": 0.0}),
        (Fractions, {"overhead": -1.0}),
    ):
        with pytest.raises(ValueError, match=list(wrong)[-1]):
            kind(**wrong)


def result(**changes: Any) -> dict[str, Any]:
    """What a bench file holds of what the planner reads."""
    rates = {"flops": 5e10, "read": 1e10, "copy": 8e9}
    reached = {"decode": 0.5, "prefill": 0.4, "train": 0.3}
    base = {"device": "box", "memory": 1e10, "dtype": "float32", "roofline": {"rates": rates}, "reached": reached}
    return {**base, **changes}


def test_measured_rates_are_read(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(json.dumps(result()))
    device, shares = measured(tmp_path / "bench.json")
    assert (device.name, device.flops, device.bandwidth, device.width) == ("box", 5e10, 1e10, 4)
    assert Fractions(**shares) == Fractions(train=0.3, prefill=0.4, decode=0.5, overhead=0.0)
    made = plan(MODELS["smollm2-135m"], device, Workload(turns=1), Setup(gpus=1, fractions=Fractions(**shares)))
    assert made["fits"]
    (tmp_path / "bench.json").write_text(json.dumps(result(reached={"decode": 1.2, "prefill": 0.4, "train": 0.3})))
    assert measured(tmp_path / "bench.json")[1]["decode"] == 1.0
    (tmp_path / "bench.json").write_text(json.dumps(result(reached={})))
    with pytest.raises(ValueError, match="not a result of 'ferrule bench"):
        measured(tmp_path / "bench.json")
    with pytest.raises(ValueError, match="No such file"):
        measured(tmp_path / "none.json")


def script() -> Any:
    """The script that writes the planning page."""
    spec = importlib.util.spec_from_file_location("planning_table", ROOT / "scripts" / "planning_table.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_planning_page_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = script()
    assert made.main(["--check"]) == 0, "run: python scripts/planning_table.py"
    page = (ROOT / made.PAGE).read_text()
    (tmp_path / made.PAGE).parent.mkdir(parents=True)
    (tmp_path / made.PAGE).write_text(page.replace("| qwen3-8b | – ", "| qwen3-8b | 1 "))
    monkeypatch.setattr(made, "ROOT", tmp_path)
    assert made.main(["--check"]) == 1
    assert made.main([]) == 0
    assert (tmp_path / made.PAGE).read_text() == page
    with pytest.raises(ValueError, match="lacks the line"):
        made.filled("nothing")
