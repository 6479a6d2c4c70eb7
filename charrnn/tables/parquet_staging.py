"""Stage Parquet: what takes too much memory is refused, row groups that are too large are copied.

A footer may claim anything, and a few bytes of a page may stand for gigabytes: values of a
dictionary, repeated levels, compression. So the schema is counted before Arrow builds it, and the
header of every page is read, since it bounds what its values take in memory. Nothing is decoded.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from charrnn.errors import DataError
from charrnn.files import close_descriptor, closing_reader, writing_parquet
from charrnn.tables.csv_header import MAX_COLUMNS
from charrnn.tables.csv_structure import MAX_RECORD_BYTES
from charrnn.tables.parquet_types import check_columns
from charrnn.tables.row_groups import (
    GROUP_ROWS,
    PARTITION_BYTES,
    TableFile,
    open_parquet,
    parquet_file,
)
from charrnn.tables.unchanged import FileState, same_file

_MAX_FOOTER_BYTES = 2**26
_MAX_CHUNKS = 2**19  # columns times row groups: Arrow takes over 1 KB for each
_MAX_DEPTH = 64  # of nested columns
_MAX_DICTIONARY_BYTES = 2**25  # of one column in one row group
_MAX_OPEN_BYTES = 2**29  # of pages that are open at once, one of each column
_MAX_UNPACKED_BYTES = 2**30  # refused if a file takes more in memory, and
_MAX_RATIO = 1000  # more than so many times its size
_MAX_REPEATED_BYTES = 2**26  # of a page of lists, whose rows may be of any length
_TABLE_BYTES = 2**26  # in memory at once while a file is copied
_BUFFER_BYTES = 2**18  # of each column
_WITH_LENGTH = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
_SMALL = 2**20  # what takes less is not looked at more closely
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_DICTIONARY_ENCODINGS, _DELTA_BYTE_ARRAY = (2, 8), 7
_STRUCT = 12  # a type of Thrift
_LENGTH = struct.Struct("<I")


class Cost(NamedTuple):
    """What a row group takes in memory, at most: in all, and for one row where rows are dearest.
    ``pages`` is the sum of the largest pages of its columns."""

    size: int
    row: float
    pages: int


class _Malformed(Exception):
    """Bytes are no Thrift, or end too early."""


class _Chunk(NamedTuple):
    """What a footer says of a column in one row group."""

    codec: int
    values: int
    size: int  # as stored
    data: int  # offset of its first page of data
    dictionary: int  # offset of its dictionary; 0: none


def stage_parquet(
    path: Path, staged: Path, max_rows: int, state: FileState | None = None
) -> TableFile:
    """Return the Parquet file ``path``; or, if a row group has over ``max_rows`` rows or takes more
    memory than a partition, a copy of it in ``staged`` with small row groups.

    Args:
        state: the file's, which must not change.

    Raises:
        DataError: the file is empty, encrypted or damaged, has a column that parts cannot hold, or
            takes more memory than a table of its size may.
    """
    with same_file(path, state) as opened:
        footer = check_footer(path, opened)
    unit, writer_options = check_columns(path)
    with (
        same_file(path, state) as opened,
        # Buffered, so that a batch needs no whole row group in memory, compressed as it is.
        open_parquet(path, state=state, unit=unit, buffer_size=_BUFFER_BYTES) as reader,
    ):
        costs = group_costs(path, opened, footer, reader)
        table = parquet_file(path, state, unit)
        sizes = [cost.size for cost in costs]
        if (
            max(sizes, default=0) <= PARTITION_BYTES
            and max(g.rows for g in table.groups) <= max_rows
        ):
            return _sized(table, sizes, writer_options)
        with writing_parquet(
            staged, reader.schema_arrow, mode=0o600, compression="lz4", use_dictionary=False
        ) as writer:
            sizes = []
            for rows in _tables(reader, path, costs):
                writer.write_table(rows, row_group_size=max(1, rows.num_rows))
                sizes += [rows.nbytes] if rows.num_rows else []
                _check_ratio(path, sum(sizes), path.stat().st_size)
    pa.default_memory_pool().release_unused()  # what copying took, some hundred MB
    copy = _sized(parquet_file(staged), sizes, writer_options)
    if copy.rows != table.rows:
        raise DataError(
            f"{path} has {copy.rows} rows where its footer says {table.rows}; "
            "restore it and run this again"
        )
    return copy


def _sized(table: TableFile, sizes: list[int], writer_options: dict[str, bool]) -> TableFile:
    """Return a table whose row groups have at least these sizes."""
    sized = (replace(g, size=max(g.size, n)) for g, n in zip(table.groups, sizes, strict=False))
    groups = tuple(sized) if sizes else table.groups
    return replace(table, groups=groups, writer=writer_options)


def _tables(reader: pq.ParquetFile, path: Path, costs: list[Cost]) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file in tables of about ``_TABLE_BYTES`` or ``GROUP_ROWS``, read
    in batches that take as little; raise DataError if the file is damaged."""
    batches: list[pa.RecordBatch] = []
    rows = size = 0
    try:
        for index, cost in enumerate(costs):
            if cost.pages > _MAX_OPEN_BYTES:
                raise DataError(
                    f"{path}, row group {index}: pages of its columns unpack to {cost.pages:,} "
                    f"bytes at once, at most {_MAX_OPEN_BYTES:,} are read; write smaller pages"
                )
            batch_rows = int(min(GROUP_ROWS, max(1, _TABLE_BYTES // max(cost.row, 1))))
            for batch in reader.iter_batches(batch_rows, row_groups=[index], use_threads=False):
                _check_cells(batch, path, index)
                batches.append(batch)
                rows, size = rows + batch.num_rows, size + batch.nbytes
                if rows >= GROUP_ROWS or size >= _TABLE_BYTES:
                    yield pa.Table.from_batches(batches)
                    batches, rows, size = [], 0, 0
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged; restore it and run this again") from error
    if batches:
        yield pa.Table.from_batches(batches)


def _check_cells(batch: pa.RecordBatch, path: Path, group: int) -> None:
    """Raise DataError if a cell is larger than a record of CSV may be."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        values = column.dictionary if pa.types.is_dictionary(column.type) else column
        if values.nbytes <= MAX_RECORD_BYTES or values.type not in _WITH_LENGTH:
            continue
        if pc.max(pc.binary_length(values)).as_py() > MAX_RECORD_BYTES:
            raise DataError(
                f"{path}, row group {group}: column {name!r} has a value of over "
                f"{MAX_RECORD_BYTES:,} bytes, at most {MAX_RECORD_BYTES:,} are read; leave it out"
            )


def check_footer(path: object, opened: str) -> bytes:
    """Refuse a Parquet file whose footer Arrow should not build in memory; return the footer, or
    b"" if it is encrypted, or the file another format or damaged, as Arrow says.

    Args:
        path: the file's name in messages.
        opened: what is opened.

    Raises:
        DataError: too large a footer; or too many columns, levels or row groups.
    """
    with closing_reader(open(opened, "rb")) as file:  # noqa: PTH123
        size = file.seek(0, os.SEEK_END)
        if size < 12:
            return b""
        file.seek(size - 8)
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != b"PAR1" or length > size - 12:
            return b""
        if length > _MAX_FOOTER_BYTES:
            raise DataError(
                f"{path} has a footer of {length:,} bytes, at most {_MAX_FOOTER_BYTES:,} are read; "
                "write fewer columns or larger row groups"
            )
        file.seek(size - 8 - length)
        footer: bytes = file.read(length)
    with suppress(_Malformed):  # Arrow says so
        _check_schema(path, _Thrift(footer))
    return footer


def _check_schema(path: object, footer: "_Thrift") -> None:
    count = groups = 0  # elements of the lists of the schema and of the row groups
    elements: list[Any] = []
    for field, kind in footer.fields():
        if field == 2 and kind == 9:
            count, element = footer.list_start()
            if count > 4 * MAX_COLUMNS:
                break
            elements = list(footer.elements(count, element))
        elif field == 4 and kind == 9:
            groups, _ = footer.list_start()
            break
        else:
            footer.value(kind)
    leaves = depth = 0
    open_groups: list[int] = []  # children that are left, of each group that is open
    for element in elements:
        while open_groups and not open_groups[-1]:
            open_groups.pop()
        if open_groups:
            open_groups[-1] -= 1
        children = _number(element, 5)
        if children > 0:
            open_groups.append(children)
            depth = max(depth, len(open_groups))
        else:
            leaves += 1
    leaves = max(leaves, count // 4)
    if leaves > MAX_COLUMNS:
        raise DataError(
            f"{path} has {leaves:,} or more columns, at most {MAX_COLUMNS:,} are read; leave some "
            "out"
        )
    if depth > _MAX_DEPTH:
        raise DataError(
            f"{path} has columns nested {depth:,} deep, at most {_MAX_DEPTH} are read; leave them "
            "out"
        )
    if groups * max(leaves, 1) > _MAX_CHUNKS:
        raise DataError(
            f"{path} has {groups:,} row groups of {leaves:,} columns, at most {_MAX_CHUNKS:,} "
            "pieces are read; write larger row groups"
        )


def _row_groups(footer: "_Thrift") -> Iterator[tuple[int, list[_Chunk]]]:
    """Yield rows and column chunks of each row group. PyArrow's own objects end the process where
    a footer is damaged: an exception of C++ passes through them."""
    last = 0
    for field, kind in footer.fields():
        if field <= last:
            raise _Malformed  # a second one, which Arrow would prefer
        last = field
        if field != 4 or kind != 9:
            footer.value(kind)
            continue
        for group in footer.elements(*footer.list_start()):
            columns = _struct(group).get(1)
            if not isinstance(columns, list):
                raise _Malformed
            about = [_struct(_struct(column).get(3)) for column in columns]
            keys = 4, 5, 7, 9, 11
            chunks = [_Chunk(*(_number(fields, key) for key in keys)) for fields in about]
            yield _number(group, 3), chunks


def group_costs(path: object, opened: str, footer: bytes, reader: pq.ParquetFile) -> list[Cost]:
    """Return what each row group takes in memory; read only headers of pages and, if they may be
    dear, dictionaries. ``footer`` is from ``check_footer``.

    Raises:
        DataError: a value, a dictionary, the pages or the whole file take too much; or the file is
            damaged.
    """
    schema = reader.schema
    descriptor = os.open(opened, os.O_RDONLY | os.O_CLOEXEC)
    try:
        stored = os.fstat(descriptor).st_size
        columns = [_Column(path, descriptor, schema.column(i)) for i in range(len(schema))]
        costs, left, least, all_rows = [], stored, 0, 0
        for index, (rows, chunks) in enumerate(_row_groups(_Thrift(footer))):
            left -= sum(max(0, chunk.size) for chunk in chunks)
            if left < 0:
                raise DataError(f"{path} has columns that share bytes; write it again")
            if len(chunks) != len(columns):
                raise _Malformed
            pairs = zip(columns, chunks, strict=True)
            of_columns = [column.cost(chunk, rows, index) for column, chunk in pairs]
            costs.append(Cost(*map(sum, zip(*of_columns, strict=True))))
            least += sum(column.width for column in columns) * max(0, rows)
            all_rows += rows
        if (len(costs), all_rows) != (reader.metadata.num_row_groups, reader.metadata.num_rows):
            raise _Malformed
        _check_ratio(path, least, stored)
        return costs
    except _Malformed:
        raise DataError(f"{path} is damaged or encrypted; restore or decrypt it first") from None
    finally:
        close_descriptor(descriptor)


def _check_ratio(path: object, unpacked: int, stored: int) -> None:
    """Raise DataError if a file of ``stored`` bytes unpacks to as much as only a bomb does."""
    if unpacked > max(_MAX_UNPACKED_BYTES, _MAX_RATIO * stored):
        raise DataError(
            f"{path} unpacks to over {max(_MAX_UNPACKED_BYTES, _MAX_RATIO * stored):,} bytes, "
            f"{_MAX_RATIO:,} times its size, as a zip bomb does; if that is meant, cut it into "
            "smaller files"
        )


class _Column:
    """A leaf of the schema, and what its pages cost."""

    def __init__(self, path: object, descriptor: int, column: pq.ColumnSchema) -> None:
        self._path, self._descriptor = path, descriptor
        self._name = column.path
        self._variable = column.physical_type == "BYTE_ARRAY"
        self._nested = column.max_repetition_level > 0
        decimal = column.converted_type == "DECIMAL" or "decimal" in str(column.logical_type)
        levels = 4 * (column.max_definition_level + column.max_repetition_level)
        fixed = _WIDTHS.get(column.physical_type, max(0, column.length))
        self.width = 32 if decimal else 4 if self._variable else fixed
        self._levels = levels if self._nested else 0
        if fixed > MAX_RECORD_BYTES:
            raise self._refused(0, f"has values of {fixed:,} bytes")

    def cost(self, chunk: _Chunk, rows: int, index: int) -> Cost:
        """Return the cost of a column chunk of the row group ``index``."""
        values = size = largest = dictionary = 0
        longest = -1  # value of the dictionary; -1: not known yet
        densest = 0.0  # bytes per value of the dearest page
        for header, offset in self._headers(chunk):
            unpacked = max(0, _number(header, 2))
            if header.get(1) == _DICTIONARY_PAGE:
                self._check_dictionary(unpacked, index)
                dictionary, dictionary_page = unpacked, (header, offset)
                size += unpacked
                continue
            second = header.get(1) == _DATA_PAGE_V2
            details = header.get(8 if second else 5)
            if not isinstance(details, dict):  # no page of data
                continue
            count, encoding = max(0, _number(details, 1)), _number(details, 4 if second else 2)
            slots = (self.width + self._levels) * count
            page = unpacked + slots if self._variable else max(unpacked, slots)
            if self._variable and encoding in _DICTIONARY_ENCODINGS and dictionary:
                if longest < 0:
                    dear = max(count, chunk.values) * dictionary > _SMALL
                    longest = self._longest(chunk, *dictionary_page) if dear else dictionary
                page += count * longest
            elif self._variable and encoding == _DELTA_BYTE_ARRAY:
                page += count * unpacked
            if self._nested and slots > max(_MAX_REPEATED_BYTES, 16 * unpacked):
                what = f"has a page of {count:,} values in {unpacked:,} bytes; write smaller pages"
                raise self._refused(index, what)
            values, size = values + count, size + page
            largest, densest = max(largest, unpacked), max(densest, page / max(1, count))
        # Values of lists are more than rows. Any other number would lose rows in silence.
        if values < rows or (values > rows and not self._nested):
            raise DataError(
                f"{self._path}, row group {index}: column {self._name!r} has {values} rows "
                f"where its footer says {rows}; restore it and run this again"
            )
        if densest > MAX_RECORD_BYTES and self._variable:
            raise self._refused(index, f"has a value of over {MAX_RECORD_BYTES:,} bytes")
        row = densest * max(1.0, values / max(1, rows))
        if row > MAX_RECORD_BYTES:
            raise self._refused(index, f"has rows of over {MAX_RECORD_BYTES:,} bytes")
        least = (self.width + self._levels) * max(0, rows)  # also of rows that no page holds
        return Cost(max(size, least), row, largest + dictionary)

    def _check_dictionary(self, unpacked: int, index: int) -> None:
        if unpacked > _MAX_DICTIONARY_BYTES:
            raise self._refused(
                index,
                f"has a dictionary of {unpacked:,} bytes, at most {_MAX_DICTIONARY_BYTES:,} "
                "are read; write it without a dictionary",
            )

    def _headers(self, chunk: _Chunk) -> Iterator[tuple[dict[int, Any], int]]:
        """Yield the header of each page, and where its bytes begin."""
        start = chunk.dictionary if 0 < chunk.dictionary < chunk.data else chunk.data
        position, end, left = start, start + chunk.size, chunk.values
        while 0 <= position < end and left > 0:
            header, length = self._header(position, end)
            position += length
            yield header, position
            left -= sum(max(0, _number(header.get(key), 1)) for key in (5, 8))
            position += max(0, _number(header, 3))

    def _header(self, position: int, end: int) -> tuple[dict[int, Any], int]:
        for size in (256, 2**16, 2**24):  # statistics may be long
            data = os.pread(self._descriptor, min(size, end - position), position)
            try:
                header = _Thrift(data)
                return header.value(_STRUCT), header.position
            except _Malformed:
                if len(data) < size:
                    break
        raise DataError(
            f"{self._path} is damaged or encrypted, column {self._name!r}; restore or decrypt it "
            "and run this again"
        )

    def _longest(self, chunk: _Chunk, header: dict[int, Any], offset: int) -> int:
        """Return the length of the longest value of the dictionary; what it cannot exceed, if the
        page cannot be unpacked here."""
        stored, unpacked = _number(header, 3), _number(header, 2)
        data = os.pread(self._descriptor, max(0, stored), offset)
        codec = _CODECS.get(chunk.codec)
        try:
            if codec:
                data = pa.Codec(codec).decompress(data, unpacked, asbytes=True)
        except (pa.ArrowException, OSError, ValueError):
            return unpacked
        if (short := _longest_short(data)) is not None:
            return min(short, unpacked)
        longest = position = 0
        stop, read = len(data) - 4, _LENGTH.unpack_from
        while position <= stop:
            length = read(data, position)[0]
            if length > longest:
                longest = length
            position += 4 + length
        return min(longest, unpacked)

    def _refused(self, index: int, what: str) -> DataError:
        fix = "" if ";" in what else f", at most {MAX_RECORD_BYTES:,} are read; leave it out"
        return DataError(f"{self._path}, row group {index}: column {self._name!r} {what}{fix}")


def _longest_short(data: bytes) -> int | None:
    """Return the length of the longest value of a dictionary if all have under 256 bytes, by a look
    at all bytes at once; None if that cannot be told so.

    The length of such a value ends with three zero bytes, which text does not hold. Whether all
    values have been found is checked: each must end where the next one begins.
    """
    octets = np.frombuffer(data, np.uint8)
    zero = octets == 0
    starts = np.flatnonzero(zero[1:-2] & zero[2:-1] & zero[3:])
    starts = starts[np.diff(starts, append=len(data)) != 1]  # before an empty value: its own
    ends = starts + 4 + octets[starts]
    found = len(starts) > 0 and starts[0] == 0 and ends[-1] == len(data)
    return int(octets[starts].max()) if found and (ends[:-1] == starts[1:]).all() else None


def _struct(value: Any) -> dict[int, Any]:
    if not isinstance(value, dict):
        raise _Malformed
    return value


def _number(fields: Any, key: int) -> int:
    """Return a field of a struct that is a number; 0 if there is none."""
    number = fields.get(key, 0) if isinstance(fields, dict) else 0
    return number if isinstance(number, int) else 0


class _Thrift:
    """Reads Thrift's compact protocol, as far as Parquet uses it; ``position`` is the next byte."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def _byte(self) -> int:
        self.position += 1
        if self.position > len(self._data):
            raise _Malformed
        return self._data[self.position - 1]

    def _unsigned(self) -> int:
        number = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise _Malformed

    def _integer(self, bits: int) -> int:
        number = self._unsigned()
        if number >> bits:
            raise _Malformed  # Arrow would take some of its bits
        return (number >> 1) ^ -(number & 1)

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield number and type of each field of a struct; its value must be read before the next
        one."""
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._integer(70)
            yield field, head & 15

    def list_start(self) -> tuple[int, int]:
        """Return the number of elements of a list, and their type."""
        head = self._byte()
        return (head >> 4 if head >> 4 < 15 else self._unsigned()), head & 15

    def elements(self, count: int, kind: int, depth: int = 0) -> Iterator[Any]:
        """Yield the elements of a list."""
        for _ in range(count):
            # In a list, true and false take a byte, as what they are in a field does not.
            yield self._byte() if kind in (1, 2) else self.value(kind, depth)

    def value(self, kind: int, depth: int = 0) -> Any:
        """Return a value of a type; None for types whose values do not matter."""
        if depth > 16:
            raise _Malformed
        match kind:
            case 1 | 2:  # a field that is true or false
                return kind == 1
            case 4 | 5 | 6:
                return self._integer(32 if kind == 5 else 64)
            case 9 | 10:
                return list(self.elements(*self.list_start(), depth + 1))
            case 12:
                fields: dict[int, Any] = {}
                for field, inner in self.fields():
                    if field in fields:
                        raise _Malformed
                    fields[field] = self.value(inner, depth + 1)
                return fields
            case 3 | 7 | 8:
                length = {3: 1, 7: 8}.get(kind) or self._unsigned()
                if length > len(self._data) - self.position:
                    raise _Malformed
                self.position += length
                return None
            case _:
                raise _Malformed
