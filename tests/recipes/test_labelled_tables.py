"""Labelled tables as sources of a corpus: what is kept, merged and dropped, and what is refused."""

import errno
import os
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from recording import Proof

from charrnn.errors import CharrnnError
from charrnn.recipes.ingest import Ingested, ingest
from charrnn.recipes.requests import IngestRequest
from charrnn.recipes.runner import Runner
from charrnn.training import labelled, merge
from charrnn.training.corpus import load_corpus
from charrnn.training.name_keys import FOLDS, key_hashes, name_key
from charrnn.training.splits import honest_split

RUNNER = Runner(now=lambda: datetime(2026, 1, 2, tzinfo=UTC), holder="a test")
SYLLABLES = ("ka", "to", "ro", "mi", "bur", "gan", "ova", "sek", "lin", "dor")
BAD = "labelled tables that no model can learn from: refused, nothing written"


def made_up(rows: int, seed: int = 0) -> pa.Table:
    """A table of customers: names repeat, and have a label and a weight."""
    rng = np.random.default_rng(seed)
    names = ["".join(SYLLABLES[i] for i in row).title() for row in rng.integers(0, 10, (rows, 3))]
    return pa.table({
        "surname": names,
        "country": rng.choice(["Alpha", "Beta", "Gamma"], rows),
        "n": rng.integers(1, 5, rows),
    })  # fmt: skip


def ingested(*sources: Path | str, **options: Any) -> Ingested:
    named = {"name_column": "surname", "label_column": "country", **options}
    return ingest(IngestRequest(sources=tuple(map(str, sources)), **named), RUNNER)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", ["parquet", "csv", "folder"])
def test_rows_of_one_name_and_label_become_one_whose_weight_is_their_sum(kind: str) -> None:
    table = made_up(3000)
    odd = pa.table({"surname": [None, " ", "K4", "Kato"], "country": ["Alpha"] * 3 + [None],
                    "n": [1, 1, 1, 1]}, schema=table.schema)  # fmt: skip
    whole = pa.concat_tables([table, odd])
    source = Path("people.csv" if kind == "csv" else "people.parquet")
    if kind == "csv":
        pacsv.write_csv(whole, source)
    elif kind == "parquet":
        pq.write_table(whole, source)
    else:
        source = Path("people")
        source.mkdir()
        pq.write_table(table, source / "a.parquet")
        pq.write_table(odd, source / "b.parquet")
    found = ingested(source, weight_column="n")
    expected = Counter[tuple[str, str]]()
    for row in table.to_pylist():
        expected[row["surname"], row["country"]] += row["n"]
    corpus = load_corpus(found.table)
    pairs = zip(corpus.names.to_pylist(), corpus.label_ids, corpus.weights.tolist(), strict=True)
    assert {(name, corpus.labels[i]): weight for name, i, weight in pairs} == expected
    assert (corpus.folds == key_hashes(corpus.normalised) % FOLDS).all()
    assert corpus.label_name == "country"
    counts = found.report.tables[source.name]
    assert counts.rows == counts.kept + counts.merged + sum(counts.dropped.values())
    assert corpus.counted
    assert counts.dropped == {"empty": 2, "stray_character": 1, "no_label": 1}
    assert (counts.rows, counts.kept) == (3004, len(expected))
    assert any(line.startswith(f"{source.name:11} 3,004 rows = ") for line in found.lines())
    assert not ingested(source, weight_column="n").written
    assert {p.name for p in Path("data").iterdir() if p.is_dir()} == set()


