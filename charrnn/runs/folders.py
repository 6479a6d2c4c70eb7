"""Where the runs of a destination lie.

    outputs/predictions/people/.lock                      held while a run is written
                              /.staging-1f3a9c…/          parts of an unfinished run
                              /runs/run=20261124T020000Z-1f3a9c4e/          a run
                                    rows/part-00000.parquet …               its rows, alone
                              /latest                     link to the newest run

So the rows of a run are a data set of their own, and those of all runs, ``runs/*/rows/*.parquet``,
a Hive data set that is partitioned by ``run``.
"""

import os
import re
import stat
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from charrnn.errors import StorageError
from charrnn.files import is_system_file, is_transient

ROWS = "rows"  # folder of the parts in a run
# Files of a finished or unfinished run that this program writes.
RUN_FILE = re.compile(
    r"(part|input)-[0-9]+\.\w+|report\.(html|md)|rejects\.parquet|(manifest|datapackage)\.json|SHA256SUMS|token"
    r"|\..+\.tmp"
)
_MOST_NAMED = 5  # of what is passed over, in a line
_RUN = "run="  # before the name of a run, in its folder's name
RUN_NAME = re.compile(rf"{_RUN}[0-9]{{8}}T[0-9]{{6}}Z-[0-9a-f]{{8}}(-[1-9][0-9]{{0,8}})?")


class RunName(NamedTuple):
    """What the name of a run says: its time (UTC), its number among the runs of that second, and
    the first digits of its fingerprint. Newer runs are greater."""

    created: str
    number: int
    fingerprint: str


def parse_run_name(name: str) -> RunName | None:
    """Return what the name of a run's folder says, None if it is no run's.

    >>> parse_run_name("run=20261124T020000Z-1f3a9c4e-2")
    RunName(created='20261124T020000Z', number=2, fingerprint='1f3a9c4e')
    >>> parse_run_name("run=20261324T020000Z-1f3a9c4e")
    """
    if not RUN_NAME.fullmatch(name):
        return None
    created, fingerprint, *number = name.removeprefix(_RUN).split("-")
    try:
        datetime.strptime(created, "%Y%m%dT%H%M%SZ")
    except ValueError:  # such as month 13
        return None
    return RunName(created, int(*number) if number else 1, fingerprint)


def run_folder_name(created: str, fingerprint: str, number: int = 1) -> str:
    """Return the name of a run's folder; ``number`` is its place among the runs of that second.

    >>> run_folder_name("20261124T020000Z", "1f3a9c4e5d0c77aa")
    'run=20261124T020000Z-1f3a9c4e'
    """
    return f"{_RUN}{created}-{fingerprint[:8]}" + (f"-{number}" if number > 1 else "")


def run_name(run: Path) -> str:
    """Return the name of a run, the value of the column ``run`` of its rows in a Hive data set."""
    return run.name.removeprefix(_RUN)


def destination_of_run(run: Path) -> Path:
    """Return the destination that a published run belongs to."""
    return run.parent.parent


def latest_link(destination: Path) -> Path:
    """Return the link to the newest run of a destination."""
    return destination / "latest"


def run_at(path: Path) -> Path:
    """Return the run at ``path``: the folder itself, or the newest run of a destination: the one
    that ``latest`` leads to, or where it does not, the newest by its name."""
    if os.path.lexists(path / "manifest.json"):
        return path
    runs, latest = named_runs(path), latest_link(path)
    target = latest.parent / latest.readlink() if latest.is_symlink() else path
    return target if target in runs.values() or not runs else runs[max(runs)]


def named_runs(destination: Path, others: list[str] | None = None) -> dict[RunName, Path]:
    """Return the folders of a destination that are named like runs, links left out; none where it
    may not be read.

    Args:
        others: gets a sentence for each other entry, but for what operating systems put there.

    Raises:
        StorageError: reading failed, so there may be more.
    """
    folder = destination / "runs"
    runs, folders = dict[RunName, Path](), dict[str, bool]()
    sentences = list[str]() if others is None else others
    try:
        folders = {path.name: is_folder(path) for path in sorted(folder.iterdir())}
    except FileNotFoundError:
        return {}
    except OSError as error:
        sentence = f"{folder} cannot be read: {error.strerror}"
        if is_transient(error):
            raise StorageError(sentence) from None
        sentences.append(sentence)
    for name, named_folder in folders.items():
        parsed = parse_run_name(name)
        if named_folder and parsed:
            runs[parsed] = folder / name
        elif not is_system_file(name):
            what = "has no name of a run" if named_folder else "is no folder"
            sentences.append(f"{folder / name} {what}")
    return runs


def passed_over_line(sentences: Sequence[str]) -> tuple[str, ...]:
    """Return the line about what was passed over among runs, naming the first; none without."""
    if not sentences:
        return ()
    more = len(sentences) - _MOST_NAMED
    named = "; ".join(sentences[:_MOST_NAMED])
    return (f"passed over: {named}" + (f"; and {more:,} more" if more > 0 else ""),)


def is_folder(path: Path) -> bool:
    """Whether this is a folder itself, not a link to one. Raises OSError where the disk fails."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError as error:
        if is_transient(error):
            raise
        return False


def staging_folder(destination: Path, fingerprint: str) -> Path:
    """Return the folder of the parts of an unfinished run."""
    return destination / f".staging-{fingerprint[:16]}"
