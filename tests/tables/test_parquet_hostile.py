"""Parquet files that are made to cost: refused by name, or read with bounded memory and time."""

import re
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from costs import in_own_process, peak_memory
from found import fingerprint_files
from parquet_bombs import CASES, LARGE
from recording import Proof

from charrnn.errors import DataError
from charrnn.tables import parquet_staging
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.parquet_staging import check_footer, group_costs, stage_parquet
from charrnn.tables.row_groups import cut, open_parquet, read_groups
from charrnn.tables.source import open_source

_MAX_BYTES = 2**30  # of memory, 1.2 GB for the large ones
_MAX_SECONDS = 10.0  # of processor time; generous, as machines are busy
# What is refused, and the words that say why; the others are read.
REFUSED = {
    "one value of 4 KB in 300,000 rows": "1,000 times its size",
    "one value of 900 KB in 10,000 rows": "1,000 times its size",
    "lists of one value of 100 KB": "1,000 times its size",
    "one name of 30 MB": r"row group 0: column 'name' has a value of over 8,388,608 bytes",
    "one name of 40 MB in a dictionary": "row group 0: column 'name' has a dictionary of",
    "names of 30 MB in text views": "row group 0: column 'name' has a value of over",
    "names that share a prefix of a megabyte": "1,000 times its size",
    "a page that unpacks to a gigabyte": "row group 0: pages of its columns unpack to",
    "a dictionary of five million entries": "row group 0: column 'name' has a dictionary of",
    "100,000 columns": "columns, at most 16,384",
    "a list of 70 million values in one row": "row group 0: column 'tags.list.element'",
    "columns nested 90 deep": "nested 91 deep",
    "columns nested 200,000 deep": "columns, at most 16,384",
    "a footer that claims a billion columns": "columns, at most 16,384",
    "a footer that claims two gigabytes": "not a readable Parquet file",
    "a footer of 80 MB": "has a footer of",
    "columns that share their bytes": "share bytes",
}


def written(name: str, path: Path) -> None:
    {**CASES, **LARGE}[name](path)


def measured(path: Path, staging: Path) -> tuple[float, int, str]:
    """Open a file and read its partitions; return processor seconds, the largest memory in bytes
    and the refusal."""
    start = time.process_time()
    try:
        files = fingerprint_files([path])
        source = open_source(files, staging, partition_rows=2**20, csv=CsvFormat())
        for partition in cut(source.tables, 2**20):
            read_groups(partition.groups, schema=source.schema)
        message = ""
    except DataError as error:
        message = str(error)
    return time.process_time() - start, peak_memory(), message


def check_cost(name: str, tmp_path: Path, max_bytes: float, max_seconds: float) -> None:
    path = tmp_path / "people.parquet"
    in_own_process(written, name, path)
    seconds, peak, message = in_own_process(measured, path, tmp_path)
    assert (name in REFUSED) == bool(message), message
    if message:
        assert re.search(REFUSED[name], message), message
    assert seconds < max_seconds
    assert peak < max_bytes


@pytest.mark.parametrize("name", CASES)
def test_cost_of_a_hostile_file_is_bounded(tmp_path: Path, name: str, proof: Proof) -> None:
    check_cost(name, tmp_path, _MAX_BYTES, _MAX_SECONDS)
    proof("P11", "Parquet files made to cost: refused by name, or bounded time and memory", 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_cost_of_a_large_hostile_file_is_bounded(tmp_path: Path, name: str, proof: Proof) -> None:
    check_cost(name, tmp_path, 1.2 * _MAX_BYTES, 3 * _MAX_SECONDS)
    proof("P11", "large Parquet files made to cost: refused by name, or bounded", 1)


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_cost_is_at_least_what_arrow_takes_and_not_far_above(
    tmp_path: Path, codec: str, version: str, proof: Proof
) -> None:
    rng = np.random.default_rng(7)
    rows = 60_000
    table = pa.table(
        {
            "name": [f"Anna {i}" for i in rng.integers(0, 10**6, rows)],
            "city": np.array(["Ulm", "Bonn", "x" * 200])[rng.integers(0, 3, rows)],
            "id": rng.integers(0, 50, rows),
            "none": pa.nulls(rows, pa.float64()),
            "tags": [["a", "b"]] * rows,
        }
    )
    path = tmp_path / "people.parquet"
    pq.write_table(table, path, compression=codec, data_page_version=version, row_group_size=25_000)
    footer = check_footer(path, str(path))
    with open_parquet(path) as reader:
        costs = group_costs(path, str(path), footer, reader)
        for index, cost in enumerate(costs):
            taken = reader.read_row_group(index).nbytes
            assert 0.9 * taken < cost.size < 6 * taken
    proof("P11", "memory of row groups told from headers of pages", len(costs))


def test_dear_row_group_is_copied_in_small_ones_with_equal_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    monkeypatch.setattr(parquet_staging, "PARTITION_BYTES", 2**22)
    monkeypatch.setattr(parquet_staging, "_TABLE_BYTES", 2**20)
    columns = {f"c{i}": pa.array(range(20_000), pa.int64()) for i in range(50)}
    names = pa.array([f"Anna {i}" for i in range(20_000)])
    table = pa.table({"name": names, **columns})
    path = tmp_path / "people.parquet"
    pq.write_table(table, path, row_group_size=10**6)
    staged = stage_parquet(path, tmp_path / "staged.parquet", 10**6)
    assert staged.path != path
    assert len(staged.groups) > 4
    assert all(group.size <= 2**21 for group in staged.groups)
    assert read_groups(staged.groups).equals(table)
    proof("P1", "row groups that take much memory: copied, equal rows", table.num_rows)


def test_cell_beyond_the_limit_among_short_ones_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_staging, "PARTITION_BYTES", 2**25)
    names = pa.array(["A" * 2_000_000] * 40 + ["B" * 9_000_000] + ["C"] * 1000)
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({"name": names}), path, use_dictionary=False)
    with pytest.raises(DataError, match="row group 0: column 'name' has a value of over"):
        stage_parquet(path, tmp_path / "staged.parquet", 10**6)
    assert not (tmp_path / "staged.parquet").exists()


def opened_after_each_change(path: Path) -> int:
    """Change each byte of a footer in turn and stage the file; return the number of refusals."""
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    refused = 0
    for position in range(start, len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 7
        path.write_bytes(changed)
        try:
            stage_parquet(path, path.with_name("staged.parquet"), 10**6)
        except DataError:
            refused += 1
    return refused


def test_changed_footer_is_refused_or_read_and_ends_no_process(
    tmp_path: Path, proof: Proof
) -> None:
    """An exception of C++ that passes through PyArrow's metadata would end the process."""
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({"name": ["A", "B"], "tags": [["a"], []]}), path, store_schema=False)
    size = int.from_bytes(path.read_bytes()[-8:-4], "little") + 8
    refused = in_own_process(opened_after_each_change, path)
    assert size / 4 < refused <= size
    proof("P3", "changed bytes of a footer: read or refused, no process ended", size)


@pytest.mark.parametrize("store_schema", [False, True])
def test_column_name_that_is_not_utf8_is_refused(tmp_path: Path, store_schema: bool) -> None:
    path = tmp_path / "people.parquet"
    table = pa.table({"name": ["A"], "town": ["B"]})
    pq.write_table(table, path, store_schema=store_schema)
    path.write_bytes(path.read_bytes().replace(b"town", b"to\xffn"))
    with pytest.raises(DataError, match="readable"):
        stage_parquet(path, tmp_path / "staged.parquet", 10**6)
