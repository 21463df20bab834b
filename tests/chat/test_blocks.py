"""Texts made of tagged blocks."""

from __future__ import annotations

import pytest

from ferrule.chat.blocks import answer_block, text_gate

GOOD = "<think>a</think><search>b</search><response>c</response><answer>USA</answer>"


@pytest.mark.parametrize(
    ("text", "published", "strict"),
    [
        (GOOD, True, True),
        (GOOD + " indeed", False, False),
        ("<answer>a</answer><think>b</think>", False, False),
        ("<tool>x</tool><answer>a</answer>", False, False),
        ("well <think>a</think> so <answer>b</answer>", True, False),
        ("<Think>a</Think><answer></answer>", True, True),
        ("<think>never closed<answer>a</answer>", True, False),
        ("", False, False),
        ("<answer>", False, False),
    ],
)
def test_gate(text: str, published: bool, strict: bool) -> None:
    assert text_gate(text) is published
    assert text_gate(text, anchored=True) is strict


def test_gate_is_quick_on_tags_that_never_close() -> None:
    assert not text_gate("<a>" * 30_000)
    assert not text_gate("".join(f"<t{i}>" for i in range(5_000)))


def test_the_last_answer_block_counts() -> None:
    assert answer_block("<answer>a</answer><answer> b </answer>") == " b "
    assert answer_block("bare") == "bare"
