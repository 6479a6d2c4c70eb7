"""Where the runs of a destination lie.

    outputs/predictions/people/.lock                      held while a run is written
                              /.staging-1f3a9c…/          parts of an unfinished run
                              /runs/20261124T020000Z-1f3a9c4e/   a run
                              /latest                     link to the newest run

Runs alone are in ``runs``, so ``runs/*/part-*.parquet`` reads each of them once.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

RUN_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}(-[1-9][0-9]{0,8})?")


class RunName(NamedTuple):
    """What the name of a run says: its time (UTC), its number among the runs of that second, and
    the first digits of its fingerprint. Newer runs are greater."""

    created: str
    number: int
    fingerprint: str


def parse_run_name(name: str) -> RunName | None:
    """Return what the name of a run says, None if it is no run's.

    >>> parse_run_name("20261124T020000Z-1f3a9c4e-2")
    RunName(created='20261124T020000Z', number=2, fingerprint='1f3a9c4e')
    >>> parse_run_name("20261324T020000Z-1f3a9c4e")
    """
    if not RUN_NAME.fullmatch(name):
        return None
    created, fingerprint, *number = name.split("-")
    try:
        datetime.strptime(created, "%Y%m%dT%H%M%SZ")
    except ValueError:  # such as month 13
        return None
    return RunName(created, int(*number) if number else 1, fingerprint)


def runs_folder(destination: Path) -> Path:
    """Return the folder that holds the runs of a destination."""
    return destination / "runs"


def destination_of_run(run: Path) -> Path:
    """Return the destination that a published run belongs to."""
    return run.parent.parent


def latest_link(destination: Path) -> Path:
    """Return the link to the newest run of a destination."""
    return destination / "latest"


def run_at(path: Path) -> Path:
    """Return the run at ``path``: the folder itself, or the newest run of a destination, by its
    ``latest`` link."""
    latest = latest_link(path)
    is_destination = latest.is_symlink() and not (path / "manifest.json").exists()
    return latest.parent / latest.readlink() if is_destination else path


def staging_folder(destination: Path, fingerprint: str) -> Path:
    """Return the folder of the parts of an unfinished run."""
    return destination / f".staging-{fingerprint[:16]}"
