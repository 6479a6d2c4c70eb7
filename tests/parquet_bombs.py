"""Parquet files that are made to cost time or memory, for tests and benches.

Each function of ``CASES`` writes one file and is called as ``case(path)``; ``LARGE`` are those that
take over a second to write or to read. Values are invented.
"""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Case = Callable[[Path], None]
CASES: dict[str, Case] = {}
LARGE: dict[str, Case] = {}


def _case(name: str, cases: dict[str, Case] = CASES) -> Callable[[Case], Case]:
    def keep(function: Case) -> Case:
        cases[name] = function
        return function

    return keep


def _repeated(value: Any, rows: int, data_type: pa.DataType) -> pa.Array:
    return pa.DictionaryArray.from_arrays(
        pa.repeat(pa.scalar(0, pa.int32()), rows), pa.array([value], data_type)
    ).cast(data_type)


def _write(path: Path, table: pa.Table, **options: Any) -> None:
    pq.write_table(table, path, **{"compression": "zstd", "write_statistics": False, **options})


def _of_batches(path: Path, batches: Iterator[pa.RecordBatch], **options: Any) -> None:
    """Write batches into one row group; they may be the same, and take memory once."""
    table = pa.Table.from_batches(list(batches))
    _write(path, table, row_group_size=max(1, table.num_rows), **options)


