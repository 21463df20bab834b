"""The policy on local weights: what it samples is what the learner scores, and what it saves is what it loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tests.toys import NOTE, layout, spied, tiny_model, tiny_policy, tokenizer

from ferrule.chat.codec import codec
from ferrule.chat.renderer import ChatML
from ferrule.core.flows import Ask
from ferrule.core.records import Message, Reply
from ferrule.policies.engine.rows import Row, Stops
from ferrule.policies.heads import VALUE
from ferrule.policies.local import Local, load
from ferrule.policies.precision import fast_dtype

pytestmark = pytest.mark.usefixtures("one_thread")


def user(text: str, **more: Any) -> Ask:
    return Ask((Message("user", text),), **more)


def answer(policy: Local, request: Ask) -> Reply:
    return policy.generate([request])[0][0]


def rows_of(replies: list[Reply]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pad replies to ids and turn index."""
    width = max(len(r.given) + len(r.sampled) for r in replies)
    ids = torch.full((len(replies), width), -1)
    turn = torch.full((len(replies), width), -1)
    for i, r in enumerate(replies):
        ids[i, : len(r.given) + len(r.sampled)] = torch.tensor([*r.given, *r.sampled])
        turn[i, len(r.given) : len(r.given) + len(r.sampled)] = 0
    return ids, turn


def scored(policy: Local, replies: list[Reply], **more: Any) -> list[torch.Tensor]:
    """The learner's log-probs of the sampled ids of every reply."""
    ids, turn = rows_of(replies)
    with torch.no_grad():
        out = policy.logps(ids, turn, **more)["logp_NT"]
    return [out[i][turn[i] >= 0] for i in range(len(replies))]


# ------------------------------------------------------------------------------------------------------------ sampling


@pytest.mark.parametrize("heat", [0.5, 1.0, 1.7])
def test_the_learner_scores_what_was_sampled_as_the_sampler_did(tiny: Local, heat: float) -> None:
    """Prompts of different lengths in one batch, so that left and right padding are both at work."""
    asks = [user("x" * n, n=2, temperature=heat, seed=n, max_tokens=5 + n) for n in (1, 9, 30)]
    replies = [reply for group in tiny.generate(asks) for reply in group]
    for reply, learner in zip(replies, scored(tiny, replies, temperature=heat), strict=True):
        assert torch.allclose(torch.tensor(reply.logps), learner, atol=1e-4)


def test_log_probs_are_those_of_a_plain_forward_pass(tiny: Local) -> None:
    reply = answer(tiny, user("hello", max_tokens=6))
    ids = torch.tensor([[*reply.given, *reply.sampled]])
    with torch.no_grad():
        logp = tiny.model(input_ids=ids).logits.log_softmax(-1)
    first = len(reply.given)
    expected = [float(logp[0, first + i - 1, token]) for i, token in enumerate(reply.sampled)]
    assert reply.logps == pytest.approx(expected, abs=1e-4)


def test_the_temperature_of_the_policy_holds_where_the_ask_has_none() -> None:
    cold, warm = tiny_policy(temperature=0.0), tiny_policy(temperature=1.0)
    assert answer(cold, user("x")) == answer(warm, user("x", temperature=0.0))
    assert answer(warm, user("x")) != answer(warm, user("x", temperature=0.0))


def test_greedy_takes_the_most_probable_token(tiny: Local) -> None:
    reply = answer(tiny, user("hello", temperature=0.0, max_tokens=6))
    ids = [*reply.given, *reply.sampled]
    with torch.no_grad():
        logits = tiny.model(input_ids=torch.tensor([ids])).logits[0]
    assert list(reply.sampled) == logits.argmax(-1)[len(reply.given) - 1 : len(ids) - 1].tolist()
    assert answer(tiny, user("hello", temperature=0.0, max_tokens=6, seed=99)).sampled == reply.sampled


