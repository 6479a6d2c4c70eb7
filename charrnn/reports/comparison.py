"""The report of a comparison of two models on one table."""

from typing import Any

from charrnn.errors import percent
from charrnn.reports.formats import interval, signed
from charrnn.reports.page import Bars, Table, html_page, label_words, markdown_page
from charrnn.reports.run import provenance
from charrnn.runs.manifest import ComparisonManifest

_MOST_PAIRS = 40  # pairs of labels listed; more than that are single rows
_FIRST = 15  # rows of a table that are open


def comparison_report(manifest: ComparisonManifest) -> bytes:
    """Return the report of a comparison as a self-contained HTML page."""
    return html_page("comparison", **_context(manifest))


def comparison_markdown(manifest: ComparisonManifest) -> bytes:
    """Return the report of a comparison as Markdown."""
    return markdown_page("comparison", **_context(manifest)).encode()


def _context(manifest: ComparisonManifest) -> dict[str, Any]:
    compared = max(1, manifest.compared)
    flips = manifest.flips[:_MOST_PAIRS]
    return {
        "manifest": manifest,
        "champion": manifest.champion.name,
        "challenger": manifest.challenger.name,
        "flips": Table(
            ("champion", "challenger", "rows", "share of all rows"),
            [(before, after, n, percent(n / compared, 2)) for before, after, n in flips],
            Bars.of_shares("share of all rows", [n / compared for _, _, n in flips]),
            first=_FIRST,
        ),
        "flipped": sum(n for _, _, n in flips),
        "shares": _shares(manifest, compared),
        "confidence": _confidence(manifest),
        **label_words(manifest.options.scoring.label_name),
        **provenance(manifest, champion=manifest.champion, challenger=manifest.challenger),
    }


def _shares(manifest: ComparisonManifest, compared: int) -> Table | None:
    """Return both models' share of every label, those that change most first; None where no row was
    compared."""
    shares = [(label, a / compared, b / compared) for label, a, b in manifest.class_rows]
    if not shares:
        return None
    shares.sort(key=lambda row: -abs(row[2] - row[1]))
    rows = [
        (label, percent(a, 2), percent(b, 2), f"{signed(100 * (b - a), 2)} points")
        for label, a, b in shares
    ]
    _, before, after = zip(*shares, strict=True)
    head = (manifest.options.scoring.label_name, "champion", "challenger", "difference")
    return Table(head, rows, Bars.of_shares("challenger", after, {"champion": before}), _FIRST)


def _confidence(manifest: ComparisonManifest) -> Table | None:
    """Return how many rows gain or lose how much confidence; None where both models answer none."""
    changes, both = manifest.confidence_changes, manifest.answered_by_both
    if not both:
        return None
    used = [
        (interval(low, high, lambda edge: signed(edge, 2)), n)
        for low, high, n in zip(changes.edges, changes.edges[1:], changes.rows, strict=False)
        if n
    ]
    rows = [(difference, n, percent(n / both)) for difference, n in used]
    bars = Bars.of_shares("share of the rows", [n / both for _, n in used])
    return Table(("difference", "rows", "share"), rows, bars)
