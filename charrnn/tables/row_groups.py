"""Tables on disk, read a few row groups at a time, and partitions: the units of work.

A table is a Parquet file of the input, or a staged copy of a CSV file, in which every row group is
an Arrow IPC stream, written and read many times faster than Parquet; the run that wrote it keeps
offsets and checksums of the row groups in memory.
"""

import itertools
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from charrnn.errors import DataError
from charrnn.files import closing_reader, scratch_file
from charrnn.tables.columns import common_schema
from charrnn.tables.kinds import HEAD_BYTES, kind_of
from charrnn.tables.unchanged import FileState, same_file

PARTITION_BYTES = 2**28  # uncompressed; bounds the memory that a partition of a wide table takes
GROUP_ROWS = 2**17  # in staged copies, at most
_MIN_PARTITIONS = 8  # an input is cut into at least so many, to keep as many workers busy,
_MIN_PARTITION_ROWS = 2**19  # unless they had fewer rows: small ones share fewer equal names
_NO_ROW_GROUP = -1  # ``RowGroup.position`` in a Parquet file without row groups


@dataclass(frozen=True)
class RowGroup:
    """Consecutive rows of a file that are read together."""

    path: Path
    rows: int
    size: int  # uncompressed bytes
    first_row: int  # number of rows before it in the file
    position: int  # index of the row group in a Parquet file; byte offset in a staged copy
    crc32: int | None = (
        None  # of a staged copy's bytes; None in Parquet, whose pages have their own
    )
    state: FileState | None = None  # of the file, which must not change; None for a staged copy
    unit: str | None = None  # of timestamps that are stored as INT96
    # Columns that are not in the file and have one value in all its rows.
    added: tuple[tuple[str, pa.Scalar], ...] = ()


@dataclass(frozen=True)
class TableFile:
    """A table on disk. ``groups`` cover its rows in order; an empty table has one empty group.
    ``writer`` are the options of ``ParquetWriter`` with which its types come back."""

    path: Path
    schema: pa.Schema
    groups: tuple[RowGroup, ...]
    writer: dict[str, bool] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(group.rows for group in self.groups)


@dataclass(frozen=True)
class Partition:
    """Consecutive row groups, of one file or of several small ones, that one worker scores."""

    index: int  # position of the partition in the output
    groups: tuple[RowGroup, ...]  # at least one
    first_row: int  # number of rows before it in the whole input

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(group.rows for group in self.groups)


@contextmanager
def open_parquet(
    path: Path,
    footer: pq.FileMetaData | None = None,
    *,
    state: FileState | None = None,
    unit: str | None = None,
    buffer_size: int = 0,
) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file whose page checksums are verified on reading.

    Args:
        footer: the file's metadata if it has been read before; saves reading it again.
        state: the file's, which must not change; see ``unchanged.same_file``.
        unit: of timestamps that are stored as INT96, by default ns.
        buffer_size: bytes of a column that are read at once; 0: all of a row group.

    Raises:
        DataError: the file is empty, encrypted or damaged, or has changed.
    """
    with same_file(path, state) as opened:
        try:
            file = pq.ParquetFile(
                opened,
                metadata=footer,
                page_checksum_verification=True,
                coerce_int96_timestamp_unit=unit,
                buffer_size=buffer_size,
            )
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _explained(path, error) from error
        with closing_reader(file):
            yield file


def _explained(path: Path, error: Exception) -> DataError:
    """Return what to say of a file that Arrow cannot open as Parquet."""
    if path.stat().st_size == 0:
        return DataError(f"{path} is empty; expected a Parquet file")
    _refuse_encrypted(path, error)
    with closing_reader(path.open("rb")) as file:
        head = file.read(HEAD_BYTES)
    kind = kind_of(head) or ("text" if re.fullmatch(rb"[\t\r\n -~]*\n[\t\r\n -~]*", head) else "")
    if kind not in ("", "Parquet"):
        fix = "rename it to .csv if it is a table" if kind == "text" else "convert it to Parquet"
        return DataError(f"{path} is not Parquet but {kind}; {fix}")
    return DataError(f"{path} is not a readable Parquet file; is it complete?")


def _refuse_encrypted(path: Path, error: Exception) -> None:
    """Raise DataError if Arrow's error is that it has no decryption key."""
    if "decryption" in str(error).lower():
        raise DataError(f"{path} is encrypted; decrypt it first") from error


def parquet_file(path: Path, state: FileState | None = None, unit: str | None = None) -> TableFile:
    """Describe a Parquet file by its footer; ``state`` and ``unit`` are those of ``RowGroup``."""
    footer = _footer_of(path, state)
    with open_parquet(path, footer, state=state, unit=unit) as reader:
        schema = reader.schema_arrow
    groups, first_row = [], 0
    for index in range(footer.num_row_groups):
        rows, size = footer.row_group(index).num_rows, footer.row_group(index).total_byte_size
        groups.append(RowGroup(path, rows, size, first_row, index, state=state, unit=unit))
        first_row += rows
    empty = RowGroup(path, 0, 0, 0, _NO_ROW_GROUP, state=state, unit=unit)
    return TableFile(path, schema, tuple(groups or [empty]))


