"""Inbox: which files of a folder are new, changed, or still being written.

Fingerprinting a file reads all of it. What was found is therefore kept in a small file, and holds
as long as the file's size, times and inode, the model and the options are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from charrnn.errors import CharrnnError
from charrnn.files import json_bytes, read_file, write_bytes
from charrnn.tables.discovery import NoTableError, Skipped, discover, discover_each
from charrnn.tables.kinds import path_text

# Seconds, many times what file systems round times to: a file that changed this long ago cannot
# change once more without another time (that of its inode; nobody can set it back).
_OLD_ENOUGH = 3.0

# Of each table: path, size in bytes, time of the last change of content and of inode in ns, inode.
FileStates = list[tuple[str, int, int, int, int]]


def inbox_files(folder: Path) -> tuple[dict[Path, FileStates], Skipped]:
    """Return what in the folder can be scored, sorted, with its present state, and what else lies
    there. A folder that cannot be read has no state: scoring it says why.

    Raises:
        InputMissingError: there is no such folder, or it cannot be read.
    """
    paths, skipped = discover_each(folder)
    files = dict[Path, FileStates]()
    for path in paths:
        try:
            files[path] = _states(path)
        except NoTableError:
            what = "folder without a table"
            skipped += Skipped.of([(f"{path_text(path.name)}/", what, what)])
        except FileNotFoundError:  # removed since
            continue
        except CharrnnError:
            files[path] = []
    return files, skipped


def file_states(path: Path) -> FileStates:
    """Return the state of the tables that ``path`` is or holds; empty where there are none."""
    try:
        return _states(path)
    except (CharrnnError, FileNotFoundError):  # of another kind, or removed since
        return []


def _states(path: Path) -> FileStates:
    tables = [(table, table.stat()) for table in discover(str(path)).paths]
    return [(path_text(t), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for t, s in tables]


@dataclass(frozen=True)
class _Remembered:
    states: FileStates
    fingerprint: str


@dataclass(frozen=True)
class _Known:
    """Fingerprints of the runs that files ask for, by path, under one model and set of options.

    Attributes:
        asked: digest of the model and the options; a memory of another one does not count.
    """

    asked: str
    files: dict[str, _Remembered] = field(default_factory=dict)


def fingerprints(
    files: dict[Path, FileStates],
    fingerprint: Callable[[Path], str],
    now: datetime,
    memory: Path,
    asked: str,
) -> dict[Path, str]:
    """Return the fingerprint of each file's run, computed where ``memory`` has none for the same
    ``asked``, or cannot be read, and write ``memory`` anew where something changed.

    Args:
        fingerprint: computes one; "" where it cannot be told, as of a file that changes.
    """
    known = _Known(asked)
    with suppress(OSError, msgspec.MsgspecError, RecursionError):
        read = msgspec.json.decode(read_file(memory, mine=True), type=_Known)
        known = read if read.asked == asked else known
    current, remembered = dict[Path, str](), dict[str, _Remembered]()
    for path, states in files.items():
        entry = known.files.get(path_text(path))
        if entry is None or entry.states != states:
            entry = _Remembered(states, fingerprint(path))
        current[path] = entry.fingerprint
        changed = max((max(state[2:4]) for state in states), default=0) / 1e9
        if entry.fingerprint and changed < now.timestamp() - _OLD_ENOUGH:
            remembered[path_text(path)] = entry
    if remembered != known.files:
        write_bytes(memory, json_bytes(asdict(_Known(asked, remembered))))
    return current
