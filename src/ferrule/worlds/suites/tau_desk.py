"""What the retail and the airline desk of tau-bench have in common: sums, handing over, payments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ferrule.tools.calculator import calculate

__all__ = ["HANDED_OVER", "balance", "method_of", "pay", "total"]

HANDED_OVER = "Transfer successful"
"""What handing over to a human returns."""


def total(expression: str) -> str:
    """Return the value of a sum, rounded to cents."""
    return str(round(float(calculate(expression)), 2))


def method_of(user: Mapping[str, Any], id: str) -> Mapping[str, Any]:
    """Return a payment method of a user; raises ``LookupError`` when it is not theirs."""
    known: Mapping[str, Any] = user["payment_methods"]
    if id not in known:
        raise LookupError(f"payment method {id!r} not found; the user has {', '.join(known)}")
    return known[id]  # type: ignore[no-any-return]


def balance(method: Mapping[str, Any], amount: float) -> None:
    """Raise ``ValueError`` when a gift card or a certificate holds less than ``amount``."""
    held = method.get("balance", method.get("amount"))
    if held is not None and held < amount:
        raise ValueError(f"{method['id']} holds {held}, not {amount}")


def pay(user: dict[str, Any], id: str, amount: float) -> None:
    """Take ``amount`` from a gift card (a negative amount is paid back); other methods keep no balance here."""
    method = user["payment_methods"][id]
    if method["source"] == "gift_card":
        field = "balance" if "balance" in method else "amount"
        method[field] = round(method[field] - amount, 2)
