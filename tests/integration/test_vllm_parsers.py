"""Calls in 240 generated texts of each form, read beside the tool parsers of vLLM."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from typing import Any

import pytest
from tests.drawn import TOOL, drawn
from tests.peers import ROOT, peer_python
from tests.templates import table

from ferrule.chat.codec import Codec, codec
from ferrule.chat.reply import read_reply
from ferrule.core.records import Call, Message

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
TEXTS = 240
PARSERS: dict[str, Codec] = {
    "hermes": codec("hermes"),
    "qwen3_coder": codec("qwen3_coder").typed((TOOL,)),  # type: ignore[attr-defined]
    "glm45": codec("glm4").typed((TOOL,)),  # type: ignore[attr-defined]
    "llama3_json": codec("llama3"),
    "mistral": codec("mistral", form="args"),
    "gemma4": codec("gemma"),
    "lfm2": codec("lfm2"),
    "deepseek_v3": codec("deepseek"),
    "deepseek_v31": codec("deepseek", form="bare"),
}
"""Parsers of vLLM by name, and the codecs that write what they read.

Left out: ``functiongemma``, which keeps texts alone and drops numbers, lists and objects; harmony, which needs a
vocabulary from the network.
"""
MARKS = (
    '<tool_call></tool_call><|python_tag|><|eom_id|><|eot_id|>[TOOL_CALLS][ARGS][CALL_ID]<|tool_call><tool_call|><|"|>'
    "<|tool_response><tool_response|><｜tool▁calls▁begin｜><｜tool▁calls▁end｜><｜tool▁call▁begin｜><｜tool▁call▁end｜>"
    "<｜tool▁sep｜><|tool_call_start|><|tool_call_end|><think></think><|channel><channel|>"
)


def plain(codec: Codec, rng: random.Random, calls: tuple[Call, ...]) -> str:
    return codec.write(Message("assistant", "", calls))


def beside_text(codec: Codec, rng: random.Random, calls: tuple[Call, ...]) -> str:
    return codec.write(Message("assistant", rng.choice(["I look it up.", "Two\n\nlines: {x} [y]"]), calls))


def spaced(codec: Codec, rng: random.Random, calls: tuple[Call, ...]) -> str:
    """Arguments in JSON of another layout."""
    text = plain(codec, rng, calls)
    for call in calls:
        written = json.dumps(dict(call.arguments), ensure_ascii=False)
        text = text.replace(written, json.dumps(dict(call.arguments), indent=rng.choice([1, 2])))
    return text


def cut(codec: Codec, rng: random.Random, calls: tuple[Call, ...]) -> str:
    text = plain(codec, rng, calls)
    return text[: rng.randint(len(text) // 2, len(text) - 1)]


VARIANTS = (plain, beside_text, spaced, cut)
KNOWN = {
    ("hermes", "cut"): "drops the finished calls with the one that is cut off",
    ("llama3_json", "cut"): "drops the finished calls with the one that is cut off",
    ("lfm2", "cut"): "drops the finished calls with the one that is cut off",
    ("llama3_json", "beside_text"): "takes a brace in the text before for the call",
    ("qwen3_coder", "cut"): "reads a call that is cut off as one with fewer arguments",
    ("gemma4", "cut"): "reads a call that is cut off as one with fewer arguments",
    ("glm45", "cut"): "reads a call that is cut off as one with fewer arguments",
    ("mistral", "cut"): "raises where a call is cut off",
    ("deepseek_v3", "spaced"): "reads arguments on one line only",
    ("deepseek_v31", "spaced"): "reads arguments on one line only",
    ("deepseek_v3", "cut"): "reads calls of a section that is cut off",
    ("deepseek_v31", "cut"): "reads calls of a section that is cut off",
}
"""Where vLLM's parser is wrong, by its name and that of the variant, and what it does."""
Drawn = tuple[str, str, list[Any]]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Drawn, list[Any] | None]]]:
    """By parser: texts as (variant, text, the calls that were drawn), and the calls that vLLM reads in each."""
    texts: dict[str, list[Drawn]] = {}
    for name, writer in PARSERS.items():
        rng = random.Random(name)
        texts[name] = []
        for i in range(TEXTS):
            calls = tuple(Call("find", drawn(rng)) for _ in range(rng.randint(1, 3)))
            variant = VARIANTS[i % len(VARIANTS)]
            text = variant(writer, rng, calls)
            texts[name].append((variant.__name__, text, [[call.name, dict(call.arguments)] for call in calls]))
    theirs = vllm_calls({name: [text for _, text, _ in rows] for name, rows in texts.items()}, tmp_path_factory)
    return {name: list(zip(rows, theirs[name], strict=True)) for name, rows in texts.items()}


def vllm_calls(texts: dict[str, list[str]], folders: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Return what the parsers read, each in texts of its own."""
    folder = folders.mktemp("tokenizer")
    tokenizer = table.tokenizer_of("")
    tokens = re.findall(r'<\|"\|>|<[^<>]*>|\[[A-Z_]+\]', MARKS)
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    tokenizer.save_pretrained(folder)
    schema = {"type": "function", "function": {"name": "find", "description": "", "parameters": TOOL.parameters}}
    jobs = {name: {"tools": [schema], "texts": given} for name, given in texts.items()}
    pythons = peer_python("vllm", "mistral")
    (packages,) = (pythons["mistral"].parents[1] / "lib").glob("python*/site-packages")
    done = subprocess.run(
        [str(pythons["vllm"]), str(ROOT / "tests/integration/vllm_parsers.py")],
        input=json.dumps({"tokenizer": str(folder), "jobs": jobs}), capture_output=True, text=True, timeout=600,
        env=os.environ | {"PYTHONPATH": str(packages)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("calls: "))
    return json.loads(line.removeprefix("calls: "))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", PARSERS)
def test_calls_are_read_as_by_the_parser_of_vllm(
    name: str, read: dict[str, list[tuple[Drawn, list[Any] | None]]]
) -> None:
    """Where the two differ, the reference is known to be wrong, and what is read here is what was written."""
    differed = set()
    for (variant, text, written), theirs in read[name]:
        message = read_reply(PARSERS[name], text, tools=(TOOL,), cut=variant == "cut")
        ours = [[call.name, dict(call.arguments)] for call in message.calls if not call.problem]
        assert ours == (written[: len(ours)] if variant == "cut" else written), text
        if ours != theirs:
            assert (name, variant) in KNOWN, (text, theirs)
            differed.add((name, variant))
    assert differed == {pair for pair in KNOWN if pair[0] == name}
