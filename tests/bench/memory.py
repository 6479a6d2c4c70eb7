"""Measure the peak memory of scoring tables that take much of it, and put it on a page.

    python tests/bench/memory.py                       # all cases, a few minutes
    python tests/bench/memory.py --only "200 columns"

Memory is the peak above the imported libraries, of a run with as many workers as there are cores.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import common
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from growth import MEMORY_BAR, random_version

TINY = "pretrained-tiny"


def wide(columns: int, rows: int, path: Path) -> None:
    """So many columns of numbers, in one row group."""
    numbers = pa.array(np.arange(rows) % 9973 / 7)
    names = common.Customers(rows)(0, rows).to_arrow()
    table = pa.table({"name": names} | {f"c{i}": numbers for i in range(columns)})
    pq.write_table(table, path / "wide.parquet", row_group_size=rows)


def one_group(rows: int, path: Path) -> None:
    """One row group."""
    common.write_table(path / "parts.parquet", rows, common.Customers(rows))
    table = pq.read_table(path / "parts.parquet")
    (path / "parts.parquet").unlink()
    pq.write_table(table, path / "one.parquet", row_group_size=rows)


def large_cells(rows: int, path: Path) -> None:
    """A text of 1 MB in every row, 64 rows a page: pages of half a gigabyte are refused."""
    draw = np.random.default_rng(0)
    notes = [draw.bytes(2000).hex() * 250 for _ in range(rows)]
    names = common.Customers(rows)(0, rows).to_arrow()
    table = pa.table({"name": names, "note": pa.array(notes, pa.large_string())})
    pq.write_table(
        table, path / "cells.parquet", compression="zstd", use_dictionary=["name"],
        row_group_size=rows, write_batch_size=64,
    )  # fmt: skip


def files(count: int, rows: int, path: Path) -> None:
    """So many files."""
    names = common.Customers(count * rows)
    for i in range(count):
        common.write_table(path / f"{i:05d}.parquet", rows, names, first=i * rows)


def customers(rows: int, path: Path) -> None:
    """Names of customers, row groups as Polars writes them."""
    common.write_table(path / "customers.parquet", rows, common.Customers(rows))


CASES: dict[str, tuple[Callable[[Path], None], int]] = {
    "200 columns, 1,000,000 rows in one row group": (lambda path: wide(200, 10**6, path), 0),
    "2,000 columns, 100,000 rows in one row group": (lambda path: wide(2000, 10**5, path), 0),
    "20,000,000 rows in one row group": (lambda path: one_group(20 * 10**6, path), 0),
    "1,000 rows, each with a cell of 1 MB": (lambda path: large_cells(1000, path), 0),
    "10,000 files of 100 rows": (lambda path: files(10_000, 100, path), 0),
    "1,000 labels, 1,000,000 rows": (lambda path: customers(10**6, path), 1000),
}  # what writes the table, and labels of a default network with random weights; 0: tiny


def measured(only: str) -> Iterator[str]:
    """Yield a line of Markdown for each case."""
    for case, (_, labels) in CASES.items():
        if only not in case:
            continue
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            (work / "in").mkdir()
            write = [sys.executable, __file__, "--write", case, str(work / "in")]
            subprocess.run(write, check=True)  # on its own, so that its memory is not counted
            model = random_version(labels, work / "models") if labels else TINY
            size = sum(path.stat().st_size for path in (work / "in").iterdir())
            cost = common.in_own_process(
                "common.py", work / "in", work / "runs", "--model", model, "--models",
                work / "models",
            )  # fmt: skip
        met = "met" if cost.memory <= MEMORY_BAR else "**missed**"
        yield (
            f"| {case} | {size / 1e6:,.0f} | {cost.seconds:.1f} | {cost.cpu:.1f} | "
            f"{cost.memory:,.0f} | {met} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="WORDS", help="cases with WORDS")
    parser.add_argument("--write", nargs=2, metavar=("CASE", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--page", default="docs/performance.md", help="the page that gets the table"
    )
    arguments = parser.parse_args()
    if arguments.write:
        case, folder = arguments.write
        return CASES[case][0](Path(folder))
    lines = [
        "## Memory",
        "",
        "By `python tests/bench/memory.py`: peak above the imported libraries, `pretrained-tiny` "
        f"except where labels are given; the bar is {MEMORY_BAR:,} MB.",
        "",
        "| table | file, MB | s | CPU s | peak MB | bar |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for line in measured(arguments.only):
        print(line, flush=True)
        lines.append(line)
    lines += ["", common.circumstances("torch", "pyarrow", "polars")]
    if not arguments.only:
        common.write_section(Path(arguments.page), "memory", lines)


if __name__ == "__main__":
    main()
