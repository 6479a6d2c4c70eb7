"""A published run, and what a person reads about it: lines for a terminal, tables for a page.

Counts and shares only; names appear in ``first_rows`` alone, which is asked for by its own option.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charrnn.errors import DataError, DriftError, percent, printable
from charrnn.model.labels import plural
from charrnn.reports.page import markdown_text
from charrnn.runs.folders import ROWS
from charrnn.runs.manifest import PriorRecord, RunManifest, read_run
from charrnn.runs.parts import part_schema
from charrnn.scoring.options import DeliveryOptions
from charrnn.tables.discovery import Skipped

_FEWEST = 10  # rows: a smaller count can be about a single person
_ODD = {  # counts of the input's bytes that may surprise
    "empty_files": "input files without a byte of text, passed over",
    "files_unpacked_over_200_times": "input files unpacked to over 200 times their size; are these "
    "all rows of your table?",
}


@dataclass(frozen=True)
class Published:
    """A published run, and what was done beyond publishing it.

    Attributes:
        delivery: where its rows go, and what is done about drift.
        reused: whether the same run was published before, so that nothing was scored.
        exported: rows and escaped cells of the single file, where one was asked for.
        uploaded: URI of the copy on object storage; "" without one.
        appended: whether the Delta table got the rows now; None without a table.
        remarks: lines about what may surprise, such as runs that were passed over.
        skipped: what lay beside the input files and was not read.
    """

    folder: Path
    manifest: RunManifest
    delivery: DeliveryOptions
    reused: bool
    exported: tuple[int, int] | None = None
    uploaded: str = ""
    appended: bool | None = None
    remarks: tuple[str, ...] = ()
    skipped: Skipped = field(default_factory=Skipped)

    @property
    def drift(self) -> list[str]:
        """One sentence per large drift; see ``monitoring.drift``."""
        return self.manifest.drift.alarms() if self.manifest.drift else []

    def check(self) -> None:
        """Raise DriftError if names drifted and ``on_drift`` is ``fail``."""
        if self.delivery.on_drift == "fail" and self.drift:
            drifted = f"its names drifted: {'; '.join(self.drift)}"
            raise DriftError(f"{self.folder} is published, but {drifted}", option="on_drift")

    def lines(self) -> list[str]:
        """Return the lines about a scoring run."""
        manifest, folder = self.manifest, self.folder
        rows, statuses = manifest.rows, manifest.statuses
        reasons = _counts(manifest.reasons)
        rejected = f"{sum(manifest.rejected.values()):,} more ({_counts(manifest.rejected)})"
        top = list(manifest.labels.items())[:5]
        labels = ", ".join(f"{label} {percent(n / max(1, rows))}" for label, n in top)
        scored = rows - (reused := manifest.reused_rows)
        rate = f", {scored / max(manifest.seconds, 1e-9):,.0f} rows/s" if scored else ""
        return [
            *self._delivery_lines(),
            *self.notes(),
            f"rows        {rows:,}: {statuses['scored']:,} scored, {statuses['abstained']:,} "
            f"abstained, {statuses['unscored']:,} unscored" + (f" ({reasons})" if reasons else ""),
            *([f"rejected    {rejected}, see rejects.parquet"] if manifest.rejected else ()),
            f"{plural(manifest.options.scoring.label_name):11} {labels or 'none'}",
            f"confidence  {_number(manifest.mean_confidence)} on average",
            *_prior_line(manifest.prior),
            f"model       {manifest.model.name} ({manifest.model.digest[:12]})",
            *([f"reused      {reused:,} rows that an earlier try had scored"] if reused else []),
            f"time        {manifest.seconds:.1f} s{rate}",
            f"result      {folder}",
            f"read it     polars.read_parquet('{folder / ROWS}')",
            f"            duckdb: from '{folder / ROWS}/*.parquet'",
            *(self._drift_lines() if self.delivery.on_drift == "warn" else ()),
        ]

    def notes(self) -> list[str]:
        """Return the lines about what may surprise, but for drift: what was passed over, and what
        is odd about the bytes of the input."""
        skipped = [f"skipped     {self.skipped}"] if self.skipped.count else []
        counts = self.manifest.input_counts
        odd = [f"note        {counts[k]:,} {text}" for k, text in _ODD.items() if counts.get(k)]
        return [*self.remarks, *odd, *skipped]

    def markdown(self) -> str:
        """Return a Markdown table for the flow run's page."""
        manifest = self.manifest
        statuses, rows = manifest.statuses, max(1, manifest.rows)
        facts = {
            "rows": f"{manifest.rows:,}",
            **{status: f"{n:,} ({percent(n / rows)})" for status, n in statuses.items()},
            "rejected": f"{sum(manifest.rejected.values()):,}",
            "reasons": _counts(manifest.reasons) or "none",
            "mean confidence": _number(manifest.mean_confidence),
            "model": f"{markdown_text(manifest.model.name)} ({manifest.model.digest[:12]})",
            "device": manifest.device,
            "time": f"{manifest.seconds:.1f} s",
            "result": markdown_text(self.folder),
        }
        first, *others = [f"| {key} | {value} |" for key, value in facts.items()]
        return "\n".join([first, "|---|---|", *others])

    def _delivery_lines(self) -> list[str]:
        lines, delivery = list[str](), self.delivery
        if self.reused:
            lines.append(
                "nothing to do: these inputs, model and options are already scored (force scores "
                "them again)"
            )
        if self.exported is not None:
            rows, escaped = self.exported
            lines.append(f"exported {rows:,} rows to {delivery.output}")
            if escaped:
                lines.append(
                    f"escaped     {escaped:,} cells that a spreadsheet would run as a formula"
                )
        if self.uploaded:
            lines.append(f"uploaded to {self.uploaded}")
        if self.appended is not None:
            there = f"{delivery.delta} has the rows of this run already"
            lines.append(f"appended to {delivery.delta}" if self.appended else there)
        return lines

    def _drift_lines(self) -> list[str]:
        """Return one line per large drift, and where to read more; of a first run how its names
        differ from the model's."""
        if not self.drift:
            found = self.manifest.drift.first_differences() if self.manifest.drift else []
            more = "usual in a first run, later ones are compared with it; the prior estimate "
            more = f"{'':11} {more}allows for other label shares"
            return [f"{'differs':11} {sentence}" for sentence in found] + [more] * bool(found)
        return [
            *(f"{'' if i else 'drift':11} {sentence}" for i, sentence in enumerate(self.drift)),
            f"{'':11} see {self.folder / 'report.html'} (on_drift: warn, fail or ignore)",
        ]


