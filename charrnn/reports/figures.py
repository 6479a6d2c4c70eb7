"""Figures as inline SVG: self-contained, themed by the page's CSS, reproducible byte for byte.

matplotlib (extra ``train``) is imported when the first figure is drawn.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from charrnn.errors import printable
from charrnn.model.calibration import wilson_interval
from charrnn.model.facts import Reliability, RiskCoverage
from charrnn.reports.formats import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

NUMBERED_LABELS = 24  # a confusion matrix of more labels has no room for numbers in its cells
# Colours after Okabe & Ito, distinguishable with colour vision deficiencies.
_GREY, _BLUE, _RED = "#8c959f", "#0072b2", "#b3261e"
_LINES = (_BLUE, "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# Colours that follow the page's light or dark theme: replaced in the SVG by the CSS variable.
_INK, _PAPER = "#1b1f24", "#fefefe"
_THEMED = {_INK: "var(--ink)", _PAPER: "var(--paper)"}
_DASHED, _DOTTED = (0, (4, 3)), (0, (1, 2))  # offset and on-off lengths in points
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "charrnn",  # ids depend on the content only
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a $ in a label is a $
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


def svg(key: str, label: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    """Return a drawing as an inline SVG element, the same bytes for the same drawing.

    Args:
        key: prefix of the element's ids, unique within the page.
        label: the accessible name.
        size: width and height in inches.
        draw: draws on an empty figure.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    stream = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Text stays text, so the reader's fonts count; and the warning quotes a character of it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        for artist in figure.findobj():
            artist.set_clip_on(False)  # clip paths are url() references
        for text in figure.findobj(Text):
            text.set_text("\n".join(map(printable, text.get_text().split("\n"))))
            text.set_parse_math(False)  # a label may hold $
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return _inline(stream.getvalue(), key, label)


def svg_document(element: str, width: int) -> bytes:
    """Return an element of ``svg`` as a file of its own that follows the theme of its reader,
    ``width`` pixels wide at most."""
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    style = (
        f":root {{ --ink: #1b1f24; --paper: #fff; background: var(--paper); max-width: {width}px }}"
        "@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117 } }"
    )
    attributes, body = element.removeprefix("<svg").split(">", 1)
    place = 'preserveAspectRatio="xMinYMin"'
    return f"<svg {spaces} {place}{attributes}><style>{style}</style>{body}\n".encode()


