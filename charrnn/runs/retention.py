"""Find and remove old runs."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from charrnn.errors import ConfigError, InputMissingError
from charrnn.files import hold, remove_file, withdraw_folder
from charrnn.runs.folders import RUN_NAME, destination_of_run, latest_link


def old_runs(root: Path, days: float, now: datetime, *, keep_latest: bool = False) -> list[Path]:
    """Return the runs under ``root`` (a destination or a folder of them), and staging folders of
    unfinished ones, that are older than ``days``, sorted.

    Args:
        now: UTC.
        keep_latest: leave the run that ``latest`` points to.

    Raises:
        ConfigError: ``days`` is negative. InputMissingError: there is no such folder.
    """
    if not days >= 0:
        raise ConfigError(f"older_than must be ≥ 0 days, got {days}", option="older_than")
    if not root.is_dir():
        raise InputMissingError(f"{root} does not exist")
    before = now - timedelta(days=days)
    old = []
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        latest = latest_link(destination_of_run(folder))
        kept = keep_latest and latest.resolve() == folder.resolve()
        if _is_run(folder) and not kept:
            created = datetime.strptime(folder.name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        elif re.match(r"\.(staging|fetched|purged)-", folder.name):
            created = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        else:
            continue
        if created < before:
            old.append(folder)
    return sorted(old)


def purge(runs: Sequence[Path]) -> int:
    """Remove runs, each under its destination's lock and by one rename, and ``latest`` links left
    without a target; return the bytes freed.

    Raises:
        BusyError: a run of one of the destinations is being written.
        StorageError: something could not be removed.
    """
    freed = 0
    for run in runs:
        destination = destination_of_run(run) if _is_run(run) else run.parent
        with hold(destination / ".lock", "a purge"):
            freed += sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
            withdraw_folder(run, destination)
            latest = latest_link(destination)
            if latest.is_symlink() and not latest.exists():
                remove_file(latest)
    return freed


def _is_run(folder: Path) -> bool:
    named = folder.parent.name == "runs" and RUN_NAME.fullmatch(folder.name)
    return bool(named) and not folder.is_symlink()
