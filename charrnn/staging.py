"""Make an input readable as Parquet with small row groups, and prove that no row was lost.

CSV readers lose rows in silence: a stray quote can swallow the lines up to the next one. So CSV is
copied once to Parquet, all columns, every cell as text, while the line feeds of the same bytes are
counted by other means; the two must agree. Parquet is copied only where its row groups are too
large to work on one by one. Page checksums are verified wherever a file has them.
"""

from __future__ import annotations

__all__ = ["open_parquet", "stage_csv", "stage_parquet"]

import csv
import gzip
import re
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from charrnn.errors import DataError
from charrnn.files import writing_to

_BLOCK = 8 * 2**20  # bytes of CSV parsed at once; also the longest line that is accepted
_GROUP_ROWS = 128 * 1024  # rows of a row group in staged files


def open_parquet(path: Path) -> pq.ParquetFile:
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
        try:
            with (
                writing_to(staged) as temporary,
                pq.ParquetWriter(
                    temporary, reader.schema_arrow, compression="lz4", write_page_checksum=True
                ) as writer,
            ):
                for batch in reader.iter_batches(batch_size=_GROUP_ROWS):
                    writer.write_batch(batch, row_group_size=_GROUP_ROWS)
        except pa.ArrowException as error:
            raise DataError(f"{path} is damaged; restore it and run this again") from error
    return staged


class _CountingReader:
    """A binary stream that counts, as it passes them on, the bytes that decide a row count."""

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.closed = False
        self.line_feeds = 0
        self.blank_lines = 0
        self._tail = b"\n"  # the two bytes before the next chunk; the first line starts one
        self._size = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self.raw.read(size)
        self._size += len(chunk)
        if chunk:
            data = np.frombuffer(self._tail + chunk, np.uint8)
            feeds = np.flatnonzero(data == 10)
            feeds_new = feeds[feeds >= len(self._tail)]
            self.line_feeds += len(feeds_new)
            before = data[feeds_new - 1]
            blank = before == 10
            after_return = feeds_new[(before == 13) & (feeds_new >= 2)]
            self.blank_lines += int(blank.sum()) + int((data[after_return - 2] == 10).sum())
            self._tail = (self._tail + chunk)[-2:]
        return chunk

    @property
    def lines(self) -> int:
        """Lines seen so far, an unfinished last one included."""
        return self.line_feeds + (self._size > 0 and not self._tail.endswith(b"\n"))

    def close(self) -> None:
        self.raw.close()
        self.closed = True


def stage_csv(path: Path, staged: Path) -> dict[str, int]:
    """Copy a CSV file to Parquet, every column as text, and prove its row count.

    The count proven: rows = lines in the (decompressed) bytes - header - blank lines. A quote that
    swallows line feeds breaks that equation, so it is refused instead of losing rows.

    Returns:
        ``blank_lines`` skipped (in files of one column a blank line is a row: an empty name).

    Raises:
        DataError: empty, not UTF-8, ragged, a broken quote, another delimiter, a repeated or
            empty column name, truncated compression. Names file and line, never a cell.
    """
    delimiter, columns = _sniff(path)
    single = len(columns) == 1
    with _decompressed(path) as raw:
        counting = _CountingReader(raw)
        try:
            rows = _copy_csv(counting, staged, delimiter, columns)
        except pa.ArrowInvalid as error:
            raise DataError(_csv_problem(path, str(error))) from None
        except (OSError, EOFError):
            raise DataError(f"{path} is truncated or damaged; copy it again") from None
    blank = 0 if single else counting.blank_lines
    expected = counting.lines - 1 - blank
    if rows != expected:
        staged.unlink(missing_ok=True)
        raise DataError(
            f"{path} has {expected:,} lines of data but parses to {rows:,} rows; a quote is "
            "missing or a cell holds a line break; fix the quoting, nothing was scored"
        )
    return {"blank_lines": blank}


def _copy_csv(counting: _CountingReader, staged: Path, delimiter: str, columns: list[str]) -> int:
    reader = pacsv.open_csv(
        pa.PythonFile(counting, mode="r"),
        read_options=pacsv.ReadOptions(block_size=_BLOCK, use_threads=True),
        parse_options=pacsv.ParseOptions(
            delimiter=delimiter, newlines_in_values=False, ignore_empty_lines=len(columns) > 1
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
    """Return the delimiter and the column names, from the first 64 KiB."""
    try:
        with _decompressed(path) as raw:
            head = raw.read(65536)
    except (OSError, EOFError, pa.ArrowException):
        raise DataError(f"{path} is truncated or damaged; copy it again") from None
    if not head:
        raise DataError(f"{path} is empty; expected a header line with a name column")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        raise DataError(
            f"{path} is not UTF-8 (UTF-16?); convert it: iconv -f UTF-16 -t UTF-8 {path.name}"
        )
    if b"\n" not in head and b"\r" in head:
        raise DataError(f"{path} ends its lines with CR alone; convert it: tr '\\r' '\\n'")
    line = head.split(b"\n", 1)[0].removeprefix(b"\xef\xbb\xbf").rstrip(b"\r")
    try:
        header = line.decode()
    except UnicodeDecodeError:
        raise DataError(
            f"{path} line 1 is not UTF-8; convert it: iconv -f LATIN1 -t UTF-8 {path.name}"
        ) from None
    delimiter = max(",;\t|", key=header.count) if any(c in header for c in ",;\t|") else ","
    columns = next(csv.reader([header], delimiter=delimiter))
    repeated = sorted({c for c in columns if columns.count(c) > 1})
    if repeated or "" in columns:
        what = (
            f"repeats column {', '.join(map(repr, repeated))}" if repeated else "has an empty name"
        )
        raise DataError(f"{path} line 1 {what}; every column needs a name of its own")
    return delimiter, columns


def _decompressed(path: Path) -> BinaryIO:
    """Open a CSV file's text bytes."""
    if path.name.endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.name.endswith(".zst"):
        return cast(BinaryIO, pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb", buffering=0)


def _csv_problem(path: Path, message: str) -> str:
    """Turn PyArrow's message, which quotes cells, into one that does not."""
    ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", message)
    if ragged:
        row, expected, found = ragged.groups()
        return (
            f"{path} line {row} has {found} fields where the header has {expected}; quote cells "
            "that contain the delimiter, nothing was scored"
        )
    ragged = re.search(r"Expected (\d+) columns, got (\d+)", message)
    if ragged:
        expected, found = ragged.groups()
        return (
            f"{path}: a line has {found} fields where the header has {expected}; quote cells that "
            "contain the delimiter, nothing was scored"
        )
    if "invalid UTF8" in message:
        return f"{path} is not UTF-8; convert it: iconv -f LATIN1 -t UTF-8 {path.name}"
    if "straddling" in message or "block" in message:
        return f"{path} has a line longer than {_BLOCK:,} bytes; is a quote missing?"
    return f"{path} is not a readable CSV file (delimiter, quoting or encoding)"
