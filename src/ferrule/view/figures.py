"""Pictures made with matplotlib: curves of one run, learning curves over seeds, and the figure of a claim.

A picture is drawn once and written twice: as PNG with fixed light colours, and as inline SVG whose colours are the
page's CSS variables, so that the same drawing follows a light or a dark page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.core.arrays import FloatArray
from ferrule.view.load import flatten, number, read_run
from ferrule.view.names import KNOWN, named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Curve",
    "claim_figure",
    "curve_figure",
    "curves",
    "distinct",
    "inline_svg",
    "learning_curve",
    "png",
    "smooth",
    "write_png",
]

# Drawing colours by the CSS variable that replaces them in a page.
COLOURS = {
    "ink": "#1c2530",
    "muted": "#65707d",
    "rule": "#dfe4ea",
    "first": "#1667c7",
    "second": "#c9510c",
    "third": "#0d8265",
}
_SERIES = ("first", "second", "third", "muted")

# Clocks and counters that only grow tell nothing as a curve.
_NOT_CURVES = {"step", "phase", "time", "seconds", "seed", "epoch"}


@dataclass(frozen=True)
class Curve:
    """One metric over training steps: ``series`` maps a phase (train, eval) to its (step, value) pairs.

    ``alike`` are the titles of metrics that have the very same numbers.
    """

    key: str
    title: str
    share: bool
    series: Mapping[str, tuple[tuple[float, float], ...]]
    meaning: str = ""
    alike: tuple[str, ...] = ()

    @property
    def constant(self) -> bool:
        """True when all recorded values are the same, or there is one: a number says as much as a picture."""
        values = [value for pairs in self.series.values() for _, value in pairs]
        return min(values) == max(values)

    @property
    def ends(self) -> tuple[float, float]:
        """Mean of the first and of the last tenth of the first series (at least one value each)."""
        values = [value for _, value in next(iter(self.series.values()))]
        width = max(1, len(values) // 10)
        return float(np.mean(values[:width])), float(np.mean(values[-width:]))

    def say(self, value: float) -> str:
        """Return a value in the unit of this curve."""
        return f"{value:.1%}" if self.share else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _matplotlib() -> Any:
    """Import matplotlib, or say which extra brings it."""
    try:
        import matplotlib
    except ImportError as problem:
        raise ImportError('pictures need matplotlib: pip install "ferrule[view]"') from problem
    return matplotlib


def _style() -> AbstractContextManager[None]:
    """Return the drawing style as a context, so that the caller's matplotlib settings stay as they are."""
    ink, muted, rule = COLOURS["ink"], COLOURS["muted"], COLOURS["rule"]
    style: AbstractContextManager[None] = _matplotlib().rc_context(
        {
            "font.family": "sans-serif",
            "font.size": 10,
            "text.parse_math": False,  # names of arms and metrics are text, whatever signs they hold
            "text.color": ink,
            "axes.labelcolor": muted,
            "axes.edgecolor": rule,
            "axes.titlecolor": ink,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.titlepad": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.spines.left": False,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "axes.axisbelow": True,
            "grid.color": rule,
            "grid.linewidth": 0.8,
            "xtick.color": rule,
            "ytick.color": rule,
            "xtick.labelcolor": muted,
            "ytick.labelcolor": muted,
            "ytick.major.size": 0,
            "legend.frameon": False,
            "legend.fontsize": 9.5,
            "lines.solid_capstyle": "round",
            "svg.fonttype": "none",
            "svg.hashsalt": "ferrule",
        }
    )
    return style


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches, apart from pyplot's global list."""
    _matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def curves(metrics: Iterable[Mapping[str, Any]]) -> list[Curve]:
    """Collect every numeric metric as a curve: known ones first, in order of importance, then the rest by name."""
    points: dict[str, dict[str, dict[float, float]]] = {}
    for index, row in enumerate(metrics):
        flat = flatten(row)
        step = number(flat.get("step"))
        phase = str(flat.get("phase", "train"))
        if phase == "data":  # what a stage learns from, told once
            continue
        for key, value in flat.items():
            reading = number(value)
            if key not in _NOT_CURVES and reading is not None:
                # A resumed run writes a step again; the later line is the one that counts.
                points.setdefault(key, {}).setdefault(phase, {})[float(index) if step is None else step] = reading
    order = list(KNOWN)
    listed = sorted(points, key=lambda key: (order.index(key) if key in order else len(order), key))
    result = []
    for key in listed:
        phases = sorted(points[key], key=lambda phase: (phase != "train", phase))
        series = {phase: tuple(sorted(points[key][phase].items())) for phase in phases}
        title, share, meaning = named(key)
        values = [value for pairs in series.values() for _, value in pairs]
        result.append(Curve(key, title, share and min(values) >= 0 and max(values) <= 1, series, meaning))
    return result


