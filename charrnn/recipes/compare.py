"""Compare a champion and a challenger on one table: what would change if the second took over."""

from dataclasses import dataclass
from pathlib import Path

from charrnn.errors import ConfigError, percent
from charrnn.files import make_private, private_files
from charrnn.integrations.object_storage import check_remote_unchanged, fetch_input, remove_copies
from charrnn.model.version import resolve
from charrnn.recipes.requests import COMPARISONS, CompareRequest
from charrnn.recipes.runner import Runner
from charrnn.recipes.score import load_scorer, run_facts
from charrnn.reports.comparison import comparison_markdown, comparison_report
from charrnn.runs.comparison import Comparison, ModelPair, compare_partitions, comparison_manifest
from charrnn.runs.manifest import (
    ComparisonManifest,
    FetchedRecord,
    ModelRef,
    PartRecord,
    RunOptions,
    read_comparison,
)
from charrnn.runs.plan import RunPlan, destination_of, plan_run, run_key
from charrnn.runs.publish import finished_run, hold_destination, publish, update_latest
from charrnn.scoring.options import ScoreOptions


@dataclass(frozen=True)
class PublishedComparison:
    """A published comparison; ``reused`` where it was published before. ``remarks`` are lines about
    what may surprise."""

    folder: Path
    manifest: ComparisonManifest
    reused: bool
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the lines about a comparison of two models on one table."""
        manifest = self.manifest
        compared, of = manifest.compared, max(1, manifest.compared)
        label_name = manifest.options.scoring.label_name
        flips = ", ".join(f"{a} → {b} {n:,}" for a, b, n in manifest.flips[:5])
        moved = sorted(manifest.class_rows, key=lambda row: -abs(row[2] - row[1]))[:5]
        rates = ((label, percent(a / of), percent(b / of)) for label, a, b in moved)
        shares = ", ".join(f"{label} {before} → {after}" for label, before, after in rates)
        means = " → ".join(f"{mean:.3f}" for mean in manifest.mean_confidence or ())
        agreement = "none" if manifest.agreement is None else percent(manifest.agreement, 2)
        again = "nothing to do: this comparison is already published (force: once more)"
        return [
            *([again] if self.reused else []),
            *self.remarks,
            f"compared    {compared:,} of {manifest.rows:,} rows, {manifest.answered_by_both:,} "
            f"with a {label_name} from both {manifest.champion.name} and "
            f"{manifest.challenger.name}",
            f"agreement   {agreement}",
            f"flips       {manifest.changed:,} rows" + (f": {flips}" if flips else ""),
            f"shares      {shares or 'none'}",
            f"confidence  {means or 'none'} on average",
            f"time        {manifest.seconds:.1f} s",
            f"result      {self.folder / 'report.html'}",
        ]


def compare(request: CompareRequest, runner: Runner) -> PublishedComparison:
    """Score one table with two model versions in one pass and publish what would change.

    Raises:
        CharrnnError: as ``recipes.score.score``; ConfigError also where both are the same version.
    """
    started = runner.now()
    folder = folder_of(request)
    with private_files(request.private), hold_destination(folder, runner.holder):
        models = load_pair(request)
        source, remote = runner.step("fetch", fetch_input, request.source, folder)
        more = {"sample": request.sample, "flips": request.flips}
        one, other = models.champion.version, models.challenger.version
        both = ModelRef(f"{one.name} {other.name}", f"{one.digest} {other.digest}")
        key = run_key(source, both, comparison_options(request, models), more)
        run = None if request.force else finished_run(folder, key.fingerprint)
        reused = run is not None
        if run is None:
            plan = runner.step("plan", plan_run, key, folder, [])
            with runner.device_slot(models.champion.device.type):
                comparison, parts = runner.step(
                    "compare partitions", compare_all, plan, models, request, runner
                )
            manifest = comparison_manifest(
                plan,
                models,
                comparison,
                parts,
                run_facts(runner, started, models.champion.device.type),
                sample=request.sample,
                flips_written=request.flips,
            )
            run = runner.step("publish", publish_comparison, plan, manifest, remote)
        make_private(run)
        remarks = update_latest(run, runner.now())
        remove_copies(source, remote)
    return PublishedComparison(run, read_comparison(run), reused, tuple(remarks))


def folder_of(request: CompareRequest) -> Path:
    """Return the folder of the comparisons of an input; refuse a file and a URI."""
    target = destination_of(request.source, request.output, COMPARISONS)
    if target.file is not None or target.uri:
        raise ConfigError(
            f"comparisons are written to a folder on this machine, got {request.output}",
            option="output",
        )
    return target.folder


def load_pair(request: CompareRequest) -> ModelPair:
    """Load both models; refuse a model compared with itself."""
    if request.compute.engine != "local":
        raise ConfigError(
            "a comparison runs on this machine only; use engine local", option="engine"
        )
    champion, challenger = (
        load_scorer(request, resolve(name, request.models))
        for name in (request.model, request.challenger)
    )
    if champion.version.digest == challenger.version.digest:
        raise ConfigError(
            f"{request.model} and {request.challenger} are the same version, "
            f"{champion.version.name}; name another",
            option="challenger",
        )
    return ModelPair(champion, challenger)


def comparison_options(request: CompareRequest, models: ModelPair) -> RunOptions:
    """Return what decides the bytes of the comparison."""
    shared = ("name_column", "given_column", "surname_column", "name_order", "transliterate")
    asked = {name: getattr(request, name) for name in shared}
    scoring = ScoreOptions(top_k=1, label_as=models.label_name, **asked)
    return RunOptions(scoring, request.csv, request.compute.partition_rows)


def compare_all(
    plan: RunPlan, models: ModelPair, request: CompareRequest, runner: Runner
) -> tuple[Comparison, list[PartRecord]]:
    """Let both models score the distinct names of every partition."""
    every = max(1, -(-plan.source.rows // request.sample)) if request.sample else 1
    with runner.progress("comparing", plan.source.rows, "rows") as advance:
        return compare_partitions(
            plan,
            models,
            every=every,
            write_flips=request.flips,
            workers=request.compute.workers,
            on_part=lambda rows: advance(rows),
        )


def publish_comparison(
    plan: RunPlan, manifest: ComparisonManifest, remote: tuple[FetchedRecord, ...]
) -> Path:
    """Write manifest and reports, and make the comparison visible by one rename."""
    check_remote_unchanged(remote)
    html, markdown = comparison_report(manifest), comparison_markdown(manifest)
    return publish(plan, manifest, {"report.html": html, "report.md": markdown})
