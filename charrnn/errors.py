"""Exceptions of the package, and the exit code that each gives a command.

Other exit codes: 0 success, 2 invalid command line, 130 Ctrl-C, 143 SIGTERM.

A message is one line: the object, what was found, what was expected and how to fix it. It contains
no name and no cell of the input.
"""

import difflib
import re
import sys
import traceback
from collections.abc import Iterable
from functools import cache
from operator import ge, gt, le, lt
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_COMPARISONS = {"ge": ("≥", ge), "gt": (">", gt), "le": ("≤", le), "lt": ("<", lt)}


class CharrnnError(Exception):
    """Base class of the errors that this package raises; raised itself for internal errors.

    Args:
        message: one line (see the module's docstring) that names no command-line flag.
        option: field name of the option that would change the outcome, such as ``name_column``.
            A command line shows it as ``--name-column``.
    """

    exit_code = 70

    def __init__(self, message: str, *, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class ConfigError(CharrnnError):
    """An option, or a combination of options, is not valid."""

    exit_code = 64


class DataError(CharrnnError):
    """The input is invalid or damaged."""

    exit_code = 65


class InputMissingError(CharrnnError):
    """The input does not exist."""

    exit_code = 66


class OutputError(CharrnnError):
    """The destination cannot be created or written."""

    exit_code = 73


class StorageError(CharrnnError):
    """Reading or writing failed: disk full, I/O error, network."""

    exit_code = 74


class BusyError(CharrnnError):
    """Another process holds the destination."""

    exit_code = 75


class ModelError(CharrnnError):
    """A model version is missing, damaged, or of a format that this release cannot load."""

    exit_code = 78


class DriftError(CharrnnError):
    """The run is published, but its names drifted from the model's validation names or from the
    previous run, and ``on_drift`` is ``fail``."""

    exit_code = 79


def check_fields(record: Any) -> None:
    """Check the fields of a dataclass against the bounds (``annotated_types``) and choices
    (``Literal``) of their annotations.

    Raises:
        ConfigError: a number is out of bounds, or a string is none of the choices.
    """
    for name, (limits, choices) in _constraints_of(type(record)).items():  # type: ignore[arg-type]
        value = getattr(record, name)
        if limits and isinstance(value, int | float):
            fits = all(_COMPARISONS[key][1](value, limit) for key, limit in limits.items())
        else:
            fits = value in choices
        if not fits:
            bounds = " and ".join(f"{_COMPARISONS[key][0]} {n}" for key, n in limits.items())
            expected = " or ".join(filter(None, (bounds, *choices)))
            raise ConfigError(f"{name} must be {expected}, got {value!r}", option=name)


@cache
def _constraints_of(record: type) -> dict[str, tuple[dict[str, float], list[str | None]]]:
    """Return field → limits by comparison (``ge``, ``lt`` …) and choices, of constrained fields."""
    constraints = {}
    for name, annotation in get_type_hints(record, include_extras=True).items():
        union = get_origin(annotation) in (Union, UnionType)
        members = get_args(annotation) if union else (annotation,)
        limits = {
            key: limit
            for member in members
            for constraint in getattr(member, "__metadata__", ())
            for key in _COMPARISONS
            if (limit := getattr(constraint, key, None)) is not None
        }
        choices = [c for m in members if get_origin(m) is Literal for c in get_args(m)]
        if limits or choices:
            constraints[name] = limits, choices + [None] * (type(None) in members)
    return constraints


def did_you_mean(name: str, existing: Iterable[str]) -> str:
    """Return a suggestion, the closest of ``existing``, or ``""``.

    >>> did_you_mean("nmae", ["id", "name"])
    "; did you mean 'name'?"
    """
    by_folded = {other.casefold(): other for other in existing}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[close[0]]!r}?" if close else ""


def missing_package(feature: str, extra: str) -> ConfigError:
    """Return the error for a feature whose optional dependencies are not installed."""
    return ConfigError(
        f"{feature} needs optional packages; run: pip install 'charrnn-names[{extra}]'"
    )


def redact(error: BaseException) -> CharrnnError:
    """Return an error that is safe to show and log: a CharrnnError itself, for any other exception
    its class and source line, since its message may quote a cell. In Python's development mode
    (``python -X dev``) the traceback is printed."""
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
    """Wrap an exception of a storage library as a StorageError: ``what`` (such as "s3://… cannot be
    reached"), the exception's class and the first line of its message, without passwords."""
    lines = str(error).strip().splitlines()
    return StorageError(without_password(": ".join([what, type(error).__name__, *lines[:1]])))


def without_password(text: str) -> str:
    """Remove ``user:password@`` from the URIs in ``text``."""
    return re.sub(r"://[^/@\s]*@", "://", text)
