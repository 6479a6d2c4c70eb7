"""Metrics of a classifier, as functions of probabilities and true labels.

Throughout, ``probabilities`` is float64 ``(N, L)`` with N at least 1, ``label_ids`` the truth,
int64 ``(N,)``, and ``labels`` the L names of the labels. Rates are 0 to 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.model.calibration import (
    Floats,
    LabelIds,
    calibration_noise,
    conformal_threshold,
    expected_calibration_error,
    negative_log_likelihood,
    wilson_interval,
)
from charrnn.model.facts import (
    MOST_CONFUSED,
    CalibrationNoise,
    LabelMetrics,
    Metrics,
    Reliability,
    ReportData,
    RiskCoverage,
    SetCoverage,
    SetShare,
)

COVERAGES = (0.9, 0.8, 0.7)  # shares of the rows at which selective accuracy is recorded
SET_TARGETS = (0.9, 0.95, 0.99)  # coverages of the prediction sets in a model report
UNFAMILIAR = (0.9, 0.95, 0.99, 0.999)  # thresholds of unfamiliarity in a model report

Counts = npt.NDArray[np.int64]
Sets = npt.NDArray[np.bool_]


def evaluate(
    probabilities: Floats,
    label_ids: LabelIds,
    labels: Sequence[str],
    refused: npt.NDArray[np.bool_] | None = None,
) -> Metrics:
    """Return all metrics of ``probabilities``.

    Args:
        refused: which names scoring gives no label, bool ``(N,)``; None: none. They count as not
            right in accuracy, top-3 and recall, and are left out of the other figures.
    """
    N, L = probabilities.shape
    answered = np.ones(N, np.bool_) if refused is None else ~refused
    true = np.bincount(label_ids, minlength=L)  # (L,)
    rows = rows_of_confidence(~answered)
    p, ids = (probabilities, label_ids) if rows.all() else (probabilities[rows], label_ids[rows])
    best = p.argmax(axis=1)
    right = (best == ids) & answered.any()
    correct = np.bincount(ids[right], minlength=L)  # (L,)
    predicted = np.bincount(best, minlength=L) * int(answered.any())
    per_label = _label_metrics(correct, predicted, true, labels)
    recall = np.array([m.recall for m in per_label])
    f1 = np.array([m.f1 for m in per_label])
    every = np.arange(len(p))
    own = p[every, ids][:, None]
    ahead = (p > own) | ((p == own) & (np.arange(L) < ids[:, None]))  # (N, L): ranked before it
    difference = p.copy()
    difference[every, ids] -= 1
    low, high = wilson_interval(int(correct.sum()), N)
    in_top3 = (ahead.sum(axis=1) < 3) & answered.any()
    return Metrics(
        count=N,
        accuracy=float(correct.sum() / N),
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=float(f1[true > 0].mean()),
        balanced_accuracy=float(recall[true > 0].mean()),
        top3=float(in_top3.sum() / N),
        nll=negative_log_likelihood(p, ids),
        ece=expected_calibration_error(p, ids),
        brier=float(np.square(difference, out=difference).sum(axis=1).mean()),
        selective={str(c): selective_accuracy(p, ids, c) for c in COVERAGES},
        labels=per_label,
        refused=int((~answered).sum()),
    )


def rows_of_confidence(refused: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which of N names the figures of confidence are of, ``(N,)``: those that scoring gives
    a label, or all where it gives none to any."""
    return refused if refused.all() else ~refused


def with_refusals(probabilities: Floats, refused: npt.NDArray[np.bool_]) -> Floats:
    """Return probabilities ``(N, L)`` with a column more for "no label", which is the most probable
    one of the refused names, ``(N, L + 1)``; as they are where no name is refused."""
    if not refused.any():
        return probabilities
    return np.column_stack((np.where(refused[:, None], 0, probabilities), refused))


