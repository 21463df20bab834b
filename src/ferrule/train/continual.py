"""Learning in rounds, each on new rows and some of the earlier ones: tools are added and old ones are not forgotten.

Source: "LLMs in the Imaginarium: Tool Learning through Simulated Trial and Error" (paper 19).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ferrule.core.recipe import Method, Stage
from ferrule.data.mixing import replayed
from ferrule.train.stage import sft

__all__ = ["continual"]


def continual(
    batches: Sequence[Sequence[Any]],
    *,
    share: float = 0.1,
    general: Sequence[Any] = (),
    stage: Callable[..., Stage] = sft,
    **settings: Any,
) -> Method:
    """Return a method of a round per batch: round r trains on batch r, ``share`` of each earlier one and ``general``.

    ``batches`` hold rows, or pairs for a ``stage`` on pairs; what is drawn again is ``ferrule.data.mixing.replayed``.
    ``settings`` are those of the run that differ in every round. Raises ``ValueError`` without batches and for a share
    outside 0 to 1.
    """
    if not batches:
        raise ValueError("continual learning needs one batch at least")
    replayed(batches, len(batches) - 1, share=share)  # says what is wrong before the first round

    def data(policy: Any, lap: int) -> Sequence[Any]:
        return replayed(batches, lap, share=share, general=general)

    return Method((stage(data, **settings),), rounds=len(batches))
