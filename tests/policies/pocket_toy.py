"""A corpus of two short families, so that tests of the build take seconds."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

from ferrule.core.records import Call, Message, Tool
from ferrule.policies.pocket.build import PRESETS, Build
from ferrule.policies.pocket.rows import Corpus

FIND = Tool("find", "Find a thing", {"type": "object", "properties": {"name": {"type": "string"}}}, print)


@dataclass(frozen=True)
class Told:
    """A conversation as the corpus gives it."""

    family: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    learned: tuple[bool, ...]
    form: str = "hermes"


def draw(seed: int, split: str, family: str | None) -> Told:
    """Copy a word, or look a word up: a first try that is shown only, then the right call and an answer."""
    rng = random.Random(f"{seed}/{split}/{family}")
    word = "".join(rng.choices("abcd", k=rng.randint(1, 3)))
    if (family or rng.choice(("say", "find"))) == "say":
        return Told("say", (Message("user", f"Say {word}"), Message("assistant", word)), (), (True,))
    tried, call = (Call("find", {"name": name}, id="call_0") for name in ("X", word))
    messages = (
        Message("user", f"Find {word}"),
        Message("assistant", "Find a thing", (tried,)),
        Message("tool", "unknown", name="find", call_id="call_0"),
        Message("assistant", "Find a thing", (call,)),
        Message("tool", word, name="find", call_id="call_0"),
        Message("assistant", word),
    )
    return Told("find", messages, (FIND,), (False, True, True))


CORPUS = Corpus(draw, ("say", "find"))


def toy_build(steps: int) -> Build:
    """Return settings of a build of seconds."""
    return replace(
        PRESETS["pocket-s"],
        conversations=400,
        held_out=12,
        max_steps=steps,
        tokens=512,
        hidden_size=64,
        num_hidden_layers=2,
        intermediate_size=64,
        slot=15,
        warmup_steps=5,
        learning_rate=6e-3,
    )


def weights(folder: Path) -> bytes:
    """Return the weights of a built model."""
    return (folder / "model.safetensors").read_bytes()
