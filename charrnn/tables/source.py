"""Input tables: find the files, fingerprint them, make them readable in row groups.

An input is Parquet or CSV (``.csv``, ``.csv.gz``, ``.csv.zst``): one file, a folder or a glob. CSV
files, and Parquet files with very large row groups, are copied first (see ``csv_staging``).
"""

import glob
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from charrnn.errors import ConfigError, DataError, InputMissingError, did_you_mean
from charrnn.files import sha256_of, sha256_of_each
from charrnn.tables.columns import common_schema, differences
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.csv_staging import (
    REJECTS,
    EmptyCsvError,
    check_rejects,
    stage_csv,
    stage_parquet,
)
from charrnn.tables.parquet_types import UTC_TIME
from charrnn.tables.row_groups import TableFile
from charrnn.tables.unchanged import FileState, expecting

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.zst")


@dataclass(frozen=True)
class InputFile:
    """State of an input file when it was opened; ``sha256`` is of its bytes as stored."""

    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str

    @property
    def state(self) -> FileState:
        """What tells the file from another one, and from itself once it was written to."""
        return FileState(self.size, self.mtime_ns, self.ctime_ns, self.inode, self.sha256)


@dataclass(frozen=True)
class Source:
    """An opened input.

    Attributes:
        files: the input files.
        tables: what is read: each Parquet file itself, or its staged copy.
        schema: of all files: columns in the order of the first, which may be null where one file's
            may, and the metadata that all files have.
        rows: number of rows, without rejected ones.
        counts: sums of ``csv_staging.StagedCsv.counts`` over the CSV files.
        rejects: the rejected rows, with the schema ``REJECTS``.
        parquet: options of ``ParquetWriter`` with which the types of columns come back.
    """

    files: tuple[InputFile, ...]
    tables: tuple[TableFile, ...]
    schema: pa.Schema
    rows: int
    counts: dict[str, int]
    rejects: pa.Table = field(default_factory=lambda: REJECTS.empty_table())
    parquet: dict[str, bool] = field(default_factory=dict)


def discover(source: str) -> list[Path]:
    """Return the input files of ``source``, sorted: a file, the matches of a glob, or all Parquet
    and CSV files below a folder, except hidden and ``_`` files and the parts of scoring runs.

    Raises:
        InputMissingError: there is no such file.
        DataError: a file is neither Parquet nor CSV.
        ConfigError: ``source`` is a URI.
    """
    if is_remote(source):
        raise ConfigError(
            f"{source.split('://')[0]}:// inputs are not supported; give a local path"
        )
    path = Path(source)
    if path.is_dir():
        below = [p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path))]
        paths = sorted(p for p in below if p.name.endswith(SUFFIXES) and not _is_part(p))
        if not paths:
            raise InputMissingError(f"{path} has no {', '.join(SUFFIXES)} file")
        return paths
    matches = glob.glob(source, recursive=True)  # noqa: PTH207
    paths = [path] if path.exists() else sorted(map(Path, matches))
    if not paths:
        siblings = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        raise InputMissingError(f"{source} does not exist{did_you_mean(path.name, siblings)}")
    for match in paths:
        if not match.name.endswith(SUFFIXES) or not match.is_file():
            raise DataError(f"{match} is not a {', '.join(SUFFIXES)} file")
    return paths


def is_remote(source: str) -> bool:
    """Whether ``source`` is a URI, such as ``s3://bucket/people.parquet``."""
    return re.match(r"[a-z][a-z0-9+.-]*://", source) is not None


def source_name(source: str) -> str:
    """Return a folder name for the runs of ``source``: ``data/people.csv.gz`` → ``people``."""
    path = Path(source)
    stem = path.name or path.resolve().name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        stem = stem.removesuffix(suffix)
    if re.search(r"[*?\[]", source):
        stem = "_".join([path.parent.name, stem])
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", stem).strip("._") or "input"


def fingerprint_files(paths: Sequence[Path]) -> tuple[InputFile, ...]:
    """Return the state of each file, with the SHA-256 of its bytes.

    Raises:
        DataError: a file changed while it was read.
    """
    before = [_identify(path, "") for path in paths]
    digests = sha256_of_each(paths)
    files = tuple(_identify(path, digest) for path, digest in zip(paths, digests, strict=True))
    for file, earlier in zip(files, before, strict=True):
        if replace(file, sha256="") != earlier:
            raise DataError(
                f"{file.path} changed while it was read; run this again when it is complete"
            )
    return files


def check_unchanged(files: Iterable[InputFile]) -> None:
    """Raise DataError if a file has changed since it was opened."""
    for file in files:
        try:
            now = _identify(file.path, file.sha256)
            if replace(now, ctime_ns=file.ctime_ns) == file != now:
                # Only ctime differs: a chmod, or new bytes with the old mtime; so compare bytes.
                now = replace(file, sha256=sha256_of(file.path))
        except OSError:
            now = None
        if now != file:
            raise DataError(
                f"{file.path} changed during the run; nothing was published, run this again when "
                "nobody writes to it"
            )


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
    rejects = [REJECTS.empty_table()]
    counts = Counter[str]()
    for index, file in enumerate(files):
        copy = staging / f"input-{index:05d}"
        if file.path.name.endswith(".parquet"):
            with expecting(file.path, file.state):
                table = stage_parquet(
                    file.path, copy.with_suffix(".parquet"), 2 * partition_rows, file.state
                )
        else:
            try:
                with expecting(file.path, file.state):
                    staged = stage_csv(
                        file.path,
                        copy.with_suffix(".arrows"),
                        csv=csv,
                        group_rows=min(2**17, partition_rows),
                        index=index,
                    )
            except EmptyCsvError:  # as Spark writes for a partition without rows
                counts["empty_files"] += 1
                if counts["empty_files"] == len(files):
                    raise
                continue
            counts.update(staged.counts)
            rejects.append(staged.rejects)
            table = staged.table
        tables.append(table)
        detail = differences(tables[0].schema, table.schema)
        if not detail and table.writer.get(UTC_TIME, False) != tables[0].writer.get(
            UTC_TIME, False
        ):
            detail = "times of day are UTC in one of them"
        if detail:
            raise DataError(
                f"{files[0].path} and {file.path} have different columns: {detail}; "
                "score them one by one"
            )
    rows = sum(table.rows for table in tables)
    rejected = pa.concat_tables(rejects)
    check_rejects(rejected, rows, csv.rejects_allowed)
    schema = common_schema([table.schema for table in tables])
    return Source(
        files=tuple(files),
        tables=tuple(tables),
        schema=schema,
        rows=rows,
        counts=dict(counts),
        rejects=rejected,
        parquet=tables[0].writer,
    )


def _identify(path: Path, digest: str) -> InputFile:
    status = path.stat()
    return InputFile(
        path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, digest
    )


def _is_part(path: Path) -> bool:
    """Whether a file belongs to a scoring run."""
    return all((path.parent / name).is_file() for name in ("manifest.json", "SHA256SUMS"))


def _hidden(path: Path) -> bool:
    return any(part[0] in "._" for part in path.parts)
