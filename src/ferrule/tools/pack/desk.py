"""Tools of the pack that make or keep something for the episode: files, slides, charts, and a shop with a cart."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Literal

from ferrule.core.arrays import nearest
from ferrule.core.records import Artifact, Observation, Tool
from ferrule.tools.tool import tool

__all__ = ["chart", "files", "shop_tool", "slides", "svg"]

_WIDTH, _HEIGHT, _EDGE = 480, 240, 30
_LONGEST = 100_000


def _folder() -> dict[str, str]:
    return {}


def _deck() -> list[str]:
    return []


def _cart() -> dict[str, int]:
    return {}


@tool(state=_folder, effects="write")
def files(
    state: dict[str, str], action: Literal["list", "read", "write", "append", "delete"], name: str = "", text: str = ""
) -> str:
    """Keep text files for this task.

    Args:
        action: what to do
        name: name of the file, for all but list
        text: what to write or append
    """
    if action == "list":
        return "\n".join(f"{key} ({len(value)} characters)" for key, value in sorted(state.items())) or "no files"
    if not name:
        raise ValueError(f"{action} needs the name of a file")
    if action in ("write", "append"):
        content = state.get(name, "") + text if action == "append" else text
        if len(content) > _LONGEST:
            raise ValueError(f"a file holds at most {_LONGEST} characters")
        state[name] = content
        return f"{name} has {len(content)} characters"
    if name not in state:
        raise ValueError(f"no file {name!r}; {nearest(name, list(state))}" if state else "there are no files")
    if action == "read":
        return state[name]
    del state[name]
    return f"{name} is deleted"


@tool(state=_deck, effects="write")
def slides(state: list[str], title: str, points: list[str]) -> Observation:
    """Add a slide to the presentation and show all of it.

    Args:
        title: heading of the slide
        points: its points, one each
    """
    state.append("\n".join([f"# {title}", *(f"- {point}" for point in points)]))
    text = "\n\n---\n\n".join(state)
    source = f"data:text/markdown;base64,{base64.b64encode(text.encode()).decode()}"
    return Observation(text, artifacts=(Artifact("slides.md", "text/markdown", len(text.encode()), source),))


@tool
def chart(labels: list[str], values: list[float], kind: Literal["bar", "line"] = "bar", title: str = "") -> Observation:
    """Draw a chart of numbers.

    Args:
        labels: what each number is of
        values: the numbers, as many as labels
        kind: bars, or points joined by a line
        title: what stands above
    """
    if len(labels) != len(values) or not values:
        raise ValueError(f"{len(labels)} labels for {len(values)} values; as many of each are needed, and one at least")
    if not all(map(math.isfinite, [*values, max(values) - min(values)])):
        raise ValueError("the values and what lies between them should be finite numbers")
    image = svg(labels, values, kind, title)
    source = f"data:image/svg+xml;base64,{base64.b64encode(image.encode()).decode()}"
    largest = max(range(len(values)), key=lambda place: values[place])
    text = f"a {kind} chart of {len(values)} values, largest {labels[largest]} with {values[largest]:g}"
    return Observation(text, artifacts=(Artifact("chart.svg", "image/svg+xml", len(image.encode()), source),))


def svg(labels: Sequence[str], values: Sequence[float], kind: str = "bar", title: str = "") -> str:
    """Return a chart as SVG, its axis at zero."""
    low, high = min(0.0, *values), max(0.0, *values)
    span = high - low or 1.0
    step = (_WIDTH - 2 * _EDGE) / len(values)

    def y(value: float) -> float:
        return round(_HEIGHT - _EDGE - (value - low) / span * (_HEIGHT - 2 * _EDGE), 1)

    middles = [round(_EDGE + step * (place + 0.5), 1) for place in range(len(values))]
    if kind == "bar":
        drawn = [
            f'<rect x="{x - step * 0.35:.1f}" y="{min(y(v), y(0)):.1f}" width="{step * 0.7:.1f}" '
            f'height="{abs(y(v) - y(0)):.1f}" fill="#4477aa"/>'
            for x, v in zip(middles, values, strict=True)
        ]
    else:
        points = " ".join(f"{x},{y(v)}" for x, v in zip(middles, values, strict=True))
        drawn = [f'<polyline points="{points}" fill="none" stroke="#4477aa" stroke-width="2"/>']
    names = [
        f'<text x="{x}" y="{_HEIGHT - 10}" text-anchor="middle" font-size="11">{escape(label)}</text>'
        for x, label in zip(middles, labels, strict=True)
    ]
    axis = f'<line x1="{_EDGE}" x2="{_WIDTH - _EDGE}" y1="{y(0)}" y2="{y(0)}" stroke="black"/>'
    above = f'<text x="{_WIDTH / 2:g}" y="18" text-anchor="middle">{escape(title)}</text>' if title else ""
    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join([above, *drawn, axis, *names])}</svg>'


def shop_tool(products: Mapping[str, Mapping[str, Any]]) -> Tool:
    """Return the tool ``shop`` over products with ``price``, ``stock`` and ``kind``; the cart is the episode's own."""

    @tool(state=_cart, effects="write")
    def shop(
        state: dict[str, int],
        action: Literal["search", "add", "remove", "cart", "buy"],
        product: str = "",
        count: int = 1,
    ) -> dict[str, Any]:
        """Look for products, fill a cart and buy what is in it.

        Args:
            action: search by words; add or remove a product; show the cart; buy it
            product: name of a product, or words to search for
            count: how many to add or remove
        """
        if action == "search":
            words = product.lower().split()
            fitting = {
                name: dict(entry)
                for name, entry in products.items()
                if all(word in f"{name} {entry['kind']}".lower() for word in words)
            }
            return {"products": fitting}
        if action in ("add", "remove"):
            if count < 1:
                raise ValueError(f"count is {count}; the least is 1")
            _move(state, products, product, count if action == "add" else -count)
        price = round(sum(products[name]["price"] * n for name, n in state.items()), 2)
        said: dict[str, Any] = {"cart": dict(state), "price": price}
        if action == "buy":
            if not state:
                raise ValueError("the cart is empty")
            state.clear()
            said["bought"] = True
        return said

    return shop


def _move(cart: dict[str, int], products: Mapping[str, Mapping[str, Any]], name: str, count: int) -> None:
    """Put a product into a cart, or with a negative count take it out."""
    if name not in products:
        raise ValueError(f"no product {name!r}; {nearest(name, list(products))}")
    left = cart.get(name, 0) + count
    if left < 0 or left > products[name]["stock"]:
        raise ValueError(f"the cart would hold {left} of {name}; possible are 0 to {products[name]['stock']}")
    cart[name] = left
    if left == 0:
        del cart[name]
