"""``charrnn.train``: labelled tables of any library in, a model version out."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import charrnn
from charrnn.errors import CharrnnError, ConfigError, DataError
from charrnn.model.version import list_versions
from charrnn.recipes.frames import write_labelled
from charrnn.scoring.scorer import Scorer

SYLLABLES = {"Alpha": "ka ro mi ta shi", "Beta": "stein burg mann hof acht", "Gamma": "ev iy nko"}
ROWS = {
    "surname": ["Katoro", "Burgmann", None],
    "country": ["Alpha", "Beta", "Beta"],
    "n": [2.0, None, 1.0],
    "other": [b"x", b"y", b"z"],
}
COLUMNS = {"name_column": "surname", "label_column": "country", "weight_column": "n"}


class Exported:
    """A table of another library, known by what it exports."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.table(ROWS).__arrow_c_stream__(requested_schema)


FORMS: dict[str, Callable[[], Any]] = {
    "polars": lambda: pl.DataFrame(ROWS),
    "lazy": lambda: pl.LazyFrame(ROWS),
    "categorical": lambda: pl.DataFrame(ROWS).cast({"country": pl.Categorical}),
    "nan": lambda: pl.DataFrame(ROWS).with_columns(pl.col("n").fill_null(float("nan"))),
    "pandas": lambda: pd.DataFrame(ROWS),
    "pandas objects": lambda: pd.DataFrame(ROWS, dtype=object).astype({"n": float}),
    "arrow": lambda: pa.table(ROWS),
    "reader": lambda: pa.table(ROWS).to_reader(),
    "exported": Exported,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_labelled_table_of_any_form_is_read_alike(form: str, tmp_path: Path) -> None:
    write_labelled(FORMS[form](), tmp_path / "t.parquet", **COLUMNS, split_column="")
    table = pq.read_table(tmp_path / "t.parquet")
    assert {name: table[name].to_pylist() for name in ("surname", "country", "n")} == {
        name: ROWS[name] for name in ("surname", "country", "n")
    }
    assert table.num_columns == 3


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pd.DataFrame({"surname": [1], "country": ["a"]}), "cells of column 'surname' are int64"),
        (pd.DataFrame({"surname": ["a"], "country": [True]}), "cells of column 'country' are bool"),
        (pl.DataFrame({"surname": ["a"], "country": [["a"]]}), "'country' are List"),
        (pa.table({"surname": ["a"]}), "column 'country' not found"),
        (pl.LazyFrame({"surname": ["a"]}), "column 'country' not found"),
        ([("a", "b")], "table is a list, expected a Polars or pandas DataFrame"),
    ],
    ids=["names", "labels", "lists", "missing", "lazy", "rows"],
)
def test_what_cannot_be_trained_on_is_refused_by_a_line(table: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        charrnn.train(table, name_column="surname", label_column="country")
    assert "\n" not in str(caught.value)


def invented() -> pd.DataFrame:
    """Names of three countries, under an index of its own."""
    rows = [
        ((a + b + c).capitalize(), label)
        for label, syllables in SYLLABLES.items()
        for a, b, c in product(syllables.split(), repeat=3)
    ]
    return pd.DataFrame(rows, columns=["surname", "country"]).set_index(
        pd.Index([f"P{i}" for i in range(len(rows))])
    )


def test_a_frame_in_gives_a_model_of_its_labels(tmp_path: Path) -> None:
    frame = invented()
    torch.set_num_threads(2)  # of which a training takes one
    options = {"name_column": "surname", "preset": "seed", "epochs": 1, "baselines": False}
    version = charrnn.train(frame, label_column="country", models=tmp_path, device="cpu", **options)
    assert (version.name, version.label_name) == ("v0001", "country")
    assert version.labels == tuple(SYLLABLES)
    assert list_versions(tmp_path) == ["v0001"]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    scored = Scorer(version).score_table(frame[["surname"]], name_column="surname", top_k=1)
    assert scored.index.equals(frame.index)
    assert scored.columns.tolist() == ["surname", "country", "confidence", "status", "reason"]


def test_a_frame_with_given_names_gives_a_model_that_knows_them() -> None:
    frame = invented().assign(given=lambda f: f["surname"].str[:2] + "a")
    columns = {"given_column": "given", "surname_column": "surname"}
    version = charrnn.train(
        frame, label_column="country", **columns, epochs=1, baselines=False, device="cpu"
    )
    assert version.knows_given
    assert version.pair_exponent != 1  # fitted on pairs of the validation fold
    scored = Scorer(version).score_table(frame[["given", "surname"]], **columns)
    assert (scored["status"] == "scored").all()


def test_messages_about_a_frame_name_no_file_of_ours(tmp_path: Path) -> None:
    frame = invented().assign(country="Alpha")
    with pytest.raises(CharrnnError, match="number of labels is 1") as caught:
        charrnn.train(frame, name_column="surname", label_column="country")
    assert "frame.parquet" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"label_column is 'status'.*rename it"):
        charrnn.train(
            invented().rename(columns={"country": "status"}),
            name_column="surname",
            label_column="status",
        )
    with pytest.raises(ConfigError, match="promote is no option of charrnn"):
        charrnn.train(frame, label_column="country", promote="always")
