"""Parquet columns come back with their types, annotations and metadata, or are refused by name."""

import datetime
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from found import fingerprint_files

from charrnn.errors import DataError
from charrnn.tables.columns import check_name_column, without_notes
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.parquet_types import changed_columns, check_columns, writer_options
from charrnn.tables.row_groups import cut, read_groups
from charrnn.tables.source import Source, open_source
from tests.recording import Proof

duckdb = pytest.importorskip("duckdb")
PARQUET_TYPES = {
    "text": "'x'",
    "time": "'12:00'::time",
    "decimals as integers": "1.5::decimal(9,2)",
    "wide decimals": "1.5::decimal(38,2)",
    "unsigned": "1::utinyint",
    "wide unsigned": "1::ubigint",
    "uuid": "uuid()",
    "json": "'{}'::json",
    "list": "[1, 2]",
    "map": "map{'a': 1}",
    "struct": "{'a': 1, 'b': [1]}",
    "blob": "'a'::blob",
    "timestamp with zone": "now()",
    "timestamp": "now()::timestamp",
    "nanoseconds": "'2020-01-01'::timestamp_ns",
    "date": "'2020-01-01'::date",
}
ARROW_TYPES = {
    "time": pa.array([1], pa.time32("ms")),
    "duration": pa.array([1], pa.duration("us")),
    "float16": pa.array([1.0], pa.float16()),
    "null": pa.nulls(1),
    "large text": pa.array(["x"], pa.large_string()),
    "text view": pa.array(["x"], pa.string_view()),
    "dictionary": pa.array(["x"]).dictionary_encode(),
    "decimal256": pa.array([1], pa.decimal256(60, 2)),
    "fixed list": pa.array([[1, 2]], pa.list_(pa.int8(), 2)),
    "large list": pa.array([[1]], pa.large_list(pa.int8())),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32())),
    "seconds with zone": pa.array([1], pa.timestamp("s", "Europe/Berlin")),
    "date64": pa.array([86_400_000], pa.date64()),
}


def opened(paths: list[Path], tmp_path: Path) -> Source:
    return open_source(
        fingerprint_files(paths), tmp_path / "staging", partition_rows=100, csv=CsvFormat()
    )


def every_row(source: Source) -> pa.Table:
    parts = [read_groups(p.groups, schema=source.schema) for p in cut(source.tables, 100)]
    return pa.concat_tables(parts)


def logical_types(path: Path) -> list[str]:
    schema = pq.ParquetFile(path).schema
    types = [json.loads(schema.column(i).logical_type.to_json()) for i in range(len(schema))]
    return [t["Type"] for t in types]


@pytest.mark.parametrize("kind", PARQUET_TYPES)
def test_types_that_duckdb_writes_come_back(kind: str, tmp_path: Path, proof: Proof) -> None:
    path, again = tmp_path / "in.parquet", tmp_path / "out.parquet"
    duckdb.sql(f"copy (select 'A' as name, {PARQUET_TYPES[kind]} as x) to '{path}'")
    source = opened([path], tmp_path)
    pq.write_table(every_row(source), again, **source.parquet)
    read = "select * from read_parquet('{}')"
    assert duckdb.sql(read.format(path)).fetchall() == duckdb.sql(read.format(again)).fetchall()
    assert duckdb.sql(read.format(path)).types == duckdb.sql(read.format(again)).types
    proof("P2", "types of Parquet columns: the same in the output", 1)


@pytest.mark.parametrize("kind", ARROW_TYPES)
def test_types_that_arrow_writes_come_back(kind: str, tmp_path: Path, proof: Proof) -> None:
    path, again = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"name": ["A"], "x": ARROW_TYPES[kind]}), path)
    source = opened([path], tmp_path)
    pq.write_table(every_row(source), again, **source.parquet)
    assert pq.read_table(again).equals(pq.read_table(path), check_metadata=True)
    assert logical_types(again) == logical_types(path)
    proof("P2", "types of Parquet columns: the same in the output", 1)


