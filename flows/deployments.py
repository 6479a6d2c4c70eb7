"""Serve the deployments of prefect.yaml from this process: schedules, events and the form in the
UI, without a work pool or a worker.

python flows/deployments.py
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from charrnn import cli

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

    from charrnn.errors import CharrnnError

ROOT = Path(__file__).resolve().parent.parent


def deployments() -> "list[RunnerDeployment]":
    """Return what prefect.yaml describes, each as ``serve`` wants it; work pools and their job
    variables do not apply."""
    listed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return [_deployment(dict(entry)) for entry in listed]


def _deployment(entry: dict[str, Any]) -> "RunnerDeployment":
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.events import DeploymentEventTrigger
    from prefect.flows import load_flow_from_entrypoint
    from prefect.schedules import Cron

    entry.pop("work_pool")
    flow: Any = load_flow_from_entrypoint(str(ROOT / entry.pop("entrypoint")))
    name = entry.pop("name")
    schedules = [
        Cron(s["cron"], timezone=s["timezone"], slug=s["slug"], active=s["active"])
        for s in entry.pop("schedules", [])
    ]
    triggers = [DeploymentEventTrigger.model_validate(t) for t in entry.pop("triggers", [])]
    limit = ConcurrencyLimitConfig.model_validate(entry.pop("concurrency_limit"))
    deployment: RunnerDeployment = flow.to_deployment(
        name, schedules=schedules, triggers=triggers, concurrency_limit=limit, **entry
    )
    return deployment


def serve() -> None:
    """Serve the deployments of prefect.yaml until it is stopped."""
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")  # as flows.tracking
    import prefect

    os.chdir(ROOT)  # where relative paths in parameters start, as for a worker
    prefect.serve(*deployments())


def _shown(error: BaseException) -> "CharrnnError":
    from flows.tracking import shown  # not before Prefect: what it decorates would be untracked

    return shown(error)


app = cli.new_app("  python flows/deployments.py")
app.default(serve)

if __name__ == "__main__":
    cli.run(app, sys.argv[1:], _shown, stop_seconds=30)  # Prefect pauses the schedules
