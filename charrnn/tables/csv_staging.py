"""Make an input readable in small groups of rows, and prove that no row was lost.

CSV readers lose rows in silence: a stray quote can swallow the lines up to the next one. So CSV is
parsed and copied once, all columns, every cell as text, while ``csv_structure`` reads the records
of the same bytes by other means; the two must agree. Parquet is copied only where its row groups
are too large to work on one by one. Page checksums are verified wherever a file has them.
"""

from __future__ import annotations

__all__ = [
    "REJECTS",
    "OverBudgetError",
    "StagedCsv",
    "check_budget",
    "parse_budget",
    "rejects_table",
    "stage_csv",
    "stage_parquet",
]

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from charrnn.errors import ConfigError, DataError
from charrnn.files import remove_file, writing_parquet
from charrnn.tables.csv_format import CsvFormat, Recoded, encoding_of, sniff
from charrnn.tables.csv_structure import LONGEST, REASONS, Structure
from charrnn.tables.row_groups import TableFile, open_parquet, parquet_file, write_groups

_CHUNK = 4 * 2**20  # bytes of CSV read and parsed at once
_HEAD = 65536  # bytes that are sniffed; more only where the header is longer
_GROUP_ROWS = 128 * 1024  # rows of a group in staged files, at most
_PACKINGS = {b"\x1f\x8b": ".gz", b"\x28\xb5": ".zst"}  # how packed bytes begin
_DAMAGED = (OSError, EOFError, zlib.error)  # what decompression raises


@dataclass(frozen=True)
class StagedCsv:
    """What is known of a CSV file that was staged.

    Attributes:
        table: its copy.
        counts: ``blank_lines`` skipped (in files of one column a blank line is a row: an empty
            name), ``line_breaks_in_cells``, ``files_without_final_line_end`` (1 where the last line
            lacks it: was the file cut off inside its last cell?) and ``files_without_checksum`` (1
            where it is packed as zstd without one: a flipped bit in it could go unseen).
        lines: line of every rejected row, int64.
        records: which row of the file it would have been, from 0, int64.
        reasons: why, as an index into ``csv_structure.REASONS``, uint8.
    """

    table: TableFile
    counts: dict[str, int]
    lines: npt.NDArray[np.int64]
    records: npt.NDArray[np.int64]
    reasons: npt.NDArray[np.uint8]


def stage_parquet(path: Path, staged: Path, largest: int) -> TableFile:
    """Return ``path``, or a copy with small row groups where one has over ``largest`` rows."""
    found = parquet_file(path)
    if max((group.rows for group in found.groups), default=0) <= largest:
        return found
    with (
        open_parquet(path) as reader,
        writing_parquet(staged, reader.schema_arrow, compression="lz4") as writer,
    ):
        for batch in _batches(reader, path):
            writer.write_batch(batch, row_group_size=_GROUP_ROWS)
    return parquet_file(staged)


def _batches(reader: pq.ParquetFile, path: Path) -> Iterator[pa.RecordBatch]:
    """Yield record batches; damage that shows on the way is the input's, not the disk's."""
    try:
        yield from reader.iter_batches(batch_size=_GROUP_ROWS)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged; restore it and run this again") from error


class _Watched:
    """What PyArrow reads a CSV file through: a ``Structure`` sees every byte first and passes on
    whole records, up to the first problem."""

    def __init__(self, raw: BinaryIO, structure: Structure) -> None:
        self._raw = raw
        self._structure = structure
        self.closed = False

    def read(self, size: int = -1) -> bytes | memoryview:
        """Return some records, b"" at the end; never more than ``_BLOCK`` bytes."""
        try:
            for chunk in iter(lambda: self._raw.read(_CHUNK), b""):
                if records := self._structure.feed(chunk):
                    return records
                if self._structure.problem:
                    return b""
            return self._structure.finish()
        except _DAMAGED:
            self._structure.problem = self._structure.problem or _TRUNCATED
        except ValueError as error:  # from Recoded
            self._structure.problem = self._structure.problem or str(error)
        return b""

    def close(self) -> None:
        self._raw.close()
        self.closed = True


_BLOCK = LONGEST + 3 * _CHUNK  # recoded, a byte becomes at most three
_TRUNCATED = "is truncated or damaged; copy it again"


