"""Measure in which stages of scoring the CPU seconds go, with one worker; print Markdown.

python tests/bench/stages.py --rows 4000000
python tests/bench/stages.py --models pretrained-tutorial --unique --rows 2000000
"""

import argparse
import importlib
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

STAGES = {  # title → module, and the function that does it; none calls another one
    "names of the pool, read": ("runs.pool", "_distinct"),
    "read": ("runs.execute", "read_groups"),
    "distinct": ("scoring.scorer", "_distinct"),
    "text to ids": ("model.vocabulary", "Vocabulary.encode"),
    "sort": ("model.engine", "_sort_order"),
    "trie": ("model.engine", "_Trie.__init__"),
    "recurrence": ("model.engine", "_Recurrence._walk"),
    "n-grams": ("model.engine", "_ngram_sums"),
    "ranks": ("scoring.scorer", "_largest"),
    "novelty": ("scoring.scorer", "Scorer._novelty"),
    "columns": ("runs.execute", "prediction_columns"),
    "Parquet out": ("runs.execute", "write_part"),
}
Seconds = defaultdict[str, float]


def timed(title: str, seconds: Seconds, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``work`` with its CPU seconds, of its own thread, added up."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        started = time.thread_time()
        try:
            return work(*args, **kwargs)
        finally:
            seconds[title] += time.thread_time() - started

    return wrapped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--unique", action="store_true", help="no name comes twice")
    parser.add_argument("--models", nargs="+", default=["pretrained-tiny", "pretrained-tutorial"])
    parser.add_argument("--without-pool", action="store_true", help="each partition by itself")
    arguments = parser.parse_args()
    if arguments.without_pool:
        importlib.import_module("charrnn.runs.pool")._LEAST_PARTITIONS = arguments.rows
    flat = importlib.import_module("tests.flat")
    seconds: Seconds = defaultdict(float)
    for title, (module, path) in STAGES.items():
        *owners, name = path.split(".")
        owner = importlib.import_module(f"charrnn.{module}")
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, name, timed(title, seconds, getattr(owner, name)))
    titles = ["model", *STAGES, "rest", "total"]
    lines = [f"| {' | '.join(titles)} |", f"|---|{'---:|' * (len(titles) - 1)}"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "names.parquet"
        names = common.all_different if arguments.unique else common.Customers(arguments.rows)
        common.write_table(source, arguments.rows, names)
        for model in arguments.models:
            flat.score(source=source, output=f"{folder}/warm", model=model, workers=1)
            seconds.clear()
            started = time.process_time()
            flat.score(source=source, output=f"{folder}/runs", model=model, workers=1, force=True)
            total = time.process_time() - started
            found = [seconds[title] for title in STAGES]
            found += [total - sum(found), total]
            cells = " | ".join(f"{s / arguments.rows * 1e6:.2f}" for s in found)
            lines.append(f"| {model} | {cells} |")
    what = "all different" if arguments.unique else "customers"
    what += ", without a pool" if arguments.without_pool else ""
    print(f"CPU seconds per million rows, {arguments.rows:,} rows, {what}, one worker; "
          f"{common.circumstances('torch', 'polars', 'pyarrow')}.\n")  # fmt: skip
    print("\n".join(lines))


if __name__ == "__main__":
    main()
