"""How good a model is, measured the same way every time.

Everything here is a function of probabilities ``(N, L)`` and label ids ``(N,)``: it does not care
whether a network or a baseline made them.
"""

from __future__ import annotations

__all__ = [
    "COVERAGES",
    "SET_TARGETS",
    "Counts",
    "LabelMetrics",
    "Metrics",
    "Reliability",
    "SetCoverage",
    "SetShare",
    "confusion_matrix",
    "evaluate",
    "expected_accuracy",
    "largest_cells",
    "prediction_sets",
    "reliability",
    "report_data",
    "risk_coverage",
    "selective_accuracy",
    "set_coverage",
]

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.model.calibration import (
    Floats,
    LabelIds,
    conformal_threshold,
    expected_calibration_error,
    negative_log_likelihood,
    wilson_interval,
)

COVERAGES = (0.9, 0.8, 0.7)
SET_TARGETS = (0.9, 0.95, 0.99)  # of the prediction sets in a model report
UNFAMILIAR = (0.9, 0.95, 0.99, 0.999)  # thresholds in a model report

Counts = npt.NDArray[np.int64]
Sets = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelMetrics:
    """One label's share of the result; rates are 0 to 1, intervals 95 % Wilson."""

    label: str
    count: int
    precision: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float


@dataclass(frozen=True)
class Metrics:
    """Quality of one set of predictions; rates are 0 to 1, ``nll`` in nats per name.

    ``macro_f1`` and ``balanced_accuracy`` average over the labels that occur in the truth;
    ``selective`` maps a coverage such as ``"0.9"`` to the accuracy on that most confident share.
    """

    count: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    balanced_accuracy: float
    top3: float
    nll: float
    ece: float
    brier: float
    selective: dict[str, float]
    labels: tuple[LabelMetrics, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Reliability:
    """Stated confidence against accuracy, in B equal-width bins of confidence from 0 to 1.

    Attributes:
        count: rows per bin, int64 ``(B,)``.
        confidence: mean confidence of the bin's rows, ``(B,)``; NaN where it is empty.
        accuracy: share of the bin's rows that is right, ``(B,)``; NaN where it is empty.
    """

    count: Counts
    confidence: Floats
    accuracy: Floats

    def to_json(self) -> dict[str, list[Any]]:
        """Return the fields as lists, None for NaN."""
        return {name: _plain(values) for name, values in vars(self).items()}


@dataclass(frozen=True)
class SetShare:
    """How many of ``count`` names have their true label in their set; ``name`` is a label or a
    group of labels. Rates are 0 to 1, the interval 95 % Wilson."""

    name: str
    count: int
    coverage: float
    low: float
    high: float
    mean_size: float


@dataclass(frozen=True)
class SetCoverage:
    """Prediction sets against the truth. ``single`` is the share of sets of one label; ``groups``
    are the labels with 100 names or more, with 20 to 99, and with fewer, by names measured."""

    overall: SetShare
    single: float
    labels: tuple[SetShare, ...]
    groups: tuple[SetShare, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        shares = {"labels": self.labels, "groups": self.groups}
        return {**asdict(self), **{k: [asdict(s) for s in v] for k, v in shares.items()}}


def evaluate(probabilities: Floats, labels: LabelIds, names: Sequence[str]) -> Metrics:
    """Measure ``probabilities`` ``(N, L)`` against true label ids ``(N,)``; ``names`` are the L
    labels. N must be at least 1."""
    N, L = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(predicted, labels, L)
    correct, true, given = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision = correct / np.maximum(given, 1)
    recall = correct / np.maximum(true, 1)
    f1 = 2 * correct / np.maximum(true + given, 1)
    present = true > 0
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :3]
    one_hot = np.zeros_like(probabilities)
    one_hot[np.arange(N), labels] = 1
    low, high = wilson_interval(int(correct.sum()), N)
    intervals = [wilson_interval(int(c), int(n)) for c, n in zip(correct, true, strict=True)]
    return Metrics(
        count=N,
        accuracy=float(correct.sum() / N),
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=float(f1[present].mean()),
        balanced_accuracy=float(recall[present].mean()),
        top3=float((ranked == labels[:, None]).any(axis=1).mean()),
        nll=negative_log_likelihood(probabilities, labels),
        ece=expected_calibration_error(probabilities, labels),
        brier=float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
        selective={str(c): selective_accuracy(probabilities, labels, c) for c in COVERAGES},
        labels=tuple(
            LabelMetrics(
                label=names[i],
                count=int(true[i]),
                precision=float(precision[i]),
                recall=float(recall[i]),
                recall_low=intervals[i][0],
                recall_high=intervals[i][1],
                f1=float(f1[i]),
            )
            for i in range(L)
        ),
    )


def confusion_matrix(predicted: LabelIds, labels: LabelIds, count: int) -> npt.NDArray[np.int64]:
    """Return how often true label i (row) was given label j (column), int64 ``(L, L)``."""
    flat = np.bincount(labels * count + predicted, minlength=count * count)
    return flat.reshape(count, count).astype(np.int64)


def selective_accuracy(probabilities: Floats, labels: LabelIds, coverage: float) -> float:
    """Return the accuracy on the most confident ``coverage`` share of the rows, 0 to 1."""
    kept = max(1, round(coverage * len(labels)))
    order = np.argsort(-probabilities.max(axis=1), kind="stable")[:kept]
    return float((probabilities[order].argmax(axis=1) == labels[order]).mean())


def reliability(probabilities: Floats, label_ids: LabelIds, bins: int = 15) -> Reliability:
    """Return what a reliability diagram shows (Guo et al. 2017), in the bins of the ECE.

    ``probabilities`` is ``(N, L)``, ``label_ids`` int64 ``(N,)``. The mean of |confidence -
    accuracy| over the bins, weighted by count, is ``expected_calibration_error``.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == label_ids
    bin_of = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    rows = np.where(count > 0, count, np.nan)
    return Reliability(
        count=count,
        confidence=np.bincount(bin_of, confidence, bins) / rows,
        accuracy=np.bincount(bin_of, correct, bins) / rows,
    )


def risk_coverage(
    probabilities: Floats, label_ids: LabelIds, points: int = 100
) -> tuple[Floats, Floats]:
    """Return coverage, ascending, and the accuracy on that most confident share of the rows.

    Both are ``(points,)``, 0 to 1 (fewer where there are fewer rows); 1 minus the accuracy is the
    risk of the curve's usual name (El-Yaniv & Wiener 2010). Rows of equal confidence are taken in
    order, as in ``selective_accuracy``.
    """
    N = len(label_ids)
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    right = np.cumsum(probabilities[order].argmax(axis=1) == label_ids[order])
    shares = np.arange(1, points + 1) / points
    kept = np.unique(np.maximum(1, np.round(shares * N).astype(np.int64)))
    return kept / N, right[kept - 1] / kept


def expected_accuracy(probabilities: Floats) -> float:
    """Return the accuracy to expect on a table without truth: its mean confidence, 0 to 1.

    For a calibrated model the mean of the largest probability is the share of right labels, on
    average over tables like the one it was calibrated on. On another mix of labels or other kinds
    of names it is as wrong as the calibration is there. ``probabilities`` is ``(N, L)``, N at
    least 1.
    """
    return float(probabilities.max(axis=1).mean())


def prediction_sets(probabilities: Floats, threshold: float) -> Sets:
    """Return which labels are in each row's prediction set, bool ``(N, L)``: those with at least
    ``threshold`` (see ``calibration.conformal_threshold``), and always the most probable ones."""
    sets: Sets = probabilities >= np.minimum(threshold, probabilities.max(axis=1, keepdims=True))
    return sets


def set_coverage(sets: Sets, label_ids: LabelIds, names: Sequence[str]) -> SetCoverage:
    """Measure prediction sets ``(N, L)`` against true label ids ``(N,)``; ``names`` are the L
    labels. N must be at least 1.

    Conformal sets promise their coverage over all names, not for every label: the rare ones pay
    for the common ones, which is why labels and groups are measured apart. A label without a name
    is in no group.
    """
    covered = sets[np.arange(len(label_ids)), label_ids]
    sizes = sets.sum(axis=1)
    count = np.bincount(label_ids, minlength=len(names))

    def share(name: str, rows: Sets) -> SetShare:
        n, hits = int(rows.sum()), int(covered[rows].sum())
        low, high = wilson_interval(hits, n)
        return SetShare(name, n, hits / max(1, n), low, high, float(sizes[rows].sum() / max(1, n)))

    of_row = count[label_ids]
    groups = {
        "labels with 100 names or more": of_row >= 100,
        "labels with 20 to 99 names": (of_row >= 20) & (of_row < 100),
        "labels with under 20 names": of_row < 20,
    }
    return SetCoverage(
        overall=share("all labels", np.ones(len(label_ids), bool)),
        single=float((sizes == 1).mean()),
        labels=tuple(share(name, label_ids == i) for i, name in enumerate(names)),
        groups=tuple(share(name, rows) for name, rows in groups.items()),
    )


def report_data(
    test_probabilities: Floats,
    test_label_ids: LabelIds,
    validation_probabilities: Floats,
    validation_label_ids: LabelIds,
    labels: Sequence[str],
    *,
    test_unfamiliarity: npt.NDArray[np.floating[Any]] | None = None,
) -> dict[str, Any]:
    """Return what a model report draws about the test names, as plain JSON without a name.

    Args:
        test_probabilities: calibrated, ``(N, L)``, N at least 1.
        test_label_ids: int64 ``(N,)``.
        validation_probabilities: calibrated, ``(M, L)``; the prediction sets are fitted on them.
        validation_label_ids: int64 ``(M,)``.
        labels: the L labels.
        test_unfamiliarity: of the same N names, 0 to 1, where it was measured.

    Returns:
        ``confusion`` (true label by row), ``reliability``, ``risk_coverage`` (with the lowest
        confidence kept), ``expected_accuracy``, ``sets`` (wanted coverage → threshold and
        ``SetCoverage``) and, where given, ``unfamiliar`` (threshold → share of the names above).
    """
    predicted = test_probabilities.argmax(axis=1)
    facts = {
        "confusion": confusion_matrix(predicted, test_label_ids, len(labels)).tolist(),
        "reliability": reliability(test_probabilities, test_label_ids).to_json(),
        "risk_coverage": _curve_facts(test_probabilities, test_label_ids),
        "expected_accuracy": expected_accuracy(test_probabilities),
        "sets": {
            str(target): _set_facts(
                test_probabilities,
                test_label_ids,
                conformal_threshold(validation_probabilities, validation_label_ids, target),
                labels,
            )
            for target in SET_TARGETS
        },
    }
    if test_unfamiliarity is not None:
        facts["unfamiliar"] = {str(t): float((test_unfamiliarity > t).mean()) for t in UNFAMILIAR}
    return facts


def _curve_facts(probabilities: Floats, label_ids: LabelIds) -> dict[str, list[float]]:
    """Return the curve of ``risk_coverage`` with the lowest confidence at each of its points."""
    coverage, accuracy = risk_coverage(probabilities, label_ids)
    confidence = np.sort(probabilities.max(axis=1))[::-1]
    lowest = confidence[np.round(coverage * len(confidence)).astype(np.int64) - 1]
    columns = {"coverage": coverage, "accuracy": accuracy, "confidence": lowest}
    return {name: _plain(values) for name, values in columns.items()}


def _set_facts(
    probabilities: Floats, label_ids: LabelIds, threshold: float, labels: Sequence[str]
) -> dict[str, Any]:
    found = set_coverage(prediction_sets(probabilities, threshold), label_ids, labels)
    return {"threshold": threshold, **found.to_json()}


def largest_cells(counts: Counts) -> list[tuple[int, int, int]]:
    """Return (row, column, count) of the cells that are not 0, the largest first."""
    rows, columns = np.nonzero(counts)
    order = np.argsort(-counts[rows, columns], kind="stable")
    cells = zip(rows[order], columns[order], counts[rows, columns][order], strict=True)
    return [(int(i), int(j), int(n)) for i, j, n in cells]


def _plain(values: npt.NDArray[Any]) -> list[Any]:
    """Return numbers as a list, None for NaN."""
    return [None if value != value else value for value in values.tolist()]
