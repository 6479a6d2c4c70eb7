"""Exceptions of the package, and the exit code that each gives a command.

Other exit codes: 0 success, 2 invalid command line, 130 Ctrl-C, 143 SIGTERM.

A message is one line: the object, what was found, what was expected and how to fix it. It contains
no name and no cell of the input.
"""

import difflib
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from operator import ge, gt, le, lt
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

_COMPARISONS = {"ge": ("≥", ge), "gt": (">", gt), "le": ("≤", le), "lt": ("<", lt)}
_LARGEST = 2**31 - 1  # of whole numbers: what every library here can hold
_LONGEST_PART, _LONGEST_PATH = 255, 4095  # bytes, on Linux
_PATH = object()
PathOrUri = Annotated[str, _PATH]
"""Type of a text field that holds a local path, or a URI."""

# What a terminal, a log or a browser would act on rather than show: control characters, marks that
# change the direction of text, line and paragraph separators, tags, and halves of characters.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


@dataclass(frozen=True)
class TextPattern:
    """Annotation of a text field: the regular expression that Prefect's form checks. (The record,
    or what uses the value, refuses it in words.)"""

    regex: str

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> Any:
        return {**handler(schema), "pattern": self.regex}


class CharrnnError(Exception):
    """Base class of the errors that this package raises; raised itself for internal errors.

    Args:
        message: one line (see the module's docstring) that names no command-line flag.
        option: field name of the option that would change the outcome, such as ``name_column``.
            A command line shows it as ``--name-column``.
    """

    exit_code = 70

    def __init_subclass__(cls, *, exit_code: int | None = None) -> None:
        cls.exit_code = exit_code or cls.exit_code

    def __init__(self, message: str, *, option: str = "") -> None:
        super().__init__(printable(message))
        self.option = option


class ConfigError(CharrnnError, exit_code=64):
    """An option, or a combination of options, is not valid."""


class DataError(CharrnnError, exit_code=65):
    """The input is invalid or damaged."""


class InputMissingError(CharrnnError, exit_code=66):
    """The input does not exist."""


class OutputError(CharrnnError, exit_code=73):
    """The destination cannot be created or written."""


class StorageError(CharrnnError, exit_code=74):
    """Reading or writing failed: disk full, I/O error, network."""


class BusyError(CharrnnError, exit_code=75):
    """Another process holds the destination."""


class ModelError(CharrnnError, exit_code=78):
    """A model version is missing, damaged, or of a format that this release cannot load."""


class DriftError(CharrnnError, exit_code=79):
    """The run is published, but its names drifted from those of the last runs, and ``on_drift`` is
    ``fail``."""


def printable(text: str) -> str:
    """Return ``text`` with everything escaped that would not be shown as it is, line ends included:
    names of files, columns and labels come from others.

    >>> print(printable("a" + chr(27) + "]0;title.csv"))
    a\\x1b]0;title.csv
    """
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return ascii(match[0])[1:-1] if code < 0x80 or code > 0x9F else f"\\u{code:04x}"


class _Field(NamedTuple):
    """What the annotation of a field says about its values."""

    limits: dict[str, float]  # by comparison: ge, lt …
    choices: list[str | None]
    number: bool
    path: type | None  # Path, or str where a URI is possible as well
    text: bool
    optional: bool  # a path that may be "" or None


def check_fields(record: Any) -> None:
    """Check the fields of a dataclass against the bounds (``annotated_types``), the choices
    (``Literal``) and the types of their annotations, and settle its paths (see ``local_path``).

    Fields of type ``Path`` take text as well, in which ``./~`` differs from ``~``.

    Raises:
        ConfigError: a number is out of bounds, a string is none of the choices or no Unicode, or a
            path can be none.
    """
    for name, field in _fields_of(type(record)).items():  # type: ignore[arg-type]
        value = getattr(record, name)
        if field.path is not None and isinstance(value, str | os.PathLike):
            text = os.fspath(value)
            if text or not field.optional:
                settled = field.path(local_path(text, name, uri=field.path is str))
                object.__setattr__(record, name, settled)
        elif field.number or field.choices:
            _check_value(name, value, field)
        elif isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise ConfigError(f"{name} must be text, got bytes that are not UTF-8", option=name)


def _check_value(name: str, value: Any, field: _Field) -> None:
    limits = field.limits
    if field.number and isinstance(value, int | float):
        fits = value == value and all(_COMPARISONS[key][1](value, n) for key, n in limits.items())
        if fits and (math.isinf(value) or (isinstance(value, int) and abs(value) > _LARGEST)):
            raise ConfigError(f"{name} must be at most {_LARGEST:,}", option=name)
    else:
        fits = value in field.choices
    if not fits:
        bounds = " and ".join(f"{_COMPARISONS[key][0]} {n}" for key, n in limits.items())
        expected = " or ".join(filter(None, (bounds, *field.choices)))
        raise ConfigError(f"{name} must be {expected}, got {value!r}", option=name)


