"""Build a pocket model from nothing: tokenizer, rows, wiring, training; seeded, and resumable where it was killed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ferrule.policies.local import Local
from ferrule.policies.models import home
from ferrule.policies.pocket.corpus import FAMILIES, conversation
from ferrule.policies.pocket.forms import layout
from ferrule.policies.pocket.net import Net, Shape
from ferrule.policies.pocket.rows import Corpus, Rows, prepare, read_tokenizer, text_of
from ferrule.policies.pocket.tokenizer import tokenizer_for
from ferrule.policies.pocket.training import Schedule, Trainer
from ferrule.policies.pocket.wiring import wire
from ferrule.policies.precision import fast_dtype

__all__ = ["PRESETS", "Build", "build", "state_folder"]

Say = Callable[[str], None]
Jobs = list[tuple[int, int, str, str | None]]


@dataclass(frozen=True)
class Build:
    """Settings of a build; sizes in units, ``tokens`` per optimiser step, rates per step.

    ``slot`` is the width of a code in the wiring, ``held_out`` the conversations per family that measure the curve.
    Conversations that do not fit into ``max_position_embeddings`` tokens are left out.
    """

    seed: int = 0
    conversations: int = 115_000
    held_out: int = 48
    max_steps: int = 19_000
    tokens: int = 4_096
    vocab_size: int = 768
    hidden_size: int = 256
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    intermediate_size: int = 512
    rope_theta: float = 1e6
    max_position_embeddings: int = 2_048
    slot: int = 48
    learning_rate: float = 3e-3
    warmup_steps: int = 300
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0
    given_weight: float = 0.1


PRESETS: Mapping[str, Build] = {
    "pocket": Build(),
    "pocket-s": Build(
        conversations=30_000,
        max_steps=4_000,
        hidden_size=160,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=320,
        slot=32,
    ),
}
"""Settings of the models that ``ferrule models build`` knows: some 3.7 and 1.0 million parameters."""
_TEXTS = 6_000
"""Conversations that the tokenizer learns from."""
_SEEDS = 10_000_000
"""Seeds of conversations that belong to one seed of a build."""


def state_folder(settings: Build) -> Path:
    """Return where the state of a build lies: in the user's cache folder, one folder per settings and sources."""
    digest = hashlib.blake2b(json.dumps([asdict(settings), _sources()]).encode(), digest_size=6).hexdigest()
    return home().parent / "builds" / digest


def build(
    folder: Path,
    settings: Build | None = None,
    *,
    threads: int | None = None,
    fresh: bool = False,
    corpus: Corpus | None = None,
    state: Path | None = None,
    say: Say = lambda line: None,
    save_seconds: float = 120.0,
) -> dict[str, Any]:
    """Build a model into ``folder`` and return the report that ``build.json`` there holds.

    A build that was killed goes on from its last state, to the same weights on the same machine; ``fresh`` begins anew
    instead. ``threads`` is PyTorch's number of threads where the build begins. ``corpus`` and ``state`` replace the
    corpus of the package and ``state_folder(settings)``. ``say`` is told a line every few seconds, and a state is
    written every ``save_seconds``.
    """
    settings = settings or PRESETS["pocket"]
    corpus = corpus or Corpus(conversation, FAMILIES)
    state = state or state_folder(settings)
    if fresh:
        shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True, exist_ok=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        record = _record(state)
        tokenizer = _tokenizer(state, settings, corpus, say)
        rows, held_out = _rows(state, settings, corpus, say)
        net = Net(_shape(settings, len(tokenizer)), seed=settings.seed)
        wire(net, slot=settings.slot, seed=settings.seed)
        net.dtype = getattr(torch, record["dtype"])
        trainer = Trainer(net, rows, held_out, _schedule(settings), state, say)
        say(f"{'going on' if trainer.step else 'beginning'} at step {trainer.step}, {record['dtype']}; state: {state}")
        trainer.run(save_seconds=save_seconds)
    finally:
        torch.set_num_threads(before)
    report = {
        "settings": asdict(settings),
        "parameters": sum(p.numel() for p in net.parameters()),
        "conversations": len(rows),
        "corpus_tokens": int(rows.lengths.sum()),
        "tokens_seen": trainer.tokens,
        "minutes": round(trainer.seconds / 60, 1),
        **record,
    }
    _write(folder, net, tokenizer, report, state / "curve.jsonl")
    return report


