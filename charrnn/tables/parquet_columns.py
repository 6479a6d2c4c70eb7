"""Columns of a Parquet file that scoring cannot hand on unchanged are refused before scoring."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.errors import DataError
from charrnn.tables.columns import check_unique
from charrnn.tables.parquet_types import changed_columns, int96_columns, writer_options
from charrnn.tables.row_groups import open_parquet
from charrnn.tables.unchanged import same_file

Seconds = npt.NDArray[np.int64]
_NANOSECONDS = 10**9
_BATCH_ROWS = 2**17


def check_columns(path: Path) -> tuple[str | None, dict[str, bool]]:
    """Refuse a Parquet file with columns that parts would hold with another type; return the unit
    in which its INT96 timestamps are read, None if it has none, and the options that parts are
    written with.

    Raises:
        DataError: a column would come back different; or the file is damaged.
    """
    with same_file(path) as opened, open_parquet(path, opened=opened) as reader:
        schema, stored = reader.schema_arrow, reader.schema
        check_unique(schema.names, f"{path}: ")
        try:
            options = writer_options(schema, stored)
            changed = changed_columns(schema, stored, options)
        except pa.ArrowException as error:
            raise DataError(
                f"{path} has a column of a type that can be read and not written, such as a "
                "required column of nothing but nulls; write the file again"
            ) from error
    for name, (given, written) in changed.items():
        raise DataError(
            f"{path}: column {name!r} is {given} in Parquet, which would be written as {written}; "
            "cast it to another type, such as text, or leave it out"
        )
    columns = int96_columns(schema, stored)
    return _int96_unit(path, schema, columns) if columns else None, options


def _int96_unit(path: Path, schema: pa.Schema, columns: list[str]) -> str:
    """Return the unit that holds every INT96 timestamp of a file: ns, or us if a date is out of the
    years 1677 to 2262. Raise DataError if there is none."""
    nested = [name for name in columns if pa.types.is_nested(schema.field(name).type)]
    if nested:
        raise DataError(
            f"{path}: column {nested[0]!r} has INT96 timestamps inside a nested type, whose range "
            "cannot be checked; write it as TIMESTAMP"
        )
    units = {"ns", "us"}
    for name in columns:
        units &= _units_that_hold(path, name)
        if not units:
            raise DataError(
                f"{path}: column {name!r} has INT96 timestamps that fit neither nanoseconds (years "
                "1677 to 2262) nor microseconds; write it as TIMESTAMP"
            )
    return "ns" if "ns" in units else "us"


def _units_that_hold(path: Path, name: str) -> set[str]:
    """Return which of ns and us hold every timestamp of an INT96 column.

    Arrow lets what is too large overflow without an error. Whole seconds do not overflow, and what
    nanoseconds, modulo 2**64, exceed them by is the fraction of the second.
    """
    units = {"ns", "us"}
    try:
        with (
            same_file(path) as opened,
            open_parquet(path, opened=opened, unit="s") as whole,
            open_parquet(path, opened=opened, unit="ns") as exact,
        ):
            batches = (f.iter_batches(_BATCH_ROWS, columns=[name]) for f in (whole, exact))
            for seconds, nanoseconds in zip(*batches, strict=True):
                units &= _holding(_numbers(seconds), _numbers(nanoseconds))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged; restore it and run this again") from error
    return units


def _numbers(batch: pa.RecordBatch) -> Seconds:
    numbers = pc.fill_null(batch.column(0).cast(pa.int64()), 0)
    return np.asarray(numbers.to_numpy(zero_copy_only=False), np.int64)


def _holding(seconds: Seconds, nanoseconds: Seconds) -> set[str]:
    fraction = nanoseconds - seconds * _NANOSECONDS  # both modulo 2**64
    if ((fraction < 0) | (fraction >= _NANOSECONDS)).any():
        return set()
    latest = int(max(seconds.max(initial=0), -seconds.min(initial=0)))
    exact = not (fraction % 1000).any()
    in_nanoseconds, in_microseconds = latest < 2**63 // 10**9, latest < 2**63 // 10**6
    return ({"ns"} if in_nanoseconds else set()) | ({"us"} if in_microseconds and exact else set())
