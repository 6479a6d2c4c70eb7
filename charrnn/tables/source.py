"""Input tables: fingerprint the files, make them readable in row groups, name their runs.

An input is Parquet or CSV, in one file or in many (see ``discovery``). CSV files, and Parquet files
with very large row groups, are copied first (see ``csv_staging``).
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from charrnn.errors import DataError
from charrnn.files import sha256_of_each
from charrnn.tables.columns import common_schema, differences
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.csv_staging import REJECTS, EmptyCsvError, Staged, check_rejects, stage_csv
from charrnn.tables.discovery import MAGIC, Found, UnreadableError
from charrnn.tables.hive import FolderColumns, add_columns, typed
from charrnn.tables.kinds import table_name
from charrnn.tables.parquet_staging import stage_parquet
from charrnn.tables.parquet_types import UTC_TIME
from charrnn.tables.row_groups import GROUP_ROWS, TableFile
from charrnn.tables.unchanged import FileState, changed, expecting, same_file

_PLAIN_NAME = re.compile(r"(?!run=)[A-Za-z0-9][A-Za-z0-9._=-]{0,99}")
_RESERVED = ("latest", "runs", "index.html")  # what lies in a destination, or beside them
_MOST_LETTERS = 60  # of a name that is not plain


@dataclass(frozen=True)
class InputFile:
    """An input file and its ``state`` when it was opened; ``name`` and ``columns`` are those of
    ``FoundFile``."""

    path: Path
    name: str
    state: FileState
    columns: FolderColumns = ()

    @property
    def size(self) -> int:
        """Bytes, as stored."""
        return self.state.size

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes as stored."""
        return self.state.sha256


@dataclass(frozen=True)
class Source:
    """An opened input."""

    files: tuple[InputFile, ...]
    tables: tuple[TableFile, ...]  # what is read: each Parquet file itself, or its staged copy
    schema: pa.Schema  # ``common_schema`` of all tables
    rows: int  # without rejected ones
    counts: dict[str, int]  # sums of ``csv_staging.Staged.counts`` over the CSV files
    rejects: pa.Table = field(default_factory=REJECTS.empty_table)  # the rejected rows
    # Options of ``ParquetWriter`` with which the types of columns come back.
    parquet: dict[str, bool] = field(default_factory=dict)
    folder_columns: tuple[str, ...] = ()  # those that only names of folders hold
    file_rows: tuple[int, ...] = ()  # of each file; one without a byte has none, and no table


def source_name(source: str) -> str:
    """Return a folder name for the runs of ``source``, its name without the suffix of a table:
    ``data/people.csv.gz`` → ``people``.

    Other names give other folders: what is not plain letters, digits and ``._=-``, or is long, gets
    a digest behind a ``~``, which no plain name has.
    """
    path, pattern = Path(source), ""
    while MAGIC.search(str(path)) and not os.path.lexists(path):
        path, pattern = path.parent, f"/{path.name}{pattern}"
    name = path.resolve().name if path.name in ("", "..") else path.name
    if not re.fullmatch(r"/\*\.[^/]+", pattern):  # *.csv names a folder
        name += pattern
    table = table_name(name)
    stem = table.stem if table else name
    if _PLAIN_NAME.fullmatch(stem) and stem not in _RESERVED:
        return stem
    letters = re.sub(r"[^A-Za-z0-9.=-]+", "_", stem)[:_MOST_LETTERS].strip("._")
    return f"{letters or 'input'}~{sha256(os.fsencode(stem)).hexdigest()[:8]}"


def inbox_name(path: Path) -> str:
    """Return a folder name for the runs of a file of an inbox, which no other file there has: that
    of ``source_name``, and what tells ``people.parquet`` and the folder ``people`` from
    ``people.csv``."""
    table = table_name(path.name)
    suffix = table.suffix[1:] if table else ""
    kinds = [suffix] if suffix and (suffix != "csv" or path.is_dir()) else []
    return "~".join([source_name(str(path)), *kinds, *(["folder"] if path.is_dir() else [])])


