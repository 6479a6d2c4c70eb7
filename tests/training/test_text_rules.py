"""Vocabulary and text rules that a labelled table gets: scripts, accents and case."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from charrnn.errors import DataError
from charrnn.model.facts import Provenance, TextRules
from charrnn.model.normalise import Normalisation
from charrnn.model.version import save_version
from charrnn.model.vocabulary import Vocabulary
from charrnn.reports.model import model_markdown
from charrnn.scoring.options import SCORED, ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.training.corpus import Corpus
from charrnn.training.evidence import check_trainable
from charrnn.training.name_keys import key_hashes, name_keys
from charrnn.training.presets import PRESETS, with_overrides
from charrnn.training.protocol import run_protocol
from charrnn.training.release import make_version
from charrnn.training.splits import TEST_FOLD
from charrnn.training.text_rules import auto_vocabulary

# Made-up syllables: the last ones of two labels, and those before them.
SCRIPTS = {
    "Cyrillic": ("ка ро ми ду", "енко", "овец"),
    "Greek": ("κα ρο μι δυ", "ίδης", "άκος"),
    "Hangul": ("가 로 미 두 한", "석", "람"),
    "Kana": ("か ろ ミ ド ハ", "がわ", "だけ"),
    "Arabic": ("كا رو مي دو", "ين", "اف"),
    "Hebrew": ("קא רו מי דו", "ין", "אף"),
    "Devanagari": ("का रो मि दु", "कु", "के"),  # the labels differ by a vowel sign alone
    "Thai": ("กา โร มิ ดู", "กุ", "กี"),
}


def corpus_of(names: list[str], labels: list[str]) -> Corpus:
    """A labelled table in memory, each row once."""
    pairs = list(dict.fromkeys(zip(names, labels, strict=True)))
    texts = pa.array([name for name, _ in pairs], pa.large_string())
    keys, found = name_keys(texts), sorted(set(labels))
    return Corpus(
        names=texts,
        normalised=keys,
        label_ids=np.array([found.index(label) for _, label in pairs], np.int32),
        folds=(key_hashes(keys) % 10).astype(np.int8),
        weights=np.ones(len(pairs), np.float32),
        labels=tuple(found),
        digest="0" * 64,
        outliers=pa.array([], pa.large_string()),
        outlier_folds=np.zeros(0, np.int8),
        counted=True,
    )


def made_up(count: int, scripts: dict[str, tuple[str, str, str]], case: str = "title") -> Corpus:
    """Names of two labels for each script, which differ by how they end."""
    draw, names, labels = np.random.default_rng(0), [], []
    for script, (syllables, *endings) in scripts.items():
        for ending in endings:
            for row in draw.integers(0, len(syllables.split()), (count, 3)):
                name = "".join(syllables.split()[i] for i in row) + ending
                names.append(getattr(name, case)())
                labels.append(f"{script} {ending}")
    return corpus_of(names, labels)


def test_names_in_any_script_train_and_score_without_transliteration(tmp_path: Path) -> None:
    corpus = made_up(40, SCRIPTS)
    preset = with_overrides(PRESETS["default"].settled(corpus), epochs=5)
    small = {"hidden_size": 32, "embedding_size": 16, "ngram_buckets": 2**13}
    preset = replace(preset, model=preset.model | small)
    check_trainable(corpus, preset.symbols)
    assert preset.text_rules is not None
    assert preset.text_rules.coverage > 0.999
    assert set("가로미") < set(preset.symbols.symbols)
    result = run_protocol(corpus, preset, "honest")
    version = make_version(corpus, preset, result, [], {}, Provenance("2026-01-01", "cpu", 1, {}))
    saved = save_version(tmp_path, version)  # as it is read back
    assert saved.facts.text_rules == preset.text_rules
    assert preset.text_rules.text in model_markdown(saved).decode()
    found = Scorer(saved).predict(corpus.names, ScoreOptions(transliterate=False))
    assert (found.status == SCORED).all()
    assert (found.unknown == 0).all()
    right = found.ranked[:, 0] == corpus.label_ids
    for label in range(len(corpus.labels)):
        assert right[corpus.label_ids == label].mean() > 0.8, corpus.labels[label]


@pytest.mark.parametrize(
    ("ending", "case", "rules"),
    [
        ("ak", "title", Normalisation("NFKC", fold="plain", jamo=False, vowel_signs=True)),
        ("ák", "title", Normalisation("NFKC", fold="punctuation", jamo=False, vowel_signs=True)),
        ("aK", "__str__", Normalisation("NFKC", False, "plain", jamo=False, vowel_signs=True)),
    ],
)
def test_accents_and_case_are_kept_where_they_tell_labels_apart(
    ending: str, case: str, rules: Normalisation
) -> None:
    other = "ek" if ending == "ak" else "ak"
    corpus = made_up(100, {"Latin": ("ka ro mí du ne", other, ending)}, case)
    vocabulary, found = auto_vocabulary(corpus)
    assert vocabulary.normalisation == rules
    assert found.accents is not None
    assert found.accents.kept == (rules.fold == "punctuation")
    assert found.case is not None
    assert found.case.kept != rules.lowercase
    assert found.symbols == len(vocabulary.symbols)
    assert found.case.names == (corpus.folds != TEST_FOLD).sum()  # all that may decide


def test_characters_are_symbols_until_999_of_1000_are_covered() -> None:
    names = ["иван"] * 1200 + ["вова", "жора", "ЩЭ"]  # 4,809 characters of names
    label_ids = [i % 2 for i in range(1203)]
    assert Vocabulary.of_names(names, label_ids).symbols == "_авин"
    assert Vocabulary.of_names(names, label_ids, coverage=0.999).symbols == "_авино"
    assert Vocabulary.of_names(names[-3:], [0, 1, 0], coverage=0.999).size == 2 + 8


def test_training_on_other_scripts_than_the_vocabulary_has_is_refused_by_their_names() -> None:
    corpus = made_up(30, {script: SCRIPTS[script] for script in ("Thai", "Greek")})
    preset = PRESETS["tutorial"].settled(corpus)
    with pytest.raises(DataError, match=r"knows 0% .* needs 70% .* unknown: (Thai|Greek), "):
        check_trainable(corpus, preset.symbols)
    check_trainable(corpus, PRESETS["tutorial"].settled(corpus, "auto").symbols)
    assert PRESETS["default"].settled(corpus, "preset").text_rules is None


def test_a_line_says_what_was_chosen() -> None:
    assert TextRules(31, 0.9996, None, None).text == "31 symbols cover 99.96% of the characters"


def test_unknown_scripts_are_named_by_the_number_of_their_letters() -> None:
    greek = made_up(150, {"Greek": SCRIPTS["Greek"]}).names.to_pylist()  # many letters, each rare
    thai = ["ก" * n for n in range(1, 25)]  # one letter, 300 times
    labels = ["Thai" if name in thai else "Greek" for name in greek + thai]
    corpus = corpus_of(greek + thai, labels)
    with pytest.raises(DataError, match="unknown: Greek, Thai"):
        check_trainable(corpus, PRESETS["tutorial"].settled(corpus).symbols)
