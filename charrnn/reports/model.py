"""The report of a model version, from the facts stored in the version."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.errors import percent
from charrnn.model.calibration import wilson_interval
from charrnn.model.facts import (
    MIN_TEST_NAMES,
    MOST_CONFUSED,
    Metrics,
    ModelFacts,
    OutsideMetrics,
    PairedDifference,
    Reliability,
    RiskCoverage,
    SetCoverage,
)
from charrnn.model.families import families_of
from charrnn.model.labels import LANGUAGE
from charrnn.model.version import ModelVersion
from charrnn.reports.figures import curve_plot, reliability_plots
from charrnn.reports.formats import interval, setting, signed
from charrnn.reports.page import Bars, Figure, Matrix, Table, html_page, label_words, markdown_page
from charrnn.training.metrics import largest_cells

_DRAWN_LABELS = 40  # rows of the confusion matrix; more cannot be read
_MOST_ERRORS = 15  # pairs of labels listed
_FIRST_LABELS = 20  # rows of the table of labels that are open
_COVERAGES = (1, 0.9, 0.8, 0.7, 0.5)  # marked points of the accuracy-coverage curve


def model_report(version: ModelVersion) -> bytes:
    """Return the report of a model version as a self-contained HTML page."""
    return html_page("model", **_context(version))


def model_markdown(version: ModelVersion) -> bytes:
    """Return the report of a model version as Markdown, with tables in place of figures."""
    return markdown_page("model", **_context(version)).encode()


def _context(version: ModelVersion) -> dict[str, Any]:
    """Return what ``model.jinja`` shows."""
    facts, report_data = version.facts, version.facts.report_data
    test, confusion = facts.metrics.honest.test, np.array(report_data.confusion)  # (L, L) or (0,)
    of_languages = version.label_name == LANGUAGE
    return {
        "version": version,
        "test": test,
        "report_data": report_data,
        "best": _best_baseline(facts),
        "weak_labels": [m.label for m in test.labels if m.count and m.recall < 0.5],
        "least_names": MIN_TEST_NAMES,
        "quality": _quality(facts),
        "seed_accuracies": np.array([m.accuracy for m in facts.metrics.seed]),
        "paired": _paired(facts.paired),
        "labels": _labels(version, confusion),
        "families": _families(test, confusion) if of_languages and confusion.size else None,
        "inferred": "origin" if of_languages else f"the {version.label_name}",
        **label_words(version.label_name),
        "confusion": _confusion(confusion, version.labels) if confusion.size else None,
        "errors": _errors(confusion, version.labels) if confusion.size else None,
        "reliability": _reliability(report_data.reliability),
        "curve": _curve(report_data.risk_coverage, test.answered),
        "sets": _sets(report_data.sets),
        "low_sets": _low_sets(report_data.sets),
        "outside": facts.outside,
        **(_outside(facts.outside) if facts.outside else {"outside_reliability": None}),
        "data": _data(version),
        "unfamiliarity": _unfamiliarity(version),
        "provenance": _provenance(version),
    }


def _best_baseline(facts: ModelFacts) -> dict[str, Any] | None:
    """Return name, metrics and paired comparison of the most accurate baseline."""
    baselines = facts.baselines.get("honest", {})
    if not baselines:
        return None
    name = max(baselines, key=lambda baseline: baselines[baseline].accuracy)
    difference, low, high = facts.paired[name].accuracy
    points = [signed(100 * value, 1) for value in (difference, low, high)]
    return {
        "name": name, "metrics": baselines[name], "points": points, "by_chance": low <= 0 <= high
    }  # fmt: skip


def _quality(facts: ModelFacts) -> Table:
    """Return the metrics of the model and the baselines under both protocols."""
    metrics, baselines = facts.metrics, facts.baselines
    measured = [
        ("honest", "this model, test", metrics.honest.test),
        ("honest", "this model, validation", metrics.honest.validation),
        *(("honest", name, m) for name, m in baselines.get("honest", {}).items()),
        *(("seed", f"this recipe, run {i}", m) for i, m in enumerate(metrics.seed)),
        *(("seed", name, m) for name, m in baselines.get("seed", {}).items()),
    ]
    rows = [
        (protocol, name, m.accuracy, interval(m.accuracy_low, m.accuracy_high), m.macro_f1,
         m.balanced_accuracy, m.top3, m.nll, m.ece, m.brier)
        for protocol, name, m in measured
    ]  # fmt: skip
    head = ("protocol", "model", "accuracy", "95 % interval", "macro-F1", "balanced accuracy",
            "top-3 accuracy", "NLL", "ECE", "Brier score")  # fmt: skip
    return Table(head, rows)


def _paired(paired: Mapping[str, PairedDifference]) -> Table:
    """Return the differences to the baselines, with their bootstrap intervals."""
    rows = [
        (name, metric, *(signed(value, 3) for value in difference))
        for name, p in paired.items()
        for metric, difference in (("accuracy", p.accuracy), ("macro-F1", p.macro_f1))
    ]
    return Table(("baseline", "measure", "difference", "low", "high"), rows)


def _labels(version: ModelVersion, confusion: npt.NDArray[np.int64]) -> Table:
    """Return the rates of every label, most test names first, or of the first ``MOST_CONFUSED``;
    None for a rate of nothing."""
    share = dict(zip(version.labels, version.priors, strict=True))
    metrics = version.facts.metrics.honest.test.labels
    predicted = confusion.sum(axis=0) if confusion.size else [m.precision > 0 for m in metrics]
    pairs = zip(metrics, predicted, strict=True)
    by_size = sorted(pairs, key=lambda pair: -pair[0].count)[:MOST_CONFUSED]
    rows = [
        (
            m.label,
            *((m.recall, interval(m.recall_low, m.recall_high)) if m.count else (None,) * 2),
            m.count,
            m.precision if n else None,
            m.f1 if m.count else None,
            percent(share[m.label]) if m.label in share else None,
        )
        for m, n in by_size
    ]
    head = ("label", "recall", "95 % interval", "test names", "precision", "F1",
            "share of training")  # fmt: skip
    intervals = [(m.recall_low, m.recall_high) if m.count else None for m, _ in by_size]
    bars = Bars.of_shares("recall", [row[1] for row in rows], intervals=intervals, whole=True)
    return Table(head, rows, bars, first=_FIRST_LABELS)


def _families(test: Metrics, confusion: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the number of language families, and the mean recall of those that occur: the share of
    names whose predicted label, by ``confusion`` ``(L, L)``, is of the family."""
    families, members = families_of([m.label for m in test.labels])  # (F,), (L, F)
    counts = members.T @ confusion @ members  # (F, F)
    true = np.array([m.count for m in test.labels]) @ members  # (F,)
    recall = np.diag(counts)[true > 0] / true[true > 0]
    return {"count": len(families), "recall": float(recall.mean())}


