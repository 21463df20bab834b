"""How many calls an episode may make."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ferrule.core.records import Tool

__all__ = ["Budget"]


class Budget:
    """A mutable allowance: ``total`` in units of ``Tool.cost`` and ``per_tool`` in calls by tool name.

    ``None`` and names that are not listed are unlimited. Terminal tools are never charged, so an episode can always
    end. Safe to charge from several threads at once.
    """

    def __init__(self, total: float | None = None, per_tool: Mapping[str, int] | None = None) -> None:
        """Start with nothing spent; negative allowances are refused."""
        self.total = total
        self.per_tool = dict(per_tool or {})
        self.spent = 0.0
        self.calls: dict[str, int] = {}
        self._lock = threading.Lock()
        if total is not None and not total >= 0:
            raise ValueError(f"Budget.total is {total}; the least is 0")
        for name, count in self.per_tool.items():
            if not count >= 0:
                raise ValueError(f"Budget.per_tool[{name!r}] is {count}; the least is 0")

    def refusal(self, tool: Tool) -> str:
        """Say why a call of ``tool`` is not allowed now; empty where it is."""
        with self._lock:
            return self._refusal(tool)

    def _refusal(self, tool: Tool) -> str:
        if tool.terminal:
            return ""
        used, most = self.calls.get(tool.name, 0), self.per_tool.get(tool.name)
        if most is not None and used >= most:
            return f"the budget of {most} call(s) of {tool.name!r} is spent"
        # The small slack keeps ten costs of 0.1 within a total of 1.0 in spite of rounding.
        if self.total is not None and self.spent + tool.cost > self.total + 1e-9:
            used_up = f"{self.spent:g} of {self.total:g} used, {tool.name!r} costs {tool.cost:g}"
            return f"the call budget is spent ({used_up})"
        return ""

    def charge(self, tool: Tool) -> str | None:
        """Spend one call of ``tool``; returns the reason when it is not allowed (and then spends nothing)."""
        with self._lock:
            reason = self._refusal(tool)
            if reason or tool.terminal:
                return reason or None
            self.spent += tool.cost
            self.calls[tool.name] = self.calls.get(tool.name, 0) + 1
        return None

    @property
    def left(self) -> float | None:
        """What remains of ``total``, or None when it is unlimited."""
        return None if self.total is None else max(0.0, self.total - self.spent)

    def copy(self) -> Budget:
        """Return an independent budget with the same allowances and the same amount spent."""
        with self._lock:
            twin = Budget(self.total, self.per_tool)
            twin.spent, twin.calls = self.spent, dict(self.calls)
        return twin
