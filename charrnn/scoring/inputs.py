"""What a caller of the library hands over as names or as a table, as Arrow; or a line about it.

pandas is never imported here: an object can only be one of pandas where the caller imported it.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from charrnn.errors import DataError
from charrnn.scoring.name_parts import join_parts
from charrnn.scoring.options import ScoreOptions
from charrnn.tables.columns import as_large_string, is_number, is_text, shown_type

_SERIES = (pl.String, pl.Categorical, pl.Enum, pl.Null)
_MISSING = ("NAType", "NaTType")  # what pandas puts where a value is missing
_NAMES = "expected a list, Polars or pandas Series or Arrow array of strings"
_TABLE = "expected a Polars or pandas DataFrame or an Arrow table"
# Types whose missing values pandas would turn into floats or objects → its types that have them.
_NULLABLE = {pa.int16(): "Int16", pa.bool_(): "boolean"}


def names_array(names: Any, what: str = "names") -> pa.Array | pa.ChunkedArray:
    """Return names as an Arrow array of text.

    Args:
        names: a Polars or pandas Series, an Arrow array, an object with ``__arrow_c_stream__`` or
            ``__arrow_c_array__``, or an iterable in order (list, tuple, generator, NumPy array) of
            strings. None, NaN, NaT and the other missing values of pandas are null.
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
    if is_pandas(names, "Series", "Index"):
        return _of_pandas(names, what)
    tables = pl.DataFrame | pl.LazyFrame | pa.Table | pa.RecordBatch | pa.RecordBatchReader
    if isinstance(names, tables) or is_pandas(names, "DataFrame"):
        raise DataError(
            f"{what} are a {type(names).__name__}, {_NAMES}; take one column, or use score_table"
        )
    if hasattr(names, "__arrow_c_stream__") or hasattr(names, "__arrow_c_array__"):
        return _text(_imported(pa.chunked_array, names, what), what)
    iterable = isinstance(names, Iterable) or hasattr(names, "__getitem__")
    if isinstance(names, str | bytes | Mapping | Set | pl.Expr) or not iterable:
        fix = "; put a single name into a list" if isinstance(names, str | bytes) else ""
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


def readable_table(table: Any) -> Any:
    """Return a DataFrame of Polars or of pandas as it is, and any other table that exports Arrow
    (DuckDB, a RecordBatchReader) as an Arrow table.

    Raises:
        DataError: it is no table, or has a column that Arrow cannot hold.
    """
    if isinstance(table, pl.DataFrame | pa.Table):
        return table
    if is_pandas(table, "DataFrame"):
        if (number := table.columns.nlevels) > 1:
            raise DataError(
                f"columns of the table have {number} levels, expected one; give "
                "them plain names, such as with frame.columns.map('_'.join)"
            )
        return table
    exports = hasattr(table, "__arrow_c_stream__") or hasattr(table, "__arrow_c_array__")
    columns = isinstance(table, pl.Series | pa.Array | pa.ChunkedArray)
    if columns or is_pandas(table, "Series", "Index") or not exports:
        raise DataError(f"table is a {type(table).__name__}, {_TABLE}; make one of it")
    return _imported(pa.table, table, "table")


def headers_of(table: Any) -> list[str]:
    """Return the names of the columns of a ``readable_table``, those of pandas as text."""
    if isinstance(table, pa.Table):
        return list(table.column_names)
    return [str(column) for column in table.columns]


def cells_of(table: Any, column: str) -> pa.Array | pa.ChunkedArray:
    """Return the text of a column of a ``readable_table``, one of ``headers_of``, as
    ``names_array`` does."""
    return names_array(_column(table, column), f"cells of column {column!r}")


def values_of(table: Any, column: str) -> pa.Array | pa.ChunkedArray:
    """Return a column of a ``readable_table``, one of ``headers_of``: whole numbers, decimals and
    floats as they are, NaN as null; other values as ``cells_of``."""
    cells = _column(table, column)
    if isinstance(cells, pl.Series):
        if cells.dtype.is_numeric():
            return cells.fill_nan(None).to_arrow() if cells.dtype.is_float() else cells.to_arrow()
    elif is_pandas(cells, "Series"):
        types = sys.modules["pandas"].api.types
        if types.is_numeric_dtype(cells) and not types.is_bool_dtype(cells):
            return pa.array(cells, from_pandas=True)
    elif is_number(cells.type):
        return cells
    return cells_of(table, column)


def _column(table: Any, column: str) -> Any:
    by_place = is_pandas(table, "DataFrame")
    return table.iloc[:, headers_of(table).index(column)] if by_place else table[column]


def with_columns(table: Any, added: Mapping[str, pa.Array]) -> Any:
    """Return a ``readable_table`` with columns behind its own; a pandas DataFrame keeps its
    index, and gets categorical, float32, Int16 and boolean columns."""
    if isinstance(table, pl.DataFrame):
        return table.with_columns(pl.Series(n, pl.from_arrow(a)) for n, a in added.items())
    if isinstance(table, pa.Table):
        for name, values in added.items():
            table = table.append_column(name, values)
        return table
    ours = as_pandas(pa.table(dict(added)), table.index)
    ours.columns.name = table.columns.name
    whole = sys.modules["pandas"].concat([table, ours], axis=1)
    whole.attrs = dict(table.attrs)
    return whole


def as_pandas(table: pa.Table, index: Any = None) -> Any:
    """Return an Arrow table as a pandas DataFrame with an index, by default one that counts."""
    dtype = sys.modules["pandas"].api.types.pandas_dtype
    nullable = {arrow: dtype(name) for arrow, name in _NULLABLE.items()}
    frame = table.to_pandas(types_mapper=nullable.get)
    if index is not None:
        frame.index = index
    return frame


def is_pandas(given: Any, *classes: str) -> bool:
    """Whether an object is of one of these classes of pandas, such as ``DataFrame``."""
    pandas = sys.modules.get("pandas")
    return isinstance(given, tuple(getattr(pandas, name, ()) for name in classes))


def _of_pandas(cells: Any, what: str) -> pa.Array | pa.ChunkedArray:
    """Return the cells of a pandas Series or Index, as text."""
    try:
        array = pa.array(cells, from_pandas=True)
    except (pa.ArrowException, UnicodeEncodeError):  # cells of several types, or no Unicode
        return _listed(cells.tolist(), what)
    if is_text(array.type):
        return array
    if cells.isna().all():
        return pa.nulls(len(cells), pa.string())
    if cells.dtype == object:
        return _listed(cells.tolist(), what)
    raise _not_text(what, str(cells.dtype))


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
            f"{what}: expected text (str) or None, got {type(name).__name__} at index {index}; "
            "make text of it, or leave it out"
        )
    try:
        return pa.array(names, pa.large_string())
    except UnicodeEncodeError:
        halves = re.compile("[\ud800-\udfff]")
        index = next(i for i, name in enumerate(names) if name and halves.search(name))
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
    return DataError(
        f"{what} are {found}, expected text (string); cast them to text, or take others"
    )


def _is_missing(name: Any) -> bool:
    if type(name).__name__ in _MISSING:
        return True
    return isinstance(name, float | np.floating | np.datetime64 | np.timedelta64) and bool(
        name != name
    )