def _confusion(counts: npt.NDArray[np.int64], labels: Sequence[str]) -> Matrix:
    """Return the confusion matrix ``(L, L)``, the largest labels first and at most 40 of them."""
    totals = counts.sum(axis=1)
    order = np.argsort(-totals, kind="stable")[:_DRAWN_LABELS]
    drawn = counts[np.ix_(order, order)].tolist()
    return Matrix("true label", [labels[i] for i in order], totals[order].tolist(), drawn)


def _errors(counts: npt.NDArray[np.int64], labels: Sequence[str]) -> dict[str, Any]:
    """Return the most frequent confusions of ``counts`` ``(L, L)``, and the number of all."""
    wrong, totals = counts - np.diag(np.diag(counts)), counts.sum(axis=1)
    cells = largest_cells(wrong)[:_MOST_ERRORS]
    shares = [n / totals[i] for i, _, n in cells]
    rows = [(labels[i], labels[j], n, percent(n / totals[i])) for i, j, n in cells]
    head = ("true label", "predicted label", "names", "share of the true label")
    return {
        "table": Table(head, rows, Bars.of_shares("share of the true label", shares)),
        "listed": sum(row[2] for row in rows),
        "total": int(wrong.sum()),
    }


def _reliability(bins: Reliability) -> Figure:
    """Return accuracy and mean confidence by bin of confidence; empty bins are left out."""
    edges = np.linspace(0, 1, len(bins.count) + 1)
    rows = [
        (f"{low:.2f} to {high:.2f}", n, confidence, accuracy,
         interval(*wilson_interval(round(accuracy * effective), effective)))
        for low, high, n, effective, confidence, accuracy in zip(
            edges, edges[1:], bins.count, bins.effective or bins.count, bins.confidence,
            bins.accuracy, strict=False,
        )
        if accuracy is not None
    ]  # fmt: skip
    head = ("confidence", "names", "mean confidence", "accuracy", "95 % interval")
    return Figure(reliability_plots(bins), Table(head, rows))


def _curve(curve: RiskCoverage, count: int) -> Figure:
    """Return the accuracy on the most confident share of ``count`` names, with a few points."""
    coverages = np.array(curve.coverage)
    chosen = dict.fromkeys(int(np.abs(coverages - c).argmin()) for c in _COVERAGES)
    points = [(curve.coverage[i], curve.accuracy[i], curve.confidence[i]) for i in chosen]
    rows = [(percent(coverage, 0), accuracy, lowest) for coverage, accuracy, lowest in points]
    numbers = Table(("answered", "accuracy", "confidence from"), rows)
    return Figure([curve_plot(curve, points, count)], numbers, folded=False)


