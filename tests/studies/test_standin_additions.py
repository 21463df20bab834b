"""Sums with an adder: rows, episodes, and what a tiny model gives to them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ferrule.data.formats import trajectory_row
from ferrule.studies.standins import additions
from ferrule.studies.standins.additions import Problem


def test_only_what_is_written_carries_loss() -> None:
    """[prompt of 7][think, call][result of 4][answer, 3 digits, end]."""
    row = additions.tool_row(Problem(12, 34), think=1, answer=[6, 4, 0])
    assert [int(turn >= 0) for turn in row.turn] == [0] * 7 + [1, 1] + [0] * 4 + [1] * 5


class Oracle:
    """A student that thinks once, calls, and copies what it sees; without a tool it calls all the same."""

    def __call__(self, ids_NT: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, list[list[int]]]:
        seen = [[*old, *new] for old, new in zip(state or [[]] * len(ids_NT), ids_NT.tolist(), strict=True)]
        logits = torch.full((len(seen), 1, additions.WRITABLE), -60.0)
        for n, row in enumerate(seen):
            own = [i for i in row[7:] if i >= 0]
            script = [additions.THINK, additions.CALL, *[0] * 4, additions.ANSWER]
            script += [max(i - additions.RESULT - 1, 0) for i in own[3:6]] + [additions.END]
            logits[n, 0, script[min(len(own), len(script) - 1)] if len(own) < 10 else additions.END] = 0.0
        return logits, seen


def test_play_shows_results_and_cuts_rows_into_turns() -> None:
    oracle: Any = Oracle()
    pair = [Problem(123, 456), Problem(7, 8)]
    for tools in (True, False):
        played = additions.play(oracle, pair, tools=tools, generator=torch.Generator().manual_seed(0))
        assert [t.finish for t in played] == ["answer", "answer"]
        assert [len(t.turns) for t in played] == [2, 2]
        assert [t.answer == t.task.answer for t in played] == [tools, tools]
        assert [o.executed for t in played for _, o in t.calls] == [tools, tools]
        assert played[0].turns[0].sampled == (additions.THINK, additions.CALL)
        wanted = pair[0].result if tools else [additions.RESULT] + [additions.RESULT + 1] * 3
        assert list(played[0].turns[1].given) == wanted
    assert Problem(123, 456).digits == [9, 7, 5]


def test_rows_and_rollouts_are_scored_alike() -> None:
    """What sampling noted as log-probs is what the student gives to the same ids."""
    torch.manual_seed(0)
    student = additions.student()
    played = additions.play(student, [Problem(5, 6)] * 8, tools=True, generator=torch.Generator().manual_seed(1))
    for trajectory in played:
        row = trajectory_row(trajectory)
        ids, turn = torch.tensor([row.ids]), torch.tensor([row.turn])
        own = student.logps(ids, turn)[turn >= 0].tolist()
        assert own == pytest.approx([x for t in trajectory.turns for x in t.logps], abs=1e-4)
        assert trajectory.finish in ("answer", "length")
        assert trajectory.sampled_count <= additions.LONGEST
