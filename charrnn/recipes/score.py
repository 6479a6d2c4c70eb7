"""Score a table: plan, score, publish and deliver one run."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from charrnn.files import json_bytes, make_private, private_files
from charrnn.integrations.object_storage import check_remote_unchanged, fetch_input, remove_copies
from charrnn.model.priors import parse_prior
from charrnn.model.provenance import library_versions
from charrnn.model.version import ModelVersion, resolve
from charrnn.recipes.published import Published
from charrnn.recipes.requests import PREDICTIONS, ScoreRequest, ScoringRequest, TableRequest
from charrnn.recipes.runner import Runner
from charrnn.reports.run import run_report
from charrnn.runs.data_package import data_package
from charrnn.runs.execute import Executor, score_partitions
from charrnn.runs.export import check_exportable, export
from charrnn.runs.folders import passed_over_line
from charrnn.runs.history import drift_of
from charrnn.runs.manifest import (
    FetchedRecord,
    ModelRef,
    PriorRecord,
    RunFacts,
    RunManifest,
    RunOptions,
    read_run,
)
from charrnn.runs.parts import PartReceipt, part_path, part_schema
from charrnn.runs.plan import (
    Destination,
    RunKey,
    RunPlan,
    destination_of,
    plan_run,
    run_key,
    sample_names,
)
from charrnn.runs.pool import name_pool
from charrnn.runs.publish import finished_run, hold_destination, manifest_of, publish, update_latest
from charrnn.scoring.dictionary import added_columns
from charrnn.scoring.names import key_digest
from charrnn.scoring.options import ComputeOptions, ScoreOptions
from charrnn.scoring.scorer import Scorer, fitted_options


def score(request: ScoreRequest, runner: Runner, version: ModelVersion | None = None) -> Published:
    """Score every name of a table and publish the predictions as one run folder.

    Args:
        version: the model, where it is loaded already; otherwise ``request.model`` is loaded.

    Raises:
        CharrnnError: the input, an option, the model or the destination is at fault; nothing was
            published, and finished parts are kept for a rerun.
    """
    started = runner.now()
    target = destination_of(request.source, request.delivery.output, PREDICTIONS)
    with private_files(request.privacy.private), hold_destination(target.folder, runner.holder):
        scorer = load_scorer(request, version)
        source, remote = runner.step("fetch", fetch_input, request.source, target.folder)
        options = run_options(request, scorer.version, runner.name_key)
        key = run_key(source, ModelRef.of(scorer.version), options)
        run = None if request.force else finished_run(target.folder, key.fingerprint)
        reused, remarks = run is not None, tuple[str, ...]()
        if run is None:
            plan = runner.step("plan", prepare, key, target, scorer.version, runner.name_key)
            with runner.device_slot(scorer.device.type):
                settled = runner.step("settle prior", settle_prior, plan, scorer)
                receipts = runner.step(
                    "score partitions", score_all, plan, scorer, settled[0], request.compute, runner
                )
            compute = request.compute
            device = f"Ray, {compute.device}" if compute.engine == "ray" else scorer.device.type
            facts = run_facts(runner, started, device)
            manifest = manifest_of(plan, receipts, facts, settled[1])
            run, remarks = runner.step(
                "publish", publish_run, plan, manifest, scorer.version, remote
            )
        make_private(run)
        remarks = (*remarks, *update_latest(run, runner.now()))
        published = Published(
            run, read_run(run), request.delivery, reused, remarks=remarks, skipped=key.skipped
        )
        published = deliver(published, target, runner)
        remove_copies(source, remote)
    return published


def load_scorer(request: TableRequest, version: ModelVersion | None = None) -> Scorer:
    """Load the model on the device that scores; with Ray this process only plans and commits."""
    compute = request.compute
    device = "cpu" if compute.engine == "ray" else compute.device
    version = version or resolve(request.model, request.models)
    return Scorer(version, device, compute.names_per_pass)


def run_options(request: ScoringRequest, version: ModelVersion, name_key: bytes) -> RunOptions:
    """Return what decides the bytes of the run, with a prior from a file read."""
    scoring = fitted_options(request.scoring, version)
    if isinstance(scoring.prior, str):
        prior = parse_prior(scoring.prior, version.labels, version.label_name)
        scoring = replace(scoring, prior=prior)
    names = request.privacy.names
    return RunOptions(
        scoring=scoring,
        csv=request.csv,
        partition_rows=request.compute.partition_rows,
        names=names,
        name_key=key_digest(names, name_key),
        stamp=request.stamp,
    )


def prepare(key: RunKey, target: Destination, version: ModelVersion, name_key: bytes) -> RunPlan:
    """Prove the input, refuse what cannot be scored or exported, and cut it into partitions."""
    added = added_columns(key.options.scoring, version.labels, stamp=key.options.stamp)
    plan = plan_run(key, target.folder, added, name_key)
    if target.file is not None:
        check_exportable(plan.source.schema, target.file)
    return plan


def settle_prior(plan: RunPlan, scorer: Scorer) -> tuple[ScoreOptions, PriorRecord]:
    """Turn the prior asked for into label shares, estimating them from the input if need be."""
    options, labels = plan.key.options.scoring, scorer.version.labels
    estimated = options.prior == "estimate"
    names = sample_names(plan.source, options) if estimated else pa.array([], pa.string())
    settled, estimate = scorer.settle_prior(names, options)
    if isinstance(settled.prior, str):
        return settled, PriorRecord("train")
    shares = dict(zip(labels, settled.prior, strict=True))
    if estimate is None:
        return settled, PriorRecord("given", shares=shares)
    low, high = (dict(zip(labels, s, strict=True)) for s in (estimate.low, estimate.high))
    return settled, PriorRecord(
        "estimate", estimate.refused, estimate.rows, shares=shares, low=low, high=high
    )


def score_all(
    plan: RunPlan, scorer: Scorer, options: ScoreOptions, compute: ComputeOptions, runner: Runner
) -> list[PartReceipt]:
    """Score all partitions that are not finished yet, here or on a Ray cluster."""
    execute: Executor = score_partitions
    if compute.engine == "ray":
        from charrnn.integrations.ray import score_partitions_on_ray as execute
    shared = replace(plan, pool=name_pool(plan, scorer, options, compute))
    with runner.progress("scoring", plan.source.rows, "rows") as advance:
        return execute(shared, scorer, options, compute, lambda rows: advance(rows))


def publish_run(
    plan: RunPlan, manifest: RunManifest, version: ModelVersion, remote: tuple[FetchedRecord, ...]
) -> tuple[Path, tuple[str, ...]]:
    """Compare the run with those before, write manifest and report, and make the run visible by one
    rename. Return its folder, and a sentence for each folder that cannot be compared with."""
    check_remote_unchanged(remote)
    drift, passed_over = drift_of(manifest, plan.destination, version)
    manifest = replace(manifest, drift=drift, fetched=remote)
    columns = added_columns(plan.key.options.scoring, version.labels, stamp=plan.key.options.stamp)
    package = data_package(manifest, part_schema(part_path(plan.staging, 0)), columns)
    files = {"report.html": run_report(manifest), "datapackage.json": json_bytes(package)}
    return publish(plan, manifest, files), passed_over_line(passed_over)


def deliver(published: Published, target: Destination, runner: Runner) -> Published:
    """Hand the rows on: to one file, object storage and a Delta table, where asked for."""
    run, delivery = published.folder, published.delivery
    if target.file is not None:
        exported = export(run, target.file, formulas=delivery.keep_formulas)
        published = replace(published, exported=exported)
    if target.uri:
        from charrnn.integrations.object_storage import upload_run

        published = replace(published, uploaded=runner.step("upload", upload_run, run, target.uri))
    if delivery.delta:
        from charrnn.integrations.delta import append_run

        appended = runner.step("append to Delta table", append_run, run, delivery.delta)
        published = replace(published, appended=appended)
    return published


def run_facts(runner: Runner, started: datetime, device: str) -> RunFacts:
    """Return how a run was made, now that it is done."""
    return RunFacts(
        created=started.strftime("%Y%m%dT%H%M%SZ"),
        seconds=round((runner.now() - started).total_seconds(), 3),
        device=device,
        tracked=runner.tracked,
        libraries=library_versions(),
    )
