"""Labelled tables: names with their true labels, read and checked as inputs of scoring are."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from charrnn.errors import DataError
from charrnn.model.labels import first_labels
from charrnn.tables.columns import as_large_string, check_name_column
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.discovery import discover
from charrnn.tables.row_groups import read_groups
from charrnn.tables.source import fingerprint, open_source
from charrnn.training.corpus import MAX_ROWS
from charrnn.training.splits import Examples

COLUMNS = ("name", "language")


@dataclass(frozen=True)
class Labelled:
    """Rows of a labelled table; ``left_out`` rows have no name or no label."""

    examples: Examples
    left_out: int


def load_labelled(path: Path, labels: Sequence[str], csv: CsvFormat | None = None) -> Labelled:
    """Read a table, Parquet or CSV, with the columns ``name`` and ``language``.

    Raises:
        InputMissingError: there is no file.
        DataError: the table is one that scoring would refuse, a column is missing or no text, no
            row is left, or a label is none of ``labels``; no cell is quoted.
    """
    names: list[str] = []
    languages: list[str] = []
    rows = 0
    with tempfile.TemporaryDirectory() as staging:
        files = fingerprint(discover(str(path)))
        form = csv or CsvFormat()
        source = open_source(files, Path(staging), partition_rows=2**20, csv=form)
        columns = [_column(path, source.schema, column) for column in COLUMNS]
        rows = source.rows
        if rows > MAX_ROWS:
            raise DataError(f"{path} has {rows:,} rows; at most {MAX_ROWS:,} are evaluated")
        for table in source.tables:
            for group in table.groups:
                cells = read_groups([group], columns)
                texts = pa.table([as_large_string(cells[column]) for column in columns], COLUMNS)
                texts = texts.drop_null()  # which string_view cannot
                names.extend(texts[COLUMNS[0]].to_pylist())
                languages.extend(texts[COLUMNS[1]].to_pylist())
    position = {label: i for i, label in enumerate(labels)}
    unknown = [language for language in languages if language not in position]
    if unknown:
        listed = first_labels(labels)
        raise DataError(
            f"{path}: {len(unknown):,} of {rows:,} rows have {len(set(unknown))} labels that the "
            f"model does not know; correct or remove them; it knows: {listed}"
        )
    if not names:
        raise DataError(f"{path} has no row with a name and a language, of {rows:,}")
    label_ids = np.array([position[language] for language in languages], np.int64)
    return Labelled(Examples.of(names, label_ids), rows - len(names))


def _column(path: Path, schema: pa.Schema, column: str) -> str:
    """Check a column as scoring checks that of the names; its option does not exist here."""
    try:
        return check_name_column(schema, column)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
