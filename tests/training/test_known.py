"""What the training names say of known names: how they are divided, trusted and chosen."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from charrnn.model.facts import Provenance
from charrnn.model.known_names import KnownNames, keys_of
from charrnn.model.novelty import name_hashes
from charrnn.model.version import ModelVersion
from charrnn.scoring.scorer import Scorer
from charrnn.training import known
from charrnn.training.corpus import Corpus
from charrnn.training.known import (
    Listed,
    known_names,
    listed_names,
    trust_in_counts,
    trust_in_lists,
)
from charrnn.training.outside import calibrated
from charrnn.training.presets import PRESETS, with_overrides
from charrnn.training.protocol import run_protocol
from charrnn.training.release import make_version
from charrnn.training.splits import TEST_FOLD, VALIDATION_FOLD, Examples, honest_split

SMALL = replace(
    with_overrides(PRESETS["tutorial"], epochs=2, batch_size=64),
    model={"embedding_size": 8, "hidden_size": 12},
    known_entries=10_000,
)
EXAMPLES = Examples.of(
    ["Katoro", "Burgmann", "Katoro", "Aroevnko", "Katoro"],
    [0, 1, 2, 3, 0],
    weights=np.array([9, 4, 1, 1, 2], np.float32),
)


PROVENANCE = Provenance("2026-01-02T03:04:05Z", "cpu", 1, {"torch": "2.13.0"})


def listed_of(counts: list[list[float]], network: list[list[float]]) -> Listed:
    hashes = np.arange(len(counts), dtype=np.int64) << 33
    is_given = np.zeros(len(counts), bool)
    return Listed(hashes, is_given, np.array(counts, np.float32), np.array(network, np.float32))


def row_of(listed: Listed, version: ModelVersion, name: str) -> int:
    [row] = listed.find(name_hashes(version.vocabulary.encode(Examples.of([name], [0]).names)))
    return int(row)


def test_counts_of_a_name_add_up_by_label(tiny_version: ModelVersion) -> None:
    listed = listed_names(tiny_version, EXAMPLES, None)
    katoro, burgmann = (row_of(listed, tiny_version, n) for n in ("Katoro", "Burgmann"))
    assert listed.counts[katoro].tolist() == [11, 0, 1, 0]
    assert listed.counts[burgmann].tolist() == [0, 4, 0, 0]
    assert listed.shares[katoro].tolist() == pytest.approx([11 / 12, 0, 1 / 12, 0])
    assert row_of(listed, tiny_version, "Kimoko") == -1
    encoded = tiny_version.vocabulary.encode(EXAMPLES.names)
    expected = calibrated(tiny_version, encoded)[0]
    np.testing.assert_allclose(listed.network[katoro], expected, rtol=1e-5)


def test_lists_are_divided_as_in_training(tiny_version: ModelVersion) -> None:
    listed = listed_names(tiny_version, EXAMPLES, np.array([0.25, 0.25, 0.16, 0.34]))
    katoro = row_of(listed, tiny_version, "Katoro")
    assert listed.counts[katoro].tolist() == pytest.approx([1.5, 0, 0.4, 0])


def test_only_the_most_frequent_names_are_looked_at(
    tiny_version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "_MOST_NAMES", 2)
    listed = listed_names(tiny_version, EXAMPLES, None)
    assert len(listed.hashes) == 2
    assert listed.counts.sum(axis=0).tolist() == [11, 4, 1, 0]  # the rare label of a frequent name


def test_lists_are_trusted_as_far_as_another_list_agrees(tiny_version: ModelVersion) -> None:
    names = [a + b for a in "kmnrst" for b in ("ato", "emi", "uri", "oka", "ibe")]
    examples = Examples.of(names, [0] * len(names))
    listed = listed_names(tiny_version, examples, None)
    listed = replace(listed, network=np.full_like(listed.network, 0.25))
    agreeing = np.arange(len(names)) % 5 < 4  # four fifths: p(0) = t + (1 - t) / 4 is best at .73
    others = Examples.of(names, np.where(agreeing, 0, 1))
    found = trust_in_lists(tiny_version, listed, others)
    assert found.tolist() == pytest.approx([0.75] * len(found), abs=0.051)
    found = trust_in_lists(tiny_version, listed, Examples.of(names, [0] * len(names)))
    assert set(found) == {0.95}
    assert set(trust_in_lists(tiny_version, listed, None)) == {known.UNTESTED}
    unheard = Examples.of(["Burgmann"], [1])
    assert set(trust_in_lists(tiny_version, listed, unheard)) == {known.UNTESTED}


@pytest.mark.parametrize(("agreement", "low", "high"), [(1.0, 0.99, 1.0), (0.5, 0.0, 0.1)])
def test_counts_are_trusted_as_the_names_of_several_people_are_divided(
    agreement: float, low: float, high: float, tiny_version: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    names = [f"{a}{b}{c}" for a in "kmn" for b in "aeiou" for c in "rstlv"]
    own = np.random.default_rng(0).integers(0, 2, len(names))
    rows = [
        (name, label, 20 * share)
        for name, label in zip(names, own.tolist(), strict=True)
        for label, share in ((label, agreement), (1 - label, 1 - agreement))
        if share
    ]
    corpus = people_of({(name, label): n for name, label, n in rows}, VALIDATION_FOLD)
    monkeypatch.setattr(
        known, "calibrated", lambda version, encoded: np.full((len(encoded), 4), [0.5, 0.5, 0, 0])
    )
    listed = listed_names(tiny_version, EXAMPLES, None)
    trust = trust_in_counts(tiny_version, listed, corpus)
    assert low <= trust[row_of(listed, tiny_version, "Katoro")] <= high  # twelve people
    n = listed.counts.sum(axis=1)
    assert np.all(np.diff(trust[np.argsort(n)]) >= 0)
    once = replace(corpus, weights=np.full(len(rows), 0.5, np.float32))
    assert not trust_in_counts(tiny_version, listed, once).any()


def test_names_are_kept_by_what_their_lists_gain() -> None:
    listed = listed_of(
        [[1, 0, 0], [1, 0, 0], [50, 50, 0], [0, 0, 1]],
        [[0.9, 0.1, 0], [0.1, 0.8, 0.1], [0.5, 0.5, 0], [0.98, 0.01, 0.01]],
    )
    found = known_names(listed, np.full(4, 0.5), most=2)
    assert found.keys.tolist() == keys_of(listed.hashes[[1, 3]]).tolist()
    assert found.label_ids.tolist() == [0, 2]
    assert found.shares.tolist() == [128, 128]
    everything = known_names(listed, np.full(4, 0.999999), most=99)
    assert everything.label_ids.tolist() == [0, 0, 0, 1, 2]
    assert everything.shares.tolist() == [255, 255, 127, 127, 255]
    assert len(known_names(listed, np.zeros(4), most=99)) == 0


def test_of_names_with_one_key_the_first_is_kept() -> None:
    listed = listed_of([[1, 0], [0, 1]], [[0.5, 0.5], [0.5, 0.5]])
    listed = replace(listed, hashes=np.array([5 << 32, (5 << 32) + 1]))
    found = known_names(listed, np.full(2, 0.5), most=9)
    assert (found.keys.tolist(), found.label_ids.tolist()) == ([5], [0])


def test_a_version_knows_training_names_and_no_held_out_ones(corpus: Corpus) -> None:
    honest = run_protocol(corpus, SMALL, "honest")
    version = make_version(corpus, SMALL, honest, [], {}, PROVENANCE)
    split, without = honest_split(corpus), replace(version, known_names=KnownNames.none())
    assert len(version.known_names) > 100
    for part in (split.validation, split.test):
        keys = keys_of(name_hashes(version.vocabulary.encode(part.names)))
        assert not np.isin(keys, version.known_names.keys).any()
    answered = [
        Scorer(v).score(split.train.names)["language"].to_list() for v in (version, without)
    ]
    labels = [version.labels[i] for i in split.train.label_ids]
    right = [sum(map(str.__eq__, map(str, a), labels)) for a in answered]
    assert right[0] > right[1]


def test_a_counted_table_is_trusted_by_its_held_out_names(corpus: Corpus) -> None:
    counted = replace(corpus, counted=True, weights=np.full(len(corpus.names), 5, np.float32))
    honest = run_protocol(counted, SMALL, "honest")
    found = make_version(counted, SMALL, honest, [], {}, PROVENANCE).known_names
    assert found.shares.min() > 200  # five people of a name are of one label here
    once = replace(counted, weights=np.ones(len(corpus.names), np.float32))
    honest = run_protocol(once, SMALL, "honest")
    assert len(make_version(once, SMALL, honest, [], {}, PROVENANCE).known_names) <= len(found)


def people_of(counts: dict[tuple[str, int], float], fold: int) -> Corpus:
    rows = list(counts)
    names = pa.array([name for name, _ in rows], pa.large_string())
    return Corpus(
        names=names,
        normalised=names,
        label_ids=np.array([label for _, label in rows], np.int32),
        folds=np.full(len(rows), fold, np.int8),
        weights=np.array(list(counts.values()), np.float32),
        labels=("Alpha", "Beta", "Delta", "Gamma"),
        digest="0" * 64,
        outliers=pa.array([], pa.large_string()),
        outlier_folds=np.empty(0, np.int8),
        counted=True,
    )


def test_a_held_out_name_of_a_counted_table_is_that_of_one_person() -> None:
    names = [f"{a}{b}{c}" for a in "kmnrstlv" for b in "aeiou" for c in "aeiourstlv"]
    counts = {(name, label): n for name in names for label, n in ((2, 30.0), (0, 9.0), (1, 1.0))}
    test = honest_split(people_of(counts, TEST_FOLD)).test
    assert test.names.to_pylist() == names
    shares = np.bincount(test.label_ids, minlength=4) / len(names)
    assert shares.tolist() == pytest.approx([9 / 40, 1 / 40, 30 / 40, 0], abs=0.06)
    train = honest_split(people_of(counts, 0)).train
    assert (len(train.names), train.weights.sum()) == (3 * len(names), 40 * len(names))
    lists = replace(people_of(counts, TEST_FOLD), counted=False)
    assert len(honest_split(lists).test.names) == 3 * len(names)
