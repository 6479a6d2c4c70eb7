"""A run is a data set: other libraries read its rows, and those of all runs, in one line."""

import json
import re
from collections.abc import Callable
from glob import glob
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset

from charrnn.runs.folders import run_name
from charrnn.runs.verify import verify_run

OUTPUT = (Path(__file__).parents[2] / "docs/output.md").read_text()
LINES = dict(re.findall(r"^\| (Polars|pandas|PyArrow|DuckDB) \| (.*) \|$", OUTPUT, re.M))


@pytest.fixture
def runs(
    tmp_path: Path, run_score: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """Two runs of a destination that is the working folder, of 3 rows and 2, one of them rejected;
    from a table partitioned by country."""
    monkeypatch.chdir(tmp_path)
    for country, rows in (("DE", "Katoro,1\nHofé,2\n"), ("FR", ",3\n")):
        folder = tmp_path / f"people/country={country}"
        folder.mkdir(parents=True)
        (folder / "part.csv").write_text(f"name,id\n{rows}")
    first = run_score("people", output=f"{tmp_path}/", stamp=True, partition_rows=1)
    (tmp_path / "people/country=FR/part.csv").write_text("name,id\nKat,1,too many\n")
    bad = {"on_bad_line": "reject", "max_rejected": "1"}
    return [first, run_score("people", output=f"{tmp_path}/", stamp=True, **bad)]


def read(library: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the newest run, and of all runs, as the lines of the page read them."""
    duckdb, pd = pytest.importorskip("duckdb"), pytest.importorskip("pandas")
    names = {"pl": pl, "pd": pd, "glob": glob, "dataset": dataset}
    newest, every = (
        duckdb.sql(line).to_arrow_table() if library == "DuckDB" else eval(line, names)
        for line in re.findall(r"`([^`]+)`", LINES[library])
    )

    def rows(read_in: Any) -> list[dict[str, Any]]:
        if isinstance(read_in, pd.DataFrame):
            return read_in.astype(object).where(read_in.notna(), None).to_dict("records")
        if isinstance(read_in, pl.LazyFrame):
            read_in = read_in.collect()
        if isinstance(read_in, pl.DataFrame):
            return read_in.to_dicts()
        return (read_in if isinstance(read_in, pa.Table) else read_in.to_table()).to_pylist()

    return rows(newest), rows(every)


@pytest.mark.parametrize("library", ["Polars", "pandas", "PyArrow", "DuckDB"])
def test_one_line_reads_a_run_and_one_reads_all_of_them_apart(
    library: str, runs: list[Path]
) -> None:
    newest, every = read(library)
    assert [(row["name"], row["country"], row["row"]) for row in newest] == [
        ("Katoro", "DE", 0), ("Hofé", "DE", 1),
    ]  # fmt: skip
    expected = {run_name(runs[0]): [0, 1, 2], run_name(runs[1]): [0, 1]}
    found: dict[str, list[int]] = {}
    for row in every:
        found.setdefault(row["run"], []).append(row["row"])
        assert row["run"].split("-")[1] == row["fingerprint"][:8]
    assert found == expected
    assert {row["status"] for row in every} == {"scored", "unscored"}
    assert all(type(row["language"]) is str for row in newest)


def test_columns_say_what_they_hold_in_parquet_and_in_the_data_package(runs: list[Path]) -> None:
    schema = pq.read_schema(runs[0] / "rows/part-00000.parquet")
    assert schema.field("language").type == pa.string()
    package = json.loads((runs[0] / "datapackage.json").read_text())
    (rows,) = package["resources"]
    assert rows["path"] == sorted(f"rows/{p.name}" for p in (runs[0] / "rows").iterdir())
    fields = {field["name"]: field for field in rows["schema"]["fields"]}
    assert list(fields) == schema.names
    assert (fields["name"]["type"], fields["row"]["type"]) == ("string", "integer")
    assert fields["confidence"]["constraints"] == {"minimum": 0, "maximum": 1}
    assert "abstained" in fields["status"]["constraints"]["enum"]
    for name in ("language", "status", "reason", "fingerprint"):
        assert schema.field(name).metadata[b"description"].decode() == fields[name]["description"]
    assert verify_run(runs[0]).options.stamp
