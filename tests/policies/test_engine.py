"""The engine: the tokens and log-probs of the model itself, whatever is shared, set back, cached or constrained."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.toys import tiny_model, tokenizer

from ferrule.policies.engine.engine import Engine
from ferrule.policies.engine.engines import open_engine
from ferrule.policies.engine.pages import Pages
from ferrule.policies.engine.rows import Row, Stops, advance
from ferrule.policies.local import load

pytestmark = pytest.mark.usefixtures("one_thread")
STOPS = Stops(tokenizer(), frozenset([1]))
HEADS = {"head_dim": 16, "num_key_value_heads": 1}


def family(name: str) -> Any:
    """A tiny random model of another family, with grouped heads."""
    import transformers

    settings_ = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(tokenizer()),
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        sliding_window=None,
        **settings_,
        **HEADS,
    )
    torch.manual_seed(1)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # fresh biases are zero and fresh norms are one: give them something to do
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def engine(model: Any = None, kind: str = "kernels", **options: Any) -> Any:
    return open_engine(model or tiny_model(), STOPS, 0, kind=kind, **options)


def row(given: Any, tokens: int = 12, heat: float = 0.0, seed: int = 0, **more: Any) -> Row:
    return Row(tuple(given), tokens, heat, seed, **{"ignore_end": True, **more})


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(2, len(tokenizer()), length).tolist())


@torch.no_grad()
def own(model: Any, ids: Any, tokens: int) -> list[int]:
    """Greedy tokens of transformers' own generate."""
    out = model.generate(
        torch.tensor([list(ids)]), max_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return list(out[0, len(ids) :].tolist())


# ------------------------------------------------------------------------------------------------------------ same model


@pytest.mark.parametrize("kind", ["kernels", "paged", "whole"])
def test_greedy_output_is_that_of_transformers(kind: str) -> None:
    """Prompts below, at and above a page of 16, with two samples each, in one batch."""
    model = tiny_model()
    rows = [row(prompt(n, n), 20) for n in (1, 7, 15, 16, 17, 33, 64) for _ in range(2)]
    own_engine = engine(model, kind)
    own_engine.submit(rows)
    while own_engine.busy:
        own_engine.step()
    for one in rows:
        assert one.sampled == own(model, one.given, 20)


@pytest.mark.parametrize("kind", ["kernels", "paged"])
@pytest.mark.parametrize("name", ["Llama", "Mistral", "Qwen2", "Qwen3"])
def test_families_with_biases_grouped_heads_and_head_norms(name: str, kind: str) -> None:
    model = family(name)
    rows = [row(prompt(n, n), 16) for n in (3, 20, 21)]
    engine(model, kind).run(rows)
    for one in rows:
        assert one.sampled == own(model, one.given, 16)


def test_the_kernels_leave_the_number_of_threads_as_it_is() -> None:
    """Both libraries draw on one pool of threads, whose size is the user's to choose."""
    code = "import torch; from ferrule.policies.engine import lean; print(torch.get_num_threads())"
    for wanted in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": wanted}
        said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert said.stdout.strip() == wanted


FREED = """
import torch
from tests.policies.test_engine import STOPS, family, open_engine, own, prompt, row
torch.set_num_threads(1)
model = family("Llama")
engine = open_engine(model, STOPS, 0, kind="kernels")
one = row(prompt(600), 4)
engine.run([one])
print(one.sampled == own(model, prompt(600), 4))
"""


def test_freed_memory_is_not_read() -> None:
    """The C library fills what is freed (beyond 1 KiB) with a byte, so that a read of it shows in the tokens."""
    environment = {**os.environ, "MALLOC_PERTURB_": "85", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
    said = subprocess.run([sys.executable, "-c", FREED], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "True"


COMPILED = """
import torch
from tests.policies.test_engine import STOPS, family, open_engine, prompt, row
from ferrule.policies.engine.kernels import layer
torch.set_num_threads(1)
engine = open_engine(family("Qwen3"), STOPS, 0, kind="kernels")
one = row(prompt(150), 8)
engine.run([one])
print(sum(layer.stats.cache_misses.values()), one.logps)
"""


@pytest.mark.slow
def test_kernels_from_the_cache_compute_what_freshly_compiled_ones_do(tmp_path: Path) -> None:
    """A run that compiled its kernels and one that found them ready must agree bit for bit: 150 tokens, 8 log-probs."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILED]
    fresh, ready = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split(" ", 1)
        for _ in range(2)
    )
    assert (fresh[0], ready[0]) == ("1", "0")
    assert fresh[1] == ready[1]


@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_weights_that_diverged_are_named(heat: float) -> None:
    model = tiny_model()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    diverged = engine(model, "whole")
    diverged.submit([row(prompt(5), heat=heat)])
    with pytest.raises(FloatingPointError, match="1 of 1 rows"):
        diverged.step()


def test_another_kind_of_attention_is_left_to_whole_batches() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = Gemma2ForCausalLM(
        Gemma2Config(vocab_size=len(tokenizer()), num_key_value_heads=1, head_dim=16, **size)
    ).eval()
    one = row(prompt(9), 6)
    found = engine(model, "auto")
    assert found.kind == "whole"
    found.submit([one])
    found.step()
    assert one.sampled == own(model, one.given, 6)


def test_a_kind_that_does_not_fit_is_refused_with_its_reason() -> None:
    with pytest.raises(ValueError, match="did you mean 'paged'"):
        engine(kind="pagd")
    with pytest.raises(ValueError, match="not a multiple of 16"):
        engine(tiny_model(num_attention_heads=4, num_key_value_heads=4))
    with pytest.raises(ValueError, match="bfloat16"):
        engine(autocast=True)


def test_log_probs_and_hidden_states_are_the_models_own() -> None:
    model = tiny_model()
    for kind in ("kernels", "paged", "whole"):
        one = row(prompt(19), 5, heat=0.7, seed=3, entropy=True, top_logps=3, wants_hidden=True)
        found = engine(model, kind)
        found.submit([one])
        while found.busy:
            found.step()
        ids = [*one.given, *one.sampled]
        with torch.no_grad():
            out = model(torch.tensor([ids]), output_hidden_states=True)
        logp = (out.logits[0] / 0.7).log_softmax(-1)[len(one.given) - 1 : -1]
        assert one.logps == pytest.approx(logp[range(5), one.sampled].tolist(), abs=1e-4)
        assert one.entropies == pytest.approx((-(logp.exp() * logp).sum(-1)).tolist(), abs=1e-4)
        assert [[i for i, _ in top] for top in one.tops] == logp.topk(3).indices.tolist()
        assert one.hidden == pytest.approx(out.hidden_states[-1][0, len(ids) - 2].numpy(), abs=1e-4)


# --------------------------------------------------------------------------------------------------------------- sharing


def test_a_later_turn_computes_what_is_new_only() -> None:
    """A prompt of 40 and 12 sampled: 51 tokens are cached, 48 of them in full pages; the next turn adds 10."""
    found = engine()
    first = row(prompt(40))
    found.run([first])
    before = found.computed
    assert before == 40 + 11
    second = row((*first.given, *first.sampled, *prompt(10, 5)), 1)
    found.run([second])
    assert found.computed - before == 62 - 48
    assert second.sampled == own(found.forward.model, second.given, 1)


def test_a_group_computes_its_prompt_once_and_branches_are_apart() -> None:
    found = engine()
    rows = [row(prompt(40), 8, heat=1.0, seed=s) for s in range(6)]
    found.run(rows)
    assert found.computed == 40 + 6 * 7
    assert len({tuple(one.sampled) for one in rows}) == 6
    for one in rows:
        alone = row(one.given, 8, heat=1.0, seed=one.seed)
        engine().run([alone])
        assert alone.sampled == one.sampled


def test_a_beginning_that_is_still_being_computed_is_shared_too() -> None:
    """Two prompts with 48 tokens in common enter at one step: the second computes its last 5 alone."""
    found = engine()
    rows = [row((*prompt(48), *prompt(5, s)), 4) for s in (1, 2)]
    found.run(rows)
    assert found.computed == 53 + 5 + 2 * 3
    assert [one.sampled for one in rows] == [own(found.forward.model, one.given, 4) for one in rows]


def test_changed_weights_forget_the_cache() -> None:
    model = tiny_model()
    found = engine(model)
    found.run([row(prompt(40), 4)])
    with torch.no_grad():
        model.lm_head.weight.mul_(-1.0)
        model.model.layers[0].self_attn.k_proj.weight.mul_(1.5)
    found.forget()
    again = row(prompt(40), 4)
    found.run([again])
    assert again.sampled == own(model, again.given, 4)
    assert found.computed == 2 * 43


# ---------------------------------------------------------------------------------------------------------------- limits


def test_rows_set_back_for_want_of_room_come_to_the_same_end() -> None:
    """20 pages of 16 for 8 rows that need 5 each: some are set back, all sample what they would have alone."""
    model = tiny_model()
    found = engine(model)
    found.pages.limit = 20
    rows = [row(prompt(30, s), 45, heat=1.0, seed=s) for s in range(8)]
    found.run(rows)
    assert found.set_back > 0
    assert found.pages.used == 0
    for one in rows:
        alone = row(one.given, 45, heat=1.0, seed=one.seed)
        engine(model).run([alone])
        assert one.sampled == alone.sampled
        assert one.logps == pytest.approx(alone.logps, abs=1e-4)


def test_a_row_that_can_never_fit_says_so_and_leaves_the_engine_usable() -> None:
    found = engine()
    found.pages.limit = 3
    for one in (row(prompt(60), 4), row(prompt(40), 30)):
        with pytest.raises(MemoryError, match="holds 48 tokens"):
            found.run([one])
        assert found.busy == found.pages.used == 0
    fits = row(prompt(20), 4)
    found.run([fits])
    assert fits.finish == "length"


def test_more_rows_than_places_and_more_prompt_than_a_step_takes() -> None:
    model = tiny_model()
    found = Engine(engine(model).forward, STOPS, rows=3, tokens=8)
    rows = [row(prompt(n, n), 6) for n in (30, 30, 30, 30, 30, 11, 2)]
    found.run(rows)
    assert [one.sampled for one in rows] == [own(model, one.given, 6) for one in rows]


def test_cancelled_rows_leave_without_a_trace() -> None:
    found = engine(rows=2)
    rows = [row(prompt(20, s), 30) for s in (1, 1, 1, 2, 3)]
    found.submit(rows)
    for _ in range(3):
        found.step()
    found.cancel(rows[:4])
    while found.busy:
        found.step()
    assert rows[4].finish == "length"
    assert found.pages.used == 0
    assert not any(one.finish for one in rows[:4])


# ----------------------------------------------------------------------------------------------------------- constraints


def first_probs(given: tuple[int, ...]) -> Any:
    with torch.no_grad():
        return tiny_model()(torch.tensor([given])).logits[0, -1].softmax(-1)


def test_constraints_keep_to_what_is_allowed_and_log_probs_stay_those_of_the_model() -> None:
    given_, rows = prompt(9), 200
    probs = first_probs(given_)
    best = probs.argsort(descending=True).tolist()
    nucleus = best[: int((probs[best].cumsum(0) < 0.5).sum()) + 1]
    cases: list[tuple[dict[str, Any], set[int]]] = [
        ({"top_k": 3}, set(best[:3])),
        ({"top_p": 0.5}, set(nucleus)),
        ({"allowed": lambda sampled: [7, 9]}, {7, 9}),
        ({"bias": {11: 1e4}}, {11}),
        ({"bans": tuple((i,) for i in best[2:])}, set(best[:2])),
    ]
    for constraint, expected in cases:
        group = [row(given_, 1, heat=1.0, seed=s, **constraint) for s in range(rows)]
        engine().run(group)
        drawn = {one.sampled[0] for one in group}
        assert drawn <= expected
        assert len(drawn) == len(expected) or probs[list(expected)].min() < 0.05 * probs[list(expected)].sum()
        for one in group[:5]:
            assert one.logps[0] == pytest.approx(float(probs[one.sampled[0]].log()), abs=1e-4)


def test_a_sequence_that_is_banned_is_never_completed() -> None:
    free = row(prompt(9), 12)
    engine().run([free])
    kept = row(prompt(9), 12, bans=((free.sampled[3], free.sampled[4]),))
    engine().run([kept])
    assert kept.sampled[:4] == free.sampled[:4]
    assert kept.sampled[4] != free.sampled[4]


def test_a_grammar_that_reads_what_was_sampled() -> None:
    def alternate(sampled: tuple[int, ...]) -> list[int] | None:
        return [5] if len(sampled) % 2 else [6, 7]

    one = row(prompt(9), 8, heat=1.0, allowed=alternate)
    engine().run([one])
    assert one.sampled[1::2] == [5] * 4
    assert set(one.sampled[::2]) <= {6, 7}


def test_constraints_that_leave_nothing_are_an_error() -> None:
    with pytest.raises(ValueError, match="leave no token"):
        engine().run([row(prompt(9), 8, allowed=lambda sampled: [])])


# ----------------------------------------------------------------------------------------------------------------- pages


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 1), min_size=1, max_size=9)), max_size=40))
def test_pages_never_mix_sequences_up(events: list[tuple[int, list[int]]]) -> None:
    """Sequences of 0 and 1 over pages of 2, at most 12 pages; the truth is kept by writing tokens into a store."""
    pages, store = Pages(2, 12), {}
    live: list[tuple[list[int], list[int]]] = []
    for kind, ids in events:
        if kind == 0 and live:
            pages.drop(live.pop(len(ids) % len(live))[1])
            continue
        own_pages = pages.match(ids)
        for k, page in enumerate(own_pages):
            assert store[page] == ids[2 * k : 2 * k + 2]
        sealed = len(own_pages)
        while len(own_pages) * 2 < len(ids):
            page = pages.take()
            if page is None:
                break
            assert all(page not in others for _, others in live)
            own_pages.append(page)
            store[page] = ids[2 * len(own_pages) - 2 : 2 * len(own_pages)]
        else:
            for k in range(sealed, len(ids) // 2):
                own_pages[k] = pages.seal(own_pages[k], own_pages[k - 1] if k else -1, ids[2 * k : 2 * k + 2])
            live.append((ids, own_pages))
            continue
        pages.drop(own_pages)
    for ids, own_pages in live:
        assert [i for page in own_pages for i in store[page]] == ids
        pages.drop(own_pages)
    assert pages.used == 0
    taken = [pages.take() for _ in range(12)]
    assert sorted(page for page in taken if page is not None) == list(range(12))


def test_log_probs_do_not_depend_on_how_logits_lie_in_memory() -> None:
    """A token that is nearly certain has a log-prob near -1e-7, where the order of a sum shows in the last digit."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3000, 640, generator=generator)
    logits[:, 7] = 25.0
    strided = logits.T.contiguous().T
    assert not strided.is_contiguous()
    drawn = []
    for laid in (logits, strided):
        rows = [row([1], 4, 1.0, seed) for seed in range(len(laid))]
        advance(rows, laid, STOPS)
        drawn.append([(r.sampled, r.logps) for r in rows])
    assert drawn[0] == drawn[1]


@pytest.mark.integration
def test_in_bfloat16_a_real_model_keeps_the_engine_that_shares(smollm: Path) -> None:
    """Its logits behind the marks at the beginning of the vocabulary are rounding; those behind words are not."""
    policy = load(smollm, dtype="bfloat16", device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert policy.engine.kind == "paged"
