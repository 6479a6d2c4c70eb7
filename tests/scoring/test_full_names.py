"""Given name and surname are scored once each and combined by Bayes. All names are invented."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

from charrnn.errors import ConfigError, DataError
from charrnn.model.priors import corrected, correction
from charrnn.model.version import ModelVersion
from charrnn.model.vocabulary import GIVEN
from charrnn.scoring import scorer as scorer_module
from charrnn.scoring.dictionary import added_columns
from charrnn.scoring.name_parts import SEPARATOR
from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.scorer import Scorer

ALL = {"top_k": 4, "probabilities": True}
FULL = ["Mirela Katoro", "Dr. Tova van Burg", "Katoro, Mirela", "Burgmann", "Ovskaro Ev Nko"]
GIVENS = ["Mirela", "Tova", "Mirela", None, "Ovskaro Ev"]
SURNAMES = ["Katoro", "van Burg", "Katoro", "Burgmann", "Nko"]


@pytest.fixture(scope="module")
def scorer(given_version: ModelVersion) -> Scorer:
    return Scorer(given_version)


@pytest.fixture(scope="module")
def surname_scorer(tiny_version: ModelVersion) -> Scorer:
    return Scorer(tiny_version)


def in_columns(
    scorer: Scorer, givens: list[str | None], surnames: list[str | None], **options: Any
) -> pl.DataFrame:
    """Score a table of the two columns."""
    schema = {"first": pl.String, "last": pl.String}
    table = pl.DataFrame({"first": givens, "last": surnames}, schema)
    return scorer.score_table(table, given_column="first", surname_column="last", **options)


def probabilities(frame: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    return frame.select(pl.col("^.*probability_.*$")).to_numpy().astype(np.float64)


def combined(scorer: Scorer, exponent: float = 1.0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the probabilities of ``FULL`` by the formula, from the answers for each part."""
    by_surname = probabilities(scorer.score(SURNAMES, name_order="surname", **ALL))
    table = pa.table({"first": GIVENS})
    by_given = probabilities(pl.DataFrame(scorer.score_table(table, given_column="first", **ALL)))
    joint = (by_surname * by_given / np.array(scorer.version.priors)) ** exponent
    joint[3] = by_surname[3]
    return np.asarray(joint / joint.sum(axis=1, keepdims=True))


def test_two_parts_are_combined_by_bayes(scorer: Scorer) -> None:
    frame = scorer.score(FULL, **ALL)
    assert_allclose(probabilities(frame), combined(scorer), atol=1e-5)
    assert_allclose(probabilities(frame).sum(axis=1), 1, atol=1e-5)
    ranked = np.sort(probabilities(frame), axis=1)[:, ::-1]
    confidences = frame.select("confidence", "confidence_2", "confidence_3", "confidence_4")
    assert_allclose(confidences.to_numpy(), ranked, atol=1e-7)
    assert frame["language"].to_list() == [
        scorer.version.labels[i] for i in combined(scorer).argmax(axis=1)
    ]


def test_exponent_of_the_version_sharpens_or_flattens_pairs_only(
    given_version: ModelVersion,
) -> None:
    flat = Scorer(replace(given_version, pair_exponent=0.7))
    assert_allclose(probabilities(flat.score(FULL, **ALL)), combined(flat, 0.7), atol=1e-5)


def test_given_names_have_a_temperature_of_their_own(given_version: ModelVersion) -> None:
    own = Scorer(replace(given_version, given_temperature=2 * given_version.temperature))
    for column, names in (("surname", ["Katoro"]), ("given", ["Mirela"])):
        table = pl.DataFrame({"name": names})
        found, before = (
            probabilities(s.score_table(table, **{f"{column}_column": "name"}, **ALL))
            for s in (own, Scorer(given_version))
        )
        expected = before if column == "surname" else before**0.5
        assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)
    assert_allclose(probabilities(own.score(FULL, **ALL)), combined(own), atol=1e-5)
    assert own.explain("Mirela", part="given").ranked[0][1] == pytest.approx(found.max(), abs=1e-6)


