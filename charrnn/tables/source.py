"""Tables in: find the input, fingerprint it, make it readable.

Input is Parquet or CSV (``.csv``, ``.csv.gz``, ``.csv.zst``): one file, a folder or a glob. CSV,
and Parquet with huge row groups, is copied first (see ``staging``). From then on everything is
groups of rows (see ``row_groups``), which ``partitions`` makes units of work of.
"""

from __future__ import annotations

__all__ = [
    "SUFFIXES",
    "InputFile",
    "Source",
    "check_unchanged",
    "discover",
    "fingerprint_files",
    "is_remote",
    "open_source",
    "source_name",
]

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from charrnn.errors import ConfigError, DataError, InputMissingError, did_you_mean
from charrnn.files import sha256_of
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.csv_staging import (
    REJECTS,
    check_budget,
    rejects_table,
    stage_csv,
    stage_parquet,
)
from charrnn.tables.row_groups import TableFile

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.zst")


@dataclass(frozen=True)
class InputFile:
    """One input file as it was when it was opened; ``sha256`` covers its bytes as they lie."""

    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """Everything that is to be scored: the files as found, and what to read instead of them.

    ``counts`` holds facts about the bytes, such as blank lines skipped; ``rows`` is the number of
    rows counted from them, without those of ``rejects``, a table of the schema ``REJECTS``.
    """

    files: tuple[InputFile, ...]
    tables: tuple[TableFile, ...]
    schema: pa.Schema
    rows: int
    counts: dict[str, int]
    rejects: pa.Table = field(default_factory=lambda: REJECTS.empty_table())


def discover(source: str) -> list[Path]:
    """Return the input files that ``source`` names, sorted: a file, all Parquet and CSV files of a
    folder (hidden and ``_`` files and scoring runs passed over), or a glob.

    Raises:
        InputMissingError: it names nothing.
        DataError: a file has another kind.
    """
    if is_remote(source):
        raise ConfigError(
            f"{source.split('://')[0]}:// inputs are not supported; give a local path"
        )
    path = Path(source)
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path))]
        paths = sorted(p for p in found if p.name.endswith(SUFFIXES) and not _is_ours(p))
        if not paths:
            raise InputMissingError(f"{path} holds no {', '.join(SUFFIXES)} file")
        return paths
    paths = [path] if path.exists() else _glob(source)
    if not paths:
        siblings = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        raise InputMissingError(f"{source} does not exist{did_you_mean(path.name, siblings)}")
    for other in paths:
        if not other.name.endswith(SUFFIXES) or not other.is_file():
            raise DataError(f"{other} is not a {', '.join(SUFFIXES)} file")
    return paths


def is_remote(source: str) -> bool:
    """Whether ``source`` is a URI, such as ``s3://bucket/people.parquet`` (see ``storage``)."""
    return re.match(r"[a-z][a-z0-9+.-]*://", source) is not None


def source_name(source: str) -> str:
    """Return a folder name for what ``source`` names: ``data/people.csv.gz`` → ``people``."""
    path = Path(source)
    stem = path.name or path.resolve().name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        stem = stem.removesuffix(suffix)
    if re.search(r"[*?\[]", source):
        stem = "_".join([path.parent.name, stem])
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", stem).strip("._") or "input"


def fingerprint_files(paths: Sequence[Path]) -> tuple[InputFile, ...]:
    """Return the identity of each file, its digest computed from its bytes."""
    found = []
    for path in paths:
        before = _identify(path, "")
        file = _identify(path, sha256_of(path))
        if replace(file, sha256="") != before:
            raise DataError(f"{path} changed while it was read; run this again when it is whole")
        found.append(file)
    return tuple(found)


def check_unchanged(files: Iterable[InputFile]) -> None:
    """Raise DataError when a file is no longer what it was when it was opened."""
    for file in files:
        try:
            now = _identify(file.path, file.sha256)
            if replace(now, ctime_ns=file.ctime_ns) == file != now:  # rewritten, or another mode?
                now = replace(file, sha256=sha256_of(file.path))
        except OSError:
            now = None
        if now != file:
            raise DataError(
                f"{file.path} changed while it was being scored; nothing was published, "
                "run this again when nobody writes to it"
            )


def open_source(
    files: Sequence[InputFile],
    staging: Path,
    *,
    partition_rows: int,
    csv: CsvFormat | None = None,
    max_rejected: int | float = 0,
) -> Source:
    """Make every input readable in small groups of rows, staging copies in ``staging`` where that
    takes one, and prove that all files have one schema.

    Args:
        csv: how CSV files are written; ``CsvFormat()`` where not given.
        max_rejected: how many rows of all files together may be rejected, where ``csv`` rejects
            rows at all: a number (int), or a share of the rows (float).

    Raises:
        DataError: a file is damaged, ragged, wrongly encoded, or has other columns than the first;
            more rows would be rejected than may be.
    """
    form = csv or CsvFormat()
    tables: list[TableFile] = []
    rejects = [REJECTS.empty_table()]
    counts: dict[str, int] = {}
    rows = 0
    schema: pa.Schema | None = None
    for number, file in enumerate(files):
        staged = staging / f"input-{number:05d}"
        if file.path.name.endswith(".parquet"):
            table = stage_parquet(file.path, staged.with_suffix(".parquet"), 2 * partition_rows)
        else:
            most = min(2**17, partition_rows)
            found = stage_csv(file.path, staged.with_suffix(".arrows"), csv=form, group_rows=most)
            for key, count in found.counts.items():
                counts[key] = counts.get(key, 0) + count
            rejects.append(rejects_table(number, file.path, found))
            table = found.table
        schema = _same_schema(schema, table.schema, files[0].path, file.path)
        rows += table.rows
        tables.append(table)
    assert schema is not None
    rejected = pa.concat_tables(rejects)
    check_budget(rejected, rows, max_rejected)
    return Source(tuple(files), tuple(tables), schema, rows, counts, rejected)


def _same_schema(first: pa.Schema | None, schema: pa.Schema, one: Path, other: Path) -> pa.Schema:
    """Return the schema all files share, without file metadata; refuse a file that differs."""
    if first is None:
        return schema.remove_metadata()
    if not first.equals(schema):
        ours, theirs = ({f.name: str(f.type) for f in s} for s in (first, schema))
        differing = [n for n in {**ours, **theirs} if ours.get(n) != theirs.get(n)]
        detail = "; ".join(
            f"{n!r} is {ours.get(n, 'absent')} and {theirs.get(n, 'absent')}" for n in differing
        )
        raise DataError(
            f"{one} and {other} have different columns: {detail or 'another order'}; "
            "score them one by one"
        )
    return first


def _identify(path: Path, digest: str) -> InputFile:
    status = path.stat()
    return InputFile(
        path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, digest
    )


def _glob(pattern: str) -> list[Path]:
    return sorted(Path(p) for p in glob.glob(pattern, recursive=True))  # noqa: PTH207


def _is_ours(path: Path) -> bool:
    """Whether a file is a part of a scoring run."""
    return all((path.parent / name).is_file() for name in ("manifest.json", "SHA256SUMS"))


def _hidden(path: Path) -> bool:
    return any(part[0] in "._" for part in path.parts)
