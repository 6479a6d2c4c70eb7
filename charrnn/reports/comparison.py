"""The report of a comparison of two models on one table."""

from typing import Any

from charrnn.reports.figures import draw_class_shares
from charrnn.reports.formats import interval, percent, signed
from charrnn.reports.page import Figure, Table, html_page, label_words, markdown_page
from charrnn.reports.run import provenance
from charrnn.runs.manifest import ComparisonManifest

_MOST_PAIRS = 40  # pairs of labels listed; more than that are single rows


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
        ),
        "flipped": sum(n for _, _, n in flips),
        "shares": _shares(manifest, compared),
        "confidence": _confidence(manifest),
        **label_words(manifest.options.scoring.label_name),
        **provenance(manifest, champion=manifest.champion, challenger=manifest.challenger),
    }


def _shares(manifest: ComparisonManifest, compared: int) -> Figure | None:
    """Return both models' share of every label; None where no row was compared."""
    shares = [(label, a / compared, b / compared) for label, a, b in manifest.class_rows]
    if not shares:
        return None
    rows = [
        (label, percent(a, 2), percent(b, 2), f"{signed(100 * (b - a), 2)} points")
        for label, a, b in shares
    ]
    return Figure(
        "shares",
        (7.0, 0.9 + 0.26 * len(shares)),
        lambda figure: draw_class_shares(figure, shares),
        Table((manifest.options.scoring.label_name, "champion", "challenger", "difference"), rows),
    )


def _confidence(manifest: ComparisonManifest) -> Table | None:
    """Return how many rows gain or lose how much confidence; None where both models answer none."""
    changes, both = manifest.confidence_changes, manifest.answered_by_both
    if not both:
        return None
    rows = [
        (interval(low, high, lambda edge: signed(edge, 2)), n, percent(n / both))
        for low, high, n in zip(changes.edges, changes.edges[1:], changes.rows, strict=False)
        if n
    ]
    return Table(("difference", "rows", "share"), rows)
