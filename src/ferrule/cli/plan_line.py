"""What a run says before it begins: device, number format, engine, packing, memory, and how text is laid out."""

from __future__ import annotations

from typing import Any

__all__ = ["answering_line", "training_line"]


def answering_line(policy: Any) -> str:
    """Return the plan of a run that only answers."""
    from ferrule.speed.expected import memory_expected

    return "plan: " + "; ".join(
        [_computed(policy), f"{_engine(policy)} engine", _memory(memory_expected(policy, trains=False)), _text(policy)]
    )


def training_line(policy: Any, settings: Any, *, what: str, plays: bool, reference: bool, longest: int = 0) -> str:
    """Return the plan of a run that trains ``policy``.

    ``what`` says what is learned, ``plays`` whether it samples, ``longest`` is the longest row in tokens, if known.
    """
    from ferrule.policies.packing.packed import why_padded
    from ferrule.speed.expected import memory_expected

    again = settings.gradient_checkpointing
    expected = memory_expected(policy, plays=plays, reference=reference, gradient_checkpointing=again, longest=longest)
    padded = why_padded(policy.model, autocast=policy.autocast)
    trained = sum(p.numel() for p in policy.parameters())
    total = sum(p.numel() for p in policy.model.parameters())
    parts = [
        what,
        _computed(policy),
        f"{_count(trained)} of {_count(total)} parameters train",
        *([f"{_engine(policy)} engine"] if plays else []),
        f"padded: {padded}" if padded else "packed",
        *(["activations computed again"] if again else []),
        _memory(expected),
        _text(policy),
    ]
    return "plan: " + "; ".join(part for part in parts if part)


def _computed(policy: Any) -> str:
    """Say where and in which number format a policy computes."""
    name = str(policy.dtype).removeprefix("torch.")
    if getattr(policy.model, "is_loaded_in_4bit", False):
        name = "4 bits"
    products = ", products in bfloat16" if policy.products != policy.dtype else ""
    return f"{policy.device}, {name}{products}"


def _engine(policy: Any) -> str:
    return "vllm" if hasattr(policy, "beside") else str(policy.engine.kind)


def _count(number: float) -> str:
    """Write a number of parameters: 3.5M, 8.2B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"


def _memory(expected: dict[str, float]) -> str:
    """Say what memory is expected, and what helps where it is more than there is."""
    says = f"memory {expected['total'] / 1e9:.1f} of {expected['memory'] / 1e9:.1f} GB expected"
    if "activations" not in expected and "cache" not in expected:
        says += " beside activations"
    if expected["total"] <= expected["memory"]:
        return says
    return f"{says}, more than there is (--gradient-checkpointing, --use-peft, --dtype bfloat16, --load-in-4bit)"


def _text(policy: Any) -> str:
    from ferrule.chat.fitted import said

    return said(policy.renderer)
