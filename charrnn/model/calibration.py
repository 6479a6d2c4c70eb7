"""Make confidence mean what it says: one temperature, fitted on validation logits.

Temperature scaling divides logits by a positive scalar before the softmax (Guo et al. 2017, "On
Calibration of Modern Neural Networks"): the label does not change, the confidence does.
"""

from __future__ import annotations

__all__ = [
    "Floats",
    "LabelIds",
    "calibration_noise",
    "conformal_threshold",
    "expected_calibration_error",
    "fit_temperature",
    "negative_log_likelihood",
    "softmax",
    "wilson_interval",
]

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LabelIds = npt.NDArray[np.int64]


def softmax(logits: npt.ArrayLike, temperature: float = 1.0) -> Floats:
    """Return probabilities, float64 ``(N, L)``, rows summing to 1."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    exponentials = np.exp(scaled)
    probabilities: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def negative_log_likelihood(probabilities: Floats, labels: LabelIds) -> float:
    """Return the mean NLL in nats per example."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-300)).mean())


def expected_calibration_error(probabilities: Floats, labels: LabelIds, bins: int = 15) -> float:
    """Return the expected calibration error, 0 to 1: the mean distance between confidence and
    accuracy over equal-width confidence bins, weighted by their rows (Guo et al. 2017)."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.zeros(bins)
    np.add.at(gap, bin_of, confidence - correct)
    return float(np.abs(gap).sum() / len(labels))


def fit_temperature(logits: npt.ArrayLike, labels: LabelIds) -> float:
    """Return the temperature, within 0.05 to 20, that minimises the NLL of ``labels``.

    The NLL is convex in 1/T, so it has one minimum in log T; a golden-section search finds it to
    1e-6. ``logits`` is ``(N, L)``, ``labels`` int64 ``(N,)``.
    """
    values = np.asarray(logits, np.float64)
    ratio = (np.sqrt(5) - 1) / 2

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(softmax(values, float(np.exp(log_temperature))), labels)

    low, high = float(np.log(0.05)), float(np.log(20))
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > 1e-6:
        if loss_left < loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = loss(right)
    return float(np.exp((low + high) / 2))


def calibration_noise(
    probabilities: Floats, resamples: int = 200, seed: int = 0
) -> tuple[float, float]:
    """Return the mean and the 95th percentile of the ECE that a *perfectly* calibrated model with
    these confidences would show, by chance alone, on as many names: drawn by deciding each name
    with its own confidence. An ECE below the second is no evidence of miscalibration."""
    confidence = probabilities.max(axis=1)
    two = np.stack((confidence, 1 - confidence), axis=1)
    two[:, 1] = np.minimum(two[:, 1], np.nextafter(confidence, 0))  # the first stays the largest
    draw = np.random.default_rng(seed)
    found = [
        expected_calibration_error(two, (draw.random(len(two)) >= confidence).astype(np.int64))
        for _ in range(resamples)
    ]
    return float(np.mean(found)), float(np.quantile(found, 0.95))


def conformal_threshold(
    probabilities: Floats,
    labels: LabelIds,
    coverage: float,
    importance: npt.NDArray[np.float64] | None = None,
) -> float:
    """Return the smallest probability with which a label enters a prediction set.

    Split conformal prediction with the score 1 - p(true label) (Vovk et al. 2005; Sadinle et al.
    2019): over tables like the validation names, the set {labels with p ≥ threshold} holds the true
    label for at least ``coverage`` of the names.

    Args:
        probabilities: calibrated, of the M validation names, ``(M, L)``.
        labels: their true label ids, int64 ``(M,)``.
        coverage: wanted share, above 0 and below 1.
        importance: how much more often a name like each of these occurs in the table at hand,
            ``(M,)``; for label shift (Tibshirani et al. 2019). None: as often.

    Returns:
        A threshold in [0, 1]; 0, every label, where M is too small for the coverage.
    """
    true = probabilities[np.arange(len(labels)), labels]
    weight = np.ones(len(true)) if importance is None else importance
    order = np.argsort(-true, kind="stable")
    # The name to be scored counts as one more, whose score may be the largest of all.
    share = np.cumsum(weight[order]) / (weight.sum() + weight.mean())
    reached = np.flatnonzero(share >= coverage)
    return float(true[order[reached[0]]]) if reached.size else 0.0


def wilson_interval(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson 1927), 95 % by default; (0, 1)
    when ``count`` is 0."""
    if count == 0:
        return 0.0, 1.0
    share, z2 = successes / count, z * z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))
