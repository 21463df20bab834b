"""The build of a pocket model: what it learns from, that it goes on after a kill, and what it leaves."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.policies.pocket_toy import CORPUS, FIND, draw, toy_build, weights

from ferrule.core.flows import Ask
from ferrule.core.records import Message, plain_text
from ferrule.data.formats import conversation
from ferrule.policies.local import load
from ferrule.policies.pocket import training
from ferrule.policies.pocket.build import PRESETS, build, state_folder
from ferrule.policies.pocket.forms import layout
from ferrule.policies.pocket.net import Net, Shape, attend
from ferrule.policies.pocket.rows import GIVEN, LEARNED, SHOWN, Rows, batches, encode, prepare, text_of
from ferrule.policies.pocket.tokenizer import tokenizer_for
from ferrule.policies.pocket.training import Schedule, replies_right
from ferrule.policies.pocket.wiring import wire

STEPS = 90


class Killed(Exception):
    """Ends a build from outside."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a toy model; its state lies beside it."""
    folder = tmp_path_factory.mktemp("pocket")
    build(folder / "model", toy_build(STEPS), corpus=CORPUS, state=folder / "state", threads=1)
    return folder / "model"


def test_a_killed_build_goes_on_to_the_same_weights(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at step 62 of 90, behind the state of step 50; the lines of the curve are those of one build."""
    update, taken = training.Trainer._update, 0

    def dies(trainer: training.Trainer) -> Any:
        nonlocal taken
        taken += 1
        if taken == 62:
            raise Killed
        return update(trainer)

    monkeypatch.setattr(training.Trainer, "_update", dies)
    state, lines = tmp_path / "state", []

    def begin() -> None:
        build(
            tmp_path / "model",
            toy_build(STEPS),
            corpus=CORPUS,
            state=state,
            threads=1,
            save_seconds=0,
            say=lines.append,
        )

    with pytest.raises(Killed):
        begin()
    assert not (tmp_path / "model").exists()
    begin()
    assert any(line.startswith("going on at step 50") for line in lines)
    assert weights(tmp_path / "model") == weights(built)

    def losses(folder: Path) -> list[tuple[int, float]]:
        rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
        return [(row["step"], row["reply_loss"]) for row in rows if "reply_loss" in row]

    assert losses(tmp_path / "model") == losses(built)
    assert [step for step, _ in losses(built)] == [25, 50, 75, 90]


def test_another_seed_gives_other_weights_and_a_state_of_its_own(built: Path, tmp_path: Path) -> None:
    settings = replace(toy_build(2), seed=1)
    build(tmp_path / "a", settings, corpus=CORPUS, state=tmp_path / "s", threads=1)
    assert weights(tmp_path / "a") != weights(built)
    assert state_folder(settings) != state_folder(toy_build(2))


def test_the_state_lies_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRULE_HOME", str(tmp_path))
    assert state_folder(PRESETS["pocket"]).parent == tmp_path / "builds"


def test_a_built_model_is_a_plain_llama_in_half_precision(built: Path) -> None:
    config = json.loads((built / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["rope_parameters"]["rope_theta"] == 1e6
    assert not config["tie_word_embeddings"]
    report = json.loads((built / "build.json").read_text())
    assert report["settings"]["max_steps"] == STEPS
    size = (built / "model.safetensors").stat().st_size
    assert 2 * report["parameters"] <= size <= 2 * report["parameters"] + 10_000
    policy = load(built)
    assert next(policy.model.parameters()).dtype is torch.float32
    assert policy.renderer == layout("hermes")


def test_right_under_teacher_forcing_is_right_in_greedy_decoding(built: Path) -> None:
    """Every first reply of 12 held-out conversations; the toy model copies some words right and others wrong."""
    policy = load(built)
    tokenizer = policy.tokenizer
    told = [draw(seed, "test", "say") for seed in range(40)]
    encoded = [encode(t, tokenizer) for t in told]
    rows = Rows(
        np.concatenate([ids for ids, _ in encoded]),
        np.concatenate([kinds for _, kinds in encoded]),
        np.array([len(ids) for ids, _ in encoded]),
        np.array([f"{i}" for i in range(len(told))]),
    )
    net = Net(Shape(len(tokenizer), 64, 2, 2, 64))
    net.load_state_dict(policy.model.state_dict())
    forced = replies_right(net, rows)
    asks = [Ask(t.messages[:1], max_tokens=20, temperature=0.0) for t in told]
    greedy = [plain_text(replies[0].message) for replies in policy.generate(asks)]
    right = [answer == plain_text(t.messages[1]) for answer, t in zip(greedy, told, strict=True)]
    assert [forced[f"{i}"][0][0] for i in range(len(told))] == right
    assert 0 < sum(right) < len(right)


def test_presets_fit_the_package() -> None:
    """Parameters at 2 bytes each: pocket at most 10 MB, pocket-s about a million of them."""
    counts = {}
    for name, b in PRESETS.items():
        shape = Shape(
            b.vocab_size, b.hidden_size, b.num_hidden_layers, b.num_attention_heads, b.intermediate_size, b.rope_theta
        )
        net = Net(shape)
        wire(net, slot=b.slot)
        counts[name] = sum(p.numel() for p in net.parameters())
    assert counts["pocket"] * 2 < 10e6
    assert 0.8e6 < counts["pocket-s"] < 1.2e6


def test_the_lean_net_gives_the_logits_of_transformers() -> None:
    net = Net(Shape(90, 64, 3, 2, 96), seed=3)
    ids = torch.randint(0, 90, (2, 300), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net(ids), net.llama()(input_ids=ids).logits, atol=1e-4, rtol=1e-4)


def test_attention_in_blocks_is_causal_attention() -> None:
    q, k, v = torch.randn(3, 2, 2, 37, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    for block in (1, 8, 37, 128):
        torch.testing.assert_close(attend(q, k, v, block), expected)


def test_wired_heads_copy_what_followed_the_same_two_tokens() -> None:
    """90 of 100 ids at random, twice: more than half of them stand twice in it, and one token would not tell which."""
    net = Net(Shape(100, 256, 5, 4, 512))
    wire(net)
    once = torch.randint(0, 100, (1, 90), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for i, layer in enumerate(net.model.layers):  # the random rest is silent
            layer.mlp.down_proj.weight.zero_()
            layer.self_attn.o_proj.weight[:, {0: 128, 1: 64}.get(i, 0) :] = 0
        best = net(torch.cat([once, once], 1)).argmax(-1)[0]
    assert (best[92:-1] == once[0, 3:]).float().mean() > 0.9


def test_wiring_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="slot is 16; 4 \\* slot must be below the width 64"):
        wire(Net(Shape(90, 64, 2, 2, 64)), slot=16)
    with pytest.raises(ValueError, match="two layers"):
        wire(Net(Shape(90, 64, 1, 2, 64)), slot=8)


def test_rows_are_laid_out_as_rollouts_are() -> None:
    """The ids are those of ``data.formats.conversation``; end marks are learned with their replies."""
    told = draw(0, "train", "find")
    tokenizer = tokenizer_for([text_of(told)], 400)

    def ids_of(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    ids, kinds = encode(told, tokenizer)
    row = conversation(told.messages, told.tools, layout("hermes"), ids_of)
    assert tuple(ids) == row.ids
    expected = {-1: GIVEN, 0: SHOWN, 1: LEARNED, 2: LEARNED}
    assert kinds == [expected[turn] for turn in row.turn]
    ends = [kind for token, kind in zip(ids, kinds, strict=True) if token == tokenizer.eos_token_id]
    assert ends == [GIVEN, GIVEN, SHOWN, GIVEN, LEARNED, GIVEN, LEARNED]


def test_replies_and_what_is_said_of_them_must_agree() -> None:
    told = draw(0, "train", "find")
    with pytest.raises(ValueError, match="3 replies; learned has 1"):
        text_of(replace(told, learned=(True,)))
    with pytest.raises(ValueError, match="no assistant message"):
        text_of(replace(told, messages=(Message("user", "hi"),), learned=(), tools=(FIND,)))


def test_batches_hold_every_row_once_and_rows_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(10, 400, 5000)
    cut = batches(lengths, 1000, np.random.default_rng(1))
    assert sorted(row for batch in cut for row in batch) == list(range(5000))
    padded = [len(batch) * int(lengths[batch].max()) for batch in cut]
    assert max(padded) <= 1000
    # 2048 sorted rows leave some 2 tokens between neighbours, so that little of a batch is padding.
    assert lengths.sum() / sum(padded) > 0.95
    assert cut != batches(lengths, 1000, np.random.default_rng(2))


def test_the_rate_rises_and_falls_to_a_fiftieth() -> None:
    schedule = Schedule(0, 110, 1, 1.0, 10, 0.0, 1.0, 0.0)
    # Halfway down the cosine, 50 steps behind the warm-up of 10, it is one half.
    assert [schedule.rate(step) for step in (0, 9, 10, 60, 109)] == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.02])


@pytest.mark.slow
def test_rows_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    tokenizer_for([text_of(draw(seed, "train", None)) for seed in range(50)], 400).save_pretrained(tmp_path)
    jobs = [(0, 1100, "train", None), (0, 5, "test", "say")]
    one, two = (prepare(tmp_path, draw, jobs, longest=100, workers=workers) for workers in (1, 2))
    for name in ("ids", "kinds", "lengths", "families"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert len(one) == 1105
    assert len(prepare(tmp_path, draw, jobs, longest=30)) < 1105
