"""The report of a scoring run."""

from collections.abc import Mapping
from typing import Any

from charrnn.errors import percent
from charrnn.monitoring.drift import LIMITS, Measure, ProfileComparison
from charrnn.reports.figures import confidence_plot
from charrnn.reports.formats import interval, setting, signed, utc_minute
from charrnn.reports.page import Bars, Figure, Table, html_page, label_words, markdown_page
from charrnn.runs.manifest import Manifest, ModelRef, RunManifest

_MOST_INPUTS = 50  # files listed; a run can have thousands
_MOST_SHARES = 10  # labels listed in the section on drift
_FIRST_LABELS = 15  # labels that are shown at once
_REASONS = {  # why a row has no label
    "null_name": "no name",
    "empty_name": "nothing but spaces",
    "too_long": "longer than any name",
    "unknown_script": "letters of a script that the model does not read",
    "no_letters": "digits and signs only",
    "low_confidence": "confidence below min_confidence",
    "unfamiliar": "too unlike the names that the model knows",
}


def run_report(manifest: RunManifest) -> bytes:
    """Return the report of a scoring run as a self-contained HTML page: what came out, how sure it
    is, what changed, and how the run was made."""
    rows, profile = max(1, manifest.rows), manifest.profile
    reasons = [
        (reason, n, percent(n / rows, 2), _REASONS.get(reason, "–"))
        for reason, n in manifest.reasons.items()
    ]
    bars = Bars.of_shares("share of all rows", [n / rows for n in manifest.reasons.values()])
    return html_page(
        "run",
        manifest=manifest,
        created=utc_minute(manifest.created),
        largest=next(iter(manifest.labels.items()), None),
        labels=_labels(manifest),
        confidence=_confidence(manifest) if profile.answered else None,
        reasons=Table(("reason", "rows", "share", "what it means"), reasons, bars),
        **_drift(manifest),
        **provenance(manifest, model=manifest.model),
    )


def _labels(manifest: RunManifest) -> Table:
    """Return the rows of each label and its share of the labelled rows, against the shares among
    the model's validation names and in the last runs where a prior and a minimum confidence do
    not change them."""
    labelled, drift = max(1, manifest.statuses["scored"]), manifest.drift
    shares = {label: n / labelled for label, n in manifest.labels.items()}
    marks: dict[str, list[float | None]] = {}
    if drift and manifest.prior.kind == "train" and "low_confidence" not in manifest.reasons:
        references = {"model's names": drift.model, "last runs": drift.previous}
        marks = {
            name: [reference.class_shares.get(label, 0.0) for label in shares]
            for name, reference in references.items()
            if reference
        }
    before = [[percent(share or 0) for share in mark] for mark in marks.values()]
    rows = [
        (label, percent(share), manifest.labels[label], *(mark[i] for mark in before))
        for i, (label, share) in enumerate(shares.items())
    ]
    head = (manifest.options.scoring.label_name, "share", "rows", *marks)
    bars = Bars.of_shares("this run", list(shares.values()), marks)
    return Table(head, rows, bars, _FIRST_LABELS)


def _confidence(manifest: RunManifest) -> Figure:
    """Return a histogram of the confidence, before prior and abstention; its mean is the expected
    accuracy."""
    profile = manifest.profile
    counts = profile.confidences
    rows = [
        (interval(i / len(counts), (i + 1) / len(counts), lambda x: percent(x, 0)), n,
         percent(n / profile.answered))
        for i, n in enumerate(counts)
        if n
    ]  # fmt: skip
    mean = profile.confidence_sum / profile.answered
    return Figure(
        [confidence_plot(counts, "Rows", mean)], Table(("confidence", "rows", "share"), rows)
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
        return {"comparisons": (), "alarms": [], "first_differences": [], **words}
    references = {"model": drift.model.class_shares}
    comparisons = [("the model's validation names", drift.model, _measures(drift.model))]
    if drift.previous is not None:
        references["last runs"] = drift.previous.class_shares
        alarming = _measures(drift.previous, alarms=True)
        comparisons.insert(0, ("the median of the last runs", drift.previous, alarming))
    return {
        "comparisons": comparisons,
        "has_previous": drift.previous is not None,
        "alarms": drift.alarms(),
        "first_differences": drift.first_differences(),
        "shares": _class_shares(manifest.profile.class_shares, references, words["label_name"]),
        "limits": LIMITS["labels"],
        **words,
    }


def _measures(compared: ProfileComparison, *, alarms: bool = False) -> Table:
    """Return the measures against a reference, each with a bar that reaches the mark where it is
    large, and then stands out where that is an alarm."""
    sizes = [abs(m.value) / m.large for m in compared.measures]
    bars = Bars(
        sizes,
        2.0,
        "limit × 2",
        "change",
        {"limit": [1.0] * len(sizes)},
        alarms=[alarms and m.level == "large" for m in compared.measures],
    )
    head = ("measure", "change", "limit", "noise", "reference", "this run", "level")
    return Table(head, [_measure_row(m, compared) for m in compared.measures], bars)


def _measure_row(measure: Measure, compared: ProfileComparison) -> tuple[str, ...]:
    """Return a measure as cells."""
    standing = measure.level == "large" and measure.name in compared.standing
    level = "large, as in the run before" if standing else measure.level
    change, noise, limit = measure.value, measure.chance_high, measure.large
    if measure.before is None or measure.now is None:
        cells = (f"PSI {value:.3f}" for value in (change, limit, noise))
        return (measure.name, *cells, "–", "–", level)
    return (
        measure.name,
        f"{signed(100 * change, 1)} points",
        f"±{100 * limit:.0f} points",
        f"±{100 * noise:.1f} points",
        percent(measure.before),
        percent(measure.now),
        level,
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
    shares = {
        name: [by_label.get(label, 0.0) for label in largest]
        for name, by_label in {"this run": current, **references}.items()
    }
    columns = [[percent(share) for share in column] for column in shares.values()]
    bars = Bars.of_shares(
        "this run", shares["this run"], {name: shares[name] for name in references}
    )
    return Table((label_name, *shares), list(zip(largest, *columns, strict=True)), bars)
