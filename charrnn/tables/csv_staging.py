"""Stage CSV: parse and copy it once, and check that no row is lost.

CSV parsers can lose rows without an error: a stray quote may merge all lines up to the next quote.
So a CSV file is parsed and copied once, every cell as text, while ``csv_structure`` counts the
records of the same bytes independently; both counts must agree.
"""

import bz2
import gzip
import shlex
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from charrnn.errors import DataError
from charrnn.files import closing_reader, remove_file
from charrnn.tables.csv_format import CsvFormat, CsvFormatError, Recoded, detect_encoding
from charrnn.tables.csv_header import MAX_HEADER_BYTES, Header, explain_fields, read_header
from charrnn.tables.csv_structure import MAX_RECORD_BYTES, REASONS, Structure
from charrnn.tables.kinds import COMPRESSED, HEAD_BYTES, kind_of, table_name
from charrnn.tables.row_groups import GROUP_ROWS, TableFile, write_groups
from charrnn.tables.unchanged import same_file

_CHUNK_BYTES = 4 * 2**20  # of CSV, read at once
# A block of the parser must hold what ``Structure.feed`` returns for a chunk: a record that was
# pending and the chunk, of which recoding makes at most three bytes per byte.
_BLOCK_BYTES = MAX_RECORD_BYTES + 3 * _CHUNK_BYTES
_HEAD_BYTES = 65536  # read to detect the format; more only if the header is longer
# Compressed files are refused if they unpack to more than this, and to more than so many times
# their size: honest tables reach 20:1 to 50:1, gzip at most 1030:1.
_MAX_UNPACKED_BYTES = 2**28
_MAX_RATIO = 200
_DECOMPRESSION_ERRORS = (OSError, EOFError, zlib.error)
_OPENERS: dict[str, Any] = {
    "gz": gzip.open,
    "bz2": bz2.open,
    "zst": lambda path: pa.CompressedInputStream(pa.OSFile(path), "zstd"),
}
_UNPACK = {"gz": "gzip -dc", "zst": "zstd -dc", "bz2": "bzip2 -dc"}
_TRUNCATED = "is truncated or damaged; copy it again"
# Schema of the table of rejected rows, which holds no cell: index and name of the input file, line
# (from 1), row of the file it would have been (from 0), reason.
REJECTS = pa.schema(
    {
        "input": pa.int32(),
        "file": pa.string(),
        "line": pa.int64(),
        "record": pa.int64(),
        "reason": pa.dictionary(pa.int8(), pa.string()),
    }
)


@dataclass(frozen=True)
class Staged:
    """A table that is read in small row groups, and what was left out of it.

    Attributes:
        table: the file itself, or a copy.
        counts: of a CSV file: ``blank_lines`` skipped (in a file of one column a blank line is a
            row with a null name), ``line_breaks_in_cells``, ``files_without_final_line_end`` (1 if
            the file may have been truncated inside its last cell), ``files_without_checksum`` (1 if
            it is zstd without checksum, in which a flipped bit may be missed) and
            ``files_unpacked_over_200_times`` (1 if it unpacks to as much, as a zip bomb does).
        rejects: the rejected rows, as ``REJECTS``.
    """

    table: TableFile
    counts: dict[str, int] = field(default_factory=dict)
    rejects: pa.Table = field(default_factory=REJECTS.empty_table)


class EmptyCsvError(DataError):
    """A file holds no byte of text, not even a header."""


class _CheckedStream:
    """A stream of complete records for PyArrow's CSV parser. A ``Structure`` reads every byte
    first; the stream ends at its first problem."""

    def __init__(self, path: Path, raw: BinaryIO, structure: Structure, header: Header) -> None:
        self._raw = raw
        self._structure = structure
        self._max_bytes = sys.maxsize
        if _compression(path):
            self._max_bytes = max(_MAX_UNPACKED_BYTES, _MAX_RATIO * path.stat().st_size)
        self.bytes = 0  # read so far
        self.closed = False
        while self.bytes < header.skip:
            self.bytes += len(raw.read(header.skip - self.bytes))

    def read(self, size: int = -1) -> bytes | memoryview:
        """Return complete records, at most ``_BLOCK_BYTES`` bytes; b"" at the end."""
        try:
            for chunk in iter(lambda: self._raw.read(_CHUNK_BYTES), b""):
                self.bytes += len(chunk)
                if self.bytes > self._max_bytes:
                    self._structure.fail(
                        f"unpacks to over {self._max_bytes:,} bytes, {_MAX_RATIO} times its size, "
                        "as a zip bomb does; if that is meant, unpack it first"
                    )
                    return b""
                if records := self._structure.feed(chunk):
                    return records
                if self._structure.problem:
                    return b""
            return self._structure.finish()
        except _DECOMPRESSION_ERRORS:
            self._structure.fail(_TRUNCATED)
        except CsvFormatError as error:  # from Recoded
            self._structure.fail(str(error), error.option)
        return b""

    def close(self) -> None:
        self._raw.close()
        self.closed = True


