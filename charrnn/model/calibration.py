"""Temperature scaling, expected calibration error (ECE), conformal thresholds.

Temperature scaling divides the logits by a positive scalar, fitted on validation logits, before the
softmax (Guo et al. 2017, "On Calibration of Modern Neural Networks"). It changes the confidence,
never the most probable label.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LabelIds = npt.NDArray[np.int64]


def softmax(logits: npt.ArrayLike, temperature: float | Floats = 1.0) -> Floats:
    """Return the probabilities of logits ``(N, L)`` divided by ``temperature``, one or ``(N, 1)``,
    float64 ``(N, L)``, rows summing to 1.

    >>> softmax([[0.0, 0.0, 0.0, 0.0]]).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    probabilities: Floats = np.exp(scaled, out=scaled)  # in place: a row may have 10,000 labels
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities


def by_part(
    given: npt.NDArray[np.bool_], temperature: float, given_temperature: float | None
) -> Floats:
    """Return the temperature of each of N names, ``(N, 1)``: that of given names where ``given``,
    ``(N,)``, says so, unless it is None."""
    return np.where(given, given_temperature or temperature, temperature)[:, None]


def negative_log_likelihood(
    probabilities: Floats, labels: LabelIds, weights: Floats | None = None
) -> float:
    """Return the mean NLL in nats per example, for ``probabilities`` ``(N, L)`` and label ids
    ``labels``, int64 ``(N,)``; ``weights``, ``(N,)``, say how much each counts (None: all 1)."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(np.average(-np.log(np.maximum(chosen, 1e-300)), weights=weights))


def expected_calibration_error(
    probabilities: Floats, labels: LabelIds, bins: int = 15, weights: Floats | None = None
) -> float:
    """Return the ECE, 0 to 1, for ``probabilities`` ``(N, L)`` and label ids ``labels``, int64
    ``(N,)``: the mean distance between confidence and accuracy over equal-width confidence bins,
    weighted by their rows (Guo et al. 2017), or by the ``weights`` ``(N,)`` of their rows."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    weight = np.ones(len(labels)) if weights is None else weights
    gap = np.bincount(bin_of, weight * (confidence - correct), bins)
    return float(np.abs(gap).sum() / weight.sum())


def fit_temperature(
    logits: npt.ArrayLike, labels: LabelIds, weights: Floats | None = None
) -> float:
    """Return the temperature, 0.05 to 20, that minimises the NLL of ``labels``, int64 ``(N,)``, for
    ``logits`` ``(N, L)``; ``weights``, ``(N,)``, say how much each name counts. The NLL is convex
    in 1/T: a golden-section search finds log T to 1e-6."""
    return fit_joint_temperature([(np.asarray(logits, np.float64), labels)], weights)


def fit_joint_temperature(
    parts: Sequence[tuple[npt.NDArray[np.floating], LabelIds]], weights: Floats | None = None
) -> float:
    """Return the one temperature that minimises the sum of the NLLs of several pairs of logits and
    label ids; see ``fit_temperature``."""

    def loss(temperature: float) -> float:
        return sum(
            negative_log_likelihood(softmax(logits, temperature), labels, weights)
            for logits, labels in parts
        )

    return _least(loss)


def fit_confidence(logits: Floats, labels: LabelIds, weights: Floats) -> float:
    """Return the temperature, 0.05 to 20, for which the confidence, the highest probability, tells
    best whether the most probable label is right: that minimises the mean of -log confidence where
    it is and -log(1 - confidence) where it is not. Arguments as ``fit_temperature``; the NLL of all
    labels is lowest for confidences that are too low where some names are no label's."""
    right = logits.argmax(axis=1) == labels

    def loss(temperature: float) -> float:
        confidence = softmax(logits, temperature).max(axis=1)
        chosen = np.where(right, confidence, 1 - confidence)
        return float(np.average(-np.log(np.maximum(chosen, 1e-12)), weights=weights))

    return _least(loss)


def _least(loss_of: Callable[[float], float]) -> float:
    """Return the temperature, 0.05 to 20, of the least loss, by a golden-section search."""
    ratio = (np.sqrt(5) - 1) / 2

    def loss(log_temperature: float) -> float:
        return loss_of(float(np.exp(log_temperature)))

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
    """Return the mean and the 95th percentile of the ECE of a *perfectly* calibrated model with
    ``probabilities`` ``(N, L)``, simulated ``resamples`` times; an ECE below the latter is no
    evidence of miscalibration."""
    confidence = probabilities.max(axis=1)
    two = np.stack((confidence, 1 - confidence), axis=1)
    two[:, 1] = np.minimum(two[:, 1], np.nextafter(confidence, 0))  # argmax stays 0
    rng = np.random.default_rng(seed)
    errors = [
        expected_calibration_error(two, (rng.random(len(two)) >= confidence).astype(np.int64))
        for _ in range(resamples)
    ]
    return float(np.mean(errors)), float(np.quantile(errors, 0.95))


def conformal_threshold(
    probabilities: Floats,
    labels: LabelIds,
    coverage: float,
    importance: npt.NDArray[np.float64] | None = None,
) -> float:
    """Return the probability from which on a label is in a prediction set; 0, so all labels, when M
    is too small for ``coverage``.

    Split conformal prediction with the score 1 - p(true label) (Vovk et al. 2005; Sadinle et al.
    2019): in tables distributed like the validation names, the set {labels with p ≥ threshold}
    contains the true label for at least ``coverage`` of the names.

    Args:
        probabilities: calibrated, of the M validation names, ``(M, L)``.
        labels: their true label ids, int64 ``(M,)``.
        coverage: target, in (0, 1).
        importance: weights of the validation names, ``(M,)``: their density in the table to be
            scored divided by that in the validation names (Tibshirani et al. 2019). None: all 1.
    """
    true = probabilities[np.arange(len(labels)), labels]
    weight = np.ones(len(true)) if importance is None else importance
    order = np.argsort(-true, kind="stable")
    # The name to be scored counts as one more, with the largest possible score.
    share = np.cumsum(weight[order]) / (weight.sum() + weight.mean())
    reached = np.flatnonzero(share >= coverage)
    return float(true[order[reached[0]]]) if reached.size else 0.0


def wilson_interval(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the ends of the Wilson score interval (Wilson 1927) of the proportion ``successes`` of
    ``count``; (0, 1) when ``count`` is 0. ``z``: standard normal quantile, 95 % by default.

    >>> [round(end, 3) for end in wilson_interval(8, 10)]
    [0.49, 0.943]
    """
    if count == 0:
        return 0.0, 1.0
    share, z2 = successes / count, z * z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))
