"""Score a made-up table as a user would, in a process of its own; print rows/s and peak memory.

    python tests/bench/end_to_end.py --rows 1000000
    python tests/bench/end_to_end.py --rows 1000000 --unique --model pretrained

The names are invented from syllables. ``--unique`` makes (nearly) every name different; otherwise
they follow a Zipf law (exponent 1.1), as a table of customers does. With ``--invariance`` the table
is scored again in another order, batch size and partition size, and compared row by row. With
``--floor`` the time is set against the copy floor: reading the input and writing a table with the
same columns as the result, part by part with the same settings and as many workers, but no model.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent.parent
SYLLABLES = [
    onset + rest
    for onset in ("b", "br", "d", "f", "g", "h", "k", "kr", "l", "m", "n", "p", "r", "s", "sch",
                  "t", "tr", "v", "w", "z")
    for rest in ("a", "e", "i", "o", "u", "an", "er", "ov", "in", "os", "ell", "ach", "im")
]  # fmt: skip


def invented_names(rows: int, *, unique: bool, seed: int = 0) -> pl.Series:
    """Return ``rows`` names of two to four syllables, capitalised."""
    draw = np.random.default_rng(seed)
    distinct = rows if unique else max(1000, rows // 5)
    count = draw.integers(2, 5, distinct)
    picked = draw.integers(0, len(SYLLABLES), (distinct, 4))
    syllables = pl.Series(SYLLABLES)
    parts = [
        pl.when(pl.Series(count) > i).then(syllables.gather(picked[:, i])).otherwise(pl.lit(""))
        for i in range(4)
    ]
    names = pl.select(pl.concat_str(parts).str.to_titlecase()).to_series()
    if unique:
        return names.rename("name")
    ranks = np.minimum(draw.zipf(1.1, rows) - 1, distinct - 1)
    return names.gather(ranks).rename("name")


def run(source: Path, model: str, *options: str) -> tuple[Path, float, float]:
    """Score ``source`` and return the run's folder, wall seconds and peak memory in MB."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "flows/score.py"), str(source), "--model", model, "--force",
         "--output", str(source.parent / "runs"), *options],
        check=True, capture_output=True, cwd=source.parent,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    # ru_maxrss is the largest child so far, in KB on Linux.
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return (source.parent / "runs/latest").resolve(), seconds, memory


def copy_floor(source: Path, published: Path) -> float:
    """Return the seconds that reading ``source`` and writing the rows of ``published`` take; the
    answers are read from the run beforehand, outside the time."""
    parts = json.loads((published / "manifest.json").read_text())["parts"]
    target = source.parent / "floor"
    target.mkdir(exist_ok=True)

    def prepare(part: dict[str, Any]) -> pa.Table:
        return pq.read_table(published / part["name"])

    def copy(part: dict[str, Any], answers: pa.Table) -> None:
        reader = pq.ParquetFile(source, page_checksum_verification=True)
        groups, start = [], 0
        for g in range(reader.metadata.num_row_groups):
            if part["first_row"] <= start < part["first_row"] + part["rows"]:
                groups.append(g)
            start += reader.metadata.row_group(g).num_rows
        table = reader.read_row_groups(groups, use_threads=False)
        for name in answers.column_names[len(table.column_names) :]:
            table = table.append_column(name, answers[name])
        floats = [f.name for f in table.schema if pa.types.is_float32(f.type)]
        pq.write_table(
            table, target / part["name"], compression="zstd", compression_level=1,
            write_page_checksum=True, use_byte_stream_split=floats,
            use_dictionary=[n for n in table.column_names if n not in floats],
        )  # fmt: skip

    seconds, workers = 0.0, min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(parts), workers):
            some = parts[first : first + workers]
            prepared = list(pool.map(prepare, some))
            started = time.perf_counter()
            list(pool.map(copy, some, prepared))
            seconds += time.perf_counter() - started
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--unique", action="store_true")
    parser.add_argument("--model", default="pretrained")
    parser.add_argument("--invariance", action="store_true")
    parser.add_argument("--floor", action="store_true")
    parser.add_argument("--repeat", type=int, default=1, help="runs; medians are printed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "names.parquet"
        table = pl.DataFrame({"id": np.arange(arguments.rows)}).with_columns(
            invented_names(arguments.rows, unique=arguments.unique)
        )
        table.write_parquet(source)
        walls, insides, floors, memory = [], [], [], 0.0
        for _ in range(arguments.repeat):
            published, wall, memory = run(source, arguments.model)
            walls.append(wall)
            insides.append(json.loads((published / "manifest.json").read_text())["seconds"])
            if arguments.floor:
                floors.append(copy_floor(source, published))
        seconds, inside = statistics.median(walls), statistics.median(insides)
        print(
            f"{platform.machine()}, {os.cpu_count()} cores; model {arguments.model}; "
            f"{arguments.rows:,} rows, {table['name'].n_unique():,} distinct names\n"
            f"whole command {seconds:.2f} s, {arguments.rows / seconds:,.0f} rows/s; "
            f"without start-up {inside:.2f} s, {arguments.rows / inside:,.0f} rows/s; "
            f"peak memory {memory:,.0f} MB"
        )
        if arguments.floor:
            floor = statistics.median(floors)
            print(
                f"copy floor {floor:.2f} s; scoring takes {inside / floor:.2f} times that without "
                f"start-up, {seconds / floor:.2f} times with it (medians of {arguments.repeat})"
            )
        if arguments.invariance:
            compare(table, published, Path(folder), arguments.model)


def compare(table: pl.DataFrame, published: Path, folder: Path, model: str) -> None:
    """Score the same rows shuffled, in other batches and partitions, and compare."""
    shuffled = folder / "shuffled.parquet"
    table.sample(fraction=1, shuffle=True, seed=1).write_parquet(shuffled, row_group_size=50_000)
    other, _, _ = run(shuffled, model, "--batch-size", "333", "--partition-rows", "100000")
    columns = ["id", "name", "language", "confidence", "status"]
    text = pl.col("language").cast(pl.String)
    one, two = (
        pl.read_parquet(run_ / "part-*.parquet", columns=columns).with_columns(text).sort("id")
        for run_ in (published, other)
    )
    assert one["id"].equals(two["id"])
    assert one["name"].equals(two["name"])
    assert one["status"].cast(pl.String).equals(two["status"].cast(pl.String))
    changed = (one["language"] != two["language"]).sum()
    distance = (one["confidence"] - two["confidence"]).abs().max()
    print(
        f"shuffled, batches of 333, {len(list(other.glob('part-*')))} parts instead of "
        f"{len(list(published.glob('part-*')))}: {changed} labels differ, largest difference of "
        f"confidence {distance:.1e}"
    )


if __name__ == "__main__":
    main()
