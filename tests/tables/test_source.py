"""Inputs: found, identified, checked, and cut into partitions that cover every row once."""

import datetime
import decimal
import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from found import fingerprint_files
from recording import Proof

from charrnn.errors import CharrnnError, ConfigError, DataError, InputMissingError
from charrnn.tables import source as source_module
from charrnn.tables.columns import check_name_column, is_text
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.discovery import discover
from charrnn.tables.row_groups import cut, read_groups
from charrnn.tables.source import Source, check_unchanged, open_source, source_name

CANARY = "Zanzibarova"


def opened(paths: list[Path], staging: Path, partition_rows: int = 2**20) -> Source:
    return open_source(
        fingerprint_files(paths), staging, partition_rows=partition_rows, csv=CsvFormat()
    )


def every_row(source: Source, partition_rows: int) -> pa.Table:
    return pa.concat_tables([read_groups(p.groups) for p in cut(source.tables, partition_rows)])


def wide_table(rows: int) -> pa.Table:
    """One column of each kind that real tables have."""
    half = rows // 2
    stamp = datetime.datetime(2020, 2, 29, 12, 30)
    return pa.table(
        {
            "name": [f"Katoro{i}" for i in range(rows)],
            "int16": pa.array(range(rows), pa.int16()),
            "uint64": pa.array([2**64 - 1] * rows, pa.uint64()),
            "float16": pa.array([1.5, None] * half, pa.float16()),
            "float32": pa.array([1.5] * rows, pa.float32()),
            "bool": pa.array([True, None] * half),
            "dictionary": pa.array(["DE", None] * half).dictionary_encode(),
            "list": pa.array([[1, None], None] * half, pa.list_(pa.int32())),
            "floats": pa.array([[1.5], []] * half, pa.list_(pa.float32())),
            "struct": pa.array([{"a": 1, "b": "x"}, None] * half),
            "map": pa.array([[("k", 1)]] * rows, pa.map_(pa.string(), pa.int32())),
            "stamp": pa.array([stamp] * rows, pa.timestamp("us", "Europe/Berlin")),
            "nanos": pa.array([1] * rows, pa.timestamp("ns")),
            "date": pa.array([stamp.date()] * rows),
            "duration": pa.array([1] * rows, pa.duration("us")),
            "decimal": pa.array([decimal.Decimal("1.25")] * rows, pa.decimal128(9, 2)),
            "large": pa.array(["q", None] * half, pa.large_string()),
            "view": pa.array(["q", None] * half, pa.string_view()),
            "binary": pa.array([b"\xff", None] * half),
            "fixed": pa.array([b"abcd"] * rows, pa.binary(4)),
            "null": pa.nulls(rows),
        }
    )


# --- discover -----------------------------------------------------------------------------------


def test_a_file_is_found_as_it_is(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.csv", "c.csv.gz", "d.csv.zst"):
        (tmp_path / name).touch()
        assert discover(str(tmp_path / name)).paths == [tmp_path / name]


def test_folder_is_searched_through_but_hidden_files_are_passed_over(tmp_path: Path) -> None:
    kept = ["b.csv", "a.parquet", "year=2024/c.csv.gz", "year=2024/deep/er/d.csv.zst"]
    passed_over = [".hidden.csv", "_temporary.parquet", ".git/x.csv", "_spark/x.parquet",
                   "year=2024/.x.csv", "notes.txt", "e.parquet.tmp", "_SUCCESS"]  # fmt: skip
    for name in kept + passed_over:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("name\n")
    assert discover(str(tmp_path)).paths == sorted(tmp_path / name for name in kept)


def test_folder_below_a_hidden_folder_is_searched(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "people"
    folder.mkdir(parents=True)
    (folder / "a.csv").touch()
    assert discover(str(folder)).paths == [folder / "a.csv"]


def test_glob_finds_its_files_sorted(tmp_path: Path) -> None:
    for name in ("p2.csv", "p1.csv", "q1.csv", "p3.parquet"):
        (tmp_path / name).touch()
    assert discover(str(tmp_path / "p*.csv")).paths == [tmp_path / "p1.csv", tmp_path / "p2.csv"]


def test_file_whose_name_looks_like_a_glob_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "people[1].csv").touch()
    (tmp_path / "people1.csv").touch()
    found = discover(str(tmp_path / "people[1].csv")).paths
    assert [path.name for path in found] == ["people[1].csv"]


def test_missing_file_is_reported_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "people.csv").touch()
    with pytest.raises(InputMissingError, match=r"peopel\.csv does not exist.*mean 'people\.csv'"):
        discover(str(tmp_path / "peopel.csv"))


