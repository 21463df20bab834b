"""Contracts for changes of tables."""

from __future__ import annotations

import pytest

from ferrule.worlds.apis import Apis
from ferrule.worlds.apis_contracts import api_contracts
from ferrule.worlds.gated import Gated


def test_contracts_of_the_tables_let_the_expert_through() -> None:

    for task in Apis().tasks("train", 6, seed=5, levels=(4, 5)):
        session = Gated(Apis().start(task), *api_contracts(task))
        statuses = [session.act(call).status for calls in Apis().demonstrate(task).rounds for call in calls]
        assert set(statuses) == {"ok"}
        assert session.final()["changes"] == task.meta["state"]["changes"]


def test_tasks_that_change_nothing_have_no_contracts() -> None:
    with pytest.raises(ValueError, match="take levels 4 and 5"):
        api_contracts(Apis().tasks("train", 1, levels=(1,))[0])