def write_groups(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path, group_rows: int
) -> TableFile:
    """Write a staged copy of record batches, in row groups of at most ``group_rows`` rows."""
    groups: list[RowGroup] = []
    header = schema.serialize()  # begins every row group, so that each is a stream of its own
    header_crc32 = zlib.crc32(header)
    with scratch_file(path) as file:
        offset = first_row = 0
        for batch in batches:
            for start in range(0, batch.num_rows, group_rows):
                rows = batch.slice(start, group_rows)
                body = rows.serialize()
                size, crc32 = header.size + body.size, zlib.crc32(body, header_crc32)
                groups.append(RowGroup(path, rows.num_rows, size, first_row, offset, crc32))
                file.write(header)
                file.write(body)
                offset, first_row = offset + size, first_row + rows.num_rows
        if not groups:
            groups.append(RowGroup(path, 0, file.write(header), 0, 0, header_crc32))
    return TableFile(path, schema, tuple(groups))


def read_groups(
    groups: Iterable[RowGroup],
    columns: Sequence[str] | None = None,
    schema: pa.Schema | None = None,
) -> pa.Table:
    """Read row groups, at least one, of one file or of several with the same schema.

    Args:
        columns: names of the columns to read; None: all.
        schema: of the table returned, with all columns; by default what ``common_schema`` makes of
            those that are read.

    Raises:
        DataError: a file is damaged, or has another number of rows than its footer says.
    """
    by_file = itertools.groupby(groups, lambda group: group.path)
    tables = [_read_file(path, list(of_file), columns) for path, of_file in by_file]
    target = schema or common_schema([table.schema for table in tables])
    ordered = (t if t.column_names == target.names else t.select(target.names) for t in tables)
    return pa.concat_tables([pa.Table.from_arrays(t.columns, schema=target) for t in ordered])


def _read_file(path: Path, groups: list[RowGroup], columns: Sequence[str] | None) -> pa.Table:
    """Read consecutive row groups of one file."""
    expected = sum(group.rows for group in groups)
    first, added = groups[0].first_row, dict(groups[0].added)
    stored = columns and [column for column in columns if column not in added]
    try:
        read = _read_parquet if groups[0].crc32 is None else _read_staged
        table = read(path, groups, stored)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        _refuse_encrypted(path, error)
        raise DataError(
            f"{path} is damaged between rows {first} and {first + expected}; "
            "restore it and run this again"
        ) from error
    if table.num_rows != expected:
        raise DataError(
            f"{path} has {table.num_rows} rows where its footer says {expected}; "
            "restore it and run this again"
        )
    for name, value in added.items():
        if columns is None or name in columns:
            table = table.append_column(name, pa.repeat(value, expected))
    return table


def _read_parquet(path: Path, groups: list[RowGroup], columns: Sequence[str] | None) -> pa.Table:
    state, unit = groups[0].state, groups[0].unit
    indices = [group.position for group in groups if group.position != _NO_ROW_GROUP]
    with open_parquet(path, _footer_of(path, state), state=state, unit=unit) as reader:
        return reader.read_row_groups(indices, columns=columns, use_threads=False)


def _read_staged(path: Path, groups: list[RowGroup], columns: Sequence[str] | None) -> pa.Table:
    tables = []
    with closing_reader(path.open("rb")) as file:
        for group in groups:
            file.seek(group.position)
            content = file.read(group.size)
            if zlib.crc32(content) != group.crc32:
                raise OSError("checksum differs")
            tables.append(pa.ipc.open_stream(content).read_all())
    table = pa.concat_tables(tables)
    return table if columns is None else table.select(columns)


def _footer_of(path: Path, state: FileState | None) -> pq.FileMetaData:
    return _read_footer(path, state or FileState.of(path.stat()))


@lru_cache(maxsize=16)
def _read_footer(path: Path, state: FileState) -> pq.FileMetaData:
    """Read a footer once for all partitions of a file, as long as its state is the same."""
    with open_parquet(path, state=state) as reader:
        return reader.metadata


def cut(tables: Sequence[TableFile], partition_rows: int) -> list[Partition]:
    """Cut the input along row groups into partitions of about ``partition_rows`` rows and
    ``PARTITION_BYTES`` at most; consecutive small files share one. An input of a few million rows
    is cut finer, for several workers. An empty input makes one empty partition, so that the output
    has a part. The cut depends on the input alone, so that a rerun reuses finished parts.
    """
    rows = sum(table.rows for table in tables)
    target_rows = min(partition_rows, max(_MIN_PARTITION_ROWS, -(-rows // _MIN_PARTITIONS)))
    all_groups = [group for table in tables for group in table.groups]
    partitions: list[Partition] = []
    bundle: list[RowGroup] = []
    first_row = rows = size = 0  # rows before the bundle; rows and bytes in it
    for group in [group for group in all_groups if group.rows]:
        if bundle and (rows + group.rows > target_rows or size + group.size > PARTITION_BYTES):
            partitions.append(Partition(len(partitions), tuple(bundle), first_row))
            first_row += rows
            bundle, rows, size = [], 0, 0
        bundle.append(group)
        rows, size = rows + group.rows, size + group.size
    last = tuple(bundle) or (all_groups[0],)
    return [*partitions, Partition(len(partitions), last, first_row)]
