"""What a person reads when a recipe is done: lines for a terminal, tables for a page.

Counts and shares only; names appear in ``head`` alone, which is asked for by its own option.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from charrnn.runs.manifest import PriorRecord, RunManifest, read_run
from charrnn.scoring.options import DeliveryOptions

if TYPE_CHECKING:  # a scoring run need not import the other recipes
    from charrnn.recipes.compare import PublishedComparison
    from charrnn.recipes.inbox import InboxOutcome
    from charrnn.recipes.monitor import MonitorPage
    from charrnn.recipes.score import Published

_FEWEST = 10  # rows: a smaller count can be about a single person


def run_lines(published: Published, delivery: DeliveryOptions) -> list[str]:
    """Return the lines about a scoring run."""
    manifest, folder = published.manifest, published.folder
    rows, statuses = manifest.rows, manifest.statuses
    reasons = _counts(manifest.reasons)
    top = list(manifest.labels.items())[:5]
    labels = ", ".join(f"{label} {n / max(1, rows):.1%}" for label, n in top)
    rate = f", {rows / max(manifest.seconds, 1e-9):,.0f} rows/s" if rows else ""
    return [
        *_delivery_lines(published, delivery),
        f"rows        {rows:,}: {statuses['scored']:,} scored, {statuses['abstained']:,} "
        f"abstained, {statuses['unscored']:,} unscored" + (f" ({reasons})" if reasons else ""),
        *_rejected_line(manifest.rejected),
        f"languages   {labels or 'none'}",
        f"confidence  {_number(manifest.mean_confidence)} on average",
        *_prior_line(manifest.prior),
        f"model       {manifest.model.name} ({manifest.model.digest[:12]})",
        f"time        {manifest.seconds:.1f} s{rate}",
        f"result      {folder}",
        f"read it     polars.read_parquet('{folder}/part-*.parquet')",
        f"            duckdb: from '{folder}/part-*.parquet'",
        *(drift_lines(published) if delivery.on_drift == "warn" else ()),
    ]


def _delivery_lines(published: Published, delivery: DeliveryOptions) -> list[str]:
    lines = []
    if published.reused:
        lines.append(
            "nothing to do: these inputs, model and options are already scored (see --force)"
        )
    if published.exported is not None:
        rows, escaped = published.exported
        lines.append(f"exported {rows:,} rows to {delivery.output}")
        if escaped:
            lines.append(f"escaped     {escaped:,} cells that a spreadsheet would run as a formula")
    if published.uploaded:
        lines.append(f"uploaded to {published.uploaded}")
    if published.appended is not None:
        there = f"{delivery.delta} has the rows of this run already"
        lines.append(f"appended to {delivery.delta}" if published.appended else there)
    return lines


def drift_lines(published: Published) -> list[str]:
    """Return one line per large drift, and where to read more; none without drift."""
    if not published.drift:
        return []
    return [
        *(f"{'' if i else 'drift':11} {sentence}" for i, sentence in enumerate(published.drift)),
        f"{'':11} see {published.folder / 'report.html'} (--on-drift fail | ignore)",
    ]


def run_markdown(published: Published) -> str:
    """Return a Markdown table for the flow run's page."""
    manifest = published.manifest
    rows = manifest.rows
    facts = {
        "rows": f"{rows:,}",
        **{status: f"{n:,} ({n / max(1, rows):.1%})" for status, n in manifest.statuses.items()},
        "rejected": f"{sum(manifest.rejected.values()):,}",
        "reasons": _counts(manifest.reasons) or "none",
        "mean confidence": _number(manifest.mean_confidence),
        "model": f"{manifest.model.name} (`{manifest.model.digest[:12]}`)",
        "device": manifest.device,
        "time": f"{manifest.seconds:.1f} s",
        "result": f"`{published.folder}`",
    }
    first, *others = [f"| {key} | {value} |" for key, value in facts.items()]
    return "\n".join([first, "|---|---|", *others])


