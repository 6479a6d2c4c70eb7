"""Score a made-up table as a user would, in a process of its own; print rows/s and peak memory.

    python tests/bench/end_to_end.py --rows 1000000
    python tests/bench/end_to_end.py --rows 1000000 --unique --model pretrained

The names are invented from syllables. ``--unique`` makes (nearly) every name different; otherwise
they follow a Zipf law (exponent 1.1), as a table of customers does. With ``--invariance`` the table
is scored again in another order, batch size and partition size, and compared row by row.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--unique", action="store_true")
    parser.add_argument("--model", default="pretrained")
    parser.add_argument("--invariance", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "names.parquet"
        table = pl.DataFrame({"id": np.arange(arguments.rows)}).with_columns(
            invented_names(arguments.rows, unique=arguments.unique)
        )
        table.write_parquet(source)
        published, seconds, memory = run(source, arguments.model)
        inside = json.loads((published / "manifest.json").read_text())["seconds"]
        print(
            f"{platform.machine()}, {os.cpu_count()} cores; model {arguments.model}; "
            f"{arguments.rows:,} rows, {table['name'].n_unique():,} distinct names\n"
            f"whole command {seconds:.2f} s, {arguments.rows / seconds:,.0f} rows/s; "
            f"without start-up {inside:.2f} s, {arguments.rows / inside:,.0f} rows/s; "
            f"peak memory {memory:,.0f} MB"
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
