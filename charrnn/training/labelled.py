"""Labelled tables: names with their labels, read and checked as inputs of scoring are."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.errors import DataError
from charrnn.model.labels import first_labels
from charrnn.scoring.inputs import one_name
from charrnn.scoring.name_parts import SEPARATOR, split_names
from charrnn.scoring.options import ScoreOptions
from charrnn.tables.columns import (
    as_large_string,
    check_weights,
    is_number,
    is_text,
    name_column_of,
    shown_type,
    value_type,
)
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.discovery import discover
from charrnn.tables.row_groups import cut, read_groups
from charrnn.tables.source import Source, fingerprint, open_source
from charrnn.training.corpus import MAX_ROWS
from charrnn.training.splits import Examples

CHUNK_ROWS = 2**19  # rows read at a time
SPLITS = {  # values of a split column, in any case → part of the split
    "train": 1, "training": 1,
    "validation": 2, "valid": 2, "val": 2, "dev": 2,
    "test": 3, "testing": 3,
}  # fmt: skip


@dataclass(frozen=True)
class LabelledColumns:
    """What columns of a labelled table are called; "" for none. Names are in one column, ``name``,
    or in one or both of their parts."""

    name: str = "name"
    label: str = "language"
    weight: str = ""
    split: str = ""
    surname: str = ""
    given: str = ""

    @classmethod
    def of_names(cls, name: str, given: str, surname: str, **others: str) -> "LabelledColumns":
        """Return the columns by the rules of scoring: columns of parts replace that of names.

        Raises:
            ConfigError: see ``ScoreOptions``.
        """
        options = ScoreOptions(name_column=name, given_column=given, surname_column=surname)
        fields = {f.removesuffix("_column"): c for f, c in options.name_fields.items()}
        return cls(**{"name": "", **fields, **others})


@dataclass(frozen=True)
class LabelledRows:
    """N consecutive rows of a labelled table.

    Attributes:
        names, labels: large_string ``(N,)``, may be null.
        weights: float64 ``(N,)``, finite and at least 0; 0 for null.
        splits: part of the split, value of ``SPLITS``, int8 ``(N,)``; 0 without a split column.
        numbers: of the rows in the table, from 0, int64 ``(N,)``.
        given: whether each name is a given name, bool ``(N,)``.
    """

    names: pa.LargeStringArray
    labels: pa.LargeStringArray
    weights: npt.NDArray[np.float64]
    splits: npt.NDArray[np.int8]
    numbers: npt.NDArray[np.int64]
    given: npt.NDArray[np.bool_]

    def by_part(self) -> "LabelledRows":
        """Return rows of one surname or one given name each, read as scoring reads columns of
        parts: a row that has both becomes two."""
        given, surname = split_names(self.names.fill_null(SEPARATOR), "surname")
        has_given = given.is_valid().to_numpy(zero_copy_only=False)
        others = pc.is_valid(surname).to_numpy(zero_copy_only=False) | ~has_given
        rows = np.concatenate((np.flatnonzero(others), np.flatnonzero(has_given)))
        return LabelledRows(
            names=pa.concat_arrays([surname.filter(pa.array(others)), given.drop_null()]),
            labels=self.labels.take(pa.array(rows)),
            weights=self.weights[rows],
            splits=self.splits[rows],
            numbers=self.numbers[rows],
            given=np.arange(len(rows)) >= others.sum(),
        )


@dataclass(frozen=True)
class LabelledTable:
    """An opened labelled table; ``path`` is what was given, ``columns`` are as the table spells
    them."""

    path: str
    source: Source
    columns: LabelledColumns

    def chunks(self) -> Iterator[LabelledRows]:
        """Yield all rows in order, some ``CHUNK_ROWS`` at a time.

        Raises:
            DataError: a file is damaged, a weight is negative or no number, or a value of the split
                column is none of ``SPLITS``.
        """
        columns, first = [c for c in vars(self.columns).values() if c], 0
        for partition in cut(self.source.tables, CHUNK_ROWS):
            cells = read_groups(partition.groups, columns)
            parts = {f: getattr(self.columns, f) for f in ("name", "surname", "given")}
            name = one_name({f"{f}_column": cells[c] for f, c in parts.items() if c})
            names, labels = _texts(name), _texts(cells[self.columns.label])
            weights, splits = np.ones(len(names)), np.zeros(len(names), np.int8)
            if self.columns.weight:
                weights = self._weights(cells[self.columns.weight])
            if self.columns.split:
                splits = self._splits(cells[self.columns.split])
            numbers = np.arange(first, first + len(names))
            first += len(names)
            yield LabelledRows(names, labels, weights, splits, numbers, np.zeros(len(names), bool))

    def _weights(self, cells: pa.ChunkedArray) -> npt.NDArray[np.float64]:
        try:
            if is_text(cells.type):
                text = pc.utf8_trim_whitespace(_texts(cells))
                cells = pc.if_else(pc.equal(text, ""), None, text)
            weights = cells.cast(pa.float64()).fill_null(0).to_numpy()
        except pa.ArrowException:
            raise DataError(
                f"{self.path}: column {self.columns.weight!r} has values that are no numbers; "
                "correct them, or name another column",
                option="weight_column",
            ) from None
        check_weights(weights, self.columns.weight, "weight_column", f"{self.path}: ")
        return weights  # type: ignore[no-any-return]

    def _splits(self, cells: pa.ChunkedArray) -> npt.NDArray[np.int8]:
        values = pc.utf8_lower(pc.utf8_trim_whitespace(_texts(cells))).dictionary_encode()
        codes = [SPLITS.get(value, 0) for value in values.dictionary.to_pylist()]
        of_value = np.array([*codes, 0], np.int8)
        splits: npt.NDArray[np.int8] = of_value[values.indices.fill_null(len(codes))]
        wrong = int((splits == 0).sum())
        if wrong:
            raise DataError(
                f"{self.path}: column {self.columns.split!r} has {wrong:,} values that are none of "
                "train, validation and test; correct them",
                option="split_column",
            )
        return splits


def open_labelled(
    path: str, columns: LabelledColumns, csv: CsvFormat, staging: Path
) -> LabelledTable:
    """Open a labelled table, Parquet or CSV: a file, a folder or a glob.

    Args:
        staging: a folder for copies of files that cannot be read in small pieces.

    Raises:
        InputMissingError: there is no file.
        DataError: the table is one that scoring would refuse, or a column is missing or of another
            type; no cell is quoted.
    """
    files = fingerprint(discover(path))
    source = open_source(files, staging, partition_rows=CHUNK_ROWS, csv=csv)
    try:
        named = {f: _column(source.schema, column, f) for f, column in vars(columns).items()}
        found = LabelledColumns(**named)
    except DataError as error:
        raise DataError(f"{path}: {error}", option=error.option) from None
    used = [column for column in named.values() if column]
    if len(set(used)) < len(used):
        raise DataError(
            f"{path}: name, label, weight and split must be columns of their own, got "
            f"{', '.join(map(repr, used))}",
            option="label_column",
        )
    if not source.rows:
        raise DataError(f"{path} has no rows")
    return LabelledTable(path, source, found)


def _column(schema: pa.Schema, column: str, what: str) -> str:
    """Return the name of the column that ``column`` means; refuse one of an unfit type."""
    if not column:
        return ""
    column = name_column_of(schema.names, column, f"{what}_column")
    kind = schema.field(column).type
    stored = value_type(kind)
    fits = {
        "label": is_text(kind) or pa.types.is_integer(stored),
        "weight": is_text(kind) or is_number(stored),
    }
    if not fits.get(what, is_text(kind)):
        expected = {"label": "text or whole numbers", "weight": "numbers"}.get(what, "text")
        raise DataError(
            f"column {column!r} is {shown_type(kind)}, expected {expected}; cast it, or choose "
            "another column",
            option=f"{what}_column",
        )
    return column


def _texts(cells: pa.ChunkedArray) -> pa.LargeStringArray:
    """Return text, or whole numbers as text, as one array."""
    texts = as_large_string(cells)
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts


def load_labelled(
    path: str | Path,
    labels: Sequence[str],
    csv: CsvFormat | None = None,
    columns: LabelledColumns = LabelledColumns(),
) -> tuple[Examples, int]:
    """Read a labelled table to measure a model with ``labels`` on; also return the number of rows
    that have no name or no label.

    Raises:
        InputMissingError: there is no file.
        DataError: as ``open_labelled``; or no row is left, there are more than ``MAX_ROWS``, or a
            label is none of ``labels``.
    """
    with tempfile.TemporaryDirectory() as staging:
        table = open_labelled(str(path), columns, csv or CsvFormat(), Path(staging))
        rows = table.source.rows
        if rows > MAX_ROWS:
            raise DataError(f"{path} has {rows:,} rows; at most {MAX_ROWS:,} are evaluated")
        texts = pa.concat_tables(
            pa.table([chunk.names, chunk.labels], ["name", "label"]).drop_null()
            for chunk in table.chunks()
        )
    label_ids = pc.index_in(texts["label"], pa.array(labels, pa.large_string()))
    if label_ids.null_count:
        unknown = pc.count_distinct(texts["label"].filter(label_ids.is_null())).as_py()
        raise DataError(
            f"{path}: column {table.columns.label!r}: {label_ids.null_count:,} of {rows:,} rows "
            f"have {unknown} labels that the model does not know; correct or remove them; it "
            f"knows: {first_labels(labels)}"
        )
    if not len(texts):
        raise DataError(f"{path} has no row with a name and a label, of {rows:,}")
    names = texts["name"].combine_chunks()
    return Examples.of(names, label_ids.to_numpy()), rows - len(names)