def stage_csv(
    path: Path, staged: Path, *, csv: CsvFormat | None = None, group_rows: int = _GROUP_ROWS
) -> StagedCsv:
    """Copy a CSV file, every column as text, and prove its row count.

    What is proven: the parser's rows + rejected rows = records in the (decompressed) bytes -
    header - blank lines, where records are found by ``Structure`` and not by the parser.

    Args:
        csv: how the file is written; ``CsvFormat()`` where not given. Line breaks inside quoted
            cells are refused unless asked for: two stray quotes make one too, with all the rows
            between them inside.
        group_rows: rows of a group of the copy, at most.

    Raises:
        DataError: empty, wrongly encoded, a broken quote, an ambiguous delimiter, a repeated or
            empty column name, truncated compression; ragged, unless ``csv`` rejects such rows.
            Names file and line, never a cell.
    """
    form = csv or CsvFormat()
    delimiter, columns = _sniff(path, form)
    rejecting = form.on_bad_line == "reject"
    structure = _structure(form, delimiter, len(columns) if rejecting else 0)
    table = _copy_csv(path, staged, form, delimiter, columns, structure, group_rows)
    lines, records, reasons = structure.rejected()
    blank = 0 if len(columns) == 1 else structure.blank
    expected = structure.records - 1 - blank - len(lines)
    problem = structure.problem
    if table is None:
        problem = problem or "is not a CSV file that can be read (delimiter, quoting or encoding)"
    elif table.rows != expected and not problem:
        problem = (
            f"{expected:,} records of data parse to {table.rows:,} rows; look for stray quotes"
        )
    if table is None or problem:
        remove_file(staged)
        if not rejecting:  # the parser knows no lines, and does not stop at the first problem
            problem = _first_problem(path, form, delimiter, len(columns)) or problem
        raise DataError(f"{path}: {problem}; nothing was scored")
    counts = {
        "blank_lines": blank,
        "line_breaks_in_cells": structure.line_breaks,
        "files_without_final_line_end": int(structure.unterminated),
        "files_without_checksum": int(_lacks_checksum(path)),
    }
    return StagedCsv(table, counts, lines, records, reasons)


def _structure(form: CsvFormat, delimiter: str, columns: int) -> Structure:
    quote = form.quote_character
    return Structure(delimiter, quote, multiline=form.multiline, columns=columns)


