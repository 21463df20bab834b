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

    ``malformed`` share of attempted calls that could not be read; ``rise`` by how much that share, or the share of
    replies cut off, may grow over the first window's; ``calls`` share of the first window's calls per task below which
    tool use has collapsed; ``entropy`` nats per token; ``zero_spread`` share of groups without any signal. A run that
    has learned nothing in its first ``early`` steps is told why.
    ``bands`` maps further metrics, such as ``cut_off/share`` or ``kl``, to the range ``(low, high)`` that their mean
    must stay in. ``stop`` ends the run at the first warning. ``rollbacks`` is how often a warning takes the run back to
    the weights of a checkpoint from before its window instead; the warning after those ends the run. Raises
    ``ValueError`` for a window below 1 and rollbacks below 0.
    """

    window: int = 8
    early: int = 3
    malformed: float = 0.3
    rise: float = 0.1
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


_TOO_EASY = "The tasks are too easy to learn from: choose harder levels, or be content."
_TOO_HARD = (
    "Begin with easier tasks (--levels 1,2), give tasks where all fail more tries (--retries 3), sample hotter "
    "(--temperature 1.3), let the model imitate its own rare successes first (--warm-up 30), or show it solutions "
    "(--warm-up-on demonstrations)."
)


def left_bands(metrics: Mapping[str, float], bands: Mapping[str, tuple[float, float]]) -> list[str]:
    """Name the metrics that are missing, not finite, or outside their band ``(low, high)``."""
    values = {name: metrics.get(name, math.nan) for name in bands}
    return [n for n, (low, high) in bands.items() if not (math.isfinite(values[n]) and low <= values[n] <= high)]


@dataclass
class Monitor:
    """Keeps the last window of metrics and returns new warnings; each kind of warning is given once per run."""

    health: Health = field(default_factory=Health)
    given: set[str] = field(default_factory=set)
    first: dict[str, float] = field(default_factory=dict)
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
        if len(self.rows) == self.health.early:
            warnings |= self._stuck()
        if len(self.rows) == self.health.window:
            warnings |= self._window_warnings()
        new = [text for kind, text in warnings.items() if kind not in self.given]
        self.given |= set(warnings)
        return new

    def _rises(self) -> dict[str, str]:
        """Compare the shares of unreadable calls and of cut-off replies with those of the first window."""
        warnings: dict[str, str] = {}
        for name, what, cure in (("malformed/share", "calls that cannot be read", ""),
                                 ("cut_off/share", "episodes that end in a reply cut off at its limit",
                                  ", or allow longer replies (max_completion_length)")):  # fmt: skip
            share = self._mean(name)
            first = self.first.setdefault(name, share)
            if share > first + self.health.rise:
                warnings[f"rise {name}"] = (
                    f"{what} rose from {first:.0%} to {share:.0%}. Where every sample of a task fails, a reward of the "
                    "answer alone cannot tell them apart, so nothing keeps their form: give it a weight (format_weight "
                    "of grpo, ferrule.rewards.format), lower the learning rate, or leave out the hardest levels"
                    f"{cure}."
                )
        return warnings

    def _stuck(self) -> dict[str, str]:
        """Say why a run has learned nothing from the beginning, and what to do."""
        steps, warnings = len(self.rows), dict[str, str]()
        bad = [row.get("malformed/share", 0.0) + row.get("unknown_tool/share", 0.0) for row in self.rows]
        if all(row.get("attempts") for row in self.rows) and min(bad) >= 1.0:
            warnings["unnamed"] = (
                f"in {steps} steps no call named a tool on offer in a form that can be read: the model does not know "
                "these tools or this form. Show it how first (a supervised stage: --warm-up 30 --warm-up-on "
                "demonstrations, ferrule.train.stage.sft), or take a model that knows the form (--codec, --model)."
            )
        if all(row.get("groups/zero_spread", 0.0) >= 1.0 for row in self.rows):
            success = self._mean("success")
            cure = _TOO_EASY if success > 0.5 else _TOO_HARD
            warnings["zero_spread"] = (
                f"in {steps} steps every group had equal rewards ({success:.0%} of the episodes are right), so nothing "
                f"was learned. {cure}"
            )
        return warnings

    def _window_warnings(self) -> dict[str, str]:
        if all(row.get("groups") == 0.0 for row in self.rows):
            return {"kept": (
                f"in {len(self.rows)} steps no group was kept for training, so nothing was learned. Choose harder or "
                "easier levels, or let other groups be drawn in place of dropped ones (Recipe.refill)."
            )}  # fmt: skip
        h, warnings = self.health, self._rises()
        calls = self._mean("calls/mean")
        first_calls = self.first.setdefault("calls/mean", calls)
        if (share := self._mean("malformed/share")) > h.malformed:
            warnings["malformed"] = f"{share:.0%} of the calls cannot be read; check the codec, or add a format reward."
        if first_calls and calls < h.calls * first_calls:
            warnings["calls"] = (
                f"calls per task fell from {first_calls:.2f} to {calls:.2f}; the model is giving tools up. "
                "A cold start on demonstrations or a lower learning rate usually helps."
            )
        played = "tokens/learned" not in self.rows[-1]  # rows from elsewhere are learned until they are certain
        if played and (entropy := self._mean("entropy")) < h.entropy:
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
