"""Export all rows of a run as one Parquet or CSV file."""

import io
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from charrnn.errors import DataError
from charrnn.files import writing_parquet, writing_to
from charrnn.runs.manifest import read_run
from charrnn.runs.parts import part_writer_options, read_part
from charrnn.tables.columns import as_large_string, is_text
from charrnn.tables.kinds import table_name

# What a spreadsheet may run as a formula: a cell, or a line inside one, that starts with one of
# these characters (also in full width), spaces before it or not (OWASP, "CSV Injection").
_LEAD = r"(?m)^([\s\x{00a0}]*[=+\-@\t\r\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}])"
_CODECS = {"gz": "gzip", "zst": "zstd", "bz2": "bz2"}  # suffix → Arrow's name
_BYTES = (pa.binary(), pa.large_binary(), pa.binary_view())
_UUID = r"^(.{8})(.{4})(.{4})(.{4})(.{12})$"
_NUMBER = r"^([+-]?[0-9]+([.,][0-9]+)*([eE][+-]?[0-9]+)?%?|-)$"  # a number, a dash


def check_exportable(schema: pa.Schema, path: Path) -> None:
    """Raise DataError when ``path`` is CSV and a column cannot be written as CSV."""
    unfit = [f for f in schema if not has_csv_text(f.type)]
    if _is_csv(path) and unfit:
        names = ", ".join(repr(field.name) for field in unfit)
        raise DataError(
            f"column {names} is {unfit[0].type}, nested or without a text form, and does not fit "
            "into CSV; give a .parquet file, or cast it to text",
            option="output",
        )


def export(run: Path, path: Path, *, formulas: bool = False) -> tuple[int, int]:
    """Write all rows of a run, in order, as one Parquet or CSV file, atomically; its name says
    which, with what delimiter, and how it is compressed (see ``kinds.table_name``).

    CSV holds values as ``csv_column`` says and nulls as empty fields, and cells that a spreadsheet
    would run as a formula get a leading apostrophe, unless ``formulas`` are to stay; Parquet is
    never changed.

    Returns:
        The number of rows, and of cells that were escaped.

    Raises:
        DataError: the run is damaged, or has a column that does not fit into CSV.
    """
    rows = escaped = 0
    csv = _is_csv(path)
    options: dict[str, Any] = {}
    with ExitStack() as stack:
        writer: Any = None
        for part in read_run(run).parts:
            table = read_part(run / part.name, metadata=not csv)
            check_exportable(table.schema, path)
            if csv:
                table = pa.table([csv_column(c) for c in table.columns], table.column_names)
                if not formulas:
                    table, changed = escape_formulas(table)
                    escaped += changed
            elif writer is None:
                options = part_writer_options(run / part.name)
            open_writer = writing_csv if csv else writing_parquet
            writer = writer or stack.enter_context(open_writer(path, table.schema, **options))
            writer.write_table(table)
            rows += table.num_rows
    return rows, escaped


def _is_csv(path: Path) -> bool:
    name = table_name(path.name)
    return name is not None and name.format == "csv"


@contextmanager
def writing_csv(path: Path, schema: pa.Schema) -> Iterator[pacsv.CSVWriter]:
    """Yield a writer for a CSV file, which is replaced atomically; the file's name says with what
    delimiter, and how it is compressed."""
    name = table_name(path.name)
    delimiter, compression = (name.delimiter, name.compression) if name else ("", "")
    options = pacsv.WriteOptions(delimiter=delimiter or ",")
    with writing_to(path) as temporary, ExitStack() as stack:
        stream: Any = temporary
        if compression:
            stream = pa.CompressedOutputStream(_Unclosed(temporary), _CODECS[compression])
            stack.enter_context(stream)
        writer = pacsv.CSVWriter(stream, schema, write_options=options)
        yield stack.enter_context(closing(writer))


class _Unclosed(io.RawIOBase):
    """A file that stays open when Arrow closes it: it is fsynced afterwards."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        return self._file.write(content)


def escape_formulas(table: pa.Table) -> tuple[pa.Table, int]:
    """Put an apostrophe before every text cell and column name that a spreadsheet would run as a
    formula; plain numbers such as ``-5`` stay. Return the table and the number of changes."""
    escaped = 0
    for i, field in enumerate(table.schema):
        if not is_text(field.type):
            continue
        column = table.column(i)
        is_formula = pc.and_(
            pc.match_substring_regex(column, _LEAD),
            pc.invert(pc.match_substring_regex(column, _NUMBER)),
        )
        changed = pc.sum(is_formula).as_py() or 0
        if changed:
            escaped_cells = pc.replace_substring_regex(column, _LEAD, r"'\1")
            table = table.set_column(i, field, pc.if_else(is_formula, escaped_cells, column))
            escaped += changed
    names = pc.replace_substring_regex(pa.array(table.column_names, pa.string()), _LEAD, r"'\1")
    return table.rename_columns(names.to_pylist()), escaped


def restore_formulas(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a text column of a file that ``escape_formulas`` made, without its apostrophes."""
    return pc.replace_substring_regex(column, _LEAD.replace("^(", "^'("), r"\1")


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
    if data_type in _BYTES or pa.types.is_fixed_size_binary(data_type):
        digits = pl.Series(column.cast(pa.large_binary())).bin.encode("hex")
        return pa.chunked_array([digits.to_arrow()], pa.large_string())
    if pa.types.is_timestamp(data_type) or pa.types.is_date(data_type):
        return _dated(column)
    return column


def _dated(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return dates and timestamps as text; Arrow's own says of far years only that it has none."""
    text: Any = column.cast(pa.large_string())
    textless = pc.starts_with(text, "<")
    if not pc.any(textless).as_py():
        return text
    width = pa.int32() if pa.types.is_date32(column.type) else pa.int64()
    return pc.if_else(textless, column.cast(width).cast(pa.large_string()), text)
