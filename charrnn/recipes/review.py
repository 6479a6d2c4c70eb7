"""Write names of a run for a person to look at, and read the labels back as a labelled table."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from charrnn.files import write_parquet
from charrnn.recipes.requests import ReviewRequest
from charrnn.recipes.runs import run_asked
from charrnn.runs.export import csv_column, escape_formulas, writing_csv
from charrnn.runs.folders import destination_of_run
from charrnn.runs.manifest import read_run
from charrnn.runs.review import NAMES, OURS, REASONS, names_to_review, reviewed_labels
from charrnn.tables.discovery import discover
from charrnn.tables.source import fingerprint, open_source
from charrnn.training.labelled import CHUNK_ROWS


@dataclass(frozen=True)
class Reviewed:
    """A file of names to look at with the number of names by reason, or a labelled table (without
    reasons); ``columns`` are its columns."""

    path: Path
    names: int
    reasons: dict[str, int]
    columns: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the lines about the file; no name is in them."""
        if self.reasons:
            counts = ", ".join(f"{n:,} {reason}" for reason, n in self.reasons.items())
            return [
                f"names       {self.names:,} ({counts})",
                f"file        {self.path}",
                f"next        fill in the column {self.columns[-1]}, then: charrnn review --apply "
                f"{self.path}",
            ]
        label = next(c for c in self.columns if c not in {*NAMES.values(), *OURS})
        asked = f"--label-column {label}"
        name = next(c for c in NAMES.values() if c in self.columns)
        return [
            f"labels      {self.names:,} names",
            f"file        {self.path}",
            f"next        charrnn evaluate MODEL --on {self.path} {asked}",
            f"            charrnn ingest SOURCE {self.path} --name-column {name} {asked}"
            + (" --weight-column rows" if "rows" in self.columns else ""),
        ]


def review(request: ReviewRequest) -> Reviewed:
    """Write the names of a run that a person should look at, or the labels of a filled in file.

    Raises:
        InputMissingError, DataError: there is no such run or file, it is damaged, has no names, or
            no label was filled in.
    """
    return apply(request, request.apply) if request.apply else select(request)


def select(request: ReviewRequest) -> Reviewed:
    """Write the names to look at as CSV; cells that a spreadsheet would run get an apostrophe."""
    run = run_asked(request.run or Path()).resolve()
    found = names_to_review(run, read_run(run), request.rows)
    table = found.to_arrow()
    table = pa.table([csv_column(column) for column in table.columns], table.column_names)
    table, _ = escape_formulas(table)
    path = request.output / f"{destination_of_run(run).name or 'run'}.csv"
    with writing_csv(path, table.schema) as writer:
        writer.write_table(table)
    named = {r: int(found["reasons"].str.contains(r, literal=True).sum()) for r in REASONS}
    counts = {reason: n for reason, n in named.items() if n}
    return Reviewed(path, found.height, counts, tuple(found.columns))


def apply(request: ReviewRequest, filled: Path) -> Reviewed:
    """Write the rows of a filled in file that have a label as a labelled table."""
    with tempfile.TemporaryDirectory() as staging:
        files = fingerprint(discover(str(filled)))
        source = open_source(files, Path(staging), partition_rows=CHUNK_ROWS, csv=request.csv)
        labels = reviewed_labels(source, str(filled))
    path = request.output / f"{filled.name.split('.')[0]}.labels.parquet"
    write_parquet(path, labels)
    return Reviewed(path, labels.num_rows, {}, tuple(labels.column_names))