@pytest.mark.parametrize("source", ["nowhere/at/all.csv", "nothing*.csv"])
def test_missing_file_without_neighbours_is_reported(tmp_path: Path, source: str) -> None:
    with pytest.raises(InputMissingError, match="does not exist"):
        discover(str(tmp_path / source))


def test_folder_without_tables_is_reported(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputMissingError, match=r"has no \.parquet"):
        discover(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("people.txt", "give it the suffix .csv or .tsv"),
        ("people.XLSX", "save the sheet as CSV"),
        ("people", "give it the suffix .csv or .tsv"),
        ("people.csv.xz", "unpack it"),
        ("people.jsonl", "convert it to Parquet or CSV"),
    ],
)
def test_file_of_another_kind_is_refused(tmp_path: Path, name: str, fix: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"{name}.* is not a \.parquet") as caught:
        discover(str(tmp_path / name))
    assert fix in str(caught.value)


@pytest.mark.parametrize("source", ["https://example.org/x.csv", "s3://b/x.parquet", "gs://b/*"])
def test_addresses_are_refused(source: str, proof: Proof) -> None:
    with pytest.raises(ConfigError, match="not supported; give a local path"):
        discover(source)
    proof("P11", "addresses and empty paths as inputs: refused", 1)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/people.csv.gz", "people"),
        ("people.parquet", "people"),
        ("people.csv.zst", "people"),
        ("a/b/people.2024.csv", "people.2024"),
        ("data/people", "people"),
        ("data/people/", "people"),
        ("exports/*.parquet", "exports"),
        ("exports/p*.csv", "exports_p~f1f7d15f"),
        ("/data/Gäste Liste.csv", "G_ste_Liste~5ae89941"),
        ("../../people.csv", "people"),
        ("year=2024", "year=2024"),
        ("/", "input~e3b0c442"),
        ("data/*.csv", "data"),
    ],
)
def test_source_name_is_a_plain_folder_name(source: str, name: str) -> None:
    assert source_name(source) == name


def test_source_name_of_the_working_folder_is_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "people").mkdir()
    monkeypatch.chdir(tmp_path / "people")
    assert source_name(".") == source_name("*.csv") == "people"


# --- the name column ----------------------------------------------------------------------------


def test_missing_name_column_is_reported_with_columns_and_the_nearest() -> None:
    schema = pa.schema([("id", pa.int64()), ("Name", pa.string()), ("born", pa.date32())])
    with pytest.raises(DataError) as caught:
        check_name_column(schema, "name")
    message = str(caught.value)
    assert "column 'name' not found; columns: id, Name, born" in message
    assert "did you mean 'Name'?" in message
    assert caught.value.option == "name_column"


