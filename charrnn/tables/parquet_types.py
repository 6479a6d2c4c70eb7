"""Types and metadata of Parquet columns come back as they were, or the column is refused before
scoring.

Arrow reads annotations that it does not write, such as INTERVAL. So a table without rows is written
as parts are, and its Parquet schema compared with the input's, leaf by leaf.
"""

import itertools
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from charrnn.errors import DataError
from charrnn.tables.columns import check_unique
from charrnn.tables.row_groups import open_parquet

UTC_TIME = "write_time_adjusted_to_utc"
_OPTIONS = (UTC_TIME, "store_decimal_as_integer")
# A group in the text of a Parquet schema, and what stands in brackets before the brace: its
# annotation, such as "(Map)" or "(Variant(1))", or the end of a name.
_GROUP = re.compile(r"^ *(?:required|optional|repeated) group field_id=-?\d+ .*?(?: (\(.*\)))? \{$")
_WIDTHS = {"INT32": 32, "INT64": 64}
_NANOSECONDS = 10**9
_BATCH_ROWS = 2**17

Seconds = npt.NDArray[np.int64]


def check_columns(path: Path) -> tuple[str | None, dict[str, bool]]:
    """Refuse a Parquet file with columns that parts would hold with another type; return the unit
    in which its INT96 timestamps are read, None if it has none, and the options that parts are
    written with.

    Raises:
        DataError: a column would come back different; or the file is damaged.
    """
    with open_parquet(path) as reader:
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
    leaves = zip(schema.names, _columns(schema, stored), strict=True)
    columns = [name for name, parts in leaves if any(leaf[0] == "INT96" for leaf in parts)]
    return _int96_unit(path, schema, columns) if columns else None, options


def _int96_unit(path: Path, schema: pa.Schema, columns: list[str]) -> str:
    """Return the unit that holds every INT96 timestamp of a file: ns, or us if a date is out of the
    years 1677 to 2262. Raise DataError if there is none, or the file is damaged.

    Arrow lets what is too large overflow without an error. Whole seconds do not overflow, and what
    nanoseconds, modulo 2**64, exceed them by is the fraction of the second.
    """
    nested = [name for name in columns if pa.types.is_nested(schema.field(name).type)]
    if nested:
        raise DataError(
            f"{path}: column {nested[0]!r} has INT96 timestamps inside a nested type, whose range "
            "cannot be checked; write it as TIMESTAMP"
        )
    units = {"ns", "us"}
    try:
        with open_parquet(path, unit="s") as whole, open_parquet(path, unit="ns") as exact:
            for name in columns:
                batches = (f.iter_batches(_BATCH_ROWS, columns=[name]) for f in (whole, exact))
                for seconds, nanoseconds in zip(*batches, strict=True):
                    units &= _holding(_numbers(seconds), _numbers(nanoseconds))
                if not units:
                    raise DataError(
                        f"{path}: column {name!r} has INT96 timestamps that fit neither "
                        "nanoseconds (years 1677 to 2262) nor microseconds; write it as TIMESTAMP"
                    )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged; restore it and run this again") from error
    return "ns" if "ns" in units else "us"


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


def writer_options(schema: pa.Schema, stored: pq.ParquetSchema) -> dict[str, bool]:
    """Return the options of ``ParquetWriter`` with which most columns come back as they are."""
    given = _columns(schema, stored)
    choices = [
        dict(zip(_OPTIONS, values, strict=True))
        for values in itertools.product((False, True), repeat=len(_OPTIONS))
    ]
    return min(choices, key=lambda options: _cost(given, _written(schema, **options)[1]))


def changed_columns(
    schema: pa.Schema, stored: pq.ParquetSchema, options: dict[str, bool]
) -> dict[str, tuple[str, str]]:
    """Return the columns that parts would hold with another type: name → the type in the input, and
    what would become of it. ``schema`` is the input's as Arrow reads it, ``stored`` as it is."""
    again, written = _written(schema, **options)
    pairs = zip(schema, again, _columns(schema, stored), written, strict=True)
    return {
        field.name: (_text(old, new), _text(new, old))
        for field, returned, old, new in pairs
        if not _equal(old, new) or field.nullable != returned.nullable
    }