def _copy_csv(
    path: Path,
    staged: Path,
    form: CsvFormat,
    delimiter: str,
    columns: list[str],
    structure: Structure,
    group_rows: int,
) -> TableFile | None:
    """Parse and copy, showing every byte to ``structure``; return the copy, None where the parser
    gives up."""
    try:
        with _text_of(path, form) as raw:
            reader = pacsv.open_csv(
                pa.PythonFile(_Watched(raw, structure), mode="r"),
                read_options=pacsv.ReadOptions(block_size=_BLOCK, use_threads=pa.cpu_count() > 1),
                parse_options=pacsv.ParseOptions(
                    delimiter=delimiter,
                    quote_char=form.quote_character or False,
                    # Blocks hold whole records; where they end, the structure knows better.
                    newlines_in_values=False,
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
            if not reader.schema.equals(pa.schema([(column, pa.string()) for column in columns])):
                structure.problem = structure.problem or "line 1 is not a header that can be read"
                return None
            return write_groups(reader, reader.schema, staged, group_rows)
    except pa.ArrowInvalid:  # its message quotes cells
        return None
    except _DAMAGED:
        structure.problem = structure.problem or _TRUNCATED
        return None


def _first_problem(path: Path, form: CsvFormat, delimiter: str, columns: int) -> str:
    """Say what is wrong first in a file, and how many rows are bad; "" where nothing is found."""
    structure = _structure(form, delimiter, columns)
    with _text_of(path, form) as raw:
        watched = _Watched(raw, structure)
        while watched.read():
            pass
    lines, _, reasons = structure.rejected()
    if not lines.size:
        return structure.problem
    first = REASONS[reasons[0]]
    what, remedy = {
        "ragged_row": (
            f"line {lines[0]} has {structure.first_fields} fields, the header {columns}",
            "quote cells with a delimiter",
        ),
        "invalid_utf8": (
            f"line {lines[0]}, byte {structure.first_invalid:,} is not UTF-8",
            f"give --encoding, such as --encoding latin-1, or {_convert(path, 'LATIN1')}",
        ),
        "bare_return": (f"line {lines[0]} has a carriage return of its own", "quote the cell"),
    }[first]
    return f"{what} (bad rows: {count_reasons(reasons)}); {remedy}, or give --on-bad-line reject"


def count_reasons(reasons: npt.NDArray[np.uint8]) -> str:
    """Return how often each reason occurs, in words."""
    counts = Counter(reasons.tolist())
    return ", ".join(f"{REASONS[reason]} {n:,}" for reason, n in sorted(counts.items()))


def _sniff(path: Path, form: CsvFormat) -> tuple[str, list[str]]:
    """Return the delimiter and the column names, from the start of the file."""
    try:
        with _decompressed(path) as raw:
            start = raw.read(_HEAD)
        if not start:
            raise DataError(f"{path} is empty; expected a header line with a name column")
        if packing := _PACKINGS.get(start[:2]):
            raise DataError(f"{path} is packed; name it {path.name}{packing}")
        if found := encoding_of(start, form.codec):
            convert = f", or {_convert(path, found.upper())}" if found != "utf-8" else ""
            raise DataError(
                f"{path} looks like {found.upper()}, not {form.codec.upper()}; "
                f"give --encoding {found}{convert}"
            )
        with _text_of(path, form) as raw:
            head = raw.read(_HEAD)
            while b"\n" not in head and len(head) < LONGEST and (more := raw.read(_CHUNK)):
                head += more
        if b"\n" not in head and b"\r" in head:
            raise DataError(f"{path} ends its lines with CR alone; convert it: tr '\\r' '\\n'")
        if b"\n" not in head and len(head) >= LONGEST:
            raise DataError(f"{path} has no line end in its first {LONGEST:,} bytes; is it CSV?")
        if b"\n" in head and len(head) >= _HEAD:
            head = head[: head.rindex(b"\n") + 1]
        return sniff(head.removeprefix(b"\xef\xbb\xbf"), form)
    except (*_DAMAGED, pa.ArrowException):
        raise DataError(f"{path} {_TRUNCATED}") from None
    except ValueError as error:
        remedy = (
            f"; give --encoding, or {_convert(path, 'LATIN1')}" if "UTF-8" in str(error) else ""
        )
        raise DataError(f"{path}: {error}{remedy}") from None


def _text_of(path: Path, form: CsvFormat) -> BinaryIO:
    """Open a CSV file's text as UTF-8 bytes."""
    raw = _decompressed(path)
    return raw if form.codec == "utf-8" else cast(BinaryIO, Recoded(raw, form.codec))


def _decompressed(path: Path) -> BinaryIO:
    """Open a CSV file's bytes."""
    if path.name.endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.name.endswith(".zst"):
        return cast(BinaryIO, pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb", buffering=0)


def _lacks_checksum(path: Path) -> bool:
    """Whether a zstd file says that it has no checksum of its content (RFC 8878, 3.1.1.1)."""
    if not path.name.endswith(".zst"):
        return False
    with path.open("rb") as file:
        start = file.read(5)
    return start[:4] == b"\x28\xb5\x2f\xfd" and not start[4] & 4


def _convert(path: Path, codec: str) -> str:
    """Return the command that makes a file UTF-8."""
    unpack = {".gz": "gzip -dc", ".zst": "zstd -dc"}.get(path.suffix)
    convert = f"iconv -f {codec.replace('16-', '16')} -t UTF-8"
    command = f"{unpack} {path.name} | {convert}" if unpack else f"{convert} {path.name}"
    return f"convert it: {command}"


# Rows left out of the input: which file (its place among the inputs and its name), its line, which
# row of the file it would have been (from 0), and why; never what it says.
REJECTS = pa.schema(
    [
        ("input", pa.int32()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("record", pa.int64()),
        ("reason", pa.dictionary(pa.int8(), pa.string())),
    ]
)


class OverBudgetError(DataError):
    """More rows would be rejected than may be; ``rejects`` are all of them."""

    def __init__(self, message: str, rejects: pa.Table) -> None:
        super().__init__(message)
        self.rejects = rejects


def rejects_table(number: int, path: Path, staged: StagedCsv) -> pa.Table:
    """Return the rejected rows of the input file ``path``, the ``number``-th, as ``REJECTS``."""
    reasons = pa.DictionaryArray.from_arrays(pa.array(staged.reasons.view("i1")), list(REASONS))
    count = len(staged.lines)
    columns = [np.full(count, number, np.int32), pa.array([path.name] * count, pa.string())]
    return pa.table([*columns, staged.lines, staged.records, reasons], REJECTS)


def parse_budget(text: str) -> int | float:
    """Return how many rows may be rejected: ``"20"`` → 20 rows, ``"0.1%"`` → 0.001 of the rows.

    Raises:
        ConfigError: it is neither a number nor a share from 0% to 100%.
    """
    try:
        allowed = float(text[:-1]) / 100 if text.endswith("%") else int(text)
    except ValueError:
        allowed = -1
    if allowed < 0 or (isinstance(allowed, float) and not allowed <= 1):
        raise ConfigError(f"max rejected is {text!r}; expected a number of rows or a share like 1%")
    return allowed


def check_budget(rejects: pa.Table, rows: int, allowed: int | float) -> None:
    """Raise OverBudgetError when more rows are rejected than ``allowed``: a number of rows (int),
    or a share (float) of them and the ``rows`` that are left."""
    count = len(rejects)
    most = allowed if isinstance(allowed, int) else allowed * (rows + count)
    if count <= most:
        return
    reasons = Counter(rejects["reason"].to_pylist())
    first = [f"{r['file']} line {r['line']} {r['reason']}" for r in rejects[:5].to_pylist()]
    raise OverBudgetError(
        f"{count:,} of {rows + count:,} rows would be rejected ("
        f"{', '.join(f'{reason} {n:,}' for reason, n in sorted(reasons.items()))}), more than "
        f"{allowed if isinstance(allowed, int) else f'{allowed:.4%}'}; first: {', '.join(first)}; "
        "mend them or raise --max-rejected",
        rejects,
    )
