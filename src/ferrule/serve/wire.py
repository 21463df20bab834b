"""What the host itself answers to a call, and observations as they travel over a link or HTTP."""

from __future__ import annotations

from typing import Any, get_args

from ferrule.core.exact import line_of, plain, read
from ferrule.core.records import Observation, Status

__all__ = ["host_reason", "http_body", "observation_of", "refusal"]

_STATUSES = frozenset(get_args(Status))
_HOST = frozenset(
    {
        *("queue_full", "too_many_episodes", "draining", "worker_unavailable", "open_failed", "host_failed"),
        *("worker_died", "expired", "memory", "time_limit", "too_large", "fork_failed", "unsupported"),
    }
)


def refusal(reason: str, text: str, status: Status = "refused", **more: Any) -> Observation:
    """Return the observation of a call that the host itself answered: ``data["reason"]`` says why."""
    return Observation(text, status, data={"reason": reason, **more})


def host_reason(observation: Observation) -> str:
    """Return why the host itself answered a call, and not a tool; empty when a tool did."""
    reason = observation.data.get("reason") if isinstance(observation.data, dict) else None
    return reason if isinstance(reason, str) and reason in _HOST else ""


def http_body(payload: Any) -> bytes:
    """Return ``payload`` as a body of JSON for any client: what has no JSON form is shown by its ``repr``."""
    return line_of(plain(payload))


def observation_of(record: Any) -> Observation:
    """Return the observation that ``write`` made of one.

    Raises ``ValueError`` for an invalid record: the other answers of such a server cannot be trusted either.
    """
    observation = read(Observation, record)
    if type(observation.text) is not str or observation.status not in _STATUSES:
        raise ValueError(f"an observation with a text {observation.text!r:.50} and status {observation.status!r:.50}")
    return observation
