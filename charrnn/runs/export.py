"""Export all rows of a run as one Parquet or CSV file."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from charrnn.errors import DataError
from charrnn.files import writing_parquet, writing_to
from charrnn.runs.csv_text import csv_column, has_csv_text
from charrnn.runs.manifest import read_run
from charrnn.runs.parts import part_writer_options, read_part
from charrnn.tables.columns import is_text

# What a spreadsheet may run as a formula: a cell, or a line inside one, that starts with one of
# these characters (also in full width), spaces before it or not (OWASP, "CSV Injection").
_LEAD = r"(?m)^([\s\x{00a0}]*[=+\-@\t\r\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}])"
_NUMBER = r"^([+-]?[0-9]+([.,][0-9]+)*([eE][+-]?[0-9]+)?%?|-)$"  # a number, a dash


def check_exportable(schema: pa.Schema, path: Path) -> None:
    """Raise DataError when ``path`` is CSV and a column cannot be written as CSV."""
    unfit = [f for f in schema if not has_csv_text(f.type)]
    if path.name.endswith(".csv") and unfit:
        names = ", ".join(repr(field.name) for field in unfit)
        raise DataError(
            f"column {names} is {unfit[0].type}, nested or without a text form, and does not fit "
            "into CSV; give a .parquet file, or cast it to text",
            option="output",
        )


def export(run: Path, path: Path, *, formulas: bool = False) -> tuple[int, int]:
    """Write all rows of a run, in order, as one ``.parquet`` or ``.csv`` file, atomically.

    CSV holds values as ``csv_text`` says and nulls as empty fields, and cells that a spreadsheet
    would run as a formula get a leading apostrophe, unless ``formulas`` are to stay; Parquet is
    never changed.

    Returns:
        The number of rows, and of cells that were escaped.

    Raises:
        DataError: the run is damaged, or has a column that does not fit into CSV.
    """
    rows = escaped = 0
    csv = path.name.endswith(".csv")
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
            open_writer = _writing_csv if csv else writing_parquet
            writer = writer or stack.enter_context(open_writer(path, table.schema, **options))
            writer.write_table(table)
            rows += table.num_rows
    return rows, escaped


@contextmanager
def _writing_csv(path: Path, schema: pa.Schema) -> Iterator[pacsv.CSVWriter]:
    with writing_to(path) as temporary, closing(pacsv.CSVWriter(temporary, schema)) as writer:
        yield writer


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
