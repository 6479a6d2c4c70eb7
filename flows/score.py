"""Score a table of names: every row comes back once, in order, with a language and a confidence.

python flows/score.py people.csv
python flows/score.py verify outputs/predictions/people/latest
"""

import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.command import add_tracking, new_parser, progress, run, say
from flows.tracking import TRACKED, flow, note, task

if TYPE_CHECKING:  # torch, Polars and Arrow take a second to import; --help should not
    from charrnn.runs import Receipt, RunPlan
    from charrnn.scoring import ScoreOptions, Scorer


@task(name="plan")
def plan_run(
    source: str,
    destination: Path,
    scorer: "Scorer",
    options: "ScoreOptions",
    partition_rows: int,
    multiline: bool,
) -> "RunPlan":
    """Find and prove the input, refuse what cannot be scored, and cut it into partitions."""
    from charrnn import planning
    from charrnn.tables import CsvFormat

    return planning.plan_run(
        source,
        destination,
        scorer.version,
        options,
        partition_rows=partition_rows,
        csv=CsvFormat(multiline=multiline),
    )


@task(name="settle prior")
def settle_prior(
    plan: "RunPlan", scorer: "Scorer", options: "ScoreOptions"
) -> "tuple[ScoreOptions, dict[str, Any]]":
    """Turn the prior asked for into label shares, estimating them from the input if need be."""
    import pyarrow as pa

    from charrnn.planning import sample_names

    names = pa.array([], pa.string())
    if options.prior == "estimate":
        names = sample_names(plan.source, options.name_column)
    settled, estimate = scorer.settle_prior(names, options)
    return settled, describe_prior(settled, estimate, scorer.version.labels)


@task(name="score partitions")
def score_parts(
    plan: "RunPlan", scorer: "Scorer", options: "ScoreOptions", workers: int
) -> "list[Receipt]":
    """Score all partitions that are not finished yet."""
    from charrnn.scoring import score_partitions

    with progress("scoring", plan.source.rows, "rows") as advance:
        return score_partitions(
            plan,
            scorer,
            options,
            workers=workers,
            on_part=lambda receipt: advance(receipt.rows),
        )


@task(name="publish")
def publish_run(plan: "RunPlan", receipts: "list[Receipt]", facts: dict[str, Any]) -> Path:
    """Write manifest and report, and make the run visible by one rename."""
    from charrnn.report import run_report
    from charrnn.runs import manifest_of, publish

    manifest = manifest_of(plan, receipts, facts)
    return publish(plan, manifest, facts["created"], {"report.html": run_report(manifest)})