def _constant(value: str, rows: int, at_once: int = 10_000) -> Iterator[pa.RecordBatch]:
    names = _repeated(value, at_once, pa.string())
    for _ in range(rows // at_once):
        yield pa.record_batch({"name": names})


@_case("one value of 4 KB in 300,000 rows")
def _repeated_value(path: Path) -> None:
    _of_batches(path, _constant("A" * 4096, 300_000), dictionary_pagesize_limit=2**20)


@_case("one value of 900 KB in 10,000 rows", LARGE)
def _repeated_large_value(path: Path) -> None:
    _of_batches(path, _constant("A" * 900_000, 10_000, 500), dictionary_pagesize_limit=2**21)


@_case("lists of one value of 100 KB")
def _repeated_in_lists(path: Path) -> None:
    values = _repeated("A" * 100_000, 5000, pa.string())
    lists = pa.ListArray.from_arrays(pa.array(range(0, 5001, 5), pa.int32()), values)
    batch = pa.record_batch({"name": pa.repeat("A", 1000), "tags": lists})
    _of_batches(path, iter([batch] * 3))


@_case("one name of 30 MB")
def _one_name(path: Path) -> None:
    table = pa.table({"name": pa.array(["A", "B" * 30_000_000, "C"])})
    _write(path, table, use_dictionary=False)


@_case("one name of 40 MB in a dictionary")
def _one_name_in_dictionary(path: Path) -> None:
    table = pa.table({"name": pa.array(["A", "B" * 40_000_000, "C"])})
    _write(path, table, dictionary_pagesize_limit=2**30)


@_case("names of 30 MB in text views")
def _one_view(path: Path) -> None:
    table = pa.table({"name": pa.array(["A", "B" * 30_000_000], pa.string_view())})
    _write(path, table, use_dictionary=False)


@_case("names that share a prefix of a megabyte", LARGE)
def _prefixes(path: Path) -> None:
    names = pa.array(["A" * 1_000_000] * 500)
    batches = iter([pa.record_batch({"name": names})] * 10)
    _of_batches(
        path,
        batches,
        use_dictionary=False,
        column_encoding={"name": "DELTA_BYTE_ARRAY"},
        data_page_size=2**30,
    )


@_case("a page that unpacks to a gigabyte", LARGE)
def _page(path: Path) -> None:
    names = pa.repeat("A" * 1000, 50_000)
    batches = iter([pa.record_batch({"name": names})] * 20)
    _of_batches(path, batches, use_dictionary=False, data_page_size=2**30, max_rows_per_page=10**9)


@_case("a dictionary of five million entries", LARGE)
def _dictionary(path: Path) -> None:
    names = pa.array([f"Anna{i:020d}" for i in range(5_000_000)])
    _write(path, pa.table({"name": names}), dictionary_pagesize_limit=2**30, row_group_size=10**7)


@_case("100,000 columns", LARGE)
def _columns(path: Path) -> None:
    table = pa.table({"name": ["A"], **{f"c{i}": pa.nulls(1, pa.int8()) for i in range(100_000)}})
    _write(path, table, store_schema=False)


@_case("16,000 columns", LARGE)
def _many_columns(path: Path) -> None:
    table = pa.table({"name": ["A"], **{f"c{i}": pa.nulls(1, pa.int8()) for i in range(16_000)}})
    _write(path, table)


@_case("100 columns without values in a million rows", LARGE)
def _nulls(path: Path) -> None:
    columns = {f"c{i}": pa.nulls(100_000, pa.int64()) for i in range(100)}
    names = pa.array([f"Anna {i}" for i in range(100_000)])
    _of_batches(path, iter([pa.record_batch({"name": names, **columns})] * 10))


@_case("200 columns in a million rows", LARGE)
def _wide(path: Path) -> None:
    numbers = pa.array(range(50_000), pa.int64())
    columns = {f"c{i}": numbers for i in range(200)}
    names = pa.array([f"Anna {i}" for i in range(50_000)])
    _of_batches(path, iter([pa.record_batch({"name": names, **columns})] * 20))


@_case("200,000 row groups", LARGE)
def _groups(path: Path) -> None:
    batch = pa.record_batch({"name": ["A"]})
    with pq.ParquetWriter(path, batch.schema) as writer:
        for _ in range(200_000):
            writer.write_batch(batch)


@_case("a list of 70 million values in one row")
def _one_list(path: Path) -> None:
    lists = pa.ListArray.from_arrays(
        pa.array([0, 70_000_000], pa.int32()), pa.nulls(70_000_000, pa.int8())
    )
    _write(path, pa.table({"name": ["A"], "tags": lists}))


def _nested(depth: int) -> Case:
    def write(path: Path) -> None:
        values: Any = pa.array([1])
        for _ in range(depth):
            values = pa.StructArray.from_arrays([values], ["a"])
        _write(path, pa.table({"name": ["A"], "tree": values}), store_schema=False)

    return write


CASES["columns nested 90 deep"] = _nested(90)


@_case("columns nested 200,000 deep")
def _deep(path: Path) -> None:
    """A footer alone, in Thrift: each group has one child."""
    group = bytes([0x35, 0x02, 0x18, 1, 97, 0x15, 2, 0])  # required, "a", one child
    leaf = bytes([0x15, 2, 0x25, 2, 0x18, 1, 98, 0])
    elements = group * 200_000 + leaf
    _footer(path, bytes([0x15, 4, 0x19, 0xFC]) + varint(200_001) + elements + b"\x16\0\x19\x0c\0")


@_case("a footer that claims a billion columns")
def _claimed_columns(path: Path) -> None:
    _footer(path, bytes([0x15, 4, 0x19, 0xFC]) + varint(10**9) + b"\x48\1a\0" * 100)


@_case("a footer that claims two gigabytes")
def _claimed_footer(path: Path) -> None:
    path.write_bytes(b"PAR1" + bytes(100) + struct.pack("<I", 2**31 - 1) + b"PAR1")


@_case("a footer of 80 MB")
def _footer_of_notes(path: Path) -> None:
    with pq.ParquetWriter(path, pa.schema({"name": pa.string()})) as writer:
        writer.write_table(pa.table({"name": ["A"]}))
        writer.add_key_value_metadata({"note": "x" * 80_000_000})


@_case("columns that share their bytes")
def _shared(path: Path) -> None:
    """The footer's row group is repeated: each copy points to the same pages."""
    names = pa.array([f"Anna {i}" for i in range(1000)])
    _write(path, pa.table({"name": names}), store_schema=False, write_page_index=False)
    content = path.read_bytes()
    length = struct.unpack("<I", content[-8:-4])[0]
    footer = content[-8 - length : -8]
    start = footer.index(b"\x19\x1c", footer.index(b"name"))  # a list of one struct
    # The row group ends where the text of the writer begins.
    end = footer.index(b"parquet-cpp-arrow") - 2
    group = footer[start + 2 : end]
    repeated = footer[:start] + b"\x19\xfc" + varint(1000) + group * 1000 + footer[end:]
    path.write_bytes(content[: -8 - length] + repeated + struct.pack("<I", len(repeated)) + b"PAR1")


def _footer(path: Path, footer: bytes) -> None:
    path.write_bytes(b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1")


def varint(number: int) -> bytes:
    """Return a number as Thrift's compact protocol has it."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])
