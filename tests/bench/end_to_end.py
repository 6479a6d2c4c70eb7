"""Score a made-up table as a user would, in a process of its own; print figures against the bars.

    python tests/bench/end_to_end.py --rows 10000000 --model pretrained-tiny --floor --csv
    python tests/bench/end_to_end.py --rows 1000000 --unique --invariance
    python tests/bench/end_to_end.py --startup

The names are invented from syllables. ``--unique`` makes (nearly) every name different; otherwise
they follow a Zipf law (exponent 1.1), as a table of customers does. With ``--invariance`` the table
is scored again in another order, batch size and partition size, and compared row by row. With
``--floor`` the time is set against the copy floor: reading the input and writing a table with the
same columns as the result, part by part with the same settings and as many workers, but no model.
With ``--csv`` the same table is scored from a CSV file as well. ``--startup`` scores 1,000 names in
a fresh process and lists where the time goes. Every figure is a median of ``--repeat`` runs; CPU
seconds are those of all threads, and suffer less from neighbours on the machine than the clock.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from charrnn.runs.parts import parquet_options

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


class Timed(NamedTuple):
    """One run: its folder, seconds of the whole command by the clock and of CPU, seconds by the
    clock without start-up, and the largest memory of any run so far in MB."""

    folder: Path
    wall: float
    cpu: float
    inside: float
    memory: float


def run(source: Path, model: str, *options: str) -> Timed:
    """Score ``source``, and time it."""
    before, started = children(), time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "flows/score.py"), str(source), "--model", model, "--force",
         "--output", str(source.parent / "runs"), *options],
        check=True, capture_output=True, cwd=source.parent,
    )  # fmt: skip
    wall, after = time.perf_counter() - started, children()
    folder = (source.parent / "runs/latest").resolve()
    inside = json.loads((folder / "manifest.json").read_text())["seconds"]
    # ru_maxrss is the largest child so far, in KB on Linux.
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Timed(folder, wall, after - before, inside, memory)


def children() -> float:
    """CPU seconds of all finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def copy_floor(source: Path, published: Path) -> tuple[float, float]:
    """Return the seconds, by the clock and of CPU, that reading ``source`` and writing the rows of
    ``published`` take; the answers are read from the run beforehand, outside the time."""
    parts = json.loads((published / "manifest.json").read_text())["parts"]
    target = source.parent / "floor"
    (target / "rows").mkdir(parents=True, exist_ok=True)

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
        given = table.column_names
        for name in answers.column_names[len(given) :]:
            table = table.append_column(name, answers[name])
        pq.write_table(table, target / part["name"], **parquet_options(table, given))

    wall, cpu, workers = 0.0, 0.0, min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(parts), workers):
            some = parts[first : first + workers]
            prepared = list(pool.map(prepare, some))
            started, used = time.perf_counter(), time.process_time()
            list(pool.map(copy, some, prepared))
            wall += time.perf_counter() - started
            cpu += time.process_time() - used
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--unique", action="store_true")
    parser.add_argument("--model", default="pretrained")
    parser.add_argument("--invariance", action="store_true")
    parser.add_argument("--floor", action="store_true")
    parser.add_argument("--csv", action="store_true")
    parser.add_argument("--startup", action="store_true", help="only this")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    arguments = parser.parse_args()
    print(f"{arguments.date}, {machine()}; medians of {arguments.repeat} runs\n")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.startup:
            print_startup(Path(folder), arguments.model, arguments.repeat)
        else:
            print_runs(Path(folder), arguments)


