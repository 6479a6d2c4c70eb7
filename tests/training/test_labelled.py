"""Labelled tables are read and checked as inputs of scoring are."""

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from model_facts import facts_of
from recording import Proof

from charrnn.errors import CharrnnError
from charrnn.model.version import ModelVersion, save_version
from charrnn.recipes.evaluate import evaluate_version
from charrnn.recipes.requests import EvaluateRequest
from charrnn.scoring.scorer import Scorer
from charrnn.tables.csv_format import CsvFormat
from charrnn.training.labelled import load_labelled
from charrnn.training.metrics import evaluate

LABELS = ("Alpha", "Beta")
CHECKED = "labelled tables that scoring would refuse as inputs: refused, no cell quoted"
NAMES, LANGUAGES = ["Canarius", "Canaria", None], ["Alpha", "Beta", "Alpha"]


def text(content: str | bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(
        content if isinstance(content, bytes) else content.encode()), None)[1]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "csv"),
    [
        ("l.csv", b"name,language\nCanarius,Alpha\nCanaria,Beta\n,Alpha\n", CsvFormat()),
        ("l.csv", b"language;name\r\nAlpha;Canarius\r\nBeta;Canaria\r\n;x\r\n", CsvFormat()),
        ("l.csv.gz", gzip.compress(b"name,language\nCanarius,Alpha\nCanaria,Beta\nx,\n"),
         CsvFormat()),
        ("l.csv", "name,language\nCanarius,Alpha\nCanaria,Beta\n,Alpha\n".encode("utf-16"),
         CsvFormat(encoding="utf-16")),
    ],
)  # fmt: skip
def test_a_csv_table_is_read(
    name: str, content: bytes, csv: CsvFormat, tmp_path: Path, proof: Proof
) -> None:
    (tmp_path / name).write_bytes(content)
    examples, left_out = load_labelled(tmp_path / name, LABELS, csv)
    assert examples.names.to_pylist() == ["Canarius", "Canaria"]
    assert examples.label_ids.tolist() == [0, 1]
    assert left_out == 1
    proof("P1", CHECKED, 1)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_parquet_of_any_text_type_is_read(kind: pa.DataType, tmp_path: Path) -> None:
    table = pa.table({"name": pa.array(NAMES).dictionary_encode(),
                      "language": pa.array(LANGUAGES, kind)})  # fmt: skip
    pq.write_table(table, tmp_path / "l.parquet")
    assert load_labelled(tmp_path / "l.parquet", LABELS)[1] == 1


