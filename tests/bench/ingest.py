"""What it takes to ingest labelled rows: CPU seconds and peak memory of the whole command.

Rows are made up (``labelled_names``, 100 labels), so most names are different ones; a second table
repeats names as customers do. Bars, for 10 million rows: Parquet 60 CPU seconds and 1 GB, CSV 90.

    python tests/bench/ingest.py --rows 10_000_000 --page docs/plans/ingest.md
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
BARS = {"parquet": (60, 1.0), "csv": (90, 1.0)}  # CPU seconds, GB


def write(path: Path, rows: int, kind: str, repeats: bool) -> None:
    """Write a labelled table, a part at a time."""
    names = LabelledNames(LABELS)
    labels = np.array(names.label_names)
    schema = pa.schema([("surname", pa.large_string()), ("label", pa.string())])
    writer = pq.ParquetWriter if kind == "parquet" else pacsv.CSVWriter
    with writer(path, schema) as file:
        for first in range(0, rows, PART):
            count = min(PART, rows - first)
            texts, ids = names.rows(first % (PART * 8) if repeats else first, count)
            file.write_table(pa.table([texts, pa.array(labels[ids])], schema=schema))


def measure(source: Path, target: Path) -> tuple[float, float, float]:
    """Ingest a table in a process of its own; return CPU seconds, seconds and peak GB."""
    started = common.time.perf_counter()
    arguments = [sys.executable, "-m", "charrnn.cli", "ingest", str(source), "--name-column",
                 "surname", "--label-column", "label", "--target", str(target)]  # fmt: skip
    process = os.posix_spawn(sys.executable, arguments, dict(os.environ))
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"ingest of {source} failed")
    seconds = common.time.perf_counter() - started
    return usage.ru_utime + usage.ru_stime, seconds, usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--page", type=Path, help="where the figures are written as Markdown")
    arguments = parser.parse_args()
    lines = [
        f"# Ingest of {arguments.rows:,} labelled rows",
        "",
        "| table | CPU s | s | peak GB |",
        "|---|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for kind in BARS:
            for repeats in (False, True):
                source = Path(folder) / f"people.{kind}"
                write(source, arguments.rows, kind, repeats)
                cpu, seconds, memory = measure(source, Path(folder) / "names.parquet")
                title = f"{kind}, {'2,097,152 rows again and again' if repeats else 'no repeats'}"
                lines.append(f"| {title} | {cpu:.1f} | {seconds:.1f} | {memory:.2f} |")
                print(lines[-1], flush=True)
                source.unlink()
    lines += ["", *common.machine_lines()] if hasattr(common, "machine_lines") else []
    if arguments.page:
        arguments.page.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
