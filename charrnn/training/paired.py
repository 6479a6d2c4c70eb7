"""Two models on the same names: paired differences and label flips."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charrnn.model.calibration import Floats, LabelIds
from charrnn.model.facts import PairedDifference
from charrnn.training.metrics import Counts, confusion_matrix, largest_cells


@dataclass(frozen=True)
class Flips:
    """Label changes from one model to another on the same rows.

    Attributes:
        count: rows compared.
        changed: rows whose label changes.
        pairs: (from, to, rows), the most frequent first.
        fixed: changed rows that were wrong and are right now.
        broken: changed rows that were right and are wrong now.
        both_wrong: changed rows that were wrong and still are.
    """

    count: int
    changed: int
    pairs: tuple[tuple[str, str, int], ...]
    fixed: int
    broken: int
    both_wrong: int


def paired_bootstrap(
    probabilities_a: Floats,
    probabilities_b: Floats,
    label_ids: LabelIds,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Return metrics of a minus those of b, with percentile intervals (Efron & Tibshirani 1993).

    Names are drawn with replacement and both models are measured on the same draw. Accuracy and F1
    depend on a row only through (true label, label of a, label of b), so counts of such triples are
    drawn instead of rows, which is faster and has the same distribution.

    Args:
        probabilities_a: ``(N, L)``; only the largest of a row matters. More columns than labels are
            never true (see ``with_refusals``).
        probabilities_b: the same of the same names.
        label_ids: true labels, int64 ``(N,)``, N at least 1.
        resamples: R, how many draws.
        seed: of the draws.
    """
    N = len(label_ids)
    L = max(probabilities_a.shape[1], probabilities_b.shape[1])
    triples = np.stack((label_ids, probabilities_a.argmax(axis=1), probabilities_b.argmax(axis=1)))
    cells, count = np.unique(triples, axis=1, return_counts=True)  # (3, K)
    draws = np.random.default_rng(seed).multinomial(count.sum(), count / N, resamples)
    weights = np.concatenate((count[None], draws))  # (1 + R, K), the data itself first
    accuracy_a, f1_a = _accuracy_and_f1(weights, cells[0], cells[1], L)
    accuracy_b, f1_b = _accuracy_and_f1(weights, cells[0], cells[2], L)
    return PairedDifference(_interval(accuracy_a - accuracy_b), _interval(f1_a - f1_b))


def flips(before: LabelIds, after: LabelIds, label_ids: LabelIds, labels: Sequence[str]) -> Flips:
    """Count the rows whose label changes from one model to another.

    Args:
        before, after: predicted label ids of the same rows, int64 ``(N,)``.
        label_ids: true label ids, int64 ``(N,)``.
        labels: the L labels.
    """
    changed = before != after
    pairs = largest_cells(confusion_matrix(after[changed], before[changed], len(labels)))
    was_right, is_right = before == label_ids, after == label_ids
    return Flips(
        count=len(before),
        changed=int(changed.sum()),
        pairs=tuple((labels[i], labels[j], n) for i, j, n in pairs),
        fixed=int((~was_right & is_right).sum()),
        broken=int((was_right & ~is_right).sum()),
        both_wrong=int((changed & ~was_right & ~is_right).sum()),
    )


def _accuracy_and_f1(
    weights: Counts, true: LabelIds, predicted: LabelIds, count: int
) -> tuple[Floats, Floats]:
    """Return accuracy and macro-F1 of R weightings ``(R, K)`` of K (true, predicted) pairs, both
    ``(R,)``; F1 is averaged over the labels that occur in the truth, as in ``evaluate``."""
    of_label = np.eye(count, dtype=np.int64)
    hits = weights @ (of_label[true] * (true == predicted)[:, None])  # (R, L)
    trues, predictions = weights @ of_label[true], weights @ of_label[predicted]
    f1 = 2 * hits / np.maximum(trues + predictions, 1)
    present = trues > 0
    macro_f1 = (f1 * present).sum(axis=1) / present.sum(axis=1)
    return hits.sum(axis=1) / weights.sum(axis=1), macro_f1


def _interval(values: Floats) -> tuple[float, float, float]:
    """Return the first value and the 2.5 and 97.5 % quantiles of the others."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return float(values[0]), float(low), float(high)
