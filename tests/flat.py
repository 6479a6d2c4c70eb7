"""The flows called with their options side by side, and manifests as an analyst reads them."""

import json
from pathlib import Path
from typing import Any

import flows.challenge
import flows.inbox
import flows.monitor
import flows.score
from charrnn.cli import command_from
from charrnn.model.version import ModelVersion
from charrnn.recipes.requests import (
    CompareRequest,
    InboxRequest,
    MonitorRequest,
    PurgeRequest,
    ScoreRequest,
    VerifyRequest,
)
from charrnn.runs.execute import score_partitions
from charrnn.runs.manifest import ModelRef, PriorRecord, RunFacts, RunOptions
from charrnn.runs.plan import RunKey, RunPlan, run_key
from charrnn.runs.publish import manifest_of, publish
from charrnn.scoring.options import ComputeOptions, ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.tables.csv_format import CsvFormat
from flows.tracking import submit


def _flat(request: type, flow: Any) -> Any:
    return command_from(request, lambda asked: submit(flow, asked))


score = _flat(ScoreRequest, flows.score.score)
challenge = _flat(CompareRequest, flows.challenge.challenge)
inbox = _flat(InboxRequest, flows.inbox.inbox)
monitor = _flat(MonitorRequest, flows.monitor.monitor)
score_request = command_from(ScoreRequest, lambda asked: asked)
verify_request = command_from(VerifyRequest, lambda asked: asked)
purge_request = command_from(PurgeRequest, lambda asked: asked)


def files_of(run: Path) -> list[Path]:
    """Return the files of a run, those of its rows too."""
    return sorted(path for path in run.rglob("*") if path.is_file())


def read_manifest(run: Path | str) -> dict[str, Any]:
    """Return the manifest of a run as it lies on the disk."""
    document: dict[str, Any] = json.loads((Path(run) / "manifest.json").read_bytes())
    return document


FACTS = RunFacts(created="20260101T000000Z", seconds=1.0, device="cpu", tracked=False, libraries={})
TRAIN = PriorRecord("train")


def key_of(
    source: Path | str, version: ModelVersion, options: ScoreOptions, partition_rows: int
) -> RunKey:
    """Return the key of a run with default CSV and privacy options."""
    model = ModelRef(version.name, version.digest)
    return run_key(str(source), model, RunOptions(options, CsvFormat(), partition_rows))


def publish_parts(plan: RunPlan, scorer: Scorer, options: ScoreOptions) -> Path:
    """Score a plan's partitions in one thread and publish the run, without a report."""
    receipts = score_partitions(plan, scorer, options, ComputeOptions(workers=1))
    return publish(plan, manifest_of(plan, receipts, FACTS, TRAIN), {})