def stage_csv(
    path: Path,
    staged: Path,
    *,
    csv: CsvFormat,
    group_rows: int = GROUP_ROWS,
    index: int = 0,
    name: str = "",
) -> Staged:
    """Copy a CSV file, every column as text, and check its row count: the parser's rows plus the
    rejected rows must equal the records that ``Structure`` finds, less header and blank lines.

    Args:
        csv: format of the file.
        group_rows: rows of a row group of the copy, at most.
        index, name: of the file in the input, for ``REJECTS``.

    Raises:
        DataError: the file is empty or truncated, is not in the declared encoding, or has a broken
            quote, an ambiguous delimiter, a repeated or empty column name, or bad rows that are not
            to be rejected. The message has file and line, and no cell.
    """
    header, head = _read_header(path, csv)
    columns = header.columns
    rejecting = csv.on_bad_line == "reject"
    structure = _structure(csv, header, len(columns) if rejecting else 0)
    table, unpacked = _copy_csv(path, staged, csv, header, structure, group_rows)
    lines, records, reasons = structure.rejected()
    blank = 0 if len(columns) == 1 else structure.blank
    expected = structure.records - 1 - blank - len(lines)
    if table is None:
        structure.fail("cannot be parsed as CSV; check delimiter, quote and encoding")
    elif table.rows != expected:
        structure.fail(
            f"{expected:,} records of data parse to {table.rows:,} rows; look for stray quotes"
        )
    elif lines.size and not table.rows and REASONS[reasons[0]] == "ragged_row":
        structure.fail(explain_fields(head, csv, header))
    if table is None or structure.problem:
        remove_file(staged)
        if not rejecting:  # the parser reports no lines, and not the first problem
            structure = _first_problem(path, csv, header, head) or structure
        problem = _with_files(structure.problem, path)
        raise DataError(f"{path}: {problem}", option=structure.option)
    counts = {
        "blank_lines": blank,
        "line_breaks_in_cells": structure.line_breaks,
        "files_without_final_line_end": int(structure.unterminated),
        "files_without_checksum": int(_lacks_checksum(path)),
        "files_unpacked_over_200_times": int(unpacked > _MAX_RATIO * path.stat().st_size),
    }
    inputs = np.full(len(lines), index, np.int32)
    files = pa.repeat(name, len(lines))
    coded = pa.DictionaryArray.from_arrays(pa.array(reasons.view("i1")), list(REASONS))
    return Staged(table, counts, pa.table([inputs, files, lines, records, coded], REJECTS))


def _structure(form: CsvFormat, header: Header, columns: int) -> Structure:
    """Return the counter of records for a stream whose header is the first record."""
    return Structure(
        header.delimiter,
        form.quote_character,
        multiline=form.multiline,
        columns=columns,
        line=1 + header.lines,
        offset=header.skip,
    )


def _copy_csv(
    path: Path, staged: Path, form: CsvFormat, header: Header, structure: Structure, group_rows: int
) -> tuple[TableFile | None, int]:
    """Parse and copy, every byte through ``structure``; return the copy, None if parsing fails, and
    the bytes that the file unpacks to."""
    columns = header.columns
    try:
        with _open(path, form.codec) as raw:
            stream = _CheckedStream(path, raw, structure, header)
            reader = pacsv.open_csv(
                pa.PythonFile(stream, mode="r"),
                pacsv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=pa.cpu_count() > 1),
                pacsv.ParseOptions(
                    delimiter=header.delimiter,
                    quote_char=form.quote_character or False,
                    # False only cuts blocks at line ends; these blocks are complete records.
                    newlines_in_values=False,
                    ignore_empty_lines=len(columns) > 1,
                ),
                pacsv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()),
                    # An empty field is null, a quoted one the empty string; nothing else is null.
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            if not reader.schema.equals(pa.schema([(column, pa.string()) for column in columns])):
                structure.fail(f"line {1 + header.lines} cannot be parsed as a header")
                return None, stream.bytes
            return write_groups(reader, reader.schema, staged, group_rows), stream.bytes
    except pa.ArrowInvalid:  # its message quotes cells
        return None, 0
    except _DECOMPRESSION_ERRORS:
        structure.fail(_TRUNCATED)
        return None, 0


