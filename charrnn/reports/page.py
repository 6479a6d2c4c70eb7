"""Reports as self-contained HTML and as Markdown, from Jinja2 templates.

A page is one template, ``templates/NAME.jinja``. It is rendered twice: as HTML with the layout and
macros in ``base.html`` and ``macros.html``, with figures as inline SVG, and as Markdown with
``base.md`` and ``macros.md``, with the numbers of the figures as tables. Values are escaped for
the format that is rendered; reports hold neither personal names nor addresses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from charrnn.model.labels import LANGUAGE, plural
from charrnn.reports.figures import svg
from charrnn.reports.formats import is_number, percent, shown, signed

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure as Canvas

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
class Table:
    """A table; columns that hold only numbers are aligned right.

    Raises:
        ValueError: a row has another number of cells than ``head``.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(f"a row has {len(row)} cells, the head has {len(self.head)}")

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds only numbers; False where there are no rows."""
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.head)
        return [bool(cells) and all(map(is_number, cells)) for cells in columns]


@dataclass(frozen=True)
class Figure:
    """A figure and its numbers, which stand in for it in Markdown and without matplotlib.

    Attributes:
        key: makes the ids of the SVG unique within the page.
        size: width and height in inches.
        draw: draws on an empty matplotlib figure.
        folded: hide the numbers until the reader opens them, where the figure is drawn.
    """

    key: str
    size: tuple[float, float]
    draw: Callable[[Canvas], None]
    numbers: Table
    folded: bool = True


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
        "drawing": _drawing,
    }
    templates.tests["link"] = lambda cell: isinstance(cell, Link)
    templates.filters |= {
        "listed": _listed,
        "percent": percent,
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


def _html_prose(text: Markup) -> Markup:
    """Return a rendered paragraph on one line, per cent signs kept with their numbers."""
    return type(text)(" ".join(text.split()).replace(" %", "\u00a0%"))


def markdown_text(value: Any) -> Any:
    """Return a value as Markdown that shows it literally, on one line; markup as it is."""
    from markupsafe import Markup

    if hasattr(value, "__html__"):
        return value
    return Markup(re.sub(r"([\\`*_|<\[])", r"\\\1", " ".join(shown(value).split())))


def _markdown_prose(text: Markup) -> Markup:
    """Return a rendered paragraph on one line."""
    return type(text)(" ".join(text.split()))


def _drawing(figure: Figure, caption: Markup) -> Markup | None:
    """Return a figure as SVG, labelled with its caption; None where matplotlib is not installed."""
    from markupsafe import Markup

    if find_spec("matplotlib") is None:
        return None
    label = " ".join(caption.unescape().split())
    return Markup(svg(figure.key, label, figure.size, figure.draw))