@flow(name="score", flow_run_name="score {source}", validate_parameters=True)
def score(
    source: str,
    name_column: str = "name",
    model: str = "pretrained",
    output: str = "",
    top_k: int = 3,
    probabilities: bool = False,
    prefix: str = "",
    min_confidence: float = 0.0,
    prior: str = "train",
    coverage_target: float = 0.0,
    details: bool = False,
    transliterate: bool = False,
    batch_size: int | None = None,
    partition_rows: int = 2**20,
    workers: int | None = None,
    device: str = "auto",
    models: str = "outputs/models",
    multiline: bool = False,
    force: bool = False,
) -> str:
    """Score every name of a table and publish the predictions as one run folder.

    Args:
        source: Parquet or CSV (.csv, .csv.gz, .csv.zst): a file, a folder or a glob.
        name_column: the column that holds the names.
        model: pretrained, pretrained-tiny, an alias such as champion, or a version such as v0007.
        output: folder for the runs (default outputs/predictions/NAME), or a .parquet or .csv file
            that receives all rows as well.
        top_k: how many languages to give per name.
        probabilities: add one probability column per language.
        prefix: put before the name of every column that scoring adds.
        min_confidence: give no language below this confidence (status abstained).
        prior: label shares of the table: train, uniform, estimate, or a CSV file with the columns
            language and share.
        coverage_target: add prediction sets that hold the true language for this share of names.
        details: add whether a name is ambiguous and how unfamiliar it is.
        transliterate: write names in other scripts in Latin letters first.
        batch_size: names per forward pass; by default what suits the device.
        partition_rows: rows per unit of work and per output file.
        workers: partitions scored at a time; by default one per processor, at most 8.
        device: auto, cpu, cuda or cuda:N.
        models: folder of the model versions.
        multiline: accept line breaks inside quoted CSV cells.
        force: score again even where the same run is already published.

    Returns:
        The run's folder.
    """
    from charrnn.files import hold, remove_tree
    from charrnn.planning import destination_of
    from charrnn.priors import parse_prior
    from charrnn.runs import check_exportable, export, finished_run, point_latest_at, read_manifest
    from charrnn.scoring import ScoreOptions, Scorer

    started, created = time.monotonic(), datetime.now(UTC)
    destination, single_file = destination_of(source, output)
    with hold(destination / ".lock", f"process {os.getpid()} on {platform.node()}"):
        scorer = Scorer.load(model, models=models, device=device, batch_size=batch_size)
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
        plan = plan_run(source, destination, scorer, options, partition_rows, multiline)
        if single_file is not None:
            check_exportable(plan.source.schema, single_file)
        published = None if force else finished_run(destination, plan.fingerprint)
        if published is not None:
            remove_tree(plan.staging)
            point_latest_at(published)
            say("nothing to do: these inputs, model and options are already scored (see --force)")
        else:
            settled, shares = settle_prior(plan, scorer, options)
            receipts = score_parts(plan, scorer, settled, workers or min(8, os.cpu_count() or 1))
            seconds = time.monotonic() - started
            facts = {**_facts(created, seconds, scorer.device.type), "prior": shares}
            published = publish_run(plan, receipts, facts)
    if single_file is not None:
        say(f"exported {export(published, single_file):,} rows to {single_file}")
    summary = summarise(published, read_manifest(published))
    note("score-summary", "\n".join(["```", *summary, "```"]))
    for line in summary:
        say(line)
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


def summarise(published: Path, manifest: dict[str, Any]) -> list[str]:
    """Return the lines that a person wants to see at the end; counts only, no names."""
    rows, statuses, seconds = manifest["rows"], manifest["statuses"], manifest["seconds"]
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in manifest["reasons"].items())
    top = list(manifest["labels"].items())[:5]
    labels = ", ".join(f"{label} {n / max(1, rows):.1%}" for label, n in top)
    confidence = manifest["mean_confidence"]
    return [
        f"rows        {rows:,}: {statuses['scored']:,} scored, {statuses['abstained']:,} "
        f"abstained, {statuses['unscored']:,} unscored" + (f" ({reasons})" if reasons else ""),
        f"languages   {labels or 'none'}",
        f"confidence  {'none' if confidence is None else f'{confidence:.3f}'} on average",
        *_prior_line(manifest["prior"]),
        f"model       {manifest['model']['name']} ({manifest['model']['digest'][:12]})",
        f"time        {seconds:.1f} s, {rows / max(seconds, 1e-9):,.0f} rows/s",
        f"result      {published}",
        f"read it     polars.read_parquet('{published}/part-*.parquet')",
        f"            duckdb: from '{published}/part-*.parquet'",
    ]


def _prior_line(prior: dict[str, Any]) -> list[str]:
    if prior["kind"] == "train":
        return []
    if prior.get("refused"):
        return [f"prior       not estimated: {prior['refused']}"]
    shares = sorted(prior["shares"].items(), key=lambda item: -item[1])[:5]
    return [f"prior       {prior['kind']}: {', '.join(f'{k} {v:.1%}' for k, v in shares)} …"]


def _facts(created: datetime, seconds: float, device: str) -> dict[str, Any]:
    import polars
    import pyarrow
    import torch

    import charrnn

    return {
        "created": created.strftime("%Y%m%dT%H%M%SZ"),
        "seconds": round(seconds, 3),
        "device": device,
        "tracked": TRACKED,
        "libraries": {
            "charrnn": charrnn.__version__,
            "torch": torch.__version__,
            "polars": polars.__version__,
            "pyarrow": pyarrow.__version__,
            "python": platform.python_version(),
        },
    }


