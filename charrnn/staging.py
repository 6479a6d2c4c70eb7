"""Make an input readable as Parquet with small row groups, and prove that no row was lost.

CSV readers lose rows in silence: a stray quote can swallow the lines up to the next one. So CSV is
copied once to Parquet, all columns, every cell as text, while ``csv_structure`` reads the records
of the same bytes by other means; the two must agree. Parquet is copied only where its row groups
are too large to work on one by one. Page checksums are verified wherever a file has them.
"""

from __future__ import annotations

__all__ = ["open_parquet", "stage_csv", "stage_parquet"]

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from charrnn.csv_structure import Structure
from charrnn.errors import DataError
from charrnn.files import remove_file, writing_to

_BLOCK = 8 * 2**20  # bytes of CSV parsed at once; also the longest line that is accepted
_DELIMITERS = ",;\t|"
_HEAD = 65536  # bytes in which the header is looked for first
_GROUP_ROWS = 128 * 1024  # rows of a row group in staged files


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file; page checksums are verified as it is read."""
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty; expected a Parquet file") from None
        raise DataError(f"{path} is not a readable Parquet file; is it whole?") from error


def stage_parquet(path: Path, staged: Path, largest: int) -> Path:
    """Return ``path``, or a copy with small row groups where one has over ``largest`` rows."""
    with open_parquet(path) as reader:
        metadata = reader.metadata
        sizes = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        if max(sizes, default=0) <= largest:
            return path
        with (
            writing_to(staged) as temporary,
            pq.ParquetWriter(
                temporary, reader.schema_arrow, compression="lz4", write_page_checksum=True
            ) as writer,
        ):
            for batch in _batches(reader, path):
                writer.write_batch(batch, row_group_size=_GROUP_ROWS)
    return staged


def _batches(reader: pq.ParquetFile, path: Path) -> Iterator[pa.RecordBatch]:
    """Yield record batches; damage that shows on the way is the input's, not the disk's."""
    try:
        yield from reader.iter_batches(batch_size=_GROUP_ROWS)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged; restore it and run this again") from error


class _Watched:
    """A binary stream that shows what it passes on to a ``Structure``, up to its first problem."""

    def __init__(self, raw: BinaryIO, structure: Structure) -> None:
        self._raw = raw
        self._structure = structure
        self._last = b""
        self._ended = False
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        structure = self._structure
        chunk = b""
        try:
            while len(chunk) < size - 1 and (more := self._raw.read(size - 1 - len(chunk))):
                chunk += more
        except (OSError, EOFError, zlib.error):
            structure.problem = structure.problem or "is truncated or damaged; copy it again"
            return b""
        structure.feed(chunk)
        if len(chunk) < size - 1 and not self._ended:
            self._ended = True
            structure.finish()
            if (chunk or self._last)[-1:] not in b"\n":
                # Without a final line feed PyArrow reads a bare empty last cell as "" and not null.
                chunk += b"\n"
        self._last = chunk[-1:]
        return b"" if structure.problem else chunk

    def close(self) -> None:
        self._raw.close()
        self.closed = True


def stage_csv(path: Path, staged: Path, *, multiline: bool = False) -> dict[str, int]:
    """Copy a CSV file to Parquet, every column as text, and prove its row count.

    What is proven: the parser's rows = records in the (decompressed) bytes - header - blank lines,
    where records are found by ``Structure`` and not by the parser.

    Args:
        multiline: accept line breaks inside quoted cells. Two stray quotes make one too, with all
            the rows between them inside; that is why they are refused unless asked for.

    Returns:
        ``blank_lines`` skipped (in files of one column a blank line is a row: an empty name) and
        ``line_breaks_in_cells``.

    Raises:
        DataError: empty, not UTF-8, ragged, a broken quote, another delimiter, a repeated or
            empty column name, truncated compression. Names file and line, never a cell.
    """
    delimiter, columns = _sniff(path)
    structure, rows = _copy_csv(path, staged, delimiter, columns, multiline=False)
    if structure.multiline and multiline and not structure.problem:
        structure, rows = _copy_csv(path, staged, delimiter, columns, multiline=True)
    blank = 0 if len(columns) == 1 else structure.blank
    problem = structure.problem
    if structure.multiline and not multiline:
        problem = (
            f"line {structure.first_multiline} has a line break inside a quoted cell; close the "
            "quote, or give --multiline if that is meant"
        )
    elif not problem and isinstance(rows, str):
        problem = rows
    elif not problem and rows != structure.records - 1 - blank:
        problem = (
            f"{structure.records - 1 - blank:,} records of data parse to {rows:,} rows; look for "
            "stray quotes and carriage returns"
        )
    if problem:
        remove_file(staged)
        raise DataError(f"{path}: {problem}; nothing was scored")
    return {"blank_lines": blank, "line_breaks_in_cells": structure.multiline}


def _copy_csv(
    path: Path, staged: Path, delimiter: str, columns: list[str], *, multiline: bool
) -> tuple[Structure, int | str]:
    """Parse and copy; return the structure that was seen on the way, and the rows or a problem."""
    structure = Structure(delimiter)
    try:
        with _decompressed(path) as raw:
            reader = pacsv.open_csv(
                pa.PythonFile(_Watched(raw, structure), mode="r"),
                read_options=pacsv.ReadOptions(block_size=_BLOCK, use_threads=True),
                parse_options=pacsv.ParseOptions(
                    delimiter=delimiter,
                    newlines_in_values=multiline,
                    ignore_empty_lines=len(columns) > 1,
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()),
                    # A bare empty field is null, a quoted one an empty text; nothing else is null.
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    check_utf8=True,
                ),
            )
            expected = pa.schema([(column, pa.string()) for column in columns])
            if not reader.schema.equals(expected):
                return structure, "line 1 is not a header that can be read"
            return structure, _write_groups(reader, staged)
    except pa.ArrowInvalid as error:
        return structure, _csv_problem(path, str(error), delimiter, len(columns))
    except (OSError, EOFError, zlib.error):
        return structure, "is truncated or damaged; copy it again"


def _write_groups(reader: Any, staged: Path) -> int:
    """Write the batches of a CSV reader as row groups of ``_GROUP_ROWS`` or a little more."""
    rows = 0
    with (
        writing_to(staged) as temporary,
        pq.ParquetWriter(
            temporary, reader.schema, compression="lz4", write_page_checksum=True
        ) as writer,
    ):
        waiting: list[pa.RecordBatch] = []
        for batch in reader:
            waiting.append(batch)
            if sum(b.num_rows for b in waiting) >= _GROUP_ROWS:
                rows += _write_group(writer, waiting)
        rows += _write_group(writer, waiting)
    return rows


def _write_group(writer: Any, waiting: list[pa.RecordBatch]) -> int:
    """Write the waiting batches as one row group and forget them; return their rows."""
    rows: int = sum(batch.num_rows for batch in waiting)
    if rows:
        writer.write_table(pa.Table.from_batches(waiting), row_group_size=max(rows, 1))
    waiting.clear()
    return rows


def _sniff(path: Path) -> tuple[str, list[str]]:
    """Return the delimiter and the column names, from the first line."""
    try:
        with _decompressed(path) as raw:
            head = raw.read(_HEAD)
            if b"\n" not in head:
                head += raw.read(_BLOCK - _HEAD)
    except (OSError, EOFError, zlib.error, pa.ArrowException):
        raise DataError(f"{path} is truncated or damaged; copy it again") from None
    if not head:
        raise DataError(f"{path} is empty; expected a header line with a name column")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        raise DataError(
            f"{path} is not UTF-8 (UTF-16?); convert it: iconv -f UTF-16 -t UTF-8 {path.name}"
        )
    if b"\n" not in head and b"\r" in head:
        raise DataError(f"{path} ends its lines with CR alone; convert it: tr '\\r' '\\n'")
    if b"\n" not in head and len(head) == _BLOCK:
        raise DataError(f"{path} has no line end in its first {_BLOCK:,} bytes; is it a CSV file?")
    line = head.split(b"\n", 1)[0].removeprefix(b"\xef\xbb\xbf").rstrip(b"\r")
    try:
        header = line.decode()
    except UnicodeDecodeError:
        raise DataError(
            f"{path} line 1 is not UTF-8; convert it: iconv -f LATIN1 -t UTF-8 {path.name}"
        ) from None
    bare = re.sub(r'"[^"]*"', "", header)
    delimiter = max(_DELIMITERS, key=bare.count)  # the first of equals: a comma where there is none
    try:
        columns = next(csv.reader([header], delimiter=delimiter, strict=True), [""])
    except csv.Error:
        raise DataError(f"{path} line 1 has a broken quote in a column name") from None
    repeated = sorted({c for c in columns if columns.count(c) > 1})
    if repeated or "" in columns:
        what = f"repeats {', '.join(map(repr, repeated))}" if repeated else "has an empty name"
        raise DataError(f"{path} line 1 {what}; every column needs a name of its own")
    return delimiter, columns


def _decompressed(path: Path) -> BinaryIO:
    """Open a CSV file's text bytes."""
    if path.name.endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.name.endswith(".zst"):
        return cast(BinaryIO, pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb", buffering=0)


def _csv_problem(path: Path, message: str, delimiter: str, expected: int) -> str:
    """Turn PyArrow's message, which quotes cells, into one that does not."""
    if re.search(r"Expected \d+ columns, got \d+", message):
        return _first_ragged(path, delimiter, expected)
    if "invalid UTF8" in message:
        return f"is not UTF-8; convert it: iconv -f LATIN1 -t UTF-8 {path.name}"
    if "straddling" in message or "block" in message:
        return f"a line is longer than {_BLOCK:,} bytes"
    return "is not a CSV file that can be read (delimiter, quoting or encoding)"


def _first_ragged(path: Path, delimiter: str, expected: int) -> str:
    """Say which line has another number of fields than the header; PyArrow counts only records."""
    try:
        with _decompressed(path) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as text:
            rows = csv.reader(text, delimiter=delimiter)
            for row in rows:
                if row and len(row) != expected:
                    return (
                        f"line {rows.line_num} has {len(row)} fields, the header {expected}; "
                        "quote cells with a delimiter"
                    )
    except (OSError, EOFError, ValueError, zlib.error, csv.Error):
        pass  # the line is a courtesy
    return f"a line has other than the header's {expected} fields; quote cells with a delimiter"
