"""Reports for people: self-contained HTML, without a name or an address in it.

A page is written once, as blocks (text, tables, figures), and can be rendered twice: as HTML with
figures, and as Markdown with the same numbers in tables. Every page begins with what it must not be
used for.
"""

from __future__ import annotations

__all__ = [
    "RESPONSIBLE_USE",
    "Block",
    "BulletList",
    "Drawing",
    "Heading",
    "Link",
    "Table",
    "Text",
    "html_of",
    "html_page",
    "markdown_of",
    "markdown_page",
    "signed",
]

import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from charrnn.reports.figures import svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESPONSIBLE_USE = (
    "A label is the language file of the surname list it was learned from, not a person's origin, "
    "nationality or ethnicity. Use aggregates; never decide about a single person by it."
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; background: #fff }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.2rem }
table { border-collapse: collapse; margin: 1rem 0; font-size: .9em }
caption { text-align: left; color: #57606a; padding-bottom: .4rem; min-width: min(26rem, 90vw) }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #d8dee4; text-align: left }
th { vertical-align: bottom; border-bottom-color: #8c959f }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
td.n, th.n { white-space: nowrap }
p.note { background: #f6f8fa; border-left: 4px solid #8c959f; padding: .6rem 1rem }
p, li, figcaption, caption { max-width: 46rem } td { overflow-wrap: break-word }
figure { margin: 1.5rem 0; break-inside: avoid } figcaption { margin-bottom: .5rem }
svg { display: block; width: 100%; max-width: 44rem; height: auto }
svg * { stroke-linejoin: round; stroke-linecap: butt }
details { color: #57606a; overflow-x: auto } code { background: #f6f8fa }
@media (max-width: 62rem) { table { font-size: .8em } th.n { white-space: normal }
                            th, td { padding: .2rem .4rem } }
@media print { body { font-size: 10pt; margin: 0; max-width: none } table { font-size: .8em }
               th, td { padding: .15rem .4rem } tr, li { break-inside: avoid }
               h2 { break-after: avoid } details { display: none } }
"""
_NUMBER = re.compile(r"[+\-−]?[\d.,]+(?: ?%)?(?: to [\d.,]+ ?%?)?|–")


@dataclass(frozen=True)
class Heading:
    """A heading of a page's section."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text; the kind ``note`` sets it apart."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class BulletList:
    """Sentences, one below the other."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table; columns of nothing but numbers are aligned right."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass(frozen=True)
class Drawing:
    """``draw`` fills a figure of ``size`` inches; ``numbers`` say the same without it, out of the
    way where they are ``folded``."""

    key: str
    title: str
    size: tuple[float, float]
    draw: Callable[[Figure], None]
    numbers: Table
    folded: bool = True


@dataclass(frozen=True)
class Link:
    """A cell of a table that leads to a file beside the page; Markdown shows its text only."""

    text: str
    target: str

    def __str__(self) -> str:
        return self.text


Block = Heading | Text | BulletList | Table | Drawing

_USE = Text(RESPONSIBLE_USE, "note")


def html_page(title: str, blocks: Iterable[Block]) -> bytes:
    """Return a whole HTML page."""
    body = "\n".join(map(html_of, [_USE, *blocks]))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{html.escape(title)}</h1>\n{body}\n"
        "</body></html>\n"
    ).encode()


def markdown_page(title: str, blocks: Iterable[Block]) -> str:
    """Return what ``html_page`` says as Markdown, the figures as tables."""
    return "\n\n".join([f"# {_escaped(title)}", *map(markdown_of, [_USE, *blocks])]) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str) -> str:
    """Return an HTML table; numbers are aligned right, floats shown with three decimals."""
    kind = ['class="n"' if n else "" for n in _numeric(head, rows)]
    lines = [
        "<table>",
        f"<caption>{html.escape(caption)}</caption>" if caption else "",
        "<thead><tr>",
    ]
    lines += [f"<th {k}>{html.escape(h)}</th>" for h, k in zip(head, kind, strict=True)]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        cells = (f"<td {k}>{_cell(v)}</td>" for v, k in zip(row, kind, strict=True))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def html_of(block: Block) -> str:
    """Return a block as HTML."""
    match block:
        case Heading(text):
            return f"<h2>{html.escape(text)}</h2>"
        case Text(text, kind):
            return f'<p class="{kind}">{html.escape(_unbroken(text))}</p>'
        case BulletList(items):
            return (
                f"<ul>{''.join(f'<li>{html.escape(_unbroken(item))}</li>' for item in items)}</ul>"
            )
        case Table(head, rows, caption):
            return _table(head, rows, caption)
        case Drawing(title=title, numbers=numbers):
            caption, values = html.escape(_unbroken(title)), html_of(numbers)
            drawing = (
                ""
                if find_spec("matplotlib") is None
                else svg(block.key, block.title, block.size, block.draw)
            )
            if drawing and block.folded:
                values = f"<details><summary>The numbers</summary>{values}</details>"
            return f"<figure><figcaption>{caption}</figcaption>\n{drawing}\n{values}</figure>"


def markdown_of(block: Block) -> str:
    """Return a block as Markdown; a figure as its table."""
    match block:
        case Heading(text):
            return f"## {_escaped(text)}"
        case Text(text, kind):
            return ("> " if kind == "note" else "") + _escaped(text)
        case BulletList(items):
            return "\n".join(f"- {_escaped(item)}" for item in items)
        case Table(head, rows, caption):
            marks = ("---:" if n else "---" for n in _numeric(head, rows))
            lines = [head, *rows]
            body = [f"| {' | '.join(_escaped(_shown(v)) for v in line)} |" for line in lines]
            body.insert(1, f"|{'|'.join(marks)}|")
            return "\n".join([*([_escaped(caption), ""] if caption else []), *body])
        case Drawing(numbers=numbers):
            return markdown_of(numbers)


def _unbroken(text: str) -> str:
    """Return text whose per cent signs stay with their numbers."""
    return text.replace(" %", "\u00a0%")


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_|<\[])", r"\\\1", " ".join(text.split()))


def _numeric(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[bool]:
    """Return which columns hold nothing but numbers, as such or written out."""

    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) or bool(_NUMBER.fullmatch(str(value)))

    return [bool(rows) and all(is_number(row[i]) for row in rows) for i in range(len(head))]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(value: Any) -> str:
    if isinstance(value, Link):
        text = html.escape(value.text)
        return f'<a href="{html.escape(value.target)}" style="white-space: nowrap">{text}</a>'
    return html.escape(_shown(value))


def signed(value: float, decimals: int) -> str:
    """Return a number with its sign, a true minus."""
    return f"{round(value, decimals) + 0.0:+.{decimals}f}".replace("-", "−")  # no minus zero