def _record(state: Path) -> dict[str, Any]:
    """Return how this build computes, measured once: a build that goes on computes as it began."""
    path, sources = state / "record.json", _sources()
    if not path.is_file():
        record = {
            "dtype": str(fast_dtype()).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "processor": torch.backends.cpu.get_cpu_capability(),
            "torch": torch.__version__,
            "sources": sources,
        }
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if kept.get("sources") != sources:
        raise ValueError(f"the build in {state} began with other sources of the package; begin anew with --fresh")
    torch.set_num_threads(kept["threads"])
    return kept


def _sources() -> str:
    """Return a digest of the files of this package that a model comes from."""
    folder = Path(__file__).parent
    files = (path for path in folder.rglob("*") if path.suffix in (".py", ".txt", ".json"))
    kept = [path for path in sorted(files) if "weights" not in path.relative_to(folder).parts]
    return hashlib.blake2b(b"".join(path.read_bytes() for path in kept), digest_size=8).hexdigest()


def _tokenizer(state: Path, settings: Build, corpus: Corpus, say: Say) -> Any:
    """Return the tokenizer, trained once on the first conversations."""
    folder = state / "tokenizer"
    if not folder.is_dir():
        first, count = settings.seed * _SEEDS, min(_TEXTS, settings.conversations)
        say(f"training the tokenizer on {count} conversations")
        texts = [text_of(corpus.draw(seed, "train", None)) for seed in range(first, first + count)]
        partly = state / ".tokenizer"
        tokenizer_for(texts, settings.vocab_size).save_pretrained(partly)
        partly.rename(folder)
    return read_tokenizer(str(folder))


def _rows(state: Path, settings: Build, corpus: Corpus, say: Say) -> tuple[Rows, Rows]:
    """Return the rows to train on and those held out, drawn once and kept beside the state."""
    paths = state / "rows.npz", state / "held_out.npz"
    first = settings.seed * _SEEDS
    train: Jobs = [(first, first + settings.conversations, "train", None)]
    held_out: Jobs = [(first, first + settings.held_out, "test", family) for family in corpus.families]
    for path, jobs in zip(paths, (train, held_out), strict=True):
        if not path.is_file():
            began = time.monotonic()
            longest = settings.max_position_embeddings
            rows = prepare(state / "tokenizer", corpus.draw, jobs, longest, os.cpu_count() or 1)
            rows.save(path)
            count, seconds = rows.lengths.sum() / 1e6, time.monotonic() - began
            say(f"{path.stem}: {len(rows)} conversations, {count:.2f} M tokens, {seconds:.0f} s")
    return Rows.load(paths[0]), Rows.load(paths[1])


def _shape(settings: Build, vocab_size: int) -> Shape:
    return Shape(
        vocab_size,
        settings.hidden_size,
        settings.num_hidden_layers,
        settings.num_attention_heads,
        settings.intermediate_size,
        settings.rope_theta,
        settings.max_position_embeddings,
    )


def _schedule(settings: Build) -> Schedule:
    names = ("seed", "max_steps", "tokens", "learning_rate", "warmup_steps", "weight_decay", "max_grad_norm")
    return Schedule(**{name: getattr(settings, name) for name in (*names, "given_weight")})


def _write(folder: Path, net: Net, tokenizer: Any, report: Mapping[str, Any], curve: Path) -> None:
    """Write weights as float16, tokenizer, renderer settings, report and curve."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    Local(net.llama().half(), tokenizer, layout("hermes"), name="pocket").save(folder)
    (folder / "build.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(curve, folder / "curve.jsonl")
