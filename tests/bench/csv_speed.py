"""Time the staging of CSV against PyArrow's own CSV reader, in this process, on the same file.

    taskset -c 0 python tests/bench/csv_speed.py
    python tests/bench/csv_speed.py --rows 5000000 --repeat 7

Three invented tables: two narrow columns, six columns, and the same six with every text quoted.
All readers give every column as text. "parquet" parses and writes the same Parquet file as staging
does, but proves nothing: what is left between it and "stage" is the price of the proof. Rounds go
over all of them in turn, so that a busy machine slows all; medians of wall and processor time.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from end_to_end import invented_names

from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.csv_staging import stage_csv


def tables(rows: int) -> dict[str, tuple[pl.DataFrame, str]]:
    """Return invented tables and how Polars quotes them."""
    draw = np.random.default_rng(1)
    narrow = pl.DataFrame({"id": np.arange(rows)}).with_columns(invented_names(rows, unique=False))
    wide = narrow.with_columns(
        pl.Series("country", draw.choice(["DE", "FR", "PL", "US"], rows)),
        pl.format("{}@example.org", "id").alias("mail"),
        pl.Series("amount", draw.random(rows)),
        pl.lit("2026-11-24").alias("date"),
    )
    return {
        "narrow": (narrow, "necessary"), "wide": (wide, "necessary"), "quoted": (wide, "always"),
    }  # fmt: skip


def options(path: Path) -> pacsv.ConvertOptions:
    with path.open() as file:
        columns = file.readline().strip().replace('"', "").split(",")
    return pacsv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()))


def read(path: Path, _: Path) -> None:
    pacsv.read_csv(path, convert_options=options(path))


def drain(path: Path, _: Path) -> None:
    for _batch in pacsv.open_csv(path, convert_options=options(path)):
        pass


def parquet(path: Path, target: Path) -> None:
    reader = pacsv.open_csv(
        path, pacsv.ReadOptions(block_size=4 * 2**20), convert_options=options(path)
    )
    with pq.ParquetWriter(
        target, reader.schema, compression="none", use_dictionary=False, write_statistics=False,
        write_page_checksum=True,
    ) as writer:  # fmt: skip
        for batch in reader:
            writer.write_batch(batch)


def stage(path: Path, target: Path) -> None:
    stage_csv(path, target, csv=CsvFormat())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    contenders: list[Callable[[Path, Path], None]] = [read, drain, parquet, stage]
    cores = len(os.sched_getaffinity(0))
    pa.set_cpu_count(cores)
    print(f"{platform.machine()}, {cores} core(s), load {os.getloadavg()[0]:.1f}; "
          f"medians of {arguments.repeat}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for name, (table, quoting) in tables(arguments.rows).items():
            path, target = Path(folder) / f"{name}.csv", Path(folder) / "staged.parquet"
            table.write_csv(path, quote_style=quoting)  # type: ignore[arg-type]
            size = path.stat().st_size / 1e6
            walls: dict[str, list[float]] = {c.__name__: [] for c in contenders}
            works: dict[str, list[float]] = {c.__name__: [] for c in contenders}
            for _ in range(arguments.repeat):
                for contender in contenders:
                    wall, work = time.perf_counter(), time.process_time()
                    contender(path, target)
                    walls[contender.__name__].append(time.perf_counter() - wall)
                    works[contender.__name__].append(time.process_time() - work)
            print(f"{name}, {size:.0f} MB")
            for contender_name in walls:
                wall, work = (statistics.median(t[contender_name]) for t in (walls, works))
                shares = [statistics.median(t["read"]) / statistics.median(t[contender_name])
                          for t in (walls, works)]  # fmt: skip
                print(f"  {contender_name:8} {wall:6.3f} s {size / wall:5.0f} MB/s, processor "
                      f"{work:6.3f} s; {shares[0]:.0%} of read's speed, {shares[1]:.0%} by "
                      "processor time")  # fmt: skip


if __name__ == "__main__":
    main()