def label_shares(manifest: RunManifest) -> list[dict[str, Any]]:
    """Return one row per label; labels of fewer than ten rows together in one."""
    counts = {label: n for label, n in manifest.labels.items() if n >= _FEWEST}
    rest = sum(manifest.labels.values()) - sum(counts.values())
    if rest:
        counts[f"under {_FEWEST} rows each"] = rest
    rows = max(1, manifest.rows)
    label_name = manifest.options.scoring.label_name
    return [{label_name: k, "rows": n, "share": percent(n / rows)} for k, n in counts.items()]


def first_rows(run: Path, rows: int) -> list[str]:
    """Return the first rows of a run as the lines of a table narrow enough for a terminal, names
    included."""
    import polars as pl

    manifest = read_run(run)
    options = manifest.options.scoring
    prefix, label_name = options.prefix, options.label_name
    parts = [run / part.name for part in manifest.parts]
    for part in parts:
        part_schema(part)  # raises DataError where it is missing or damaged
    frame = pl.scan_parquet(parts, glob=False).head(rows).collect()
    added = [prefix + name for name in (label_name, "confidence", "status", "reason")]
    if not {*added} <= {*frame.columns}:
        raise DataError(f"{run}: the parts do not have the columns that the manifest says")
    first = frame.columns[: min(3, frame.columns.index(prefix + label_name))]
    with pl.Config(tbl_rows=rows, tbl_hide_dataframe_shape=True, float_precision=3,
                   tbl_hide_column_data_types=True, fmt_str_lengths=24):  # fmt: skip
        text = pl.col(pl.String).map_elements(printable, pl.String)
        table = frame.select(*first, *added).with_columns(text)
        table = table.select(pl.all().name.map(printable))
        return str(table).splitlines()


def _counts(by_reason: dict[str, int]) -> str:
    return ", ".join(f"{reason} {n:,}" for reason, n in by_reason.items())


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _prior_line(prior: PriorRecord) -> list[str]:
    if prior.shares is None:
        return []
    if prior.refused:
        return [f"prior       not estimated: {prior.refused}"]
    shares = sorted(prior.shares.items(), key=lambda item: -item[1])[:5]
    return [f"prior       {prior.kind}: {', '.join(f'{k} {percent(v)}' for k, v in shares)} …"]
