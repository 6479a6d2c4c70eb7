"""Plan a run: everything that can be refused is refused here, before any name is scored.

A *fingerprint* stands for the bytes of the inputs, the model and the options. It decides whether
two runs are the same work, and names the folder of an unfinished run.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import charrnn
from charrnn.errors import ConfigError, DataError, OutputError, is_uri
from charrnn.files import own_folders, remove_tree, translate_os_errors, write_parquet
from charrnn.runs.folders import staging_folder
from charrnn.runs.manifest import SCHEMA_VERSION, InputRecord, ModelRef, RunOptions
from charrnn.scoring.inputs import names_in
from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.pool import NamePool
from charrnn.tables.columns import as_large_string, check_name_column, check_no_clash
from charrnn.tables.csv_staging import TooManyRejectsError
from charrnn.tables.discovery import Skipped, discover
from charrnn.tables.kinds import TABLES, other_kind, table_name
from charrnn.tables.row_groups import Partition, cut, read_groups
from charrnn.tables.source import InputFile, Source, fingerprint, open_source, source_name


@dataclass(frozen=True)
class Destination:
    """Where the rows of a run go.

    Attributes:
        folder: of the runs of one input.
        file: a Parquet or CSV file that gets all rows as well.
        uri: a prefix on object storage that gets a copy of the run; "" for none.
    """

    folder: Path
    file: Path | None = None
    uri: str = ""


def destination_of(source: str, output: str, root: Path) -> Destination:
    """Return where the runs of ``source`` go.

    Args:
        source: path, glob or URI of the input.
        output: a folder, a Parquet or CSV file (see ``kinds.table_name``), a URI, or "" for
            ``root/NAME``. A path that ends with "/" is a folder.
        root: folder of all destinations.

    Raises:
        CharrnnError: ``source`` names nothing that can be read; so no folder is made for it. (What
            a URI names is known only when it has been fetched.) ConfigError: ``output`` is a file
            of another kind. OutputError: it is a folder, with the suffix of a file.
    """
    paths = [] if is_uri(source) else discover(source).paths
    default, target = root / source_name(source), Path(output)
    table = table_name(target.name)
    kind = "" if table else other_kind(target.name)[0]
    if is_uri(output):
        if table or kind:
            what = "would be a folder of parts; give a prefix without a suffix"
            raise ConfigError(f"{output} {what}", option="output")
        return Destination(default, uri=output)
    if not output or output.endswith(("/", "/.")) or (target.is_dir() and not table):
        return Destination(target if output else default)
    if kind:
        raise ConfigError(
            f"{output} ({kind}) cannot be written; give a {TABLES}, or a folder, with / at its end",
            option="output",
        )
    if table is None:
        return Destination(target)
    if target.is_dir():
        raise OutputError(
            f"{output} is a folder; give another file, or / at its end for runs in it",
            option="output",
        )
    with translate_os_errors(target):  # such as a name that is too long
        is_input = target.exists() and any(target.samefile(path) for path in paths)
    if is_input:
        raise ConfigError(f"{target} is an input; give another file", option="output")
    return Destination(default, file=target)


@dataclass(frozen=True)
class RunKey:
    """What decides whether two runs are the same work: input files, model and options. Nothing has
    to be staged to know it. ``skipped`` lay beside the files and decides nothing."""

    files: tuple[InputFile, ...]
    model: ModelRef
    options: RunOptions
    fingerprint: str
    skipped: Skipped = field(default_factory=Skipped)


def run_key(
    source: str, model: ModelRef, options: RunOptions, more: dict[str, Any] | None = None
) -> RunKey:
    """Fingerprint the input files together with the model, the options and what else decides the
    result, as plain JSON values in ``more``.

    Raises:
        CharrnnError: the input is missing, or changes while it is read.
    """
    found = discover(source)
    files = fingerprint(found)
    content = {
        "charrnn": charrnn.__version__,
        "schema_version": SCHEMA_VERSION,
        # Names of files count, with the folders below the one that was given and the columns in
        # names of folders; times do not.
        "inputs": [[file.name, file.size, file.sha256, *file.columns] for file in files],
        "model": model.digest,
        "options": {**options.to_json(), **(more or {})},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return RunKey(files, model, options, digest, found.skipped)


@dataclass(frozen=True)
class RunPlan:
    """Everything that a worker needs besides the model. ``name_key`` is the secret that names are
    hashed with; it is neither shown nor written. ``pool`` are answers that partitions share."""

    destination: Path
    key: RunKey
    source: Source
    partitions: tuple[Partition, ...]
    name_key: bytes = field(default=b"", repr=False)
    pool: NamePool | None = field(default=None, repr=False)

    @property
    def staging(self) -> Path:
        """Folder of the unfinished run."""
        return staging_folder(self.destination, self.key.fingerprint)

    def facts(self) -> dict[str, Any]:
        """Return the fields of ``PublishedFacts`` that the plan decides."""
        files = zip(self.source.files, self.source.file_rows, strict=True)
        return {
            "schema_version": SCHEMA_VERSION,
            "fingerprint": self.key.fingerprint,
            "options": self.key.options,
            "inputs": tuple(InputRecord(f.name, f.size, f.sha256, rows) for f, rows in files),
            "input_counts": self.source.counts,
            "rows": self.source.rows,
            "skipped": self.key.skipped,
        }


def plan_run(
    key: RunKey, destination: Path, added: Iterable[str], name_key: bytes = b""
) -> RunPlan:
    """Stage the input, check its columns and cut it into partitions.

    The caller holds the destination (``publish.hold_destination``, which also removes what was
    staged of a refused input). Staging folders of other fingerprints are removed: nothing resumes
    them.

    Args:
        added: the columns that scoring will add.

    Raises:
        CharrnnError: the input is damaged, or has no usable name column; an added column would
            overwrite an input column; more rows would be rejected than may be, which leaves a
            table of them (file, line and reason) in ``destination``.
    """
    staging = staging_folder(destination, key.fingerprint)
    for other in own_folders(destination, ".staging-"):
        if other != staging:
            remove_tree(other)
    options = key.options
    try:
        source = open_source(
            key.files, staging, partition_rows=options.partition_rows, csv=options.csv
        )
        scoring = _with_own_columns(source, options.scoring)
        check_no_clash(source.schema.names, added)
    except TooManyRejectsError as error:
        report = destination / f"_rejects-{key.fingerprint[:8]}.parquet"
        write_parquet(report, error.rejects)
        raise DataError(f"{error}; {report} lists all of them", option=error.option) from None
    key = replace(key, options=replace(options, scoring=scoring))
    partitions = tuple(cut(source.tables, options.partition_rows))
    return RunPlan(destination, key, source, partitions, name_key)


def _with_own_columns(source: Source, options: ScoreOptions) -> ScoreOptions:
    """Return the options with each column of names by its own name, where the request has it in
    another Unicode form; raise DataError unless all are columns of text, of the files."""
    for option, asked in options.name_fields.items():
        column = check_name_column(source.schema, asked, option)
        if column in source.folder_columns:
            raise DataError(
                f"column {column!r} lies in names of folders, one value for all rows of a file; "
                "choose a column of the files",
                option=option,
            )
        options = replace(options, **{option: column})  # type: ignore[arg-type]
    return options


def sample_names(source: Source, options: ScoreOptions, limit: int = 200_000) -> pa.ChunkedArray:
    """Return the names of every k-th row of the whole input, at most ``limit`` of them,
    large_string: enough to estimate label shares from, the same for the same input."""
    columns = list(options.name_fields.values())
    step = max(1, -(-source.rows // limit))
    chunks: list[pa.Array] = []
    skip = 0  # rows before the next one that is taken
    for group in (group for table in source.tables for group in table.groups):
        sample = read_groups([group], columns).take(pa.array(np.arange(skip, group.rows, step)))
        chunks += as_large_string(names_in(sample, options)).chunks
        skip = (skip - group.rows) % step
    return pa.chunked_array(chunks, pa.large_string())
