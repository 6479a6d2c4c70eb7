"""What a person reads when ingest, train or a recipe about versions is done: lines for a terminal.

Counts and metrics only; no names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from charrnn.model.facts import Metrics
from charrnn.recipes.evaluate import ComparedVersions, Evaluation, MeasuredPart
from charrnn.recipes.ingest import Ingested
from charrnn.recipes.models import ListedVersion, Promotion, Registration, Rollback
from charrnn.recipes.train import Release, Trained

_MOST_FLIPS = 15  # pairs of labels listed


def ingest_lines(ingested: Ingested) -> list[str]:
    """Return the lines about a training table."""
    report = ingested.report
    return [
        f"rows        {report.rows:,} under {report.labels} labels",
        f"unique      {report.unique_pairs:,} (name, label) pairs; {report.dropped_text} dropped "
        "as junk",
        f"ambiguous   {report.ambiguous_names:,} names under two or more labels",
        f"skew        the largest label has {report.largest_label_share:.1%} of the rows",
        f"table       {ingested.table}" + ("" if ingested.written else " (unchanged)"),
        f"report      {ingested.report_path}",
    ]


def train_lines(trained: Trained) -> list[str]:
    """Return the lines about a new version: metrics under both protocols, and by label."""
    version, facts = trained.version, trained.version.facts
    honest, seed = facts.metrics.honest, facts.metrics.seed
    lines = [
        f"version     {version.name}, preset {facts.preset}, temperature {version.temperature:.3f}",
        "",
        f"{'honest protocol':38}  accuracy  macro-F1   top-3     NLL     ECE",
        _row(f"{version.name} on test ({honest.test.count} names)", honest.test),
        _row(f"{version.name} on validation", honest.validation),
        *(_row(name, m) for name, m in facts.baselines.get("honest", {}).items()),
    ]
    if seed:
        lines += [
            "",
            "seed protocol (random 80/20 of all rows, leaky)",
            *(_row(f"{version.name}, run {i}", m) for i, m in enumerate(seed)),
            *(_row(name, m) for name, m in facts.baselines.get("seed", {}).items()),
            f"accuracy {_mean_and_deviation([m.accuracy for m in seed])}, training loss "
            f"{_mean_and_deviation(trained.seed_losses)}, {len(seed)} seeds",
        ]
    lines += ["", *_label_lines("honest test", honest.test)]
    if seed:
        lines += ["", *_label_lines("seed protocol, run 0", seed[0])]
    return [*lines, ""]


def _row(name: str, m: Metrics) -> str:
    rates = f"{m.accuracy:>9.4f} {m.macro_f1:>9.4f} {m.top3:>7.4f}"
    return f"{name:38} {rates} {m.nll:>7.4f} {m.ece:>7.4f}"


def _mean_and_deviation(values: Sequence[float]) -> str:
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=min(1, len(values) - 1)):.4f} sd"


def _label_lines(title: str, metrics: Metrics) -> list[str]:
    """Return a table of the labels that occur; the interval is of the recall, 95 % Wilson."""
    return [
        f"{title:22} {'names':>6} {'precision':>10} {'recall':>7} {'interval':>15} {'F1':>8}",
        *(
            f"{m.label:22} {m.count:>6} {m.precision:>10.3f} {m.recall:>7.3f} "
            f"  {m.recall_low:.3f} to {m.recall_high:.3f} {m.f1:>7.3f}"
            for m in metrics.labels
        ),
    ]


def release_lines(released: Release) -> list[str]:
    """Return the lines about what followed a training."""
    lines = promotion_lines(released.promotion) if released.promotion else []
    return lines + (registration_lines(released.registration) if released.registration else [])


def promotion_lines(promotion: Promotion) -> list[str]:
    """Return the lines about a promotion, or why there was none."""
    version, before = promotion.version, promotion.before
    if promotion.promoted:
        return [f"champion    {version}" + (f" (was {before})" if before else "")]
    return [
        f"not promoted: {version} may not replace {before}: {'; '.join(promotion.problems)}",
        f"(charrnn compare {before} {version}; charrnn promote {version} --force)",
    ]


def rollback_lines(rollback: Rollback) -> list[str]:
    """Return the line about an alias that was rolled back."""
    return [f"{rollback.alias:11} {rollback.now} (was {rollback.before})"]


def registration_lines(registered: Registration) -> list[str]:
    """Return the line about a version registered with MLflow."""
    return [
        f"registered  {registered.version} as version {registered.number} of {registered.name} "
        f"at {registered.server}"
    ]


def list_lines(listed: Sequence[ListedVersion]) -> list[str]:
    """Return a table of versions with their metrics on the honest test fold."""
    lines = [f"{'version':16} {'preset':8} {'accuracy':>8} {'macro-F1':>8} {'ECE':>6}  aliases"]
    for version in listed:
        m = version.facts.metrics.honest.test
        lines.append(
            f"{version.name:16} {version.facts.preset:8} {m.accuracy:>8.4f} {m.macro_f1:>8.4f} "
            f"{m.ece:>6.4f}  {', '.join(version.aliases)}"
        )
    return lines


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """Return the metrics of a version on each part."""
    version, data = evaluation.version, evaluation.other_data
    note = [f"note: {version} was trained on other data than {data}"] if data else []
    return [*note, *(line for part in evaluation.parts for line in _part_lines(part))]


def _part_lines(part: MeasuredPart) -> list[str]:
    m = part.metrics
    selective = ", ".join(f"{a:.4f} at {float(share):.0%}" for share, a in m.selective.items())
    present = [label for label in m.labels if label.count]
    return [
        _metrics_line(part.name, m),
        f"accuracy 95 % interval {m.accuracy_low:.4f} to {m.accuracy_high:.4f}; expected from the "
        f"confidences alone {part.expected_accuracy:.4f}",
        f"accuracy on the most confident names: {selective}",
        *_label_lines("label", replace(m, labels=tuple(present))),
        "",
    ]


def _metrics_line(name: str, m: Metrics) -> str:
    return (
        f"{name}: {m.count} names, accuracy {m.accuracy:.4f}, macro-F1 {m.macro_f1:.4f}, top-3 "
        f"{m.top3:.4f}, NLL {m.nll:.4f}, ECE {m.ece:.4f}, Brier {m.brier:.4f}"
    )


def compared_versions_lines(compared: ComparedVersions) -> list[str]:
    """Return both versions' metrics, the paired difference and the labels that change."""
    (one, other), table = compared.versions, compared.flips
    differences = {
        "accuracy": compared.difference.accuracy,
        "macro-F1": compared.difference.macro_f1,
    }
    return [
        *(_metrics_line(n, m) for n, m in zip(compared.versions, compared.metrics, strict=True)),
        *(
            f"{metric:12} {other} - {one}: {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
            for metric, (mean, low, high) in differences.items()
        ),
        f"flips        {table.changed} of {table.count} labels change: {table.fixed} fixed, "
        f"{table.broken} broken, {table.both_wrong} wrong in both",
        *(f"{'':12} {a} → {b}: {count}" for a, b, count in table.pairs[:_MOST_FLIPS]),
    ]
