"""Text that is shown to a model: cut to a limit with a visible marker, and made safe to encode."""

from __future__ import annotations

from typing import Literal

from ferrule.core.arrays import nearest

__all__ = ["Keep", "clean", "clip"]

Keep = Literal["head", "tail", "middle"]


def clip(text: str, limit: int | None, keep: Keep = "head") -> str:
    """Cut ``text`` to ``limit`` characters; a marker line says how many characters were left out.

    ``keep="head"`` keeps the start, ``"tail"`` the end, ``"middle"`` the start and the end (the hole is in the
    middle). The marker comes on top of ``limit``. ``None`` keeps everything; a negative limit is refused.
    """
    if keep not in ("head", "tail", "middle"):
        raise ValueError(f"clip cannot keep {keep!r}; {nearest(str(keep), ['head', 'tail', 'middle'])}")
    if limit is not None and limit < 0:
        raise ValueError(f"clip limit is {limit}; the least is 0")
    if limit is None or len(text) <= limit:
        return text
    marker = f"[... {len(text) - limit} characters left out ...]"
    if keep == "head":
        return f"{text[:limit]}\n{marker}"
    if keep == "tail":
        return f"{marker}\n{text[len(text) - limit :]}"
    front = (limit + 1) // 2
    return f"{text[:front]}\n{marker}\n{text[len(text) - (limit - front) :]}"


def clean(text: str) -> str:
    """Replace lone surrogates, which no encoder or tokenizer takes, by the replacement character."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