def fingerprint(found: Found) -> tuple[InputFile, ...]:
    """Return each file that was found with its state and the SHA-256 of its bytes.

    Raises:
        InputMissingError: a file cannot be read.
        DataError: a file changed while it was read.
    """
    before = [FileState.of(path.stat()) for path in found.paths]
    try:
        digests = sha256_of_each(found.paths)
    except OSError as error:
        raise UnreadableError(error.filename or "a file of the input", error) from error
    for path, state in zip(found.paths, before, strict=True):
        if FileState.of(path.stat()) != state:
            raise DataError(f"{path} changed while it was read; run this again when it is complete")
    return tuple(
        InputFile(file.path, file.name, replace(state, sha256=digest), file.columns)
        for file, state, digest in zip(found.files, before, digests, strict=True)
    )


def check_unchanged(files: Iterable[InputFile]) -> None:
    """Raise DataError if a file has changed since it was opened."""
    for file in files:
        try:
            with same_file(file.path, file.state):
                pass
        except OSError:
            raise changed(file.path) from None


def open_source(
    files: Sequence[InputFile], staging: Path, *, partition_rows: int, csv: CsvFormat
) -> Source:
    """Open an input: make every file readable in small row groups, by a copy in the folder
    ``staging`` if necessary, and check that all files have the same schema.

    Args:
        partition_rows: rows of a partition; row groups are made small enough for it.
        csv: format of CSV files.

    Raises:
        DataError: a file is damaged, not in the declared format, or has other columns than the
            first; or more rows are bad than ``csv`` allows to reject.
    """
    tables: list[TableFile] = []
    file_rows: list[int] = []
    rejects = [REJECTS.empty_table()]
    counts = Counter[str]()
    columns = typed([file.columns for file in files])
    for index, file in enumerate(files):
        try:
            staged = _open_file(file, staging, index, partition_rows, csv)
        except EmptyCsvError:  # as Spark writes for a partition without rows
            counts["empty_files"] += 1
            if counts["empty_files"] == len(files):
                raise
            file_rows.append(0)
            continue
        counts.update(staged.counts)
        rejects.append(staged.rejects)
        table = add_columns(staged.table, file.columns, columns[index])
        tables.append(table)
        file_rows.append(table.rows)
        _check_same_columns(tables[0], table, files[0].path, file.path)
    rows = sum(table.rows for table in tables)
    rejected = pa.concat_tables(rejects)
    check_rejects(rejected, rows, csv.rejects_allowed)
    return Source(
        files=tuple(files),
        tables=tuple(tables),
        schema=common_schema([table.schema for table in tables]),
        rows=rows,
        counts=dict(counts),
        rejects=rejected,
        parquet=tables[0].writer,
        folder_columns=tuple(name for name, _ in tables[0].groups[0].added),
        file_rows=tuple(file_rows),
    )


def _open_file(
    file: InputFile, staging: Path, index: int, partition_rows: int, csv: CsvFormat
) -> Staged:
    """Make one file readable in small row groups; ``index`` is its place in the input."""
    copy = staging / f"input-{index:05d}"
    name = table_name(file.path.name)
    with expecting(file.path, file.state):
        if name is None or name.format == "parquet":
            path = copy.with_suffix(".parquet")
            return Staged(stage_parquet(file.path, path, 2 * partition_rows, file.state))
        return stage_csv(
            file.path,
            copy.with_suffix(".arrows"),
            csv=csv if csv.delimiter else replace(csv, delimiter=name.delimiter),
            group_rows=min(GROUP_ROWS, partition_rows),
            index=index,
            name=file.name,
        )


def _check_same_columns(first: TableFile, table: TableFile, path: Path, other: Path) -> None:
    detail = differences(first.schema, table.schema)
    if not detail and table.writer.get(UTC_TIME, False) != first.writer.get(UTC_TIME, False):
        detail = "times of day are UTC in one of them"
    if detail:
        raise DataError(
            f"{path} and {other} have different columns: {detail}; give them one by one"
        )
