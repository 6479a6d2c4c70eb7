"""Figures for reports, as inline SVG: no addresses, no scripts, the same bytes every time.

matplotlib is imported when the first figure is drawn; scoring never needs it.
"""

from __future__ import annotations

__all__ = [
    "NUMBERED_LABELS",
    "draw_class_shares",
    "draw_confusion",
    "draw_curve",
    "draw_history",
    "draw_reliability",
    "percent",
    "svg",
]

import html
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from charrnn.model.calibration import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_INK, _GREY, _BLUE = "#1b1f24", "#8c959f", "#0072b2"  # after Okabe & Ito
NUMBERED_LABELS = 24  # more leave no room for a figure in a cell


def svg(key: str, title: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    """Return a drawing as an inline SVG element, the same bytes every time.

    ``draw`` fills a figure of ``size`` inches; ``key`` keeps its ids apart from other drawings'.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.hashsalt": "charrnn",
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.size": 9,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _GREY,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": _GREY,
        "ytick.color": _GREY,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
    }
    stream = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        for artist in figure.findobj():
            artist.set_clip_on(False)  # clip paths are references, and nothing here needs one
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return _inline(stream.getvalue(), key, title)


def _inline(document: str, key: str, title: str) -> str:
    """Return matplotlib's SVG document as an element of a page: no metadata, no addresses, no
    fixed size, no ids but those it uses, and these its own."""
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", document, flags=re.S)
    svg = svg[svg.index("<svg") :]
    attributes, body = svg[len("<svg") : svg.index(">")], svg[svg.index(">") :]
    box = re.search(r'viewBox="[^"]*"', attributes)
    used = set(re.findall(r'xlink:href="#([^"]+)"', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", body)
    body = body.replace('xlink:href="#', f'xlink:href="#{key}-')
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", body)
    label = html.escape(title)
    return f'<svg role="img" aria-label="{label}" {box[0] if box else ""}{body}'.strip()


def draw_confusion(
    figure: Figure,
    counts: npt.NDArray[np.int64],
    totals: npt.NDArray[np.int64],
    names: Sequence[str],
) -> None:
    """Draw a confusion matrix: counts ``(L, L)`` by true label (row) and label given; the shade is
    the share of the row, whose ``totals`` are ``(L,)``."""
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    L = len(names)
    shares = counts / np.maximum(totals[:, None], 1)
    axes = figure.subplots()
    mesh = axes.pcolormesh(
        np.ma.masked_equal(shares, 0),
        cmap=colormaps["Blues"].resampled(40),  # few enough for a colour bar without an image
        norm=PowerNorm(0.5, 0, 1),
        edgecolors="white",
        linewidth=0.5,
    )
    size = min(9.0, 250 / L)
    if L <= NUMBERED_LABELS:
        for i, j in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[i, j] > 0.35 else _INK
            axes.text(j + 0.5, i + 0.5, f"{counts[i, j]}", ha="center", va="center",
                      color=color, fontsize=size * 0.8)  # fmt: skip
    rows = [f"{name} ({n:,})" for name, n in zip(names, totals, strict=True)]
    axes.set_xticks(np.arange(L) + 0.5, names, rotation=90, fontsize=size)
    axes.set_yticks(np.arange(L) + 0.5, rows, fontsize=size)
    axes.tick_params(length=0)
    axes.set_xlim(0, L)
    axes.set_ylim(L, 0)
    axes.set_xlabel("Label given")
    axes.set_ylabel("True label (test names)")
    axes.spines[:].set_visible(True)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.7, pad=0.02)
    if bar.solids is not None:
        bar.solids.set_edgecolor("face")  # no seams
    ticks = (0, 0.01, 0.05, 0.2, 0.5, 1)
    bar.set_ticks(list(ticks), labels=[percent(tick, 0) for tick in ticks])
    bar.set_label("Share of the row (square-root scale)")


def draw_reliability(figure: Figure, found: Mapping[str, Sequence[Any]]) -> None:
    """Draw accuracy against confidence by bin, with 95 % Wilson intervals, and the bins' counts."""
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    count = np.array(found["count"])
    used = count > 0
    n = count[used]
    x, y = (np.array(found[key], float)[used] for key in ("confidence", "accuracy"))
    bounds = np.array([wilson_interval(round(a * k), int(k)) for a, k in zip(y, n, strict=True)])
    errors = np.maximum(np.abs(bounds.T - y), 0)
    upper.plot((0, 1), (0, 1), color=_GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
    upper.errorbar(x, y, yerr=errors, fmt="o", color=_BLUE, markersize=5, elinewidth=1.2)
    upper.set_ylabel("Accuracy")
    upper.set_ylim(0, 1)
    edges = np.linspace(0, 1, len(count) + 1)
    lower.bar(edges[:-1], count, width=np.diff(edges), align="edge", color=_BLUE,
              edgecolor="white", linewidth=0.8)  # fmt: skip
    for left, height in zip(edges, count, strict=False):
        if height:
            lower.annotate(f"{height:,}", (left + edges[1] / 2, height), (0, 2), ha="center",
                           textcoords="offset points", fontsize=8)  # fmt: skip
    lower.set_yticks([])
    lower.spines["left"].set_visible(False)
    lower.set_ylabel("Names")
    lower.set_xlabel("Confidence")
    lower.set_xlim(0, 1)
    _inpercent(lower.xaxis, upper.yaxis)


def draw_curve(
    figure: Figure,
    curve: Mapping[str, Any],
    points: Sequence[tuple[float, ...]],
    count: int,
) -> None:
    """Draw accuracy against the share of ``count`` names that is answered, ``points`` marked."""
    axes = figure.subplots()
    shown = curve["coverage"] >= 0.1  # fewer names have no accuracy to speak of
    x, y = curve["coverage"][shown], curve["accuracy"][shown]
    kept = np.maximum(1, np.round(x * count)).astype(int)
    bounds = np.array([wilson_interval(round(a * k), int(k)) for a, k in zip(y, kept, strict=True)])
    axes.fill_between(x, bounds[:, 0], bounds[:, 1], color=_BLUE, alpha=0.15, linewidth=0)
    axes.plot(x, y, color=_BLUE, linewidth=1.6)
    for share, accuracy, _ in points:
        axes.plot(share, accuracy, "o", color=_BLUE, markersize=5)
        axes.annotate(percent(accuracy), (share, accuracy), (-6, -10), ha="right",
                      textcoords="offset points")  # fmt: skip
    axes.set_ylim(max(0, np.floor(bounds.min() * 20) / 20), 1)
    axes.set_xlim(0.1, 1)
    axes.set_xlabel("Share of names answered")
    axes.set_ylabel("Accuracy of the answers")
    _inpercent(axes.xaxis, axes.yaxis)


def draw_class_shares(figure: Figure, shares: Sequence[tuple[str, float, float]]) -> None:
    """Draw two shares per label, (label, before, after): a hollow and a filled dot on one line."""
    axes = figure.subplots()
    labels, before, after = zip(*shares, strict=True)
    y = np.arange(len(labels))
    axes.hlines(y, before, after, color=_BLUE, linewidth=1.6)
    axes.plot(before, y, "o", color=_BLUE, markerfacecolor="white", markersize=6)
    axes.plot(after, y, "o", color=_BLUE, markersize=6)
    axes.set_yticks(y, labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=_GREY, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("Share of the rows")
    _inpercent(axes.xaxis)


# After Okabe & Ito: told apart also by people who see fewer colours.
_LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_RED = "#b3261e"


def draw_history(
    figure: Figure,
    when: Sequence[str],
    lines: Mapping[str, Sequence[float | None]],
    *,
    shares: bool = True,
    zero: bool = True,
    limits: Sequence[float] = (),
    marked: Collection[tuple[str, int]] = (),
    breaks: Sequence[int] = (),
) -> None:
    """Draw up to six values per run over the runs, each line named at its right end; a value that
    is None leaves a gap.

    Args:
        when: what each run is called, N of them.
        lines: name → N values.
        shares: write the values as per cent. zero: let the axis begin at 0.
        limits: values that get a dashed line.
        marked: (name, run) whose point is to stand out.
        breaks: runs before which a dotted line is drawn.
    """
    axes = figure.subplots()
    N = len(when)
    x = np.arange(N)
    for limit in limits:
        axes.axhline(limit, color=_GREY, linestyle=(0, (4, 3)), linewidth=0.8)
    for i in breaks:
        axes.axvline(i - 0.5, color=_INK, linestyle=(0, (1, 2)), linewidth=0.9)
    ends = []
    for color, (name, values) in zip(_LINES, lines.items(), strict=False):
        y = np.array([np.nan if value is None else value for value in values], float)
        axes.plot(x, y, "-", color=color, linewidth=1.5, marker="o", markersize=3 if N > 20 else 4)
        known = np.flatnonzero(~np.isnan(y))
        red = [i for i in known.tolist() if (name, i) in marked]
        axes.plot(x[red], y[red], "o", color=_RED, markersize=7)
        if known.size:
            ends.append((float(y[known[-1]]), name, color))
    if zero:
        axes.set_ylim(bottom=0)
    if shares:
        _inpercent(axes.yaxis)
    else:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    bottom, top = axes.get_ylim()
    step = (top - bottom) / 9  # a line of text
    height = -np.inf
    for value, name, color in sorted(ends) if len(lines) > 1 else ():
        height = max(value, height + step)
        axes.annotate(name, (1, height), (6, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", color=color, va="center")  # fmt: skip
    shown = range((N - 1) % -(-N // 8), N, -(-N // 8))
    axes.set_xticks(shown, [when[i].replace(" ", "\n") for i in shown], fontsize=7)
    axes.set_xlim(-0.3, N - 0.7)
    axes.grid(axis="y", color=_GREY, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _inpercent(*axes: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def percent(share: float, decimals: int = 1) -> str:
    return f"{100 * share:.{decimals}f} %"
