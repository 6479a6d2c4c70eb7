"""Score a table of names: every row comes back once, in order, with a language and a confidence.

python flows/score.py people.csv
python flows/score.py verify outputs/predictions/people/latest
"""

import os
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from flows.challenge import challenge
from flows.command import new_app, progress, run, say, this_process
from flows.results import report_drift, show_head, show_run, summarise
from flows.tracking import (
    device_slot,
    flow,
    note_progress,
    run_facts,
    run_named,
    task,
)

if TYPE_CHECKING:  # torch, Polars and Arrow take a second to import; --help should not
    from charrnn.integrations.object_storage import RemoteFile
    from charrnn.model.version import ModelVersion
    from charrnn.runs.parts import PartReceipt
    from charrnn.runs.plan import Order, RunPlan
    from charrnn.scoring.options import ScoreOptions
    from charrnn.scoring.scorer import Scorer


@task(name="fetch", retries=2, retry_delay_seconds=[2, 10])
def fetch_input(source: str, destination: Path) -> "tuple[str, tuple[RemoteFile, ...]]":
    """Copy an input from object storage beside the run; leave a local one where it is."""
    from charrnn.integrations.object_storage import fetch
    from charrnn.tables.source import is_remote

    if not is_remote(source):
        return source, ()
    copied, remote = fetch(source, destination)
    return str(copied), remote


@task(name="plan")
def plan_run(order: "Order", destination: Path, added: list[str]) -> "RunPlan":
    """Prove the input, refuse what cannot be scored, and cut it into partitions."""
    from charrnn.runs import plan as planning
    from charrnn.scoring.names import name_key

    plan = planning.plan_run(order, destination, added)
    return replace(plan, name_key=name_key(order.options["names"]))


@task(name="settle prior")
def settle_prior(
    plan: "RunPlan", scorer: "Scorer", options: "ScoreOptions"
) -> "tuple[ScoreOptions, dict[str, Any]]":
    """Turn the prior asked for into label shares, estimating them from the input if need be."""
    import pyarrow as pa

    from charrnn.runs.plan import sample_names

    names = pa.array([], pa.string())
    if options.prior == "estimate":
        names = sample_names(plan.source, options.name_column)
    settled, estimate = scorer.settle_prior(names, options)
    return settled, describe_prior(settled, estimate, scorer.version.labels)


@task(name="score partitions")
def score_parts(
    plan: "RunPlan", scorer: "Scorer", options: "ScoreOptions", workers: int
) -> "list[PartReceipt]":
    """Score all partitions that are not finished yet."""
    from charrnn.runs.execute import score_partitions

    rows = plan.source.rows
    with (
        progress("scoring", rows, "rows") as advance,
        note_progress("scoring", rows, f"Per cent of {rows:,} rows") as show,
    ):

        def on_part(receipt: "PartReceipt") -> None:
            advance(receipt.rows)
            show(receipt.rows)

        return score_partitions(plan, scorer, options, workers=workers, on_part=on_part)


@task(name="score partitions on Ray")
def score_parts_on_ray(
    plan: "RunPlan",
    scorer: "Scorer",
    options: "ScoreOptions",
    workers: int | None,
    device: str,
    batch_size: int | None,
) -> "list[PartReceipt]":
    """Score all partitions that are not finished yet on the machines of a Ray cluster."""
    from charrnn.integrations.ray import score_partitions_on_ray

    with progress("scoring on Ray", plan.source.rows, "rows") as advance:
        return score_partitions_on_ray(
            plan,
            scorer.version,
            options,
            workers=workers,
            device=device,
            batch_size=batch_size,
            on_part=lambda receipt: advance(receipt.rows),
        )


@task(name="publish")
def publish_run(
    plan: "RunPlan",
    receipts: "list[PartReceipt]",
    facts: dict[str, Any],
    model: "ModelVersion",
    remote: "tuple[RemoteFile, ...]",
) -> Path:
    """Compare the run with those before, write manifest and report, and make the run visible by one
    rename."""
    from charrnn.integrations.object_storage import check_remote_unchanged
    from charrnn.reports.run import run_report
    from charrnn.runs.history import drift_of
    from charrnn.runs.publish import manifest_of, publish

    check_remote_unchanged(remote)
    fetched = {"fetched": [asdict(file) for file in remote]} if remote else {}
    manifest = manifest_of(plan, receipts, {**facts, **fetched})
    manifest["drift"] = drift_of(manifest, plan.destination, model)
    return publish(plan, manifest, facts["created"], {"report.html": run_report(manifest)})


@task(name="upload", retries=2, retry_delay_seconds=[2, 10])
def upload(published: Path, uri: str) -> str:
    """Copy the run to object storage, its manifest last; return the URI of the copy."""
    from charrnn.integrations.object_storage import upload_run

    return upload_run(published, uri)


@task(name="append to Delta table")
def append_to_table(published: Path, table: str) -> bool:
    """Append the run's rows to a Delta table, unless it has them already."""
    from charrnn.integrations.delta import append_run

    return append_run(published, table)


