"""Say what a scoring run would do: all that it checks before scoring, and a sample scored."""

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from charrnn.errors import DataError
from charrnn.files import existing_folder
from charrnn.integrations.object_storage import fetch_input
from charrnn.recipes.requests import PREDICTIONS, ScoreRequest
from charrnn.recipes.runner import Runner
from charrnn.recipes.score import load_scorer, prepare, run_options, settle_prior
from charrnn.runs.execute import default_workers, score_partition
from charrnn.runs.manifest import ModelRef
from charrnn.runs.parts import read_receipt
from charrnn.runs.plan import RunPlan, destination_of, run_key
from charrnn.runs.publish import finished_run
from charrnn.scoring.dictionary import added_columns
from charrnn.scoring.options import ComputeOptions
from charrnn.scoring.scorer import Scorer
from charrnn.tables.discovery import Skipped
from charrnn.tables.row_groups import cut

_SAMPLE_ROWS = 2**15  # that are scored to tell the speed, about


@dataclass(frozen=True)
class Preview:
    """What a scoring run would do.

    Attributes:
        destination: folder that would get the run.
        files: of the input, with ``bytes`` in all.
        rows: to score; ``rejected`` more would be left out.
        partitions: to write, of which ``finished`` are there from an earlier try.
        published: folder of the same run, if there is one: nothing would be scored.
        columns: that would be added.
        seconds: that scoring would take here, about: a sample's speed; less where names repeat.
            None on a Ray cluster.
        output_bytes: of the rows, about.
        free_bytes: on the destination's disk.
        skipped: what lies beside the input files and is not read.
    """

    destination: Path
    files: int
    bytes: int
    rows: int
    rejected: int
    partitions: int
    finished: int
    published: Path | None
    columns: list[str]
    seconds: float | None
    output_bytes: int
    free_bytes: int
    skipped: Skipped = field(default_factory=Skipped)

    def lines(self) -> list[str]:
        """Return the lines about a run that is not done."""
        time = "unknown" if self.seconds is None else f"about {self.seconds:,.0f} s"
        size, free = (f"{n / 1e6:,.1f} MB" for n in (self.output_bytes, self.free_bytes))
        reused = f"nothing to do: {self.published} is this run" if self.published else ""
        finished = f", {self.finished:,} of them finished by an earlier try" * bool(self.finished)
        tight = "; too little" if self.output_bytes > self.free_bytes else ""
        return [
            f"dry run     nothing is published in {self.destination}",
            *([f"reused      {reused}"] if reused else ()),
            f"files       {self.files:,}, {self.bytes / 1e6:,.1f} MB",
            *([f"skipped     {self.skipped}"] if self.skipped.count else ()),
            f"rows        {self.rows:,}"
            + f", {self.rejected:,} more rejected" * (self.rejected > 0),
            f"partitions  {self.partitions:,}{finished}",
            f"columns     {', '.join(self.columns[:20])}" + ", …" * (len(self.columns) > 20),
            f"time        {time} to score all of them",
            f"disk        about {size}, {free} free{tight}",
        ]


def preview(request: ScoreRequest, runner: Runner) -> Preview:
    """Check all that a run checks before it scores, score a sample, and publish nothing; the copy
    of a CSV file that is counted lies in a private temporary folder while this runs.

    Raises:
        CharrnnError: as ``score.score``.
    """
    target = destination_of(request.source, request.delivery.output, PREDICTIONS)
    scorer = load_scorer(request)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, _ = fetch_input(request.source, folder)
        options = run_options(request, scorer.version, runner.name_key)
        key = run_key(source, ModelRef.of(scorer.version), options)
        there = replace(target, folder=folder)
        try:
            plan = prepare(key, there, scorer.version, runner.name_key)
        except DataError as error:  # its table of rejected rows is not kept
            raise DataError(str(error).split(f"; {folder}")[0], option=error.option) from None
        published = None if request.force else finished_run(target.folder, key.fingerprint)
        in_place = replace(plan, destination=target.folder)
        finished = [p for p in plan.partitions if read_receipt(in_place, p) is not None]
        seconds, size = _sampled(plan, scorer, request.compute, runner)
    return Preview(
        destination=target.folder,
        files=len(key.files),
        bytes=sum(file.size for file in key.files),
        rows=plan.source.rows,
        rejected=plan.source.rejects.num_rows,
        partitions=len(plan.partitions),
        finished=len(finished),
        published=published,
        columns=list(added_columns(options.scoring, scorer.version.labels, stamp=options.stamp)),
        seconds=None if request.compute.engine == "ray" else seconds,
        output_bytes=size,
        free_bytes=shutil.disk_usage(existing_folder(target.folder)).free,
        skipped=key.skipped,
    )


def _sampled(
    plan: RunPlan, scorer: Scorer, compute: ComputeOptions, runner: Runner
) -> tuple[float, int]:
    """Return the seconds and the bytes of a run, from those of its first rows."""
    options, _ = settle_prior(plan, scorer)
    started = runner.now()
    receipt = score_partition(cut(plan.source.tables, _SAMPLE_ROWS)[0], plan, scorer, options)
    seconds = (runner.now() - started).total_seconds()
    workers = min(compute.workers or default_workers(scorer.device), len(plan.partitions))
    times = plan.source.rows / max(1, receipt.rows)
    return round(seconds * times / workers, 1), round(receipt.size * times)
