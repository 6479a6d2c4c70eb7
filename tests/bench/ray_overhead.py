"""What the Ray engine costs on this machine: start-up, each partition, and 1 to 2 workers.

    python tests/bench/ray_overhead.py --rows 2000000

Prints the seconds that Ray takes to start, the seconds to the first finished part (workers import
torch and load the model), what a partition costs when there is next to nothing in it, and the rows
per second after that, with one worker and with two.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))
from end_to_end import invented_names

from charrnn.integrations.ray import score_partitions_on_ray
from charrnn.runs.execute import score_partitions
from charrnn.runs.manifest import ModelRef, RunOptions
from charrnn.runs.parts import PartReceipt
from charrnn.runs.plan import RunPlan, plan_run, run_key
from charrnn.scoring.dictionary import added_columns
from charrnn.scoring.options import ComputeOptions, ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.tables.csv_format import CsvFormat

OPTIONS = ScoreOptions()


def planned(folder: Path, rows: int, partition_rows: int, scorer: Scorer) -> RunPlan:
    source = folder / f"names-{rows}.parquet"
    names = invented_names(rows, unique=False)
    pq.write_table(pa.table({"name": names.to_arrow()}), source, row_group_size=partition_rows)
    model = ModelRef(scorer.version.name, scorer.version.digest)
    key = run_key(str(source), model, RunOptions(OPTIONS, CsvFormat(), partition_rows))
    added = added_columns(OPTIONS, scorer.version.labels)
    return plan_run(key, folder / f"out-{rows}", added)


def timed(plan: RunPlan, scorer: Scorer, workers: int) -> tuple[float, float, float]:
    """Score anew; return the seconds to the first part, and the seconds and rows from each worker's
    first part on."""
    started, seen = time.perf_counter(), list[tuple[float, int]]()

    def note(receipt: PartReceipt) -> None:
        seen.append((time.perf_counter() - started, receipt.rows))

    anew = replace(plan, destination=plan.destination / str(time.time_ns()))
    score_partitions_on_ray(anew, scorer, OPTIONS, ComputeOptions(workers=workers), note)
    rest = sum(rows for _, rows in seen[workers:])
    return seen[0][0], seen[-1][0] - seen[workers - 1][0], rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--partitions", type=int, default=40)
    parser.add_argument("--model", default="pretrained")
    chosen = parser.parse_args()
    scorer = Scorer.load(chosen.model, models="outputs/models")

    started = time.perf_counter()
    import ray

    imported = time.perf_counter() - started
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    print(f"import ray {imported:.1f} s, start a cluster {time.perf_counter() - started:.1f} s")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = planned(folder, 2000, 10, scorer)
        first, seconds, rows = timed(small, scorer, 1)
        print(f"first part after {first:.1f} s; {1e3 * seconds / (rows / 10):.1f} ms a partition")
        began = time.perf_counter()
        local = replace(small, destination=folder / "local")
        score_partitions(local, scorer, OPTIONS, ComputeOptions(workers=1))
        each = (time.perf_counter() - began) / len(local.partitions)
        print(f"the local engine, one worker: {1e3 * each:.1f} ms a partition")
        large = planned(folder, chosen.rows, chosen.rows // chosen.partitions, scorer)
        rates = {}
        for workers in (1, 2, 1, 2):
            first, seconds, rows = timed(large, scorer, workers)
            rates.setdefault(workers, []).append(rows / seconds)
            print(
                f"{workers} workers: first part after {first:.1f} s, {rows / seconds:,.0f} rows/s"
            )
        print(f"2 workers do {max(rates[2]) / max(rates[1]):.2f} times the rows of 1")
    ray.shutdown()


if __name__ == "__main__":
    main()
