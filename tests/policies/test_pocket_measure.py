"""The embedded model's card: right replies count, wrong ones do not, and every row can be drawn."""

from dataclasses import replace
from typing import Any

import pytest

from ferrule.core.records import Message, Reply
from ferrule.policies.pocket.measure import ROWS, _asks, _conversations, measure


class Told:
    """Answers from what the card wants; ``spoil`` says what is wrong with every reply."""

    def __init__(self, names: list[str], tasks: int, spoil: str = "") -> None:
        rows = [ROWS[name] for name in names]
        pairs = [pair for row in rows for drawn in _conversations(row, tasks, 0) for pair in _asks(drawn, row)]
        self.wanted, self.spoil = [wanted for _, wanted in pairs], spoil

    def generate(self, asks: Any) -> list[list[Reply]]:
        """Return the wanted messages in the order they are asked for."""
        return [[Reply(self._spoilt(self.wanted.pop(0)))] for _ in asks]

    def _spoilt(self, message: Message) -> Message:
        if self.spoil == "argument" and message.calls:
            call = message.calls[0]
            return replace(message, calls=(replace(call, arguments={**call.arguments, "more": 1}),))
        if self.spoil == "plan":
            return replace(message, content="another plan") if message.calls else message
        return replace(message, content=f"{message.content}!") if self.spoil == "answer" else message


@pytest.mark.parametrize(("spoil", "right"), [("", 5), ("plan", 5), ("argument", 0), ("answer", 5)])
def test_first_calls_are_compared_by_name_and_arguments(spoil: str, right: int) -> None:
    told = Told(["lookup"], 5, spoil)
    card = measure(None, 5, rows=["lookup"], reader=lambda policy, form: told)  # type: ignore[arg-type, return-value]
    assert card == {"lookup": {"right": right, "tasks": 5}}


@pytest.mark.parametrize(("spoil", "right"), [("", 5), ("answer", 0)])
def test_a_whole_chain_needs_its_answer_too(spoil: str, right: int) -> None:
    told = Told(["whole chain"], 5, spoil)
    card = measure(None, 5, rows=["whole chain"], reader=lambda policy, form: told)  # type: ignore[arg-type, return-value]
    assert card["whole chain"]["right"] == right


@pytest.mark.parametrize("name", list(ROWS))
def test_every_row_has_conversations_of_its_own(name: str) -> None:
    row = ROWS[name]
    for drawn in _conversations(row, 3, 1):
        asks = _asks(drawn, row)
        assert asks
        assert row.keep(drawn)
        if row.system:
            assert row.system in str(asks[0][0].messages[0].content)
        if not row.whole:
            assert len(asks) == 1
