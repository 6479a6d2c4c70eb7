"""What the speed benches share: made-up tables, a scoring run in a process of its own, and pages.

As a command it is that process: it imports what scoring needs, then scores once and prints what
that cost, as JSON on its last line.

    python tests/bench/common.py names.parquet runs --model pretrained
"""

import argparse
import datetime
import importlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from charrnn.model.version import resolve

ROOT = Path(__file__).parent.parent.parent
CHUNK = 2**20  # rows made at a time
GROUP_ROWS = 2**18  # rows of a row group, as Polars writes them
SYLLABLES = pl.Series([
    onset + rest
    for onset in ("b", "br", "d", "f", "g", "h", "k", "kr", "l", "m", "n", "p", "r", "s", "sch",
                  "t", "tr", "v", "w", "z")
    for rest in ("a", "e", "i", "o", "u", "an", "er", "ov", "in", "os", "ell", "ach", "im")
])  # fmt: skip

# Options that say where files are
PLACES = ("corpus", "outside", "results", "versions", "output", "page", "plan_page")
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cost:
    """What one run took: seconds of work, CPU seconds of all threads in them, seconds of the whole
    command with start-up (imports and the first loading of the model), and peak memory in MB above
    what the process held after that."""

    seconds: float
    cpu: float
    whole: float
    memory: float


# --- Tables ---------------------------------------------------------------------------------------


def made_up_names(numbers: Numbers) -> pl.Series:
    """Return a name of three or four syllables for each number; distinct numbers below 52 million
    give distinct names, since every way to cut such a name into syllables is the same."""
    S = len(SYLLABLES)
    short = numbers % 3 == 0
    space = np.where(short, S**3, S**4)
    mixed = (np.where(short, numbers // 3, numbers) * 2_654_435_761 + 12_345) % space  # a bijection
    digits = [SYLLABLES.gather(mixed // S**i % S) for i in range(4)]
    last = pl.when(pl.Series(short)).then(pl.lit("")).otherwise(digits[3])
    return pl.select(pl.concat_str(*digits[:3], last).str.to_titlecase()).to_series()


class Customers:
    """Names as a table of customers has them: Zipf's law with exponent 1.1 over a fifth as many
    distinct names as rows. Real names take the first ranks, in a random order, where there are any.
    """

    def __init__(self, rows: int, real: Sequence[str] = ()) -> None:
        distinct = max(1000, rows // 5)
        weights = np.arange(1, distinct + 1) ** -1.1
        self.cumulative = weights.cumsum() / weights.sum()
        self.real = pl.Series(np.random.default_rng(0).permutation(list(real)), dtype=pl.String)

    def __call__(self, first: int, count: int) -> pl.Series:
        draw = np.random.default_rng((1, first)).random(count)
        ranks = np.searchsorted(self.cumulative, draw)
        K = len(self.real)
        names = made_up_names(np.maximum(ranks - K, 0))
        if not K:
            return names
        real = self.real.gather(np.minimum(ranks, K - 1))
        return pl.select(pl.when(pl.Series(ranks < K)).then(real).otherwise(names)).to_series()


def all_different(first: int, count: int) -> pl.Series:
    """Return the names of rows in a table where no name comes twice."""
    return made_up_names(np.arange(first, first + count))


def real_names(corpus: Path) -> list[str]:
    """Return the distinct usable names of the table that ingest wrote, none where there is none."""
    if not corpus.is_file():
        return []
    table = pl.read_parquet(corpus, columns=["name", "dropped"])
    return sorted(table.filter(pl.col("dropped").is_null())["name"].unique())


def write_table(
    path: Path,
    rows: int,
    names: Callable[[int, int], pl.Series],
    *,
    first: int = 0,
    group_rows: int = GROUP_ROWS,
) -> None:
    """Write ``rows`` rows of id and name, made chunk by chunk, as Parquet or CSV."""
    schema = pa.schema([("id", pa.int64()), ("name", pa.large_string())])
    writer = (
        pacsv.CSVWriter(path, schema)
        if path.suffix == ".csv"
        else pq.ParquetWriter(path, schema, compression="zstd")
    )
    with writer:
        for start in range(first, first + rows, CHUNK):
            count = min(CHUNK, first + rows - start)
            column = names(start, count).to_arrow().cast(pa.large_string())
            table = pa.table([pa.array(np.arange(start, start + count)), column], schema)
            if path.suffix == ".csv":
                writer.write_table(table)
            else:
                writer.write_table(table, row_group_size=group_rows)


# --- Measuring ------------------------------------------------------------------------------------


def in_own_process(script: str, *arguments: object) -> Cost:
    """Run one of the benches' scripts in a fresh process and return what it cost."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/bench" / script), *map(str, arguments)],
        capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    whole = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{script} {arguments} failed:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Cost(whole=whole, **found)


def report_cost(work: Callable[[], float | None]) -> None:
    """Do the work and print what it cost, for ``in_own_process``; work that returns seconds knows
    better than the clock what is to be counted."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _memory("VmRSS")
    started, started_cpu = time.perf_counter(), time.process_time()
    counted = work()
    seconds = time.perf_counter() - started if counted is None else counted
    cpu = time.process_time() - started_cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu, "memory": _memory("VmHWM") - before}))


def _memory(key: str) -> float:
    """Return one of Linux's figures about this process in MB."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("output")
    parser.add_argument("--model", default="pretrained")
    parser.add_argument("--models", default="outputs/models")
    parser.add_argument("--partition-rows", type=int, default=2**20)
    arguments = vars(parser.parse_args())
    for module in (
        "files",
        "model.priors",
        "reports.run",
        "runs.execute",
        "runs.plan",
        "scoring.scorer",
    ):
        importlib.import_module(f"charrnn.{module}")
    flat = importlib.import_module("tests.flat")
    resolve(arguments["model"], Path(arguments["models"])).network()  # imports more of torch

    def work() -> None:
        flat.score(**arguments, force=True)

    report_cost(work)


def published_in(output: Path) -> Path:
    """Return the run that ``output`` received last."""
    return (output / "latest").resolve()


# --- Pages ----------------------------------------------------------------------------------------


def write_section(page: Path, section: str, lines: Sequence[str]) -> None:
    """Put lines between the marks of a section of a Markdown page, at its end when it is new."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    text = page.read_text() if page.exists() else ""
    block = "\n".join([begin, "", *lines, "", end])
    if begin in text:
        head, rest = text.split(begin, 1)
        text = head + block + rest.split(end, 1)[1]
    else:
        text = f"{text.rstrip()}\n\n{block}\n".lstrip()
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text)


def command(script: str, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """Return the command line that was given, without the places of files."""
    words = ["python", f"tests/bench/{script}"]
    for key, value in vars(arguments).items():
        if value != parser.get_default(key) and key not in PLACES:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [f"--{key.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


def circumstances(*libraries: str) -> str:
    """Return date, machine and library versions in one line."""
    versions = ", ".join(
        f"{name} {importlib.import_module(name).__version__}" for name in libraries
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{datetime.date.today().isoformat()}, {_processor()}, {cores()} cores, {memory:.0f} GB, "
        f"Python {platform.python_version()}, {versions}"
    )


def cores() -> str:
    """Return how many cores this process may use, of how many."""
    usable, all_ = len(os.sched_getaffinity(0)), os.cpu_count()
    return str(all_) if usable == all_ else f"{usable} of {all_}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()
