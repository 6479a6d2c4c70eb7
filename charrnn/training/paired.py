"""Two models on the same names: paired differences and label flips."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from charrnn.model.calibration import Floats, LabelIds
from charrnn.model.facts import PairedDifference
from charrnn.training.metrics import Counts

_MOST_COUNTS = 2**22  # drawn at once: 32 MB


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
    draw = np.random.default_rng(seed)
    at_once = max(1, _MOST_COUNTS // max(len(count), L))
    draws = (
        draw.multinomial(N, count / N, min(at_once, resamples - first))  # (…, K)
        for first in range(0, resamples, at_once)
    )
    differences = [
        _measures(weights, cells[0], cells[1], L) - _measures(weights, cells[0], cells[2], L)
        for weights in chain([count[None]], draws)  # the data itself first
    ]
    accuracy, f1 = np.concatenate(differences, axis=1)  # (1 + R,) each
    return PairedDifference(_interval(accuracy), _interval(f1))


def flips(before: LabelIds, after: LabelIds, label_ids: LabelIds, labels: Sequence[str]) -> Flips:
    """Count the rows whose label changes from one model to another.

    Args:
        before, after: predicted label ids of the same rows, int64 ``(N,)``.
        label_ids: true label ids, int64 ``(N,)``.
        labels: the L labels.
    """
    changed = before != after
    L = len(labels)
    pairs, counts = np.unique(before[changed] * L + after[changed], return_counts=True)
    by_size = np.argsort(-counts, kind="stable")
    was_right, is_right = before == label_ids, after == label_ids
    return Flips(
        count=len(before),
        changed=int(changed.sum()),
        pairs=tuple(
            (labels[pair // L], labels[pair % L], n)
            for pair, n in zip(pairs[by_size].tolist(), counts[by_size].tolist(), strict=True)
        ),
        fixed=int((~was_right & is_right).sum()),
        broken=int((was_right & ~is_right).sum()),
        both_wrong=int((changed & ~was_right & ~is_right).sum()),
    )


def _measures(weights: Counts, true: LabelIds, predicted: LabelIds, count: int) -> Floats:
    """Return accuracy and macro-F1 of R weightings ``(R, K)`` of K (true, predicted) pairs,
    ``(2, R)``; F1 is averaged over the labels that occur in the truth, as in ``evaluate``."""
    right = true == predicted
    hits = _sums(weights[:, right], true[right], count)  # (R, L)
    trues, predictions = _sums(weights, true, count), _sums(weights, predicted, count)
    f1 = 2 * hits / np.maximum(trues + predictions, 1)
    present = trues > 0
    macro_f1 = (f1 * present).sum(axis=1) / present.sum(axis=1)
    return np.stack((hits.sum(axis=1) / weights.sum(axis=1), macro_f1))


def _sums(weights: Counts, label_ids: LabelIds, count: int) -> Counts:
    """Return the sums of the columns of ``weights`` ``(R, K)`` by their label, ``(R, L)``."""
    order = np.argsort(label_ids, kind="stable")
    labels, first = np.unique(label_ids[order], return_index=True)
    sums = np.zeros((len(weights), count), np.int64)
    if len(labels):
        sums[:, labels] = np.add.reduceat(weights[:, order], first, axis=1)
    return sums


def _interval(values: Floats) -> tuple[float, float, float]:
    """Return the first value and the 2.5 and 97.5 % quantiles of the others."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return float(values[0]), float(low), float(high)
