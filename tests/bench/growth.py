"""Measure how scoring grows: with rows, name lengths, files, duplicates, labels and partitions.

    python tests/bench/growth.py                      # up to 50 million rows; about an hour
    python tests/bench/growth.py --only labels        # one dimension again, the others kept
    python tests/bench/growth.py --plan               # 10^10 rows, from what was measured

Every point is one run of ``flows/score.py``'s flow in a process of its own, on a table made for it
and removed after it; seconds are without start-up, memory is the peak above the imported libraries.
Points are skipped, and said to be, where the disk has no room or ``--minutes`` are over. Unless a
dimension varies them, tables hold ``--base-rows`` customers (names by Zipf's law, all made up) in
one file and the packaged default model scores them.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import common
import numpy as np
import polars as pl
import torch
from torch import nn

sys.path.insert(0, str(common.ROOT / "tests"))

from model_facts import facts_of

from charrnn.model.engine import logits_of
from charrnn.model.network import CharRNN
from charrnn.model.novelty import NoveltyScale
from charrnn.model.version import Calibration, ModelVersion, save_version
from charrnn.training.presets import LARGE_LABELS, PRESETS

MEMORY_BAR = 1500  # MB above the imported libraries
FLAT = 0.1  # largest difference in rows/s that counts as flat
TITLES = {
    "rows": "rows (default model)",
    "rows, tiny": "rows (tiny model)",
    "length": "characters of a name",
    "files": "input files",
    "duplicates": "% of the rows that repeat a name",
    "labels": "labels (random weights)",
    "partitions": "partitions of one file",
}
MILLION, PLANNED = 10**6, 10**10  # rows

Names = Callable[[int, int], pl.Series]


@dataclass(frozen=True)
class Point:
    """What to measure: a place in a dimension, and how to make its table and model."""

    dimension: str
    value: int
    rows: int
    names: Names = field(repr=False)
    model: str = "pretrained"
    files: int = 1
    partition_rows: int = 2**20
    labels: int = 0  # of a model with random weights; 0: a packaged one


@dataclass(frozen=True)
class Measured:
    """What was found: sizes in bytes, seconds (and CPU seconds) without start-up, memory in MB."""

    dimension: str
    value: int
    rows: int
    seconds: float
    cpu: float
    memory: float
    bytes_in: int
    bytes_out: int
    parts: int

    @property
    def per_million(self) -> float:
        """Seconds per million rows."""
        return self.seconds / self.rows * MILLION


def points(rows: int, most_rows: int) -> Iterator[Point]:
    """Yield the points, dimension by dimension."""
    customers = common.Customers(rows)
    for name, model in (("rows", "pretrained"), ("rows, tiny", "pretrained-tiny")):
        for count in (10**4, 10**5, 10**6, 10**7, 5 * 10**7):
            if count <= most_rows:
                yield Point(name, count, count, common.Customers(count), model)
    for length in (5, 10, 20, 50, 100, 200):
        yield Point("length", length, rows, partial(names_of_length, length))
    for files in (1, 10, 100, 1000, 10_000):
        if files <= rows:
            yield Point("files", files, rows, customers, files=files)
    for share in (0, 50, 90, 99):
        yield Point("duplicates", share, rows, partial(names_with_duplicates, rows, share))
    for labels in (18, 50, 100, 300, 1000):
        yield Point("labels", labels, rows, customers, labels=labels)
    for parts in (1, 10, 100, 1000, 10_000):
        if parts <= rows:
            size = -(-rows // parts)
            yield Point("partitions", parts, rows, customers, partition_rows=size)


def names_of_length(length: int, first: int, count: int) -> pl.Series:
    """Return made-up names cut to ``length`` characters; short ones repeat now and then."""
    several = np.arange(first, first + count)[:, None] * 7 + np.arange(-(-length // 9))
    parts = [common.made_up_names(column).str.to_lowercase() for column in several.T]
    joined = pl.select(pl.concat_str(parts).str.slice(0, length).str.to_titlecase())
    return joined.to_series()


def names_with_duplicates(rows: int, share: int, first: int, count: int) -> pl.Series:
    """Return names of which ``share`` % of the table's rows only repeat others, evenly spread."""
    distinct = max(1, rows * (100 - share) // 100)
    numbers = np.arange(first, first + count) * 1_000_003 % distinct  # a prime: no two rows alike
    return common.made_up_names(numbers)


def random_version(labels: int, root: Path) -> str:
    """Publish a network with random weights and so many labels, of the size that is trained for as
    many; return its name."""
    preset = PRESETS["tutorial"]
    config = preset.model_config(labels)
    if labels > LARGE_LABELS:
        config = replace(config, hidden_size=128, ngram_buckets=2**18, ngram_rank=128)
    torch.manual_seed(0)
    network = CharRNN(config).eval()
    assert network.ngrams is not None
    nn.init.normal_(network.ngrams.weight, std=0.1)
    encoded = preset.vocabulary.encode(common.made_up_names(np.arange(1000)).to_arrow())
    logits = logits_of(network, encoded)
    version = ModelVersion(
        config=config,
        vocabulary=preset.vocabulary,
        weights=dict(network.state_dict()),
        labels=tuple(f"Label{i}" for i in range(labels)),
        temperature=1.0,
        priors=(1 / labels,) * labels,
        calibration=Calibration(
            logits=logits,
            label_ids=logits.argmax(axis=1),
            novelty=NoveltyScale.of(-logits.max(axis=1)),
            ambiguous=np.zeros(0, np.int64),
        ),
        facts=facts_of([f"Label{i}" for i in range(labels)]),
    )
    return save_version(root, version).name


def measure(point: Point, work: Path, repeat: int) -> Measured:
    """Make the point's table, score it ``repeat`` times, and remove everything again."""
    folder = work / "table"
    folder.mkdir()
    try:
        each = -(-point.rows // point.files)
        for i in range(point.files):
            count = min(each, point.rows - i * each)
            group = min(common.GROUP_ROWS, point.partition_rows)
            common.write_table(
                folder / f"{i:05d}.parquet", count, point.names, first=i * each, group_rows=group
            )
        model, models = point.model, work / "models"
        if point.labels:
            model = random_version(point.labels, models)
        source = folder if point.files > 1 else folder / "00000.parquet"
        costs = [
            common.in_own_process(
                "common.py", source, work / "runs", "--model", model, "--models", models,
                "--partition-rows", point.partition_rows,
            )
            for _ in range(repeat)
        ]  # fmt: skip
        run = common.published_in(work / "runs")
        parts = list(run.glob("rows/part-*.parquet"))
        return Measured(
            point.dimension,
            point.value,
            point.rows,
            statistics.median(cost.seconds for cost in costs),
            statistics.median(cost.cpu for cost in costs),
            max(cost.memory for cost in costs),
            sum(path.stat().st_size for path in folder.iterdir()),
            sum(path.stat().st_size for path in parts),
            len(parts),
        )
    finally:
        for name in ("table", "runs", "models"):
            shutil.rmtree(work / name, ignore_errors=True)


def bytes_needed(point: Point, repeat: int) -> int:
    """Return an upper bound of the disk space a point takes: its table and its runs."""
    length = point.value if point.dimension == "length" else 12
    return point.rows * (8 + 2 * length + 40 * repeat + 2 * length * repeat)


# --- Results --------------------------------------------------------------------------------------


def table(found: list[Measured]) -> list[str]:
    lines = [
        "| | value | rows | s per million | CPU s | rows/s | peak MB | bytes/row in, out | parts |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for m in found:
        lines.append(
            f"| {m.dimension} | {m.value:,} | {m.rows:,} | {m.per_million:.2f} | "
            f"{m.cpu / m.rows * MILLION:.2f} | {m.rows / m.seconds:,.0f} | {m.memory:,.0f} | "
            f"{m.bytes_in / m.rows:.1f}, {m.bytes_out / m.rows:.1f} | {m.parts:,} |"
        )
    return lines


def verdicts(found: list[Measured]) -> list[str]:
    """Return what the bars of flat speed and bounded memory say about the points there are."""
    lines = ["| bar | asked | measured | |", "|---|---:|---:|---|"]

    def add(bar: str, asked: str, measured: str, met: bool) -> None:
        lines.append(f"| {bar} | {asked} | {measured} | {'met' if met else '**missed**'} |")

    for dimension in ("rows", "rows, tiny"):
        large = [m for m in found if m.dimension == dimension and m.rows >= MILLION]
        if len(large) > 1:
            span = ", ".join(f"{m.rows // MILLION} M" for m in large)
            rates = [m.rows / m.seconds for m in large]
            change = max(rates) / min(rates) - 1
            add(f"{dimension}: rows/s over {span}", "10 %", f"{change:.0%}", change <= FLAT)
            several = [m for m in large if m.parts > 1]  # one part keeps only one core busy
            if 1 < len(several) < len(large):
                rates = [m.rows / m.seconds for m in several]
                change = max(rates) / min(rates) - 1
                span = ", ".join(f"{m.rows // MILLION} M" for m in several)
                add(f"the same over {span}", "10 %", f"{change:.0%}", change <= FLAT)
                memory = [m.memory for m in several]
                change = max(memory) / min(memory) - 1
                add(f"{dimension}: memory over {span}", "10 %", f"{change:.0%}", change <= FLAT)
    for dimension in dict.fromkeys(m.dimension for m in found):
        most = max((m for m in found if m.dimension == dimension), key=lambda m: m.memory)
        add(
            f"{dimension}: peak memory (at {most.value:,})", f"≤ {MEMORY_BAR:,} MB",
            f"{most.memory:,.0f} MB", most.memory <= MEMORY_BAR,
        )  # fmt: skip
    return lines


def draw(found: list[Measured], path: Path) -> None:
    """Draw seconds per million rows (left axis) and peak memory (right axis) per dimension."""
    from matplotlib.figure import Figure

    dimensions = [d for d in TITLES if any(m.dimension == d for m in found)]
    columns = min(3, len(dimensions))
    rows = -(-len(dimensions) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.2 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, dimension in zip(grid, dimensions, strict=False):
        some = [m for m in found if m.dimension == dimension]
        values, costs = [m.value for m in some], [m.per_million for m in some]
        other = axes.twinx()
        other.plot(values, [m.memory for m in some], "s--", color="tab:orange", markersize=4)
        other.set_ylim(0, 1.15 * max(MEMORY_BAR, *(m.memory for m in some)))
        other.axhline(MEMORY_BAR, color="tab:orange", linewidth=0.7, linestyle=":")
        other.tick_params(axis="y", colors="tab:orange")
        axes.plot(values, costs, "o-", color="tab:blue", markersize=4)
        if max(costs) > 10 * min(costs):
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, 1.15 * max(costs))
        axes.tick_params(axis="y", which="both", colors="tab:blue")
        if dimension != "duplicates":
            axes.set_xscale("log")
        if dimension in ("length", "labels"):
            axes.set_xticks(values, [f"{value:,}" for value in values])
            axes.minorticks_off()
        axes.set_title(TITLES[dimension], fontsize=10)
    for axes in grid[len(dimensions) :]:
        axes.set_visible(False)
    figure.supylabel("seconds per million rows", color="tab:blue", fontsize=10)
    figure.suptitle(
        "Cost of scoring; dashed: peak memory in MB, dotted: its bar", fontsize=11, x=0.5
    )
    figure.savefig(path, dpi=130)


# --- 10^10 rows -----------------------------------------------------------------------------------


def plan(found: list[Measured], cores: str, staging: float | None = None) -> list[str]:
    """Return hours and sizes for 10^10 rows, from the largest run of each model on ``cores``;
    ``staging``: more seconds per row for CSV than for Parquet, where that is known."""
    largest = {
        model: max((m for m in found if m.dimension == dimension), key=lambda m: m.rows)
        for dimension, model in (("rows, tiny", "tiny"), ("rows", "default"))
        if any(m.dimension == dimension for m in found)
    }
    sizes = next(iter(largest.values()))
    gb_in, gb_out = (
        PLANNED * size / sizes.rows / 1e9 for size in (sizes.bytes_in, sizes.bytes_out)
    )
    hashing = gb_per_second()
    alone = (gb_in + gb_out) / hashing  # seconds with one core busy, before and after the work
    parts = -(-PLANNED // 2**20)
    lines = [
        "| where | rows/s while scoring | time | what the figures are |",
        "|---|---:|---:|---|",
    ]
    for model, m in largest.items():
        rate = m.rows / m.seconds
        lines.append(
            f"| {cores} cores, {model} | {rate:,.0f} | {PLANNED / rate / 3600:.1f} h | measured on "
            f"{m.rows:,} rows (hashing included), scaled |"
        )
    card = json.loads((common.ROOT / "docs/gpu.json").read_text())["end_to_end"]
    for model in ("tiny", "default"):
        rate = card[model]["rows_per_s"]
        lines.append(
            f"| 1 × H200 and 16 cores, {model} | {rate:,.0f} | {PLANNED / rate / 60:.0f} min | "
            f"measured on {card['rows']:,} rows (hashing included; docs/gpu.md), scaled |"
        )
    return [
        *lines,
        "",
        f"- Bytes: {gb_in:,.0f} GB in, {gb_out:,.0f} GB out ({gb_in / PLANNED * 1e9:.1f} and "
        f"{gb_out / PLANNED * 1e9:.1f} bytes a row measured: id and name in; these and the eight "
        "columns of a run out).",
        f"- Files: {parts:,} partitions of 1,048,576 rows, as many output files of "
        f"{gb_out / parts * 1000:.1f} MB, and a receipt each until the run is published.",
        f"- One core works alone for {alone / 60:.0f} minutes: it hashes the input before the "
        f"scoring and all parts once more before publishing, at {hashing:.2f} GB/s (measured). It "
        "is inside the times above.",
        "- CSV instead of Parquet: "
        + (
            "not measured yet (peers.py measures it)."
            if staging is None
            else f"{PLANNED * staging / 3600:.1f} hours more on one core before the first name is "
            "scored (measured by peers.py with the tiny model), and a staged copy on the disk."
        ),
    ]


def csv_staging(record: Path) -> float | None:
    """Return how many more seconds a row takes from CSV, from what peers.py left, if it did."""
    if not record.exists():
        return None
    found = json.loads(record.read_text())
    per_row = [
        statistics.median(cost["seconds"] for cost in found["costs"][name]) / found["rows"][name]
        for name in ("tiny: charrnn, CSV in", "tiny: charrnn")
        if name in found["costs"]
    ]
    return per_row[0] - per_row[1] if len(per_row) == 2 else None


def gb_per_second() -> float:
    """Return how fast one core hashes."""
    content = bytes(2**28)
    started = time.process_time()
    hashlib.sha256(content)
    return len(content) / 1e9 / (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-rows", type=int, default=5 * 10**7)
    parser.add_argument("--base-rows", type=int, default=10**6)
    parser.add_argument("--repeat", type=int, default=1, help="runs of points up to a million rows")
    parser.add_argument("--only", choices=TITLES, help="measure one dimension, keep the others")
    parser.add_argument("--minutes", type=float, default=90, help="start no point after that")
    parser.add_argument("--plan", action="store_true", help="measure nothing; write the plan")
    parser.add_argument("--output", default="outputs/bench", help="folder for figures and plot")
    parser.add_argument("--page", default="docs/speed.md", help="the page that gets the table")
    parser.add_argument("--plan-page", default="docs/scale.md", help="the page of the plan")
    arguments = parser.parse_args()
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "growth.json"
    known = json.loads(record.read_text()) if record.exists() else {"points": []}
    found = [Measured(**point) for point in known["points"]]
    if arguments.plan and not found:
        parser.error("nothing is measured yet; run growth.py without --plan first")
    if arguments.plan:
        measured = known["circumstances"]
        made = f"By `python tests/bench/growth.py --plan`, from figures of {measured}."
        lines = [made, "", *plan(found, known["cores"], csv_staging(folder / "peers-zipf.json"))]
        print("\n".join(lines))
        return common.write_section(Path(arguments.plan_page), "plan", lines)
    found = [m for m in found if arguments.only and m.dimension != arguments.only]
    made = {k: how for k, how in known.get("made", {}).items() if k in {m.dimension for m in found}}
    here = common.circumstances("torch", "polars", "pyarrow")
    given = common.command("growth.py", parser, arguments)
    skipped, started = [], time.monotonic()
    for point in points(arguments.base_rows, arguments.max_rows):
        if arguments.only and point.dimension != arguments.only:
            continue
        repeat = arguments.repeat if point.rows <= MILLION else 1
        where = f"{point.dimension} {point.value:,}"
        if bytes_needed(point, repeat) > shutil.disk_usage(folder).free / 2:
            skipped.append(f"{where} (no room on the disk)")
        elif time.monotonic() - started > 60 * arguments.minutes:
            skipped.append(f"{where} (out of time)")
        else:
            with tempfile.TemporaryDirectory(dir=folder) as work:
                found.append(measure(point, Path(work), repeat))
            m = found[-1]
            print(f"{where}: {m.per_million:.2f} s per million, {m.memory:,.0f} MB", flush=True)
            made[m.dimension] = f"`{given}`: {here}"
            facts = {"circumstances": here, "cores": common.cores(), "made": made}
            record.write_text(json.dumps({**facts, "points": [asdict(m) for m in found]}, indent=1))
    found.sort(key=lambda m: (list(TITLES).index(m.dimension), m.value))
    lines = ["## Growth", ""]
    for how in dict.fromkeys(made.values()):
        lines.append(f"- {', '.join(d for d in made if made[d] == how)}: {how}.")
    lines += [
        "",
        f"Tables of {arguments.base_rows:,} rows where rows are not what varies.",
        "",
        *table(found),
        "",
        *verdicts(found),
        *(["", f"Not run: {', '.join(skipped)}."] if skipped else []),
    ]
    print("\n".join(lines))
    draw(found, folder / "growth.png")
    common.write_section(Path(arguments.page), "growth", lines)


if __name__ == "__main__":
    main()
