"""What counts as a call, and the one count that metrics, reports, cards, rewards and health share.

A call counts when its tool ran and the episode went on (``Observation.counted``): what could not be read, named no
tool on offer, or was refused by a budget, a gate or a rule is an attempt and no call, and giving the answer is no call
either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ferrule.core.records import Observation, Trajectory, Turn

__all__ = ["Tally", "tally", "turns_of"]


@dataclass(frozen=True, slots=True)
class Tally:
    """How attempts to call tools ended.

    ``attempts`` are all answered ones, ``calls`` those that count, ``malformed`` could not be read, ``unknown_tool``
    named no tool on offer, ``refused`` were not permitted, and ``failed`` ended in anything but ``ok``.
    """

    attempts: int = 0
    calls: int = 0
    malformed: int = 0
    unknown_tool: int = 0
    refused: int = 0
    failed: int = 0

    @property
    def well_formed(self) -> float:
        """Share of attempts that could be read and named a tool on offer; 1.0 without attempts."""
        return 1.0 - (self.malformed + self.unknown_tool) / self.attempts if self.attempts else 1.0


def tally(observations: Iterable[Observation]) -> Tally:
    """Count how attempts ended, one observation each."""
    every = tuple(observations)
    status = [observation.status for observation in every]
    return Tally(
        attempts=len(every),
        calls=sum(observation.counted for observation in every),
        malformed=status.count("malformed"),
        unknown_tool=status.count("unknown_tool"),
        refused=status.count("refused"),
        failed=len(every) - status.count("ok"),
    )


def turns_of(paths: Iterable[Trajectory]) -> list[Turn]:
    """Return the turns of all paths of one episode; those that paths share, once."""
    return list({turn.id: turn for path in paths for turn in path.turns}.values())
