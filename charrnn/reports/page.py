"""Reports as self-contained HTML and as Markdown, from Jinja2 templates.

A page is one template, ``templates/NAME.jinja``. It is rendered twice: as HTML with the layout and
macros in ``base.html`` and ``macros.html``, with charts as inline SVG, and as Markdown with
``base.md`` and ``macros.md``, with the numbers of the charts as tables. Values are escaped for
the format that is rendered; reports hold neither personal names nor addresses.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from charrnn.errors import percent
from charrnn.model.labels import LANGUAGE, plural
from charrnn.reports.figures import Plot, axis
from charrnn.reports.formats import is_number, shown, signed

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_LONG, _BAR = 20, 11  # characters: of a cell, which is broken into lines beyond, and of a bar
_TELEPHONE = 52  # characters of a table's row there
_RESPONSIBLE_USE = "Use aggregates; never decide about a single person by it."
RESPONSIBLE_USE = (
    "A label is the language of the lists of names it was learned from, not a person's origin, "
    f"nationality or ethnicity. {_RESPONSIBLE_USE}"
)


def label_words(label_name: str) -> dict[str, str]:
    """Return what templates need to speak of the labels: their name, its plural, also as a
    heading, and the sentences about responsible use."""
    several = plural(label_name)
    of_names = f"A label is the {label_name} of names like it in the training data"
    others = f"{of_names}, not a fact about a person. {_RESPONSIBLE_USE}"
    return {
        "label_name": label_name,
        "label_plural": several,
        "label_heading": several[:1].upper() + several[1:],
        "responsible_use": RESPONSIBLE_USE if label_name == LANGUAGE else others,
    }


@dataclass(frozen=True)
class Bars:
    """A bar for each row of a table, which is drawn in HTML only: its numbers are in the row.

    Attributes:
        values: length of each bar, 0 to ``most``; None draws none.
        most: the value at the right end of the scale.
        end: text at the right end of the scale.
        name: what the bars are.
        marks: name → a value of each row to compare its bar with; at most two.
        intervals: (low, high) of each bar; empty without.
        alarms: whether each bar stands out; empty if none does.
    """

    values: Sequence[float | None]
    most: float
    end: str
    name: str = ""
    marks: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    intervals: Sequence[tuple[float, float] | None] = ()
    alarms: Sequence[bool] = ()

    @classmethod
    def of_shares(
        cls,
        name: str,
        shares: Sequence[float | None],
        marks: Mapping[str, Sequence[float | None]] | None = None,
        intervals: Sequence[tuple[float, float] | None] = (),
        *,
        whole: bool = False,
    ) -> Bars:
        """Return bars of shares, 0 to 1, on a scale up to the largest of them, or to ``whole``."""
        marks = marks or {}
        reached = [x for values in (shares, *marks.values()) for x in values if x is not None]
        reached += [pair[1] for pair in intervals if pair]
        end = axis("", 0, 1 if whole else max([*reached, 0.01])).high
        most = min(1.0, end)
        return cls(shares, most, percent(most, 0), name, marks, intervals)

    def drawn(self, row: int) -> dict[str, Any]:
        """Return what is drawn for a row, in per cent of the scale."""
        interval = self.intervals[row] if self.intervals else None
        marks = [(i, values[row]) for i, values in enumerate(self.marks.values())]
        return {
            "value": self._at(self.values[row]),
            "interval": interval and tuple(map(self._at, interval)),
            "alarm": bool(self.alarms) and self.alarms[row],
            "marks": [(i, self._at(value)) for i, value in marks if value is not None],
        }

    def _at(self, value: float | None) -> float | None:
        return None if value is None else 100 * min(1.0, max(0.0, value / self.most))


@dataclass(frozen=True)
class Table:
    """A table; columns that hold only numbers are aligned right.

    Attributes:
        bars: drawn behind the first cell of each row.
        first: in HTML, further rows are hidden until the reader opens them.

    Raises:
        ValueError: a row has another number of cells than ``head``.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    bars: Bars | None = None
    first: int = sys.maxsize

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(f"a row has {len(row)} cells, the head has {len(self.head)}")

    @property
    def columns(self) -> list[tuple[Any, ...]]:
        """The cells of each column."""
        return list(zip(*self.rows, strict=True)) if self.rows else [()] * len(self.head)

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds only numbers; False where there are no rows."""
        return [bool(cells) and all(map(is_number, cells)) for cells in self.columns]

    @cached_property  # the template asks in every cell
    def wide(self) -> bool:
        """Whether a telephone has no room for the columns, and shows each row as a block."""
        columns = zip(self.head, self.columns, strict=True)
        words = ([*map(shown, cells), *head.split()] for head, cells in columns)
        widths = [1 + min(_LONG, max(map(len, column), default=0)) for column in words]
        return sum(widths) + _BAR * bool(self.bars) > _TELEPHONE


@dataclass(frozen=True)
class Figure:
    """Charts, one above the other, and their numbers, which stand in for them in Markdown.

    Attributes:
        folded: in HTML, hide the numbers until the reader opens them.
    """

    plots: Sequence[Plot]
    numbers: Table
    folded: bool = True


@dataclass(frozen=True)
class Matrix:
    """Counts by a row's and a column's label, shaded by their share of the row's total.

    Attributes:
        head: of the column of labels.
        labels: the L labels.
        totals: of each row, ``(L,)``; more than its sum where labels are left out.
        counts: ``(L, L)``.
    """

    head: str
    labels: Sequence[str]
    totals: Sequence[int]
    counts: Sequence[Sequence[int]]

    @property
    def numbers(self) -> Table:
        """The matrix as a table."""
        rows = [(label, *row) for label, row in zip(self.labels, self.counts, strict=True)]
        return Table((self.head, *self.labels), rows)

    def shade(self, row: int, count: int) -> str:
        """Return how dark a cell is, 0 to 1: the square root of the share of the row."""
        return f"{(count / max(self.totals[row], 1)) ** 0.5:.2f}"


@dataclass(frozen=True)
class Link:
    """A table cell that links to a file beside the page; Markdown shows only its text."""

    text: str
    target: str

    def __str__(self) -> str:
        return self.text

    @property
    def href(self) -> str:
        """The target as a relative URL: a colon in a file name begins no scheme."""
        return quote(os.fsencode(self.target), safe="/=")


def html_page(template: str, **context: Any) -> bytes:
    """Return the page ``templates/TEMPLATE.jinja`` as self-contained HTML."""
    return environment("html").get_template(f"{template}.jinja").render(context).encode()


def markdown_page(template: str, **context: Any) -> str:
    """Return the page ``templates/TEMPLATE.jinja`` as Markdown."""
    text = environment("md").get_template(f"{template}.jinja").render(context)
    lines = "\n".join(line.strip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", lines).strip() + "\n"


@cache
def environment(suffix: Literal["html", "md"]) -> Environment:
    """Return the Jinja2 environment of a format: strict, with every value formatted and escaped.

    Jinja2 is imported here, at the first page, since its import takes about 20 ms.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_html_text if suffix == "html" else markdown_text,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.globals |= {
        "base": f"base.{suffix}",
        "macros": f"macros.{suffix}",
        "responsible_use": RESPONSIBLE_USE,
    }
    templates.tests["link"] = lambda cell: isinstance(cell, Link)
    templates.filters |= {
        "listed": _listed,
        "percent": percent,
        "place": "{:.4g}%".format,
        "prose": _html_prose if suffix == "html" else _markdown_prose,
        "signed": signed,
    }
    return templates


def _listed(items: Iterable[Any], separator: str = ", ") -> str:
    """Return items joined as plain text; Jinja2's ``join`` would escape them for HTML."""
    return separator.join(map(shown, items))


def _html_text(value: Any) -> Any:
    """Return a value as text whose per cent signs stay with their numbers; markup as it is."""
    return value if hasattr(value, "__html__") else shown(value).replace(" %", "\u00a0%")


def markdown_text(value: Any) -> Any:
    """Return a value as Markdown that shows it literally, on one line; markup as it is."""
    from markupsafe import Markup

    if hasattr(value, "__html__"):
        return value
    return Markup(re.sub(r"([\\`*_|<\[])", r"\\\1", " ".join(shown(value).split())))


def _markdown_prose(text: Markup) -> Markup:
    """Return a rendered paragraph on one line."""
    return type(text)(" ".join(text.split()))


def _html_prose(text: Markup) -> Markup:
    """Return a rendered paragraph on one line, per cent signs kept with their numbers."""
    return _markdown_prose(text).replace(" %", "\u00a0%")