def _first_problem(path: Path, form: CsvFormat, header: Header, head: bytes) -> Structure | None:
    """Read a file again to find its first problem, and count its bad rows; None if there is no
    problem."""
    columns = len(header.columns)
    structure = _structure(form, header, columns)
    with _open(path, form.codec) as raw:
        stream = _CheckedStream(path, raw, structure, header)
        while stream.read():
            pass
    lines, _, reasons = structure.rejected()
    if not lines.size:
        return structure if structure.problem else None
    if REASONS[reasons[0]] == "ragged_row" and (why := explain_fields(head, form, header)):
        structure.problem, structure.option = why, ""
        return structure
    what, fix, option = {
        "ragged_row": (
            f"line {lines[0]} has {structure.first_fields} fields, the header {columns}",
            "quote cells that contain a delimiter",
            "on_bad_line",
        ),
        "invalid_utf8": (
            f"line {lines[0]}, byte {structure.first_invalid:,} is not UTF-8",
            f"set the encoding, such as latin-1, or {_conversion(path, 'LATIN1')}",
            "encoding",
        ),
        "bare_return": (
            f"line {lines[0]} has a carriage return without line feed",
            "quote the cell",
            "on_bad_line",
        ),
    }[REASONS[reasons[0]]]
    counts = count_reasons([REASONS[reason] for reason in reasons])
    structure.problem = f"{what} (bad rows: {counts}); {fix}, or reject bad lines"
    structure.option = option
    return structure


def count_reasons(reasons: Iterable[str]) -> str:
    """Return how often each reason occurs, such as ``"invalid_utf8 1, ragged_row 20"``."""
    return ", ".join(f"{reason} {n:,}" for reason, n in sorted(Counter(reasons).items()))


def _read_header(path: Path, form: CsvFormat) -> tuple[Header, bytes]:
    """Return what the start of a file tells, and its first lines."""
    try:
        head = _read_head(path, form)
        return read_header(head, form), head
    except (*_DECOMPRESSION_ERRORS, pa.ArrowException):
        raise DataError(f"{path} {_TRUNCATED}") from None
    except CsvFormatError as error:
        fix = ""
        if error.option == "encoding" and form.codec == "utf-8":
            fix = f"; set the encoding, or {_conversion(path, 'LATIN1')}"
        problem = _with_files(str(error), path)
        raise DataError(f"{path}: {problem}{fix}", option=error.option) from None


def _with_files(problem: str, path: Path) -> str:
    """Put the name of a file into the command that a message suggests."""
    name = shlex.quote(path.name)
    unpack = _UNPACK.get(_compression(path))
    stem = path.stem if unpack else path.name
    if unpack and " < FILE > NEW" in problem:
        problem = problem.replace(": tr ", f": {unpack} {name} | tr ").replace(" < FILE", "")
    elif unpack:
        for tool in ("sed ", "tail ", "perl "):
            problem = problem.replace(f": {tool}", f": {unpack} {name} | {tool}")
        problem = problem.replace(" FILE > ", " > ")
    return problem.replace("FILE", name).replace("NEW", shlex.quote(f"fixed-{stem}"))


def _check_kind(path: Path) -> None:
    """Raise DataError if the first bytes of a file are not those of what its name says."""
    with closing_reader(path.open("rb")) as file:
        stored = file.read(HEAD_BYTES)
    packed, kind = _compression(path), kind_of(stored)
    found = COMPRESSED.get(kind, "")
    if packed and stored and packed != found:
        plain = path.name[: -len(packed) - 1]
        name = f"{plain}.{found}" if found else plain
        what = f"{kind}, not {packed}" if kind else "not compressed"
        fix = f"; rename it to {name}" if found or not kind else ""
        raise DataError(f"{path} is {what} as its name says{fix}")
    if packed:
        with _open(path) as raw:
            kind = kind_of(raw.read(HEAD_BYTES))
        if kind in COMPRESSED:
            raise DataError(f"{path} is compressed twice; unpack it once")
    elif found:
        raise DataError(f"{path} is compressed ({kind}); rename it to {path.name}.{found}")
    if kind:
        fix = {"Parquet": "rename it to .parquet"}.get(kind, "save or convert it as CSV or Parquet")
        raise DataError(f"{path} is not CSV but {kind}; {fix}")


