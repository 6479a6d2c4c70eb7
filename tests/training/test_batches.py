"""Examples on the device: targets of names under one and several labels, of outliers, and of soft
labels, and which of them the logit adjustment is for."""

import numpy as np
import pytest
import torch

from charrnn.model.network import ModelConfig
from charrnn.model.vocabulary import LATIN_VOCABULARY, Vocabulary
from charrnn.training.batches import SoftLabels, TrainingData, training_data
from charrnn.training.frequencies import USUAL
from charrnn.training.splits import Examples

NAMES = ["Ab", "Cd", "AB", "Ef", "Gh", "Ij"]  # the third is the first, under another label
EXAMPLES = Examples.of(NAMES, [0, 0, 1, 0, 0, 1], outliers=["table", "chair", "xx"])


def data_of(*, none_output: bool = True, merge_shared: bool = False) -> TrainingData:
    config = ModelConfig(LATIN_VOCABULARY.size, 2, none_output=none_output)
    soft = SoftLabels(["xy"], np.full((1, config.outputs), 0.25, np.float32), 1)
    return training_data(
        LATIN_VOCABULARY, EXAMPLES, soft, config, torch.device("cpu"), merge_shared=merge_shared
    )


def test_outliers_are_examples_of_the_last_output_if_there_is_one() -> None:
    data = data_of()
    assert data.labelled == 8
    assert data.targets[6:8].tolist() == [[0, 0, 1]] * 2
    assert data.log_priors[0].exp().tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 6])
    assert data_of(none_output=False).labelled == 6


def test_a_name_under_two_labels_is_one_example_shared_by_the_root_of_their_numbers() -> None:
    data = data_of(merge_shared=True)
    assert data.labelled == 7
    assert data.targets[0].tolist() == pytest.approx([2**0.5 / (1 + 2**0.5), 1 / (1 + 2**0.5), 0])
    assert data.targets[1].tolist() == [1, 0, 0]
    assert data.log_priors[0].exp().tolist() == pytest.approx([0.717, 0.283, 0.2], abs=1e-3)


def test_shared_names_and_soft_labels_are_not_adjusted() -> None:
    data = data_of(merge_shared=True)
    rows = torch.arange(8)
    adjusted = (data.log_priors_of(rows) != 0).any(dim=1)
    assert adjusted.tolist() == [False, *[True] * 6, False]


def test_where_frequencies_are_known_a_name_is_shared_by_them() -> None:
    weights = np.array([300, 1, 100, 1, 1, 1], np.float32)
    examples = Examples.of(NAMES, EXAMPLES.label_ids, weights=weights)
    config = ModelConfig(LATIN_VOCABULARY.size, 2)
    data = training_data(
        LATIN_VOCABULARY, examples, None, config, torch.device("cpu"), merge_shared=True
    )
    shared = (4 * 300) ** 0.5, (2 * 100) ** 0.5  # 4 names of the first label, 2 of the other
    assert data.targets[0].tolist() == pytest.approx([part / sum(shared) for part in shared])
    assert set(data.targets[1:].flatten().tolist()) == {0, 1}


def test_a_frequent_name_is_read_several_times_in_an_epoch() -> None:
    weights = np.array([9, 1, 2, 0.5, 1, 1], np.float32) * USUAL
    examples = Examples.of(NAMES, EXAMPLES.label_ids, weights=weights)
    config = ModelConfig(LATIN_VOCABULARY.size, 2)
    data = training_data(
        LATIN_VOCABULARY, examples, None, config, torch.device("cpu"), merge_shared=True
    )
    assert data.labelled == 7
    assert data.targets[:4, 0].tolist() == pytest.approx([6 / (6 + 2)] * 3 + [1], rel=1e-3)


def test_labels_count_alike_among_the_names_of_a_script() -> None:
    names = ["Ab", "Cd", "Ef", "Аб", "Вг", "Де", "Жз"]
    words = ["acb", "def", "баг", "гед"]
    examples = Examples.of(names, [0, 0, 1, 1, 1, 1, 2], outliers=words)
    vocabulary = Vocabulary.of_names(names, examples.label_ids.tolist(), least=1)
    config = ModelConfig(vocabulary.size, 3, none_output=True)
    data = training_data(vocabulary, examples, None, config, torch.device("cpu"))
    latin, cyrillic = data.log_priors_of(torch.tensor([0, 3])).exp()
    assert latin.tolist() == pytest.approx([2 / 3, 1 / 3, 1, 1 / 3])  # 1: no names of this script
    assert cyrillic.tolist() == pytest.approx([1, 3 / 4, 1 / 4, 1 / 4])
