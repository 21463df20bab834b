"""Templates that must pass and templates that must be refused, each with its reason."""

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ferrule.chat.check import TemplateRefused, check_template
from ferrule.chat.codec import codec, codec_names

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_TOOL_ROLE = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'tool' %}")
NO_SYSTEM = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
NO_PROMPT = CHATML.split("{% if add_generation_prompt")[0]
OTHER_PROMPT = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
RAISES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)
TRIMS = CHATML.replace("{{ m['content'] }}", "{{ m['content'] | trim }}")
FORGETS_THINKING = (  # as templates of reasoning models do: thinking of earlier turns is cut once a user speaks again
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.index0 < ns.last %}{{ m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WRAPS = CHATML.replace(
    "{{ m['content'] }}",
    "{% if m['role'] == 'tool' %}<tool_response>\n{{ m['content'] }}\n</tool_response>"
    "{% else %}{{ m['content'] }}{% endif %}",
)
AS_USER = CHATML.replace("{{ m['role'] }}", "{{ 'user' if m['role'] == 'tool' else m['role'] }}")
ALTERNATES = (
    "{% for m in messages %}{% if m['role'] == 'user' and not loop.first "
    "and messages[loop.index0 - 1]['role'] == 'tool' %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
) + CHATML.removeprefix("{% for m in messages %}")


def tokenizer(template: str | None) -> Any:
    """A real tokenizer of a dozen words with a chat template."""
    words = ["<unk>", "<|im_start|>", "<|im_end|>", "system", "user", "assistant", "tool", "probe"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"]
    )
    made.chat_template = template
    return made


@pytest.mark.parametrize("name", codec_names())
@pytest.mark.parametrize("template", [CHATML, SMOLLM], ids=["chatml", "smollm"])
def test_chatml_templates_pass_with_every_codec(name: str, template: str) -> None:
    report = check_template(tokenizer(template), codec(name))
    assert (report.end, report.end_ids, report.prompt) == ("<|im_end|>", (2,), "<|im_start|>assistant\n")
    assert report.default_system == ("You are helpful." if template == SMOLLM else "")
    assert report.conversations == 4


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "has no chat template"),
        (NO_TOOL_ROLE, "drops messages of role 'tool'; pass tool_role='user'"),
        (NO_SYSTEM, "drops the system message"),
        (NO_PROMPT, "ignores add_generation_prompt"),
        (OTHER_PROMPT, "does not continue the generation prompt '<|im_start|>assistant\\\\n<think>\\\\n'"),
        (RAISES, "fails: TemplateError: System role not supported"),
        (FORGETS_THINKING, r"not prefix stable \(thinking, then a second question\)"),
        (WRAPS, "itself wraps results in '<tool_response>'; pass tool_role='user'"),
        (AS_USER, "shows results as user messages; pass tool_role='user'"),
        ("{{ messages[7]['content'] }}", "fails: UndefinedError"),
    ],
    ids=[
        "none",
        "no-tool",
        "no-system",
        "no-prompt",
        "other-prompt",
        "raises",
        "thinking",
        "wraps",
        "as-user",
        "error",
    ],
)
def test_templates_are_refused_with_the_reason(template: str | None, reason: str) -> None:
    with pytest.raises(TemplateRefused, match=reason.replace("|", r"\|")):
        check_template(tokenizer(template), codec("hermes"))


@pytest.mark.parametrize("template", [NO_TOOL_ROLE, WRAPS, AS_USER, ALTERNATES])
def test_the_user_role_is_the_way_out_where_the_reason_says_so(template: str) -> None:
    assert check_template(tokenizer(template), codec("hermes"), tool_role="user").tool_role == "user"


@pytest.mark.parametrize("name", codec_names())
def test_trimming_is_harmless_because_no_codec_ends_a_turn_in_white_space(name: str) -> None:
    assert check_template(tokenizer(TRIMS), codec(name)).end == "<|im_end|>"