def test_label_without_training_names_is_never_that_of_a_pair(given_version: ModelVersion) -> None:
    without = Scorer(replace(given_version, priors=(0.5, 0.3, 0.0, 0.2)))
    frame = without.score(["Mirela Katoro"], **ALL)
    assert frame["probability_Delta"].to_list() == [0.0]
    assert_allclose(probabilities(frame).sum(axis=1), 1, atol=1e-5)


def test_prior_correction_applies_to_pairs(scorer: Scorer) -> None:
    prior = (0.1, 0.2, 0.3, 0.4)
    frame = scorer.score(FULL, prior=prior, **ALL)
    weights = correction(prior, scorer.version.priors)
    assert_allclose(probabilities(frame), corrected(combined(scorer), weights), atol=1e-5)
    assert_allclose(frame["confidence_uncorrected"], combined(scorer).max(axis=1), atol=1e-5)


def test_prediction_sets_of_pairs_hold_what_is_probable(scorer: Scorer) -> None:
    frame = scorer.score(FULL, coverage_target=0.9, **ALL)
    for row in frame.iter_rows(named=True):
        inside = row["languages_set"].split("|")
        assert len(inside) == row["set_size"] > 0
        outside = set(scorer.version.labels) - set(inside)
        least = min(row[f"probability_{label}"] for label in inside)
        assert all(row[f"probability_{label}"] < least for label in outside)


def test_pairs_below_the_confidence_asked_for_are_abstained(scorer: Scorer) -> None:
    free = scorer.score(FULL)["confidence"]
    threshold = float(free.max())  # type: ignore[arg-type]
    strict = scorer.score(FULL, min_confidence=threshold)
    expected = ["scored" if c >= threshold else "abstained" for c in free]
    assert strict["status"].to_list() == expected
    assert "abstained" in expected


def test_ranks_alone_are_those_with_all_probabilities(scorer: Scorer) -> None:
    plain, with_all = scorer.score(FULL), scorer.score(FULL, probabilities=True)
    assert plain.equals(with_all.select(plain.columns))


@pytest.mark.parametrize(
    ("given", "surname", "scored", "reason"),
    [
        ("Mirela", "Katoro", "given+surname", None),
        (None, "Katoro", "surname", None),
        ("", "Katoro", "surname", None),
        (" ", "Katoro", "surname", None),
        ("12", "Katoro", "surname", None),
        ("Катя", "Katoro", "surname", None),
        ("a" * 300, "Katoro", "surname", None),
        ("Mirela", None, "given", None),
        ("Mirela", "", "given", None),
        ("Mirela", "-", "given", None),
        ("Mirela", "Катя", "given", None),
        ("Mirela", "a" * 300, "given", None),
        ("Катя", "--", None, "no_letters"),
        ("--", "Катя", None, "unknown_script"),
        (None, "Катя", None, "unknown_script"),
        ("--", None, None, "no_letters"),
        ("a" * 300, "", None, "too_long"),
        (None, "", None, "empty_name"),
        ("", None, None, "empty_name"),
        (None, None, None, "null_name"),
    ],
)
def test_part_that_cannot_be_scored_leaves_the_other(
    scorer: Scorer, given: str | None, surname: str | None, scored: str | None, reason: str | None
) -> None:
    frame = in_columns(scorer, ["Tova", given, None], ["Burg", surname, "Burg"])
    row = frame.row(1, named=True)
    assert (row["name_parts"], row["reason"]) == (scored, reason)
    assert row["status"] == ("unscored" if reason else "scored")
    assert (row["language"] is None) == (row["confidence"] is None) == (reason is not None)
    if scored == "surname":
        assert row["confidence"] == pytest.approx(alone(scorer, surname), abs=1e-5)
    if scored == "given":
        assert row["confidence"] == pytest.approx(alone(scorer, f"{SEPARATOR}{given}"), abs=1e-5)
        assert row["confidence"] != pytest.approx(alone(scorer, given), abs=1e-5)


def alone(scorer: Scorer, name: str | None) -> float:
    return float(scorer.score([name])["confidence"][0])