def _show_head(published: Path, rows: int) -> None:
    """Print the first rows: what a person looks at first, narrow enough for a terminal."""
    import polars as pl

    from charrnn.runs import read_manifest

    manifest = read_manifest(published)
    prefix = manifest["options"]["prefix"]
    parts = [published / part["name"] for part in manifest["parts"]]
    frame = pl.scan_parquet(parts, glob=False).head(rows).collect()
    given = frame.columns[: min(3, frame.columns.index(f"{prefix}language"))]
    ours = [prefix + name for name in ("language", "confidence", "status", "reason")]
    with pl.Config(tbl_rows=rows, tbl_hide_dataframe_shape=True, float_precision=3,
                   tbl_hide_column_data_types=True, fmt_str_lengths=24):  # fmt: skip
        say(str(frame.select(*given, *ours)))


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["verify"]:
        return _verify()
    parser = new_parser(
        "Score a table of names. Every input row comes back exactly once, in order, with its own "
        "columns unchanged and language, confidence, status and reason added.",
        "  python flows/score.py people.csv\n"
        "  python flows/score.py 'exports/*.parquet' --name-column surname --model champion\n"
        "  python flows/score.py people.parquet -o scored.csv\n"
        "  python flows/score.py verify outputs/predictions/people/latest",
    )
    parser.add_argument(
        "source",
        metavar="INPUT",
        help="Parquet or CSV (.gz, .zst): a file, a folder or a glob; or `verify RUN`",
    )
    add = parser.add_argument
    add("--name-column", default="name", metavar="COLUMN", help="column with the names (name)")
    add("--model", default="pretrained", help="pretrained, pretrained-tiny, champion, v0007 …")
    add("-o", "--output", default="", metavar="PATH",
        help="folder for the runs (outputs/predictions/NAME), or a .parquet or .csv file that "
        "receives all rows as well")  # fmt: skip
    add("--top-k", type=int, default=3, metavar="K", help="languages per name (3)")
    add("--probabilities", action="store_true", help="add one probability column per language")
    add("--prefix", default="", help="put before the name of every added column")
    add("--min-confidence", type=float, default=0.0, metavar="P",
        help="abstain below this confidence (0: never)")  # fmt: skip
    add("--prior", default="train", metavar="PRIOR",
        help="label shares of this table: train (as the model learned them), uniform (only for "
        "a table that is), estimate (from it), or a CSV file with language,share")  # fmt: skip
    add("--coverage-target", type=float, default=0.0, metavar="P",
        help="add prediction sets that hold the true language for this share of names")  # fmt: skip
    add("--details", action="store_true",
        help="add ambiguous (several labels in training) and unfamiliarity (0 to 1)")  # fmt: skip
    add("--transliterate", action="store_true",
        help="write names in other scripts in Latin letters first")  # fmt: skip
    add("--batch-size", type=_auto_or_int, default=None, metavar="N",
        help="names per forward pass, or auto")  # fmt: skip
    add("--partition-rows", type=int, default=2**20, metavar="N",
        help="rows per unit of work and output file (1048576)")  # fmt: skip
    add("--workers", type=int, default=None, metavar="N", help="partitions scored at a time")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    add("--models", default="outputs/models", metavar="DIR", help="folder of the model versions")
    add("--multiline", action="store_true", help="accept line breaks in quoted CSV cells")
    add("--force", action="store_true", help="score again even where this run is published")
    add("--head", type=int, default=0, metavar="N",
        help="also print the first N rows of the result, names included")  # fmt: skip
    add_tracking(parser)
    arguments = vars(parser.parse_args())
    head = arguments.pop("head")
    del arguments["track"]
    published = score(**arguments)
    if head > 0:
        _show_head(Path(published), head)


def _verify() -> None:
    from charrnn.runs import verify_run

    parser = new_parser(
        "Prove a published run again from its bytes: digests, page checksums, row counts.",
        "  python flows/score.py verify outputs/predictions/people/latest",
    )
    parser.add_argument("verify", choices=["verify"])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    arguments = parser.parse_args()
    manifest = verify_run(arguments.run)
    say(f"{arguments.run} is whole: {manifest['rows']:,} rows in {len(manifest['parts'])} parts")


def _auto_or_int(text: str) -> int | None:
    return None if text == "auto" else int(text)


if __name__ == "__main__":
    run(main)
