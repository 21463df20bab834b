"""Policies that bring many asks on together, and take new ones meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ferrule.core.flows import Ask
from ferrule.core.records import Reply

__all__ = ["Stream", "Streaming"]


class Stream(Protocol):
    """Asks on their way through a policy that brings many on together."""

    def begin(self, asks: Sequence[tuple[int, Ask]]) -> None:
        """Queue asks, each under a number of the caller's."""
        ...

    def advance(self) -> list[tuple[int, list[Reply]]]:
        """Do one piece of work and return the asks that are complete, by number."""
        ...

    def close(self) -> None:
        """Give up what is on its way."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """An extra power of a policy: asks may join while others are being answered."""

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks."""
        ...

    def stream(self) -> Stream:
        """Open a stream of asks."""
        ...
