"""Tables in: find the input, fingerprint it, make it readable, cut it into partitions.

Input is Parquet or CSV (``.csv``, ``.csv.gz``, ``.csv.zst``): one file, a folder or a glob. CSV,
and Parquet with huge row groups, is copied first (see ``staging``). From then on everything is a
*partition*: groups of rows side by side (see ``row_groups``), the unit of work.
"""

from __future__ import annotations

__all__ = [
    "REJECTS",
    "CsvFormat",
    "InputFile",
    "OverBudgetError",
    "Partition",
    "Source",
    "as_large_string",
    "check_budget",
    "check_name_column",
    "check_no_clash",
    "check_unchanged",
    "cut",
    "discover",
    "fingerprint_files",
    "is_remote",
    "is_text",
    "open_source",
    "parse_budget",
    "read_partition",
    "source_name",
]

import glob
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from charrnn.csv_structure import REASONS
from charrnn.errors import ConfigError, DataError, InputMissingError, did_you_mean
from charrnn.files import sha256_of
from charrnn.row_groups import Group, TableFile, read_groups
from charrnn.staging import CsvFormat, StagedCsv, stage_csv, stage_parquet

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.zst")
PARTITION_ROWS = 2**20
PARTITION_BYTES = 2**28  # of uncompressed Parquet: bounds the memory that wide tables take
_SHARES = 8  # an input is cut in so many partitions at least,
_SMALL_PARTITION = 2**19  # unless they had fewer rows: smaller ones find fewer equal names
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
class Partition:
    """Some groups of rows, side by side, of one file or of several small ones; ``index`` is its
    place in the output, ``first_row`` the number of rows before it in the whole input."""

    index: int
    groups: tuple[Group, ...]
    first_row: int

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)


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
            rejects.append(_rejects_table(number, file.path, found))
            table = found.table
        schema = _same_schema(schema, table.schema, files[0].path, file.path)
        rows += table.rows
        tables.append(table)
    assert schema is not None
    rejected = pa.concat_tables(rejects)
    check_budget(rejected, rows, max_rejected)
    return Source(tuple(files), tuple(tables), schema, rows, counts, rejected)


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


def _rejects_table(number: int, path: Path, staged: StagedCsv) -> pa.Table:
    reasons = pa.DictionaryArray.from_arrays(pa.array(staged.reasons.view("i1")), list(REASONS))
    count = len(staged.lines)
    columns = [np.full(count, number, np.int32), pa.array([path.name] * count, pa.string())]
    return pa.table([*columns, staged.lines, staged.records, reasons], REJECTS)


def check_name_column(schema: pa.Schema, column: str) -> None:
    """Raise DataError unless ``column`` exists, once, and holds text."""
    found = schema.get_all_field_indices(column)
    if not found:
        raise DataError(
            f"column {column!r} not found; columns: {', '.join(schema.names)}"
            f"{did_you_mean(column, schema.names)} (use --name-column)"
        )
    if len(found) > 1:
        raise DataError(f"column {column!r} appears {len(found)} times; rename all but one")
    kind = schema.field(found[0]).type
    if not is_text(kind):
        raise DataError(
            f"column {column!r} is {kind}; names must be text (string); cast the column, or choose "
            "another with --name-column"
        )


def check_no_clash(schema: pa.Schema, added: Iterable[str]) -> None:
    """Raise DataError when a column that scoring adds is in the input already."""
    clashes = [column for column in added if column in schema.names]
    if clashes:
        raise DataError(
            f"the input already has column {', '.join(map(repr, clashes))}, which scoring would "
            "add; give --prefix, such as --prefix charrnn_"
        )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this Arrow type holds text, dictionary-encoded or not."""
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(text) for check in checks)


def as_large_string(names: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return text of any Arrow type as large_string: string_view has no kernels for much of what
    follows, and 2 GB of names overflow a string array."""
    plain = names.cast(names.type.value_type) if pa.types.is_dictionary(names.type) else names
    return plain.cast(pa.large_string())


def cut(source: Source, partition_rows: int) -> list[Partition]:
    """Cut the input into partitions of at most about ``partition_rows`` rows and
    ``PARTITION_BYTES``, along row groups; at least one, so that an empty input has a part too.
    Small files make one partition together.

    A few million rows are cut smaller, so that there is a share for every worker; the cut depends
    on the input alone, so that a rerun finds its parts whatever the machine."""
    partition_rows = min(partition_rows, max(_SMALL_PARTITION, -(-source.rows // _SHARES)))
    every = [group for table in source.tables for group in table.groups]
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


def read_partition(partition: Partition) -> pa.Table:
    """Read the rows of a partition, all columns, checksums verified where there are any; raises as
    ``row_groups.read_groups`` does."""
    return read_groups(partition.groups)


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
