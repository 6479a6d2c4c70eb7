"""The report of a comparison of two models on one table."""

from __future__ import annotations

__all__ = ["comparison_markdown", "comparison_report"]

from collections.abc import Mapping
from typing import Any

from charrnn.reports.figures import draw_class_shares, percent
from charrnn.reports.page import (
    Block,
    BulletList,
    Drawing,
    Heading,
    Table,
    Text,
    html_page,
    markdown_page,
    signed,
)
from charrnn.reports.run import making

_TITLE = "Champion and challenger"
_SHOWN_FLIPS = 40


def comparison_report(manifest: Mapping[str, Any]) -> bytes:
    """Return the report as a self-contained HTML page."""
    return html_page(_TITLE, _blocks(manifest))


def comparison_markdown(manifest: Mapping[str, Any]) -> bytes:
    """Return what ``comparison_report`` says as Markdown."""
    return markdown_page(_TITLE, _blocks(manifest)).encode()


def _blocks(manifest: Mapping[str, Any]) -> list[Block]:
    champion, challenger = (manifest[side]["name"] for side in ("champion", "challenger"))
    rows, both = manifest["compared"], manifest["answered_by_both"]
    if not both:
        said = [f"None of {rows:,} rows got a language from both models."]
    else:
        ours, theirs = manifest["mean_confidence"]
        said = [
            f"{rows:,} of {manifest['rows']:,} rows were compared: {manifest['distinct']:,} "
            f"distinct names. {both:,} rows get a language from both models.",
            f"{percent(manifest['agreement'], 2)} of those get the same one from both. "
            f"{manifest['changed']:,} rows would change if {challenger} replaced {champion}.",
            f"Mean confidence is {ours:.3f} for {champion} and {theirs:.3f} for {challenger}.",
        ]
    return [
        Heading("In short"),
        BulletList(said),
        Text(
            "Nothing here says which of the two is right: the rows have no true labels. Where they "
            "differ on labelled names, flows/train.py compare says."
        ),
        *_flips(manifest),
        *_shares(manifest, champion, challenger),
        *_confidence(manifest),
        *making(manifest, ("champion", "challenger")),
    ]


def _flips(manifest: Mapping[str, Any]) -> list[Block]:
    flips, compared = manifest["flips"], max(1, manifest["compared"])
    if not flips:
        return [Heading("Flips"), Text("No row changes its language.")]
    rows = [(a, b, n, percent(n / compared, 2)) for a, b, n in flips[:_SHOWN_FLIPS]]
    shown = sum(row[2] for row in rows)
    caption = (
        f"Rows by the language they have and the one they would get: {len(rows)} of {len(flips)} "
        f"pairs, {shown:,} of {manifest['changed']:,} rows."
    )
    head = ("champion", "challenger", "rows", "of all rows")
    return [Heading("Flips"), Table(head, rows, caption)]


def _shares(manifest: Mapping[str, Any], champion: str, challenger: str) -> list[Block]:
    compared = max(1, manifest["compared"])
    shares = [(label, a / compared, b / compared) for label, a, b in manifest["class_rows"]]
    if not shares:
        return []
    numbers = Table(
        ("language", "champion", "challenger", "difference"),
        [
            (label, percent(a, 2), percent(b, 2), f"{signed(100 * (b - a), 2)} points")
            for label, a, b in shares
        ],
        "Share of the rows compared.",
    )
    return [
        Heading("Shares of the languages"),
        Drawing(
            "shares",
            f"Share of the rows that get each language: from {champion} (hollow) and from "
            f"{challenger} (filled).",
            (7.0, 0.9 + 0.26 * len(shares)),
            lambda figure: draw_class_shares(figure, shares),
            numbers,
        ),
    ]


def _confidence(manifest: Mapping[str, Any]) -> list[Block]:
    changes, both = manifest["confidence_changes"], manifest["answered_by_both"]
    if not both:
        return []
    edges = [signed(edge, 2) for edge in changes["edges"]]
    rows = [
        (f"{low} to {high}", n, percent(n / both))
        for low, high, n in zip(edges, edges[1:], changes["rows"], strict=False)
        if n
    ]
    caption = "Challenger's confidence minus champion's, rows with a language from both."
    return [Heading("Confidence"), Table(("difference", "rows", "share"), rows, caption)]
