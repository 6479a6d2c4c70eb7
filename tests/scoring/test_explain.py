"""Explanations: terms add up to the logits, and everything shown is of the name's own symbols."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from calibrations import calibration_of
from model_facts import facts_of

from charrnn.errors import ConfigError, DataError
from charrnn.model.engine import logits_of
from charrnn.model.known_names import KnownNames, keys_of
from charrnn.model.network import CharRNN, ModelConfig
from charrnn.model.normalise import ACCENTS
from charrnn.model.novelty import name_hashes
from charrnn.model.version import ModelVersion
from charrnn.model.vocabulary import GIVEN, LATIN_VOCABULARY, Vocabulary
from charrnn.scoring.explain import Explanation, logit_terms
from charrnn.scoring.scorer import Scorer

BROAD = Vocabulary("abcdefghijklmnopqrstuvwxyzéøřжш -._김" + GIVEN, ACCENTS, boundaries=True)
NAMES = ["Katoro", "Kéto", "burg-hof", "a", "van der Hof", "o'mi", "x" * 60]
SHAPES: dict[str, dict[str, object]] = {
    "one way with n-grams": {"ngram_buckets": 2**12},
    "few buckets": {"ngram_buckets": 4},
    "no n-grams": {},
    "a table of a rank": {"ngram_buckets": 2**12, "ngram_rank": 3},
}  # fmt: skip


def network_of(vocabulary: Vocabulary, **options: object) -> CharRNN:
    """A network of four labels with random weights, those of n-grams included."""
    config = ModelConfig(vocabulary.size, 4, hidden_size=16, **options)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = CharRNN(config)
        if network.ngrams is not None:
            torch.nn.init.normal_(network.ngrams.weight, std=0.3)
    return network.eval()


def scorer_of(vocabulary: Vocabulary, **options: object) -> Scorer:
    network = network_of(vocabulary, **options)
    labels = ("Alpha", "Beta", "Delta", "Gamma")
    return Scorer(
        ModelVersion(
            config=network.config,
            vocabulary=vocabulary,
            weights=dict(network.state_dict()),
            labels=labels,
            temperature=1.7,
            priors=(0.4, 0.3, 0.1, 0.2),
            calibration=calibration_of(network, vocabulary, ["katoro", "burghof"]),
            facts=facts_of(labels),
        )
    )


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return scorer_of(BROAD, ngram_buckets=2**12)


def terms_of(found: Explanation) -> float:
    of_network = sum(term.log_odds for term in found.ngrams) + found.recurrence + found.bias
    return of_network + found.lists


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("vocabulary", [BROAD, replace(LATIN_VOCABULARY, boundaries=False)])
def test_n_grams_recurrence_and_bias_add_up_to_the_logits(
    shape: str, vocabulary: Vocabulary
) -> None:
    network = network_of(vocabulary, **SHAPES[shape])
    encoded = vocabulary.encode(pa.array(NAMES))
    expected = logits_of(network, encoded)  # by the trie, where the shape has one
    for row in range(len(NAMES)):
        ids = torch.from_numpy(encoded.padded(np.array([row]))[0][0]).long()
        places, terms = logit_terms(network, ids)
        assert len(terms) == len(places) + 2
        np.testing.assert_allclose(terms.sum(dim=0).numpy(), expected[row], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_terms_add_up_to_the_log_odds_of_the_answer_that_scoring_gives(
    scorer: Scorer, name: str
) -> None:
    found = scorer.explain(name, top_k=4)
    [row] = scorer.score([name], top_k=4).to_dicts()
    assert [label for label, _ in found.ranked] == [
        row["language"], *(row[f"language_{k}"] for k in (2, 3, 4))]  # fmt: skip
    probabilities = [p for _, p in found.ranked]
    assert probabilities[0] == pytest.approx(row["confidence"], abs=1e-5)
    assert found.log_odds == pytest.approx(math.log(probabilities[0] / probabilities[1]), abs=1e-4)
    assert terms_of(found) == pytest.approx(found.log_odds, abs=1e-4)


def test_what_the_training_names_say_of_a_known_name_is_a_term() -> None:
    unknown = scorer_of(BROAD, ngram_buckets=2**12)
    hashes = name_hashes(unknown.version.vocabulary.encode(pa.array(["katoro"])))
    known = KnownNames(keys_of(hashes), np.array([2], np.int16), np.array([192], np.uint8))
    scorer = Scorer(replace(unknown.version, known_names=known))
    found = scorer.explain("Katoro")
    [row] = scorer.score(["Katoro"]).to_dicts()
    assert found.ranked[0] == ("Delta", pytest.approx(row["confidence"], abs=1e-5))
    assert found.ranked[0][1] > 0.75
    assert found.lists > 0.5
    assert terms_of(found) == pytest.approx(found.log_odds, abs=1e-4)
    assert unknown.explain("Katoro").lists == scorer.explain("Katora").lists == 0


@pytest.mark.parametrize("model", ["pretrained", "pretrained-tiny", "pretrained-tutorial"])
def test_packaged_models_explain_what_they_answer(model: str) -> None:
    scorer = Scorer.load(model)
    found = scorer.explain("Kowalski", top_k=5)
    [row] = scorer.score(["Kowalski"], top_k=5).to_dicts()
    assert found.ranked[0] == (row["language"], pytest.approx(row["confidence"], abs=1e-5))
    assert {label for label, _ in found.ranked} <= set(scorer.version.labels)
    assert terms_of(found) == pytest.approx(found.log_odds, abs=1e-4)


def test_n_grams_are_those_of_the_normalised_name_largest_first(scorer: Scorer) -> None:
    found = scorer.explain("K5 Ř")
    assert found.symbols == "^k_␣ř$"
    expected = {found.symbols[i : i + n] for n in (1, 2, 3, 4) for i in range(7 - n)}
    assert {term.ngram for term in found.ngrams} == expected
    sizes = [abs(term.log_odds) for term in found.ngrams]
    assert all(one >= other for one, other in pairwise(sizes))


def test_an_n_gram_that_occurs_twice_is_one_term(scorer: Scorer) -> None:
    ngrams = [term.ngram for term in scorer.explain("mimi").ngrams]
    assert len(ngrams) == len(set(ngrams))
    assert {"m", "mi", "mimi"} <= set(ngrams)


def test_a_name_without_a_character_is_answered_as_that_name_is(scorer: Scorer) -> None:
    found = scorer.explain("katoro")
    assert "".join(c.symbol for c in found.characters) == "katoro"
    shorter = ["katoro"[:i] + "katoro"[i + 1 :] for i in range(6)]
    scored = scorer.score(shorter, probabilities=True)
    (answer, _), (runner_up, _), *_ = found.ranked
    for left_out, row in zip(found.characters, scored.iter_rows(named=True), strict=True):
        assert left_out.label == row["language"]
        assert left_out.probability == pytest.approx(row["confidence"], abs=1e-5)
        odds = math.log(row[f"probability_{answer}"] / row[f"probability_{runner_up}"])
        assert left_out.fall == pytest.approx(found.log_odds - odds, abs=1e-4)


def test_a_given_name_is_read_with_its_mark_which_is_not_left_out(scorer: Scorer) -> None:
    found = scorer.explain("Kami", part="given")
    assert found.symbols == "^»kami$"
    assert "^»k" in {term.ngram for term in found.ngrams}
    assert "".join(c.symbol for c in found.characters) == "kami"
    assert found.ranked[0][1] == pytest.approx(scorer.score([GIVEN + "Kami"])["confidence"][0])
    assert found.ranked != scorer.explain("Kami").ranked


def test_families_of_full_names_add_up_as_those_of_surnames_do(scorer: Scorer) -> None:
    nordic = Scorer(replace(scorer.version, labels=("Danish", "Greek", "Norwegian", "Swedish")))
    names = ["Kami Katoro", "Mi Burghof", "Katoro", "Hofroka, Kato"]
    found = nordic.score(names, families=True, probabilities=True, top_k=1)
    sums = found.select("probability_Danish", "probability_Norwegian", "probability_Swedish")
    for row, nordic_sum in zip(found.to_dicts(), sums.sum_horizontal(), strict=True):
        expected = max((nordic_sum, "Scandinavian"), (row["probability_Greek"], "Greek"))
        assert (row["family_confidence"], row["family"]) == (
            pytest.approx(expected[0], abs=1e-6), expected[1])  # fmt: skip


def test_a_given_name_is_refused_by_a_model_of_surnames(tiny_version: ModelVersion) -> None:
    with pytest.raises(ConfigError, match="knows surnames only, got a given name") as refused:
        Scorer(tiny_version).explain("Kami", part="given")
    assert refused.value.option == "part"


def test_a_model_without_n_grams_is_explained_by_its_characters() -> None:
    found = scorer_of(LATIN_VOCABULARY).explain("Katoro")
    assert found.ngrams == ()
    assert found.recurrence + found.bias == pytest.approx(found.log_odds, abs=1e-4)
    assert len(found.characters) == 6


def test_a_single_character_without_marks_leaves_an_empty_name() -> None:
    vocabulary = replace(LATIN_VOCABULARY, boundaries=False)
    [left_out] = scorer_of(vocabulary, ngram_buckets=64).explain("k").characters
    assert left_out.symbol == "k"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty_name"),
        (None, "empty_name"),
        ("Зазибар", "unknown_script"),
        ("k" * 257, "too_long"),
        ("--", "no_letters"),
    ],
)
def test_a_name_that_gets_no_answer_is_refused_unseen(
    scorer: Scorer, name: str, reason: str
) -> None:
    with pytest.raises(DataError, match=f"no answer \\({reason}\\)") as refused:
        scorer.explain(name)
    assert not name or name not in str(refused.value)


def test_what_is_no_text_is_refused_unseen(scorer: Scorer) -> None:
    with pytest.raises(DataError, match=r"expected text .*, got int") as refused:
        scorer.explain(12345)  # type: ignore[arg-type]
    assert "12345" not in str(refused.value)


@pytest.mark.parametrize(("top_k", "count"), [(1, 2), (3, 3), (9, 4)])
def test_answer_and_runner_up_are_always_given(scorer: Scorer, top_k: int, count: int) -> None:
    assert len(scorer.explain("Katoro", top_k).ranked) == count