def _label_metrics(
    correct_of: Counts, predicted_of: Counts, true_of: Counts, labels: Sequence[str]
) -> tuple[LabelMetrics, ...]:
    """Return the metrics of every label from the numbers of names that it was given rightly, that
    it was given, and of all of its names, ``(L,)`` each."""
    metrics = []
    counts = zip(labels, correct_of, predicted_of, true_of, strict=True)
    for label, correct, predicted, true in counts:
        low, high = wilson_interval(int(correct), int(true))
        metrics.append(
            LabelMetrics(
                label=label,
                count=int(true),
                precision=float(correct / max(predicted, 1)),
                recall=float(correct / max(true, 1)),
                recall_low=low,
                recall_high=high,
                f1=float(2 * correct / max(true + predicted, 1)),
            )
        )
    return tuple(metrics)


def confusion_matrix(predicted: LabelIds, label_ids: LabelIds, count: int) -> Counts:
    """Return rows by true label (row) and predicted label (column), int64 ``(L, L)``; ``count`` is
    L."""
    flat = np.bincount(label_ids * count + predicted, minlength=count * count)
    return flat.reshape(count, count).astype(np.int64)


def selective_accuracy(probabilities: Floats, label_ids: LabelIds, coverage: float) -> float:
    """Return the accuracy on the most confident ``coverage`` share of the rows."""
    answered = max(1, round(coverage * len(label_ids)))
    rows = np.argsort(-probabilities.max(axis=1), kind="stable")[:answered]
    return float((probabilities[rows].argmax(axis=1) == label_ids[rows]).mean())


