"""Find and remove old runs."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from charrnn.errors import CharrnnError, InputMissingError, StorageError
from charrnn.files import (
    hold,
    is_system_file,
    is_transient,
    own_folders,
    remove_file,
    translate_os_errors,
    withdraw_folder,
)
from charrnn.runs.folders import (
    ROWS,
    RUN_FILE,
    RUN_NAME,
    destination_of_run,
    is_folder,
    latest_link,
    run_at,
)
from charrnn.runs.manifest import own_manifest

_FETCHED = re.compile(r"\.fetched-[0-9a-f]{8,64}")
_LEFT_OVER = re.compile(
    rf"{_FETCHED.pattern}|\.staging-[0-9a-f]{{8,64}}(-[0-9a-f]{{12}})?"
    rf"|\.purged-{RUN_NAME.pattern}(\.[0-9]+)?"
)


@dataclass
class OldRuns:
    """What a purge did, or would do.

    Attributes:
        folders: of the runs, and of unfinished ones, that are removed, or would be; sorted.
        newest: old runs that are kept, since each is the newest of its destination.
        left: a sentence for each folder that is named like a run and is left alone.
        freed: bytes; None where nothing was to be removed yet.
        failures: why runs could not be removed, or folders not be read.
    """

    folders: list[Path] = field(default_factory=list)
    newest: list[Path] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    freed: int | None = None
    failures: list[CharrnnError] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return a line per run, one per folder that is left, and the sums."""
        done = f"would go    {len(self.folders)} runs; --yes removes them"
        if self.freed is not None:
            done = f"removed     {len(self.folders)} runs, {self.freed / 1e6:,.1f} MB"
        kept = f"kept        {len(self.newest)} runs, each the newest of its destination (--newest)"
        return [*map(str, self.folders), *self.left, *([kept] if self.newest else ()), done]

    def check(self) -> None:
        """Raise the first failure, with the number of the others."""
        if self.failures:
            first, more = self.failures[0], len(self.failures) - 1
            others = f"; {more:,} more failures like this one" if more else ""
            raise type(first)(f"{first}{others}")


def old_runs(root: Path, days: float, now: datetime, *, keep_newest: bool = False) -> OldRuns:
    """Return the runs and comparisons under ``root`` (a destination or a folder of them), and
    staging folders of unfinished ones, that are older than ``days``. What is only named like a run
    is none; links are not followed.

    Args:
        now: UTC.
        keep_newest: leave the newest run of each destination, see ``folders.run_at``.

    Raises:
        InputMissingError: there is no such folder.
    """
    if not root.is_dir():
        raise InputMissingError(f"{root} does not exist")
    before, old = now - timedelta(days=days), OldRuns()
    for folder in _folders(root, old):
        try:
            created = _created(folder)
        except (CharrnnError, OSError, ValueError) as error:
            _leave(folder, error, old, f"{folder} is not ours")
            continue
        if created is not None and created < before:
            old.folders.append(folder)
    old.folders.sort()
    if keep_newest:
        _keep_newest(old)
    return old


def _keep_newest(old: OldRuns) -> None:
    """Move the newest run of each destination from ``folders`` to ``newest``; where it cannot be
    told which it is, leave all runs of the destination."""
    runs = [folder for folder in old.folders if RUN_NAME.fullmatch(folder.name)]
    for destination in sorted({destination_of_run(run) for run in runs}):
        kept = [run for run in runs if destination_of_run(run) == destination]
        try:
            newest = run_at(destination)
            kept = [run for run in kept if run == newest]
            old.newest += kept
        except StorageError as error:
            old.failures.append(error)
        old.folders = [folder for folder in old.folders if folder not in kept]


def _leave(folder: Path, error: Exception, old: OldRuns, reason: str) -> None:
    """Note why a folder is left: that reading failed, or what the error or ``reason`` says."""
    if isinstance(error, OSError) and is_transient(error):
        error = StorageError(f"{folder} cannot be read: {error.strerror}")
    if isinstance(error, StorageError):
        old.failures.append(error)
    else:
        old.left.append(f"left alone: {error if isinstance(error, CharrnnError) else reason}")


def _folders(root: Path, old: OldRuns) -> Iterator[Path]:
    """Yield the folders under ``root``, itself too, without those in runs and left-overs."""

    def unreadable(error: OSError) -> None:
        reason = f"{error.filename} cannot be read: {error.strerror}"
        _leave(Path(error.filename), error, old, reason)

    for path, names, _ in os.walk(root, onerror=unreadable):
        folder = Path(path)
        links = [name for name in names if (folder / name).is_symlink()]
        old.left += [f"left alone: {folder / n} is a link" for n in links if _is_named(folder / n)]
        yield folder
        names[:] = [] if _is_named(folder) else [name for name in names if name not in links]


def _is_named(folder: Path) -> bool:
    """Whether a folder has a name like a run or a left-over, at a place where we make one."""
    run = folder.parent.name == "runs" and RUN_NAME.fullmatch(folder.name)
    return bool(run or _LEFT_OVER.fullmatch(folder.name))


def _created(folder: Path) -> datetime | None:
    """Return when a run, or the last file of an unfinished one, was made; None for other folders.
    Raises CharrnnError, OSError or ValueError where it is not ours."""
    if _LEFT_OVER.fullmatch(folder.name):
        if folder not in own_folders(folder.parent, folder.name) or not _holds_a_run(folder):
            raise ValueError
        return datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    if not _is_named(folder):
        return None
    created = own_manifest(folder).created
    return datetime.strptime(created, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _holds_a_run(folder: Path) -> bool:
    """Whether nothing but what a run writes, and operating systems, is in a left-over, or in the
    folder of its rows. The names of fetched files are those of the input."""
    if _FETCHED.fullmatch(folder.name):
        return True
    return all(
        RUN_FILE.fullmatch(path.name)
        or is_system_file(path.name)
        or (
            (path.name == ROWS or _LEFT_OVER.fullmatch(path.name))
            and is_folder(path)
            and _holds_a_run(path)
        )
        for path in folder.iterdir()
    )


def purge(old: OldRuns) -> OldRuns:
    """Remove the folders of ``old``, each under its destination's lock and by one rename, and
    ``latest`` links left without a target. Why one could not be removed, as of a destination that
    is being written, is added to ``old.failures``. Return ``old``, with what was removed."""
    planned, old.folders, old.freed = old.folders, [], 0
    for folder in planned:
        named = RUN_NAME.fullmatch(folder.name)
        destination = destination_of_run(folder) if named else folder.parent
        try:
            with translate_os_errors(folder), hold(destination / ".lock", "a purge"):
                sizes = [path.lstat().st_size for path in folder.rglob("*") if path.is_file()]
                withdraw_folder(folder, destination)
                old.folders.append(folder)
                old.freed += sum(sizes)
                latest = latest_link(destination)
                if latest.is_symlink() and not latest.exists():
                    remove_file(latest)
        except CharrnnError as error:
            old.failures.append(error)
    return old
