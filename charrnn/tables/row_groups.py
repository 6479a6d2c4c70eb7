"""Tables on disk that are read some groups of rows at a time: Parquet as given, or a staged copy.

In a staged copy every group is an Arrow IPC stream: nothing is encoded, so it is written and read
back in a fraction of the time that Parquet takes. Where groups lie, and their checksums, is known
to the run that wrote them.
"""

from __future__ import annotations

__all__ = [
    "PARTITION_ROWS",
    "Group",
    "Partition",
    "TableFile",
    "cut",
    "open_parquet",
    "parquet_file",
    "read_groups",
    "write_groups",
]

import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from charrnn.errors import DataError
from charrnn.files import scratch_file

_NOWHERE = -1  # place of the rows of a Parquet file that has none


@dataclass(frozen=True)
class Group:
    """Some rows that are read together.

    Attributes:
        path: the file they are in.
        rows: their number.
        size: their bytes, uncompressed.
        first_row: number of rows before them in the file.
        place: number of the row group in a Parquet file, or first byte in a staged copy.
        crc32: of its bytes in a staged copy; None in Parquet, whose pages have their own.
    """

    path: Path
    rows: int
    size: int
    first_row: int
    place: int
    crc32: int | None = None


@dataclass(frozen=True)
class TableFile:
    """A table on disk. Its groups are all of its rows, in order; a table without rows has one group
    of none."""

    path: Path
    schema: pa.Schema
    groups: tuple[Group, ...]

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)


def open_parquet(path: Path, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """Open a Parquet file; page checksums are verified as it is read. A ``footer`` that is known
    is not read again."""
    try:
        return pq.ParquetFile(path, metadata=footer, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty; expected a Parquet file") from None
        _refuse_encrypted(path, error)
        raise DataError(f"{path} is not a readable Parquet file; is it whole?") from error


def _refuse_encrypted(path: Path, error: Exception) -> None:
    """Raise DataError if what Arrow lacked was a key."""
    if "decryption" in str(error).lower():
        raise DataError(f"{path} is encrypted; give a copy that is not") from error


def parquet_file(path: Path) -> TableFile:
    """Return what a Parquet file's footer says."""
    footer = _footer_of(path)
    groups, first_row = [], 0
    for g in range(footer.num_row_groups):
        found = footer.row_group(g)
        groups.append(Group(path, found.num_rows, found.total_byte_size, first_row, g))
        first_row += found.num_rows
    schema = footer.schema.to_arrow_schema()
    return TableFile(path, schema, tuple(groups or [Group(path, 0, 0, 0, _NOWHERE)]))


def write_groups(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path, most_rows: int
) -> TableFile:
    """Write a staged copy of record batches, in groups of ``most_rows`` at most."""
    groups: list[Group] = []
    head = schema.serialize()
    known = zlib.crc32(head)
    with scratch_file(path) as file:
        place = first_row = 0
        for batch in batches:
            for first in range(0, batch.num_rows, most_rows):
                part = batch.slice(first, most_rows)
                content = part.serialize()
                size, checksum = head.size + content.size, zlib.crc32(content, known)
                groups.append(Group(path, part.num_rows, size, first_row, place, checksum))
                file.write(head)
                file.write(content)
                place, first_row = place + size, first_row + part.num_rows
        if not groups:
            groups.append(Group(path, 0, file.write(head), 0, 0, known))
    return TableFile(path, schema, tuple(groups))


def read_groups(groups: Iterable[Group], columns: Sequence[str] | None = None) -> pa.Table:
    """Read groups of rows, at least one, of one file or of several with the same schema; all
    columns or some, checksums verified.

    Raises:
        DataError: a file is damaged, or gives another number of rows than it promised.
    """
    of_file = itertools.groupby(groups, lambda group: group.path)
    return pa.concat_tables([_read_some(path, list(some), columns) for path, some in of_file])


def _read_some(path: Path, groups: list[Group], columns: Sequence[str] | None) -> pa.Table:
    """Read groups of one file that lie side by side."""
    promised = sum(group.rows for group in groups)
    first = groups[0].first_row
    try:
        read = _read_parquet if path.suffix == ".parquet" else _read_staged
        table = read(path, groups, columns)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        _refuse_encrypted(path, error)
        raise DataError(
            f"{path} is damaged between rows {first} and {first + promised}; "
            "restore it and run this again"
        ) from error
    if table.num_rows != promised:
        raise DataError(
            f"{path} gave {table.num_rows} rows where its footer promises {promised}; "
            "restore it and run this again"
        )
    return table


def _read_parquet(path: Path, groups: list[Group], columns: Sequence[str] | None) -> pa.Table:
    with open_parquet(path, _footer_of(path)) as reader:
        places = [group.place for group in groups if group.place != _NOWHERE]
        return reader.read_row_groups(places, columns=columns, use_threads=False)


def _read_staged(path: Path, groups: list[Group], columns: Sequence[str] | None) -> pa.Table:
    tables = []
    with path.open("rb") as file:
        for group in groups:
            file.seek(group.place)
            content = file.read(group.size)
            if zlib.crc32(content) != group.crc32:
                raise OSError("checksum differs")
            tables.append(pa.ipc.open_stream(content).read_all())
    table = pa.concat_tables(tables)
    return table if columns is None else table.select(columns)


def _footer_of(path: Path) -> pq.FileMetaData:
    status = path.stat()
    return _footer(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _footer(path: Path, size: int, mtime_ns: int) -> pq.FileMetaData:
    """Return a file's footer, read once for all its partitions: it grows with the file, and a large
    file has many partitions."""
    with open_parquet(path) as reader:
        return reader.metadata


PARTITION_ROWS = 2**20
PARTITION_BYTES = 2**28  # of uncompressed Parquet: bounds the memory that wide tables take
_SHARES = 8  # an input is cut in so many partitions at least,
_SMALL_PARTITION = 2**19  # unless they had fewer rows: smaller ones find fewer equal names


@dataclass(frozen=True)
class Partition:
    """Some groups of rows, side by side, of one file or of several small ones; ``index`` is its
    place in the output, ``first_row`` the number of rows before it in the whole input."""

    index: int
    groups: tuple[Group, ...]
    first_row: int

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)


def cut(tables: Sequence[TableFile], partition_rows: int) -> list[Partition]:
    """Cut the input into partitions of at most about ``partition_rows`` rows and
    ``PARTITION_BYTES``, along row groups; at least one, so that an empty input has a part too.
    Small files make one partition together.

    A few million rows are cut smaller, so that there is a share for every worker; the cut depends
    on the input alone, so that a rerun finds its parts whatever the machine."""
    rows = sum(table.rows for table in tables)
    partition_rows = min(partition_rows, max(_SMALL_PARTITION, -(-rows // _SHARES)))
    every = [group for table in tables for group in table.groups]
    partitions: list[Partition] = []
    first_row = 0
    for groups in _together((group for group in every if group.rows), partition_rows):
        partitions.append(Partition(len(partitions), groups, first_row))
        first_row += partitions[-1].rows
    return partitions or [Partition(0, (every[0],), 0)]


def _together(groups: Iterable[Group], most_rows: int) -> Iterator[tuple[Group, ...]]:
    """Yield groups that make one partition."""
    taken: list[Group] = []
    rows = size = 0
    for group in groups:
        if taken and (rows + group.rows > most_rows or size + group.size > PARTITION_BYTES):
            yield tuple(taken)
            taken, rows, size = [], 0, 0
        taken.append(group)
        rows, size = rows + group.rows, size + group.size
    if taken:
        yield tuple(taken)