@flow(name="score", flow_run_name=run_named("score", "source"), validate_parameters=True)
def score(
    source: str,
    *,
    name_column: str = "name",
    model: str = "pretrained",
    output: Annotated[str, Parameter(alias="-o")] = "",
    top_k: int = 3,
    probabilities: bool = False,
    prefix: str = "",
    min_confidence: float = 0.0,
    prior: str = "train",
    coverage_target: float = 0.0,
    details: bool = False,
    transliterate: bool = False,
    batch_size: int | Literal["auto"] = "auto",
    partition_rows: int = 2**20,
    workers: int | None = None,
    device: str = "auto",
    engine: Literal["local", "ray"] = "local",
    models: str = "outputs/models",
    delimiter: str = "",
    encoding: str = "utf-8",
    quote: str = '"',
    multiline: bool = False,
    on_bad_line: Literal["refuse", "reject"] = "refuse",
    max_rejected: str = "0",
    names: Literal["keep", "hash", "omit"] = "keep",
    private: bool = False,
    keep_formulas: bool = False,
    on_drift: Literal["ignore", "warn", "fail"] = "warn",
    delta: str = "",
    force: bool = False,
) -> str:
    """Score every name of a table and publish the predictions as one run folder.

    Every input row comes back exactly once, in order, with its own columns unchanged and
    language, confidence, status and reason added.

    Args:
        source: Parquet or CSV (.csv, .csv.gz, .csv.zst): a file, a folder or a glob, or a URI of
            one on object storage (s3://, gs://).
        name_column: the column that holds the names.
        model: pretrained, pretrained-tiny, an alias such as champion, or a version such as v0007.
        output: folder for the runs (default outputs/predictions/NAME); or a .parquet or .csv file,
            or a URI on object storage, that receives all rows as well.
        top_k: how many languages to give per name.
        probabilities: add one probability column per language.
        prefix: put before the name of every column that scoring adds.
        min_confidence: give no language below this confidence (status abstained).
        prior: label shares of the table: train, uniform, estimate, or a CSV file with the columns
            language and share.
        coverage_target: add prediction sets that hold the true language for this share of names.
        details: add whether a name is ambiguous and how unfamiliar it is.
        transliterate: write names in other scripts in Latin letters first.
        batch_size: names per forward pass, or auto: what suits the device.
        partition_rows: rows per unit of work and per output file, at most.
        workers: partitions scored at a time; by default one per processor, at most 8; with Ray
            one per GPU or processor of the cluster.
        device: auto, cpu, cuda or cuda:N.
        engine: local (this machine) or ray (the cluster that RAY_ADDRESS names; input and output
            must lie on a file system that all its machines mount at the same place).
        models: folder of the model versions.
        delimiter: of CSV cells, one character; found in the first lines if empty.
        encoding: of CSV files, such as cp1252 or utf-16.
        quote: of CSV cells: ", ' or none.
        multiline: accept line breaks inside quoted CSV cells.
        on_bad_line: refuse a CSV file that has a line with too many or too few cells, or bytes
            that are not UTF-8; or reject these lines, which leaves them out.
        max_rejected: how many lines may be rejected, a number, or a share such as 0.1%; with
            more nothing is published.
        names: what becomes of the names in the output: keep, hash (by the secret in the
            environment variable CHARRNN_NAME_KEY) or omit.
        private: make files that only their owner can read.
        keep_formulas: leave cells as they are that a spreadsheet would run, in CSV given to -o;
            otherwise they get a leading apostrophe.
        on_drift: what to do when the names are not like the model's or the last run's: ignore,
            warn, or fail, with exit code 79; the run is published in any case.
        delta: a Delta table (folder or URI) that receives all rows as well, once.
        force: score again even where the same run is already published.

    Returns:
        The run's folder.
    """
    from charrnn.errors import ConfigError
    from charrnn.files import private_files, remove_tree
    from charrnn.model.priors import parse_prior
    from charrnn.runs.export import check_exportable, export
    from charrnn.runs.manifest import read_manifest
    from charrnn.runs.plan import destination_of, order_of
    from charrnn.runs.publish import finished_run, hold_destination, point_latest_at
    from charrnn.scoring.options import ScoreOptions
    from charrnn.scoring.scorer import Scorer
    from charrnn.tables.csv_format import CsvFormat
    from charrnn.tables.csv_staging import parse_budget
    from charrnn.tables.source import is_remote

    started, created = time.monotonic(), datetime.now(UTC)
    bucket = output if is_remote(output) else ""
    if bucket.endswith((".parquet", ".csv")):
        raise ConfigError(f"{bucket} would be a folder of parts; give -o a prefix without a suffix")
    destination, single_file = destination_of(source, "" if bucket else output)
    with private_files(private), hold_destination(destination, this_process()):
        size = None if batch_size == "auto" else batch_size
        here = "cpu" if engine == "ray" else device  # then this process only plans and commits
        scorer = Scorer.load(model, models=models, device=here, batch_size=size)
        options = ScoreOptions(
            name_column=name_column,
            top_k=top_k,
            probabilities=probabilities,
            prefix=prefix,
            min_confidence=min_confidence,
            prior=parse_prior(prior, scorer.version.labels),
            coverage_target=coverage_target,
            details=details,
            transliterate=transliterate,
        )
        found, remote = fetch_input(source, destination)
        order = order_of(
            found,
            scorer.version,
            options,
            partition_rows=partition_rows,
            names=names,
            csv=CsvFormat(delimiter, encoding, quote, multiline, on_bad_line),
            max_rejected=parse_budget(max_rejected),
        )
        published = None if force else finished_run(destination, order.fingerprint)
        if published is not None:
            point_latest_at(published)
            say("nothing to do: these inputs, model and options are already scored (see --force)")
        else:
            added = options.columns(scorer.version.labels)
            plan = plan_run(order, destination, added)
            if single_file is not None:
                check_exportable(plan.source.schema, single_file)
            where = f"Ray, {device}" if engine == "ray" else scorer.device.type
            with device_slot(scorer.device.type):
                settled, shares = settle_prior(plan, scorer, options)
                if engine == "ray":
                    receipts = score_parts_on_ray(plan, scorer, settled, workers, device, size)
                else:
                    threads = workers or min(8, os.cpu_count() or 1)
                    receipts = score_parts(plan, scorer, settled, threads)
            seconds = time.monotonic() - started
            facts = {**run_facts(created, seconds, where), "prior": shares}
            published = publish_run(plan, receipts, facts, scorer.version, remote)
        if single_file is not None:
            rows, escaped = export(published, single_file, formulas=keep_formulas)
            say(f"exported {rows:,} rows to {single_file}")
            if escaped:
                say(f"escaped     {escaped:,} cells that a spreadsheet would run as a formula")
        if bucket:
            say(f"uploaded to {upload(published, bucket)}")
        if delta:
            appended = append_to_table(published, delta)
            say(f"appended to {delta}" if appended else f"{delta} has the rows of this run already")
        if remote:
            remove_tree(Path(found) if Path(found).is_dir() else Path(found).parent)
    manifest = read_manifest(published)
    show_run(published, manifest)
    for line in summarise(published, manifest):
        say(line)
    if on_drift != "ignore":
        report_drift(published, manifest, fail=on_drift == "fail")
    return str(published)


