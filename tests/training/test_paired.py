"""Calibration, intervals, prediction sets and flips, by hand and by simulation."""

import json
import time
from dataclasses import asdict

import numpy as np
import pytest

from charrnn.model.calibration import (
    conformal_threshold,
    expected_calibration_error,
    softmax,
    wilson_interval,
)
from charrnn.model.facts import ReportData
from charrnn.training.metrics import (
    SET_TARGETS,
    evaluate,
    expected_accuracy,
    prediction_sets,
    reliability,
    report_data,
    risk_coverage,
    selective_accuracy,
    set_coverage,
)
from charrnn.training.paired import flips, paired_bootstrap

Probed = tuple[np.ndarray, np.ndarray]  # probabilities and label ids

# Two labels; five rows that give the first label with these probabilities.
CONFIDENCE = np.array([0.95, 0.6, 0.9, 0.7, 0.8])
TWO = np.stack((CONFIDENCE, 1 - CONFIDENCE), axis=1)
TRUTH = np.array([0, 1, 0, 1, 0])  # the two least confident rows are wrong


def one_hot(label_ids: list[int], count: int) -> np.ndarray:
    return np.eye(count)[label_ids]


def simulated(
    rng: np.random.Generator, priors: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Names whose probabilities are noisy and overconfident, drawn alike: exchangeable."""
    labels = rng.choice(len(priors), size=rows, p=priors / priors.sum())
    logits = rng.normal(size=(rows, len(priors))) + np.log(priors)
    logits[np.arange(rows), labels] += 1.5
    return softmax(logits, 0.6), labels


# --- Reliability and selective accuracy ---


def test_reliability_counts_and_averages_each_bin() -> None:
    found = reliability(TWO, TRUTH, bins=4)
    assert found.count == (0, 0, 2, 3)
    assert found.confidence == (None, None, pytest.approx(0.65), pytest.approx(2.65 / 3))
    assert found.accuracy == (None, None, 0, 1)


def test_reliability_puts_certainty_into_the_last_bin() -> None:
    found = reliability(one_hot([0, 1], 2), np.array([0, 0]), bins=15)
    assert found.count == (*[0] * 14, 2)
    assert found.accuracy[-1] == 0.5


def test_reliability_is_what_the_calibration_error_averages() -> None:
    probabilities, labels = simulated(np.random.default_rng(0), np.full(4, 0.25), 500)
    found = reliability(probabilities, labels)
    confidence, accuracy = (np.array(m, float) for m in (found.confidence, found.accuracy))
    gap = np.nansum(np.array(found.count) * np.abs(confidence - accuracy)) / sum(found.count)
    assert gap == pytest.approx(expected_calibration_error(probabilities, labels))


def test_weighted_reliability_is_what_the_weighted_calibration_error_averages() -> None:
    probabilities, labels = simulated(np.random.default_rng(0), np.full(4, 0.25), 500)
    weights = np.where(labels == 0, 3.0, 0.5)
    found = reliability(probabilities, labels, weights=weights)
    bin_of = np.minimum((probabilities.max(axis=1) * 15).astype(int), 14)
    total = np.bincount(bin_of, weights, 15)
    confidence, accuracy = (np.array(m, float) for m in (found.confidence, found.accuracy))
    gap = np.nansum(total * np.abs(confidence - accuracy)) / total.sum()
    assert gap == pytest.approx(expected_calibration_error(probabilities, labels, weights=weights))
    assert all(e <= n for e, n in zip(found.effective, found.count, strict=True))
    assert reliability(TWO, TRUTH, bins=4, weights=np.ones(5)).effective == (0, 0, 2, 3)


def test_risk_coverage_takes_the_most_confident_rows_first() -> None:
    curve = risk_coverage(TWO, TRUTH, points=5)
    np.testing.assert_allclose(curve.coverage, [0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(curve.accuracy, [1, 1, 1, 3 / 4, 3 / 5])


def test_risk_coverage_has_no_more_points_than_rows() -> None:
    curve = risk_coverage(TWO, TRUTH, points=100)
    assert len(curve.coverage) == len(curve.accuracy) == len(curve.confidence) == 5


def test_risk_coverage_agrees_with_selective_accuracy() -> None:
    probabilities, labels = simulated(np.random.default_rng(1), np.full(3, 1 / 3), 1000)
    curve = risk_coverage(probabilities, labels, points=20)
    expected = [selective_accuracy(probabilities, labels, share) for share in curve.coverage]
    np.testing.assert_allclose(curve.accuracy, expected)


def test_expected_accuracy_is_the_mean_confidence() -> None:
    assert expected_accuracy(TWO) == pytest.approx(3.95 / 5)


# --- Paired bootstrap ---


def test_paired_bootstrap_gives_the_difference_of_the_metrics() -> None:
    rng = np.random.default_rng(2)
    a, labels = simulated(rng, np.array([0.7, 0.2, 0.1, 0]) + 1e-9, 400)
    assert labels.max() == 2  # the last label is given, but never true
    b = softmax(np.log(a) + rng.normal(size=a.shape))
    found = paired_bootstrap(a, b, labels, resamples=50)
    first, second = (evaluate(p, labels, "abcd") for p in (a, b))
    assert found.accuracy[0] == pytest.approx(first.accuracy - second.accuracy)
    assert found.macro_f1[0] == pytest.approx(first.macro_f1 - second.macro_f1)


def test_paired_bootstrap_agrees_with_drawing_rows_one_by_one() -> None:
    rng = np.random.default_rng(3)
    a, labels = simulated(rng, np.array([0.5, 0.3, 0.2]), 150)
    b = softmax(np.log(a) + rng.normal(size=a.shape))
    draws = []
    for _ in range(1500):
        rows = rng.integers(0, 150, 150)
        first, second = (evaluate(p[rows], labels[rows], "abc") for p in (a, b))
        draws.append((first.accuracy - second.accuracy, first.macro_f1 - second.macro_f1))
    expected = np.quantile(draws, (0.025, 0.975), axis=0)
    found = paired_bootstrap(a, b, labels, resamples=4000)
    np.testing.assert_allclose(found.accuracy[1:], expected[:, 0], atol=0.015)
    np.testing.assert_allclose(found.macro_f1[1:], expected[:, 1], atol=0.015)


def test_paired_interval_of_a_known_difference_is_the_binomial_one() -> None:
    # a is always right; b is wrong on 200 of 2000 names: the difference is a share of 0.1.
    labels = np.repeat([0, 1], 1000)
    given = labels.copy()
    given[:200] = 1
    found = paired_bootstrap(one_hot(labels.tolist(), 2), one_hot(given.tolist(), 2), labels)
    half = 1.96 * np.sqrt(0.1 * 0.9 / 2000)
    assert found.accuracy == pytest.approx((0.1, 0.1 - half, 0.1 + half), abs=0.001)
    assert found.macro_f1[1] > 0


def test_paired_bootstrap_of_equal_models_is_exactly_nothing() -> None:
    probabilities, labels = simulated(np.random.default_rng(4), np.full(5, 0.2), 100)
    found = paired_bootstrap(probabilities, probabilities, labels, resamples=100)
    assert found.accuracy == found.macro_f1 == (0, 0, 0)


def test_paired_bootstrap_depends_on_its_seed_alone() -> None:
    a, labels = simulated(np.random.default_rng(5), np.full(4, 0.25), 200)
    b = np.roll(a, 1, axis=1)
    first, same, other = (paired_bootstrap(a, b, labels, resamples=200, seed=s) for s in (0, 0, 1))
    assert first == same != other


def test_paired_bootstrap_is_fast_enough_for_every_training() -> None:
    a, labels = simulated(np.random.default_rng(6), np.full(18, 1 / 18), 1800)
    b = np.random.default_rng(7).permutation(a)  # hardly a triple occurs twice: the slowest case
    start = time.process_time()
    paired_bootstrap(a, b, labels, resamples=2000)
    assert time.process_time() - start < 3


# --- Prediction sets ---


def test_prediction_set_holds_the_likely_labels_and_always_the_top_one() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.9, 0.06, 0.04]])
    assert prediction_sets(probabilities, 0.3).tolist() == [
        [True, True, False], [True, True, False], [True, False, False],
    ]  # fmt: skip
    assert prediction_sets(probabilities, 0.95).tolist() == [[True, False, False]] * 3
    assert prediction_sets(probabilities, 0.0).all()


def test_conformal_threshold_is_the_corrected_quantile() -> None:
    # Probabilities of the true label 0.05, 0.15, …, 0.85: nine names, of which a coverage of 0.8
    # needs ceil(0.8 × 10) = 8, so the second smallest probability.
    true = np.arange(0.05, 0.9, 0.1)
    table, labels = np.stack((true, 1 - true), axis=1), np.zeros(9, np.int64)
    assert conformal_threshold(table, labels, 0.8) == pytest.approx(0.15)
    assert conformal_threshold(table, labels, 0.9) == pytest.approx(0.05)
    assert conformal_threshold(table, labels, 0.95) == 0  # nine names cannot promise that


def test_equal_weights_change_no_threshold() -> None:
    probabilities, labels = simulated(np.random.default_rng(8), np.full(4, 0.25), 300)
    plain = conformal_threshold(probabilities, labels, 0.9)
    assert conformal_threshold(probabilities, labels, 0.9, np.full(300, 2.5)) == plain


def test_weights_move_the_threshold_to_the_names_that_count() -> None:
    true = np.array([0.9, 0.8, 0.3, 0.2])
    table, labels = np.stack((true, 1 - true), axis=1), np.zeros(4, np.int64)
    certain = conformal_threshold(table, labels, 0.5, np.array([10.0, 10, 1, 1]))
    doubtful = conformal_threshold(table, labels, 0.5, np.array([1.0, 1, 10, 10]))
    assert (certain, doubtful) == (pytest.approx(0.8), pytest.approx(0.2))


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_cover_as_promised_on_names_of_the_same_kind(coverage: float) -> None:
    rng, priors = np.random.default_rng(9), np.array([0.6, 0.25, 0.1, 0.05])
    found = []
    for _ in range(150):
        threshold = conformal_threshold(*simulated(rng, priors, 200), coverage)
        probabilities, labels = simulated(rng, priors, 400)
        found.append(prediction_sets(probabilities, threshold)[np.arange(400), labels].mean())
    # The promise is coverage to coverage + 1/(M + 1); the top label can add to it.
    assert np.mean(found) >= coverage - 0.006
    assert np.mean(found) <= coverage + 0.03


def test_weights_keep_the_promise_on_another_mix_of_labels() -> None:
    rng = np.random.default_rng(10)
    priors, shifted = np.array([0.85, 0.1, 0.05]), np.array([0.1, 0.3, 0.6])
    plain, weighted = [], []
    for _ in range(60):
        validation, true = simulated(rng, priors, 1000)
        probabilities, labels = rng_shifted(rng, priors, shifted, 1000)
        for found, weights in ((plain, None), (weighted, (shifted / priors)[true])):
            threshold = conformal_threshold(validation, true, 0.9, weights)
            sets = prediction_sets(probabilities, threshold)
            found.append(sets[np.arange(1000), labels].mean())
    assert np.mean(plain) < 0.85
    assert np.mean(weighted) == pytest.approx(0.9, abs=0.02)


def rng_shifted(
    rng: np.random.Generator, priors: np.ndarray, shares: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Names of labels in other shares, to which the model gives what it learned from ``priors``."""
    labels = rng.choice(len(shares), size=rows, p=shares)
    logits = rng.normal(size=(rows, len(priors))) + np.log(priors)
    logits[np.arange(rows), labels] += 1.5
    return softmax(logits, 0.6), labels


def test_set_coverage_counts_labels_and_groups() -> None:
    labels = np.repeat([0, 1, 2], [100, 20, 5])
    sets = np.zeros((125, 4), bool)
    sets[:, 0] = True
    sets[100:110, 1] = True  # half of the second label, in sets of two
    found = set_coverage(sets / sets.sum(axis=1, keepdims=True), labels, 0.4, ["a", "b", "c", "d"])
    assert (found.overall.count, found.overall.coverage) == (125, 110 / 125)
    assert found.overall.mean_size == pytest.approx(135 / 125)
    assert found.single == pytest.approx(115 / 125)
    assert [(s.name, s.count, s.coverage) for s in found.labels] == [
        ("a", 100, 1), ("b", 20, 0.5), ("c", 5, 0), ("d", 0, 0),
    ]  # fmt: skip
    assert [(s.count, s.coverage, s.mean_size) for s in found.groups] == [
        (100, 1, 1), (20, 0.5, 1.5), (5, 0, 1),
    ]  # fmt: skip
    assert (found.labels[1].low, found.labels[1].high) == wilson_interval(10, 20)
    assert [s.name for s in found.groups] == [
        "labels with 100 names or more", "labels with 20 to 99 names", "labels with under 20 names",
    ]  # fmt: skip


def test_set_coverage_becomes_plain_json() -> None:
    found = set_coverage(np.full((3, 2), 0.5), np.array([0, 0, 1]), 0.5, ["a", "b"])
    document = json.loads(json.dumps(asdict(found), allow_nan=False))
    assert document["overall"]["coverage"] == 1
    assert document["groups"][0] == {
        "name": "labels with 100 names or more", "count": 0, "coverage": 0, "low": 0, "high": 1,
        "mean_size": 0,
    }  # fmt: skip


# --- Flips ---

BEFORE, AFTER = np.array([0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 0, 0, 1])


def test_flips_count_what_changes() -> None:
    found = flips(BEFORE, AFTER, BEFORE, ["a", "b", "c"])
    assert (found.count, found.changed) == (7, 5)
    assert found.pairs == (("c", "a", 2), ("a", "b", 1), ("b", "a", 1), ("c", "b", 1))
    assert (found.fixed, found.broken, found.both_wrong) == (0, 5, 0)


def test_flips_with_truth_say_whether_for_the_better() -> None:
    truth = np.array([0, 1, 1, 1, 0, 1, 0])
    found = flips(BEFORE, AFTER, truth, ["a", "b", "c"])
    # Rows 1 and 4 are fixed, row 3 is broken, rows 5 and 6 go from one wrong label to another.
    assert (found.fixed, found.broken, found.both_wrong) == (2, 1, 2)
    assert found.fixed + found.broken + found.both_wrong == found.changed
    assert found.pairs[0] == ("c", "a", 2)


def test_flips_of_a_model_with_itself_are_none() -> None:
    found = flips(BEFORE, BEFORE, BEFORE, ["a", "b", "c"])
    assert (found.changed, found.pairs, found.fixed, found.broken) == (0, (), 0, 0)


# --- The data of a report ---


def report_of(test: Probed, validation: Probed, labels: list[str]) -> ReportData:
    unfamiliarity = np.linspace(0, 1, len(test[1]))
    return report_data(test, validation, labels, unfamiliarity=unfamiliarity, ambiguous=0)


def test_report_data_has_the_right_sizes() -> None:
    rng, priors = np.random.default_rng(11), np.array([0.6, 0.3, 0.1])
    probabilities, labels = simulated(rng, priors, 250)
    found = report_of((probabilities, labels), simulated(rng, priors, 300), ["a", "b", "c"])
    json.dumps(asdict(found), allow_nan=False)
    assert np.sum(found.confusion) == sum(found.reliability.count) == 250
    assert np.sum(found.confusion, axis=1).tolist() == np.bincount(labels).tolist()
    assert {len(values) for values in vars(found.risk_coverage).values()} == {100}
    assert list(found.sets) == [str(target) for target in SET_TARGETS]
    assert found.expected_accuracy == pytest.approx(probabilities.max(axis=1).mean())


def test_report_data_says_from_which_confidence_a_share_is_answered() -> None:
    curve = report_of((TWO, TRUTH), (TWO, TRUTH), ["a", "b"]).risk_coverage
    assert curve.confidence == (0.95, 0.9, 0.8, 0.7, 0.6)
    for share, lowest in zip(curve.coverage, curve.confidence, strict=True):
        assert (lowest <= CONFIDENCE).mean() == pytest.approx(share)


def test_prediction_sets_of_a_report_are_fitted_on_the_validation_names() -> None:
    rng, priors = np.random.default_rng(12), np.array([0.6, 0.3, 0.1])
    test, validation = simulated(rng, priors, 200), simulated(rng, priors, 300)
    found = report_of(test, validation, ["a", "b", "c"]).sets["0.9"]
    threshold = conformal_threshold(*validation, 0.9)
    assert found == set_coverage(*test, threshold, ["a", "b", "c"])


def test_report_data_counts_the_unfamiliar_test_names() -> None:
    unfamiliarity = np.array([0.1, 0.91, 0.96, 0.995, 0.9])
    found = report_data((TWO, TRUTH), (TWO, TRUTH), ["a", "b"], unfamiliarity=unfamiliarity,
                        ambiguous=3)  # fmt: skip
    assert found.unfamiliar == {"0.9": 0.6, "0.95": 0.4, "0.99": 0.2, "0.999": 0}
    assert found.ambiguous == 3
