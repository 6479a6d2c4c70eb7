"""What it takes to ingest labelled rows: CPU seconds and peak memory of the whole command.

Rows are made up (``labelled_names``, 100 labels, nearly all names different). Bars, for 10 million
rows: Parquet 60 CPU seconds, CSV 90, both 1 GB.

    python tests/bench/ingest.py --page docs/performance.md
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import common
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from labelled_names import PART, LabelledNames

LABELS = 100
BARS = {"parquet": 60, "csv": 90}  # CPU seconds, for 10 million rows


def write(path: Path, names: LabelledNames, rows: int, kind: str) -> None:
    """Write a labelled table, a part at a time."""
    labels = np.array(names.label_names)
    schema = pa.schema([("surname", pa.large_string()), ("label", pa.string())])
    writer = pq.ParquetWriter if kind == "parquet" else pacsv.CSVWriter
    with writer(path, schema) as file:
        for first in range(0, rows, PART):
            texts, ids = names.rows(first, min(PART, rows - first))
            file.write_table(pa.table([texts, pa.array(labels[ids])], schema=schema))


def measure(source: Path, target: Path) -> tuple[float, float]:
    """Ingest a table in a process of its own; return CPU seconds and peak GB."""
    arguments = [sys.executable, "-m", "charrnn.cli", "ingest", str(source), "--name-column",
                 "surname", "--label-column", "label", "--target", str(target)]  # fmt: skip
    process = os.posix_spawn(sys.executable, arguments, dict(os.environ))
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"ingest of {source} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--page", type=Path, help="a Markdown page that gets the figures")
    arguments = parser.parse_args()
    lines = [
        "## Ingest of labelled rows",
        "",
        f"{arguments.rows:,} rows, {LABELS} labels, nearly all names different, by "
        f"`{common.command('ingest.py', parser, arguments)}`.",
        "",
        "| table | CPU s (bar) | peak GB (bar) |",
        "|---|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for kind, bar in BARS.items():
            source = Path(folder) / f"people.{kind}"
            write(source, LabelledNames(LABELS), arguments.rows, kind)
            cpu, memory = measure(source, Path(folder) / f"{kind}.parquet")
            lines.append(f"| {kind} | {cpu:.1f} ({bar}) | {memory:.2f} (1) |")
            print(lines[-1], flush=True)
            source.unlink()
    lines += ["", common.circumstances("pyarrow", "polars")]
    print("\n".join(lines))
    if arguments.page:
        common.write_section(arguments.page, "ingest", lines)


if __name__ == "__main__":
    main()