def test_missing_name_column_without_a_near_one_makes_no_guess() -> None:
    with pytest.raises(DataError, match="not found; 1 column, whose names are not shown") as caught:
        check_name_column(pa.schema([("xyz", pa.string())]), "name")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    "kind",
    [
        pa.int64(), pa.bool_(), pa.date32(), pa.float64(), pa.binary(), pa.large_binary(),
        pa.list_(pa.string()), pa.struct([("first", pa.string())]), pa.timestamp("us"),
        pa.decimal128(9, 2), pa.dictionary(pa.int32(), pa.int64()), pa.null(),
    ],
    ids=str,
)  # fmt: skip
def test_name_column_that_is_not_text_is_refused(kind: pa.DataType) -> None:
    assert not is_text(kind)
    with pytest.raises(DataError) as caught:
        check_name_column(pa.schema([("name", kind)]), "name")
    assert f"column 'name' is {kind}, expected text" in str(caught.value)


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)  # fmt: skip
def test_every_kind_of_text_is_accepted_as_a_name(kind: pa.DataType) -> None:
    check_name_column(pa.schema([("id", pa.int64()), ("name", kind)]), "name")
    assert is_text(kind)


def test_name_column_that_appears_twice_is_refused() -> None:
    schema = pa.schema([("name", pa.string()), ("name", pa.string())])
    with pytest.raises(DataError, match="column 'name' appears 2 times"):
        check_name_column(schema, "name")


# --- several files ------------------------------------------------------------------------------


def test_files_with_other_columns_are_refused_naming_both_and_the_column(tmp_path: Path) -> None:
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    pq.write_table(pa.table({"name": ["A"], "id": pa.array([1], pa.int16())}), one)
    pq.write_table(pa.table({"name": ["B"], "id": pa.array([1], pa.int32())}), two)
    with pytest.raises(DataError) as caught:
        opened([one, two], tmp_path / "staging")
    message = str(caught.value)
    assert str(one) in message
    assert str(two) in message
    assert "'id' is int16 and int32" in message


