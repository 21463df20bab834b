from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from tests.toys import tiny_policy

from ferrule.policies.heads import VALUE
from ferrule.policies.local import Local, load
from ferrule.train import checkpoint
from ferrule.train.tensors import index_of

pytestmark = pytest.mark.usefixtures("one_thread")


def adam(policy: Local) -> torch.optim.AdamW:
    return torch.optim.AdamW(policy.parameters(), lr=0.1)


def stepped(policy: Local, optimiser: Any, times: int = 2) -> None:
    for _ in range(times):
        policy.logps(torch.tensor([[3, 4, 5]]), torch.tensor([[-1, 0, 0]]))["logp_NT"].sum().backward()
        optimiser.step()
        optimiser.zero_grad()


def test_everything_comes_back(tiny: Local, tmp_path: Path) -> None:
    tiny.add_head(VALUE)
    optimiser = adam(tiny)
    stepped(tiny, optimiser)
    torch.manual_seed(5)
    checkpoint.write(tmp_path, 7, tiny, optimiser, {"position": 12, "given": ["x"]})
    drawn = torch.rand(3)
    other = tiny_policy(seed=1)
    other.add_head(VALUE)
    second = adam(other)
    state = checkpoint.read(tmp_path / "checkpoint-7", other, second)
    assert torch.equal(torch.rand(3), drawn)
    assert (state["step"], state["position"], state["given"]) == (7, 12, ["x"])
    for ours, theirs in zip(tiny.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    stepped(tiny, optimiser)
    stepped(other, second)
    for ours, theirs in zip(tiny.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_goes_on_with_its_own_number_of_threads(tiny: Local, tmp_path: Path) -> None:
    """Sums over many numbers are cut among the threads, so that their number is part of the result."""
    torch.set_num_threads(2)
    try:
        checkpoint.write(tmp_path, 1, tiny, adam(tiny), {})
        torch.set_num_threads(1)
        checkpoint.read(tmp_path / "checkpoint-1", tiny, adam(tiny))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_another_precision_is_refused(tiny: Local, tmp_path: Path) -> None:
    """``dtype="auto"`` measures what is faster, which may come out otherwise when the run is resumed."""
    tiny.autocast = True
    checkpoint.write(tmp_path, 1, tiny, adam(tiny), {})
    tiny.autocast = False
    with pytest.raises(
        ValueError, match="with dtype='float32', bf16=True and this policy with dtype='float32', bf16=False; load it"
    ):
        checkpoint.read(tmp_path / "checkpoint-1", tiny, adam(tiny))


def test_only_adapters_are_written_where_only_adapters_train(tiny: Local, tmp_path: Path) -> None:
    tiny.add_adapter(lora_r=2)
    optimiser = adam(tiny)
    stepped(tiny, optimiser)
    checkpoint.write(tmp_path, 1, tiny, optimiser, {})
    names = set(index_of(tmp_path / "checkpoint-1")) - {"random"}
    assert {name.split(".")[0] for name in names} == {"trained", "optimizer"}
    assert all("lora_" in name for name in names)


class Hostile:
    """Its pickle creates a file when it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


PICKLES = (
    ".metadata", "rng.pt", "optimizer.pt", "scheduler.pt", "training_args.bin", "pytorch_model.bin", "adapter_model.bin",
    "__0_0.distcp", "state.pkl", "heads.pt",
)  # fmt: skip


def poison(folder: Path, trace: Path) -> None:
    """Put a hostile pickle under every name that trainers have used for one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PICKLES:
        (folder / name).write_bytes(pickle.dumps(Hostile(trace)))


def test_a_hostile_pickle_does_what_it_says(tmp_path: Path) -> None:
    poison(tmp_path, tmp_path / "trace")
    pickle.loads((tmp_path / "rng.pt").read_bytes())
    assert (tmp_path / "trace").exists()


def test_reading_a_checkpoint_or_a_model_unpickles_nothing(tiny: Local, tmp_path: Path) -> None:
    optimiser, trace = adam(tiny), tmp_path / "trace"
    stepped(tiny, optimiser)
    checkpoint.write(tmp_path / "run", 1, tiny, optimiser, {})
    tiny.save(tmp_path / "model")
    poison(tmp_path / "run/checkpoint-1", trace)
    poison(tmp_path / "model", trace)
    checkpoint.read(tmp_path / "run/checkpoint-1", tiny, optimiser)
    load(tmp_path / "model")
    adapted = tiny_policy()
    adapted.add_adapter(lora_r=2)
    adapted.save(tmp_path / "adapter")
    poison(tmp_path / "adapter", trace)
    load(tmp_path / "model", adapter=tmp_path / "adapter")
    assert not trace.exists()


@pytest.mark.parametrize("what", ["model", "adapter"])
def test_weights_that_are_only_there_as_pickles_are_refused(what: str, tiny: Local, tmp_path: Path) -> None:
    tiny.save(tmp_path / "model")
    tiny.add_adapter(lora_r=2)
    tiny.save(tmp_path / "adapter")
    for file in (tmp_path / what).glob("*.safetensors"):
        file.unlink()
    poison(tmp_path / what, tmp_path / "trace")
    with pytest.raises((OSError, ValueError), match="safetensors"):
        load(tmp_path / "model", adapter=tmp_path / "adapter")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["index.json", "weights-0.safetensors"])
def test_a_damaged_checkpoint_is_refused_and_runs_nothing(name: str, tiny: Local, tmp_path: Path) -> None:
    optimiser = adam(tiny)
    checkpoint.write(tmp_path, 1, tiny, optimiser, {})
    (tmp_path / "checkpoint-1" / name).write_bytes(pickle.dumps(Hostile(tmp_path / "trace")))
    with pytest.raises((ValueError, SafetensorError)):
        checkpoint.read(tmp_path / "checkpoint-1", tiny, optimiser)
    assert not (tmp_path / "trace").exists()


def test_an_index_may_not_point_out_of_its_folder(tiny: Local, tmp_path: Path) -> None:
    optimiser = adam(tiny)
    checkpoint.write(tmp_path, 1, tiny, optimiser, {})
    index = tmp_path / "checkpoint-1/index.json"
    index.write_text(index.read_text().replace("weights-0", "../weights-0"))
    with pytest.raises(ValueError, match="outside the folder"):
        checkpoint.read(tmp_path / "checkpoint-1", tiny, optimiser)


def test_another_model_is_refused(tiny: Local, tmp_path: Path) -> None:
    checkpoint.write(tmp_path, 1, tiny, adam(tiny), {})
    other = tiny_policy()
    other.add_head(VALUE)
    with pytest.raises(ValueError, match=r"does not fit.*heads\.value\.bias"):
        checkpoint.read(tmp_path / "checkpoint-1", other, adam(other))


def test_weights_of_another_size_are_refused(tiny: Local, tmp_path: Path) -> None:
    from tests.toys import layout, tiny_model, tokenizer

    checkpoint.write(tmp_path, 1, tiny, adam(tiny), {})
    other = Local(tiny_model(hidden_size=16), tokenizer(), layout())
    with pytest.raises(ValueError, match="does not fit"):
        checkpoint.read(tmp_path / "checkpoint-1", other, adam(other))


def test_the_newest_ones_are_kept(tiny: Local, tmp_path: Path) -> None:
    for step in (2, 9, 10, 100):
        checkpoint.write(tmp_path, step, tiny, adam(tiny), {}, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-100"]
    assert checkpoint.latest(tmp_path) == tmp_path / "checkpoint-100"


def test_other_things_in_the_folder_are_left_alone(tiny: Local, tmp_path: Path) -> None:
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-5").write_text("a file")
    (tmp_path / ".checkpoint-99.part").mkdir()
    assert checkpoint.latest(tmp_path) is None
    for step in (1, 2, 3):
        checkpoint.write(tmp_path, step, tiny, adam(tiny), {}, keep=1)
    assert checkpoint.latest(tmp_path) == tmp_path / "checkpoint-3"
    assert (tmp_path / "checkpoint-best").is_dir()
    assert (tmp_path / "checkpoint-5").is_file()


def test_a_checkpoint_appears_whole_or_not_at_all(tiny: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    checkpoint.write(tmp_path, 1, tiny, adam(tiny), {})
    monkeypatch.setattr(checkpoint.json, "dumps", dying)  # all but the last file is there
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(tmp_path, 2, tiny, adam(tiny), {})
    assert checkpoint.latest(tmp_path) == tmp_path / "checkpoint-1"
    monkeypatch.undo()
    checkpoint.write(tmp_path, 2, tiny, adam(tiny), {})
    assert checkpoint.latest(tmp_path) == tmp_path / "checkpoint-2"


def test_files_are_cut_back_to_where_they_were(tiny: Local, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("one\n")
    checkpoint.write(tmp_path, 1, tiny, adam(tiny), {}, logs=("a.jsonl", "b.jsonl"))
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("two\nthr")
    (tmp_path / "b.jsonl").write_text("new\n")
    state = json.loads((tmp_path / "checkpoint-1" / "state.json").read_text())
    checkpoint.restore_files(tmp_path, state)
    assert (tmp_path / "a.jsonl").read_text() == "one\n"
    assert (tmp_path / "b.jsonl").read_text() == ""
