"""What the values of each Arrow type look like in CSV."""

from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.tables.columns import as_large_string, is_text

_UUID = r"^(.{8})(.{4})(.{4})(.{4})(.{12})$"


def has_csv_text(data_type: pa.DataType) -> bool:
    """Whether values of a type fit into a CSV file: all but nested ones and intervals."""
    try:
        no_rows = csv_column(pa.chunked_array([], data_type))
        no_rows.cast(pa.large_string())
    except (pa.ArrowException, TypeError):
        return False
    return not pa.types.is_nested(no_rows.type)


def csv_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as the CSV writer takes it: bytes as hexadecimal digits, UUIDs as usual,
    dictionaries and other encodings as their values, text as large_string. Timestamps in years that
    have no text are the number of units since 1970."""
    data_type = column.type
    if isinstance(data_type, pa.BaseExtensionType):
        storage = [chunk.storage for chunk in column.chunks]
        plain = csv_column(pa.chunked_array(storage, data_type.storage_type))
        if not isinstance(data_type, pa.UuidType):
            return plain
        return pc.replace_substring_regex(plain, _UUID, r"\1-\2-\3-\4-\5")
    if is_text(data_type):
        return as_large_string(column)
    if pa.types.is_dictionary(data_type):
        return csv_column(column.cast(data_type.value_type))
    if pa.types.is_run_end_encoded(data_type):
        return csv_column(pc.run_end_decode(column))
    if _is_bytes(data_type):
        digits = pl.Series(column.cast(pa.large_binary())).bin.encode("hex")
        return pa.chunked_array([digits.to_arrow()], pa.large_string())
    if pa.types.is_timestamp(data_type) or pa.types.is_date(data_type):
        return _dated(column)
    return column


def _is_bytes(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(data_type)
        or types.is_large_binary(data_type)
        or types.is_binary_view(data_type)
        or types.is_fixed_size_binary(data_type)
    )


def _dated(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return dates and timestamps as text; Arrow's own says of far years only that it has none."""
    text: Any = column.cast(pa.large_string())
    textless = pc.starts_with(text, "<")
    if not pc.any(textless).as_py():
        return text
    width = pa.int32() if pa.types.is_date32(column.type) else pa.int64()
    return pc.if_else(textless, column.cast(width).cast(pa.large_string()), text)