def test_columns_of_parts_are_surnames_and_given_names_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(labelled, "CHUNK_ROWS", 3)
    rows = [("Katoro", "Mirel"), ("Katoro", "Mirel"), ("Burgan", None), (None, "Dr. Mirel"),
            ("Mirel", ""), (None, None), ("Linsek", "Tomi"), ("Dorova", "Lina")]  # fmt: skip
    last, first = zip(*rows, strict=True)
    country = ["Alpha"] * 6 + ["Beta"] * 2
    pq.write_table(pa.table({"last": last, "first": first, "country": country}), "people.parquet")
    found = ingested(
        "people.parquet", name_column="name", given_column="first", surname_column="last"
    )
    table = pq.read_table(found.table)
    kept = zip(*(table[c].to_pylist() for c in ("name", "part", "weight", "line")), strict=True)
    assert list(kept) == [
        ("Katoro", "surname", 2, 1), ("Mirel", "given", 3, 1), ("Burgan", "surname", 1, 3),
        ("Mirel", "surname", 1, 5), ("Linsek", "surname", 1, 7), ("Tomi", "given", 1, 7),
        ("Dorova", "surname", 1, 8), ("Lina", "given", 1, 8),
    ]  # fmt: skip
    corpus = load_corpus(found.table)
    assert corpus.given.tolist() == [part == "given" for part in table["part"].to_pylist()]
    text = "8 rows + 4 given names = 8 kept + 3 merged + 1 dropped (1 empty)"
    assert found.report.tables["people.parquet"].text == text


def test_a_large_corpus_is_a_folder_of_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(made_up(3000), "people.parquet", row_group_size=500)
    Path("lists").mkdir()
    for label in ("Alpha", "Delta"):
        Path("lists", f"{label}.txt").write_text("Katoro\nMikago\nBurgova\nLinsek\n")
    small = ingested("people.parquet", "lists", target="data/small.parquet").table
    monkeypatch.setattr(merge, "PART_ROWS", 400)
    monkeypatch.setattr(labelled, "CHUNK_ROWS", 500)
    found = ingested("people.parquet", "lists")
    assert sorted(p.name for p in found.table.iterdir()) == [
        f"part-{i:05d}.parquet" for i in range(8)
    ]
    assert {p.name for p in found.table.parent.iterdir() if p.is_dir()} == {"names.parquet"}
    assert not ingested("people.parquet", "lists").written

    def rows(table: Path) -> list[tuple[object, ...]]:
        corpus, sources = load_corpus(table), pq.read_table(table)["source"].to_pylist()
        columns = (corpus.names.to_pylist(), corpus.label_ids.tolist(), corpus.folds.tolist(),
                   corpus.weights.tolist(), sources)  # fmt: skip
        return [(corpus.labels, corpus.digest), *sorted(zip(*columns, strict=True))]

    assert rows(found.table) == rows(small)
    part_of = {}
    for path in found.table.iterdir():
        for key in pq.read_table(path)["name_normalised"].to_pylist():
            assert part_of.setdefault(key, path) == path


def test_a_split_column_decides_and_no_name_is_on_two_sides() -> None:
    table = made_up(2000)
    parts = np.random.default_rng(1).choice(["Train", "dev", "test "], 2000, p=[0.8, 0.1, 0.1])
    pq.write_table(table.append_column("fold", pa.array(parts)), "people.parquet")
    found = ingested("people.parquet", split_column="fold")
    keys = [name_key(name) for name in table["surname"].to_pylist()]
    tested = {k for k, part in zip(keys, parts, strict=True) if part == "test "}
    validated = {k for k, part in zip(keys, parts, strict=True) if part == "dev"} - tested
    split = honest_split(load_corpus(found.table))
    assert {name_key(name) for name in split.test.names.to_pylist()} == tested
    assert {name_key(name) for name in split.validation.names.to_pylist()} == validated
    counts = found.report.tables["people.parquet"]
    assert counts.rows == counts.kept + counts.merged + sum(counts.dropped.values())
    assert counts.dropped["also_in_test"] == sum(
        k in tested and part != "test " for k, part in zip(keys, parts, strict=True)
    )


