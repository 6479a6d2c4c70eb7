"""Softmax, temperature and calibration error, against values that can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn.model.calibration import (
    conformal_threshold,
    expected_calibration_error,
    fit_confidence,
    fit_temperature,
    negative_log_likelihood,
    softmax,
)


def drawn_labels(probabilities: np.ndarray, seed: int) -> np.ndarray:
    """Draw one label per row with the row's probabilities."""
    spots = np.random.default_rng(seed).random((len(probabilities), 1))
    return (probabilities.cumsum(axis=1) < spots).sum(axis=1).clip(max=probabilities.shape[1] - 1)


@given(
    logits=st.lists(
        st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=8
    ),
    temperature=st.floats(0.05, 20),
)
@settings(deadline=None, database=None, derandomize=True, max_examples=200)
def test_probabilities_sum_to_one_and_keep_the_order_of_the_logits(
    logits: list[list[float]], temperature: float
) -> None:
    probabilities = softmax(logits, temperature)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert probabilities.dtype == np.float64
    assert (probabilities >= 0).all()
    best = np.argmax(logits, axis=1)
    assert (probabilities[np.arange(len(best)), best] == probabilities.max(axis=1)).all()


def test_softmax_of_a_hand_example() -> None:
    np.testing.assert_allclose(softmax([[np.log(3), 0.0]]), [[0.75, 0.25]], atol=1e-15)
    np.testing.assert_allclose(softmax([[np.log(9), 0.0]], 2.0), [[0.75, 0.25]], atol=1e-15)
    np.testing.assert_allclose(softmax([[1000.0, 1000.0]]), [[0.5, 0.5]])
    assert softmax(np.zeros((0, 4))).shape == (0, 4)


def test_softmax_leaves_its_input_alone() -> None:
    logits = np.array([[1.0, 2.0]])
    softmax(logits)
    assert logits.tolist() == [[1.0, 2.0]]


def test_the_temperature_of_confidence_is_that_by_which_it_tells_what_is_right() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(4000, 5)) * 2
    labels = drawn_labels(softmax(logits), 1)
    found = fit_confidence(1.7 * logits, labels, np.ones(4000))
    assert found == pytest.approx(1.7, rel=0.05)
    # Where a third of the names are of no label's kind, confidence is still right on average.
    mixed = np.where(np.arange(4000) % 3, labels, draw.integers(0, 5, 4000))
    probabilities = softmax(logits, fit_confidence(logits, mixed, np.ones(4000)))
    right = probabilities.argmax(axis=1) == mixed
    assert probabilities.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.01)


def test_nll_of_a_hand_example() -> None:
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75]])
    expected = (np.log(2) + np.log(4)) / 2
    assert negative_log_likelihood(probabilities, np.array([0, 0])) == pytest.approx(expected)


def test_nll_of_an_impossible_label_is_large_and_finite() -> None:
    nll = negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1]))
    assert 600 < nll < np.inf


def test_calibration_error_of_a_hand_example() -> None:
    # Bin 0.8…0.9 of ten: confidences 0.85 and 0.81, one right. Bin 0.6…0.7: 0.65, right.
    probabilities = np.array([[0.85, 0.15], [0.19, 0.81], [0.65, 0.35]])
    labels = np.array([0, 0, 0])
    expected = (2 / 3) * abs(0.83 - 0.5) + (1 / 3) * abs(0.65 - 1)
    assert expected_calibration_error(probabilities, labels, bins=10) == pytest.approx(expected)


def test_calibration_error_spans_zero_to_one() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert expected_calibration_error(certain, np.array([0, 1])) == 0
    assert expected_calibration_error(certain, np.array([1, 0])) == 1


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(scale=2, size=(20_000, 6))
    labels = drawn_labels(softmax(logits), seed=1)
    found = fit_temperature(logits * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_has_a_lower_nll() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(scale=3, size=(400, 4))
    labels = rng.integers(0, 4, 400)
    labels[:200] = logits[:200].argmax(axis=1)
    best = negative_log_likelihood(softmax(logits, fit_temperature(logits, labels)), labels)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 500))
    assert best <= min(negative_log_likelihood(softmax(logits, t), labels) for t in grid) + 1e-9


def test_temperature_stays_within_its_bounds() -> None:
    logits = np.random.default_rng(3).normal(size=(50, 3))
    right, wrong = logits.argmax(axis=1), logits.argmin(axis=1)
    assert fit_temperature(logits, right) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(logits, wrong) == pytest.approx(20, rel=1e-3)


def test_a_fitted_temperature_lowers_the_calibration_error() -> None:
    logits = np.random.default_rng(4).normal(scale=2, size=(5000, 5))
    labels = drawn_labels(softmax(logits), seed=5)
    sharp = logits * 4
    before = expected_calibration_error(softmax(sharp), labels)
    after = expected_calibration_error(softmax(sharp, fit_temperature(sharp, labels)), labels)
    assert after < before / 4


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_prediction_sets_cover_as_often_as_promised(coverage: float) -> None:
    probabilities = softmax(np.random.default_rng(6).normal(scale=2, size=(20_000, 5)))
    labels = drawn_labels(probabilities, seed=7)
    threshold = conformal_threshold(probabilities[:10_000], labels[:10_000], coverage)
    held_out = probabilities[np.arange(10_000, 20_000), labels[10_000:]]
    assert (held_out >= threshold).mean() == pytest.approx(coverage, abs=0.015)


def test_conformal_threshold_of_a_hand_example() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
    labels = np.array([0, 1, 1, 0])  # true label at 0.9, 0.4, 0.7, 0.8; the next one is a fifth
    assert conformal_threshold(probabilities, labels, 0.4) == pytest.approx(0.8)
    assert conformal_threshold(probabilities, labels, 0.6) == pytest.approx(0.7)
    assert conformal_threshold(probabilities, labels, 0.7) == pytest.approx(0.4)
    assert conformal_threshold(probabilities, labels, 0.81) == 0