def test_file_that_lacks_a_column_is_refused_not_filled_with_nulls(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("name,id\nA,1\n")
    (tmp_path / "two.csv").write_text("id\n1\n")
    with pytest.raises(DataError, match="'name' is string and absent"):
        opened([tmp_path / "one.csv", tmp_path / "two.csv"], tmp_path / "staging")


def test_files_with_another_column_order_are_one_input(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("name,id\nA,1\n")
    (tmp_path / "two.csv").write_text("id,name\n2,B\n")
    source = opened([tmp_path / "one.csv", tmp_path / "two.csv"], tmp_path / "staging")
    assert every_row(source, 100).to_pydict() == {"name": ["A", "B"], "id": ["1", "2"]}


def test_csv_and_parquet_of_equal_columns_are_one_input(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("name,id\nA,1\n\nB,\n")
    pq.write_table(pa.table({"name": ["C"], "id": ["3"]}), tmp_path / "two.parquet")
    source = opened([tmp_path / "one.csv", tmp_path / "two.parquet"], tmp_path / "staging")
    assert source.rows == 3
    assert source.counts["blank_lines"] == 1
    assert every_row(source, 100).to_pydict() == {"name": ["A", "B", "C"], "id": ["1", None, "3"]}


def test_blank_lines_of_several_files_add_up(tmp_path: Path) -> None:
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("name,id\n\nA,1\n\n")
    source = opened([tmp_path / "one.csv", tmp_path / "two.csv"], tmp_path / "staging")
    assert source.counts["blank_lines"] == 4


def test_metadata_of_a_file_does_not_make_its_schema_another(tmp_path: Path) -> None:
    table = pa.table({"name": ["A"]})
    pq.write_table(table.replace_schema_metadata({"pandas": "x"}), tmp_path / "one.parquet")
    pq.write_table(table, tmp_path / "two.parquet")
    source = opened([tmp_path / "one.parquet", tmp_path / "two.parquet"], tmp_path / "staging")
    assert source.rows == 2


# --- partitions ---------------------------------------------------------------------------------


def test_partitions_cover_every_row_once_in_order_along_row_groups(tmp_path: Path) -> None:
    for seed in range(25):
        draw = random.Random(seed)
        partition_rows = draw.choice([1, 7, 50, 1000])
        paths, tables = [], []
        for number in range(draw.randint(1, 4)):
            rows = draw.choice([0, 1, 3, 20, 200])
            table = pa.table(
                {
                    "name": pa.array([f"{seed}/{number}/{i}" for i in range(rows)], pa.string()),
                    "id": pa.array(range(rows), pa.int32()),
                }
            )
            paths.append(tmp_path / f"{seed}-{number}.parquet")
            pq.write_table(table, paths[-1], row_group_size=draw.choice([1, 5, 64, 1000]))
            tables.append(table)
        source = opened(paths, tmp_path / f"staging{seed}", partition_rows)
        partitions = cut(source.tables, partition_rows)
        assert [p.index for p in partitions] == list(range(len(partitions)))
        next_row = 0
        for partition in partitions:
            assert partition.first_row == next_row
            next_row += partition.rows
        assert next_row == source.rows == sum(t.num_rows for t in tables)
        assert every_row(source, partition_rows).equals(pa.concat_tables(tables))


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(2**19, [2**19]), (2**19 + 2, [2**19, 2]), (2**20, [2**19] * 2), (2**22, [2**19] * 8),
     (2**23 + 2**18, [2**20] * 8 + [2**18])],
)  # fmt: skip
def test_a_small_input_is_cut_smaller_so_that_workers_share_it(
    tmp_path: Path, rows: int, sizes: list[int]
) -> None:
    path = tmp_path / "people.parquet"
    names = pa.array(["A"]).take(pa.array(np.zeros(rows, np.int8)))
    pq.write_table(pa.table({"name": names}), path, row_group_size=2**16)
    partitions = cut(opened([path], tmp_path / "staging").tables, 2**20)
    assert [p.rows for p in partitions] == sizes


def test_partitions_hold_about_as_many_rows_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({"name": ["A"] * 1000}), path, row_group_size=30)
    sizes = [p.rows for p in cut(opened([path], tmp_path / "staging", 100).tables, 100)]
    assert sum(sizes) == 1000
    assert max(sizes) <= 100
    assert len(sizes) == 11


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_many_tiny_files_make_partitions_together(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{i:03d}{suffix}" for i in range(60)]
    for i, path in enumerate(paths):
        # Each file has a dictionary of its own, and some have no row.
        rows = {"name": ["A", f"B{i}"][: i % 3], "id": [str(i), "x"][: i % 3]}
        table = pa.table(rows, pa.schema([("name", pa.string()), ("id", pa.string())]))
        if suffix == ".csv":
            pacsv.write_csv(table, path)
        else:
            pq.write_table(table.set_column(0, "name", table["name"].dictionary_encode()), path)
    source = opened(paths, tmp_path / "staging")
    expected = [x for i in range(60) for x in [str(i), "x"][: i % 3]]
    for rows, first_rows in ((2**20, [0]), (25, [0, 25, 49])):
        partitions = cut(source.tables, rows)
        assert [p.first_row for p in partitions] == first_rows
        assert every_row(source, rows)["id"].to_pylist() == expected
        assert all(read_groups(p.groups).num_rows == p.rows for p in partitions)
    names = [x for i in range(60) for x in ["A", f"B{i}"][: i % 3]]
    assert every_row(source, 25)["name"].to_pylist() == names


def test_partition_equals_the_slice_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(wide_table(300), path, row_group_size=32)
    whole = pq.read_table(path)
    partitions = cut(opened([path], tmp_path / "staging", 64).tables, 64)
    assert len(partitions) > 3
    for p in partitions:
        part = read_groups(p.groups)
        assert part.schema.equals(whole.schema)
        assert part.equals(whole.slice(p.groups[0].first_row, p.rows))


def test_huge_row_group_is_staged_without_changing_a_value_or_a_type(tmp_path: Path) -> None:
    path, staging = tmp_path / "people.parquet", tmp_path / "staging"
    pq.write_table(wide_table(1000), path)
    source = opened([path], staging, 100)
    assert source.tables[0].path.parent == staging
    assert source.rows == 1000
    whole = pq.read_table(path)
    found = every_row(source, 100)
    assert found.schema.equals(whole.schema)
    assert found.equals(whole)
    assert source.files[0].path == path


@pytest.mark.parametrize("groups", [0, 1], ids=["no row group", "an empty row group"])
def test_empty_parquet_has_one_empty_partition_of_its_schema(tmp_path: Path, groups: int) -> None:
    path = tmp_path / "people.parquet"
    empty = wide_table(2).schema.empty_table()
    with pq.ParquetWriter(path, empty.schema) as writer:
        for _ in range(groups):
            writer.write_table(empty)
    source = opened([path], tmp_path / "staging")
    partitions = cut(source.tables, 10)
    assert source.rows == 0
    assert [(p.index, p.rows, p.first_row) for p in partitions] == [(0, 0, 0)]
    part = read_groups(partitions[0].groups)
    assert part.num_rows == 0
    assert part.schema.equals(pq.read_table(path).schema)


def test_empty_csv_has_one_empty_partition_of_text_columns(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("name,id\n")
    source = opened([tmp_path / "people.csv"], tmp_path / "staging")
    part = read_groups(cut(source.tables, 10)[0].groups)
    assert part.schema.equals(pa.schema([("name", pa.string()), ("id", pa.string())]))
    assert part.num_rows == source.rows == 0


# --- damage -------------------------------------------------------------------------------------


def read_all(path: Path, staging: Path, partition_rows: int) -> pa.Table:
    return every_row(opened([path], staging, partition_rows), partition_rows)


@pytest.mark.parametrize("partition_rows", [2**20, 100], ids=["as it lies", "staged"])
def test_flipped_bits_in_checksummed_parquet_never_change_a_row(
    tmp_path: Path, partition_rows: int, proof: Proof
) -> None:
    path = tmp_path / "people.parquet"
    table = pa.table({"name": [f"{CANARY}{i}" for i in range(1000)], "id": range(1000)})
    pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    whole = path.read_bytes()
    draw = random.Random(partition_rows)
    refused = 0
    wrong: list[str] = []
    for _ in range(120):
        damaged = bytearray(whole)
        at = draw.randrange(len(whole))
        damaged[at] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            if not read_all(path, tmp_path / "staging", partition_rows).equals(table):
                wrong.append(f"byte {at} changed rows")
        except DataError as error:
            refused += 1
            if CANARY in str(error) or "people.parquet" not in str(error):
                wrong.append(f"byte {at}: {error}")
        except CharrnnError as error:
            wrong.append(f"byte {at}: {type(error).__name__}, not DataError")
    assert wrong == []
    assert refused > 100
    proof(
        "P3", "flipped bits of Parquet inputs with page checksums: the same rows, or refused", 120
    )


@pytest.mark.parametrize("partition_rows", [2**20, 10], ids=["as it lies", "staged"])
@pytest.mark.parametrize("every", [19, pytest.param(1, marks=pytest.mark.slow)])
def test_flipped_bits_of_a_footer_never_change_the_number_of_rows(
    tmp_path: Path, partition_rows: int, every: int, proof: Proof
) -> None:
    """Where nothing has a checksum, nor the schema a copy."""
    path = tmp_path / "people.parquet"
    table = pa.table({"name": [f"{CANARY}{i}" for i in range(60)], "l": [[1, 2]] * 60})
    pq.write_table(table, path, row_group_size=30, store_schema=False)
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    refused = 0
    wrong = []
    bits = range(8 * footer, 8 * len(whole), every)
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            rows = read_all(path, tmp_path / "staging", partition_rows).num_rows
            wrong += [f"bit {bit} of the file: {rows} rows"] if rows != 60 else []
        except DataError:
            refused += 1
    assert wrong == []
    assert refused > len(bits) / 4
    proof("P3", "flipped bits of a Parquet footer: as many rows, or refused", len(bits))


@pytest.mark.parametrize("rows", [0, 1, 28, 29, 31, 60])
def test_a_row_group_that_claims_other_rows_than_its_pages_have_is_refused(
    tmp_path: Path, rows: int
) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({"name": [f"{CANARY}{i}" for i in range(60)]}), path, row_group_size=30)
    whole = path.read_bytes()
    number, claimed = (bytes([0x16, 2 * n, 0x26]) for n in (30, rows))  # as Thrift has them
    assert whole.count(number) == 2
    path.write_bytes(whole.replace(number, claimed, 1))
    with pytest.raises(DataError, match=r"people\.parquet.* 30 rows where its footer says"):
        read_all(path, tmp_path / "staging", 2**20)


def test_flipped_byte_in_a_page_is_refused_with_file_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    table = pa.table({"name": [f"{CANARY}{i}" for i in range(1000)]})
    pq.write_table(table, path, write_page_checksum=True, use_dictionary=False, row_group_size=500)
    damaged = bytearray(path.read_bytes())
    damaged[pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset + 100] ^= 16
    path.write_bytes(damaged)
    first, second = cut(opened([path], tmp_path / "staging", 500).tables, 500)
    assert read_groups(first.groups).num_rows == 500
    with pytest.raises(DataError, match=r"people\.parquet is damaged between rows 500 and 1000"):
        read_groups(second.groups)


def test_truncated_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({"name": ["A"] * 1000}), path)
    whole = path.read_bytes()
    for kept in (1, 4, 12, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(DataError, match=r"people\.parquet is not a readable Parquet file"):
            read_all(path, tmp_path / "staging", 100)


def test_parquet_file_of_zero_bytes_is_refused_as_empty(tmp_path: Path) -> None:
    (tmp_path / "people.parquet").touch()
    with pytest.raises(DataError, match=r"people\.parquet is empty"):
        opened([tmp_path / "people.parquet"], tmp_path / "staging")


def test_invalid_utf8_in_a_parquet_text_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    table = pa.table({"name": ["Katoro"] * 10 + ["QQQQQQ"]})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)
    path.write_bytes(path.read_bytes().replace(b"QQQQQQ", b"\xff" * 6))
    with pytest.raises(DataError, match=r"people\.parquet is damaged"):
        read_all(path, tmp_path / "staging", 2**20)


