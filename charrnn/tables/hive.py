"""Columns that lie in folder names: ``country=FR/year=2024/part-0.parquet``.

Hive, Spark, Polars, PyArrow and DuckDB write the columns that a table is partitioned by into the
names of its folders, and leave them out of its files.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from urllib.parse import unquote_to_bytes

import pyarrow as pa
import pyarrow.compute as pc

from charrnn.errors import DataError
from charrnn.tables.columns import as_large_string, is_text, value_type
from charrnn.tables.kinds import path_text
from charrnn.tables.row_groups import TableFile, read_groups

_NULL = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

FolderColumns = tuple[tuple[str, str | None], ...]  # column → value as text, None for null


def is_partition(folder: str) -> bool:
    """Whether the name of a folder holds a column."""
    return folder.find("=") > 0


def folder_columns(folders: Iterable[str]) -> FolderColumns:
    """Return the columns that the names of nested folders hold, percent-encoding undone.

    Raises:
        DataError: two folders hold the same column.

    >>> folder_columns(["country=FR", "more", "city=S%C3%A8te", "year=__HIVE_DEFAULT_PARTITION__"])
    (('country', 'FR'), ('city', 'Sète'), ('year', None))
    """
    columns: dict[str, str | None] = {}
    for folder in filter(is_partition, folders):
        name, _, value = folder.partition("=")
        column = _decode(name)
        if column in columns:
            raise DataError(
                f"{path_text(folder)} is below another folder of the column {column!r}; "
                "rename one of them"
            )
        columns[column] = None if value == _NULL else _decode(value)
    return tuple(columns.items())


def typed(files: Sequence[FolderColumns]) -> list[tuple[tuple[str, pa.Scalar], ...]]:
    """Return the columns of each file with values of one type per column: int64 or date32 where all
    values of all files are, otherwise string."""
    values: dict[str, list[str]] = {}
    for columns in files:
        for name, value in columns:
            values.setdefault(name, []).extend([] if value is None else [value])
    types = {name: _type_of(texts) for name, texts in values.items()}
    return [tuple((n, pa.scalar(v, pa.string()).cast(types[n])) for n, v in f) for f in files]


def add_columns(
    table: TableFile, columns: FolderColumns, typed_columns: Iterable[tuple[str, pa.Scalar]]
) -> TableFile:
    """Return ``table`` with the columns of its folders after its own. A column that the file has
    already stays as it is.

    Raises:
        DataError: the file has such a column with another value than the folder.
    """
    own = set(table.schema.names)
    added = tuple((name, value) for name, value in typed_columns if name not in own)
    for name, text in columns:
        if name in own:
            _check_value(table, name, text)
    schema = table.schema
    for name, value in added:
        schema = schema.append(pa.field(name, value.type))
    groups = tuple(replace(group, added=added) for group in table.groups)
    return replace(table, schema=schema, groups=groups)


def _check_value(table: TableFile, name: str, text: str | None) -> None:
    """Raise DataError unless the column ``name`` has the value ``text`` in every row."""
    for group in table.groups:
        column = read_groups([group], [name])[name]
        column = column.cast(value_type(column.type))
        if is_text(column.type):
            column = as_large_string(column)
        try:
            expected = pa.scalar(text, pa.string()).cast(column.type)
            same = pc.all(pc.equal(column, expected), skip_nulls=False, min_count=0).as_py()
        except pa.ArrowException:  # not a value of the column's type
            same = not len(column)
        if text is None:
            same = column.null_count == len(column)
        if not same:
            raise DataError(
                f"the column {name!r} of {table.path} differs from the value in the name of its "
                f"folder, {name}=…; rename the folder or the column"
            )


def _type_of(texts: Sequence[str]) -> pa.DataType:
    if texts and all(map(_is_int64, texts)):
        return pa.int64()
    return pa.date32() if texts and all(map(_is_date, texts)) else pa.string()


def _is_int64(text: str) -> bool:
    return _INTEGER.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63


def _is_date(text: str) -> bool:
    try:
        return _DATE.fullmatch(text) is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _decode(text: str) -> str:
    decoded = unquote_to_bytes(os.fsencode(text))
    try:
        return decoded.decode()
    except UnicodeDecodeError:
        return path_text(text)
