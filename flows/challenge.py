"""Let two model versions answer one table, before one replaces the other.

python flows/score.py challenge people.parquet --model champion --challenger candidate
"""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flows.command import progress, say, this_process
from flows.tracking import device_slot, flow, note, run_facts, task

if TYPE_CHECKING:  # torch, Polars and Arrow take a second to import; --help should not
    from charrnn.runs.comparison import Comparison, Part
    from charrnn.runs.plan import RunPlan
    from charrnn.scoring.options import ScoreOptions
    from charrnn.scoring.scorer import Scorer


@task(name="compare partitions")
def compare_parts(
    plan: "RunPlan",
    champion: "Scorer",
    challenger: "Scorer",
    options: "ScoreOptions",
    every: int,
    flips: bool,
    workers: int,
) -> "tuple[Comparison, list[Part]]":
    """Let both models answer the distinct names of every partition."""
    from charrnn.runs.comparison import compare_partitions

    with progress("comparing", plan.source.rows, "rows") as advance:
        return compare_partitions(
            plan,
            champion,
            challenger,
            options,
            every=every,
            write_flips=flips,
            workers=workers,
            on_part=lambda rows: advance(rows),
        )


@flow(name="challenge", flow_run_name="challenge {source}", validate_parameters=True)
def challenge(
    source: str,
    *,
    model: str = "champion",
    challenger: str = "candidate",
    name_column: str = "name",
    output: Annotated[str, Parameter(alias="-o")] = "",
    sample: int = 0,
    flips: bool = False,
    transliterate: bool = False,
    partition_rows: int = 2**20,
    workers: int | None = None,
    device: str = "auto",
    models: str = "outputs/models",
    multiline: bool = False,
    private: bool = False,
    force: bool = False,
) -> str:
    """Score one table with two model versions in one pass and publish what would change.

    The comparison has a folder of its own; scoring runs stay as they are.

    Args:
        source: Parquet or CSV (.csv, .csv.gz, .csv.zst): a file, a folder or a glob.
        model: the version in use: an alias such as champion, a version, or pretrained.
        challenger: the version that may replace it.
        name_column: the column that holds the names.
        output: folder for the comparisons (default outputs/comparisons/NAME).
        sample: compare about this many rows, evenly spread over the table; 0 compares all.
        flips: also write the rows that change: their number (from 0), both languages and both
            confidences; no names.
        transliterate: write names in other scripts in Latin letters first.
        partition_rows: rows per unit of work, at most.
        workers: partitions compared at a time; by default one per processor, at most 8.
        device: auto, cpu, cuda or cuda:N.
        models: folder of the model versions.
        multiline: accept line breaks inside quoted CSV cells.
        private: make files that only their owner can read.
        force: compare again even where the same comparison is already published.

    Returns:
        The comparison's folder.
    """
    from charrnn.errors import ConfigError
    from charrnn.files import private_files
    from charrnn.reports.comparison import comparison_markdown, comparison_report
    from charrnn.runs import plan as planning
    from charrnn.runs.comparison import comparison_manifest
    from charrnn.runs.manifest import read_manifest
    from charrnn.runs.publish import finished_run, hold_destination, point_latest_at, publish
    from charrnn.scoring.options import ScoreOptions
    from charrnn.scoring.scorer import Scorer
    from charrnn.tables.csv_format import CsvFormat
    from charrnn.tables.source import discover, source_name

    started, created = time.monotonic(), datetime.now(UTC)
    if sample < 0:
        raise ConfigError(f"the sample has {sample} rows; give 0 (all) or more")
    discover(source)  # refused before a folder is made for it
    destination = Path(output or Path("outputs/comparisons") / source_name(source))
    with private_files(private), hold_destination(destination, this_process()):
        one = Scorer.load(model, models=models, device=device)
        other = Scorer.load(challenger, models=models, device=device)
        if one.version.digest == other.version.digest:
            raise ConfigError(
                f"{model} and {challenger} are the same version, {one.version.name}; name another"
            )
        options = ScoreOptions(name_column=name_column, top_k=1, transliterate=transliterate)
        order = planning.comparison_order(
            source,
            (one.version, other.version),
            {
                "name_column": name_column,
                "partition_rows": partition_rows,
                "transliterate": transliterate,
                "sample": sample,
                "flips": flips,
            },
            CsvFormat(multiline=multiline),
        )
        published = None if force else finished_run(destination, order.fingerprint)
        if published is not None:
            point_latest_at(published)
            say("nothing to do: this comparison is already published (see --force)")
        else:
            plan = planning.plan_run(order, destination, [])
            every = max(1, -(-plan.source.rows // sample)) if sample else 1
            threads = workers or min(8, os.cpu_count() or 1)
            with device_slot(one.device.type):
                found, parts = compare_parts(plan, one, other, options, every, flips, threads)
            facts = {
                **run_facts(created, time.monotonic() - started, one.device.type),
                **{
                    side: {"name": scorer.version.name, "digest": scorer.version.digest}
                    for side, scorer in (("champion", one), ("challenger", other))
                },
            }
            manifest = comparison_manifest(plan, found, parts, facts)
            reports = {
                "report.html": comparison_report(manifest),
                "report.md": comparison_markdown(manifest),
            }
            published = publish(plan, manifest, facts["created"], reports)
    manifest = read_manifest(published)
    note("challenge", comparison_markdown(manifest).decode(), "What would change")
    for line in summarise(published, manifest):
        say(line)
    return str(published)


def summarise(published: Path, manifest: dict[str, Any]) -> list[str]:
    """Return the lines that a person wants to see at the end; counts only, no names."""
    compared, both = manifest["compared"], manifest["answered_by_both"]
    flips = ", ".join(f"{a} → {b} {n:,}" for a, b, n in manifest["flips"][:5])
    moved = sorted(manifest["class_rows"], key=lambda row: -abs(row[2] - row[1]))[:5]
    shares = ", ".join(
        f"{label} {a / max(1, compared):.1%} → {b / max(1, compared):.1%}" for label, a, b in moved
    )
    means = " → ".join(f"{mean:.3f}" for mean in manifest["mean_confidence"] or ())
    return [
        f"compared    {compared:,} of {manifest['rows']:,} rows, {both:,} with a language from "
        f"both {manifest['champion']['name']} and {manifest['challenger']['name']}",
        f"agreement   {'none' if not both else format(manifest['agreement'], '.2%')}",
        f"flips       {manifest['changed']:,} rows" + (f": {flips}" if flips else ""),
        f"shares      {shares or 'none'}",
        f"confidence  {means or 'none'} on average",
        f"time        {manifest['seconds']:.1f} s",
        f"result      {published / 'report.html'}",
    ]
