"""Columns of Arrow tables: checks of the input's columns, and a common text type."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from charrnn.errors import DataError
from charrnn.tables.column_names import find_column, shown_column, shown_columns, suggestion

_MAX_DIFFERENCES = 20  # columns in one message

# Keys of the metadata of a field that define its type or its place.
_TYPE_METADATA = (b"ARROW:extension:name", b"ARROW:extension:metadata", b"PARQUET:field_id")


def check_name_column(schema: pa.Schema, column: str, option: str = "name_column") -> str:
    """Return the name of the column that ``column`` means (see ``find_column``); raise DataError
    unless there is exactly one and it holds text. ``option`` is the field that named it."""
    column = name_column_of(schema.names, column, option)
    column_type = schema.field(column).type
    if not is_text(column_type):
        raise DataError(
            f"column {column!r} is {shown_type(column_type)}, expected text (string); cast it, or "
            "choose another column",
            option=option,
        )
    return column


def name_column_of(columns: Sequence[str], column: str, option: str = "name_column") -> str:
    """Return the one of ``columns`` that ``column`` means (see ``find_column``); raise DataError
    unless there is exactly one. ``option`` is the field that named it."""
    column = find_column(columns, column)
    count = list(columns).count(column)
    if not count:
        raise DataError(
            f"column {column!r} not found; {shown_columns(columns)}{suggestion(column, columns)}",
            option=option,
        )
    if count > 1:
        raise DataError(f"column {column!r} appears {count} times; rename all but one")
    return column


def check_unique(columns: Sequence[str], place: str = "") -> None:
    """Raise DataError if two columns have the same name. ``place`` begins the message."""
    for column, count in Counter(columns).items():
        if count > 1:
            raise DataError(f"{place}column {column!r} appears {count} times; rename all but one")


def check_weights(
    weights: npt.NDArray[np.float64], column: str, option: str, place: str = ""
) -> None:
    """Raise DataError if N weights, ``(N,)``, are not all finite and at least 0. ``place`` begins
    the message."""
    wrong = int((~np.isfinite(weights) | (weights < 0)).sum())
    if wrong:
        raise DataError(
            f"{place}column {column!r} has {wrong:,} values that are negative or not finite; a "
            "weight says how often a row counts",
            option=option,
        )


def check_no_clash(columns: Sequence[str], added: Iterable[str]) -> None:
    """Raise DataError if the input already has one of the columns that scoring adds."""
    clashes = [column for column in added if column in columns]
    if clashes:
        raise DataError(
            f"the input already has column {', '.join(map(repr, clashes))}, which scoring adds; "
            "set a prefix for the added columns, such as charrnn_",
            option="prefix",
        )


def is_text(column_type: pa.DataType) -> bool:
    """Whether an Arrow type is string, large_string or string_view, or a dictionary of these."""
    return value_type(column_type) in (pa.string(), pa.large_string(), pa.string_view())


def is_number(column_type: pa.DataType) -> bool:
    """Whether an Arrow type is one of integers, floats or decimals."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(column_type) for test in tests)


def value_type(column_type: pa.DataType) -> pa.DataType:
    """Return the type of the values of a dictionary; any other type as it is."""
    return column_type.value_type if pa.types.is_dictionary(column_type) else column_type


def shown_type(column_type: pa.DataType) -> str:
    """Return how a message names a type; one of an extension with the type that it is stored as.

    >>> shown_type(pa.json_()), shown_type(pa.int64())
    ("string marked as 'arrow.json', which may be encoded", 'int64')
    """
    if isinstance(column_type, pa.BaseExtensionType):
        stored, name = column_type.storage_type, column_type.extension_name
        return f"{stored} marked as {name!r}, which may be encoded"
    return str(column_type)


def as_large_string(names: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Cast text of any Arrow type (see ``is_text``) to large_string: many compute kernels lack
    string_view, and a string array holds at most 2 GB."""
    return names.cast(value_type(names.type)).cast(pa.large_string())


def common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return one schema for tables of equal columns: in the order of the first, nullable where one
    of them is, with the metadata that all have."""
    first = schemas[0]
    if all(schema.equals(first, check_metadata=True) for schema in schemas[1:]):
        return first
    if any(len(set(schema.names)) < len(schema.names) for schema in schemas):
        raise DataError("files with other columns have columns of one name; rename them")
    fields = []
    for field in first:
        same = [schema.field(field.name) for schema in schemas]
        nullable = any(other.nullable for other in same)
        metadata = _common_metadata([other.metadata for other in same])
        fields.append(field.with_nullable(nullable).with_metadata(metadata))
    return pa.schema(fields, _common_metadata([schema.metadata for schema in schemas]))


def _common_metadata(metadata: list[dict[bytes, bytes] | None]) -> dict[bytes, bytes] | None:
    first, *others = [entries or {} for entries in metadata]
    common = {k: v for k, v in first.items() if all(o.get(k) == v for o in others)}
    return common or None


def without_notes(schema: pa.Schema) -> pa.Schema:
    """Return a schema without the metadata that is no part of a type, and may hold anything."""
    fields = []
    for field in schema:
        metadata = {k: v for k, v in (field.metadata or {}).items() if k in _TYPE_METADATA}
        fields.append(field.with_metadata(metadata or None))
    return pa.schema(fields)


def differences(first: pa.Schema, second: pa.Schema, here: str = "", there: str = "") -> str:
    """Return the columns whose types differ between two schemas, such as ``"'id' is int64 and
    string"``; "" if at most the order of the columns differs. ``here`` and ``there`` are put behind
    the types of the first and the second schema."""
    old, new = ({field.name: str(field.type) for field in schema} for schema in (first, second))
    different = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    shown = [
        f"{shown_column(first.names if name in old else second.names, name)} is "
        f"{old.get(name, 'absent')}{here} and {new.get(name, 'absent')}{there}"
        for name in different[:_MAX_DIFFERENCES]
    ]
    rest = len(different) - len(shown)
    return "; ".join(shown) + (f"; and {rest:,} more" if rest else "")