def test_time_of_day_stays_in_utc_where_it_was(tmp_path: Path) -> None:
    path, again = tmp_path / "in.parquet", tmp_path / "out.parquet"
    table = pa.table({"name": ["A"], "t": pa.array([1], pa.time64("us"))})
    pq.write_table(table, path, write_time_adjusted_to_utc=True)
    source = opened([path], tmp_path)
    pq.write_table(every_row(source), again, **source.parquet)
    assert pq.ParquetFile(again).schema.equals(pq.ParquetFile(path).schema)


# The annotations that a string column has in a footer, and others of the same length.
_STRING = bytes.fromhex("25004c1c0000")
ANNOTATIONS = {
    "Enum": bytes.fromhex("25084c4c0000"),
    "JSON": bytes.fromhex("25264ccc0000"),
    "BSON": bytes.fromhex("25284cdc0000"),
}


def annotated(path: Path, kind: str, column: int) -> None:
    """Write a table of text of which a column is annotated as ``kind``."""
    pq.write_table(pa.table({"name": ["A"], "x": ["B"]}), path, store_schema=False)
    pieces = path.read_bytes().split(_STRING)
    assert len(pieces) == 3
    marks = [_STRING, _STRING]
    marks[column] = ANNOTATIONS[kind]
    path.write_bytes(pieces[0] + marks[0] + pieces[1] + marks[1] + pieces[2])
    assert pq.ParquetFile(path).schema.column(column).logical_type.type == kind.upper()


@pytest.mark.parametrize("kind", ["Enum", "BSON"])
@pytest.mark.parametrize("column", ["name", "x"])
def test_text_annotations_that_would_be_lost_are_refused_by_column(
    kind: str, column: str, tmp_path: Path, proof: Proof
) -> None:
    path = tmp_path / "in.parquet"
    annotated(path, kind, ["name", "x"].index(column))
    with pytest.raises(DataError, match=rf"column '{column}' is {kind} in Parquet.*cast it"):
        opened([path], tmp_path)
    proof("P2", "Parquet annotations that would be lost: refused by column", 1)


def test_json_comes_back_and_names_marked_as_json_are_refused(tmp_path: Path) -> None:
    """A JSON text is quoted and may be no name; other columns are handed on as they are."""
    path, again = tmp_path / "in.parquet", tmp_path / "out.parquet"
    annotated(path, "JSON", 1)
    source = opened([path], tmp_path)
    pq.write_table(every_row(source), again, **source.parquet)
    assert logical_types(again) == logical_types(path)
    annotated(path, "JSON", 0)
    with pytest.raises(DataError, match=r"column 'name' is string marked as 'arrow\.json'.*cast"):
        check_name_column(opened([path], tmp_path).schema, "name")


@pytest.mark.parametrize("column", ["x", "x (y)"])
def test_variant_is_refused_by_column(column: str, tmp_path: Path, proof: Proof) -> None:
    path = tmp_path / "in.parquet"
    duckdb.sql(f"""copy (select 'A' as name, 5::variant as "{column}") to '{path}'""")
    with pytest.raises(DataError, match=r"column 'x.* is group .*Variant.*cast it"):
        opened([path], tmp_path)
    proof("P2", "Parquet annotations that would be lost: refused by column", 1)


def test_interval_is_refused_by_column(tmp_path: Path, proof: Proof) -> None:
    path = tmp_path / "in.parquet"
    duckdb.sql(f"copy (select 'A' as name, interval '1 day' as span) to '{path}'")
    with pytest.raises(DataError, match=r"column 'span' is Interval in Parquet.*cast it"):
        opened([path], tmp_path)
    proof("P2", "Parquet annotations that would be lost: refused by column", 1)


def write_int96(path: Path, values: list[datetime.datetime | None], unit: str) -> None:
    """INT96 timestamps. Arrow writes them from any unit; each holds what ``unit`` holds."""
    times = pa.array(values, pa.timestamp(unit))
    pq.write_table(
        pa.table({"name": ["A"] * len(values), "t": times}), path,
        use_deprecated_int96_timestamps=True,
    )  # fmt: skip


