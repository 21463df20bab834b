"""Health monitors: what goes wrong in tool RL before the reward shows it, told in one clear sentence each."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Health", "Monitor", "left_bands"]


@dataclass(frozen=True)
class Health:
    """Thresholds of the monitors, each over a window of steps.

    ``malformed`` share of calls that could not be read; ``calls`` share of the first window's calls per task below
    which tool use has collapsed; ``entropy`` nats per token; ``zero_spread`` share of groups without any signal.
    ``bands`` maps further metrics, such as ``cut_off/share`` or ``kl``, to the range ``(low, high)`` that their mean
    must stay in. ``stop`` ends the run at the first warning. ``rollbacks`` is how often a warning takes the run back to
    the weights of a checkpoint from before its window instead; the warning after those ends the run. Raises
    ``ValueError`` for a window below 1 and rollbacks below 0.
    """

    window: int = 8
    malformed: float = 0.3
    calls: float = 0.2
    entropy: float = 0.003
    zero_spread: float = 0.95
    bands: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    stop: bool = False
    rollbacks: int = 0

    def __post_init__(self) -> None:
        """Refuse values that no run could use, naming the field."""
        for name, least in (("window", 1), ("rollbacks", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"Health.{name} is {getattr(self, name)}; the least is {least}")


def left_bands(metrics: Mapping[str, float], bands: Mapping[str, tuple[float, float]]) -> list[str]:
    """Name the metrics that are missing, not finite, or outside their band ``(low, high)``."""
    values = {name: metrics.get(name, math.nan) for name in bands}
    return [n for n, (low, high) in bands.items() if not (math.isfinite(values[n]) and low <= values[n] <= high)]


@dataclass
class Monitor:
    """Keeps the last window of metrics and returns new warnings; each kind of warning is given once per run."""

    health: Health = field(default_factory=Health)
    given: set[str] = field(default_factory=set)
    first_calls: float | None = None
    rows: deque[Mapping[str, float]] = field(default_factory=deque)

    def _mean(self, name: str) -> float:
        values = [row[name] for row in self.rows if name in row]
        return sum(values) / len(values) if values else math.nan

    def check(self, row: Mapping[str, float]) -> list[str]:
        """Take one training row and return the warnings it gives rise to."""
        self.rows.append(row)
        while len(self.rows) > self.health.window:
            self.rows.popleft()
        warnings: dict[str, str] = {}
        if not math.isfinite(row.get("loss", 0.0)) or not math.isfinite(row.get("grad_norm", 0.0)):
            warnings["finite"] = (
                "the loss or its gradient is not finite; the step was skipped. Lower the learning rate."
            )
        if row.get("drifted", 0.0) > 0:
            warnings["drift"] = (
                "token ids of some samples were not append-only; those samples were left out of training."
            )
        if row.get("tokens") == 0.0 and row.get("groups", 0.0) > 0:
            warnings["silent"] = (
                "the model wrote nothing at all: its prompts, tools included, do not fit its context. Offer fewer "
                "tools, shorten the prompt, or take a model with a longer context."
            )
        if len(self.rows) == self.health.window:
            warnings |= self._window_warnings()
        new = [text for kind, text in warnings.items() if kind not in self.given]
        self.given |= set(warnings)
        return new

    def _window_warnings(self) -> dict[str, str]:
        h, warnings = self.health, {}
        calls = self._mean("calls/mean")
        if self.first_calls is None:
            self.first_calls = calls
        if (share := self._mean("malformed/share")) > h.malformed:
            warnings["malformed"] = f"{share:.0%} of the calls cannot be read; check the codec, or add a format reward."
        if self.first_calls and calls < h.calls * self.first_calls:
            warnings["calls"] = (
                f"calls per task fell from {self.first_calls:.2f} to {calls:.2f}; the model is giving tools up. "
                "A cold start on demonstrations or a lower learning rate usually helps."
            )
        if (entropy := self._mean("entropy")) < h.entropy:
            warnings["entropy"] = f"entropy is {entropy:.4f} nats per token; samples of a group are nearly equal now."
        if (share := self._mean("groups/zero_spread")) > h.zero_spread:
            warnings["zero_spread"] = (
                f"{share:.0%} of the groups have equal rewards and teach nothing; "
                "choose harder or easier levels, or keep only mixed groups."
            )
        means = {name: self._mean(name) for name in h.bands}
        for name in left_bands(means, h.bands):
            low, high = h.bands[name]
            warnings[f"band {name}"] = f"{name} is {means[name]:.4g}; it was to stay between {low:g} and {high:g}."
        return warnings
