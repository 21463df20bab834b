"""A folder of somebody else is data: no way of loading one runs what lies in it."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tests.toys import WORLDS, tiny_policy
from tests.train.pieces import recipe

from ferrule.cli import main
from ferrule.core.recipe import Drawn
from ferrule.data.formats import Row
from ferrule.policies import local, named
from ferrule.policies.heads import load_heads
from ferrule.policies.vocab import load_tokens
from ferrule.rollout.record import load as episodes_of
from ferrule.tools.search import read_corpus
from ferrule.train import kept, tensors
from ferrule.train.loop import train
from ferrule.train.settings import Settings
from ferrule.view.report import write_report
from ferrule.worlds.cassette import Cassette
from ferrule.worlds.files import read as read_rows

PICKLES = (
    "pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin", "optimizer.pt", "optimizer.bin",
    "scheduler.pt", "rng_state.pth", "training_args.bin", ".metadata", "__0_0.distcp", "state.pt", "state.pkl",
    "model.pt", "model.pkl", "tokenizer.pkl", "vocab.pkl", "data.pkl", "heads.pt", "tokens.pt", "index.pkl",
)  # fmt: skip
"""Names under which one library or another looks for a pickle."""


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.marker,)


def test_the_bomb_goes_off(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "went off")))
    assert (tmp_path / "went off").is_dir()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with everything that a run may leave: checkpoint, model, adapter, episodes, rows."""
    folder = tmp_path_factory.mktemp("made") / "run"
    settings = Settings(max_steps=1, per_device_train_batch_size=8, gradient_accumulation_steps=1, save_steps=1)
    train(recipe(), WORLDS["apis"], tiny_policy(), settings, folder)
    adapted = tiny_policy()
    adapted.add_adapter(lora_r=2, seed=1)
    adapted.save(folder / "adapter")
    shutil.copytree(folder / "checkpoint-1", folder / "starts" / "part-1")
    kept.keep(folder / "data" / "part-0.safetensors", Drawn((Row((1, 2), (-1, 0)),)))
    (folder / "corpus.jsonl").write_text('{"title": "a", "text": "b"}\n')
    Cassette(folder / "cassette.jsonl", "record").close()
    return folder


def _weights(folder: Path) -> None:
    entries = tensors.index_of(folder)
    tensors.read_tensors(folder, {name: torch.zeros(entry.shape) for name, entry in entries.items() if entry.shape})


def _resumed(folder: Path) -> None:
    settings = Settings(max_steps=2, per_device_train_batch_size=8, gradient_accumulation_steps=1, save_steps=1)
    train(recipe(), WORLDS["apis"], tiny_policy(), settings, folder, resume=True)


PATHS: dict[str, Callable[[Path], object]] = {
    "a model": lambda folder: local.load(folder / "model"),
    "a model by name": lambda folder: named.answering(str(folder / "model")),
    "an adapter": lambda folder: local.load(folder / "model", adapter=folder / "adapter"),
    "heads": lambda folder: load_heads(tiny_policy(), folder / "model"),
    "tokens": lambda folder: load_tokens(tiny_policy(), folder / "model"),
    "resume": _resumed,
    "weights of a part": lambda folder: _weights(folder / "starts" / "part-1"),
    "rows of a stage": lambda folder: kept.kept(folder / "data" / "part-0.safetensors"),
    "episodes": lambda folder: list(episodes_of(folder / "episodes.jsonl")),
    "the report": write_report,
    "a cassette": lambda folder: Cassette(folder / "cassette.jsonl", "replay"),
    "a data set": lambda folder: read_rows(folder / "episodes.jsonl"),
    "a corpus": lambda folder: read_corpus(folder / "corpus.jsonl"),
}


@pytest.mark.parametrize("path", PATHS)
def test_every_way_of_loading_works(path: str, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "run")
    PATHS[path](tmp_path / "run")


def _beside(folder: Path, bomb: bytes) -> None:
    """Pickles lie beside the files of every folder."""
    for place in (folder, *(each for each in folder.rglob("*") if each.is_dir())):
        for name in PICKLES:
            (place / name).write_bytes(bomb)


def _instead(folder: Path, bomb: bytes) -> None:
    """Tensors, settings and logs are pickles, too; safetensors are missing for good where they are looked for first."""
    _beside(folder, bomb)
    for path in [each for each in folder.rglob("*") if each.suffix in (".safetensors", ".jsonl")]:
        path.write_bytes(bomb)


def _without(folder: Path, bomb: bytes) -> None:
    """There are no safetensors, so that a pickle is all there is."""
    _beside(folder, bomb)
    for path in folder.rglob("*.safetensors"):
        path.unlink()


@pytest.mark.parametrize("poison", [_beside, _instead, _without], ids=["beside", "instead", "without"])
@pytest.mark.parametrize("path", PATHS)
def test_no_way_of_loading_unpickles_anything(path: str, poison: Any, made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    poison(folder, pickle.dumps(Bomb(tmp_path / "went off")))
    with contextlib.suppress(Exception):  # what it refuses, and how, is the subject of other tests
        PATHS[path](folder)
    assert not (tmp_path / "went off").exists()


@pytest.fixture
def evil(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A model that brings code along, and the file that its code makes."""
    folder, marker = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(made / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class Config(LlamaConfig):\n    model_type = 'evil'\n"
        "class Model(LlamaForCausalLM):\n    config_class = Config\n"
    )
    return folder, marker


def test_code_of_a_model_runs_only_where_it_is_allowed(evil: tuple[Path, Path]) -> None:
    folder, marker = evil
    with pytest.raises(ValueError, match="trust_remote_code"):
        local.load(folder)
    assert not marker.exists()
    with pytest.warns(UserWarning, match="run with your rights"):
        local.load(folder, trust_remote_code=True)
    assert marker.exists()


def test_the_command_line_runs_code_of_a_model_only_where_it_is_told(evil: tuple[Path, Path]) -> None:
    folder, marker = evil
    command = ["eval", "apis", "--model", str(folder), "--eval-tasks", "1", "--max-completion-length", "4"]
    command += ["--codec", "hermes"]  # another codec than its own takes transformers to load it
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 2
    assert "trust_remote_code" in refused.output
    assert not marker.exists()
    with pytest.warns(UserWarning, match="run with your rights"):
        CliRunner().invoke(main, [*command, "--trust-remote-code"])
    assert marker.exists()
