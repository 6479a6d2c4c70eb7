"""Find and remove old runs."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from charrnn.errors import ConfigError, InputMissingError
from charrnn.files import hold, remove_file, withdraw_folder
from charrnn.runs.manifest import RUN_NAME


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
        latest = keep_latest and (folder.parent / "latest").resolve() == folder.resolve()
        if RUN_NAME.fullmatch(folder.name) and not folder.is_symlink() and not latest:
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
        with hold(run.parent / ".lock", "a purge"):
            freed += sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
            withdraw_folder(run)
            latest = run.parent / "latest"
            if latest.is_symlink() and not latest.exists():
                remove_file(latest)
    return freed