def test_the_same_seed_draws_the_same_and_another_does_not(tiny: Local) -> None:
    draws = {seed: answer(tiny, user("hello", seed=seed, max_tokens=10)).sampled for seed in range(4)}
    assert len(set(draws.values())) == 4
    assert answer(tiny, user("hello", seed=2, max_tokens=10)).sampled == draws[2]


def test_draws_follow_the_distribution(tiny: Local) -> None:
    """2,000 first tokens against their probabilities: an expected count of 2000 p has a spread of sqrt(2000 p)."""
    replies = tiny.generate([user("hello", n=2000, max_tokens=1)])[0]
    ids = torch.tensor([replies[0].given])
    with torch.no_grad():
        probs = tiny.model(input_ids=ids).logits[0, -1].softmax(-1)
    counts = torch.bincount(torch.tensor([r.sampled[0] for r in replies]), minlength=len(probs))
    spread = (2000 * probs * (1 - probs)).sqrt().clamp(min=1.0)
    assert float(((counts - 2000 * probs).abs() / spread).max()) < 5.0
    assert int((counts > 0).sum()) > 20


def test_draws_do_not_depend_on_the_neighbours(tiny: Local) -> None:
    asks = [user("x" * n, seed=n, max_tokens=4 + n, n=1 + n % 3) for n in (0, 1, 7, 20, 33)]
    together = tiny.generate(asks)
    for request, replies in zip(asks, together, strict=True):
        alone = tiny.generate([request])[0]
        assert [r.sampled for r in alone] == [r.sampled for r in replies]
    few = tiny_policy(rows=2).generate(asks)
    assert [[r.sampled for r in g] for g in few] == [[r.sampled for r in g] for g in together]


def test_samples_of_one_ask_differ_and_each_is_its_own(tiny: Local) -> None:
    """Asking for more samples leaves the first ones as they were."""
    four = tiny.generate([user("hello", n=4, max_tokens=10)])[0]
    assert len({r.sampled for r in four}) == 4
    assert [r.sampled for r in tiny.generate([user("hello", n=2, max_tokens=10)])[0]] == [r.sampled for r in four[:2]]


def test_equal_prompts_are_computed_once_and_finished_rows_leave(tiny: Local) -> None:
    """Prompts a (5 samples of 4 tokens) and b (2 of 2): both prompts once, then 3 tokens of each a and 1 of each b."""
    engine: Any = tiny.engine
    asks = [user("a", n=3, max_tokens=4), user("a", n=2, max_tokens=4, seed=5), user("b", n=2, max_tokens=2)]
    tiny.generate(asks)  # nothing of the second prompt but whole pages can be shared with the first
    lengths = {len(tiny.prompt_ids(request)) for request in asks}
    shared = max(lengths) // engine.pages.size * engine.pages.size
    assert len(lengths) == 1
    assert 2 * max(lengths) - shared <= engine.computed - (5 * 3 + 2 * 1) <= 2 * max(lengths)
    assert engine.sampled == 5 * 4 + 2 * 2
    assert engine.busy == 0


def test_what_the_model_saw_is_what_the_reply_says(tiny: Local) -> None:
    with spied(tiny) as seen:
        replies = [r for group in tiny.generate([user("a", n=2), user("bcd", max_tokens=3)]) for r in group]
    expected = {(*r.given, *r.sampled[:i]) for r in replies for i in range(len(r.sampled))}
    assert seen == expected


def test_no_asks_and_no_samples(tiny: Local) -> None:
    assert tiny.generate([]) == []
    assert tiny.generate([user("x", n=0)]) == [[]]


def test_generating_leaves_the_mode_of_the_model_alone(tiny: Local) -> None:
    tiny.model.train()
    answer(tiny, user("x"))
    assert tiny.model.training
    assert not any(p.grad is not None for p in tiny.model.parameters())


# ------------------------------------------------------------------------------------------------------------ stopping


