"""Metrics against scikit-learn and against examples small enough to count on fingers."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from sklearn import metrics as sk

from charrnn.model.calibration import wilson_interval
from charrnn.model.facts import MOST_CONFUSED
from charrnn.training.baselines import majority_probabilities, ngram_probabilities
from charrnn.training.metrics import (
    COVERAGES,
    confusion_matrix,
    evaluate,
    expected_accuracy,
    report_data,
    rows_of_confidence,
    selective_accuracy,
    with_refusals,
)

LABELS = ["Alpha", "Beta", "Delta", "Gamma", "Omega"]


def random_predictions(seed: int, absent: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right more often than not; the label ``absent`` is never true."""
    rng = np.random.default_rng(seed)
    present = [i for i in range(len(LABELS)) if i != absent]
    labels = rng.choice(present, size=300)
    labels[: len(present)] = present
    logits = rng.normal(size=(300, len(LABELS)))
    logits[np.arange(300), labels] += 1
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("absent", [None, 2, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_metrics_agree_with_scikit_learn(seed: int, absent: int | None) -> None:
    probabilities, labels = random_predictions(seed, absent)
    predicted, every = probabilities.argmax(axis=1), list(range(len(LABELS)))
    present = sorted(set(labels.tolist()))
    found = evaluate(probabilities, labels, LABELS)
    average = {"labels": present, "average": "macro", "zero_division": 0}
    assert found.count == 300
    assert found.accuracy == pytest.approx(sk.accuracy_score(labels, predicted))
    assert found.macro_f1 == pytest.approx(sk.f1_score(labels, predicted, **average))
    assert found.balanced_accuracy == pytest.approx(sk.recall_score(labels, predicted, **average))
    top3 = sk.top_k_accuracy_score(labels, probabilities, k=3, labels=every)
    assert found.top3 == pytest.approx(top3)
    assert found.nll == pytest.approx(sk.log_loss(labels, probabilities, labels=every))
    brier = sum(sk.brier_score_loss(labels == i, probabilities[:, i]) for i in every)
    assert found.brier == pytest.approx(brier)
    expected = sk.precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    ours = [(m.precision, m.recall, m.f1, m.count) for m in found.labels]
    np.testing.assert_allclose(ours, np.transpose(expected), atol=1e-12)
    assert [m.label for m in found.labels] == LABELS


@pytest.mark.parametrize("seed", [0, 1])
def test_balanced_accuracy_agrees_with_scikit_learn(seed: int) -> None:
    probabilities, labels = random_predictions(seed, absent=None)
    expected = sk.balanced_accuracy_score(labels, probabilities.argmax(axis=1))
    assert evaluate(probabilities, labels, LABELS).balanced_accuracy == pytest.approx(expected)


def test_intervals_surround_their_rates() -> None:
    found = evaluate(*random_predictions(0, absent=2), LABELS)
    assert found.accuracy_low < found.accuracy < found.accuracy_high
    for label in found.labels:
        assert 0 <= label.recall_low <= label.recall <= label.recall_high <= 1
    assert (found.labels[2].recall_low, found.labels[2].recall_high) == (0, 1)


def test_metrics_become_plain_json() -> None:
    document = asdict(evaluate(*random_predictions(0, absent=2), LABELS))
    assert json.loads(json.dumps(document, allow_nan=False))["labels"][1]["label"] == "Beta"
    assert set(document["selective"]) == {"0.9", "0.8", "0.7"} == {str(c) for c in COVERAGES}


def test_one_row_can_be_measured() -> None:
    found = evaluate(np.array([[0.9, 0.1]]), np.array([0]), ["a", "b"])
    assert (found.count, found.accuracy, found.macro_f1, found.top3) == (1, 1, 1, 1)
    assert found.brier == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        (8, 10, 0.4901625, 0.9433178),
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (1, 1, 0.2065493, 1.0),
        (50, 100, 0.4038315, 0.5961685),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_interval_has_its_published_values(
    successes: int, count: int, low: float, high: float
) -> None:
    assert wilson_interval(successes, count) == pytest.approx((low, high), abs=1e-5)


def test_wilson_interval_never_leaves_zero_to_one() -> None:
    for count in range(1, 60):
        for successes in range(count + 1):
            low, high = wilson_interval(successes, count)
            assert 0 <= low <= successes / count + 1e-12
            assert successes / count - 1e-12 <= high <= 1


def test_selective_accuracy_looks_at_the_most_confident_rows() -> None:
    confidence = np.array([0.95, 0.6, 0.9, 0.7, 0.8])
    probabilities = np.stack((confidence, 1 - confidence), axis=1)
    labels = np.array([0, 1, 0, 1, 0])  # the two least confident are wrong
    assert selective_accuracy(probabilities, labels, 1.0) == pytest.approx(3 / 5)
    assert selective_accuracy(probabilities, labels, 0.8) == pytest.approx(3 / 4)
    assert selective_accuracy(probabilities, labels, 0.6) == 1
    assert selective_accuracy(probabilities, labels, 0.01) == 1  # one row at least


def test_confusion_matrix_has_truth_in_rows() -> None:
    found = confusion_matrix(np.array([0, 1, 1, 2]), np.array([0, 1, 0, 0]), 4)
    assert found.tolist() == [[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found.dtype == np.int64


def test_confusion_matrix_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    predicted, labels = rng.integers(0, 6, 200), rng.integers(0, 6, 200)
    expected = sk.confusion_matrix(labels, predicted, labels=range(6))
    assert (confusion_matrix(predicted, labels, 6) == expected).all()


def test_refused_names_have_no_label_and_no_confidence() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    refused = np.array([True, False, False, False])
    found = evaluate(probabilities, np.array([0, 0, 1, 0]), ["a", "b"], refused)
    assert (found.count, found.refused, found.answered) == (4, 1, 3)
    assert (found.accuracy, found.labels[0].recall, found.top3) == (0.5, 1 / 3, 0.75)
    assert found.brier == pytest.approx((2 * 0.2**2 + 2 * 0.3**2 + 2 * 0.6**2) / 3)
    assert expected_accuracy(probabilities, refused) == pytest.approx(2.1 / 4)
    answers = with_refusals(probabilities, refused).argmax(axis=1)
    assert answers.tolist() == [2, 0, 1, 1]
    assert with_refusals(probabilities, refused & False) is probabilities
    assert rows_of_confidence(refused).tolist() == [False, True, True, True]
    assert rows_of_confidence(refused | True).tolist() == [True] * 4


def test_labels_of_few_names_are_too_small_to_judge() -> None:
    label_ids = np.array([0] * 19 + [1] * 20)
    found = evaluate(np.eye(3)[label_ids], label_ids, ["a", "b", "c"])
    assert found.too_small == ["a", "c"]


def test_majority_baseline_gives_everybody_the_label_shares() -> None:
    found = majority_probabilities(np.array([0, 0, 0, 2]), 4, rows=3)
    assert found.tolist() == [[0.75, 0, 0.25, 0]] * 3


def test_ngram_baseline_gives_no_probability_to_a_label_it_never_saw() -> None:
    train = ["katoro", "romita", "burgmann", "hofstein"] * 5
    found = ngram_probabilities(train, np.array([0, 0, 3, 3] * 5), ["mitaro", "burghof"], 4)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found[:, [1, 2]] == 0).all()
    assert found.argmax(axis=1).tolist() == [0, 3]


def test_top_three_is_by_probability_and_then_by_label() -> None:
    p = np.array([[0.2, 0.2, 0.2, 0.2, 0.2], [0.4, 0.3, 0.1, 0.1, 0.1]])
    labels = "ABCDE"
    assert evaluate(p, np.array([2, 2]), labels).top3 == 1.0
    assert evaluate(p, np.array([3, 3]), labels).top3 == 0.0


def test_the_report_of_many_labels_has_no_confusion_matrix() -> None:
    L = MOST_CONFUSED + 1
    p, label_ids = np.full((4, L), 1 / L), np.arange(4)
    labels = [f"label {i}" for i in range(L)]
    unfamiliarity = np.zeros(4)
    data = report_data(
        (p, label_ids), (p, label_ids), labels, unfamiliarity=unfamiliarity, ambiguous=0
    )
    assert data.confusion == ()
