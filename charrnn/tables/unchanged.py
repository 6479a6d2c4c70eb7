"""Inputs are immutable during a run: what is opened is the file that was fingerprinted.

A file is told by its inode, size and times, looked at through the descriptor that is read from, so
that neither a rename nor a swapped folder goes unseen, nor a file that was overwritten and set
back: ``ctime`` cannot be set. No descriptor is kept open, whatever the number of files.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

from charrnn.errors import DataError
from charrnn.files import close_descriptor, closing_reader


@dataclass(frozen=True)
class FileState:
    """State of a file; ``sha256`` is of its bytes, "" if they were not read."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str = ""

    @classmethod
    def of(cls, status: os.stat_result, sha256: str = "") -> Self:
        """Return the state that ``stat`` gives."""
        times = status.st_mtime_ns, status.st_ctime_ns
        return cls(status.st_size, *times, status.st_ino, sha256)


_EXPECTED: ContextVar[dict[Path, FileState]] = ContextVar("expected")


@contextmanager
def expecting(path: Path, state: FileState) -> Iterator[None]:
    """Let ``same_file`` expect this state of ``path`` within the block.

    Raises:
        DataError: the file changed before the block ended.
    """
    token = _EXPECTED.set({**_EXPECTED.get({}), path: state})
    try:
        yield
        with same_file(path):
            pass
    except FileNotFoundError as error:
        if path.exists():
            raise
        raise changed(path) from error
    finally:
        _EXPECTED.reset(token)


@contextmanager
def same_file(path: Path, expected: FileState | None = None) -> Iterator[str]:
    """Open a file and yield a path, valid within the block, that names it whatever happens to
    ``path``.

    Args:
        expected: the file's state; by default that of ``expecting``, if any.

    Raises:
        DataError: the file is another one, or changed, also while the block ran.
    """
    expected = expected or _EXPECTED.get({}).get(path)
    try:
        # A FIFO that was put in the file's place is not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        if expected is None:
            raise
        raise changed(path) from None
    try:
        opened = os.fstat(descriptor)
        if expected is not None and not _is_same(descriptor, opened, expected):
            raise changed(path)
        yield f"/dev/fd/{descriptor}"
        if expected is not None and FileState.of(os.fstat(descriptor)) != FileState.of(opened):
            raise changed(path)
    finally:
        close_descriptor(descriptor)


def _is_same(descriptor: int, status: os.stat_result, expected: FileState) -> bool:
    now = FileState.of(status, expected.sha256)
    if now == expected:
        return True
    if replace(now, ctime_ns=expected.ctime_ns) != expected or not expected.sha256:
        return False
    # Only ctime differs: a chmod, a rename and back, or new bytes with the old mtime.
    return _sha256(descriptor, now, os.getpid()) == expected.sha256


@lru_cache(maxsize=1024)
def _sha256(descriptor: int, state: FileState, process: int) -> str:
    """Hash an open file, once for each of its states: ``state`` and ``process`` only tell them
    apart; "" if it changes meanwhile."""
    with closing_reader(open(f"/dev/fd/{descriptor}", "rb")) as file:  # noqa: PTH123
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest if FileState.of(os.fstat(descriptor), state.sha256) == state else ""


def changed(path: Path | str) -> DataError:
    """Return the error about a file that changed during a run."""
    return DataError(
        f"{path} changed during the run; nothing was published, run this again when nobody writes "
        "to it"
    )
