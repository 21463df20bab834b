"""Reading a text takes time in proportion to its length, whatever the text: 1 MB against 64 kB."""

from __future__ import annotations

import gc
import itertools
import random
import time
from collections.abc import Callable

import pytest

from ferrule.chat.answer import boxed, final_answer
from ferrule.chat.blocks import text_gate
from ferrule.chat.codec import Codec, codec, codec_names, codec_type
from ferrule.chat.inline import to_messages
from ferrule.chat.reply import first_stop, in_thought
from ferrule.chat.tags import call_in, calls_in, element
from ferrule.core.records import Call, Message

pytestmark = pytest.mark.slow

SMALL, LARGE = 1 << 16, 1 << 20
FLOOR = 0.004  # seconds below which a time says nothing
# Sixteen times the text takes 16 times as long in linear reading, and 256 times in quadratic reading.
BOUND = 64

Reader = Callable[[str], object]


def forms() -> list[Codec]:
    """Every codec in each of its forms."""
    return [codec(name, **options) for name in codec_names() for options in getattr(codec_type(name), "FORMS", ({},))]


def named(form: Codec) -> str:
    return "-".join([form.name, *(str(getattr(form, key)) for key in ("form",) if hasattr(form, key))])


def called(form: Codec) -> str:
    """A call as the codec writes it."""
    arguments = {"code": "x = 1"} if form.name == "fence" else {"x": "one", "y": [2, {"z": 3}]}
    name = "python" if form.name == "fence" else "look_up"
    return form.write(Message("assistant", "", (Call(name, arguments, id="abcdefghi"),)))


def pieces(form: Codec) -> list[str]:
    """The words and marks that a call consists of."""
    text = called(form)
    cuts = sorted({0, len(text), *(i for i in range(1, len(text)) if text[i].isalnum() != text[i - 1].isalnum())})
    return [text[a:b] for a, b in itertools.pairwise(cuts)]


def grown(unit: str, size: int) -> str:
    return (unit * (size // len(unit) + 1))[:size]


def fences(size: int) -> str:
    """Fences of every length, the longest first, none of them closed."""
    longest = int((2 * size) ** 0.5)
    return "".join("`" * ticks + "x\n" for ticks in range(longest, 2, -1))[:size]


def mixed(form: Codec, size: int) -> str:
    draw = random.Random(named(form))
    words = [*pieces(form), "</think>", "<think>", "{", "[", '"', "\n", "```\n"]
    return grown("".join(draw.choice(words) for _ in range(400)), size)


FAMILIES: dict[str, Callable[[Codec, int], str]] = {
    "words": lambda form, size: grown("the water is cold, ", size),
    "whole calls": lambda form, size: grown(called(form) + "\n", size),
    "calls without ends": lambda form, size: grown(called(form)[: len(called(form)) * 3 // 4] + " ", size),
    "calls without beginnings": lambda form, size: grown(called(form)[len(called(form)) // 4 :] + " ", size),
    "beginnings of calls": lambda form, size: grown(called(form)[: len(called(form)) // 3] + "\n", size),
    "calls in closed thoughts": lambda form, size: grown(f"{called(form)} </think> ", size),
    "parts of calls in closed thoughts": lambda form, size: grown(f"{called(form)[:-9]}</think>", size),
    "brackets": lambda form, size: grown('{"a": [', size),
    "objects": lambda form, size: grown('{"a": [1, 2]} and ', size),
    "quotes": lambda form, size: grown("\"\\'", size),
    "blanks": lambda form, size: grown(" \n\t", size),
    "fences": lambda form, size: fences(size),
    "pieces of calls": mixed,
}

READERS: dict[str, Reader] = {
    "first_stop": lambda text: first_stop(text, ("</tool_call>", "\n```\n", "no such thing")),
    "in_thought": in_thought,
    "final_answer": final_answer,
    "boxed": boxed,
    "text_gate": text_gate,
    "element": lambda text: element(text, "answer"),
    "calls_in": calls_in,
    "call_in": call_in,
    "to_messages": lambda text: _messages(text),
}
TEXTS = {
    "words": "the water is cold, ",
    "thoughts": "<think></think>\n```\n",
    "opened thoughts": "<think>",
    "closed thoughts": "</think>",
    "answers": "<answer>",
    "tags": "<a><b></a>",
    "calls": '<tool_call>\n{"name": "f", "parameters": {}}\n',
    "code": "<code>\n```python\nx\n",
    "closed code": "<code>\n```python\nx\n```\n</code>\n<interpreter>\n1\n</interpreter>\n",
    "boxes": "\\boxed{",
    "labels": "Final Answer: ",
    "brackets": '{"answer": ',
}


def _messages(text: str) -> object:
    try:
        return to_messages(text)
    except ValueError as problem:
        return problem


def seconds(read: Reader, text: str) -> float:
    """Take the processor time without the collector, which goes over everything that other tests left."""
    gc.disable()
    try:
        began = time.process_time()
        read(text)
        return time.process_time() - began
    finally:
        gc.enable()


def check(read: Reader, small: str, large: str) -> None:
    """Compare processor times, the best of up to three: a busy machine takes longer now and then, not always."""
    few, many = FLOOR, float("inf")
    for _ in range(3):
        few = max(few, seconds(read, small)) if few == FLOOR else few
        many = min(many, seconds(read, large))
        if many <= BOUND * few:
            return
        few = max(FLOOR, min(seconds(read, small) for _ in range(3)))
    raise AssertionError(f"{len(small)} characters took {few:.4f} s, {len(large)} took {many:.4f} s")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", forms(), ids=named)
def test_codecs_read_in_linear_time(form: Codec, family: str) -> None:
    make = FAMILIES[family]
    check(form.read, make(form, SMALL), make(form, LARGE))


@pytest.mark.parametrize("form", forms(), ids=named)
def test_codecs_label_in_linear_time(form: Codec) -> None:
    check(form.spans, mixed(form, SMALL), mixed(form, LARGE))


@pytest.mark.parametrize("family", TEXTS)
@pytest.mark.parametrize("reader", READERS)
def test_other_readers_take_linear_time(reader: str, family: str) -> None:
    check(READERS[reader], grown(TEXTS[family], SMALL), grown(TEXTS[family], LARGE))