def forced(policy: Local, text: str) -> Local:
    """Make the model say a text, token by token, whatever it is asked: logits by place since the prompt."""
    wanted, engine = policy.encode(text), cast(Any, policy.engine)
    forward = engine.forward

    class Saying:
        at = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(forward, name)

        def __call__(self, ids: Any, *args: Any) -> Any:
            logits, hidden = forward(ids, *args)
            self.at = self.at + 1 if len(ids) == 1 else 0
            logits = torch.full_like(logits, -30.0)
            logits[:, wanted[min(self.at, len(wanted) - 1)]] = 30.0
            return logits, hidden

    engine.forward = Saying()
    return policy


def test_a_reply_ends_after_a_call(tiny: Local) -> None:
    call = '<tool_call>{"name":"note","arguments":{"text":"hi"}}</tool_call>'
    reply = answer(forced(tiny, f"so: {call}<tool_call>more"), user("x", tools=(NOTE,), max_tokens=200))
    assert tiny.stops.text(reply.sampled) == f"so: {call}"
    assert reply.finish == "stop"
    assert [(c.name, c.arguments) for c in reply.message.calls] == [("note", {"text": "hi"})]
    assert reply.message.content == "so: "
    assert [(s.label, tiny.stops.text(reply.sampled[s.start : s.stop])) for s in reply.spans] == [("call", call)]


def test_a_reply_ends_at_the_end_token_which_is_sampled(tiny: Local) -> None:
    reply = answer(forced(tiny, "yes<|end|>no"), user("x", max_tokens=50))
    assert (reply.message.content, reply.finish) == ("yes", "stop")
    assert reply.sampled == tuple(tiny.encode("yes<|end|>"))


@pytest.mark.parametrize("stop", ["lo,", "\u00e9", "\n\n", "o, w\u00f6r", "\u3002", " "])
def test_stop_strings_of_the_ask(tiny: Local, stop: str) -> None:
    """Also strings that are only complete within a token, and letters of several tokens."""
    text = "hel\u00e9lo, w\u00f6rld\n\n\u3002 end"
    reply = answer(forced(tiny, text), user("x", max_tokens=50, stop=("never", stop)))
    assert reply.message.content == text[: text.index(stop) + len(stop)]
    assert reply.finish == "stop"


def test_the_first_stop_string_counts(tiny: Local) -> None:
    reply = answer(forced(tiny, "abcdef"), user("x", max_tokens=50, stop=("ef", "cd")))
    assert reply.message.content == "abcd"


def test_long_stop_strings_are_found(tiny: Local) -> None:
    long = "ab" * 50
    reply = answer(forced(tiny, f"x{long}y<|end|>"), user("x", max_tokens=200, stop=(long,)))
    assert reply.message.content == f"x{long}"


def test_an_empty_stop_string_stops_nothing(tiny: Local) -> None:
    assert answer(forced(tiny, "abc<|end|>"), user("x", stop=("",))).message.content == "abc"


def test_text_of_a_token_after_the_stop_string_is_cut_from_the_message(tiny: Local) -> None:
    """ "hello" is one token here; the id stays as it was sampled, the message ends at the stop string."""
    assert len(tiny.encode("hello")) == 1
    reply = answer(forced(tiny, "hello there"), user("x", max_tokens=50, stop=("ell",)))
    assert reply.message.content == "hell"
    assert reply.sampled == tuple(tiny.encode("hello"))


def test_a_reply_that_is_too_long_says_so(tiny: Local) -> None:
    reply = answer(forced(tiny, "abcdefgh"), user("x", max_tokens=3))
    assert (reply.message.content, reply.finish, len(reply.sampled)) == ("abc", "length", 3)
    assert len(answer(forced(tiny, "a" * 99), user("x")).sampled) == 12  # the policy's own limit


def test_spans_count_tokens_not_letters(tiny: Local) -> None:
    """Letters of several tokens before a call must not move its span."""
    call = '<tool_call>{"name":"note","arguments":{"text":"\u00e9"}}</tool_call>'
    reply = answer(forced(tiny, f"\u00e9\u3002\U0001f41a hello {call}"), user("x", tools=(NOTE,), max_tokens=200))
    (span,) = reply.spans
    assert tiny.stops.text(reply.sampled[span.start : span.stop]) == call


