"""The pocket models' tokenizer: exact, with words that begin alike wherever they stand."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.toys import tiny_model

from ferrule.chat.reply import pieces_of
from ferrule.core.flows import Ask
from ferrule.core.records import Message
from ferrule.policies.engine.rows import Row, Stops
from ferrule.policies.local import Local, load
from ferrule.policies.pocket.forms import layout
from ferrule.policies.pocket.tokenizer import ROLES, STRUCTURE, tokenizer_for


@cache
def tokenizer() -> Any:
    return tokenizer_for(["the name of the Name and castle_id, names of castles"] * 3, 360)


def ids_of(text: str) -> list[int]:
    return list(tokenizer()(text, add_special_tokens=False)["input_ids"])


def text_of(ids: list[int]) -> str:
    return str(tokenizer().decode(ids, skip_special_tokens=False))


def tokens_of(text: str) -> list[str]:
    return [str(token) for token in tokenizer().convert_ids_to_tokens(ids_of(text))]


pieces = st.text(max_size=8) | st.sampled_from(["\x0e", "\x0e0", "A", "b", " the", *ROLES, *STRUCTURE])
anything = st.lists(pieces, max_size=8).map("".join)


@settings(max_examples=300, deadline=None)
@given(anything)
@example("\x0ea\x0eA\x0e\x0e0\x0e")
@example("ÀÉ ß\ufffd\u0130 漢字 😀 the The THE\r\n\t the\x0e")
def test_any_text_comes_back_and_so_do_its_pieces(text: str) -> None:
    ids = ids_of(text)
    assert text_of(ids) == text
    assert "".join(pieces_of(text_of, ids)) == text


def test_the_piece_of_a_capital_comes_with_its_letter() -> None:
    assert tokens_of("Name") == ["Ď", *tokens_of("name")]
    assert pieces_of(text_of, ids_of("Name")) == ["", "Name"]
    assert text_of(ids_of("N")[:1]) == "\ufffd"


def test_a_word_has_the_same_pieces_wherever_it_stands() -> None:
    word = ids_of("castle")
    for text in (" castle", "castle_id", '"castle"', "(castle", "\ncastle"):
        ids = ids_of(text)
        assert any(ids[i : i + len(word)] == word for i in range(len(ids)))
    assert tokens_of("the name of") == [*tokens_of("the"), "Ġ", "name", "Ġof"]
    assert tokens_of(" often")[0] == "Ġ"


def test_digits_stand_alone_and_structure_is_one_token() -> None:
    assert tokens_of("1234") == list("1234")
    for text in (*ROLES, *STRUCTURE):
        assert len(ids_of(text)) == 1
    assert tokens_of('{"name": "castle", "arguments": {"name": 83}}</tool_call><|end|>') == [
        *('{"name": "', *tokens_of("castle"), '", "arguments": {"', "name", '": ', "8", "3", "}}"),
        *("</tool_call>", "<|end|>"),
    ]


def test_the_size_is_what_was_asked_for() -> None:
    words = " ".join(f"{a}{b}{c}{d}" for a in "bcdfg" for b in "aeiou" for c in "klmnp" for d in "aeiou")
    assert len(tokenizer_for([words] * 2, 400)) == 400
    assert tokenizer().pad_token_id == 0
    assert tokenizer().eos_token_id == 1


@pytest.mark.parametrize("stop", ["STOP", "Observation:", "nameX"])
def test_stop_strings_with_capitals_end_a_reply_at_once(stop: str) -> None:
    stops = Stops(tokenizer(), frozenset({1}))
    row = Row((), 200, 1.0, 0, stop=(stop,))
    ended = []
    for token in ids_of(f"the name {stop} of"):
        row.sampled.append(token)
        ended.append(stops.check(row))
    assert ended.index("stop") == len(ids_of(f"the name {stop}")) - 1


def test_a_saved_model_speaks_with_the_same_tokenizer(tmp_path: Path) -> None:
    policy = Local(tiny_model(vocab_size=len(tokenizer())), tokenizer(), layout("hermes"), max_tokens=30)
    policy.save(tmp_path)
    again = load(tmp_path, max_tokens=30)
    ask = Ask((Message("user", "The Name?"),), seed=3)
    ((one,),), ((two,),) = policy.generate([ask]), again.generate([ask])
    assert one.given == two.given
    assert one.sampled == two.sampled
    assert again.encode("A Castle\x0e") == policy.encode("A Castle\x0e")
