"""What a caller of the library hands over as names or as a table, as Arrow; or a line about it."""

import math
from collections.abc import Iterable, Mapping, Set
from typing import Any

import polars as pl
import pyarrow as pa

from charrnn.errors import DataError
from charrnn.scoring.name_parts import join_parts
from charrnn.scoring.options import ScoreOptions
from charrnn.tables.columns import as_large_string, is_text, shown_type

_SERIES = (pl.String, pl.Categorical, pl.Enum, pl.Null)
_MISSING = ("NAType", "NaTType")  # what pandas puts where a value is missing
_NAMES = "expected a list, Polars Series or Arrow array of strings"
_TABLE = "expected a Polars DataFrame or an Arrow table"


def names_array(names: Any, what: str = "names") -> pa.Array | pa.ChunkedArray:
    """Return names as an Arrow array of text.

    Args:
        names: a Polars Series, an Arrow array, an object with ``__arrow_c_stream__`` or
            ``__arrow_c_array__``, or an iterable in order (list, tuple, generator, NumPy array,
            pandas Series) of strings. None, NaN and the missing values of pandas are null.
        what: what messages call them.

    Raises:
        DataError: they are no text; the message quotes none of them.
    """
    if isinstance(names, pl.Series):
        if names.dtype == pl.Object:
            return _listed(names.to_list(), what)
        if names.dtype not in _SERIES:
            raise _not_text(what, str(names.dtype))
        return names.cast(pl.String).to_arrow()
    if isinstance(names, pa.Array | pa.ChunkedArray):
        return _text(names, what)
    if isinstance(names, pl.DataFrame | pl.LazyFrame | pa.Table | pa.RecordBatch):
        raise DataError(
            f"{what} are a {type(names).__name__}, {_NAMES}; take one column, or use score_table"
        )
    if hasattr(names, "__arrow_c_stream__") or hasattr(names, "__arrow_c_array__"):
        return _text(_imported(pa.chunked_array, names, what), what)
    one_name, unordered = isinstance(names, str | bytes), isinstance(names, Mapping | Set)
    if one_name or unordered or isinstance(names, pl.Expr) or not _iterable(names):
        fix = "; put a single name into a list" if one_name else ""
        raise DataError(f"{what} are a {type(names).__name__}, {_NAMES}{fix}")
    return _listed(list(names), what)


def names_in(table: pa.Table, options: ScoreOptions) -> pa.Array | pa.ChunkedArray:
    """Return the name of each row of a table that has the columns of ``options``: the one place
    where names are taken from a table."""
    return one_name({field: table[column] for field, column in options.name_fields.items()})


def one_name(
    cells: Mapping[str, pa.Array | pa.ChunkedArray],
) -> pa.Array | pa.ChunkedArray:
    """Return one name per row for the cells of each field of ``ScoreOptions.name_fields``: those of
    ``name_column`` as they are, parts joined (see ``join_parts``)."""
    if "name_column" in cells:
        return cells["name_column"]
    texts = {field: as_large_string(column) for field, column in cells.items()}
    return join_parts(texts.get("surname_column"), texts.get("given_column"))


def arrow_table(table: Any) -> pa.Table:
    """Return a table of Arrow or of another library (pandas, DuckDB) as an Arrow table.

    Raises:
        DataError: it is no table, or has a column that Arrow cannot hold.
    """
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, pl.LazyFrame):
        raise DataError(
            f"table is a LazyFrame, {_TABLE}; call collect() first, or use Scorer.expression in "
            "the query"
        )
    if isinstance(table, pl.Series | pa.Array | pa.ChunkedArray) or not hasattr(
        table, "__arrow_c_stream__"
    ):
        raise DataError(f"table is a {type(table).__name__}, {_TABLE}; make one of it")
    imported: pa.Table = _imported(pa.table, table, "table")
    return imported


def _text(names: pa.Array | pa.ChunkedArray, what: str) -> pa.Array | pa.ChunkedArray:
    if pa.types.is_null(names.type):
        return names.cast(pa.string())
    if not is_text(names.type):
        raise _not_text(what, shown_type(names.type))
    return names


def _listed(names: list[Any], what: str) -> pa.Array:
    if not all(name is None or isinstance(name, str) for name in names):
        names = [None if _is_missing(name) else name for name in names]
    odd = ((i, n) for i, n in enumerate(names) if not (n is None or isinstance(n, str)))
    for index, name in odd:
        raise DataError(
            f"{what}: expected text (str) or None, got {type(name).__name__} at index {index}"
        )
    try:
        return pa.array(names, pa.large_string())
    except UnicodeEncodeError:
        index = next(i for i, n in enumerate(names) if n is not None and _has_surrogate(n))
    raise DataError(
        f"{what}: expected Unicode text, got half of a surrogate pair at index {index}; decode the "
        "source with errors='replace', or leave the name out"
    )


def _imported(read: Any, given: Any, what: str) -> Any:
    """Return what Arrow makes of an object of another library."""
    try:
        return read(given)
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        raise DataError(
            f"{what}: Arrow cannot hold this {type(given).__name__} ({type(error).__name__}); "
            "make every column of one type"
        ) from error


def _not_text(what: str, found: str) -> DataError:
    return DataError(f"{what} are {found}, expected text (string); cast them")


def _is_missing(name: Any) -> bool:
    return (isinstance(name, float) and math.isnan(name)) or type(name).__name__ in _MISSING


def _has_surrogate(name: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in name)


def _iterable(names: Any) -> bool:
    return isinstance(names, Iterable) or hasattr(names, "__getitem__")
