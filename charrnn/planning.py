"""Plan a scoring run: everything that can be refused is refused here, before any name is scored."""

from __future__ import annotations

__all__ = ["destination_of", "plan_run"]

from pathlib import Path

from charrnn.errors import ConfigError, DataError
from charrnn.files import remove_tree
from charrnn.runs import RunPlan, fingerprint, staging_folder
from charrnn.scoring import ScoreOptions
from charrnn.tables import (
    check_name_column,
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
    discover(source)
    default = Path("outputs/predictions") / source_name(source)
    if output.endswith((".parquet", ".csv")):
        return default, Path(output)
    return (Path(output) if output else default), None


def plan_run(
    source: str,
    destination: Path,
    version: ModelVersion,
    options: ScoreOptions,
    *,
    partition_rows: int,
    multiline: bool = False,
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
    wanted = {**options.to_json(), "partition_rows": partition_rows}
    digest = fingerprint(files, version.digest, wanted)
    staging = staging_folder(destination, digest)
    for left_over in destination.glob(".staging-*"):
        if left_over != staging:
            remove_tree(left_over)
    opened = open_source(files, staging, partition_rows=partition_rows, multiline=multiline)
    check_name_column(opened.schema, options.name_column)
    clashes = [c for c in options.columns(version.labels) if c in opened.schema.names]
    if clashes:
        raise DataError(
            f"the input already has column {', '.join(map(repr, clashes))}, which scoring would "
            "add; give --prefix, such as --prefix charrnn_"
        )
    return RunPlan(
        destination=destination,
        fingerprint=digest,
        source=opened,
        partitions=tuple(cut(opened, partition_rows)),
        model={"name": version.name, "digest": version.digest},
        options=wanted,
    )