def _read_head(path: Path, form: CsvFormat) -> bytes:
    """Return the first lines of a file as UTF-8; refuse one that is not CSV in this format."""
    _check_kind(path)
    with _open(path) as raw:
        start = raw.read(_HEAD_BYTES)
    if start in (b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x1a"):
        raise EmptyCsvError(f"{path} is empty; expected a header line with a name column")
    if detected := detect_encoding(start, form.codec):
        fix = f", or {_conversion(path, detected.upper())}" if detected != "utf-8" else ""
        raise DataError(
            f"{path} looks like {detected.upper()}, not {form.codec.upper()}; "
            f"set the encoding to {detected}{fix}",
            option="encoding",
        )
    with _open(path, form.codec) as raw:
        head = raw.read(_HEAD_BYTES)
        while (
            b"\n" not in head and len(head) <= MAX_HEADER_BYTES and (more := raw.read(_HEAD_BYTES))
        ):
            head += more
    line, end, _ = head.partition(b"\n")
    if not end and b"\r" in head:
        raise CsvFormatError(
            "ends its lines with CR alone; convert it: tr '\\r' '\\n' < FILE > NEW"
        )
    if len(line) > MAX_HEADER_BYTES:
        raise DataError(
            f"{path} has no line end in its first {MAX_HEADER_BYTES:,} bytes; is it CSV?"
        )
    if end and len(head) >= _HEAD_BYTES:
        head = head[: head.rindex(b"\n") + 1]
    return head.rstrip(b"\x1a")


@contextmanager
def _open(path: Path, codec: str = "utf-8") -> Iterator[BinaryIO]:
    """Open a CSV file as a stream of its decompressed bytes, as UTF-8."""
    with same_file(path) as opened:
        raw = _OPENERS.get(_compression(path), partial(open, mode="rb", buffering=0))(opened)
    with closing_reader(raw):
        yield raw if codec == "utf-8" else cast(BinaryIO, Recoded(raw, codec))


def _compression(path: Path) -> str:
    """Return how a CSV file is compressed, by its name; "" if it is not."""
    name = table_name(path.name)
    return name.compression if name else ""


def _lacks_checksum(path: Path) -> bool:
    """Whether a file is zstd without a checksum of its content (RFC 8878, 3.1.1.1)."""
    if _compression(path) != "zst":
        return False
    with closing_reader(path.open("rb")) as file:
        start = file.read(5)
    return start[:4] == b"\x28\xb5\x2f\xfd" and not start[4] & 4


def _conversion(path: Path, codec: str) -> str:
    """Return the advice to convert a file to UTF-8, with the command."""
    decompress = _UNPACK.get(_compression(path))
    convert = f"iconv -f {codec.replace('16-', '16')} -t UTF-8"
    command = f"{decompress} {path.name} | {convert}" if decompress else f"{convert} {path.name}"
    return f"convert it: {command}"


class TooManyRejectsError(DataError):
    """More rows are bad than may be rejected; ``rejects`` lists all of them, as ``REJECTS``."""

    def __init__(self, message: str, rejects: pa.Table) -> None:
        super().__init__(message, option="max_rejected")
        self.rejects = rejects


def check_rejects(rejects: pa.Table, rows: int, allowed: int | float) -> None:
    """Raise TooManyRejectsError if more rows are rejected than ``allowed``: a number of rows (int),
    or a share (float) of all rows. ``rows`` are not rejected."""
    count = len(rejects)
    max_count = allowed if isinstance(allowed, int) else allowed * (rows + count)
    if count <= max_count:
        return
    limit = f"{allowed}" if isinstance(allowed, int) else f"{allowed:.4%}"
    first = [f"{r['file']} line {r['line']} {r['reason']}" for r in rejects[:5].to_pylist()]
    raise TooManyRejectsError(
        f"{count:,} of {rows + count:,} rows are bad "
        f"({count_reasons(rejects['reason'].to_pylist())}), at most {limit} may be rejected; "
        f"first: {', '.join(first)}; correct them, or allow more",
        rejects,
    )
