"""Options of scoring: priors, prediction sets, details, transliteration."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from charrnn.errors import ConfigError
from charrnn.model.engine import logits_of
from charrnn.model.novelty import surprise
from charrnn.model.version import ModelVersion, load_version
from charrnn.scoring.dictionary import added_columns
from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.scorer import Scorer

NAMES = ["Katoro", "Burgmann", "Aroevnko", "Shika", "Steinhof", None, "王", "O’Kashi"]


@pytest.fixture(scope="module")
def scorer(tiny_version: ModelVersion) -> Scorer:
    return Scorer(tiny_version)


@pytest.fixture(scope="module")
def nordic(tiny_version: ModelVersion) -> Scorer:
    """A scorer whose labels are languages, two of one family, and one that no table knows."""
    return Scorer(replace(tiny_version, labels=("Czech", "Danish", "Gamma", "Norwegian")))


def probabilities(frame: pl.DataFrame) -> np.ndarray:
    return frame.select(pl.col("^probability_.*$")).drop_nulls().to_numpy()


def test_uniform_prior_is_the_exact_bayes_correction(scorer: Scorer) -> None:
    plain = probabilities(scorer.score(NAMES, probabilities=True))
    found = scorer.score(NAMES, probabilities=True, prior="uniform")
    expected = plain * (0.25 / np.array(scorer.version.priors))
    expected /= expected.sum(axis=1, keepdims=True)
    assert np.abs(probabilities(found) - expected).max() < 1e-6
    assert found["confidence"].drop_nulls().to_numpy() == pytest.approx(
        expected.max(axis=1), abs=1e-6
    )


def test_a_given_prior_of_the_training_shares_changes_nothing(scorer: Scorer) -> None:
    plain = scorer.score(NAMES)
    found = scorer.score(NAMES, prior=tuple(scorer.version.priors))
    assert found["language"].to_list() == plain["language"].to_list()
    difference = (found["confidence"] - plain["confidence"]).abs().max()
    assert isinstance(difference, float)
    assert difference < 1e-6


def test_uncorrected_answer_stays_available_beside_a_prior(scorer: Scorer) -> None:
    plain = scorer.score(NAMES)
    found = scorer.score(NAMES, prior=(0.0, 0.0, 1.0, 0.0))
    assert set(found["language"].drop_nulls()) == {"Delta"}
    assert found["language_uncorrected"].to_list() == plain["language"].to_list()
    assert found["confidence_uncorrected"].to_list() == plain["confidence"].to_list()
    assert "language_uncorrected" not in plain.columns


@pytest.mark.parametrize("prior", ["train", "uniform"])
def test_the_family_is_the_one_whose_labels_have_the_largest_sum(
    nordic: Scorer, prior: str
) -> None:
    options = {"families": True, "probabilities": True, "prior": prior}
    for row in nordic.score(NAMES, **options).iter_rows(named=True):
        if row["status"] != "scored":
            assert (row["family"], row["family_confidence"]) == (None, None)
            continue
        sums = {
            "Scandinavian": row["probability_Danish"] + row["probability_Norwegian"],
            "Gamma": row["probability_Gamma"],
            "Slavic": row["probability_Czech"],
        }
        assert row["family"] == max(sums, key=sums.__getitem__)
        assert row["family_confidence"] == pytest.approx(max(sums.values()), abs=1e-6)
        assert row["confidence"] <= row["family_confidence"] <= 1


def test_families_change_no_other_column_and_are_typed_as_languages_are(nordic: Scorer) -> None:
    names = pa.array(NAMES, pa.string())
    plain = nordic.columns(names, ScoreOptions())
    found = nordic.columns(names, ScoreOptions(families=True))
    assert list(found) == list(added_columns(ScoreOptions(families=True), nordic.version.labels))
    assert set(found) - set(plain) == {"family", "family_confidence"}
    assert all(found[name].equals(column) for name, column in plain.items())
    assert found["family"].type == found["language"].type
    assert found["family"].dictionary.to_pylist() == ["Gamma", "Scandinavian", "Slavic"]
    assert found["family_confidence"].type == pa.float32()


def test_a_family_is_answered_where_only_the_language_is_too_uncertain(nordic: Scorer) -> None:
    plain = nordic.score(NAMES, families=True).drop_nulls("family")
    gap = plain.filter(pl.col("family_confidence") > pl.col("confidence"))
    name, family = gap["name"][0], gap["family"][0]
    between = (gap["family_confidence"][0] + gap["confidence"][0]) / 2
    for threshold, expected in ((between, family), (1.0, None)):
        found = nordic.score([name], families=True, min_confidence=threshold)
        assert found.select("language", "family", "status", "reason").row(0) == (
            None, expected, "abstained", "low_confidence")  # fmt: skip
        assert found["family_confidence"][0] > between


def test_an_unfamiliar_name_has_the_confidence_of_a_family_but_no_family(nordic: Scorer) -> None:
    found = nordic.score(["Katoro"], families=True, max_unfamiliarity=0.0)
    assert found.select("family", "reason").row(0) == (None, "unfamiliar")
    assert found["family_confidence"][0] > 0


def test_families_come_from_expressions_too(nordic: Scorer) -> None:
    frame = pl.DataFrame({"name": NAMES})
    found = frame.lazy().with_columns(nordic.expression(families=True).alias("x")).unnest("x")
    expected = nordic.score(NAMES, families=True)
    assert found.collect().equals(expected)


def test_prediction_set_holds_the_label_and_grows_with_the_coverage(scorer: Scorer) -> None:
    small = scorer.score(NAMES, coverage_target=0.5, probabilities=True)
    large = scorer.score(NAMES, coverage_target=0.95)
    for row, wide in zip(small.to_dicts(), large.to_dicts(), strict=True):
        if row["status"] != "scored":
            assert row["languages_set"] is None
            assert row["set_size"] is None
            continue
        members, more = (set(r["languages_set"].split("|")) for r in (row, wide))
        assert row["language"] in members
        assert members <= more
        assert (len(members), len(more)) == (row["set_size"], wide["set_size"])
        lowest = min(row[f"probability_{label}"] for label in members)
        others = [row[f"probability_{n}"] for n in scorer.version.labels if n not in members]
        assert all(p < lowest for p in others)


def test_prediction_sets_cover_the_validation_names(scorer: Scorer) -> None:
    """The names they were fitted on: the share is right to one name."""
    known = scorer.version.calibration
    p = scorer.version.validation_probabilities()
    threshold = float(scorer._set_threshold(ScoreOptions(coverage_target=0.8)))
    covered = (p[np.arange(len(p)), known.label_ids] >= threshold).mean()
    assert 0.8 <= covered <= 0.8 + 2 / len(p)


def test_a_name_of_several_labels_in_training_is_ambiguous(scorer: Scorer) -> None:
    found = scorer.score(["Katoro", "KATORO", "Burgmann", None, "王"], details=True)
    assert found["ambiguous"].to_list() == [True, True, False, None, None]


def test_unfamiliar_names_are_abstained_and_keep_their_confidence(scorer: Scorer) -> None:
    plain = scorer.score(NAMES, details=True)
    assert plain["unfamiliarity"].drop_nulls().is_between(0, 1).all()
    assert "unfamiliar" not in plain["reason"].to_list()  # a model that learned no other words
    found = scorer.score(NAMES, details=True, max_unfamiliarity=0.5)
    expected = plain["unfamiliarity"] > 0.5
    assert ((found["reason"] == "unfamiliar").fill_null(False) == expected.fill_null(False)).all()
    assert 0 < expected.sum() < len(NAMES)
    assert found.filter(expected)["status"].unique().to_list() == ["abstained"]
    assert found.filter(expected)["language"].null_count() == expected.sum()
    assert found["confidence"].to_list() == plain["confidence"].to_list()


def test_other_scripts_are_scored_only_when_transliterated(scorer: Scorer) -> None:
    names = ["Каторо", "Katoro", "김민수", "12345"]
    plain = scorer.score(names)
    assert plain["reason"].to_list() == ["unknown_script", None, "unknown_script", "unknown_script"]
    found = scorer.score(names, transliterate=True)
    assert found["status"].to_list() == ["scored", "scored", "scored", "unscored"]
    assert found["confidence"][0] == found["confidence"][1]
    assert found["name"].to_list() == names


def test_transliteration_leaves_latin_names_alone(scorer: Scorer) -> None:
    names = ["Straße", "O’Kashi", "Ñíguez", "Łódź", "McDonald1"]
    assert scorer.score(names, transliterate=True).equals(scorer.score(names))


@pytest.mark.parametrize(
    "wrong",
    [{"prior": "flat"}, {"coverage_target": 1.0}, {"coverage_target": -0.1}, {"top_k": 0}],
)
def test_options_out_of_range_are_refused(scorer: Scorer, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        scorer.score(["Katoro"], **wrong)


def test_estimated_prior_of_few_names_is_refused_and_changes_nothing(scorer: Scorer) -> None:
    plain = scorer.score(NAMES)
    settled, estimate = scorer.settle_prior(
        pa.array(NAMES, pa.string()), ScoreOptions(prior="estimate")
    )
    assert estimate is not None
    assert estimate.refused
    assert settled.prior == estimate.shares
    found = scorer.score(NAMES, prior="estimate")
    assert found["language"].to_list() == plain["language"].to_list()


# --- the format of model versions ----------------------------------------------------------------

GOLDEN = Path(__file__).parents[1] / "golden"


def test_golden_version_gives_the_same_answers() -> None:
    version = load_version(GOLDEN / "format-2")
    golden = json.loads((GOLDEN / "format-2.logits.json").read_text())
    assert version.digest == golden["digest"]
    encoded = version.vocabulary.encode(pa.array(golden["names"]))
    found = logits_of(version.network(), encoded)
    assert np.abs(found - np.array(golden["logits"])).max() < 1e-5
    surprises = surprise(torch.from_numpy(found), len(version.labels))
    unfamiliarity = version.calibration.novelty.novelty(surprises)
    assert unfamiliarity.tolist() == pytest.approx(golden["unfamiliarity"])
