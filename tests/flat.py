"""The flows called with their options side by side, and manifests as an analyst reads them."""

import json
from pathlib import Path
from typing import Any

import flows.challenge
import flows.inbox
import flows.monitor
import flows.score
from charrnn.cli import command_from
from charrnn.recipes.requests import (
    CompareRequest,
    InboxRequest,
    MonitorRequest,
    PurgeRequest,
    ScoreRequest,
    VerifyRequest,
)
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


def read_manifest(run: Path | str) -> dict[str, Any]:
    """Return the manifest of a run as it lies on the disk."""
    document: dict[str, Any] = json.loads((Path(run) / "manifest.json").read_bytes())
    return document
