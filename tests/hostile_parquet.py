"""Parquet files that are made to cost time or memory, for tests and benches.

Each function of ``CASES`` writes one file whose content, unpacked, has about ``size`` bytes, and is
called as ``case(path_without_suffix, size)``; it returns the path. The cost must not grow faster
than ``size``.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from parquet_bombs import varint

Case = Callable[[Path, int], Path]
CASES: dict[str, Case] = {}


def _case(name: str) -> Callable[[Callable[[Path, int], None]], None]:
    def add(write: Callable[[Path, int], None]) -> None:
        def case(path: Path, size: int) -> Path:
            path = path.with_suffix(".parquet")
            write(path, size)
            return path

        CASES[name] = case

    return add


def _write(path: Path, batches: Iterator[pa.Table], **options: Any) -> None:
    first = next(batches)
    options = {"compression": "zstd", "use_dictionary": False, **options}
    with pq.ParquetWriter(path, first.schema, **options) as writer:
        writer.write_table(first)
        for batch in batches:
            writer.write_table(batch)


@_case("one name as large as the file unpacked")
def _(path: Path, size: int) -> None:
    _write(path, iter([pa.table({"name": ["Katoro" * (size // 6), "Burgmann"]})]))


@_case("one cell of another column as large")
def _(path: Path, size: int) -> None:
    table = pa.table({"name": ["Katoro", "Burgmann"], "note": [b"x" * size, b""]})
    _write(path, iter([table]))


@_case("names of 1 MB each, in one row group")
def _(path: Path, size: int) -> None:
    _write(path, iter([pa.table({"name": ["Katoro" * (2**20 // 6)] * max(1, size // 2**20)})]))


@_case("a dictionary of as many entries as rows")
def _(path: Path, size: int) -> None:
    names = [f"Katoro{i:08d}" for i in range(size // 14)]
    _write(path, iter([pa.table({"name": pa.array(names).dictionary_encode()})]),
           use_dictionary=True, dictionary_pagesize_limit=2**30)  # fmt: skip


@_case("one name in every row, a few bits each")
def _(path: Path, size: int) -> None:
    rows = size // 6
    column = pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()).fill_null(0), ["Katoro"])
    _write(path, iter([pa.table({"name": column})]), use_dictionary=True)


@_case("nothing but nulls")
def _(path: Path, size: int) -> None:
    _write(path, iter([pa.table({"name": pa.nulls(size // 4, pa.string())})]))


@_case("pages that unpack a thousandfold")
def _(path: Path, size: int) -> None:
    table = pa.table(
        {
            "name": pa.array(["Katoro"]).take(pa.nulls(2**18, pa.int32()).fill_null(0)),
            "note": pa.array(["x" * 100]).take(pa.nulls(2**18, pa.int32()).fill_null(0)),
        }
    )
    _write(path, (table for _ in range(max(1, size // (2**18 * 106)))))  # fmt: skip


@_case("row groups of one row")
def _(path: Path, size: int) -> None:
    table = pa.table({"name": ["Katoro"]})
    _write(path, (table for _ in range(max(1, size // 4000))))


@_case("100,000 columns")
def _(path: Path, size: int) -> None:
    columns = {"name": ["Katoro"]} | {f"c{i}": [1] for i in range(min(99_999, size // 1000))}
    _write(path, iter([pa.table(columns)]))


@_case("lists in lists")
def _(path: Path, size: int) -> None:
    kind = pa.int8()
    for _ in range(60):
        kind = pa.list_(kind)
    table = pa.table({"name": ["Katoro"] * 2, "deep": pa.nulls(2, kind)})
    _write(path, iter([table]))


@_case("a list as long as the file unpacked, in one row")
def _(path: Path, size: int) -> None:
    values = pa.nulls(size // 8, pa.int64()).fill_null(7)
    lists = pa.ListArray.from_arrays(pa.array([0, size // 8], pa.int32()), values)
    _write(path, iter([pa.table({"name": ["Katoro"], "all": lists})]))


@_case("metadata as large as the file")
def _(path: Path, size: int) -> None:
    table = pa.table({"name": ["Katoro"]}).replace_schema_metadata({"k": "v" * (size // 4)})
    _write(path, iter([table]))


@_case("a footer that claims to be larger than the file")
def _(path: Path, size: int) -> None:
    _write(path, iter([pa.table({"name": ["Katoro"]})]))
    content = path.read_bytes()
    path.write_bytes(content[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1")


@_case("a footer that claims 2⁶² rows")
def _(path: Path, size: int) -> None:
    rows = 123_457
    _write(path, iter([pa.table({"name": ["Katoro"] * rows})]))
    content = path.read_bytes()
    old, new = varint(rows * 2), varint(2**63)  # zigzag
    size_of_footer = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - size_of_footer : -8].replace(old, new)
    body = content[: -8 - size_of_footer]
    path.write_bytes(body + footer + len(footer).to_bytes(4, "little") + b"PAR1")
