"""A policy that answers an ask which it answered before from memory, for judges that are asked the same again."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from ferrule.core.flows import Ask, Policy
from ferrule.core.records import Reply
from ferrule.policies.recorded import prints_of

__all__ = ["RememberingPolicy", "remembering"]


class RememberingPolicy:
    """A policy that keeps its replies and gives them again to an ask that says the same.

    At temperature 0 the seed of an ask plays no part; otherwise only an ask with the same seed is the same, so that
    votes stay votes of their own. Replies that ended by an error are not kept. ``asked`` counts asks and ``reached``
    those that reached the policy; a reply from memory counts in the record of its episode like any other. Every other
    attribute is the policy's own.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.asked = self.reached = 0
        self._kept: dict[Hashable, list[Reply]] = {}
        if hasattr(policy, "agenerate"):
            self.agenerate = self._agenerate  # drivers look whether a policy has this power

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("agenerate", "stream") or "policy" not in vars(self):
            raise AttributeError(name)
        return getattr(self.policy, name)

    def generate(self, asks: Sequence[Ask]) -> list[list[Reply]]:
        """Answer all asks; those that say the same reach the policy once."""
        keys = [_key(ask) for ask in asks]
        new = {key: ask for key, ask in zip(keys, asks, strict=True) if key not in self._kept}
        self.asked, self.reached = self.asked + len(asks), self.reached + len(new)
        answers = dict(zip(new, self.policy.generate(list(new.values())), strict=True)) if new else {}
        self._keep(answers)
        return [list(answers[key] if key in answers else self._kept[key]) for key in keys]

    async def _agenerate(self, ask: Ask) -> list[Reply]:
        """Answer one ask; the same as ``generate`` on an event loop."""
        key, policy = _key(ask), self.policy
        self.asked += 1
        if key not in self._kept:
            self.reached += 1
            replies = list(await policy.agenerate(ask))  # type: ignore[attr-defined]
            self._keep({key: replies})
            return replies
        return list(self._kept[key])

    def _keep(self, answers: dict[Hashable, list[Reply]]) -> None:
        good = {key: replies for key, replies in answers.items() if all(reply.finish != "error" for reply in replies)}
        self._kept |= good


def _key(ask: Ask) -> Hashable:
    return (ask.n, None if ask.temperature == 0 else ask.seed, *prints_of(ask).items())


def remembering(policy: Policy) -> RememberingPolicy:
    """Return ``policy`` with a memory of its replies; see ``RememberingPolicy``."""
    return RememberingPolicy(policy)
