"""The embedded model's card: right replies count, wrong ones do not, and every row can be drawn."""

from dataclasses import replace
from typing import Any

import pytest

from ferrule.core.records import Call, Message, Reply
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
        if self.spoil == "blank":
            return replace(message, content="") if message.calls else message
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


@pytest.mark.parametrize(("spoil", "right"), [("", 0), ("blank", 4)])
def test_without_a_plan_means_without_a_word_before_the_call(spoil: str, right: int) -> None:
    told = Told(["lookup, no plan"], 4, spoil)
    card = measure(None, 4, rows=["lookup, no plan"], reader=lambda policy, form: told)  # type: ignore[arg-type, return-value]
    assert card["lookup, no plan"]["right"] == right


def test_a_program_is_judged_by_what_it_prints() -> None:
    wanted = Message("assistant", "", (Call("python", {"code": "numbers = [2, 3]\nprint(sum(numbers))"}),))
    for code, right in (("print(3 + 2)", True), ("print(6)", False), ("print(5", False)):
        reply = Reply(Message("assistant", "", (Call("python", {"code": code}),)))
        assert ROWS["program"].right(reply, wanted) is right
    assert not ROWS["program"].right(Reply(Message("assistant", "5")), wanted)


def test_calls_in_code_may_name_their_arguments_in_any_order() -> None:
    wanted = Message("assistant", "", (Call("python", {"code": "print(price(name='a', day=2))"}),))
    for code, right in (('print(price(day=2, name="a"))', True), ("print(price(day=3, name='a'))", False)):
        reply = Reply(Message("assistant", "", (Call("python", {"code": code}),)))
        assert ROWS["lookup, fence"].right(reply, wanted) is right


def test_a_malformed_call_is_wrong_even_where_nothing_is_to_be_given() -> None:
    wanted = Message("assistant", "", (Call("refresh", {}),))
    for problem, right in (("", True), ("no closing brace", False)):
        reply = Reply(Message("assistant", "", (Call("refresh", {}, problem=problem),)))
        assert ROWS["action"].right(reply, wanted) is right


@pytest.mark.parametrize("name", list(ROWS))
def test_every_row_has_conversations_of_its_own(name: str) -> None:
    row = ROWS[name]
    for drawn in _conversations(row, 3, 1):
        asks = _asks(drawn, row)
        assert asks
        assert row.keep(drawn)
        if row.system:
            assert [m.content for m in asks[0][0].messages if m.role == "system"] == [row.system]
        if row.repaired:
            assert asks[0][0].messages[-1].role == "tool"
            assert asks[0][1].calls
        if not row.whole:
            assert len(asks) == 1