# --- has the input changed? ---------------------------------------------------------------------


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("B,2\n")


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def replace(path: Path) -> None:
    """Other bytes of the same size and time under the same name, as rsync --times does."""
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes().replace(b"A", b"B"))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def rewrite(path: Path) -> None:
    """Other bytes of the same size, in place; the file system's clock may be coarse."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"nbme")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def delete(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [append, truncate, replace, rewrite, delete])
def test_any_change_of_an_input_is_noticed(tmp_path: Path, change: object, proof: Proof) -> None:
    kept, changed = tmp_path / "kept.csv", tmp_path / "changed.csv"
    for path in (kept, changed):
        path.write_text("name,id\nA,1\n")
    files = fingerprint_files([kept, changed])
    check_unchanged(files)
    assert callable(change)
    change(changed)
    check_unchanged(files[:1])
    with pytest.raises(DataError, match=r"changed\.csv changed during the run"):
        check_unchanged(files)
    proof("P6", "changes of an input between two looks", 1)


def test_file_that_grows_while_it_is_hashed_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest stands for the first bytes; what is read later are others."""
    path = tmp_path / "people.csv"
    path.write_text("name,id\nA,1\n")
    hashed: list[Path] = []
    sha256_of_each = source_module.sha256_of_each

    def hash_and_let_it_grow(paths: Sequence[Path]) -> list[str]:
        hashed.extend(paths)
        digests = sha256_of_each(paths)
        append(path)
        return digests

    monkeypatch.setattr(source_module, "sha256_of_each", hash_and_let_it_grow)
    with pytest.raises(DataError, match="changed while it was read"):
        fingerprint_files([path])
    assert hashed == [path]
