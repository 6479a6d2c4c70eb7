"""The report of a scoring run."""

from collections.abc import Mapping
from typing import Any

from charrnn.monitoring.drift import LIMITS, Measure, ProfileComparison
from charrnn.reports.formats import percent, setting, signed, utc_minute
from charrnn.reports.page import Table, html_page, label_words, markdown_page
from charrnn.runs.manifest import Manifest, ModelRef, RunManifest

_MOST_INPUTS = 50  # files listed; a run can have thousands
_MOST_SHARES = 10  # labels listed in the section on drift


def run_report(manifest: RunManifest) -> bytes:
    """Return the report of a scoring run as a self-contained HTML page: rows in and out, labels,
    drift, and how the run was made."""
    rows = max(1, manifest.rows)

    def counted(name: str, counts: Mapping[str, int]) -> Table:
        cells = [(key, n, percent(n / rows, 2)) for key, n in counts.items()]
        return Table((name, "rows", "share"), cells)

    return html_page(
        "run",
        manifest=manifest,
        statuses=counted("status", manifest.statuses),
        reasons=counted("reason", manifest.reasons),
        labels=counted(manifest.options.scoring.label_name, manifest.labels),
        **_drift(manifest),
        **provenance(manifest, model=manifest.model),
    )


def provenance(manifest: Manifest, **models: ModelRef) -> dict[str, Any]:
    """Return what ``provenance.jinja`` shows of a run or a comparison: time, ``models`` by role,
    options, libraries and input files."""
    rows = [
        ("created (UTC)", utc_minute(manifest.created)),
        ("rows", manifest.rows),
        ("seconds", f"{manifest.seconds:.1f}"),
        ("device", manifest.device),
        *((role, f"{model.name} ({model.digest[:12]})") for role, model in models.items()),
        ("fingerprint", manifest.fingerprint),
        *_option_rows("option", manifest.options.to_json()),
        *manifest.libraries.items(),
    ]
    listed = [(file.name, file.size, file.sha256) for file in manifest.inputs[:_MOST_INPUTS]]
    return {
        "provenance": Table(("", "value"), rows),
        "inputs": Table(("input file", "bytes", "SHA-256"), listed),
        "input_count": len(manifest.inputs),
    }


def _option_rows(name: str, options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return a row per option, those of a group one by one."""
    rows: list[tuple[str, Any]] = []
    for key, value in options.items():
        if isinstance(value, Mapping):
            rows += _option_rows(f"{name} {key}", value)
        else:
            rows.append((f"{name} {key}", setting(value)))
    return rows


def drift_markdown(manifest: RunManifest) -> str:
    """Return the section on drift of ``run_report`` as Markdown."""
    return markdown_page("drift", **_drift(manifest))


def _drift(manifest: RunManifest) -> dict[str, Any]:
    """Return what ``drift.jinja`` shows: the measures against each reference, and the shares of
    the labels; and the words for these."""
    drift, words = manifest.drift, label_words(manifest.options.scoring.label_name)
    if drift is None:
        return {"comparisons": (), **words}
    comparisons = [("the model's validation names", drift.model)]
    references = {"model": drift.model.class_shares}
    if drift.previous is not None:
        comparisons.append(("the previous run", drift.previous))
        references["previous run"] = drift.previous.class_shares
    head = ("measure", "level", "reference", "this run", "change", "noise", "limit")
    return {
        "comparisons": [
            (
                reference,
                compared,
                Table(head, [_measure_row(m, compared) for m in compared.measures]),
            )
            for reference, compared in comparisons
        ],
        "has_previous": drift.previous is not None,
        "shares": _class_shares(manifest.profile.class_shares, references, words["label_name"]),
        "limits": LIMITS["labels"],
        **words,
    }


def _measure_row(measure: Measure, compared: ProfileComparison) -> tuple[str, ...]:
    """Return a measure as cells."""
    standing = measure.level == "large" and measure.name in compared.standing
    level = "large, as in the previous run" if standing else measure.level
    change, noise, limit = measure.value, measure.chance_high, measure.large
    if measure.before is None or measure.now is None:
        cells = (f"PSI {value:.3f}" for value in (change, noise, limit))
        return (measure.name, level, "–", "–", *cells)
    return (
        measure.name,
        level,
        percent(measure.before),
        percent(measure.now),
        f"{signed(100 * change, 1)} points",
        f"±{100 * noise:.1f} points",
        f"±{100 * limit:.0f} points",
    )


def _class_shares(
    current: Mapping[str, float], references: Mapping[str, Mapping[str, float]], label_name: str
) -> Table:
    """Return the labels whose share differs most from a reference, largest difference first."""
    labels = {*current, *(label for shares in references.values() for label in shares)}

    def change(label: str) -> float:
        share = current.get(label, 0)
        return max(abs(share - shares.get(label, 0)) for shares in references.values())

    largest = sorted(labels, key=lambda label: (-change(label), label))[:_MOST_SHARES]
    rows = [
        (label, *(percent(shares.get(label, 0)) for shares in (current, *references.values())))
        for label in largest
    ]
    return Table((label_name, "this run", *references), rows)