@lru_cache(maxsize=32)  # files of one input mostly have one schema
def _written(schema: pa.Schema, **options: bool) -> tuple[pa.Schema, list[list[tuple[Any, ...]]]]:
    """Return the columns of a part as Arrow reads them, and what defines their types."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **options):
        pass
    written = pq.ParquetFile(sink.getvalue()).schema
    return written.to_arrow_schema(), _columns(schema, written)


def _columns(schema: pa.Schema, stored: pq.ParquetSchema) -> list[list[tuple[Any, ...]]]:
    """Return what defines the type of each column: that of its leaves, and its annotated groups."""
    groups = _groups(stored)
    columns, position = [], 0
    for index, field in enumerate(schema):
        count = _leaf_count(field.type)
        leaves = [_leaf(stored.column(i)) for i in range(position, position + count)]
        columns.append(leaves + [("group", name) for name in groups.get(index, ())])
        position += count
    return columns


def _groups(stored: pq.ParquetSchema) -> dict[int, list[str]]:
    """Return the annotations of groups by index of column; lists, which have several forms, not."""
    annotations: dict[int, list[str]] = {}
    index = -1
    for line in str(stored).splitlines()[2:]:
        if re.match(r"^  (?:required|optional|repeated) ", line):
            index += 1
        match = _GROUP.match(line)
        annotation = (match[1] or "").removesuffix("(List)").strip() if match else ""
        if annotation:
            annotations.setdefault(index, []).append(annotation)
    return annotations


def _leaf(column: pq.ColumnSchema) -> tuple[Any, ...]:
    logical = json.loads(column.logical_type.to_json())
    for key in ("is_from_converted_type", "force_set_converted_type"):
        logical.pop(key, None)
    if logical == {"Type": "Int", "bitWidth": _WIDTHS.get(column.physical_type), "isSigned": True}:
        logical = {"Type": "None"}  # what an integer is without annotation
    levels = column.max_definition_level, column.max_repetition_level
    return column.physical_type, column.length, json.dumps(logical, sort_keys=True), *levels


def _leaf_count(data_type: pa.DataType) -> int:
    if isinstance(data_type, pa.BaseExtensionType):
        return _leaf_count(data_type.storage_type)
    if pa.types.is_dictionary(data_type):
        return 1
    return sum(_leaf_count(data_type.field(i).type) for i in range(data_type.num_fields)) or 1


def _equal(old: list[tuple[Any, ...]], new: list[tuple[Any, ...]]) -> bool:
    return len(old) == len(new) and all(map(_same_leaf, old, new))


def _same_leaf(old: tuple[Any, ...], new: tuple[Any, ...]) -> bool:
    if old[0] == "INT96":  # becomes a TIMESTAMP that holds the same instants
        return old[3:] == new[3:]
    if "Decimal" in str(old[2:3]):  # integers and bytes hold the same decimals
        return old[2:] == new[2:]
    return old == new


def _cost(old: list[list[tuple[Any, ...]]], new: list[list[tuple[Any, ...]]]) -> tuple[int, int]:
    columns = list(zip(old, new, strict=True))
    return sum(not _equal(a, b) for a, b in columns), sum(a != b for a, b in columns)


def _text(leaves: list[tuple[Any, ...]], others: list[tuple[Any, ...]]) -> str:
    """Describe the first leaf that differs from that of ``others``."""
    differing = [leaf for leaf, other in itertools.zip_longest(leaves, others) if leaf != other]
    leaf = (differing or leaves)[0] or ("nothing",)
    if leaf[0] in ("group", "nothing"):
        return " ".join(map(str, leaf))
    logical = json.loads(leaf[2])
    details = ", ".join(f"{key} {value}" for key, value in logical.items() if key != "Type")
    name = logical["Type"] if logical["Type"] != "None" else f"plain {leaf[0]}"
    return f"{name} ({details})" if details else str(name)
