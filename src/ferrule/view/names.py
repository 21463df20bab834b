"""What the metrics of a run are called on its page, and what they mean."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["KNOWN", "Named", "named"]


class Named(NamedTuple):
    """How a metric is shown: its title with the unit, whether it is a share of one, and what it means."""

    title: str
    share: bool
    meaning: str


KNOWN: dict[str, Named] = {
    "success": Named("Success", True, "Share of episodes whose answer is right."),
    "reward/mean": Named("Reward, mean", False, "What the recipe pays for an episode, on average."),
    "reward/std": Named("Reward, spread", False, "Standard deviation of the rewards of a step; 0: nothing to compare."),
    "calls/mean": Named("Tool calls per episode", False, "Calls whose tool ran; the episode went on."),
    "attempts": Named("Attempted calls (per step)", False, "Calls that the model wrote, run or not."),
    "malformed/share": Named("Unreadable calls", True, "Share of the attempts that are not in the codec's form."),
    "unknown_tool/share": Named("Calls of unknown tools", True, "Share of the attempts that name no tool on offer."),
    "groups/mixed": Named("Mixed groups", True, "Groups with right and with wrong episodes."),
    "groups/zero_spread": Named("Groups without spread", True, "Groups with equal rewards: they teach nothing."),
    "turns/mean": Named("Replies per episode", False, "How often the model was asked."),
    "length/mean": Named("Tokens written per episode", False, "By the model; prompts and tool results do not count."),
    "cut_off/share": Named("Cut-off episodes", True, "Share of episodes that ended at the token limit of a reply."),
    "loss": Named("Loss", False, "What the step made smaller; its sign and size depend on the recipe."),
    "accuracy": Named("Pairs in the right order", True, "Share of the held-out pairs whose chosen reply leads."),
    "margin": Named("Lead of the chosen reply (nats)", False, "Over the rejected one, mean of the held-out pairs."),
    "rows": Named("Rows learned from (per step)", False, "Of data: conversations or texts; a pair counts as two."),
    "tokens/learned": Named("Tokens of data learned from (per step)", False, "Those of rows that the loss counts."),
    "entropy": Named("Entropy (nats per token)", False, "How open the model's choice is; near 0 samples are alike."),
    "kl": Named("Divergence (nats per token)", False, "How far the weights moved from those that sampled the batch."),
    "grad_norm": Named("Gradient norm", False, "Size of the gradient before it is clipped."),
    "learning_rate": Named("Learning rate", False, "Of the optimiser, by the schedule."),
    "tokens": Named("Tokens learned from (per step)", False, "The model's own tokens in the batch."),
    "tokens/sampled": Named("Tokens generated (per step)", False, "Dropped groups and discarded branches included."),
    "groups": Named("Groups per step", False, "Tasks that were learned from, each with its samples."),
    "dropped": Named("Groups dropped (per step)", False, "Groups that the recipe does not keep."),
    "drifted": Named("Episodes left out (per step)", False, "Their token ids were not append-only."),
    "repairs": Named("Repaired calls (per step)", False, "Slips in calls and arguments that could be mended."),
    "optimizer_steps": Named("Optimiser steps (per step)", False, "Minibatches times passes over the batch."),
    "seconds/sample": Named("Sampling (s per step)", False, "Playing and scoring the episodes."),
    "seconds/update": Named("Learning (s per step)", False, "Log-probabilities, gradients and the optimiser."),
    "memory/entries": Named("Entries in memory", False, "Live ones, after the episodes of the step were kept."),
    "memory/shown": Named("Entries shown, added up", False, "Over all episodes that were kept, by the live entries."),
    "memory/credit": Named("Credit of the memory", False, "Scores minus what was expected, of the live entries."),
    "stale/steps": Named("Age of the batch (steps)", False, "How many updates older the sampling weights were."),
    "stale/weight": Named("Importance weight, mean", False, "Probability of a token now over that when sampled."),
    "stale/capped": Named("Capped importance weights", True, "Share of the tokens whose weight reached its cap."),
    "stale/kl": Named("Staleness (nats per token)", False, "Divergence of the sampling weights from the present ones."),
}  # fmt: skip
"""Metrics in the order in which they are shown."""

_OF_ROLES = {
    "asks": "Times this role was asked, per step.",
    "tokens": "Tokens that this role wrote, per step.",
    "seconds": "Seconds waited for this role, per step.",
}


def named(key: str) -> Named:
    """Return the name of any metric; parts of the reward and shares of roles are recognised by their form."""
    if key in KNOWN:
        return KNOWN[key]
    kind, _, rest = key.partition("/")
    if kind == "reward" and rest:
        return Named(f"Reward, part {rest}", False, f"Mean of the part {rest!r} that the reward is made of.")
    if kind in _OF_ROLES and rest:
        return Named(f"{kind.capitalize()} of {rest}", False, _OF_ROLES[kind])
    return Named(key, key.endswith("/share"), "")
