"""Tools: typed functions with a JSON schema, how a call is checked and run, budgets, and the built-in tools."""

from __future__ import annotations

from ferrule.tools.tool import tool

__all__ = ["tool"]
