"""Native call forms against the response templates in the wheel of TRL, as transformers reads them."""

from __future__ import annotations

import ast
import json
import random
from typing import Any

import pytest
from tests.drawn import TOOL, drawn
from tests.peers import ROOT, peer_python
from tests.templates import table, tokenizer_with
from transformers.utils.chat_template_utils import render_jinja_template

from ferrule.chat.codec import codec
from ferrule.chat.reply import read_reply
from ferrule.core.records import Call, Message

pytestmark = pytest.mark.integration
TEXTS = 240
FAMILIES = {
    "hermes": ("qwen3_template", "<|im_start|>assistant\n", "<|im_end|>"),
    "qwen3_coder": ("qwen3_5_template", "<|im_start|>assistant\n", "<|im_end|>"),
    "llama3": ("llama3_template", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
    "gemma": ("gemma4_template", "<|turn>model\n", ""),
    "harmony": ("gptoss_template", "<|start|>assistant", ""),
}


@pytest.fixture(scope="module")
def parsers() -> dict[str, Any]:
    """The response templates of the wheel by name, taken from its source: the package itself needs much to import."""
    peer_python("trl")
    (path,) = ROOT.glob(".venv-peers/trl/lib/python*/site-packages/trl/chat_template_utils.py")
    scope: dict[str, Any] = {"_SUPPORTS_PARSE_RESPONSE_TOOLS": True}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name == "_XML_INLINE_VALUE_PARSER" or name in {wanted for wanted, _, _ in FAMILIES.values()}:
                exec(compile(ast.Module([node], []), str(path), "exec"), scope)
    return {form: scope[wanted] for form, (wanted, _, _) in FAMILIES.items()}


@pytest.mark.parametrize("form", FAMILIES)
def test_calls_are_read_as_by_the_response_template_of_the_family(parsers: dict[str, Any], form: str) -> None:
    """The same names and arguments from 240 texts that the codec wrote, for values of all JSON types."""
    rng, tokenizer = random.Random(form), tokenizer_with(None)
    _, prefix, end = FAMILIES[form]
    writer = codec("qwen3_coder").typed((TOOL,)) if form == "qwen3_coder" else codec(form)
    schema = {"type": "function", "function": {"name": "find", "description": "", "parameters": TOOL.parameters}}
    for _ in range(TEXTS):
        calls = tuple(
            Call("find", drawn(rng)) for _ in range(1 if form in ("llama3", "harmony") else rng.randint(1, 3))
        )
        text = writer.write(Message("assistant", "", calls))
        read = read_reply(codec(form), text, tools=(TOOL,))
        theirs = tokenizer.parse_response(text + end, schema=parsers[form], prefix=prefix, tools=[schema])
        wanted = [(one["function"]["name"], one["function"].get("arguments") or {}) for one in theirs["tool_calls"]]
        assert [(call.name, dict(call.arguments)) for call in read.calls] == wanted, text
        assert [dict(call.arguments) for call in read.calls] == [dict(call.arguments) for call in calls], text


SHIPPED = {
    "hermes": ("qwen3", 3), "qwen3_coder": ("qwen3_8", 3), "llama3": ("llama3_1", 1), "gemma": ("gemma4_v5", 3),
    "glm4": ("glm4moe", 3), "lfm2": ("lfm2_v2", 3), "harmony": ("gptoss", 1), "deepseek": ("deepseekv3", 3),
    "atem": ("muse_glimmer", 3),
}  # fmt: skip


@pytest.mark.parametrize("form", SHIPPED)
def test_calls_are_read_from_what_the_template_of_the_family_writes(form: str) -> None:
    """240 conversations with calls as data, rendered by the shipped template and read without any repair."""
    peer_python("trl")
    name, most = SHIPPED[form]
    rng, template = random.Random(form), table.templates()[name]
    for _ in range(TEXTS):
        made = [drawn(rng) for _ in range(rng.randint(1, most))]
        given = [json.dumps(one, ensure_ascii=False) for one in made] if form == "deepseek" else made
        calls = [{"type": "function", "function": {"name": "find", "arguments": one}} for one in given]
        turns = [{"role": "user", "content": "Q."}, {"role": "assistant", "content": "", "tool_calls": calls}]
        text = str(render_jinja_template([turns], chat_template=template, bos_token="", eos_token="")[0][0])
        reply = text.partition("Q.")[2]
        for mark in ("<|im_end|>", "<|eot_id|>", "<turn|>", "<|end|>", "<|eot|>", "<｜end▁of▁sentence｜>"):
            reply = reply.removeprefix(mark).removesuffix("\n").removesuffix(mark)
        for head in (
            "<|start|>assistant",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "<|im_start|>assistant\n",
        ):
            reply = reply.strip("\n").removeprefix(head)
        read = read_reply(codec(form), reply, tools=(TOOL,))
        assert [dict(call.arguments) for call in read.calls] == made, reply
        assert not any(call.problem or call.repairs for call in read.calls), reply