def label_shares(manifest: RunManifest) -> list[dict[str, Any]]:
    """Return one row per label; labels of fewer than ten rows together in one."""
    counts = {label: n for label, n in manifest.labels.items() if n >= _FEWEST}
    rest = sum(manifest.labels.values()) - sum(counts.values())
    if rest:
        counts[f"under {_FEWEST} rows each"] = rest
    rows = max(1, manifest.rows)
    return [{"language": k, "rows": n, "share": f"{n / rows:.1%}"} for k, n in counts.items()]


def head(run: Path, rows: int) -> str:
    """Return the first rows of a run as a table narrow enough for a terminal, names included."""
    manifest = read_run(run)
    prefix = manifest.options.scoring.prefix
    parts = [run / part.name for part in manifest.parts]
    frame = pl.scan_parquet(parts, glob=False).head(rows).collect()
    first = frame.columns[: min(3, frame.columns.index(f"{prefix}language"))]
    added = [prefix + name for name in ("language", "confidence", "status", "reason")]
    with pl.Config(tbl_rows=rows, tbl_hide_dataframe_shape=True, float_precision=3,
                   tbl_hide_column_data_types=True, fmt_str_lengths=24):  # fmt: skip
        return str(frame.select(*first, *added))


def comparison_lines(published: PublishedComparison) -> list[str]:
    """Return the lines about a comparison of two models on one table."""
    manifest = published.manifest
    compared = manifest.compared
    flips = ", ".join(f"{a} → {b} {n:,}" for a, b, n in manifest.flips[:5])
    moved = sorted(manifest.class_rows, key=lambda row: -abs(row[2] - row[1]))[:5]
    shares = ", ".join(
        f"{label} {a / max(1, compared):.1%} → {b / max(1, compared):.1%}" for label, a, b in moved
    )
    means = " → ".join(f"{mean:.3f}" for mean in manifest.mean_confidence or ())
    agreement = "none" if manifest.agreement is None else f"{manifest.agreement:.2%}"
    again = "nothing to do: this comparison is already published (see --force)"
    return [
        *([again] if published.reused else []),
        f"compared    {compared:,} of {manifest.rows:,} rows, {manifest.answered_by_both:,} with a "
        f"language from both {manifest.champion.name} and {manifest.challenger.name}",
        f"agreement   {agreement}",
        f"flips       {manifest.changed:,} rows" + (f": {flips}" if flips else ""),
        f"shares      {shares or 'none'}",
        f"confidence  {means or 'none'} on average",
        f"time        {manifest.seconds:.1f} s",
        f"result      {published.folder / 'report.html'}",
    ]


def inbox_lines(result: InboxOutcome) -> list[str]:
    """Return one line per file of the folder."""
    return [f"{path.name:<24}  {outcome}" for path, outcome in result.outcomes.items()]


def monitor_lines(page: MonitorPage) -> list[str]:
    """Return the lines about the histories on a page."""
    lines = []
    for history in page.histories:
        newest = history.runs[-1][0]
        lines.append(f"{history.name:20} {len(history.runs):,} runs, the last {newest}")
        lines += [f"{'':20} drift: {text}" for name, text in page.drift if name == history.name]
    return [*lines, f"page                 {page.page}"]


def _counts(by_reason: dict[str, int]) -> str:
    return ", ".join(f"{reason} {n:,}" for reason, n in by_reason.items())


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _rejected_line(rejected: dict[str, int]) -> list[str]:
    if not rejected:
        return []
    total = sum(rejected.values())
    return [f"rejected    {total:,} more ({_counts(rejected)}), see rejects.parquet"]


def _prior_line(prior: PriorRecord) -> list[str]:
    if prior.shares is None:
        return []
    if prior.refused:
        return [f"prior       not estimated: {prior.refused}"]
    shares = sorted(prior.shares.items(), key=lambda item: -item[1])[:5]
    return [f"prior       {prior.kind}: {', '.join(f'{k} {v:.1%}' for k, v in shares)} …"]
