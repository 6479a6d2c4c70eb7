"""The benches of names of other lists: what they count, and what they leave out."""

import importlib
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from charrnn.model.version import ModelVersion
from charrnn.scoring.scorer import Scorer
from charrnn.training.corpus import build_table, load_corpus, write_table
from charrnn.training.label_files import LabelFile, Source

SYLLABLES = {"Alpha": ["ká", "ro", "mi", "ta"], "Beta": ["stein", "burg", "hof", "acht"],
             "Gamma": ["ovsk", "iy", "ev", "aro"]}  # fmt: skip
SYLLABLES["Finnish"] = ["nen", "la", "vir", "ta"]


def bench(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "bench")
    return importlib.import_module(name)


def lists(seed: str, count: int, path: Path) -> Path:
    """Write a table of surnames, given names and words of four languages."""
    files = list[LabelFile]()
    for label, syllables in SYLLABLES.items():
        for part in ("surname", "given"):
            draw = random.Random(f"{seed} {label} {part}")
            names = {"".join(draw.choices(syllables, k=draw.randint(2, 5))) for _ in range(count)}
            content = "".join(f"{name.capitalize()}\n" for name in sorted(names)).encode()
            files.append(LabelFile(label, f"person/{label}", content, part, Source("made")))
    for locale in ("fi_FI", "xx_XX"):
        content = "".join(f"{locale[:2]} word {i}\n" for i in range(20)).encode()
        files.append(LabelFile(None, f"text/{locale}", content, "other", Source("made")))
    write_table(build_table(files), path)
    return path


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("lists")
    return lists("a", 60, folder / "names.parquet"), lists("b", 150, folder / "outside.parquet")


@pytest.mark.slow
def test_every_label_counts_alike_and_unknown_labels_are_not_right(
    tables: tuple[Path, Path], given_version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = bench(monkeypatch, "outside")
    monkeypatch.setattr(outside, "PAIRS", 20)
    monkeypatch.setattr("charrnn.training.outside.PAIRS", 20)
    corpus = load_corpus(tables[0])
    sets, words = outside.name_sets(corpus, tables[1], "calibration")
    names = sets["surnames"]
    assert not set(names.columns["surname"]) & set(corpus.names.to_pylist())
    scorer = Scorer(given_version)
    figures, recall = outside.measure(scorer, names)
    assert recall["Finnish"] == 0  # which the model does not know
    assert figures["recall"] == pytest.approx(np.mean(list(recall.values())))
    known = names.only(np.array([label != "Finnish" for label in names.labels]))
    assert outside.measure(scorer, known)[0]["recall"] == pytest.approx(figures["recall"] * 4 / 3)
    test_sets, _ = outside.name_sets(corpus, tables[1], "test")
    drawn = test_sets["full names, as a user draws them"].columns["surname"]
    assert not set(drawn) & set(names.columns["surname"])
    assert set(drawn) & set(corpus.names.to_pylist())  # training names are drawn, too
    lines = outside.tables({"m": [scorer, scorer]}, {"surnames": names}, words, set())
    assert any(line.startswith("| surnames |") and " ± 0.000 |" in line for line in lines)


def test_names_in_one_column_are_written_as_people_do(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = bench(monkeypatch, "outside")
    pairs = outside.NameSet({"surname": ["Abcova", "山田"], "given": ["Jana", "花"]},
                            ["Czech", "Japanese"])  # fmt: skip
    assert outside.in_one_column(pairs).columns == {"name": ["Jana Abcova", "山田 花"]}


def test_a_language_is_left_out_with_the_words_of_its_locale(
    tables: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out = bench(monkeypatch, "left_out")
    corpus = load_corpus(
        left_out.filtered(tables[0], tmp_path / "a", left_out.without(("Finnish",)))
    )
    assert corpus.labels == ("Alpha", "Beta", "Gamma")
    assert {word[:2] for word in corpus.outliers.to_pylist()} == {"xx"}
    everything = load_corpus(left_out.filtered(tables[0], tmp_path / "b", pl.lit(True)))
    assert everything.digest == load_corpus(tables[0]).digest
    known = pl.read_parquet(tmp_path / "a", columns=left_out.ROW)
    names = left_out.names_of("Finnish", list(tables), known)
    assert set(names) == {"surname", "given"}
    assert len(set(names["surname"].labels)) == 1
    assert len(set(names["surname"].columns["surname"])) == len(names["surname"].labels)


@pytest.mark.slow
def test_left_out_languages_are_trained_once_and_written_to_the_page(
    tables: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out = bench(monkeypatch, "left_out")
    arguments = ["left_out.py", "--together", "--languages", "Finnish", "--preset", "tutorial"]
    arguments += ["--epochs", "1", "--corpus", tables[0], "--outside", tables[1]]
    arguments += ["--versions", tmp_path / "models", "--page", tmp_path / "page.md"]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    left_out.main()
    page = (tmp_path / "page.md").read_text()
    assert "| Finnish |" in page
    monkeypatch.setattr(left_out, "train", None)  # a call would fail
    left_out.main()
    assert (tmp_path / "page.md").read_text() == page


def test_arguments_of_the_benches_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = bench(monkeypatch, "outside")
    name, seeds = outside.models_of("pretrained-tiny")
    assert (name, len(seeds)) == ("pretrained-tiny", 1)
    assert outside.models_of("three=pretrained-tiny,pretrained-tiny")[0] == "three"


def test_thirty_rows_are_answered_by_both_models(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = bench(monkeypatch, "rows")
    lines = rows.page("pretrained-tutorial", "pretrained-tiny").splitlines()
    table = [line for line in lines if line.startswith("| ")][1:]
    assert len(table) == len({line.split(" | ")[1] for line in table}) == 30


@pytest.mark.slow
def test_variants_are_fitted_once_and_measured_on_the_same_names(
    tables: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = bench(monkeypatch, "variants")
    monkeypatch.setattr(variants, "filtered", lambda corpus, *_: corpus)  # keeps all rows
    arguments = ["variants.py", "--preset", "default", "--epochs", "1", "--corpus", tables[0]]
    arguments += ["--outside", tables[1], "--results", tmp_path / "r", "--page", tmp_path / "p.md"]
    arguments += ["--only", "as it is", "no accents", "no other spellings", "calibrated"]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    variants.main()
    rows = [line for line in (tmp_path / "p.md").read_text().splitlines() if line[:2] == "| "]
    cells = [line[2:].split(" | ") for line in rows[1:]]
    expected = ["as it is", "no accents", "no other spellings", "calibrated on the training lists"]
    assert [of_row[0] for of_row in cells] == expected
    assert len({tuple(of_row[3:]) for of_row in cells}) == 4  # they differ
    monkeypatch.setattr(variants, "fitted", None)  # a call would fail
    variants.main()
    assert len((tmp_path / "r").read_text().splitlines()) == 4


def test_every_variant_makes_a_preset_of_its_own(
    tables: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = bench(monkeypatch, "variants")
    corpus = load_corpus(tables[0])
    assert len({variant.name for variant in variants.VARIANTS}) == len(variants.VARIANTS)
    plain, *others = variants.VARIANTS
    for variant in others:
        changed = variant.preset("default", corpus, seed=0) != plain.preset(
            "default", corpus, seed=0
        )
        other_way = variant.rows is not variants.ALL or variant.patched
        assert changed or other_way or not variant.calibrated_outside
        for target in variant.patched:
            module, _, name = target.rpartition(".")
            assert hasattr(importlib.import_module(module), name)
