"""How good a model is, measured the same way every time.

Everything here is a function of probabilities ``(N, L)`` and label ids ``(N,)``: it does not care
whether a network or a baseline made them.
"""

from __future__ import annotations

__all__ = [
    "COVERAGES",
    "LabelMetrics",
    "Metrics",
    "confusion_matrix",
    "evaluate",
    "majority_probabilities",
    "ngram_probabilities",
    "selective_accuracy",
    "wilson_interval",
]

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.calibration import (
    Floats,
    LabelIds,
    expected_calibration_error,
    negative_log_likelihood,
)

COVERAGES = (0.9, 0.8, 0.7)


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


def wilson_interval(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson 1927), 95 % by default; (0, 1)
    when ``count`` is 0."""
    if count == 0:
        return 0.0, 1.0
    share, z2 = successes / count, z * z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def majority_probabilities(train_labels: LabelIds, count: int, rows: int) -> Floats:
    """Baseline: the label shares of the training set, ``(rows, count)``, for every name."""
    shares = np.bincount(train_labels, minlength=count) / len(train_labels)
    return np.tile(shares, (rows, 1))


def ngram_probabilities(
    train_names: Sequence[str], train_labels: LabelIds, names: Sequence[str], count: int
) -> Floats:
    """Baseline: character 1- to 5-gram TF-IDF and logistic regression (C = 10), the strongest
    cheap competitor on this data; probabilities ``(len(names), count)``.

    Needs scikit-learn (extra ``flows``); labels absent from training get probability 0.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), lowercase=True, sublinear_tf=True),
        LogisticRegression(C=10, max_iter=300),
    )
    model.fit(list(train_names), train_labels)
    probabilities = np.zeros((len(names), count))
    probabilities[:, model.classes_] = model.predict_proba(list(names))
    return probabilities