def _sets(sets: Mapping[str, SetCoverage]) -> Table:
    """Return the coverage of the prediction sets, for all labels and by size of the label."""
    rows = [
        (percent(float(target), 0), share.name, share.count, share.coverage,
         interval(share.low, share.high), f"{share.mean_size:.2f}")
        for target, coverage in sets.items()
        for share in (coverage.overall, *coverage.groups)
        if share.count
    ]  # fmt: skip
    return Table(("target", "group", "names", "coverage", "95 % interval", "mean set size"), rows)


def _low_sets(sets: Mapping[str, SetCoverage]) -> list[tuple[str, float, list[str]]]:
    """Return each target with the share of sets that hold one label, and the labels whose whole
    interval lies below it."""
    return [
        (
            percent(float(target), 0),
            coverage.single,
            [s.name for s in coverage.labels if s.count and s.high < float(target)],
        )
        for target, coverage in sets.items()
    ]


def _data(version: ModelVersion) -> Table:
    facts, honest = version.facts, version.facts.metrics.honest
    share, label = max(zip(version.priors, version.labels, strict=True), key=lambda pair: pair[0])
    rows = [
        ("training names", facts.examples),
        ("validation names", honest.validation.count),
        ("test names", honest.test.count),
        ("labels", len(version.labels)),
        ("largest label", f"{label}, {percent(share)} of the training names"),
        ("training names with several labels", len(version.calibration.ambiguous)),
        ("names answered by the training names, too", len(np.unique(version.known_names.keys))),
        *([("characters", facts.text_rules.text)] if facts.text_rules else []),
        ("data digest", facts.data_digest),
    ]
    return Table(("", "value"), rows)


def _outside(outside: OutsideMetrics) -> dict[str, Any]:
    """Return figures and recall of each label on names of other lists, by part of the name."""
    surnames, plain, given = outside.surnames, outside.plain, outside.given
    parts = {"surnames": surnames, "surnames without accents": plain, "given names": given,
             "full names": outside.full, "surnames of the training lists": outside.known,
             "given names of the training lists": outside.known_given}  # fmt: skip
    figures = [
        (part, m.count, len(m.recall), m.macro_recall, m.mean_confidence, m.ece)
        for part, m in parts.items()
        if m
    ]
    recalls = [m.recall if m else {} for m in (surnames, plain, given)]
    labels = sorted({label for recall in recalls for label in recall})
    columns = [[recall.get(label) for label in labels] for recall in recalls]
    bars = Bars.of_shares("surnames", columns[0], {"given names": columns[2]}, whole=True)
    reliability = surnames and surnames.reliability
    return {
        "outside_figures": Table(
            ("part", "names", "labels", "macro recall", "mean confidence", "ECE"), figures
        ),
        "outside_labels": Table(
            ("label", "surnames", "without accents", "given names"),
            list(zip(labels, *columns, strict=True)),
            bars,
            first=_FIRST_LABELS,
        ),
        "outside_reliability": _reliability(reliability) if reliability else None,
    }


def _unfamiliarity(version: ModelVersion) -> Table:
    """Return how many names each threshold of unfamiliarity flags."""
    quantiles = version.calibration.novelty.quantiles
    grid = np.linspace(0, 1, len(quantiles))
    count = version.facts.metrics.honest.test.answered
    rows = [
        (
            threshold,
            f"{np.interp(float(threshold), grid, quantiles):.2f}",
            percent(1 - float(threshold)),
            percent(flagged),
            interval(*wilson_interval(round(flagged * count), count), percent),
        )
        for threshold, flagged in version.facts.report_data.unfamiliar.items()
    ]
    head = ("unfamiliarity above", "surprise in nats", "held-out names", "test names",
            "95 % interval")  # fmt: skip
    return Table(head, rows)


def _provenance(version: ModelVersion) -> Table:
    facts, provenance = version.facts, version.facts.provenance
    machine = {
        "created": provenance.created, "device": provenance.device, "threads": provenance.threads
    }  # fmt: skip
    groups = (("network ", asdict(version.config)), ("training ", facts.train),
              ("", machine), ("", provenance.libraries))  # fmt: skip
    rows = [
        (f"{group}{key.replace('_', ' ')}", setting(value))
        for group, values in groups
        for key, value in values.items()
    ]
    head_rows = [("preset", facts.preset), ("temperature", f"{version.temperature:.4f}")]
    if version.given_temperature is not None:
        head_rows.append(("temperature of given names", f"{version.given_temperature:.4f}"))
    return Table(("", "value"), [*head_rows, *rows])