def _inline(document: str, key: str, label: str) -> str:
    """Return matplotlib's SVG document as an element: without metadata, namespaces, fixed size and
    unused ids, in the colours and the font of the page."""
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", document, flags=re.S)
    attributes, body = svg[svg.index("<svg") + len("<svg") :].split(">", 1)
    box = re.search(r'viewBox="[^"]*"', attributes)
    used = set(re.findall(r'xlink:href="#([^"]+)"', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", body)
    body = body.replace('xlink:href="#', f'xlink:href="#{key}-')
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", body)
    for color, variable in _THEMED.items():
        body = body.replace(f": {color}", f": {variable}")
    name = html.escape(printable(label))
    return f'<svg role="img" aria-label="{name}" {box[0] if box else ""}>{body}'.strip()


def draw_confusion(
    figure: Figure,
    counts: npt.NDArray[np.int64],
    totals: npt.NDArray[np.int64],
    labels: Sequence[str],
) -> None:
    """Draw a confusion matrix, shaded by the share of the row.

    Args:
        counts: names by true label (row) and predicted label (column), ``(L, L)``.
        totals: names by true label, ``(L,)``; more than the row's sum where labels are left out.
        labels: the L labels.
    """
    from matplotlib.colors import ListedColormap, PowerNorm, to_rgba

    L = len(labels)
    shares = counts / np.maximum(totals[:, None], 1)  # (L, L)
    axes = figure.subplots()
    mesh = axes.pcolormesh(
        np.ma.masked_equal(shares, 0),
        # Opacity suits both themes; more steps would make the bar a raster image.
        cmap=ListedColormap([to_rgba(_INK, (i + 1) / 40) for i in range(40)]),
        norm=PowerNorm(0.5, 0, 1),
        edgecolors=_PAPER,
        linewidth=0.5,
    )
    size = min(9.0, 250 / L)
    if L <= NUMBERED_LABELS:
        for i, j in zip(*np.nonzero(counts), strict=True):
            color = _PAPER if shares[i, j] > 0.25 else _INK
            axes.text(j + 0.5, i + 0.5, f"{counts[i, j]}", ha="center", va="center",
                      color=color, fontsize=size * 0.8)  # fmt: skip
    rows = [f"{label} ({n:,})" for label, n in zip(labels, totals, strict=True)]
    axes.set_xticks(np.arange(L) + 0.5, labels, rotation=90, fontsize=size)
    axes.set_yticks(np.arange(L) + 0.5, rows, fontsize=size)
    axes.tick_params(length=0)
    axes.set(xlim=(0, L), ylim=(L, 0), xlabel="Predicted label", ylabel="True label (test names)")
    axes.spines[:].set_visible(True)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.7, pad=0.02)
    if bar.solids is not None:
        bar.solids.set_edgecolor("none")  # edges would overlap, and be darker
    ticks = (0, 0.01, 0.05, 0.2, 0.5, 1)
    bar.set_ticks(list(ticks), labels=[percent(tick, 0) for tick in ticks])
    bar.set_label("Share of the row (square-root scale)")


def draw_reliability(figure: Figure, bins: Reliability) -> None:
    """Draw a reliability diagram with 95 % Wilson intervals over a histogram of confidence.

    ``bins`` are B equal-width bins of confidence from 0 to 1; where rows have weights, intervals
    are those of the effective rows.
    """
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    count = np.array(bins.count)  # (B,)
    used = count > 0
    x, y = (np.array(m, float)[used] for m in (bins.confidence, bins.accuracy))
    sizes = np.array(bins.effective or bins.count)[used]
    errors = np.maximum(np.abs(_wilson(y, sizes).T - y), 0)
    upper.plot((0, 1), (0, 1), color=_GREY, linestyle=_DASHED, linewidth=1, zorder=1)
    upper.errorbar(x, y, yerr=errors, fmt="o", color=_BLUE, markersize=5, elinewidth=1.2)
    upper.set(ylabel="Accuracy", ylim=(0, 1))
    edges = np.linspace(0, 1, len(count) + 1)
    lower.bar(edges[:-1], count, width=np.diff(edges), align="edge", color=_BLUE,
              edgecolor=_PAPER, linewidth=0.8)  # fmt: skip
    for left, height in zip(edges, count, strict=False):
        if height:
            text = f"{height}" if height < 1000 else f"{height / 1000:.{int(height < 1e4)}f}k"
            lower.annotate(text, (left + edges[1] / 2, height), (0, 2), ha="center",
                           textcoords="offset points", fontsize=7)  # fmt: skip
    lower.spines["left"].set_visible(False)
    lower.set(yticks=[], ylabel="Names", xlabel="Confidence", xlim=(0, 1))
    _percent_ticks(lower.xaxis, upper.yaxis)


def draw_curve(
    figure: Figure, curve: RiskCoverage, points: Sequence[tuple[float, ...]], count: int
) -> None:
    """Draw accuracy by the share of names answered, with a band of 95 % Wilson intervals.

    Args:
        curve: P points of accuracy by coverage.
        points: (coverage, accuracy, …) to mark.
        count: number of all names.
    """
    axes = figure.subplots()
    shown = np.array(curve.coverage) >= 0.1  # below, the intervals are too wide
    x, y = np.array(curve.coverage)[shown], np.array(curve.accuracy)[shown]
    low, high = _wilson(y, np.maximum(1, np.round(x * count))).T
    axes.fill_between(x, low, high, color=_BLUE, alpha=0.15, linewidth=0)
    axes.plot(x, y, color=_BLUE, linewidth=1.6)
    for coverage, accuracy, *_ in points:
        axes.plot(coverage, accuracy, "o", color=_BLUE, markersize=5)
        axes.annotate(percent(accuracy), (coverage, accuracy), (-6, -10), ha="right",
                      textcoords="offset points")  # fmt: skip
    axes.set(xlim=(0.1, 1), ylim=(max(0, np.floor(low.min() * 20) / 20), 1))
    axes.set(xlabel="Share of names answered", ylabel="Accuracy of the answers")
    _percent_ticks(axes.xaxis, axes.yaxis)


def draw_class_shares(figure: Figure, shares: Sequence[tuple[str, float, float]]) -> None:
    """Draw (label, before, after), shares of 0 to 1, as a hollow and a filled dot per label."""
    axes = figure.subplots()
    labels, before, after = zip(*shares, strict=True)
    y = np.arange(len(labels))
    axes.hlines(y, before, after, color=_BLUE, linewidth=1.6)
    axes.plot(before, y, "o", color=_BLUE, markerfacecolor=_PAPER, markersize=6)
    axes.plot(after, y, "o", color=_BLUE, markersize=6)
    axes.set_yticks(y, labels)
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(len(labels) - 0.5, -0.5), xlabel="Share of the rows")
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=_GREY, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    _percent_ticks(axes.xaxis)


