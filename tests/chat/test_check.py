"""Templates that must pass and templates that must be refused, each with its reason."""

import pytest
from tests.templates import (
    ALTERNATES,
    AS_USER,
    CHATML,
    CUTS,
    FORGETS_THINKING,
    NO_PROMPT,
    NO_SYSTEM,
    NO_TOOL_ROLE,
    OTHER_PROMPT,
    QUOTES,
    RAISES,
    SILENT_AFTER_RESULTS,
    SMOLLM,
    TAGS,
    TRIMS,
    TWICE,
    WRAPS,
    WRONG_PROMPT,
    tokenizer_with,
)  # fmt: skip

from ferrule.chat.check import TemplateRefused, check_template
from ferrule.chat.codec import codec, codec_names
from ferrule.chat.layout import BARE, USER, WRAPPED, Layout


@pytest.mark.parametrize("name", codec_names())
@pytest.mark.parametrize("template", [CHATML, SMOLLM, TRIMS, FORGETS_THINKING, OTHER_PROMPT])
def test_templates_of_the_usual_build_pass_with_every_codec(name: str, template: str) -> None:
    tokenizer = tokenizer_with(template)
    report = check_template(tokenizer, codec(name))
    prompt = "<|im_start|>assistant\n" + ("<think>\n" if template == OTHER_PROMPT else "")
    assert (report.end, report.end_ids) == ("<|im_end|>", (tokenizer.eos_token_id,))
    assert report.header == (f"<|im_end|>\n{prompt}", prompt)
    assert report.conversations == 5


@pytest.mark.parametrize(
    ("template", "layout", "reason"),
    [
        (None, WRAPPED, "has no chat template"),
        (NO_TOOL_ROLE, WRAPPED, "drops messages of role 'tool'"),
        (NO_TOOL_ROLE, BARE, "drops messages of role 'tool'"),
        (NO_SYSTEM, WRAPPED, "drops messages of role 'system'"),
        (NO_PROMPT, WRAPPED, "ignores add_generation_prompt"),
        (WRONG_PROMPT, WRAPPED, r"does not continue the generation prompt '<\|im_end\|>\\n<\|im_start\|>robot\\n'"),
        (RAISES, WRAPPED, "fails: TemplateError: System role not supported"),
        (WRAPS, WRAPPED, "puts results into a form itself; the tool role is 'tool'"),
        (TAGS, WRAPPED, "puts results into a form itself; the tool role is 'tool'"),
        (AS_USER, WRAPPED, "shows results as user messages; the tool role is 'user'"),
        (CUTS, BARE, "drops messages of role 'tool'"),
        (
            CHATML.replace("['content']", "['content'] | replace('text.', 'text!')"),
            WRAPPED,
            "changes messages of role 'system'",
        ),
        (TWICE, BARE, "repeats messages of role 'tool'"),
        (SILENT_AFTER_RESULTS, BARE, "no assistant turn is opened after messages of role 'tool'"),
        (ALTERNATES, BARE, "roles must alternate"),
        ("{{ messages[7]['content'] }}", WRAPPED, "fails: UndefinedError"),
    ],
)
def test_templates_are_refused_with_the_reason(template: str | None, layout: Layout, reason: str) -> None:
    with pytest.raises(TemplateRefused, match=reason):
        check_template(tokenizer_with(template), codec("hermes"), layout)


@pytest.mark.parametrize("template", [NO_TOOL_ROLE, WRAPS, TAGS, AS_USER, ALTERNATES, QUOTES, TWICE])
def test_results_as_user_turns_are_right_where_the_tool_role_is_not(template: str) -> None:
    assert check_template(tokenizer_with(template), codec("hermes"), USER).end == "<|im_end|>"


@pytest.mark.parametrize("template", [WRAPS, TAGS])
def test_bare_results_are_right_where_the_template_has_its_own_form(template: str) -> None:
    assert check_template(tokenizer_with(template), codec("hermes"), BARE).end == "<|im_end|>"