def distinct(curves: Iterable[Curve]) -> list[Curve]:
    """Return every curve once: of those with the same numbers the first, which names the others."""
    first: dict[Any, Curve] = {}
    for curve in curves:
        same = tuple(curve.series.items())
        known = first.get(same)
        first[same] = curve if known is None else replace(known, alike=(*known.alike, curve.title))
    return list(first.values())


def smooth(values: Sequence[float], width: int) -> FloatArray:
    """Return the centred moving mean over ``width`` values; the window shrinks at the ends."""
    series = np.asarray(values, dtype=np.float64)
    half = max(0, width // 2)
    total = np.concatenate([[0.0], np.cumsum(series)])
    low = np.maximum(np.arange(len(series)) - half, 0)
    high = np.minimum(np.arange(len(series)) + half + 1, len(series))
    return np.asarray((total[high] - total[low]) / (high - low), dtype=np.float64)


def _percent(axes: Axes) -> None:
    """Show the axis as percent from 0 to 100."""
    from matplotlib.ticker import PercentFormatter

    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


def _steps(axes: Axes) -> None:
    """Label the horizontal axis in whole steps."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel("training step")


def curve_figure(curve: Curve) -> Figure:
    """Draw one curve: raw values faint and their moving mean on top when there are many, evaluations as dots."""
    _matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with _style():
        figure = Figure(figsize=(4.9, 2.7))
        axes = figure.add_subplot()
        for index, (name, pairs) in enumerate(curve.series.items()):
            phase = name if len(name) <= 24 else name[:23] + "…"
            colour = COLOURS[_SERIES[min(index, len(_SERIES) - 1)]]
            steps, values = [p[0] for p in pairs], [p[1] for p in pairs]
            many = len(values) >= 20
            if many:
                axes.plot(steps, values, color=colour, alpha=0.28, linewidth=1)
                axes.plot(steps, smooth(values, max(5, len(values) // 12)), color=colour, linewidth=2, label=phase)
            else:
                marker = "o" if name != "train" or len(values) < 3 else ""
                axes.plot(steps, values, color=colour, linewidth=2, marker=marker, markersize=5, label=phase)
        if len(curve.series) > 1:
            axes.legend(loc="best")
        if curve.share:
            _percent(axes)
        _steps(axes)
        axes.margins(x=0.02)
        # The layout is settled once, so that every picture made of this figure is the same. A figure that keeps its
        # engine is drawn twice for each picture.
        ConstrainedLayoutEngine().execute(figure)
    return figure


def png(figure: Figure, *, dpi: int = 160, comment: str = "") -> bytes:
    """Return a figure as PNG on white. ``comment`` stands in the file, as plain bytes."""
    about = {"Software": None, **({"Comment": comment} if comment else {})}
    buffer = io.BytesIO()
    with _style():
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata=about)
    return buffer.getvalue()


def write_png(figure: Figure, path: str | Path, *, dpi: int = 160, comment: str = "") -> Path:
    """Write a figure as PNG on white (``png``) and return the path; folders are made as needed."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(png(figure, dpi=dpi, comment=comment))
    return target


def inline_svg(figure: Figure, label: str, key: str) -> str:
    """Return a figure as an ``<svg>`` element in the page's own colours and font.

    ``label`` is its text for screen readers and ``key`` keeps its element ids apart from those of other figures.
    """
    buffer = io.StringIO()
    with _style(), _matplotlib().rc_context({"svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    # Releases of matplotlib name the font's family by itself or at the end of the shorthand.
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", text)
    text = re.sub(r"(font: [^;\"]*?[\d.]+px) [^;\"]*", r"\1 var(--sans)", text)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    # Ids are local names of this drawing (figure_1, axes_1, clip paths); a page holds many drawings.
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{key}-", text)
    spoken = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{spoken}"', 1).strip()


def _grid(runs: Sequence[Sequence[tuple[float, float]]], width: int) -> tuple[FloatArray, FloatArray]:
    """Put smoothed series of several runs on their common steps: (steps, values by run)."""
    shared = sorted(set.intersection(*({step for step, _ in pairs} for pairs in runs)))
    rows = []
    for pairs in runs:
        flat = dict(zip([p[0] for p in pairs], smooth([p[1] for p in pairs], width), strict=True))
        rows.append([flat[step] for step in shared])
    return np.asarray(shared, dtype=np.float64), np.asarray(rows, dtype=np.float64)


def _held_out(folders: Sequence[Path]) -> list[tuple[float, float]]:
    """Return (before, after) success of the first evaluated arm of every run that recorded both."""
    from ferrule.view.compare import blocks

    pairs = []
    for folder in folders:
        for block in blocks(read_run(folder).evaluations)[:1]:
            before, after = block.rows[0].before.value, block.rows[0].after.value
            if before is not None and after is not None:
                pairs.append((before, after))
    return pairs


def learning_curve(
    run_dirs: Sequence[str | Path], path: str | Path, *, key: str = "success", window: int = 9, title: str = ""
) -> Path:
    """Draw one metric of several seeds as their mean with a band from the lowest to the highest, and write a PNG.

    Every seed is smoothed by a centred moving mean over ``window`` steps first. Success on held-out tasks before and
    after, where recorded, is drawn as dots at both ends, one per seed. The picture is 1200 x 600 pixels. Raises
    ``ValueError`` when a run has no training values of ``key``, and names those it has.
    """
    folders = [Path(run) for run in run_dirs]
    chosen: list[Curve] = []
    for folder in folders:
        listed = {curve.key: curve for curve in curves(read_run(folder).metrics) if "train" in curve.series}
        if key not in listed:
            raise ValueError(f"{folder} has no training values of {key!r}; it has {', '.join(listed) or 'none'}")
        chosen.append(listed[key])
    if not chosen:
        raise ValueError("learning_curve needs at least one run folder")
    steps, values = _grid([curve.series["train"] for curve in chosen], window)
    if not len(steps):
        raise ValueError("the runs have no training step in common")
    with _style():
        figure = _figure(8, 4)
        axes = figure.add_subplot()
        first, second = COLOURS["first"], COLOURS["second"]
        seeds = f"mean of {len(chosen)} seeds" if len(chosen) > 1 else "one seed"
        axes.plot(steps, values.mean(axis=0), color=first, linewidth=2.4, label=f"training tasks, {seeds}")
        if len(chosen) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(steps, low, high, color=first, alpha=0.18, linewidth=0, label="lowest to highest seed")
        ends = _held_out(folders) if key == "success" else []
        gap = 0.03 * max(1.0, float(steps[-1] - steps[0]))
        for side, x in ((0, float(steps[0]) - gap), (1, float(steps[-1]) + gap)):
            heights = [pair[side] for pair in ends]
            label = "held-out tasks, before and after" if side == 0 and heights else None
            axes.plot([x] * len(heights), heights, "o", color=second, markersize=6, alpha=0.85, label=label)
        if chosen[0].share:
            _percent(axes)
        _steps(axes)
        axes.set_title(title or chosen[0].title)
        axes.legend(loc="lower right")
    return write_png(figure, path, dpi=150)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of at least ``count`` panels, four in a row."""
    columns = min(4, count)
    rows = -(-count // columns)
    figure = _figure(2.9 * columns, 3.2 * rows)
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def _effect(axes: Axes, claim: Mapping[str, Any]) -> None:
    """Draw the effect with its interval, and the threshold as a dashed line."""
    low, high = (number(end) for end in claim["interval"])
    effect = number(claim["effect"])
    if low is not None and high is not None:
        axes.vlines(0, low, high, color=COLOURS["ink"], linewidth=2.5)
    if effect is not None:
        axes.plot([0], [effect], "o", color=COLOURS["ink"], markersize=8)
    axes.axhline(float(claim["threshold"]), color=COLOURS["second"], linewidth=1.5, linestyle="--")
    axes.set_title(f"effect: {claim['verdict']}")
    axes.set_xticks([0], ["95% interval,\nthreshold dashed"])
    axes.set_xlim(-1, 1)


def claim_figure(claim: Mapping[str, Any], path: str | Path) -> Path:
    """Draw a stored claim: every arm's measurements per seed, then the effect with its interval and threshold."""
    arms: Mapping[str, Mapping[str, Sequence[float]]] = claim["arms"]
    quantities = list(dict.fromkeys(name for arm in arms.values() for name in arm))
    with _style():
        figure, panels = _panels(len(quantities) + 1)
        for axes, quantity in zip(panels, quantities, strict=False):
            for place, measured in enumerate(arms.values()):
                colour = COLOURS[_SERIES[place % len(_SERIES)]]
                values = [v for v in map(number, measured.get(quantity, ())) if v is not None]
                axes.plot([place] * len(values), values, "o", color=colour, alpha=0.55, markersize=6)
                if values:
                    axes.hlines(float(np.mean(values)), place - 0.25, place + 0.25, color=colour, linewidth=2.5)
            axes.set_title(quantity.replace("_", " "), fontsize=10)
            turned = 60 if len(arms) > 3 else 0
            axes.set_xticks(range(len(arms)), list(arms), rotation=turned, ha="right" if turned else "center")
            axes.set_xlim(-0.6, len(arms) - 0.4)
        _effect(panels[-1], claim)
    return write_png(figure, path, dpi=120)