@pytest.mark.parametrize(
    ("columns", "message", "code"),
    [
        ({"name": [1, 2, 3], "language": LANGUAGES}, "'name' is int64, expected text", 65),
        ({"name": NAMES, "language": [1, 2, 3]}, "2 of 3 rows have 2 labels that", 65),
        ({"name": NAMES, "language": [1.5, 2, 3]}, "is double, expected text or whole", 65),
        ({"name": NAMES}, "'language' not found", 65),
        ({"surname": NAMES, "language": LANGUAGES}, "'name' not found", 65),
        ({"name": NAMES, "language": ["Canaria", "Alpha", "x"]}, "1 of 3|2 of 3", 65),
        ({"name": NAMES, "language": [None] * 3}, "no row|is null, expected", 65),
        ({"name": [], "language": []}, "no row|expected text", 65),
    ],
)
def test_a_table_that_scoring_would_refuse_is_refused(
    columns: dict[str, list[object]], message: str, code: int, tmp_path: Path, proof: Proof
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "l.parquet")
    with pytest.raises(CharrnnError, match=message) as caught:
        load_labelled(tmp_path / "l.parquet", LABELS)
    assert caught.value.exit_code == code
    assert "Canari" not in str(caught.value)
    proof("P14", CHECKED, 1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.csv", b""), ("l.parquet", b""), ("l.parquet", b"Canarius"), ("l.txt", b"Canarius"),
        ("l.csv", b"name,language\nCanarius,Alpha,Canaria\n"), ("l.csv", b"\xff\xfeC\0a\0"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_table_is_refused(
    name: str, content: bytes, tmp_path: Path, proof: Proof
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CharrnnError) as caught:
        load_labelled(tmp_path / name, LABELS)
    assert caught.value.exit_code in (65, 66)
    assert "Canari" not in str(caught.value)
    proof("P14", CHECKED, 1)


def test_a_folder_without_tables_and_nothing_at_all_are_missing(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(CharrnnError) as caught:
            load_labelled(path, LABELS)
        assert caught.value.exit_code == 66
    os.mkfifo(tmp_path / "l.csv")
    with pytest.raises(CharrnnError) as caught:
        load_labelled(tmp_path / "l.csv", LABELS)
    assert caught.value.exit_code in (65, 66)


def test_names_that_scoring_refuses_are_not_right(models: Path, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("name,language\nКатя,Alpha\nKatoro,Alpha\n")
    request = EvaluateRequest(version="v0001", on=tmp_path / "l.csv", models=models)
    found = evaluate_version(request)
    assert (found.parts[0].metrics.count, found.parts[0].metrics.refused) == (2, 1)
    assert found.parts[0].metrics.accuracy <= 0.5
    assert "refused by scoring, so not right: 1 names" in found.lines()


def test_evaluation_gives_the_recall_of_language_families(
    tiny_version: ModelVersion, tmp_path: Path
) -> None:
    labels = ("Danish", "Gamma", "Norwegian", "Swedish")
    nordic = replace(tiny_version, labels=labels, facts=facts_of(labels))
    version = save_version(tmp_path, nordic).name
    (tmp_path / "l.csv").write_text(
        "name,language\n" + "".join(f"Katoro{a},{label}\n" for a in "abc" for label in labels)
    )
    request = EvaluateRequest(version=version, on=tmp_path / "l.csv", models=tmp_path)
    found = evaluate_version(request).parts[0]
    assert [m.label for m in found.families.labels] == ["Gamma", "Scandinavian"]
    assert [m.count for m in found.families.labels] == [3, 9]
    assert found.families.balanced_accuracy >= found.metrics.balanced_accuracy
    assert f"of the language families {found.families.balanced_accuracy:.4f}" in found.lines()[3]


def test_refused_names_count_against_accuracy_and_recall_only() -> None:
    probabilities, truth = np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]]), np.array([0, 0, 0, 1])
    plain = evaluate(probabilities, truth, LABELS)
    refused = evaluate(probabilities, truth, LABELS, np.array([True, False, False, False]))
    assert (plain.accuracy, plain.refused) == (1.0, 0)
    assert (refused.accuracy, refused.refused, refused.top3) == (0.75, 1, 0.75)
    assert [m.recall for m in refused.labels] == [pytest.approx(2 / 3), 1.0]
    everything = evaluate(probabilities, truth, LABELS, np.ones(4, np.bool_))
    assert (everything.accuracy, everything.top3, everything.refused) == (0, 0, 4)


def test_names_are_answered_as_scoring_answers_them_in_one_column_or_two(
    given_version: ModelVersion, tmp_path: Path
) -> None:
    version = save_version(tmp_path, given_version)
    names = {"first": ["Kata", "Mika", None], "last": ["Steinhof", None, "Aroev"]}
    labels = ["Beta", "Alpha", "Gamma"]
    pq.write_table(pa.table({**names, "language": labels}), tmp_path / "parts.parquet")
    whole = ["Kata Steinhof", "Mika", "Aroev"]
    pq.write_table(pa.table({"name": whole, "language": labels}), tmp_path / "whole.parquet")
    scorer = Scorer(version)
    parts = {"given_column": "first", "surname_column": "last"}
    for file, options, answers in (
        ("parts", parts, scorer.score_table(pa.table(names), **parts, top_k=1)),
        ("whole", {}, scorer.score(whole, top_k=1).to_arrow()),
    ):
        on = str(tmp_path / f"{file}.parquet")
        request = EvaluateRequest(version=version.name, on=on, models=tmp_path, **options)
        found = evaluate_version(request).parts[0]
        right = np.array(answers["language"].to_pylist()) == labels
        assert found.metrics.accuracy == pytest.approx(right.mean())
        confidence = answers["confidence"].to_numpy().mean()
        assert found.expected_accuracy == pytest.approx(confidence, abs=1e-6)


def test_a_table_has_one_column_of_names_or_columns_of_their_parts(models: Path) -> None:
    request = EvaluateRequest(
        version="v0001", on="l.csv", models=models, name_column="n", given_column="g"
    )
    with pytest.raises(CharrnnError, match="name_column and given_column") as caught:
        evaluate_version(request)
    assert caught.value.option == "given_column"
