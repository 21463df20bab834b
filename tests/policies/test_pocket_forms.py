import json
from pathlib import Path

import pytest

from ferrule.chat.codec import codec_names
from ferrule.core.records import Call, Message, Tool
from ferrule.policies.pocket.forms import FORMS, layout

NUMBER = Tool("near", "Find what is near.", {"type": "object", "properties": {"n": {"type": "integer"}}}, print)


def test_every_form_is_a_codec() -> None:
    assert set(FORMS) < set(codec_names())
    assert next(iter(FORMS)) == "hermes"
    with pytest.raises(ValueError, match="react"):
        layout("raect")


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_have_the_same_turns(form: str) -> None:
    renderer = layout(form)
    call = Call("python", {"code": "print(near(n=3))"}) if form == "fence" else Call("near", {"n": 3})
    reply = Message("assistant", "Find what is near", (call,))
    messages = [Message("user", "hi"), reply, Message("tool", "7"), Message("assistant", "7")]
    text = renderer.opening(messages, [NUMBER])
    heads = [piece.split("|>")[0] for piece in text.split("<|")[1:]]
    assert heads == [
        *("system", "end", "user", "end", "assistant", "end", "tool", "end", "assistant", "end"),
        "assistant",
    ]
    sampled = renderer.codec.write(reply)
    assert not any(stop in sampled for stop in renderer.codec.stop)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "fence"])
def test_nothing_stops_a_reply_between_two_calls(form: str) -> None:
    c = layout(form).codec
    calls = (Call("near", {"n": 1}, id="call_0"), Call("near", {"n": 2}, id="call_1"))
    text = c.write(Message("assistant", "Both", calls))
    assert [call.arguments for call in c.read(text).calls] == [{"n": 1}, {"n": 2}]
    assert not any(stop in text for stop in c.stop)


@pytest.mark.parametrize("form", FORMS)
def test_a_saved_model_keeps_its_form(form: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    from ferrule.policies.local import Local, load
    from ferrule.policies.pocket.build import tokenizer_for

    tokenizer = tokenizer_for(["hello there"], 300)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    torch.manual_seed(0)
    Local(LlamaForCausalLM(config), tokenizer, layout(form)).save(tmp_path)
    assert json.loads((tmp_path / "ferrule.json").read_text())["options"]["style"] == "call"
    assert load(tmp_path).renderer == layout(form)