def reliability(
    probabilities: Floats, label_ids: LabelIds, bins: int = 15, weights: Floats | None = None
) -> Reliability:
    """Return what a reliability diagram shows (Guo et al. 2017), in the bins of the ECE; names
    count by ``weights``, ``(N,)``, or all alike.

    The mean of |confidence - accuracy| over the bins, weighted by count, or by the sums of the
    weights, is ``expected_calibration_error``.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == label_ids
    bin_of = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    weight = np.ones(len(label_ids)) if weights is None else weights
    count, total = np.bincount(bin_of, minlength=bins), np.bincount(bin_of, weight, bins)

    def means(values: npt.NDArray[Any]) -> tuple[float | None, ...]:
        sums = np.bincount(bin_of, values * weight, bins)
        return tuple(float(s / n) if n else None for s, n in zip(sums, total, strict=True))

    squares = np.bincount(bin_of, weight**2, bins)
    kish = np.round(total**2 / np.where(squares, squares, 1)).astype(np.int64).tolist()
    effective = () if weights is None else tuple(kish)
    return Reliability(tuple(count.tolist()), means(confidence), means(correct), effective)


def risk_coverage(probabilities: Floats, label_ids: LabelIds, points: int = 100) -> RiskCoverage:
    """Return the accuracy on the most confident rows at ``points`` coverages from 1/``points`` to 1
    (fewer where there are fewer rows).

    1 minus the accuracy is the risk of the curve's name (El-Yaniv & Wiener 2010). Rows of equal
    confidence are taken in order, as in ``selective_accuracy``.
    """
    N, confidence = len(label_ids), probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    correct = np.cumsum(probabilities[order].argmax(axis=1) == label_ids[order])
    shares = np.arange(1, points + 1) / points
    answered = np.unique(np.maximum(1, np.round(shares * N).astype(np.int64)))
    return RiskCoverage(
        coverage=tuple((answered / N).tolist()),
        accuracy=tuple((correct[answered - 1] / answered).tolist()),
        confidence=tuple(confidence[order][answered - 1].tolist()),
    )


def expected_accuracy(probabilities: Floats, refused: npt.NDArray[np.bool_] | None = None) -> float:
    """Return the accuracy to expect on a table without truth: its mean confidence, of probabilities
    ``(N, L)``, 0 for refused names. On another mix of labels, or other kinds of names, it is as
    wrong as the calibration is there."""
    confidence = probabilities.max(axis=1)
    return float((confidence if refused is None else np.where(refused, 0, confidence)).mean())


def prediction_sets(probabilities: Floats, threshold: float) -> Sets:
    """Return which labels are in each row's prediction set, bool ``(N, L)``: those with at least
    ``threshold`` (see ``calibration.conformal_threshold``), and always the most probable ones."""
    sets: Sets = probabilities >= np.minimum(threshold, probabilities.max(axis=1, keepdims=True))
    return sets


def set_coverage(
    probabilities: Floats, label_ids: LabelIds, threshold: float, labels: Sequence[str]
) -> SetCoverage:
    """Measure the prediction sets at ``threshold``.

    Conformal sets promise their coverage over all names, not for every label: rare labels are
    covered less often, which is why labels and groups are measured apart. A label without a name
    is in no group.
    """
    sets = prediction_sets(probabilities, threshold)
    covered = sets[np.arange(len(label_ids)), label_ids]
    sizes = sets.sum(axis=1)
    count_of_row = np.bincount(label_ids, minlength=len(labels))[label_ids]

    def share(name: str, rows: Sets) -> SetShare:
        n, hits = int(rows.sum()), int(covered[rows].sum())
        low, high = wilson_interval(hits, n)
        return SetShare(name, n, hits / max(1, n), low, high, float(sizes[rows].sum() / max(1, n)))

    groups = {
        "labels with 100 names or more": count_of_row >= 100,
        "labels with 20 to 99 names": (count_of_row >= 20) & (count_of_row < 100),
        "labels with under 20 names": count_of_row < 20,
    }
    return SetCoverage(
        threshold=threshold,
        overall=share("all labels", np.ones(len(label_ids), bool)),
        single=float((sizes == 1).mean()),
        labels=tuple(share(label, label_ids == i) for i, label in enumerate(labels)),
        groups=tuple(share(name, rows) for name, rows in groups.items()),
    )


def report_data(
    test: tuple[Floats, LabelIds],
    validation: tuple[Floats, LabelIds],
    labels: Sequence[str],
    *,
    unfamiliarity: npt.NDArray[np.floating[Any]],
    ambiguous: int,
) -> ReportData:
    """Return what a model report draws about the test names.

    Args:
        test: calibrated probabilities ``(N, L)`` and label ids ``(N,)``.
        validation: the same of M names; the prediction sets are fitted on them.
        labels: the L labels.
        unfamiliarity: of the test names, 0 to 1, ``(N,)``.
        ambiguous: training names that occur under several labels.
    """
    probabilities, label_ids = test
    confusion = np.zeros((0, 0), np.int64)
    if len(labels) <= MOST_CONFUSED:
        confusion = confusion_matrix(probabilities.argmax(axis=1), label_ids, len(labels))
    thresholds = {str(target): conformal_threshold(*validation, target) for target in SET_TARGETS}
    return ReportData(
        confusion=tuple(map(tuple, confusion.tolist())),
        reliability=reliability(probabilities, label_ids),
        risk_coverage=risk_coverage(probabilities, label_ids),
        expected_accuracy=expected_accuracy(probabilities),
        sets={
            target: set_coverage(probabilities, label_ids, threshold, labels)
            for target, threshold in thresholds.items()
        },
        unfamiliar={str(t): float((unfamiliarity > t).mean()) for t in UNFAMILIAR},
        ece_noise=CalibrationNoise(*calibration_noise(probabilities)),
        ambiguous=ambiguous,
    )


def largest_cells(counts: Counts) -> list[tuple[int, int, int]]:
    """Return (row, column, count) of the cells of a matrix that are not 0, the largest first."""
    rows, columns = np.nonzero(counts)
    order = np.argsort(-counts[rows, columns], kind="stable")
    cells = zip(rows[order], columns[order], counts[rows, columns][order], strict=True)
    return [(int(i), int(j), int(n)) for i, j, n in cells]
