"""Solutions with code inside: split into messages and joined again, what carries loss, what a pause inserts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule.chat import inline
from ferrule.core.records import Message, Observation

TEXT = (
    "Let me compute.\n<code>\n```python\nprint(6*7)\n```\n</code>\n<interpreter>\n42\n</interpreter>\n\n"
    "So it is 42.\n<answer>\n\\boxed{42}\n</answer>"
)


def run(code: str) -> Observation:
    """A stand-in interpreter for two scripts."""
    if code == "print(6*7)":
        return Observation("42\n")
    return Observation(f"Traceback (most recent call last):\n  ...\nNameError: name '{code}' is not defined", "error")


def test_split_into_messages() -> None:
    first, result, last = inline.to_messages(TEXT)
    assert (first.role, first.content, first.calls[0].arguments) == (
        "assistant",
        "Let me compute.",
        {"code": "print(6*7)"},
    )
    assert (result.role, result.content, result.call_id) == ("tool", "42", first.calls[0].id)
    assert (last.role, last.content) == ("assistant", "So it is 42.\n\n\\boxed{42}")


def test_joining_is_the_inverse() -> None:
    assert inline.to_text(inline.to_messages(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("C<answer>\n\\boxed{2}\n</answer>", "C\n\\boxed{2}"),
        ("C\n<answer>\n\\boxed{2}\n</answer>", "C\n\n\\boxed{2}"),
        ("<answer>\n\\boxed{2}\n</answer>", "\\boxed{2}"),
        ("A\n\nB\n<answer>\nThus\n\\boxed{2}\n</answer>", "A\n\nB\n\nThus\n\\boxed{2}"),
    ],
)
def test_white_space_around_the_answer_stays(text: str, content: str) -> None:
    """Taking the two tags out leaves what stood around them, trimmed at the ends; joining puts them back in place."""
    (message,) = inline.to_messages(text)
    assert message.content == content
    assert inline.to_text([message]) == text


def test_an_answer_that_is_tagged_already_is_not_tagged_again() -> None:
    for content in ("C<answer>\n\\boxed{2}", "<answer>\n\\boxed{2}\n</answer>", "\\boxed{2}\n\nas said"):
        assert inline.to_text([Message("assistant", content)]) == content
    assert inline.to_text([Message("assistant", "\\boxed{\n2}")]) == "<answer>\n\\boxed{\n2}\n</answer>"


def test_fences_count_in_any_case() -> None:
    """The last fence holds the code; one written ``Python`` or ``PY`` is a fence like any other."""
    for name in ("Python", "PYTHON", "py", "python3"):
        text = TEXT.replace("```python", f"```{name}")
        assert inline.to_messages(text)[0].calls[0].arguments == {"code": "print(6*7)"}
        assert inline.code_of(f"```python\nx = 1\n```\nthen\n```{name}\nprint(6*7)\n```\n</code>") == "print(6*7)"
    assert inline.code_of("```pythonic\nx\n```") == ""


def test_only_the_interpreter_block_is_masked() -> None:
    """The text has 131 characters; the block from its opening to its closing tag has 31 of them."""
    mask = inline.loss_mask(TEXT)
    assert (len(TEXT), sum(mask)) == (131, 100)
    assert "".join(c for c, keep in zip(TEXT, mask, strict=True) if not keep) == "<interpreter>\n42\n</interpreter>"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<code>\n```python\nx\n```\n</code>\nand", "has no result"),
        ("<interpreter>\n1\n</interpreter>", "has no code block"),
        ("<code>\nx\n</code>", "stray tag"),
        (TEXT + TEXT, "follows the answer"),
        (TEXT + " more", "at the end"),
        (TEXT.replace("</code>\n", "</code>\nhm "), "between"),
    ],
)
def test_broken_texts_are_refused_with_the_reason(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        inline.to_messages(text)


words = st.text(alphabet="abc XYZ.,=+", min_size=1, max_size=20).map(str.strip).filter(bool)


@settings(deadline=None)
@given(st.lists(st.tuples(words, words, words), max_size=3), words, words)
def test_round_trip_of_any_canonical_text(rounds: list[tuple[str, str, str]], last: str, answer: str) -> None:
    text = "".join(
        f"{think}\n<code>\n```python\n{code}\n```\n</code>\n<interpreter>\n{result}\n</interpreter>\n\n"
        for think, code, result in rounds
    )
    text += f"{last}\n<answer>\n\\boxed{{{answer}}}\n</answer>"
    messages = inline.to_messages(text)
    assert inline.to_text(messages) == text
    assert [c.arguments["code"] for m in messages for c in m.calls] == [code for _, code, _ in rounds]
    assert len(inline.loss_mask(text)) == len(text)


def test_the_pause() -> None:
    generated = "Now:\n<code>\n```python\nprint(6*7)\n```\n</code>"
    code = inline.code_of(generated)
    assert code == "print(6*7)"
    appended = inline.observation_text(inline.result_text(code, run(code)))
    assert appended == "</code>\n<interpreter>\n42\n</interpreter>\n\n"


def test_results_of_failing_and_empty_code() -> None:
    assert inline.result_text("y", run("y")) == "NameError: name 'y' is not defined"
    assert inline.code_of("no code here") == ""
    assert inline.result_text("", Observation("")) == "None"