def test_prefill_is_given_and_part_of_the_message(tiny: Local) -> None:
    reply = answer(forced(tiny, " is four<|end|>"), user("2+2", prefill="The answer"))
    assert reply.message.content == "The answer is four"
    assert tiny.stops.text(reply.given).endswith("<|assistant|>The answer")
    assert tiny.stops.text(reply.sampled) == " is four<|end|>"


def test_entropies_are_handed_out_when_wanted(tiny: Local) -> None:
    reply = answer(tiny, user("x", want=("entropy",), max_tokens=4))
    ids, turn = rows_of([reply])
    with torch.no_grad():
        expected = tiny.logps(ids, turn)["entropy_NT"][turn >= 0]
    assert torch.tensor(reply.extras["entropy"]) == pytest.approx(expected, abs=1e-4)
    assert answer(tiny, user("x")).extras == {}


def test_a_full_context_ends_the_reply_and_not_the_run() -> None:
    """A model of 64 learned positions: what does not fit cannot be computed at all."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer()), n_positions=64, n_embd=16, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=1
        )
    ).eval()
    policy = Local(model, tokenizer(), layout())
    fits, near, full, over = policy.generate(
        [user("x" * n, max_tokens=20, temperature=1.0, seed=n) for n in (10, 55, 61, 500)]
    )
    assert (
        len(policy.generate([user("", max_tokens=20)])[0][0].given) == 3
    )  # two headers and an end: 3 tokens of layout
    assert fits[0].finish in ("stop", "length")
    assert len(near[0].given) + len(near[0].sampled) <= 64
    assert (full[0].finish, full[0].sampled) == ("length", ())
    assert (over[0].finish, over[0].sampled, len(over[0].given)) == ("length", (), 503)


# -------------------------------------------------------------------------------------------------------------- prompts


def test_a_context_is_continued_and_never_made_again(tiny: Local) -> None:
    first = answer(forced(tiny, "hel" + "lo" + "<|end|>"), user("x"))
    context = (*first.given, 104, 101, *first.sampled)  # ids that no tokenizer would make of this text
    ask = Ask((Message("user", "x"), first.message, Message("user", "more")), context=context, fresh=2)
    ids = tiny.prompt_ids(ask)
    assert ids[: len(context)] == context
    assert tiny.stops.text(ids[len(context) :]) == "<|user|>more<|end|><|assistant|>"


def test_a_turn_that_was_cut_off_is_closed_by_the_framework(tiny: Local) -> None:
    first = answer(forced(tiny, "abcdef"), user("x", max_tokens=3))
    ask = Ask((Message("user", "x"), first.message, Message("user", "more")), fresh=2)
    ids = tiny.prompt_ids(replace(ask, context=(*first.given, *first.sampled)))
    assert tiny.stops.text(ids[len(first.given) + 3 :]) == "<|end|><|user|>more<|end|><|assistant|>"


def test_an_end_of_turn_that_is_no_single_token_is_refused() -> None:
    """Ending replies at its last token alone would end them anywhere (">" here)."""
    with pytest.raises(ValueError, match=r"end-of-turn text '<\|over\|>' is 8 tokens"):
        Local(tiny_model(), tokenizer(), ChatML(codec("hermes"), end="<|over|>"))


def test_half_surrogates_in_messages_can_be_encoded(tiny: Local) -> None:
    """A world or a model may bring them in (JSON can spell them); no tokenizer takes them."""
    reply = answer(tiny, user("a\ud800b"))
    assert tiny.stops.text(reply.given) == "<|user|>a\ufffdb<|end|><|assistant|>"


# -------------------------------------------------------------------------------------------------------------- scoring


def test_scores_are_zero_off_the_models_tokens(tiny: Local) -> None:
    tiny.add_head(VALUE)
    ids, turn = rows_of([answer(tiny, user("x" * n)) for n in (1, 5)])
    for values in tiny.logps(ids, turn).values():
        assert not bool(values[turn < 0].any())


def test_padding_and_other_rows_change_no_score(tiny: Local) -> None:
    replies = [answer(tiny, user("x" * n)) for n in (1, 8)]
    together, wide = scored(tiny, replies), rows_of(replies)
    ids = torch.nn.functional.pad(wide[0], (0, 7), value=-1)
    turn = torch.nn.functional.pad(wide[1], (0, 7), value=-1)
    with torch.no_grad():
        padded = tiny.logps(ids, turn)["logp_NT"]
    for i, reply in enumerate(replies):
        assert torch.allclose(scored(tiny, [reply])[0], together[i], atol=1e-5)
        assert torch.allclose(padded[i][turn[i] >= 0], together[i], atol=1e-5)


def test_rows_without_model_tokens_score_nothing(tiny: Local) -> None:
    out = tiny.logps(torch.ones(2, 4, dtype=torch.long), torch.full((2, 4), -1))
    assert not bool(out["logp_NT"].any())


def test_the_entropy_of_a_uniform_model_is_the_logarithm_of_its_vocabulary(tiny: Local) -> None:
    with torch.no_grad():
        tiny.model.lm_head.weight.zero_()
    ids, turn = torch.tensor([[3, 4, 5]]), torch.tensor([[-1, 0, 0]])
    out = tiny.logps(ids, turn)
    expected = torch.tensor(float(len(tokenizer()))).log()
    assert torch.allclose(out["entropy_NT"][0, 1:], expected.expand(2))
    assert torch.allclose(out["logp_NT"][0, 1:], -expected.expand(2))


def test_the_gradient_of_a_score_is_its_slope(tiny: Local) -> None:
    """Central differences along the gradient of each weight, step h: (f(w + h d) - f(w - h d)) / 2h = |gradient|."""
    ids, turn = rows_of([answer(tiny, user("hello", max_tokens=5))])
    tiny.logps(ids, turn)["logp_NT"].sum().backward()
    step, checked = 3e-3, 0
    for name, weight in tiny.model.named_parameters():
        assert weight.grad is not None, name
        slope = float(weight.grad.norm())
        values = []
        with torch.no_grad():
            for sign in (1, -1):
                weight.add_(weight.grad / slope, alpha=sign * step)
                values.append(float(tiny.logps(ids, turn)["logp_NT"].double().sum()))
                weight.sub_(weight.grad / slope, alpha=sign * step)
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=0.02), name
        checked += 1
    assert checked == 21  # embedding, head, last norm, and nine weights in each of two layers


def test_bf16_products_keep_fp32_weights_and_nearly_the_scores() -> None:
    plain, fast = tiny_policy(), tiny_policy(autocast=True)
    reply = answer(plain, user("hello"))
    assert {p.dtype for p in fast.model.parameters()} == {torch.float32}
    assert torch.allclose(scored(plain, [reply])[0], scored(fast, [reply])[0], atol=0.3)


@pytest.mark.parametrize("form", ["products", "weights"])
def test_what_is_sampled_in_bf16_is_nearly_what_is_scored(form: str) -> None:
    """Decoding goes token by token and scoring in one pass: both round to 8 bits, at different places."""
    policy = tiny_policy(autocast=form == "products")
    if form == "weights":
        policy.model.to(torch.bfloat16)
    assert (policy.dtype is torch.bfloat16) == (form == "weights")
    assert policy.products is torch.bfloat16
    replies = policy.generate([user("x" * size, n=2, seed=size, temperature=1.0) for size in (1, 9, 30)])
    replies = [reply for group in replies for reply in group]
    for reply, learner in zip(replies, scored(policy, replies), strict=True):
        assert torch.allclose(torch.tensor(reply.logps), learner, atol=0.3)


# ---------------------------------------------------------------------------------------- value head, reference, adapter


def test_the_value_head_begins_at_zero_and_learns_alone(tiny: Local) -> None:
    ids, turn = rows_of([answer(tiny, user("x", max_tokens=4))])
    assert not tiny.values(ids.numpy(), turn.numpy()).any()
    head = tiny.heads["value"]
    tiny.add_head(VALUE)
    assert tiny.heads["value"] is head
    values = tiny.logps(ids, turn)["value_NT"]
    (values[turn >= 0] - 1).square().sum().backward()
    assert head is not None
    assert float(head.weight.grad.abs().sum()) > 0  # type: ignore[union-attr]
    assert all(p.grad is None or not bool(p.grad.any()) for p in tiny.model.parameters())
    assert len(tiny.parameters()) == len(list(tiny.model.parameters())) + 2


def test_values_are_the_heads_product_with_the_last_hidden_state(tiny: Local) -> None:
    """V of a token is read before the token is seen: from the hidden state of the token to its left."""
    ids, turn = rows_of([answer(tiny, user("x" * n, max_tokens=4)) for n in (1, 6)])
    tiny.add_head(VALUE)
    torch.nn.init.normal_(tiny.heads["value"].weight, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        hidden = tiny.model(input_ids=ids.clamp(min=0), output_hidden_states=True).hidden_states[-1]
        expected = tiny.heads["value"](hidden).squeeze(-1)[:, :-1]
    found = torch.from_numpy(tiny.values(ids.numpy(), turn.numpy())).float()
    mine = turn[:, 1:] >= 0
    assert torch.allclose(found[:, 1:][mine], expected[mine], atol=1e-5)


def test_reference_scores_stay_when_the_weights_move(tiny: Local) -> None:
    reply = answer(tiny, user("x"))
    ids, turn = rows_of([reply])
    with pytest.raises(RuntimeError, match="call keep_reference"):
        tiny.reference_logps(ids, turn)
    tiny.keep_reference()
    before = tiny.reference_logps(ids, turn)
    with torch.no_grad():
        tiny.model.lm_head.weight.add_(torch.randn_like(tiny.model.lm_head.weight))
    tiny.keep_reference()  # a second call keeps the first weights
    assert torch.equal(tiny.reference_logps(ids, turn), before)
    assert not torch.allclose(scored(tiny, [reply])[0], before[turn >= 0], atol=1e-2)


def adapted(tiny: Local) -> Local:
    tiny.add_adapter(lora_r=2)
    return moved(tiny)


def moved(tiny: Local) -> Local:
    with torch.no_grad():
        for name, p in tiny.model.named_parameters():
            if "lora_B" in name:
                p.copy_(torch.full_like(p, 0.3))
    return tiny


def test_an_adapter_begins_as_nothing_and_trains_alone(tiny: Local) -> None:
    reply = answer(tiny, user("x"))
    before = scored(tiny, [reply])[0]
    tiny.add_adapter(lora_r=2)
    assert torch.allclose(scored(tiny, [reply])[0], before, atol=1e-5)
    names = [n for n, p in tiny.model.named_parameters() if p.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
    assert len(tiny.parameters()) == len(names)


def test_the_reference_of_a_fresh_adapter_is_the_base(tiny: Local) -> None:
    reply = answer(tiny, user("x"))
    before, (ids, turn) = scored(tiny, [reply])[0], rows_of([reply])
    tiny.add_adapter(lora_r=2)
    tiny.keep_reference()
    moved(tiny)
    assert not torch.allclose(scored(tiny, [reply])[0], before, atol=1e-2)
    assert torch.allclose(tiny.reference_logps(ids, turn)[turn >= 0], before, atol=1e-5)
    assert not torch.allclose(scored(tiny, [reply])[0], before, atol=1e-2)  # and the adapter is on again


def test_an_adapter_is_saved_and_loaded_onto_its_base(tiny: Local, tmp_path: Path) -> None:
    tiny.save(tmp_path / "base")
    reply = answer(adapted(tiny), user("x"))
    expected = scored(tiny, [reply])[0]
    tiny.save(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    again = load(tmp_path / "base", adapter=tmp_path / "adapter")
    assert torch.allclose(scored(again, [reply])[0], expected, atol=1e-5)
    assert all("lora_" in n for n, p in again.model.named_parameters() if p.requires_grad)
    assert len(again.parameters()) == len(tiny.parameters())


# ------------------------------------------------------------------------------------------------------------- folders


def test_a_folder_loads_to_the_same_policy(tiny: Local, tmp_path: Path) -> None:
    tiny.save(tmp_path / "m")
    again = load(tmp_path / "m", max_tokens=12)
    ask = Ask((Message("system", "s"), Message("user", "\u00e9 hello")), tools=(NOTE,), max_tokens=9, seed=4)
    assert again.generate([ask]) == tiny.generate([ask])
    assert again.renderer == tiny.renderer
    kept = json.loads((tmp_path / "m" / "ferrule.json").read_text())
    assert kept["codec"] == "hermes"
    assert kept["options"]["shape"] == "tight"
    assert (tmp_path / "m" / "model.safetensors").is_file()
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, tiny.model.state_dict()[name]), name


@pytest.mark.parametrize("name", ["hermes", "tagged", "fence", "react", "raw_json"])
def test_every_codec_is_kept_in_the_folder(name: str, tmp_path: Path) -> None:
    policy = tiny_policy(codec_name=name)
    policy.save(tmp_path / "m")
    assert load(tmp_path / "m").renderer == policy.renderer


def test_a_folder_can_be_written_over(tiny: Local, tmp_path: Path) -> None:
    tiny.save(tmp_path)
    with torch.no_grad():
        tiny.model.lm_head.weight.zero_()
    tiny.save(tmp_path)
    assert not bool(load(tmp_path).model.lm_head.weight.any())


def test_wrong_loading_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown dtype 'fp16'"):
        load(tmp_path, dtype="fp16")
    with pytest.raises(TypeError, match="max_tokenz"):
        tiny_policy(max_tokenz=3)


def test_the_fast_type_is_measured() -> None:
    assert fast_dtype() in (torch.float32, torch.bfloat16)
    assert fast_dtype() is fast_dtype()


def test_stops_decide_on_what_was_sampled() -> None:
    stops = Stops(tokenizer(), frozenset({1}))
    ids = tokenizer()("ab", add_special_tokens=False)["input_ids"]

    def row(*sampled: int, stop: tuple[str, ...] = (), most: int = 9) -> Row:
        return Row((0,), most, 1.0, 0, stop, sampled=list(sampled))

    assert stops.check(row(*ids)) == ""
    assert stops.check(row(*ids, 1)) == "stop"
    assert stops.check(row(*ids, most=2)) == "length"
    assert stops.check(row(*ids, stop=("b",), most=2)) == "stop"


@pytest.mark.parametrize(
    ("text", "opened", "finish"),
    [
        ("<think>b", False, ""),
        ("a<think>b", False, ""),
        ("<think>b</think>b", False, "stop"),
        ("ab", True, ""),
        ("ab</think>", True, ""),
        ("ab</think>b", True, "stop"),
        ("ab", False, "stop"),
    ],
)
def test_stop_strings_end_a_reply_outside_thinking_only(text: str, opened: bool, finish: str) -> None:
    stops = Stops(tokenizer(), frozenset({1}))
    ids = tokenizer()(text, add_special_tokens=False)["input_ids"]
    assert stops.check(Row((0,), 99, 1.0, 0, ("b",), opened=opened, sampled=list(ids))) == finish


def test_weights_written_past_the_version_counter_are_seen(tiny: Local) -> None:
    """A fused optimiser or a write through ``.data`` counts nothing; what was cached for the old weights must go."""
    prompt = user("x" * 40, temperature=0.0, max_tokens=6)
    first = answer(tiny, prompt)
    for parameter in tiny.model.parameters():
        parameter.data.mul_(-0.7)
    fresh = tiny_policy()
    fresh.model.load_state_dict(tiny.model.state_dict())
    assert answer(tiny, prompt) == answer(fresh, prompt) != first