def print_runs(folder: Path, arguments: argparse.Namespace) -> None:
    imported = bare_memory()  # first: a child's maximum counts what its parent had as it started
    table = pl.DataFrame({"id": np.arange(arguments.rows)}).with_columns(
        invented_names(arguments.rows, unique=arguments.unique)
    )
    source = folder / "names.parquet"
    table.write_parquet(source)
    print(
        f"model {arguments.model}, {arguments.rows:,} rows, {table['name'].n_unique():,} distinct "
        "names\n\n| what | seconds | CPU seconds | rows/s | bar |\n|---|---:|---:|---:|---|"
    )
    single = folder / "single.parquet"
    table.head(1).write_parquet(single)
    start_up = median(run(single, arguments.model).cpu for _ in range(arguments.repeat))
    runs = [run(source, arguments.model) for _ in range(arguments.repeat)]
    wall, cpu, inside = (median(times) for times in list(zip(*runs, strict=True))[1:4])
    inside_cpu = cpu - start_up
    print(f"| whole command | {wall:.2f} | {cpu:.2f} | {arguments.rows / wall:,.0f} | |")
    print(
        f"| without start-up | {inside:.2f} | {inside_cpu:.2f} | {arguments.rows / inside:,.0f} | |"
    )
    if arguments.floor:
        floors = [copy_floor(source, runs[-1].folder) for _ in range(arguments.repeat)]
        floor, floor_cpu = map(median, zip(*floors, strict=True))
        most = 3 if "tiny" in arguments.model else 15
        print(f"| copy floor | {floor:.2f} | {floor_cpu:.2f} | {arguments.rows / floor:,.0f} | |")
        print(
            f"| scoring / floor | {inside / floor:.2f} × | {inside_cpu / floor_cpu:.2f} × | | "
            f"≤ {most} ×: {verdict(inside / floor <= most)} |"
        )
    if arguments.csv:
        table.write_csv(folder / "names.csv")
        texts = [run(folder / "names.csv", arguments.model) for _ in range(arguments.repeat)]
        text, text_cpu = median(t.wall for t in texts), median(t.cpu for t in texts)
        print(f"| from CSV | {text:.2f} | {text_cpu:.2f} | {arguments.rows / text:,.0f} | |")
        print(
            f"| from CSV / from Parquet | {text / wall:.2f} × | {text_cpu / cpu:.2f} × | | "
            f"≤ 1.3 ×: {verdict(text / wall <= 1.3)} |"
        )
    above = runs[-1].memory - imported
    print(
        f"\npeak memory {runs[-1].memory:,.0f} MB, {above:,.0f} MB above the imported libraries "
        f"(bar ≤ 1,500 MB: {verdict(above <= 1500)})"
    )
    if arguments.invariance:
        compare(table, runs[-1].folder, folder, arguments.model)


STARTUP = """
import json, sys, time
def now():
    return time.perf_counter(), time.process_time()
began, laps = now(), {}
def lap(what):
    global began
    laps[what] = [after - before for after, before in zip(now(), began)]
    began = now()
import torch; lap("import torch")
import pyarrow.parquet; lap("import pyarrow")
import polars; lap("import polars")
import charrnn.recipes.score, charrnn.scoring.scorer; lap("import charrnn")
scorer = charrnn.scoring.scorer.Scorer.load(sys.argv[2], models="outputs/models")
lap("load the model, digests checked")
table = pyarrow.parquet.read_table(sys.argv[1]); lap("read 1,000 names")
scorer.score_table(table); lap("score them, first batch")
scorer.score_table(table); lap("score them again")
print(json.dumps(laps))
"""


def print_startup(folder: Path, model: str, repeat: int) -> None:
    source = folder / "names.parquet"
    invented_names(1000, unique=True).to_frame().write_parquet(source)
    command = [sys.executable, "-c", STARTUP, str(source), model]
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True, cwd=ROOT).stdout)
        for _ in range(repeat)
    ]
    runs = [run(source, model) for _ in range(repeat)]
    wall, cpu = median(r.wall for r in runs), median(r.cpu for r in runs)
    print("| step | seconds | CPU seconds |\n|---|---:|---:|")
    for what in found[0]:
        by_clock, of_cpu = (median(times) for times in zip(*(f[what] for f in found), strict=True))
        print(f"| {what} | {by_clock:.2f} | {of_cpu:.2f} |")
    print(
        f"\n1,000 names cold, whole command: {wall:.2f} s, {cpu:.2f} s of CPU "
        f"(bar ≤ 5 s: {verdict(wall <= 5)})"
    )


def bare_memory() -> float:
    """Return the memory of a process that only imports the libraries, in MB."""
    code = (
        "import resource, torch, polars, pyarrow.parquet, pyarrow.compute\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, check=True, capture_output=True).stdout)


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def machine() -> str:
    """Return the processor and how many cores of it this process may use."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{models[0] if models else platform.machine()}, {usable} cores{load}"


def compare(table: pl.DataFrame, published: Path, folder: Path, model: str) -> None:
    """Score the same rows shuffled, in other batches and partitions, and compare."""
    shuffled = folder / "shuffled.parquet"
    table.sample(fraction=1, shuffle=True, seed=1).write_parquet(shuffled, row_group_size=50_000)
    other = run(shuffled, model, "--batch-size", "333", "--partition-rows", "100000").folder
    columns = ["id", "name", "language", "confidence", "status"]
    text = pl.col("language").cast(pl.String)
    one, two = (
        pl.read_parquet(run_ / "rows", columns=columns).with_columns(text).sort("id")
        for run_ in (published, other)
    )
    assert one["id"].equals(two["id"])
    assert one["name"].equals(two["name"])
    assert one["status"].cast(pl.String).equals(two["status"].cast(pl.String))
    changed = (one["language"] != two["language"]).sum()
    distance = (one["confidence"] - two["confidence"]).abs().max()
    print(
        f"shuffled, batches of 333, {len(list(other.glob('rows/part-*')))} parts instead of "
        f"{len(list(published.glob('rows/part-*')))}: {changed} labels differ, "
        f"largest difference of confidence {distance:.1e}"
    )


if __name__ == "__main__":
    main()
