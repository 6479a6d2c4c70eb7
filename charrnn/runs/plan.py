"""Plan a scoring run: everything that can be refused is refused here, before any name is scored."""

from __future__ import annotations

__all__ = [
    "Order",
    "RunPlan",
    "comparison_order",
    "destination_of",
    "fingerprint",
    "order_of",
    "plan_run",
    "sample_names",
    "staging_folder",
]

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import charrnn
from charrnn.errors import ConfigError, DataError
from charrnn.files import remove_tree, writing_parquet
from charrnn.model.version import ModelVersion
from charrnn.runs.manifest import SCHEMA_VERSION
from charrnn.scoring.names import Names, check_name_key
from charrnn.scoring.options import ScoreOptions
from charrnn.tables.columns import as_large_string, check_name_column, check_no_clash
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.csv_staging import OverBudgetError
from charrnn.tables.row_groups import Partition, cut, read_groups
from charrnn.tables.source import (
    InputFile,
    Source,
    discover,
    fingerprint_files,
    is_remote,
    open_source,
    source_name,
)


def destination_of(source: str, output: str) -> tuple[Path, Path | None]:
    """Return the folder for the runs, and the single file to export to, if ``output`` is one.

    Raises:
        CharrnnError: ``source`` names nothing that can be read; so no folder is made for it. (What
            a URI names is known only when it has been fetched.)
    """
    paths = [] if is_remote(source) else discover(source)
    default = Path("outputs/predictions") / source_name(source)
    if output.endswith((".parquet", ".csv")):
        target = Path(output)
        if target.exists() and any(target.samefile(path) for path in paths):
            raise ConfigError(f"{target} is an input; give -o another file")
        return default, target
    return (Path(output) if output else default), None


@dataclass(frozen=True)
class Order:
    """What is asked for: which bytes, by which model, under which options. Its fingerprint decides
    whether it has been done already; for that, nothing has to be staged."""

    files: tuple[InputFile, ...]
    csv: CsvFormat
    model: dict[str, str]
    options: dict[str, Any]
    fingerprint: str


def order_of(
    source: str,
    version: ModelVersion,
    options: ScoreOptions,
    *,
    partition_rows: int,
    names: Names = "keep",
    csv: CsvFormat | None = None,
    max_rejected: int | float = 0,
) -> Order:
    """Fingerprint the input files together with the model and the options.

    Args:
        partition_rows: rows of a partition.
        names: what becomes of the name column in the output (see ``privacy.hide_names``).
        csv: how CSV files are written; ``CsvFormat()`` where not given.
        max_rejected: how many rows may be rejected where ``csv`` rejects bad ones: a number, or a
            share of all rows.

    Raises:
        CharrnnError: the input is missing, or changes while it is read.
    """
    if partition_rows < 1:
        raise ConfigError(f"partition rows are {partition_rows}; expected at least 1")
    if not max_rejected >= 0:
        raise ConfigError(f"max rejected is {max_rejected}; expected 0 or more")
    form = csv or CsvFormat()
    wanted = {
        **options.to_json(),
        "partition_rows": partition_rows,
        "names": names,
        "name_key": check_name_key(names),
        "csv": form.to_json(),
        "max_rejected": max_rejected,
    }
    files = fingerprint_files(discover(source))
    return Order(
        files,
        form,
        {"name": version.name, "digest": version.digest},
        wanted,
        fingerprint(files, version.digest, wanted),
    )


def comparison_order(
    source: str,
    models: tuple[ModelVersion, ModelVersion],
    options: dict[str, Any],
    csv: CsvFormat,
) -> Order:
    """Fingerprint the input files together with two models, champion and challenger, and the
    options of their comparison, ``name_column`` and ``partition_rows`` among them.

    Raises:
        CharrnnError: the input is missing, or changes while it is read.
    """
    if options["partition_rows"] < 1:
        raise ConfigError(f"partition rows are {options['partition_rows']}; expected at least 1")
    files = fingerprint_files(discover(source))
    digest = " ".join(version.digest for version in models)
    both = {"name": " ".join(version.name for version in models), "digest": digest}
    wanted = {**options, "csv": csv.to_json(), "max_rejected": 0}
    return Order(files, csv, both, wanted, fingerprint(files, digest, wanted))


def plan_run(order: Order, destination: Path, added: Sequence[str]) -> RunPlan:
    """Stage the input, check its columns and cut it into partitions.

    The caller holds the destination (``runs.hold_destination``, which also removes what was staged
    of a refused input). Staging folders of other fingerprints are left-overs of runs that will not
    go on, so they are removed.

    Args:
        added: the columns that scoring will add.

    Raises:
        CharrnnError: the input is damaged, or has no usable name column; an added column would
            overwrite an input column; more rows would be rejected than may be, which leaves a
            table of them (file, line and reason) in ``destination``.
    """
    staging = staging_folder(destination, order.fingerprint)
    for left_over in destination.glob(".staging-*"):
        if left_over != staging:
            remove_tree(left_over)
    rows, allowed = order.options["partition_rows"], order.options["max_rejected"]
    try:
        opened = open_source(
            order.files, staging, partition_rows=rows, csv=order.csv, max_rejected=allowed
        )
        check_name_column(opened.schema, order.options["name_column"])
        check_no_clash(opened.schema, added)
    except OverBudgetError as error:
        report = destination / f"_rejects-{order.fingerprint[:8]}.parquet"
        with writing_parquet(report, error.rejects.schema) as writer:
            writer.write_table(error.rejects)
        raise DataError(f"{error}; {report} lists all of them") from None
    return RunPlan(
        destination=destination,
        fingerprint=order.fingerprint,
        source=opened,
        partitions=tuple(cut(opened.tables, rows)),
        model=order.model,
        options=order.options,
    )


def sample_names(source: Source, column: str, limit: int = 200_000) -> pa.ChunkedArray:
    """Return the names of every k-th row of the whole input, at most ``limit`` of them: enough to
    estimate label shares from, the same for the same input."""
    step = max(1, -(-source.rows // limit))
    chunks: list[pa.ChunkedArray] = []
    skip = 0  # rows before the next one that is taken
    for table in source.tables:
        for group in table.groups:
            names = read_groups([group], [column])[column]
            chunks.append(as_large_string(names).take(pa.array(np.arange(skip, group.rows, step))))
            skip = (skip - group.rows) % step
    return pa.chunked_array([c for names in chunks for c in names.chunks], pa.large_string())


@dataclass(frozen=True)
class RunPlan:
    """What is to be done: everything a worker needs besides the model. ``name_key`` is the secret
    that names are hashed with (see ``privacy.name_key``); it is neither shown nor written."""

    destination: Path
    fingerprint: str
    source: Source
    partitions: tuple[Partition, ...]
    model: dict[str, str]
    options: dict[str, Any]
    name_key: bytes = field(default=b"", repr=False)

    @property
    def staging(self) -> Path:
        """Folder of the unfinished run."""
        return staging_folder(self.destination, self.fingerprint)


def fingerprint(files: Sequence[InputFile], model_digest: str, options: Mapping[str, Any]) -> str:
    """Return the SHA-256 that decides whether two runs are the same work. File names count, their
    folders and times do not."""
    content = {
        "charrnn": charrnn.__version__,
        "schema_version": SCHEMA_VERSION,
        "inputs": [[file.path.name, file.size, file.sha256] for file in files],
        "model": model_digest,
        "options": dict(sorted(options.items())),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def staging_folder(destination: Path, digest: str) -> Path:
    """Return where the parts of an unfinished run lie."""
    return destination / f".staging-{digest[:16]}"