def local_path(text: str, option: str, *, uri: bool = False) -> str:
    """Return a path that all libraries read alike. ``~`` and ``~user`` at its start are expanded; a
    path to something that is really called ``~``, such as ``./~/x``, becomes absolute, since
    PyArrow and Polars would expand it as soon as the ``./`` is gone.

    Args:
        option: the field that holds the path.
        uri: whether a URI is possible; it is returned as it is.

    Raises:
        ConfigError: the path is empty, too long, holds a NUL character, begins with ``~`` and the
            name of no user, or is a URI where none is possible.
    """
    if is_uri(text):
        if uri:
            return text
        raise ConfigError(f"{option} must be a path on this machine, got a URI", option=option)
    try:
        parts = [os.fsencode(part) for part in text.split("/")]
    except UnicodeEncodeError:
        parts = [b"\0"]
    if not text or any(b"\0" in part for part in parts):
        what = "an invalid character" if text else "an empty text"
        raise ConfigError(f"{option} must be a path, got {what}", option=option)
    if max(map(len, parts)) > _LONGEST_PART or sum(map(len, parts)) > _LONGEST_PATH - len(parts):
        raise ConfigError(
            f"{option} is too long for a path: at most {_LONGEST_PART} bytes between two slashes "
            f"and {_LONGEST_PATH} in all",
            option=option,
        )
    if text.startswith("~"):
        expanded = os.path.expanduser(text)  # noqa: PTH111
        if expanded == text:
            home = text.split("/")[0]
            raise ConfigError(
                f"{option} begins with {home}, which is no user's home folder; write ./{home} for "
                "a file of that name",
                option=option,
            )
        return expanded
    return str(Path(text).absolute()) if str(Path(text)).startswith("~") else text


def is_uri(text: str) -> bool:
    """Whether ``text`` is a URI, such as ``s3://bucket/people.parquet``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


@cache
def _fields_of(record: type) -> dict[str, _Field]:
    """Return the fields of a record whose annotations say something to check."""
    checked = {}
    for name, annotation in get_type_hints(record, include_extras=True).items():
        members = list(_members_of(annotation))
        types = {member for member, _ in members}
        notes = [note for _, found in members for note in found]
        choices = [c for m in types if get_origin(m) is Literal for c in get_args(m)]
        field = _Field(
            {
                k: n
                for note in notes
                for k in _COMPARISONS
                if (n := getattr(note, k, None)) is not None
            },
            choices + [None] * (type(None) in types),
            number=bool({int, float} & types),
            path=str if _PATH in notes else Path if Path in types else None,
            text=str in types,
            optional=getattr(record, name, None) == "",
        )
        if field.number or field.path or field.text or choices:
            checked[name] = field
    return checked


def _members_of(annotation: Any, constraints: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Yield each type of a union, and what its ``Annotated`` says."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from _members_of(inner, (*constraints, *more))
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members_of(member, constraints)
    else:
        yield annotation, constraints


def percent(share: float, decimals: int = 1) -> str:
    """Return a share, 0 to 1, as all messages and reports write it.

    >>> percent(0.123)
    '12.3 %'
    """
    return f"{100 * share:.{decimals}f} %"


def did_you_mean(name: str, existing: Iterable[str]) -> str:
    """Return a suggestion, the closest of ``existing``, or ``""``.

    >>> did_you_mean("nmae", ["id", "name"])
    "; did you mean 'name'?"
    """
    by_folded = {other.casefold(): other for other in existing}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[close[0]]!r}?" if close else ""


def missing_package(feature: str, extra: str, option: str = "") -> ConfigError:
    """Return the error for a feature whose optional dependencies are not installed; ``option``
    leaves it out."""
    without = ", or leave it out" if option else ""
    return ConfigError(
        f"{feature} needs optional packages; run: pip install 'charrnn-names[{extra}]'{without}",
        option=option,
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


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Raise what a storage library raises in the block, of classes of its own, as ``storage_error``
    wraps it."""
    try:
        yield
    except CharrnnError:
        raise
    except Exception as error:
        raise storage_error(what, error) from error


def without_password(text: str) -> str:
    """Remove ``user:password@`` from the URIs in ``text``."""
    return re.sub(r"://[^/@\s]*@", "://", text)