def test_a_full_disk_leaves_the_old_corpus_and_no_scratch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pq.write_table(made_up(2000), "people.parquet")
    pq.write_table(made_up(1000, seed=1), "more.parquet")
    before = load_corpus(ingested("people.parquet").table).digest
    monkeypatch.setattr(merge, "PART_ROWS", 400)
    replace, calls = os.replace, list[str]()

    def full(*arguments: Any, **options: Any) -> None:
        calls.append(str(arguments[1]))
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(CharrnnError, match="no space left"):
            ingested("people.parquet", "more.parquet")
    assert load_corpus(Path("data/names.parquet")).digest == before
    assert not [path for path in Path("data").iterdir() if path.is_dir()]
    Path("data/.ingest-names.parquet").mkdir()  # as a kill leaves it
    Path("data/.ingest-names.parquet/merge-00000.arrows").write_bytes(b"x")
    found = ingested("people.parquet", "more.parquet")
    assert load_corpus(found.table).digest != before
    assert [path for path in Path("data").iterdir() if path.is_dir()] == [found.table]


def columns(**changed: list[object]) -> Callable[[], None]:
    table = made_up(60).to_pydict() | changed
    return lambda: pq.write_table(pa.table(table), "people.parquet")


def beside_lists() -> None:
    Path("people.parquet").mkdir()
    pq.write_table(made_up(60), "people.parquet/a.parquet")
    Path("people.parquet/Alpha.txt").write_text("Kato\n")


CASES: dict[str, tuple[Callable[[], None], dict[str, str], str]] = {
    "no column": (columns(), {"name_column": "name"}, "column 'name' not found"),
    "no label column": (columns(), {"label_column": "land"}, "column 'land' not found"),
    "one column twice": (columns(), {"label_column": "surname"}, "columns of their own"),
    "dates": (columns(country=[datetime(2026, 1, 1)] * 60), {}, "expected text or whole numbers"),
    "fractions": (columns(country=[1.5] * 60), {}, "'country' is double, expected text or whole"),
    "no labels": (columns(country=[""] * 60), {}, "the number of labels is 0; a model"),
    "one label": (columns(country=["Alpha"] * 60), {}, "the number of labels is 1; a model"),
    "case": (columns(country=["Alpha", "ALPHA", "Beta"] * 20), {},
             "'Alpha' and 'ALPHA' differ by case"),
    "form": (columns(country=["Perú", "Peru\u0301", "Beta"] * 20), {},
             r"'Per\\xfa' and 'Peru\\u0301' differ by case or Unicode form only; write them alike"),
    "spaces": (columns(country=["Alpha ", "Beta"] * 30), {}, "'Alpha ' begins or ends with white"),
    "bar": (columns(country=["a|b", "Beta"] * 30), {}, "has the character"),
    "never to train on": (columns(country=["Alpha", "Beta"] * 29 + ["Beta", "Gamma"],
                                  n=["train"] * 59 + ["test"]),
                          {"split_column": "n"}, "1 labels have no name to train on: 'Gamma'"),
    "split": (columns(n=["train", "rest"] * 30), {"split_column": "n"}, "30 values that are none"),
    "weight": (columns(n=["1", "many"] * 30), {"weight_column": "n"}, "values that are no numbers"),
    "negative weight": (columns(n=[1, -1] * 30), {"weight_column": "n"}, "30 values that are neg"),
    "too many labels": (columns(country=[f"l{i}" for i in range(60)]), {}, "more than 50 values"),
    "names over the length": (columns(surname=["ka" * 200] * 60), {}, "no name to train on"),
    "lists beside": (beside_lists, {}, "holds both lists"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_table_that_no_model_can_learn_from_is_refused(
    case: str, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    monkeypatch.setattr(merge, "MAX_LABELS", 50)
    write, options, message = CASES[case]
    write()
    with pytest.raises(CharrnnError, match=message) as caught:
        ingested("people.parquet", **options)
    assert caught.value.exit_code == 65
    assert not any(syllable in str(caught.value).lower() for syllable in ("bur", "sek", "kaka"))
    assert list(Path("data").glob("*")) == []
    proof("P14", BAD, 1)


def test_options_about_columns_without_a_table_are_refused() -> None:
    Path("lists").mkdir()
    for label in ("Alpha", "Beta"):
        Path("lists", f"{label}.txt").write_text("Kato\n")
    with pytest.raises(CharrnnError, match="about labelled tables") as caught:
        ingested("lists")
    assert caught.value.exit_code == 64
