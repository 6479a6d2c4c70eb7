"""Where the runs of a destination lie.

    outputs/predictions/people/.lock                      held while a run is written
                              /.staging-1f3a9c…/          parts of an unfinished run
                              /runs/20261124T020000Z-1f3a9c4e/   a run
                              /latest                     link to the newest run

Runs alone are in ``runs``, so ``runs/*/part-*.parquet`` reads each of them once.
"""

import re
from pathlib import Path

RUN_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}(-\d+)?")


def runs_folder(destination: Path) -> Path:
    """Return the folder that holds the runs of a destination."""
    return destination / "runs"


def destination_of_run(run: Path) -> Path:
    """Return the destination that a published run belongs to."""
    return run.parent.parent


def latest_link(destination: Path) -> Path:
    """Return the link to the newest run of a destination."""
    return destination / "latest"


def staging_folder(destination: Path, fingerprint: str) -> Path:
    """Return the folder of the parts of an unfinished run."""
    return destination / f".staging-{fingerprint[:16]}"
