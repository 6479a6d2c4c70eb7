"""Names of other lists: which are used, that labels count alike, and what is measured."""

import numpy as np
import pyarrow as pa
import pytest

from charrnn.errors import DataError
from charrnn.model.version import ModelVersion
from charrnn.model.vocabulary import GIVEN
from charrnn.training.corpus import Corpus
from charrnn.training.outside import (
    PAIRS,
    Outside,
    balanced_weights,
    measure_outside,
    outside_of,
    pairs_of,
)
from charrnn.training.splits import Examples


def corpus(rows: list[tuple[str, str, int]], words: list[tuple[str, int]] | None = None) -> Corpus:
    labels = tuple(sorted({label for _, label, _ in rows}))
    return Corpus(
        names=pa.array([name for name, _, _ in rows], pa.large_string()),
        normalised=pa.array(
            [name.removeprefix(GIVEN).lower() for name, _, _ in rows], pa.large_string()
        ),
        label_ids=np.array([labels.index(label) for _, label, _ in rows], np.int32),
        folds=np.array([fold for _, _, fold in rows], np.int8),
        labels=labels,
        digest="0" * 64,
        weights=np.ones(len(rows), np.float32),
        outliers=pa.array([word for word, _ in words or []], pa.large_string()),
        outlier_folds=np.array([fold for _, fold in words or []], np.int8),
    )


TRAINED = corpus([("Abcova", "Czech", 1), ("Abcescu", "Romanian", 2)])


def test_only_new_names_of_known_labels_under_one_label_are_used() -> None:
    table = corpus(
        [
            ("Abcova", "Czech", 0),  # a training name
            (f"{GIVEN}Abcova", "Czech", 0),  # as a given name it is none
            ("Defova", "Czech", 0), ("Defescu", "Romanian", 2), ("Ghiova", "Czech", 3),
            ("Ghiescu", "Romanian", 5), ("Jkl", "Klingon", 0),
            ("Mno", "Czech", 2), ("Mno", "Romanian", 2), ("Pqr", "Czech", -1),
        ],
        [("table", 4), ("chair", 7), ("left out", -1)],
    )  # fmt: skip
    outside = outside_of(table, TRAINED)
    assert outside.calibration.names.to_pylist() == [f"{GIVEN}Abcova", "Defova", "Defescu"]
    assert outside.calibration.label_ids.tolist() == [0, 0, 1]
    assert outside.calibration.outliers.to_pylist() == ["table"]
    assert outside.test.names.to_pylist() == ["Ghiova", "Ghiescu"]
    assert outside.test.label_ids.tolist() == [0, 1]
    assert outside.test.outliers.to_pylist() == ["chair"]


def test_table_without_two_labels_in_each_half_is_refused() -> None:
    table = corpus([("Defova", "Czech", 0), ("Defescu", "Romanian", 1)])
    with pytest.raises(DataError, match="fewer than 2 labels") as caught:
        outside_of(table, TRAINED)
    assert caught.value.option == "outside"


def test_table_of_given_names_alone_is_refused() -> None:
    names = [f"{GIVEN}{stem}{end}" for stem in ("Def", "Ghi") for end in ("ova", "escu")]
    rows = [(n, label, f) for f, n in enumerate(names) for label in ("Czech", "Romanian")[f % 2 :]]
    with pytest.raises(DataError, match="surnames of fewer than 2 labels"):
        outside_of(corpus(rows), TRAINED)


def test_outside_names_without_other_words_and_given_names_are_measured(
    tiny_version: ModelVersion,
) -> None:
    half = Examples.of(["Katoro", "Burghof"], np.array([0, 1]))
    found = measure_outside(tiny_version, Outside(half, half, "0" * 64, (half, half)))
    assert found.surnames is not None
    assert found.surnames.count == 2
    assert (found.given, found.full) == (None, None)
    assert (found.outliers, found.outliers_answered) == (0, 0)


def test_labels_count_alike_however_many_names_they_have() -> None:
    weights = balanced_weights(np.array([0, 0, 0, 2]))
    assert weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])
    weights = balanced_weights(np.array([0, 0, 0, 2]), least=2)
    assert weights.tolist() == pytest.approx([8 / 9, 8 / 9, 8 / 9, 4 / 3])


def test_full_names_are_of_labels_with_both_parts() -> None:
    examples = Examples.of(["Abcova", f"{GIVEN}Jana", "Abcescu"], np.array([0, 0, 1]))
    surnames, given_names, label_ids = pairs_of(examples, seed=0)
    assert set(surnames.to_pylist()) == {"Abcova"}
    assert set(given_names.to_pylist()) == {f"{GIVEN}Jana"}
    assert label_ids.tolist() == [0] * PAIRS
