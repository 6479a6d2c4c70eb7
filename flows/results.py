"""What a scoring run shows when it is done: on the terminal, and on the run's page in Prefect.

Counts and shares only; names appear where ``--head`` asks for rows, and nowhere else.
"""

from pathlib import Path
from typing import Any

from flows.command import say
from flows.tracking import note, note_link, note_table, warn


def report_drift(published: Path, manifest: dict[str, Any], *, fail: bool) -> None:
    """Say what drifted, if anything did; with ``fail``, raise DriftError."""
    from charrnn.errors import DriftError
    from charrnn.monitoring.drift import alarms
    from charrnn.reports.run import drift_markdown

    found = alarms(manifest.get("drift", {}))
    if not found:
        return
    note("drift", drift_markdown(manifest), "What is not as it was")
    for sentence in found:
        warn(f"drift: {sentence}")
    if fail:
        raise DriftError(f"{published} is published, but its names drifted: {'; '.join(found)}")
    for i, sentence in enumerate(found):
        say(f"{'' if i else 'drift':11} {sentence}")
    say(f"{'':11} see {published / 'report.html'} (--on-drift fail | ignore)")


def show_run(published: Path, manifest: dict[str, Any]) -> None:
    """Show a run in Prefect: its summary, its label shares, and where its report lies."""
    note("score-summary", summary_markdown(published, manifest), "Rows, model and place")
    note_table("label-shares", label_shares(manifest), "Languages given, by number of rows")
    note_link("run-report", published / "report.html", "The run's report, on the worker's machine")


def summary_markdown(published: Path, manifest: dict[str, Any]) -> str:
    """Return what a person wants to see on the flow run's page; counts only, no names."""
    rows, confidence = manifest["rows"], manifest["mean_confidence"]
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in manifest["reasons"].items())
    facts = {
        "rows": f"{rows:,}",
        **{status: f"{n:,} ({n / max(1, rows):.1%})" for status, n in manifest["statuses"].items()},
        "rejected": f"{sum(manifest.get('rejected', {}).values()):,}",
        "reasons": reasons or "none",
        "mean confidence": "none" if confidence is None else f"{confidence:.3f}",
        "model": f"{manifest['model']['name']} (`{manifest['model']['digest'][:12]}`)",
        "device": manifest["device"],
        "time": f"{manifest['seconds']:.1f} s",
        "result": f"`{published}`",
    }
    first, *others = [f"| {key} | {value} |" for key, value in facts.items()]
    return "\n".join([first, "|---|---|", *others])


def label_shares(manifest: dict[str, Any], smallest: int = 10) -> list[dict[str, Any]]:
    """Return one row per label; labels of fewer than ``smallest`` rows together in one, since a
    count that small can be about a single person."""
    counts = {label: n for label, n in manifest["labels"].items() if n >= smallest}
    rest = sum(manifest["labels"].values()) - sum(counts.values())
    if rest:
        counts[f"under {smallest} rows each"] = rest
    rows = max(1, manifest["rows"])
    return [{"language": k, "rows": n, "share": f"{n / rows:.1%}"} for k, n in counts.items()]


def summarise(published: Path, manifest: dict[str, Any]) -> list[str]:
    """Return the lines that a person wants to see at the end; counts only, no names."""
    rows, statuses, seconds = manifest["rows"], manifest["statuses"], manifest["seconds"]
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in manifest["reasons"].items())
    top = list(manifest["labels"].items())[:5]
    labels = ", ".join(f"{label} {n / max(1, rows):.1%}" for label, n in top)
    confidence = manifest["mean_confidence"]
    return [
        f"rows        {rows:,}: {statuses['scored']:,} scored, {statuses['abstained']:,} "
        f"abstained, {statuses['unscored']:,} unscored" + (f" ({reasons})" if reasons else ""),
        *_rejected_line(manifest.get("rejected", {})),
        f"languages   {labels or 'none'}",
        f"confidence  {'none' if confidence is None else f'{confidence:.3f}'} on average",
        *_prior_line(manifest["prior"]),
        f"model       {manifest['model']['name']} ({manifest['model']['digest'][:12]})",
        f"time        {seconds:.1f} s, {rows / max(seconds, 1e-9):,.0f} rows/s",
        f"result      {published}",
        f"read it     polars.read_parquet('{published}/part-*.parquet')",
        f"            duckdb: from '{published}/part-*.parquet'",
    ]


def _rejected_line(rejected: dict[str, int]) -> list[str]:
    if not rejected:
        return []
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in rejected.items())
    return [f"rejected    {sum(rejected.values()):,} more ({reasons}), see rejects.parquet"]


def _prior_line(prior: dict[str, Any]) -> list[str]:
    if prior["kind"] == "train":
        return []
    if prior.get("refused"):
        return [f"prior       not estimated: {prior['refused']}"]
    shares = sorted(prior["shares"].items(), key=lambda item: -item[1])[:5]
    return [f"prior       {prior['kind']}: {', '.join(f'{k} {v:.1%}' for k, v in shares)} …"]


def show_head(published: Path, rows: int) -> None:
    """Print the first rows: what a person looks at first, narrow enough for a terminal."""
    import polars as pl

    from charrnn.errors import ConfigError
    from charrnn.runs.manifest import read_manifest

    manifest = read_manifest(published)
    if manifest.get("kind") == "comparison":
        raise ConfigError("--head prints rows of a scored table; a comparison has none")
    prefix = manifest["options"]["prefix"]
    parts = [published / part["name"] for part in manifest["parts"]]
    frame = pl.scan_parquet(parts, glob=False).head(rows).collect()
    given = frame.columns[: min(3, frame.columns.index(f"{prefix}language"))]
    ours = [prefix + name for name in ("language", "confidence", "status", "reason")]
    with pl.Config(tbl_rows=rows, tbl_hide_dataframe_shape=True, float_precision=3,
                   tbl_hide_column_data_types=True, fmt_str_lengths=24):  # fmt: skip
        say(str(frame.select(*given, *ours)))
