"""Folders of tiny models, one for each family: random weights, and the chat template that the family ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.peers import peer_python
from tests.templates import table

__all__ = ["FAMILIES", "Family", "folder_of", "mistral_templates"]


@dataclass(frozen=True)
class Family:
    """A configuration of transformers, the name of a template, and the tokens that end a reply by its maker.

    Replies are in the family's form: a call of ``add``, a call of ``find`` after some thinking, and an answer.
    ``result`` is what stands around the result of ``add`` in the prompt that follows.
    """

    config: str
    template: str
    replies: tuple[str, str, str]
    result: str
    ends: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


_THINK = "<think>\nThe sum is known.\n</think>\n\n"
_FIND, _ANSWER = '{"name": "find", "arguments": {"query": "a \\"b\\""}}', "It is 12."
_HERMES = (
    '<tool_call>\n{"name": "add", "arguments": {"a": 5, "b": 7}}\n</tool_call>',
    f"{_THINK}<tool_call>\n{_FIND}\n</tool_call>",
    _ANSWER,
)
_MISTRAL = "[TOOL_CALLS]"
_LLAMA = "<|eot_id|><|start_header_id|>{}<|end_header_id|>\n\n"
_HARMONY = "<|channel|>commentary json<|message|>"

FAMILIES: dict[str, Family] = {
    "qwen3": Family(
        "Qwen3Config",
        "qwen3",
        _HERMES,
        "<|im_end|>\n<|im_start|>user\n<tool_response>\n12\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
        ("<|im_end|>",),
        {"head_dim": 8},
    ),
    "llama3": Family(
        "LlamaConfig",
        "llama3_2",
        (
            '{"name": "add", "parameters": {"a": 5, "b": 7}}',
            f'{_THINK}{{"name": "find", "parameters": {{"query": "a \\"b\\""}}}}',
            _ANSWER,
        ),
        f"{_LLAMA.format('ipython')}12{_LLAMA.format('assistant')}",
        ("<|eot_id|>", "<|eom_id|>"),
    ),
    "gemma3": Family(
        "Gemma3TextConfig",
        "gemma3",
        _HERMES,
        "<end_of_turn>\n<start_of_turn>user\n<tool_response>\n12\n</tool_response><end_of_turn>\n<start_of_turn>model\n",
        ("<end_of_turn>",),
        {"head_dim": 8},
    ),
    "mistral": Family(
        "MistralConfig",
        "mistral_v3_spm",
        (
            f'{_MISTRAL} [{{"name": "add", "arguments": {{"a": 5, "b": 7}}, "id": "k3jd9Lm2x"}}]',
            f"{_THINK}{_MISTRAL} [{_FIND}]",
            _ANSWER,
        ),
        '</s>[TOOL_RESULTS] {"content": "12", "call_id": "k3jd9Lm2x"}[/TOOL_RESULTS]',
        ("</s>",),
    ),
    "mistral_tekken": Family(
        "MistralConfig",
        "mistral_v13",
        (f'{_MISTRAL}add[ARGS]{{"a": 5, "b": 7}}', f'{_THINK}{_MISTRAL}find[ARGS]{{"query": "a \\"b\\""}}', _ANSWER),
        "</s>[TOOL_RESULTS]12[/TOOL_RESULTS]",
        ("</s>",),
    ),
    "phi3": Family(
        "Phi3Config",
        "phi3",
        _HERMES,
        "<|end|>\n<|user|>\n<tool_response>\n12\n</tool_response><|end|>\n<|assistant|>\n",
        ("<|end|>",),
        {"pad_token_id": 0},
    ),
    "muse": Family(
        "LlamaConfig",  # the template is that of Muse Glimmer, whose layers are of no matter here
        "muse_glimmer",
        (
            ' to=add<|message|><atem:function_calls>\n<atem:invoke name="add">\n<atem:parameter name="a">5</atem:parameter>\n'
            '<atem:parameter name="b">7</atem:parameter>\n</atem:invoke>\n</atem:function_calls>',
            " to=self<|message|>The sum is known.<|eom|><|start|>assistant to=find<|message|><atem:function_calls>\n"
            '<atem:invoke name="find">\n<atem:parameter name="query">a "b"</atem:parameter>\n</atem:invoke>\n'
            "</atem:function_calls>",
            f" to=user<|message|>{_ANSWER}",
        ),
        '<|eot|><|start|>tool add<|message|><tool_output name="add">\n12\n</tool_output><|eot|><|start|>assistant',
        ("<|eot|>",),
    ),
    "gptoss": Family(
        "GptOssConfig",
        "gptoss",
        (
            f' to=functions.add{_HARMONY}{{"a": 5, "b": 7}}<|call|>',
            "<|channel|>analysis<|message|>The sum is known.<|end|><|start|>assistant"
            f' to=functions.find{_HARMONY}{{"query": "a \\"b\\""}}<|call|>',
            f"<|channel|>final<|message|>{_ANSWER}<|return|>",
        ),
        "<|start|>functions.add to=assistant<|channel|>commentary<|message|>12<|end|><|start|>assistant",
        ("<|return|>", "<|call|>"),
        {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1, "max_position_embeddings": 131072},
    ),
    "glm4": Family(
        "Glm4Config",
        "glm4moe",
        (
            "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>5</arg_value>\n<arg_key>b</arg_key>\n"
            "<arg_value>7</arg_value>\n</tool_call>",
            f'{_THINK}<tool_call>find\n<arg_key>query</arg_key>\n<arg_value>a "b"</arg_value>\n</tool_call>',
            _ANSWER,
        ),
        "<|observation|>\n<tool_response>\n12\n</tool_response><|assistant|>",
        ("<|endoftext|>", "<|user|>", "<|observation|>"),
        {"head_dim": 8, "pad_token_id": 0},
    ),
    "gemma4": Family(
        "Gemma3TextConfig",  # the template is that of Gemma 4, whose layers are of no matter here
        "gemma4_v5",
        (
            "<|tool_call>call:add{a:5,b:7}<tool_call|><|tool_response>",
            f'{_THINK}<|tool_call>call:find{{query:<|"|>a "b"<|"|>}}<tool_call|><|tool_response>',
            _ANSWER,
        ),
        '<tool_call|><|tool_response>response:add{value:<|"|>12<|"|>}<tool_response|>',
        ("<turn|>", "<|tool_response>"),
        {"head_dim": 8},
    ),
    "lfm2": Family(
        "LlamaConfig",  # the template is that of LFM2.5, whose layers are of no matter here
        "lfm2_2_5_v2",
        (
            "<|tool_call_start|>[add(a=5, b=7)]<|tool_call_end|>",
            f"{_THINK}<|tool_call_start|>[find(query='a \"b\"')]<|tool_call_end|>",
            _ANSWER,
        ),
        "<|im_end|>\n<|im_start|>tool\n12<|im_end|>\n<|im_start|>assistant\n",
        ("<|im_end|>",),
    ),
}

_MAKE = """
import json
from mistral_common.integrations.chat_templates.template_generator import TemplateConfig, build_chat_template
from mistral_common.tokens.tokenizers.base import TokenizerVersion
made = {}
for version, spm in (("v3", True), ("v3", False), ("v7", True), ("v7", False), ("v11", False), ("v13", False)):
    config = TemplateConfig(version=TokenizerVersion(version), spm=spm, use_special_token_variables=False)
    made[f"mistral_{version}{'_spm' if spm else ''}"] = build_chat_template(config)