def describe_prior(
    options: "ScoreOptions", estimate: Any, labels: tuple[str, ...]
) -> dict[str, Any]:
    """Return the prior that was used, for the manifest."""
    if isinstance(options.prior, str):
        return {"kind": options.prior}
    shares = dict(zip(labels, options.prior, strict=True))
    if estimate is None:
        return {"kind": "given", "shares": shares}
    low, high = (dict(zip(labels, bound, strict=True)) for bound in (estimate.low, estimate.high))
    return {
        "kind": "estimate",
        "refused": estimate.refused,
        "names": estimate.rows,
        "shares": shares,
        "low": low,
        "high": high,
    }


def verify(run: str) -> None:
    """Prove a published run again from its bytes: digests, page checksums, row counts.

    Args:
        run: folder of a run, such as outputs/predictions/people/latest, or the URI of an uploaded
            one, or of what -o was (then its latest.json says which).
    """
    from tempfile import TemporaryDirectory

    from charrnn.integrations.object_storage import download_run
    from charrnn.runs.verify import verify_run
    from charrnn.tables.source import is_remote

    if is_remote(run):
        with TemporaryDirectory() as folder:
            manifest = verify_run(download_run(run, Path(folder)))
    else:
        manifest = verify_run(Path(run))
    say(f"{run} is whole: {manifest['rows']:,} rows in {len(manifest['parts'])} parts")


def purge(
    folder: Path = Path("outputs/predictions"),
    *,
    older_than: float,
    keep_latest: bool = False,
    yes: bool = False,
) -> None:
    """Remove published runs that are older than some days, and left-overs of unfinished ones.

    Args:
        folder: a destination, or a folder of destinations.
        older_than: days.
        keep_latest: leave the runs that a latest link points to.
        yes: remove them; without it they are only listed.
    """
    from charrnn.runs.retention import old_runs
    from charrnn.runs.retention import purge as remove

    found = old_runs(folder, older_than, keep_latest=keep_latest)
    for old in found:
        say(str(old))
    if yes:
        say(f"removed     {len(found)} runs, {remove(found) / 1e6:,.1f} MB")
    else:
        say(f"would go    {len(found)} runs; --yes removes them")


app = new_app(
    "  python flows/score.py people.csv\n"
    "  python flows/score.py 'exports/*.parquet' --name-column surname\n"
    "  python flows/score.py people.parquet -o scored.csv\n"
    "  python flows/score.py challenge people.csv --model champion --challenger candidate\n"
    "  python flows/score.py verify outputs/predictions/people/latest\n"
    "  python flows/score.py purge --older-than 90 --yes"
)
app.default(score)
app.command(verify)
app.command(purge)
app.command(challenge)


@app.meta.default
def main(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)], head: int = 0
) -> None:
    """Run the flow and look at what came out.

    Args:
        head: also print the first rows of the result, this many, names included.
    """
    published = app(tokens)
    if head > 0 and published:
        show_head(Path(published), head)


if __name__ == "__main__":
    run(app.meta)
