"""What ships is what was measured: the pretrained models on the real honest test fold."""

import numpy as np
import pytest
from real_data import real_names

from charrnn.model.calibration import Floats, calibration_noise, conformal_threshold, softmax
from charrnn.model.engine import logits_of
from charrnn.model.facts import Metrics
from charrnn.model.version import ModelVersion, resolve
from charrnn.training.corpus import build_table, load_corpus, write_table
from charrnn.training.label_files import find_label_files
from charrnn.training.metrics import evaluate, expected_accuracy, prediction_sets
from charrnn.training.splits import Examples, honest_split

NAMES = real_names()
pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(NAMES is None, reason="the real names are not here (CHARRNN_NAMES)"),
]


@pytest.fixture(scope="module")
def test_fold(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    assert NAMES is not None
    path = tmp_path_factory.mktemp("corpus") / "names.parquet"
    write_table(build_table(find_label_files(NAMES)[0]), path)
    return honest_split(load_corpus(path)).test


def measured(model: str, examples: Examples) -> tuple[ModelVersion, Floats, Metrics]:
    version = resolve(model)
    encoded = version.vocabulary.encode(examples.names)
    probabilities = softmax(logits_of(version.network(), encoded), version.temperature)
    return version, probabilities, evaluate(probabilities, examples.label_ids, version.labels)


@pytest.mark.parametrize(("model", "accuracy", "macro_f1"), [("pretrained-tutorial", 0.84, 0.54)])
def test_quality_is_what_the_version_says_and_above_its_bar(
    model: str, accuracy: float, macro_f1: float, test_fold: Examples
) -> None:
    version, _, metrics = measured(model, test_fold)
    stated = version.facts.metrics.honest.test
    assert metrics.count == stated.count
    assert metrics.accuracy == pytest.approx(stated.accuracy, abs=0.001)
    assert metrics.macro_f1 == pytest.approx(stated.macro_f1, abs=0.005)
    assert metrics.accuracy >= accuracy
    assert metrics.macro_f1 >= macro_f1


@pytest.mark.parametrize("model", ["pretrained-tutorial"])
def test_confidence_means_what_it_says(model: str, test_fold: Examples) -> None:
    """Expected accuracy, from the confidences alone, against the truth; and no ECE beyond what
    chance gives a perfectly calibrated model."""
    _, probabilities, metrics = measured(model, test_fold)
    standard_error = np.sqrt(metrics.accuracy * (1 - metrics.accuracy) / metrics.count)
    assert abs(expected_accuracy(probabilities) - metrics.accuracy) < 3 * standard_error
    assert metrics.ece <= calibration_noise(probabilities)[1]


@pytest.mark.parametrize("model", ["pretrained-tutorial"])
@pytest.mark.parametrize("target", [0.9, 0.95, 0.99])
def test_prediction_sets_cover_what_they_promise(
    model: str, target: float, test_fold: Examples
) -> None:
    version, probabilities, metrics = measured(model, test_fold)
    known = version.calibration
    validation = version.validation_probabilities()
    sets = prediction_sets(probabilities, conformal_threshold(validation, known.label_ids, target))
    covered = sets[np.arange(metrics.count), test_fold.label_ids].mean()
    # Both folds are samples: three standard errors of the difference of two shares.
    error = 3 * np.sqrt(target * (1 - target) * (1 / metrics.count + 1 / len(known.label_ids)))
    assert abs(covered - target) < error