config = TemplateConfig(version=TokenizerVersion.v13, spm=False, use_special_token_variables=False, thinking_support=True)
made["mistral_v13_think"] = build_chat_template(config)
print(json.dumps(made))
"""


def mistral_templates() -> dict[str, str]:
    """Return the chat templates that Mistral AI's own package makes, by version of the tokenizer."""
    (packages,) = (peer_python("mistral")["mistral"].parents[1] / "lib").glob("python*/site-packages")
    done = subprocess.run(
        [sys.executable, "-c", _MAKE], capture_output=True, text=True, check=True, timeout=200,
        env=os.environ | {"PYTHONPATH": str(packages)},
    )  # fmt: skip
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def folder_of(name: str, folder: Path) -> Path:
    """Write a model of the family with one layer of width 16 into a folder, and its tokenizer over bytes."""
    import torch
    import transformers

    family = FAMILIES[name]
    if family.template.startswith("mistral"):
        text = mistral_templates()[family.template]
    else:
        peer_python("trl")
        text = table.templates()[family.template]
    tokenizer = table.tokenizer_of(text)
    tokenizer.add_special_tokens({"additional_special_tokens": list(family.ends)}, False)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "max_position_embeddings": 16384, "vocab_size": len(tokenizer)}
    config = getattr(transformers, family.config)(bos_token_id=None, eos_token_id=None, **sizes | family.settings)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=[tokenizer.convert_tokens_to_ids(end) for end in family.ends]
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
