"""Charts as data: what ``templates/macros.html`` draws as inline SVG in the colours of the page.

Positions are per cent of the width and height of the chart, so that it is as wide as the reader's
screen while its text keeps its size.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from charrnn.errors import percent
from charrnn.model.calibration import wilson_interval
from charrnn.model.facts import Reliability, RiskCoverage
from charrnn.reports.formats import shown

Points = Sequence[tuple[float, float] | None]
_DOTTED = 40  # points of a line; more are not marked one by one


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high`` (above it), with texts at some values."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]

    def at(self, value: float) -> float:
        """Return where a value lies: 0 at the low end, 100 at the high end; never outside."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)


def axis(
    title: str,
    low: float,
    high: float,
    form: Callable[[float], str] = lambda value: percent(value, 0),
    steps: int = 5,
) -> Axis:
    """Return an axis that reaches from ``low`` to a round value at or above ``high``, in about that
    many steps."""
    least = max((high - low) / steps, 1e-9)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= least * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = [(i * step, form(i * step)) for i in range(first, last + 1)]
    return Axis(title, low, last * step, ticks)


@dataclass(frozen=True)
class Dot:
    """A marked point.

    Attributes:
        low, high: its interval.
        text: shown beside it.
        hover: shown where the pointer rests on it.
        color: index of a colour, or "alarm".
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    text: str = ""
    hover: str = ""
    color: int | str = 0


@dataclass(frozen=True)
class Plot:
    """A chart in a rectangle.

    Attributes:
        lines: name → points joined by a line, with a gap at None.
        columns: (left, right, height).
        band: (x, low, high) of an area.
        limits: y of dashed lines across the chart.
        breaks: x of dotted lines from bottom to top.
        cursor: (x, text) of one line from bottom to top.
        diagonal: draw a dashed line from the lower left to the upper right corner.
        height: in rem, with axes.
    """

    x: Axis
    y: Axis
    lines: Mapping[str, Points] = field(default_factory=dict)
    dots: Sequence[Dot] = ()
    columns: Sequence[tuple[float, float, float]] = ()
    band: Sequence[tuple[float, float, float]] = ()
    limits: Sequence[float] = ()
    breaks: Sequence[float] = ()
    cursor: tuple[float, str] | None = None
    diagonal: bool = False
    height: int = 14

    def path(self, points: Points) -> str:
        """Return points as SVG path data in per cent, from the upper left corner."""
        pieces, pen = [], "M"
        for point in points:
            if point is None:
                pen = "M"
                continue
            x, y = self.x.at(point[0]), 100 - self.y.at(point[1])
            pieces.append(f"{pen}{x:g} {y:g}")
            pen = "L"
        return " ".join(pieces)

    @property
    def area(self) -> str:
        """The band as SVG path data."""
        upper = [(x, high) for x, _, high in self.band]
        lower = [(x, low) for x, low, _ in reversed(self.band)]
        return f"{self.path([*upper, *lower])}Z"


def confidence_plot(
    counts: Sequence[int], unit: str, mean: float | None = None, *, steps: int = 5, height: int = 13
) -> Plot:
    """Return a histogram of confidence in B bins of equal width, with the mean as a line.

    Args:
        counts: ``(B,)``, in ``unit``.
        steps: of the axis of counts.
    """
    B = len(counts)
    columns = [(i / B, (i + 1) / B, n) for i, n in enumerate(counts)]
    cursor = None if mean is None else (mean, f"mean {percent(mean)}")
    x, y = axis("Confidence", 0, 1), axis(unit, 0, max(1, *counts), short, steps)
    return Plot(x, y, columns=columns, cursor=cursor, height=height)


def reliability_plots(bins: Reliability) -> list[Plot]:
    """Return a reliability diagram with 95 % Wilson intervals, and a histogram of confidence.

    ``bins`` are B bins of confidence of equal width from 0 to 1; where rows have weights, intervals
    are those of the effective rows.
    """
    of = bins.effective or bins.count
    dots = [
        Dot(x, y, *_wilson(y, n))
        for x, y, n in zip(bins.confidence, bins.accuracy, of, strict=True)
        if x is not None and y is not None
    ]
    return [
        Plot(axis("", 0, 1), axis("Accuracy", 0, 1), dots=dots, diagonal=True, height=17),
        confidence_plot(bins.count, "Names", steps=2, height=9),
    ]


def curve_plot(curve: RiskCoverage, points: Sequence[tuple[float, ...]], count: int) -> Plot:
    """Return accuracy by the share of names answered, with a band of 95 % Wilson intervals.

    Args:
        curve: P points of accuracy by coverage.
        points: (coverage, accuracy, …) to mark.
        count: number of all names.
    """
    line = [(x, y) for x, y in zip(curve.coverage, curve.accuracy, strict=True) if x >= 0.1]
    band = [(x, *_wilson(y, max(1, round(x * count)))) for x, y in line]
    lowest = max(0, math.floor(20 * min((low for _, low, _ in band), default=0)) / 20)
    return Plot(
        axis("Share of names answered", 0.1, 1),
        axis("Accuracy of the answers", lowest, 1),
        lines={"": line},
        dots=[Dot(x, y, text=percent(y)) for x, y, *_ in points],
        band=band,
    )


def history_plot(
    times: Sequence[str],
    lines: Mapping[str, Sequence[float | None]],
    *,
    shares: bool = True,
    zero: bool = True,
    limits: Sequence[float] = (),
    marked: Collection[tuple[str, int]] = (),
    breaks: Sequence[int] = (),
) -> Plot:
    """Return up to six values per run as lines; None leaves a gap.

    Args:
        times: label of each of the N runs, oldest first; N ≥ 2.
        lines: name → N values.
        shares: the values are shares, 0 to 1, written as per cent.
        zero: begin the axis at 0.
        limits: values of dashed lines.
        marked: (name, run) of points to highlight.
        breaks: runs before which a dotted line is drawn.
    """
    N = len(times)
    points: dict[str, Points] = {
        name: [None if y is None else (i, y) for i, y in enumerate(values)]
        for name, values in lines.items()
    }
    values = [y for line in lines.values() for y in line if y is not None] or [0.0]
    top = max([*values, *limits])
    bottom = 0 if zero else max(0.0, min(values) - max(0.01, top - min(values)) / 5)
    shown_times = sorted({0, (N - 1) // 2, N - 1} if N > 4 else {0, N - 1})
    days = len({times[i][:10] for i in shown_times}) == len(shown_times)
    ticks = [(i, times[i][:10] if days else times[i][-5:]) for i in shown_times]
    reach = top - bottom
    decimals = 0 if reach >= 0.05 else 1 if reach >= 0.005 else 2
    form = (lambda share: percent(share, decimals)) if shares else short
    dots = [
        Dot(i, y, hover=f"{name}, {times[i]}: {percent(y) if shares else shown(y)}",
            color="alarm" if (name, i) in marked else color)
        for color, (name, values) in enumerate(lines.items())
        for i, y in enumerate(values)
        if y is not None and ((name, i) in marked or N <= _DOTTED)
    ]  # fmt: skip
    y_axis = axis("", bottom, max(top, bottom + 1e-3), form)
    return Plot(Axis("", 0, N - 1, ticks), y_axis, lines=points, dots=dots, limits=limits,
                breaks=[i - 0.5 for i in breaks], height=12)  # fmt: skip


def short(count: float) -> str:
    """Return a number in few characters: ``950``, ``1.2k``, ``35k``, ``2.5M``."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.3g}{unit}"
    return f"{count:.3g}"


def _wilson(share: float, count: float) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share of ``count``, the share within it."""
    low, high = wilson_interval(round(share * count), int(count))
    return min(low, share), max(high, share)
