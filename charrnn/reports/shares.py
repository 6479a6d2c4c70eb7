"""The page of label shares by group: bars with intervals, tables, changes."""

from typing import Any

import polars as pl

from charrnn.errors import percent
from charrnn.reports.formats import interval, shown, signed
from charrnn.reports.page import Bars, Table, html_page, label_words
from charrnn.reports.run import provenance
from charrnn.runs.manifest import RunManifest
from charrnn.runs.shares import SMALLEST_SHARE, Grouping, ShareTables

_MOST_GROUPS = 40  # shown on the page; the table has all
_FIRST_LABELS = 10  # of a group that are shown at once
_MOST_CHANGES = 40  # shown on the page


def shares_page(tables: ShareTables, manifest: RunManifest, grouping: Grouping) -> bytes:
    """Return the shares of a run's labels as a self-contained HTML page."""
    keys = list(grouping.by)
    groups = tables.shares.group_by(keys or [pl.lit(0)], maintain_order=True)
    shown_groups = [
        _group(", ".join(map(_key_text, key)) if keys else "all rows", frame)
        for key, frame in groups
        if frame["rows"].is_not_null().all()
    ]
    few = tables.shares.filter(pl.col("rows").is_null()).height
    return html_page(
        "shares",
        groups=shown_groups[:_MOST_GROUPS],
        by=", ".join(keys),
        group_count=len(shown_groups),
        few=few,
        changes=None if tables.changes is None else _changes(tables.changes, grouping),
        weight=grouping.weight,
        model=manifest.model.name,
        **label_words(manifest.options.scoring.label_name),
        **provenance(manifest, model=manifest.model),
    )


def _key_text(value: Any) -> str:
    """Return the value of a grouping column; whole numbers such as years without separators."""
    return shown(None if value is None else str(value))


def _group(name: str, frame: pl.DataFrame) -> dict[str, Any]:
    """Return what the page shows of a group."""
    first = frame.row(0, named=True)
    said = first["share"] is not None
    frame = frame.drop_nulls("label")
    raw, shares = frame["raw"].to_list(), frame["share"].to_list()
    columns = {"": frame["label"].to_list()}
    bars = Bars.of_shares("counted", raw)
    if said:
        ends = frame.select("low", "high").rows()
        bars = Bars.of_shares("corrected, with its 95 % interval", shares, {"counted": raw}, ends)
        columns["share"] = [percent(share) for share in shares]
        columns["95 % interval"] = [interval(low, high, percent) for low, high in ends]
    columns["counted"] = [percent(share) for share in raw]
    if said and frame["refused"].is_not_null().any():
        columns["note"] = frame["refused"].fill_null("").to_list()
    rows = list(zip(*columns.values(), strict=True))
    table = Table(tuple(columns), rows, bars, _FIRST_LABELS)
    reach = interval(first["low"], first["high"], percent) if said else ""
    return {"name": name, "refused": "" if said else first["refused"], "table": table,
            "largest": f"{first['label']} {percent(first['share'])} ({reach})" if said else "",
            **{key: first[key] for key in ("rows", "distinct", "scored")}}  # fmt: skip


def _changes(changes: pl.DataFrame, grouping: Grouping) -> Table:
    """Return the changes that are beyond chance, then the largest others."""
    sure = (pl.col("low") > SMALLEST_SHARE) | (pl.col("high") < -SMALLEST_SHARE)
    ordered = changes.with_columns(sure=sure).sort(
        [pl.col("sure"), pl.col("change").abs()], descending=True, maintain_order=True
    )
    others = [column for column in grouping.by if column != grouping.period]
    rows = [
        (
            *(_key_text(row[column]) for column in others),
            row["label"],
            f"{signed(100 * row['change'], 1)} points",
            interval(100 * row["low"], 100 * row["high"], lambda end: signed(end, 1)),
            f"{row['from']} → {row['to']}",
            f"{percent(row['before'])} → {percent(row['after'])}",
            "yes" if row["sure"] and not row["refused"] else "no",
        )
        for row in ordered.head(_MOST_CHANGES).iter_rows(named=True)
    ]
    head = (*others, "", "change", "95 % interval", "period", "share", "beyond chance")
    return Table(head, rows, first=_FIRST_LABELS)