def test_given_name_is_read_with_its_mark(scorer: Scorer) -> None:
    """The reference is the name with the mark in its text, as training has it."""
    texts = [f"{GIVEN}Mirela", f"{GIVEN}Émile-Tova", f"{GIVEN}Tova"]
    marked = scorer.score(texts, name_order="surname", max_unknown=1.0, **ALL)
    frame = in_columns(scorer, ["Mirela", "Émile-Tova", "Tova"], [None, "", None], **ALL)
    assert_allclose(probabilities(frame), probabilities(marked), atol=1e-6)


def test_lone_surnames_are_answered_as_without_the_rules(scorer: Scorer) -> None:
    names = [f"{a}{b}" for a in ("Ka", "Ro", "Burg") for b in ("toro", "mann", "ev")]
    mixed = [*names, "Mirela Katoro"]
    plain = scorer.score(names, name_order="surname", **ALL)
    assert scorer.score(names, **ALL).equals(plain)
    assert_allclose(probabilities(scorer.score(mixed, **ALL))[:-1], probabilities(plain), atol=1e-6)


def test_two_columns_are_scored_as_the_names_split_by_the_rules(scorer: Scorer) -> None:
    whole = scorer.score(FULL, details=True, **ALL)
    columns = in_columns(scorer, GIVENS, SURNAMES, details=True, **ALL)
    assert columns.drop("first", "last").equals(whole.drop("name"))
    joined = [f"{s}{SEPARATOR}{g or ''}" for g, s in zip(GIVENS, SURNAMES, strict=True)]
    for order in ("auto", "surname", "given-surname"):
        again = scorer.score(joined, name_order=order, details=True, **ALL)
        assert again.drop("name").equals(whole.drop("name"))


def test_table_of_each_kind_and_the_expression_agree(scorer: Scorer) -> None:
    frame = in_columns(scorer, GIVENS, SURNAMES)
    fields = {"given_column": "first", "surname_column": "last"}
    categories = [pa.array(v).dictionary_encode() for v in (GIVENS, SURNAMES)]
    table = scorer.score_table(pa.table(categories, ["first", "last"]), **fields)
    added = frame.columns[2:]
    assert pl.DataFrame(table).select(added).equals(frame.select(added))
    parts = frame.select("first", "last")
    lazy = parts.lazy().select(scorer.expression(**fields).alias("o")).unnest("o")
    assert lazy.collect().equals(frame.select(added))


def test_order_of_the_words_is_an_option(scorer: Scorer) -> None:
    first = scorer.score(["Mirela Katoro"], name_order="given-surname", **ALL)
    last = scorer.score(["Katoro Mirela"], name_order="surname-given", **ALL)
    assert first.drop("name").equals(last.drop("name"))
    whole = scorer.score(["Mirela Katoro"], name_order="surname", details=True)
    assert whole["name_parts"].to_list() == ["surname"]


def test_details_of_a_pair_are_those_of_both_parts(scorer: Scorer) -> None:
    given, surname, pair = (
        in_columns(scorer, [g], [s], details=True).row(0, named=True)
        for g, s in (("Mirela", None), (None, "Katoro"), ("Mirela", "Katoro"))
    )
    product = (1 - given["unfamiliarity"]) * (1 - surname["unfamiliarity"])
    expected = 1 - product * (1 - math.log(product))
    assert pair["unfamiliarity"] == pytest.approx(expected, abs=1e-6)
    assert surname["ambiguous"]
    assert not pair["ambiguous"]
    assert pair["name_parts"] == "given+surname"


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_answers_do_not_depend_on_batches_or_blocks(
    given_version: ModelVersion, monkeypatch: pytest.MonkeyPatch, batch_size: int | None
) -> None:
    names = [f"{g} {s}" for g in ("Mirela", "Tova", "Ev") for s in ("Katoro", "Burg", "Nko", "Mi")]
    names = [*names, "Burgmann", "Катя", *names[::-1]]
    whole = Scorer(given_version).score(names, **ALL)
    monkeypatch.setattr(scorer_module, "_PAIR_LOGITS", 4 * 5)
    pieces = Scorer(given_version, batch_size=batch_size).score(names, **ALL)
    assert pieces["language"].to_list() == whole["language"].to_list()
    assert_allclose(
        probabilities(pieces.drop_nulls("language")),
        probabilities(whole.drop_nulls("language")),
        atol=1e-5,
    )


