"""Every failure a user can meet, and the exit code it ends a command with.

    CharrnnError              70  anything of ours that has no better class
    ├── ConfigError           64  an option or a combination of options makes no sense
    ├── DataError             65  the input is not what it has to be; names file, row or column
    ├── InputMissingError     66  there is nothing at the path given
    ├── OutputError           73  the destination cannot be created or written
    ├── StorageError          74  reading or writing failed underneath us (disk full, I/O error)
    ├── BusyError             75  another run holds the destination; try again later
    ├── ModelError            78  a model version is missing, damaged or not ours to load
    └── DriftError            79  the run is published, but its names are not like those before

0 is success, 2 a wrong command line, 130 Ctrl-C and 143 SIGTERM. Messages name the
object, what was expected, what was found and the fix; they never contain a name or a cell.
"""

from __future__ import annotations

__all__ = [
    "BusyError",
    "CharrnnError",
    "ConfigError",
    "DataError",
    "DriftError",
    "InputMissingError",
    "ModelError",
    "OutputError",
    "StorageError",
    "did_you_mean",
    "redact",
    "storage_error",
    "without_password",
]

import difflib
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path


class CharrnnError(Exception):
    """Base of every error this package raises on purpose; the message is one readable line.

    Args:
        message: object, finding, expectation and fix; no name and no cell.
        option: the option that would change the outcome, as its field is called, such as
            ``name_column``. Messages of the library name no command-line flag; whoever shows them
            adds ``--name-column`` or the name of the form's field.
    """

    exit_code = 70

    def __init__(self, message: str, *, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class ConfigError(CharrnnError):
    """An option, or a combination of options, makes no sense."""

    exit_code = 64


class DataError(CharrnnError):
    """The input's bytes are not what they have to be."""

    exit_code = 65


class InputMissingError(CharrnnError):
    """There is nothing to read at the path given."""

    exit_code = 66


class OutputError(CharrnnError):
    """The destination cannot be created or written."""

    exit_code = 73


class StorageError(CharrnnError):
    """Reading or writing failed underneath us."""

    exit_code = 74


class BusyError(CharrnnError):
    """Another run holds the destination."""

    exit_code = 75


class ModelError(CharrnnError):
    """A model version is missing, damaged, or written in a format this release cannot load."""

    exit_code = 78


class DriftError(CharrnnError):
    """The run is whole and published; its names are not like the model's or the run's before, and
    the caller asked to fail then."""

    exit_code = 79


def did_you_mean(wanted: str, existing: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``existing``, or ``""``."""
    by_folded = {name.casefold(): name for name in existing}
    close = difflib.get_close_matches(wanted.casefold(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[close[0]]!r}?" if close else ""


def redact(error: BaseException) -> CharrnnError:
    """Return an error that may be shown and recorded: one of ours as it is; of any other only its
    kind and its place, since its message may quote a cell. ``python -X dev`` prints that too."""
    if isinstance(error, CharrnnError):
        return error
    if sys.flags.dev_mode:
        traceback.print_exception(error)
    if isinstance(error, OSError):
        what = error.filename or "the disk"
        return StorageError(f"{what}: {error.strerror or 'reading failed'}")
    if isinstance(error, MemoryError):
        return CharrnnError("out of memory; use fewer workers or smaller partitions",
                            option="workers")  # fmt: skip
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if {"charrnn", "flows"} & set(Path(f.filename).parts[-3:-1])]
    places = ["an unknown place", *(f"{Path(f.filename).name}:{f.lineno}" for f in ours or frames)]
    return CharrnnError(
        f"internal error: unexpected {type(error).__name__} at {places[-1]}, please report this; "
        "finished work is kept, nothing else was published"
    )


def storage_error(what: str, error: Exception) -> StorageError:
    """Return ``what`` (such as "s3://… cannot be reached") with the reason: the kind and the first
    line of an error of a storage library, of which each has its own."""
    lines = str(error).strip().splitlines()
    return StorageError(without_password(": ".join([what, type(error).__name__, *lines[:1]])))


def without_password(text: str) -> str:
    """Return ``text`` without the ``user:password@`` of the addresses in it."""
    return re.sub(r"://[^/@\s]*@", "://", text)
