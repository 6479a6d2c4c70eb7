"""Formulas in exported CSV: what a spreadsheet would run is escaped, and nothing else is."""

import bz2
import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flat import score

from charrnn.runs import export as export_module
from charrnn.runs.export import escape_formulas

RUNS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\u00a0=1",
        "＝1+1", "＠SUM(A1)", "=HYPERLINK(\"http://x\")", "+49 30 1234", "-x"]  # fmt: skip
STAYS = ["", "Katoro", "O'Brien", "-5", "+5", "-1,234.50", "1e-5", "-3%", "-", "a=1", "x\ny", "'=1"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
@pytest.mark.parametrize("cell", RUNS)
def test_formula_gets_an_apostrophe(cell: str, kind: pa.DataType) -> None:
    table, changed = escape_formulas(pa.table({"a": pa.array([cell, None, "x"], kind)}))
    assert table["a"].to_pylist() == ["'" + cell, None, "x"]
    assert changed == 1


@pytest.mark.parametrize("cell", STAYS)
def test_other_cells_stay(cell: str) -> None:
    table, changed = escape_formulas(pa.table({"a": [cell]}))
    assert (table["a"].to_pylist(), changed) == ([cell], 0)


def test_every_line_of_a_cell_is_escaped() -> None:
    table, changed = escape_formulas(pa.table({"a": ["x\n=1\n+2"]}))
    assert (table["a"].to_pylist(), changed) == (["x\n'=1\n'+2"], 1)


def test_column_names_are_escaped_and_numbers_are_left() -> None:
    table, changed = escape_formulas(pa.table({"=a": [-1], "b": ["c"]}))
    assert table.column_names == ["'=a", "b"]
    assert (table["'=a"].to_pylist(), changed) == ([-1], 0)


@pytest.fixture
def out(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Score a table with formulas in it to CSV, and return the names that come out."""
    monkeypatch.chdir(tmp_path)
    names = pa.array([*RUNS, None, "Katoro"]).dictionary_encode()
    pq.write_table(pa.table({"name": names}), "p.parquet")

    def scored(**options: bool) -> list[str]:
        score("p.parquet", model="v0001", models=str(models), output="out.csv", **options)  # type: ignore[arg-type]
        with Path("out.csv").open(newline="", encoding="utf-8") as file:
            return [row["name"] for row in csv.DictReader(file, strict=True)]

    return scored


def test_export_escapes_by_default_and_says_so(
    out: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert out() == [*("'" + cell for cell in RUNS), "", "Katoro"]
    assert f"escaped     {len(RUNS)} cells" in capsys.readouterr().out


def test_export_keeps_formulas_on_request(
    out: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert out(keep_formulas=True) == [*RUNS, "", "Katoro"]
    assert "escaped" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "delimiter", "read"),
    [
        ("out.CSV", ",", lambda path: path.read_bytes()),
        ("out.tsv", "\t", lambda path: path.read_bytes()),
        ("out.csv.gz", ",", lambda path: gzip.decompress(path.read_bytes())),
        ("out.tsv.BZ2", "\t", lambda path: bz2.decompress(path.read_bytes())),
        ("out.csv.zst", ",", lambda path: pa.input_stream(path, compression="zstd").read()),
    ],
)
def test_the_suffix_says_how_rows_are_exported(
    tmp_path: Path, name: str, delimiter: str, read: Callable[[Path], bytes]
) -> None:
    schema = pa.schema({"id": pa.int64(), "name": pa.string()})
    with export_module.writing_csv(tmp_path / name, schema) as writer:
        writer.write_table(pa.table({"id": [1], "name": ["Katoro"]}, schema))
    text = read(tmp_path / name).decode()
    assert text == f'"id"{delimiter}"name"\n1{delimiter}"Katoro"\n'
