"""New tokens beside a model: what they change, that they alone are trained, and that they are saved with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toys import layout, tiny_model, tiny_policy, tokenizer

from ferrule.core.flows import Ask
from ferrule.core.records import Message
from ferrule.data.formats import Row
from ferrule.policies.local import Local, load
from ferrule.policies.packing.packed import packed_logps, padded_logps, why_padded
from ferrule.policies.vllm.weights import write
from ferrule.policies.vocab import new_rows, without_tokens
from ferrule.train import checkpoint
from ferrule.train.settings import Settings
from ferrule.train.stage import fit, sft

pytestmark = pytest.mark.usefixtures("one_thread")

NEW = ("<add>", "<search>")
IDS = torch.tensor([[5, 6, 7, 8, 9, 4], [5, 6, 7, 8, 3, 4]])
QUESTION = (Message("user", "2 + 2?"),)


def policy(tied: bool = False, **settings: Any) -> Local:
    return Local(tiny_model(tie_word_embeddings=tied), tokenizer(), layout(), **{"max_tokens": 12, **settings})


def logits(one: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return one.model(input_ids=ids).logits  # type: ignore[no-any-return]


def drawn(one: Any, scale: float = 1.0) -> None:
    with torch.no_grad():
        for seed, rows in enumerate(new_rows(one.model).values()):
            rows.copy_(scale * torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("tied", [False, True])
def test_the_model_stays_as_it_is_and_gets_two_more_logits(tied: bool) -> None:
    one, plain = policy(tied), policy(tied)
    one.add_tokens(NEW)
    size = plain.model.config.vocab_size
    got = logits(one, IDS)
    assert got.shape[-1] == size + 2
    assert torch.equal(got[..., :size], logits(plain, IDS))
    assert list(new_rows(one.model)) == (["input"] if tied else ["input", "output"])
    assert len(plain.tokenizer) + 2 == len(one.tokenizer)  # the tokenizer that was given is left alone


def test_a_new_token_is_one_id_and_begins_as_the_mean_of_what_its_text_was() -> None:
    one, plain = policy(), policy()
    pieces = plain.encode("<add>")
    assert len(pieces) > 1
    one.add_tokens(NEW)
    (place,) = one.encode("<add>")
    assert one.stops.text([place]) == "<add>"
    mean = plain.model.get_input_embeddings().weight.detach()[pieces].mean(0)
    at = torch.tensor([[place]])
    assert torch.allclose(one.model.get_input_embeddings()(at)[0, 0], mean, atol=1e-6)
    mean = plain.model.get_output_embeddings().weight.detach()[pieces].mean(0)
    assert torch.allclose(new_rows(one.model)["output"][0], mean, atol=1e-6)


@pytest.mark.parametrize("engine", ["kernels", "paged", "whole"])
def test_every_engine_writes_new_tokens_with_the_learners_log_probs(engine: str) -> None:
    """With large rows new tokens are common among 2 * 24 drawn ones; they are read back as their texts."""
    one = policy(engine=engine, max_tokens=24)
    one.generate([Ask(QUESTION)])  # an engine that was built before knows of them too
    one.add_tokens(NEW)
    drawn(one, 4.0)
    ((first, second),) = one.generate([Ask(QUESTION, n=2, seed=3)])
    places = set(one.encode("<add><search>"))
    assert places & {*first.sampled, *second.sampled}
    for reply in (first, second):
        ids = torch.tensor([[*reply.given, *reply.sampled]])
        turn = torch.full_like(ids, -1)
        turn[:, len(reply.given) :] = 0
        assert one.scores(ids.numpy(), turn.numpy())[0, len(reply.given) :] == pytest.approx(reply.logps, abs=1e-3)


def test_rows_that_learned_are_what_the_engine_decodes_with() -> None:
    one = policy(engine="kernels", temperature=0.0)
    one.add_tokens(NEW)
    (place, _) = one.encode("<add><search>")
    assert place not in one.generate([Ask(QUESTION)])[0][0].sampled
    ids = torch.tensor([one.prompt_ids(Ask(QUESTION))])
    with torch.no_grad():
        new_rows(one.model)["output"][0] = 100 * one.hidden(ids)[0, -1]  # the logit of <add> is 100 |hidden|^2
    assert one.generate([Ask(QUESTION)])[0][0].sampled[0] == place


@pytest.mark.parametrize("tied", [False, True])
def test_packed_and_padded_log_probs_and_gradients_agree(tied: bool) -> None:
    one = policy(tied)
    one.add_tokens(NEW)
    drawn(one)
    assert why_padded(one.model) == ""
    ids = torch.tensor([[5, 6, *one.encode("<add>"), 7], [5, 6, 8, *one.encode("<search>")]])
    turn = torch.tensor([[-1, 0, 0, 0]] * 2)
    gradients = []
    for score in (packed_logps, padded_logps):
        result = score(one.model, ids, turn)["logp_NT"]
        gradients.append(torch.autograd.grad(result.sum(), one.parameters()))
    assert len(gradients[0]) == (1 if tied else 2)
    assert all(bool(g.any()) and torch.allclose(g, same, atol=1e-4) for g, same in zip(*gradients, strict=True))


def shown(one: Any) -> list[Row]:
    """After two numbers comes <add>, after two letters <search>."""
    texts = [f"{a}{b}<add>" for a in "135" for b in "24"] + [f"{a}{b}<search>" for a in "xyz" for b in "ab"]
    return [Row(tuple(one.encode(text)), (-1, -1, 0)) for text in texts]


def test_supervised_learning_trains_the_rows_alone() -> None:
    one, plain = policy(), policy()
    one.add_tokens(NEW)
    rows = shown(one)
    settings = Settings(max_steps=60, learning_rate=0.1, per_device_train_batch_size=len(rows))
    losses = fit(one, sft(rows), settings)
    assert losses[-1] < 0.1 < 1.0 < losses[0]
    with without_tokens(one.model):
        theirs = dict(plain.model.named_parameters())
        assert all(torch.equal(p, theirs[name]) for name, p in one.model.named_parameters())
        assert torch.equal(logits(one, IDS), logits(plain, IDS))
    (place, _) = one.encode("<add><search>")
    assert int(logits(one, torch.tensor([one.encode("32")]))[0, -1].argmax()) == place


def test_a_model_with_more_rows_than_tokens_gives_up_the_spare_ones() -> None:
    """Spare rows of a padded vocabulary stand where the new tokens' ids are: those logits are the new rows'."""
    size = len(tokenizer())
    one = Local(tiny_model(vocab_size=size + 5), tokenizer(), layout())
    before = logits(one, IDS)
    one.add_tokens(NEW)
    drawn(one)
    after = logits(one, IDS)
    assert after.shape[-1] == size + 5
    same = [i for i in range(size + 5) if i not in (size, size + 1)]
    assert torch.equal(after[..., same], before[..., same])
    assert not torch.allclose(after[..., size], before[..., size])


@pytest.mark.parametrize("tied", [False, True])
def test_tokens_are_saved_and_loaded_beside_a_model_that_is_as_before(tied: bool, tmp_path: Path) -> None:
    one = policy(tied)
    one.save(tmp_path / "before")
    one.add_tokens(NEW)
    drawn(one)
    one.save(tmp_path / "after")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("before", "after")]
    assert weights[0] == weights[1]
    other = load(tmp_path / "after")
    assert other.tokens == NEW
    assert other.encode("a<search>") == one.encode("a<search>")
    assert torch.equal(
        logits(other, torch.tensor([one.encode("a<add>b")])), logits(one, torch.tensor([one.encode("a<add>b")]))
    )
    assert [p.shape for p in other.parameters()] == [p.shape for p in one.parameters()]
    assert load(tmp_path / "before").tokens == ()


def test_tokens_are_part_of_a_checkpoint(tmp_path: Path) -> None:
    one, other = policy(), policy()
    for each in (one, other):
        each.add_tokens(NEW)
    drawn(one)
    checkpoint.write(tmp_path, 1, one, torch.optim.SGD(one.parameters(), lr=0.1), {})
    checkpoint.read(tmp_path / "checkpoint-1", other, torch.optim.SGD(other.parameters(), lr=0.1))
    assert torch.equal(logits(other, IDS), logits(one, IDS))
    plain = policy()
    with pytest.raises(ValueError, match="does not fit this model"):
        checkpoint.read(tmp_path / "checkpoint-1", plain, torch.optim.SGD(plain.parameters(), lr=0.1))


def test_an_adapter_and_new_tokens_train_side_by_side(tmp_path: Path) -> None:
    one = policy()
    one.save(tmp_path / "model")
    one.add_tokens(NEW)
    one.add_adapter(lora_r=2)
    names = {name for name, p in one.model.named_parameters() if p.requires_grad}
    assert sum(name.endswith(".rows") for name in names) == 2
    assert not any("lm_head" in name and "lora" in name for name in names)
    one.keep_reference()
    turn = torch.zeros_like(IDS)
    before = one.reference_logps(IDS, turn)
    drawn(one)
    assert torch.equal(one.reference_logps(IDS, turn), before)
    assert not torch.allclose(one.logps(IDS, turn)["logp_NT"], before)
    one.save(tmp_path / "adapter")
    other = load(tmp_path / "model", adapter=tmp_path / "adapter")
    assert torch.equal(logits(other, IDS), logits(one, IDS))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ((), "an empty list"),
        (("<a>", "<a>"), "each once"),
        ((" ",), "texts that are no tokens yet"),
        (("a",), r"not \['a'\]"),
    ],
)
def test_tokens_that_cannot_be_are_refused(tokens: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy().add_tokens(tokens)


def test_the_same_tokens_again_do_nothing_and_others_are_refused() -> None:
    one = tiny_policy()
    one.add_tokens(NEW)
    before = one.model.get_output_embeddings()
    one.add_tokens(list(NEW))
    assert one.model.get_output_embeddings() is before
    with pytest.raises(ValueError, match=r"has new tokens already: <add>, <search>; add all of them at once"):
        one.add_tokens(["<other>"])


def test_an_engine_of_its_own_does_not_get_a_model_without_its_tokens(tmp_path: Path) -> None:
    one = policy()
    one.add_tokens(NEW)
    with pytest.raises(ValueError, match="only the local engine decodes"):
        write(one.model, tmp_path)
