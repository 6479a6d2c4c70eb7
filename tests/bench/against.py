"""Compare the speed of scoring with an older clone: same input, same weights, in turn.

    git worktree add ../old 5b9e523
    python tests/bench/against.py ../old
    python tests/bench/against.py ../old --tables customers-4 --runs 5

The old clone scores with the models that it packages, trained on the tutorial's lists; this one
with versions made of their weights, so that labels and confidences can be compared row by row. A
turn is the old clone and then this one, each in a process of its own; figures are medians over the
turns, of ratios within a turn. ``copy`` is Polars reading and writing the rows of the result.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import common
import polars as pl
from common import Cost
from safetensors.torch import load_file

from charrnn.model.network import ModelConfig, from_stored
from charrnn.model.version import resolve, save_version

MODELS = {"default": "pretrained", "tiny": "pretrained-tiny"}  # in the old clone
TABLES = {
    "customers-4": (4 * 10**6, common.Customers(4 * 10**6)),
    "customers-10": (10**7, common.Customers(10**7)),
    "different-2": (2 * 10**6, common.all_different),
}  # rows, and what makes their names
FASTER = {"default": {"customers": 1.8, "different": 1.35},
          "tiny": {"customers": 1.5, "different": 1.25}}  # fmt: skip
COPIES = {"default": (3, 4), "tiny": (1.5, 2)}  # times Polars' copy, with Intel and with AMD
SAME_CONFIDENCE, MORE_MEMORY, MEMORY = 1e-5, 1.2, 700  # MB


def converted(old: Path, model: str, root: Path) -> str:
    """Publish a version with the weights of the old clone's model; return its name."""
    folder = old / "charrnn/pretrained" / model
    document = json.loads((folder / "model.json").read_bytes())
    known = {field.name for field in fields(ModelConfig)}
    config = ModelConfig(**{k: v for k, v in document["config"].items() if k in known})
    like = resolve("pretrained-tutorial", None)
    if list(like.labels) != document["labels"]:
        raise SystemExit(f"{folder} has other labels than pretrained-tutorial")
    version = replace(
        like,
        config=config,
        weights=from_stored(load_file(folder / "weights.safetensors"), config),
        temperature=document["temperature"],
        name="",
        digest="",
    )
    return save_version(root, version).name


def scored(clone: Path, source: Path, output: Path, model: str, models: Path) -> Cost:
    """Score a table with a clone in a process of its own."""
    done = subprocess.run(
        [sys.executable, "tests/bench/common.py", source, output, "--model", model, "--models",
         models],
        cwd=clone, env={**os.environ, "PYTHONPATH": str(clone)}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{clone} failed:\n{done.stderr[-3000:]}")
    return Cost(whole=0.0, **json.loads(done.stdout.splitlines()[-1]))


def parts(output: Path) -> list[Path]:
    """Return the files of rows of the run that ``output`` received last."""
    return sorted(common.published_in(output).rglob("part-*.parquet"))


def copied(output: Path) -> Cost:
    """Let Polars read and write the rows of a run in a process of its own."""
    program = (
        "import sys; sys.path.insert(0, 'tests/bench'); import common, polars as pl\n"
        "*parts, target = sys.argv[1:]\n"
        "common.report_cost(lambda: pl.read_parquet(parts).write_parquet(target))"
    )
    target = output / "copy.parquet"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, parts(output)), str(target)],
        cwd=common.ROOT, env={**os.environ, "PYTHONPATH": str(common.ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    target.unlink()
    return Cost(whole=0.0, **json.loads(done.stdout.splitlines()[-1]))


def differences(one: Path, other: Path) -> tuple[int, float]:
    """Return how many rows of two runs differ in label, and the largest difference of a
    confidence."""
    labels, largest = 0, 0.0
    columns = [pl.col("language").cast(pl.String), "confidence"]
    frames = [pl.scan_parquet(parts(run)).select(columns).collect() for run in (one, other)]
    first, second = frames
    labels = int((first["language"].ne_missing(second["language"])).sum())
    largest = float((first["confidence"] - second["confidence"]).abs().max() or 0.0)  # type: ignore[arg-type]
    return labels, largest


def compared(old: Path, table: str, model: str, version: tuple[str, Path], work: Path, runs: int
) -> list[str]:  # fmt: skip
    """Return lines of Markdown: figures of a table and a model."""
    rows, _ = TABLES[table]
    source, turns = work / f"{table}.parquet", list[tuple[Cost, Cost, Cost]]()
    folders = [work / "old", work / "new"]
    for _ in range(runs):
        before = scored(old, source, folders[0], MODELS[model], version[1])
        after = scored(common.ROOT, source, folders[1], version[0], version[1])
        turns.append((before, after, copied(folders[1])))
    labels, largest = differences(*folders)
    faster = statistics.median(b.seconds / a.seconds for b, a, _ in turns)
    lighter = statistics.median(b.cpu / a.cpu for b, a, _ in turns)
    floor = statistics.median(a.seconds / c.seconds for _, a, c in turns)
    memory = [max(turn[i].memory for turn in turns) for i in (0, 1)]
    cpu = [statistics.median(turn[i].cpu for turn in turns) for i in (0, 1)]
    rate = rows / statistics.median(a.seconds for _, a, _ in turns)
    bar, copies = FASTER[model][table.split("-")[0]], COPIES[model]
    checks = {
        "rows/s": faster >= bar,
        "labels": labels == 0,
        "confidence": largest <= SAME_CONFIDENCE,
        "memory": memory[1] <= min(MORE_MEMORY * memory[0], MEMORY),
    }
    missed = ", ".join(name for name, met in checks.items() if not met)
    return [
        f"| {model} | {table.replace('-', ', ')} M | {rate:,.0f} | {faster:.2f} (≥ {bar}) | "
        f"{cpu[0]:.1f} → {cpu[1]:.1f} ({lighter:.2f}) | {floor:.1f} "
        f"(≤ {copies[0]} Intel, {copies[1]} AMD) | {labels} | {largest:.0e} | "
        f"{memory[0]:,.0f} → {memory[1]:,.0f} | {missed or 'none'} |"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="the older clone, such as of 5b9e523")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--runs", type=int, default=3, help="turns of each table and model")
    parser.add_argument("--page", type=Path, help="the page that gets the table; none by default")
    arguments = parser.parse_args()
    old = arguments.old.resolve()
    lines = [
        "| model | table | rows/s | × old (bar) | CPU s, old → new (ratio) | × Polars' copy | "
        "labels that differ | confidence by | peak MB | missed |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        versions = {m: (converted(old, m, work / "models"), work / "models") for m in MODELS}
        for table in arguments.tables:
            rows, names = TABLES[table]
            common.write_table(work / f"{table}.parquet", rows, names)
            for model in arguments.models:
                found = compared(old, table, model, versions[model], work, arguments.runs)
                print("\n".join(found), flush=True)
                lines += found
    commit = subprocess.run(
        ["git", "-C", str(old), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    made = f"Against {commit or 'an older clone'}, medians of {arguments.runs} turns; "
    lines += ["", made + common.circumstances("torch", "polars", "pyarrow") + "."]
    print(lines[-1])
    if arguments.page:
        common.write_section(arguments.page, "against", ["## Against an older clone", "", *lines])


if __name__ == "__main__":
    main()
