"""A reply that its limit cut off runs no unfinished call, whatever policy it comes from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ferrule.agents.react import ToolLoop
from ferrule.chat.codec import codec
from ferrule.core.flows import Ask
from ferrule.core.records import Finish, Message, Reply, Task, Tool
from ferrule.rollout.drive import drive
from ferrule.tools.tool import tool
from ferrule.worlds.user import UserWorld

TEXT = '<tool_call>\n{"name": "transfer", "arguments": {"to": "acct-7", "amount": 100'


class Cut:
    """Writes half a call, read by a codec that was not told how the reply ended; then an answer."""

    def __init__(self, finish: Finish) -> None:
        self.finish = finish

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        half = Reply(codec("hermes").read(TEXT), finish=self.finish)
        return [[half if len(ask.messages) == 1 else Reply(Message("assistant", "ok"))] for ask in asks]


def transfers(ran: list[int]) -> Tool:
    @tool(effects="irreversible")
    def transfer(to: str, amount: int) -> str:
        """Move money."""
        ran.append(amount)
        return "done"

    return transfer


@pytest.mark.parametrize(("finish", "sums"), [("length", []), ("cancelled", []), ("error", []), ("stop", [100])])
def test_a_call_that_was_cut_off_is_malformed(finish: Finish, sums: list[int]) -> None:
    ran: list[int] = []
    world = UserWorld("w", {"test": (Task("t", "pay", "ok", "w", meta={"verifier": "exact"}),)}, (transfers(ran),))
    (episode,) = drive(ToolLoop(), world.tasks("test", 1), world, Cut(finish))
    ((call, observation),) = episode.trajectories[0].calls
    assert ran == sums
    if not sums:
        assert (call.problem, observation.status, observation.text) == (
            "cut off",
            "malformed",
            "malformed call: cut off",
        )
    assert episode.trajectories[0].answer == "ok"
