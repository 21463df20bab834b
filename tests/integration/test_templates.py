"""The chat templates of real families, from the wheel of TRL: the text of whole episodes, judged from outside."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.families import mistral_templates
from tests.peers import peer_python
from tests.templates import table

from ferrule.chat.codec import awaited, codec
from ferrule.chat.describe import tool_schema
from ferrule.chat.fitted import fitted
from ferrule.chat.renderer import added
from ferrule.chat.reply import open_thought
from ferrule.chat.template import Template
from ferrule.core.records import Call, Message, Tool
from ferrule.worlds.messages import from_messages

pytestmark = pytest.mark.integration
DATE = "2026-01-01"
PARAMETERS = {"type": "object", "properties": {"place": {"type": "string", "description": "As on the map."}}}
TOOL = Tool("find_castle", "Find a castle near a place.", PARAMETERS, print)
ORIGINAL = 41
"""Templates of the wheel that are not patched for training."""


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """All templates by name; the environment with the wheel is set up on first use."""
    peer_python("trl")
    return table.templates()  # type: ignore[no-any-return]


def renderer_of(text: str) -> Template:
    renderer = fitted(table.tokenizer_of(text), date=DATE)
    assert isinstance(renderer, Template)
    return renderer


def called(place: str, thought: str = "") -> Message:
    return Message("assistant", thought, (Call("find_castle", {"place": place}),))


def said(renderer: Template, reply: Message, messages: list[Message], closed: bool = False) -> str:
    """Return a reply, which may end with the end-of-turn token, and what follows it."""
    written = renderer.codec.write(reply) + (renderer.end if closed else "")
    return written + added(renderer, written, messages, closed)


def answered(text: str) -> Message:
    return Message("tool", text, name="find_castle")


def test_the_page_is_the_present_one(texts: dict[str, str]) -> None:
    page = (table.ROOT / table.PAGE).read_text(encoding="utf-8")
    assert page == table.filled(page, texts), "run: python scripts/templates_table.py"
    assert page.count(f"{ORIGINAL} of {ORIGINAL} can be used") == 1


def test_a_stale_page_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain.jinja").write_text(
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    monkeypatch.setattr(table, "ROOT", tmp_path)
    monkeypatch.setattr(table, "PAGE", Path("page.md"))
    (tmp_path / "page.md").write_text(f"# Page\n\n{table.BEGIN}{table.END}\nend\n")
    arguments = ["--templates", str(tmp_path)]
    assert [table.main([*arguments, "--check"]), table.main(arguments), table.main([*arguments, "--check"])] == [
        1,
        0,
        0,
    ]
    assert "| `plain` | `wrapped` | `hermes` | codec | `</s>` | |" in (tmp_path / "page.md").read_text()


def test_every_text_stands_once_in_order_and_the_assistant_may_write(texts: dict[str, str]) -> None:
    """Four replies of all kinds in one episode; the checks share no code with those that choose the way."""
    results = [f'R{i}: "é" <i>\n{{"n": [{i}]}} end{i}' for i in range(4)]
    for name, text in texts.items():
        renderer = renderer_of(text)
        built = renderer.opening([Message("system", "S: be brief."), Message("user", "Q0: where?")], [TOOL])
        header = built[built.rfind("Q0: where?") + len("Q0: where?") :]
        ends = not awaited(renderer.codec)  # whether a reply with a call may end as any other
        last = [answered(results[3]), Message("user", "Q2: well?")]
        built += said(renderer, called("Wye", "<think>\nT0: hm.\n</think>\n\n"), [*map(answered, results[:2])])
        built += said(renderer, called("Usk"), [answered(results[2])], closed=ends)
        built += said(renderer, Message("assistant", "A0: there."), [Message("user", "Q1: sure?")], closed=True)
        built += said(renderer, called("Dee", "<think>\nT1: so.\n</think>\n\n"), last)
        order = [
            "S: be brief.",
            "Q0: where?",
            "T0: hm.",
            *results[:2],
            results[2],
            "A0: there.",
            "Q1: sure?",
            "T1: so.",
        ]
        order += [results[3], "Q2: well?"]
        if "system_in_user" not in [change.__name__ for change in renderer.layout.changes]:
            assert "As on the map." in built.split("Q0: where?")[0], name
        assert [built.count(part) for part in order] == [1] * len(order), name
        places = [built.index(part) for part in order]
        assert places == sorted(places), name
        assert built.endswith(f"Q2: well?{header}"), name
        marks = re.findall(r"<\|?/?[a-z_]*(?:response|output|result)[a-z_]*\|?>", built)
        if not renderer.native:  # then the mark with which replies end is none of a result
            marks = [mark for mark in marks if mark != awaited(renderer.codec)]
        assert len(marks) in (0, 2 * len(results), len(results)), (name, marks)


HERMES = ("qwen2_5", "qwen3", "qwen3_instruct_2507", "qwen3_vl")


@pytest.mark.parametrize("name", HERMES)
@pytest.mark.parametrize("system", ["Be brief.", ""])
def test_an_episode_has_the_text_that_the_family_itself_writes(texts: dict[str, str], name: str, system: str) -> None:
    """Where calls have the codec's form, the pieces join to what the template makes of calls and tools as data."""
    renderer = renderer_of(texts[name])
    opening = [Message("system", system)] if system else []
    opening.append(Message("user", "Which castle?"))
    built = renderer.opening(opening, [TOOL])
    native: list[dict[str, Any]] = [{"role": m.role, "content": m.content} for m in opening]
    for place, results in (("Wye", ["Chepstow", "Goodrich"]), ("Usk", ["Raglan"])):
        reply = called(place)
        built += renderer.codec.write(reply) + renderer.extension([answered(r) for r in results], closed=False)
        function = {"name": "find_castle", "arguments": {"place": place}}
        native.append({"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]})
        native += [{"role": "tool", "content": r} for r in results]
    wanted = renderer.tokenizer.apply_chat_template(
        native, tools=[tool_schema(TOOL)], tokenize=False, add_generation_prompt=True
    )
    assert built == wanted


OTHERWISE = ("qwen3_5_nothink", "qwen3_5_nothink_training")
"""Templates whose generation prompt closes thinking before it began."""


def test_thinking_in_data_is_learned_as_the_template_itself_writes_it(
    texts: dict[str, str], mistral: dict[str, str]
) -> None:
    """Wherever a template shows thinking that it is given as data, its text begins with the reply behind the prompt."""
    shown = set()
    entry = {"role": "assistant", "content": "It is.", "reasoning_content": "T: hm."}
    (reply,) = from_messages([entry])
    for name, text in {**texts, **mistral}.items():
        renderer = renderer_of(text)
        entries = [{"role": "user", "content": "Q?"}, {**entry, "thinking": "T: hm."}]
        if "in_parts" in [change.__name__ for change in renderer.layout.changes]:
            continue  # templates of models that see, which show no thinking
        whole = renderer.tokenizer.apply_chat_template(entries, tokenize=False)
        if "T: hm." in whole and name not in OTHERWISE:
            built = renderer.opening([Message("user", "Q?")]) + renderer.reply(reply)
            assert whole.partition("Q?")[2].startswith(built.partition("Q?")[2]), name
            shown.add(name)
    assert {"qwen3", "glm4moe", "gptoss", "muse_glimmer", "gemma4_v5", "lfm2_2_5_v2", "mistral_v13_think"} <= shown
    assert len(shown) >= 25
    for name in ("gemma4", "gemma4_v2", "gemma4_v4"):  # which show it before calls only, or never
        assert renderer_of(texts[name]).reply(reply) == "<|channel>thought\nT: hm.\n<channel|>It is.", name
    assert renderer_of(mistral["mistral_v13_think"]).reply(reply) == "[THINK]T: hm.[/THINK]It is."


def test_a_reply_without_thinking_closes_what_the_prompt_opened(texts: dict[str, str]) -> None:
    opened = set()
    for name, text in texts.items():
        renderer = renderer_of(text)
        if renderer.opens:
            written = renderer.opening([Message("user", "Q?")]) + renderer.reply(Message("assistant", "It is."))
            assert not open_thought(written), name
            assert written.endswith("It is."), name
            opened.add(name)
    assert {"deepseekv3", "qwen3_5_think", "nemotron_3_nano"} <= opened


@pytest.mark.parametrize("name", ["gptoss", "llama3_2", "muse_glimmer"])
def test_templates_that_ask_for_the_day_are_told_one(texts: dict[str, str], name: str) -> None:
    texts_of_days = {
        fitted(table.tokenizer_of(texts[name]), date=DATE).opening([Message("user", "?")]) for _ in range(2)
    }
    assert len(texts_of_days) == 1
    assert re.search("2026-01-01|01 Jan 2026", texts_of_days.pop())


def test_no_family_lets_foreign_text_forge_a_turn(texts: dict[str, str]) -> None:
    for name, text in texts.items():
        renderer = renderer_of(text)
        evil = " ".join(renderer.special)
        counted = [
            renderer.extension([answered(words), Message("user", words)], closed=True) for words in ("plain", evil)
        ]
        kept = [mark for mark in renderer.special if counted[0].count(mark) != counted[1].count(mark)]
        assert all(mark in json.dumps(renderer.codec.show(answered("x"))) + "<think></think>" for mark in kept), (
            name,
            kept,
        )


@pytest.fixture(scope="module")
def mistral() -> dict[str, str]:
    return mistral_templates()


@pytest.mark.parametrize(
    ("name", "form", "shown"),
    [
        ("mistral_v3_spm", "list", '[TOOL_RESULTS] {{"content": "a \\"b\\"", "call_id": "{}"}}[/TOOL_RESULTS]'),
        ("mistral_v3", "list", '[TOOL_RESULTS]{{"content": "a \\"b\\"", "call_id": "{}"}}[/TOOL_RESULTS]'),
        ("mistral_v7_spm", "list", '[TOOL_RESULTS] {}[TOOL_CONTENT] a "b"[/TOOL_RESULTS]'),
        ("mistral_v7", "list", '[TOOL_RESULTS]{}[TOOL_CONTENT]a "b"[/TOOL_RESULTS]'),
        ("mistral_v11", "args", '[TOOL_RESULTS]{}[TOOL_CONTENT]a "b"[/TOOL_RESULTS]'),
        ("mistral_v13", "args", '[TOOL_RESULTS]a "b"[/TOOL_RESULTS]'),
    ],
)
def test_results_stand_as_the_package_of_mistral_writes_them(
    name: str, form: str, shown: str, mistral: dict[str, str]
) -> None:
    """Under the id that the model gave the call, else one of nine digits; the system text stays where it was."""
    renderer = renderer_of(mistral[name])
    assert (renderer.codec, renderer.layout.name, renderer.own_tools) == (codec("mistral", form=form), "tool", True)
    text = renderer.opening([Message("system", "S."), Message("user", "Q?")], [TOOL])
    assert [text.count(part) for part in ("S.", "Q?", "As on the map.")] == [1, 1, 1]
    results = [Message("tool", 'a "b"', name="find_castle", call_id=name) for name in ("k3jd9Lm2x", "call_1")]
    added = renderer.extension([*results, Message("user", "Q2?")], closed=True)
    assert added.startswith(shown.format("k3jd9Lm2x") + shown.format("000000001") + "[INST]")
    assert added.partition("[INST]")[2].strip() == "Q2?[/INST]"