def test_shares_of_a_table_of_pairs_are_estimated(scorer: Scorer) -> None:
    draw = np.random.default_rng(0)
    syllables = np.array(["ka", "ro", "mi", "burg", "ev", "nko", "ta", "acht"])
    words = ["".join(draw.choice(syllables, 3)) for _ in range(400)]
    names = pa.array([f"{a} {b}" for a, b in pairwise(words)])
    settled, estimate = scorer.settle_prior(names, ScoreOptions(prior="estimate"))
    assert estimate is not None
    assert estimate.rows == 399
    assert isinstance(settled.prior, tuple)


# --- models that know surnames only -------------------------------------------------------------


def test_surname_model_reads_whole_names_unless_it_is_told_the_order(
    surname_scorer: Scorer,
) -> None:
    def scored(name: str, **options: Any) -> pl.DataFrame:
        return surname_scorer.score([name], **ALL, **options).drop("name")

    whole = scored("Mirela Katoro", name_order="surname")
    assert scored("Mirela Katoro").equals(whole)
    assert scored("Mirela Katoro", name_order="given-surname").equals(scored("Katoro"))
    assert scored("Katoro Mirela", name_order="surname-given").equals(scored("Katoro"))
    assert not scored("Katoro").equals(whole)


def test_surname_model_leaves_the_column_of_given_names_out(surname_scorer: Scorer) -> None:
    frame = in_columns(surname_scorer, ["Mirela", "Tova"], ["Katoro", None])
    assert frame["name_parts"].to_list() == ["surname", None]
    assert frame["reason"].to_list() == [None, "empty_name"]
    with pytest.raises(ConfigError, match="knows surnames only") as caught:
        surname_scorer.score_table(pl.DataFrame({"first": ["Mirela"]}), given_column="first")
    assert caught.value.option == "surname_column"


# --- options ------------------------------------------------------------------------------------


def test_columns_of_parts_say_which_parts_were_used() -> None:
    labels = ("Alpha", "Beta")
    assert "name_parts" not in added_columns(ScoreOptions(), labels)
    for options in ({"details": True}, {"given_column": "a"}, {"surname_column": "a"}):
        assert "p_name_parts" in added_columns(ScoreOptions(prefix="p_", **options), labels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"given_column": "a", "surname_column": "a"}, "given_column", "are the same column"),
        ({"given_column": "a", "name_column": "b"}, "given_column", "leave one out"),
        ({"surname_column": "a", "name_order": "comma"}, "name_order", "one column of names"),
        ({"name_order": "backwards"}, "name_order", "must be auto or given-surname"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: dict[str, Any], option: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        ScoreOptions(**options)
    assert caught.value.option == option


def test_list_of_names_has_no_columns_of_parts(scorer: Scorer) -> None:
    with pytest.raises(ConfigError, match="surname_column and given_column are about a table"):
        scorer.score(["Katoro"], given_column="first", surname_column="last")


@pytest.mark.parametrize("missing", ["given_column", "surname_column"])
def test_missing_column_is_named_with_its_option(scorer: Scorer, missing: str) -> None:
    columns = {"given_column": "first", "surname_column": "last", missing: "lsat"}
    with pytest.raises(DataError, match="column 'lsat' not found") as caught:
        scorer.score_table(pl.DataFrame({"first": ["a"], "last": ["b"]}), **columns)
    assert caught.value.option == missing


def test_column_that_is_not_text_is_refused(scorer: Scorer) -> None:
    table = pl.DataFrame({"first": [1], "last": ["b"]})
    with pytest.raises(DataError, match="cells of column 'first' are Int64"):
        scorer.score_table(table, given_column="first", surname_column="last")
