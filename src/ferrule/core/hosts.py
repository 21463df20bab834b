"""Names of hosts."""

from __future__ import annotations

__all__ = ["on_this_machine"]


def on_this_machine(host: str) -> bool:
    """Tell whether a host name is this machine itself, to which no proxy leads."""
    return host in ("localhost", "::1") or host.startswith("127.")
