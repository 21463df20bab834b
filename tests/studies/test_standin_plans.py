"""Chains of arithmetic: which plans can be carried out."""

from __future__ import annotations

from ferrule.studies.standins.plans import code_of, run_code


def test_plans_that_cannot_be_carried_out() -> None:
    """Whatever the code, two of four plans are not expressions; the other two can be right, wrong or invalid."""

    def statuses(plan: int) -> set[str]:
        return {run_code(code_of("7", "3", 0, plan, a, b, c)).status for a in (0, 1) for b in range(4) for c in (0, 1)}

    assert [statuses(plan) for plan in range(4)] == [{"ok", "error"}, {"ok", "error"}, {"error"}, {"error"}]
    assert run_code(code_of("7", "3", 0, 0, 0, 0, 0)).text == "10"
    assert run_code(code_of("7", "3", 0, 1, 1, 0, 1)).text == "10"
    assert run_code(code_of("7", "3", 0, 0, 0, 2, 0)).text == "4"
