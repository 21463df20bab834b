"""Heads beside a model: what they read, what learns with them, and that they are saved and loaded with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.toys import tiny_policy

from ferrule.core.flows import Ask
from ferrule.core.powers import require
from ferrule.core.records import Message
from ferrule.data.formats import Pair, Row
from ferrule.policies.heads import REWARD, VALUE, Head, head_values, key_of, turn_values
from ferrule.policies.local import load
from ferrule.policies.scripted import Scripted
from ferrule.train import checkpoint
from ferrule.train.check import check
from ferrule.train.settings import Settings
from ferrule.train.stage import fit, probe, reward_model

pytestmark = pytest.mark.usefixtures("one_thread")

IDS = torch.tensor([[5, 6, 7, 8, 9, -1], [5, 6, 7, -1, -1, -1], [5, 6, 7, 8, 9, 4]])
TURN = torch.tensor([[-1, -1, 0, 0, -1, -1], [-1, -1, -1, -1, -1, -1], [-1, 0, -1, 1, 1, 1]])


def drawn(policy: Any, name: str) -> Any:
    layer = policy.heads[name]
    torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
    torch.nn.init.constant_(layer.bias, 0.5)
    return layer


@pytest.mark.parametrize("depth", [-1, 0, 1])
def test_a_head_per_row_reads_the_last_token_that_the_model_wrote(depth: int, tiny: Any) -> None:
    """Columns 3 and 5; a row without any token of the model gets 0."""
    tiny.add_head(Head("probe", "row", depth))
    layer = drawn(tiny, "probe")
    with torch.no_grad():
        states = tiny.model(input_ids=IDS.clamp(min=0), output_hidden_states=True).hidden_states[depth]
        expected = [float(layer(states[0, 3])), 0.0, float(layer(states[2, 5]))]
    assert head_values(tiny, "probe", IDS, TURN).tolist() == pytest.approx(expected, abs=1e-5)


def test_padding_and_later_observations_do_not_change_what_a_row_is_worth(tiny: Any) -> None:
    tiny.add_head(REWARD)
    drawn(tiny, "reward")
    (alone,) = head_values(tiny, "reward", IDS[:1, :4], TURN[:1, :4]).tolist()
    assert alone == pytest.approx(head_values(tiny, "reward", IDS, TURN).tolist()[0], abs=1e-5)


def test_what_a_head_says_of_a_turn_is_what_it_says_of_the_row_that_ends_there(tiny: Any) -> None:
    """Turn 0 of the last row is its second token alone; the second row has no turn, the first no second one."""
    tiny.add_head(REWARD)
    drawn(tiny, "reward")
    said = turn_values(tiny, "reward", IDS, TURN).tolist()
    (early,) = head_values(tiny, "reward", IDS[2:, :2], TURN[2:, :2]).tolist()
    first, _, last = head_values(tiny, "reward", IDS, TURN).tolist()
    assert [said[0][0], *said[2]] == pytest.approx([first, early, last], abs=1e-5)
    assert np.isnan([said[0][1], *said[1]]).all()
    tiny.add_head(Head("gate", "token"))
    with pytest.raises(ValueError, match="the head 'gate' reads 'token'; only one per 'row'"):
        turn_values(tiny, "gate", IDS, TURN)


def test_a_head_per_token_reads_the_state_at_the_token(tiny: Any) -> None:
    tiny.add_head(Head("gate", "token", 1))
    layer = drawn(tiny, "gate")
    states = tiny.model(input_ids=IDS.clamp(min=0), output_hidden_states=True).hidden_states[1]
    expected = torch.where(TURN >= 0, layer(states).squeeze(-1), 0.0)
    assert torch.allclose(head_values(tiny, "gate", IDS, TURN), expected, atol=1e-5)


@pytest.mark.parametrize("through", [False, True])
def test_gradients_reach_the_model_only_through_a_head_that_lets_them(through: bool, tiny: Any) -> None:
    tiny.add_head(Head("probe", "row", through=through))
    drawn(tiny, "probe")
    torch.autograd.backward(head_values(tiny, "probe", IDS, TURN).sum())
    assert any(p.grad is not None and bool(p.grad.any()) for p in tiny.model.parameters()) is through
    assert bool(tiny.heads["probe"].weight.grad.any())


def test_heads_are_saved_and_loaded_with_the_model(tiny: Any, tmp_path: Path) -> None:
    for head in (VALUE, REWARD, Head("gate", "token", 1)):
        tiny.add_head(head)
        drawn(tiny, head.name)
    tiny.save(tmp_path)
    other = load(tmp_path)
    assert other.head_kinds == tiny.head_kinds
    for name in tiny.head_kinds:
        assert torch.equal(head_values(other, name, IDS, TURN), head_values(tiny, name, IDS, TURN))
    assert np.array_equal(other.values(IDS.numpy(), TURN.numpy()), tiny.values(IDS.numpy(), TURN.numpy()))


def test_heads_are_saved_with_an_adapter(tiny: Any, tmp_path: Path) -> None:
    tiny.save(tmp_path / "model")
    tiny.add_adapter(lora_r=2)
    tiny.add_head(REWARD)
    drawn(tiny, "reward")
    tiny.save(tmp_path / "adapter")
    other = load(tmp_path / "model", adapter=tmp_path / "adapter")
    assert torch.equal(other.heads["reward"].weight, tiny.heads["reward"].weight)


def test_a_model_without_heads_leaves_no_files(tiny: Any, tmp_path: Path) -> None:
    tiny.save(tmp_path)
    assert not list(tmp_path.glob("heads*"))
    assert not load(tmp_path).heads


def test_heads_are_part_of_a_checkpoint(tiny: Any, tmp_path: Path) -> None:
    tiny.add_head(REWARD)
    drawn(tiny, "reward")
    checkpoint.write(tmp_path, 1, tiny, torch.optim.SGD(tiny.parameters(), lr=0.1), {})
    other = tiny_policy()
    other.add_head(REWARD)
    checkpoint.read(tmp_path / "checkpoint-1", other, torch.optim.SGD(other.parameters(), lr=0.1))
    assert torch.equal(other.heads["reward"].weight, tiny.heads["reward"].weight)


def test_an_ask_may_want_what_heads_say_of_its_reply(tiny: Any) -> None:
    """A gate at an inner layer says a number per sampled token, a probe one per reply: what ``head_values`` says of the ids."""
    tiny.add_head(Head("gate", "token", 1))
    tiny.add_head(Head("probe", "row"))
    for name in ("gate", "probe"):
        drawn(tiny, name)
    ask = Ask((Message("user", "2 + 2?"),), n=2, seed=4, want=("head:gate", "head:probe"))
    ((one, other),) = tiny.generate([ask])
    for reply in (one, other):
        ids = torch.tensor([[*reply.given, *reply.sampled]])
        turn = torch.full_like(ids, -1)
        turn[:, len(reply.given) :] = 0
        with torch.no_grad():
            gate, probe = head_values(tiny, "gate", ids, turn)[0], head_values(tiny, "probe", ids, turn)[0]
        assert reply.extras["head:gate"] == pytest.approx(gate[len(reply.given) :].tolist(), abs=1e-4)
        assert len(reply.extras["head:gate"]) == len(reply.sampled)
        assert reply.extras["head:probe"] == pytest.approx(float(probe), abs=1e-4)
    assert len({*one.extras["head:gate"], *other.extras["head:gate"]}) > 2
    ((plain, _),) = tiny.generate([replace(ask, want=())])
    assert (plain.sampled, dict(plain.extras)) == (one.sampled, {})


def test_a_head_that_an_ask_wants_and_nobody_has_is_refused(tiny: Any) -> None:
    tiny.add_head(Head("gate", "token", 1))
    with pytest.raises(ValueError, match=r"no head 'gates'; did you mean 'gate'\?"):
        tiny.generate([Ask((Message("user", "?"),), want=("head:gates",))])
    with pytest.raises(ValueError, match=r"cannot tell what its heads say \(Ask.want 'head:NAME'\)"):
        require(Scripted(["x"]), [Ask((Message("user", "?"),), want=("head:gate",))])


def row(*ids: int, label: bool = True) -> Row:
    return Row((3, 4, *ids), (-1, -1, *[0] * len(ids)), label)


def settings(**changes: Any) -> Settings:
    return Settings(**{"max_steps": 25, "learning_rate": 3e-2, "per_device_train_batch_size": 4, **changes})


def says(policy: Any, rows: list[Row], name: str) -> list[float]:
    with torch.no_grad():
        return [float(head_values(policy, name, torch.tensor([r.ids]), torch.tensor([r.turn]))) for r in rows]


def test_a_reward_model_learns_what_is_preferred(tiny: Any) -> None:
    """At zero weights the loss of a pair is log 2; afterwards what was never seen is ranked by its last token."""
    pairs = [Pair(row(k, 40), row(k, 50)) for k in range(60, 76)]
    losses = fit(tiny, reward_model(pairs), settings(learning_rate=3e-3))
    assert losses[0] == pytest.approx(0.6931, abs=1e-4)
    assert losses[-1] < 0.1
    good, bad = says(tiny, [row(k, 40) for k in range(80, 90)], "reward"), says(tiny, [row(80, 50)], "reward")
    assert min(good) > max(bad)


def test_a_probe_tells_labels_apart_and_leaves_the_model_as_it_was(tiny: Any) -> None:
    rows = [row(k, 40 if k % 2 else 50, label=bool(k % 2)) for k in range(60, 76)]
    before = [p.detach().clone() for p in tiny.model.parameters()]
    losses = fit(tiny, probe(rows, layer=0), settings(max_steps=60, learning_rate=0.3))
    assert losses[0] == pytest.approx(0.6931, abs=1e-4)
    assert losses[-1] < 0.2
    assert all(torch.equal(p, was) for p, was in zip(tiny.model.parameters(), before, strict=True))
    assert says(tiny, [row(99, 40)], "probe")[0] > 0 > says(tiny, [row(99, 50)], "probe")[0]


def test_shuffled_labels_teach_a_probe_nothing_new(tiny: Any) -> None:
    """The control: rows that are alike where the probe reads, with both labels, keep the loss at log 2."""
    rows = [row(60, 40, label=bool(k % 2)) for k in range(16)]
    losses = fit(tiny, probe(rows, layer=0), settings(per_device_train_batch_size=16, learning_rate=0.1))
    assert min(losses) == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a-b"}, "must be an identifier"),
        ({"at": "rows"}, r"did you mean 'row'\?"),
        ({"at": "before"}, r"only the critic reads before the token, as Head\('value', 'before'\)"),
        ({"name": "value"}, "only the critic"),
    ],
)
def test_heads_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Head(**{"name": "probe", **changes})


def test_names_of_heads_are_told(tiny: Any) -> None:
    assert [key_of(head) for head in (VALUE, REWARD, Head("gate", "token"))] == ["value_NT", "reward_N", "gate_NT"]
    tiny.add_head(REWARD)
    with pytest.raises(ValueError, match=r"no head 'rewards'; did you mean 'reward'\?"):
        head_values(tiny, "rewards", IDS, TURN)
    with pytest.raises(ValueError, match="has another head 'reward'"):
        tiny.add_head(Head("reward", "token"))


def test_a_head_that_no_objective_reads_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Stage\.heads names 'gate', which would do nothing.*no gate_NT"):
        check(replace(probe([row(5)]), heads=(Head("probe"), Head("gate", "token"))), settings())
    with pytest.raises(ValueError, match="reads 'probe_N', which this stage does not provide"):
        check(replace(probe([row(5)]), heads=()), settings())
