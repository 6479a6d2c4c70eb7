"""Plan a scoring run: everything that can be refused is refused here, before any name is scored."""

from __future__ import annotations

__all__ = ["destination_of", "plan_run", "sample_names"]

from pathlib import Path

import numpy as np
import pyarrow as pa

from charrnn.answers import ScoreOptions
from charrnn.errors import ConfigError
from charrnn.files import remove_tree
from charrnn.runs import RunPlan, fingerprint, staging_folder
from charrnn.staging import open_parquet
from charrnn.tables import (
    CsvFormat,
    Source,
    as_large_string,
    check_name_column,
    check_no_clash,
    cut,
    discover,
    fingerprint_files,
    open_source,
    source_name,
)
from charrnn.versions import ModelVersion


def destination_of(source: str, output: str) -> tuple[Path, Path | None]:
    """Return the folder for the runs, and the single file to export to, if ``output`` is one.

    Raises:
        CharrnnError: ``source`` names nothing that can be read; so no folder is made for it.
    """
    paths = discover(source)
    default = Path("outputs/predictions") / source_name(source)
    if output.endswith((".parquet", ".csv")):
        target = Path(output)
        if target.exists() and any(target.samefile(path) for path in paths):
            raise ConfigError(f"{target} is an input; give -o another file")
        return default, target
    return (Path(output) if output else default), None


def plan_run(
    source: str,
    destination: Path,
    version: ModelVersion,
    options: ScoreOptions,
    *,
    partition_rows: int,
    csv: CsvFormat | None = None,
    max_rejected: int | float = 0,
) -> RunPlan:
    """Fingerprint and stage the input, check its columns and cut it into partitions.

    Staging folders of other fingerprints are left-overs of runs that will not go on; the caller
    holds the destination's lock, so they are removed.

    Raises:
        CharrnnError: the input is missing, damaged, or has no usable name column; an added column
            would overwrite an input column.
    """
    if partition_rows < 1:
        raise ConfigError(f"partition rows are {partition_rows}; expected at least 1")
    files = fingerprint_files(discover(source))
    form = csv or CsvFormat()
    wanted = {**options.to_json(), "partition_rows": partition_rows, "csv": form.to_json()}
    digest = fingerprint(files, version.digest, wanted)
    staging = staging_folder(destination, digest)
    for left_over in destination.glob(".staging-*"):
        if left_over != staging:
            remove_tree(left_over)
    opened = open_source(
        files, staging, partition_rows=partition_rows, csv=form, max_rejected=max_rejected
    )
    check_name_column(opened.schema, options.name_column)
    check_no_clash(opened.schema, options.columns(version.labels))
    return RunPlan(
        destination=destination,
        fingerprint=digest,
        source=opened,
        partitions=tuple(cut(opened, partition_rows)),
        model={"name": version.name, "digest": version.digest},
        options=wanted,
    )


def sample_names(source: Source, column: str, limit: int = 200_000) -> pa.ChunkedArray:
    """Return the names of every k-th row of the whole input, at most ``limit`` of them: enough to
    estimate label shares from, the same for the same input."""
    step = max(1, -(-source.rows // limit))
    chunks: list[pa.Array] = []
    skip = 0  # rows before the next one that is taken
    for path in source.parquet:
        with open_parquet(path) as reader:
            for batch in reader.iter_batches(columns=[column], batch_size=2**17):
                taken = np.arange(skip, batch.num_rows, step)
                chunks.append(as_large_string(batch.column(0)).take(pa.array(taken)))
                skip = (skip - batch.num_rows) % step
    return pa.chunked_array(chunks, pa.large_string())