def draw_explanation(
    figure: Figure, title: str, terms: Sequence[tuple[str, float]],
    characters: Sequence[tuple[str, float]],
) -> None:  # fmt: skip
    """Draw what speaks for an answer (blue) and what against it (red), as log-odds in nats.

    Args:
        terms: (name, log-odds) of the terms.
        characters: (symbol, fall of the log-odds without it) of C characters, C ≥ 1.
    """
    upper, lower = figure.subplots(2, 1, height_ratios=(1, len(terms) / 6))
    (names, odds), (symbols, falls) = (zip(*pairs, strict=True) for pairs in (terms, characters))
    x, y = np.arange(len(symbols)), np.arange(len(names))
    upper.bar(x, falls, color=[_RED if fall < 0 else _BLUE for fall in falls], width=0.7)
    lower.barh(y, odds, color=[_RED if term < 0 else _BLUE for term in odds], height=0.7)
    upper.axhline(0, color=_GREY, linewidth=0.8)
    lower.axvline(0, color=_GREY, linewidth=0.8)
    upper.set_xticks(x, symbols, fontsize=min(11, 280 / len(symbols)))
    lower.set_yticks(y, names)
    lower.set(ylim=(len(names) - 0.4, -0.6), xlabel="Log-odds")
    figure.suptitle(title, x=0.02, ha="left", fontsize=10)
    upper.set_title("Fall of the log-odds without the character", loc="left", fontsize=9)
    lower.set_title("What each term adds to them", loc="left", fontsize=9)
    for axes, side, ticks in ((upper, "bottom", "x"), (lower, "left", "y")):
        axes.spines[side].set_visible(False)
        axes.tick_params(axis=ticks, length=0)


def draw_history(
    figure: Figure,
    times: Sequence[str],
    lines: Mapping[str, Sequence[float | None]],
    *,
    shares: bool = True,
    zero: bool = True,
    limits: Sequence[float] = (),
    marked: Collection[tuple[str, int]] = (),
    breaks: Sequence[int] = (),
) -> None:
    """Draw up to six values per run as lines; None leaves a gap.

    Args:
        times: label of each of the N runs, oldest first.
        lines: name → N values.
        shares: the values are shares, 0 to 1, written as per cent.
        zero: begin the axis at 0.
        limits: values of dashed lines.
        marked: (name, run) of points to highlight.
        breaks: runs before which a dotted line is drawn.
    """
    axes = figure.subplots()
    N = len(times)
    x = np.arange(N)
    for limit in limits:
        axes.axhline(limit, color=_GREY, linestyle=_DASHED, linewidth=0.8)
    for i in breaks:
        axes.axvline(i - 0.5, color=_INK, linestyle=_DOTTED, linewidth=0.9)
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
        _percent_ticks(axes.yaxis)
    else:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    if len(lines) > 1:
        _name_lines(axes, ends)
    shown = range((N - 1) % -(-N // 8), N, -(-N // 8))  # at most 8, the newest run among them
    axes.set_xticks(shown, [times[i].replace(" ", "\n") for i in shown], fontsize=7)
    axes.set_xlim(-0.3, N - 0.7)
    axes.grid(axis="y", color=_GREY, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _name_lines(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write the names of lines, given as (last value, name, colour), to the right of the axes, a
    line of text apart."""
    bottom, top = axes.get_ylim()
    height = -np.inf
    for value, name, color in sorted(ends):
        height = max(value, height + (top - bottom) / 9)
        axes.annotate(name, (1, height), (6, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", color=color, va="center")  # fmt: skip


def _wilson(shares: npt.NDArray[np.float64], counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return low and high of the 95 % Wilson intervals of ``shares`` of ``counts``, ``(N, 2)``."""
    pairs = zip(shares, counts, strict=True)
    return np.array([wilson_interval(round(share * n), int(n)) for share, n in pairs])


def _percent_ticks(*axes: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
