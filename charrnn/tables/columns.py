"""Columns of text: what a name column is, and the checks that a table has to pass."""

from __future__ import annotations

__all__ = ["as_large_string", "check_name_column", "check_no_clash", "is_text"]

from collections.abc import Iterable

import pyarrow as pa

from charrnn.errors import DataError, did_you_mean


def check_name_column(schema: pa.Schema, column: str) -> None:
    """Raise DataError unless ``column`` exists, once, and holds text."""
    found = schema.get_all_field_indices(column)
    if not found:
        raise DataError(
            f"column {column!r} not found; columns: {', '.join(schema.names)}"
            f"{did_you_mean(column, schema.names)} (use --name-column)"
        )
    if len(found) > 1:
        raise DataError(f"column {column!r} appears {len(found)} times; rename all but one")
    kind = schema.field(found[0]).type
    if not is_text(kind):
        raise DataError(
            f"column {column!r} is {kind}; names must be text (string); cast the column, or choose "
            "another with --name-column"
        )


def check_no_clash(schema: pa.Schema, added: Iterable[str]) -> None:
    """Raise DataError when a column that scoring adds is in the input already."""
    clashes = [column for column in added if column in schema.names]
    if clashes:
        raise DataError(
            f"the input already has column {', '.join(map(repr, clashes))}, which scoring would "
            "add; give --prefix, such as --prefix charrnn_"
        )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this Arrow type holds text, dictionary-encoded or not."""
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(text) for check in checks)


def as_large_string(names: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return text of any Arrow type as large_string: string_view has no kernels for much of what
    follows, and 2 GB of names overflow a string array."""
    plain = names.cast(names.type.value_type) if pa.types.is_dictionary(names.type) else names
    return plain.cast(pa.large_string())
