"""Models with chat templates: the way is found when they are loaded, kept when they are saved, and ids only grow."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.templates import (
    CALLS,
    CHATML,
    DATED,
    FORGETS_THINKING,
    NO_END,
    NO_TOOL_ROLE,
    OTHER_PROMPT,
    STRICT_TURNS,
    WRAPS,
    tokenizer_with,
)  # fmt: skip
from transformers import LlamaConfig, LlamaForCausalLM

from ferrule.chat.check import TemplateRefused
from ferrule.chat.codec import codec
from ferrule.chat.layout import USER, WRAPPED
from ferrule.chat.renderer import ChatML
from ferrule.chat.template import Template
from ferrule.core.flows import Ask
from ferrule.core.records import Message, Tool
from ferrule.policies.engine.rows import Row
from ferrule.policies.layouts import renderer_for, save_renderer
from ferrule.policies.local import load
from ferrule.policies.named import answering
from ferrule.policies.replies import reply_of
from ferrule.policies.vllm.served import voice
from ferrule.train.folder import facts, prompt_date

pytestmark = pytest.mark.usefixtures("one_thread")
ASKED = (Message("system", "Be brief."), Message("user", "Where?"))
TOOL = Tool("search", "Find.", {"properties": {"query": {"type": "string"}}}, print)


def folder(path: Path, template: str | None, **generation: Any) -> Path:
    """Write a tiny model with a chat template to a folder, as other libraries leave it."""
    tokenizer = tokenizer_with(template)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, bos_token_id=None, eos_token_id=None, **size)
    model = LlamaForCausalLM(config)
    model.generation_config.update(**generation)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    "template", [CHATML, WRAPS, CALLS, NO_TOOL_ROLE, STRICT_TURNS, FORGETS_THINKING, OTHER_PROMPT, NO_END]
)
def test_ids_only_grow_and_hold_every_result_once(template: str, tmp_path: Path) -> None:
    policy = load(folder(tmp_path, template), max_tokens=6, engine="whole")
    messages, context = ASKED, ()
    for turn in range(3):
        ask = Ask(messages, tools=(TOOL,), context=context, fresh=len(messages) - 1, seed=turn)
        (reply,) = policy.generate([ask])[0]
        assert reply.given[: len(context)] == context
        context = (*reply.given, *reply.sampled)
        messages = (*messages, reply.message, Message("tool", f"Result {turn}."))
        ask = Ask(messages, context=context, fresh=len(messages) - 1)
        text = policy.stops.text(policy.prompt_ids(ask))
        assert [text.count(f"Result {i}.") for i in range(turn + 1)] == [1] * (turn + 1)
        assert text.endswith("<|assistant|>\n" if template == NO_END else ("assistant\n" + policy.renderer.opens))


def test_load_refuses_a_model_whose_text_is_right_in_no_way(tmp_path: Path) -> None:
    path = folder(tmp_path, "{{ messages[7]['content'] }}")
    with pytest.raises(TemplateRefused, match="the chat template fails: UndefinedError"):
        load(path)
    with pytest.raises(TemplateRefused, match=r"fails: UndefinedError: .*\. Leave out tool_role='user'"):
        load(path, tool_role="user")


def test_a_saved_model_keeps_its_way(tmp_path: Path) -> None:
    policy = load(folder(tmp_path / "a", STRICT_TURNS), codec="react", date="2026-02-03")
    policy.save(tmp_path / "b")
    again = load(tmp_path / "b")
    assert isinstance(again.renderer, Template)
    assert replace(again.renderer, tokenizer=None) == replace(policy.renderer, tokenizer=None)  # type: ignore[type-var]
    assert (again.renderer.codec.name, again.renderer.layout.name) == ("react", "user")
    assert load(tmp_path / "b", codec="hermes").renderer.codec.name == "hermes"
    ask = Ask(ASKED, tools=(TOOL,), seed=3, max_tokens=5)
    assert (
        answering(tmp_path / "b").prompt_ids(ask) == again.prompt_ids(ask) == voice(str(tmp_path / "b")).prompt_ids(ask)
    )


def test_the_date_is_that_of_loading_and_stays(tmp_path: Path) -> None:
    policy = load(folder(tmp_path / "a", DATED), date="2026-02-03")
    policy.save(tmp_path / "b")
    assert "Today is 03 Feb 2026." in load(tmp_path / "b").renderer.opening(ASKED)
    today = datetime.date.today()
    assert load(tmp_path / "a").renderer.opening(ASKED).count(f"{today:%d %b %Y}") == 1
    (tmp_path / "settings.json").write_text(json.dumps({"policy": facts(policy)}))
    assert prompt_date(tmp_path) == "2026-02-03"
    assert prompt_date(tmp_path / "a") == ""
    undated = load(folder(tmp_path / "c", STRICT_TURNS))
    (tmp_path / "settings.json").write_text(json.dumps({"policy": facts(undated)}))
    assert prompt_date(tmp_path) == ""


def test_ways_that_are_asked_for_win_over_kept_ones(tmp_path: Path) -> None:
    renderer = ChatML(codec("hermes"))
    tokenizer = tokenizer_with(CHATML)
    save_renderer(renderer, tmp_path)
    assert renderer_for(tmp_path, tokenizer) == renderer
    assert renderer_for(tmp_path, tokenizer, tool_role="user") == replace(renderer, tool_role="user")
    assert renderer_for(tmp_path, tokenizer, "react") == replace(renderer, codec=codec("react"))
    with pytest.raises(
        ValueError, match="tool_role is 'tool'; this model was saved with ChatML, which takes auto, wra"
    ):
        renderer_for(tmp_path, tokenizer, tool_role="tool")
    templated = renderer_for(tmp_path, tokenizer, renderer="template")
    assert isinstance(templated, Template)
    assert templated.layout == WRAPPED
    save_renderer(templated, tmp_path)
    assert renderer_for(tmp_path, tokenizer, tool_role="user").layout == USER  # type: ignore[attr-defined]


def test_the_ends_that_a_model_names_end_its_replies(tmp_path: Path) -> None:
    ids = {load(folder(tmp_path / str(i), CHATML, eos_token_id=i)).stops.end_ids for i in ([5, 7], 9, None)}
    end = tokenizer_with(CHATML).eos_token_id
    assert ids == {frozenset({end, 5, 7}), frozenset({end, 9}), frozenset({end})}


def test_the_mark_of_the_next_turn_that_ended_a_reply_stands_once(tmp_path: Path) -> None:
    policy = load(folder(tmp_path, NO_END))
    user, tool, end = (policy.encode(mark)[0] for mark in ("<|user|>", "<|tool|>", "<|endoftext|>"))
    assert policy.stops.end_ids == {user, tool, end}
    messages = (*ASKED, Message("assistant", "Yes."), Message("user", "More?"))
    for last, wanted in ((user, "Yes.<|user|>\nMore?"), (end, "Yes.<|endoftext|><|user|>\nMore?")):
        context = (*policy.prompt_ids(Ask(ASKED)), *policy.encode("Yes."), last)
        text = policy.stops.text(policy.prompt_ids(Ask(messages, context=context, fresh=3)))
        assert text.endswith(f"{wanted}<|assistant|>\n")


def test_a_reply_is_read_with_the_thinking_that_the_prompt_opened(tmp_path: Path) -> None:
    policy = load(folder(tmp_path, OTHER_PROMPT))
    drafted = 'Try <tool_call>\n{"name": "search", "arguments": {}}\n</tool_call> perhaps.\n</think>\n\nNo need.'
    ids = policy.encode(drafted)
    row = Row(policy.prompt_ids(Ask(ASKED)), len(ids), 1.0, 0)
    row.sampled, row.finish = ids, "stop"
    assert reply_of(policy, Ask(ASKED), row).message.calls == ()