def test_int96_of_any_year_keeps_its_date(tmp_path: Path, proof: Proof) -> None:
    path = tmp_path / "in.parquet"
    values = [
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999999),
        datetime.datetime(1, 1, 1),
        None,
        datetime.datetime(1969, 12, 31, 23, 59, 59, 1),
    ]
    write_int96(path, values, "us")
    assert pq.ParquetFile(path).schema.column(1).physical_type == "INT96"
    source = opened([path], tmp_path)
    assert source.schema.field("t").type == pa.timestamp("us")
    assert every_row(source)["t"].to_pylist() == values
    proof("P2", "INT96 timestamps of any year: the same instant", 4)


def test_int96_within_nanoseconds_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    nanoseconds = [-1, 0, 1, 2**63 - 2 * 10**9, -(2**63) + 2 * 10**9]
    table = pa.table({"name": ["A"] * 5, "t": pa.array(nanoseconds, pa.timestamp("ns"))})
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    source = opened([path], tmp_path)
    assert every_row(source)["t"].cast(pa.int64()).to_pylist() == nanoseconds


def test_int96_that_needs_two_units_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    years = pa.array([datetime.datetime(9999, 1, 1), None], pa.timestamp("us"))
    fine = pa.array([1, 2], pa.timestamp("ns"))
    table = pa.table({"name": ["A", "B"], "far": years, "fine": fine})
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    with pytest.raises(DataError, match="'fine' has INT96 timestamps that fit neither"):
        opened([path], tmp_path)


def test_files_that_differ_only_in_nullability_are_one_input(tmp_path: Path) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path, nullable in zip(paths, (True, False), strict=True):
        schema = pa.schema([pa.field("id", pa.int64(), nullable=nullable), ("name", pa.string())])
        pq.write_table(pa.table({"id": [1], "name": ["A"]}, schema=schema), path)
    for order in (paths, paths[::-1]):
        assert every_row(opened(order, tmp_path))["id"].to_pylist() == [1, 1]


def test_metadata_of_the_input_is_kept_and_what_files_differ_in_is_not(tmp_path: Path) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path in paths:
        field = pa.field("name", pa.string(), metadata={"note": "text"})
        schema = pa.schema([field], metadata={"geo": "{}", "file": path.name})
        pq.write_table(pa.table({"name": ["A"]}, schema=schema), path)
    assert opened(paths[:1], tmp_path).schema.metadata == {b"geo": b"{}", b"file": b"a.parquet"}
    both = every_row(opened(paths, tmp_path)).schema
    assert both.metadata == {b"geo": b"{}"}
    assert both.field("name").metadata == {b"note": b"text"}
    assert without_notes(both).metadata is None
    assert not without_notes(both).field("name").metadata


def test_a_hundred_options_more_do_not_change_a_plain_schema(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({f"a.{i}": [i] for i in range(300)}), path)
    file = pq.ParquetFile(path)
    options = writer_options(file.schema_arrow, file.schema)
    assert changed_columns(file.schema_arrow, file.schema, options) == {}


def test_a_type_that_is_read_and_not_written_is_refused(tmp_path: Path) -> None:
    """A damaged footer makes a column of nulls a required one, which Arrow cannot write."""
    path = tmp_path / "people.parquet"
    table = pa.table({"name": ["Kato"], "nothing": pa.nulls(1, pa.null())})
    pq.write_table(table, path, store_schema=False)
    content = path.read_bytes()
    at = content.rindex(b"nothing", 0, content.rindex(b"nothing"))  # its element of the schema
    optional = content.rindex(b"\x25\x02", 0, at)  # field 3, repetition_type: OPTIONAL
    path.write_bytes(content[: optional + 1] + b"\x00" + content[optional + 2 :])
    with pytest.raises(DataError, match="can be read and not written"):
        check_columns(path)


@pytest.mark.parametrize("repeated", ["", "id", "name", "Ünit"])
def test_columns_of_one_name_are_refused(tmp_path: Path, repeated: str) -> None:
    path = tmp_path / "people.parquet"
    columns = [pa.array(["Katoro"]), pa.array([1]), pa.array([2])]
    pq.write_table(pa.table(columns, names=["name", repeated, repeated]), path)
    count = 3 if repeated == "name" else 2
    with pytest.raises(DataError, match=f"column '{repeated}' appears {count} times; rename all"):
        check_columns(path)
