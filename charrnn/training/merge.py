"""Labelled tables of any size to the parts of a corpus, in bounded memory.

Rows are read a chunk at a time; those of one name and label are added up, normalised, and put into
scratch files by the hash of their key, so that a name with all its spellings is in one file. Each
file then becomes one part: rows of one name, label and source are one row, whose weight is their
sum.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.errors import DataError
from charrnn.files import remove_file, scratch_file
from charrnn.model.labels import MAX_LABEL_LENGTH, MAX_LABELS, MIN_LABELS, label_problem
from charrnn.training.corpus import check_label_keys, table_of
from charrnn.training.corpus_report import RowCounts
from charrnn.training.labelled import LabelledRows, LabelledTable
from charrnn.training.name_keys import FOLDS, REASONS, drop_reason, key_hashes, name_keys
from charrnn.training.splits import TEST_FOLD, VALIDATION_FOLD

PART_ROWS = 2**19  # rows read for each part; bounds the memory that a part takes
_MOST_PARTS = 500  # scratch files that are open at once
_MOST_LISTED = 10  # labels in a message
_TRAIN, _VALIDATION, _TEST = 1, 2, 3  # of ``labelled.SPLITS``
_LEAKS = {_VALIDATION: "also_in_validation", _TEST: "also_in_test"}
# By the split column where ``held`` says so, those of training by the hash, too; else by the hash
_FOLD = (
    pl.when(pl.col("held") == _TRAIN).then(pl.col("hash") % (FOLDS - 2))
    .when(pl.col("held") == _VALIDATION).then(VALIDATION_FOLD)
    .when(pl.col("held") == _TEST).then(TEST_FOLD)
    .otherwise(pl.col("hash") % FOLDS)
    .cast(pl.Int8)
)  # fmt: skip
_SPILLED = pa.schema(
    [
        pa.field("name", pa.large_string()),
        pa.field("key", pa.large_string()),
        pa.field("hash", pa.uint64()),
        pa.field("given", pa.bool_()),
        pa.field("label", pa.int32()),
        pa.field("table", pa.int16()),
        pa.field("split", pa.int8()),
        pa.field("weight", pa.float64()),
        pa.field("rows", pa.int64()),
        pa.field("first", pa.int64()),  # number of the first row, over all tables
    ]
)


class Merge:
    """The labelled tables of a corpus, and what is counted about them.

    Args:
        tables: opened, with the names of their sources.
        lists: rows of lists of names, of ``corpus.SCHEMA``; None for none.
        scratch: a folder for scratch files.
    """

    def __init__(
        self, tables: Sequence[tuple[str, LabelledTable]], lists: pa.Table | None, scratch: Path
    ) -> None:
        self._tables, self._scratch, self._lists = tables, scratch, None
        self._list_labels = list[str]()  # in their order
        if lists:
            frame = pl.DataFrame(lists)
            hashes = key_hashes(frame["name_normalised"].to_arrow())
            self._lists = frame.with_columns(pl.Series("hash", hashes))
            self._list_labels.extend(frame["language"].drop_nulls().unique(maintain_order=True))
        rows = sum(table.source.rows for _, table in tables) + (len(lists) if lists else 0)
        self.parts = 1 if rows <= 2 * PART_ROWS else min(_MOST_PARTS, -(-rows // PART_ROWS))
        self.counts = dict[str, RowCounts]()
        for name, table in tables:
            rejected = len(table.source.rejects)
            self.counts[name] = RowCounts(table.source.rows + rejected)
            self.counts[name].drop("rejected", rejected)
        self._labels: dict[str, int] = {}
        self._trained = set[int]()  # labels with rows to train on

    def read(self, advance: Callable[[int], None]) -> None:
        """Read all rows into scratch files, and check the labels.

        Raises:
            DataError: a row or a label is at fault.
        """
        first = 0
        with ExitStack() as stack:
            files = [stack.enter_context(scratch_file(self._path(i))) for i in range(self.parts)]
            writers = [stack.enter_context(pa.ipc.new_stream(file, _SPILLED)) for file in files]
            for index, (name, table) in enumerate(self._tables):
                for rows in table.chunks():
                    names = rows if table.columns.name else rows.by_part()
                    self.counts[name].second_names += len(names.names) - len(rows.names)
                    self._spill(self._chunk(index, name, names, first), writers)
                    advance(len(rows.names))
                first += table.source.rows
        self._check_labels()

    def _chunk(self, index: int, source: str, rows: LabelledRows, first: int) -> pl.DataFrame:
        """Return the rows of a chunk that are kept, those of one name, label and split as one;
        ``first`` is the number of the table's first row over all tables."""
        names, labels = rows.names.dictionary_encode(), rows.labels.dictionary_encode()
        keys = name_keys(names.dictionary)
        frame = pl.DataFrame(
            {
                "code": names.indices,
                "given": rows.given,
                "label": self._label_ids(labels.dictionary)[labels.indices.fill_null(-1)],
                "split": rows.splits,
                "weight": rows.weights,
                "first": first + rows.numbers,
            }
        )
        distinct = pl.DataFrame({"name": names.dictionary, "key": keys, "hash": key_hashes(keys)})
        reasons = distinct.select(drop_reason(pl.col("key"))).to_series()
        dropped = pl.coalesce(
            pl.when(pl.col("code").is_null()).then(pl.lit("empty")),
            reasons.gather(frame["code"]),
            pl.when(pl.col("label") < 0).then(pl.lit("no_label")),
            pl.when(pl.col("weight") == 0).then(pl.lit("no_weight")),
        )
        frame = frame.with_columns(dropped.alias("dropped"))
        counts = dict(frame["dropped"].value_counts().rows())
        for reason in (*REASONS, "no_label", "no_weight"):
            self.counts[source].drop(reason, counts.get(reason, 0))
        merged = (
            frame.filter(pl.col("dropped").is_null())
            .group_by("code", "given", "label", "split")
            .agg(
                pl.col("weight").sum(), pl.len().cast(pl.Int64).alias("rows"), pl.col("first").min()
            )
        )
        table = pl.lit(index, pl.Int16).alias("table")
        merged = merged.hstack(distinct[merged["code"]]).with_columns(table)
        return merged.select(_SPILLED.names)

    def _label_ids(self, labels: pa.LargeStringArray) -> npt.NDArray[np.int32]:
        """Return the ids of labels, -1 for an empty one, and -1 at the end, for null."""
        ids = []
        for label in labels.to_pylist():
            ids.append(self._labels.setdefault(label, len(self._labels)) if label.strip() else -1)
        if len(self._labels) > MAX_LABELS:
            raise DataError(
                f"the label column has more than {MAX_LABELS:,} values; is it the column of the "
                "labels?",
                option="label_column",
            )
        return np.array([*ids, -1], np.int32)

    def _spill(self, frame: pl.DataFrame, writers: Sequence[pa.RecordBatchStreamWriter]) -> None:
        part = pl.Series("part", part_of(frame["hash"].to_numpy(), self.parts))
        by_part = frame.with_columns(part).partition_by("part", as_dict=True, include_key=False)
        for (index,), rows in by_part.items():
            writer = writers[index]
            writer.write_table(rows.to_arrow().cast(_SPILLED))

    def _check_labels(self) -> None:
        for label in self._labels:
            if problem := label_problem(label):
                shown = f"the label {label!a}" if len(label) <= MAX_LABEL_LENGTH else "a label"
                raise DataError(
                    f"{shown} {problem}; correct the label column",
                    option="label_column",
                )
        labels = dict.fromkeys([*self._list_labels, *self._labels])
        check_label_keys(labels)
        if not MIN_LABELS <= len(labels) <= MAX_LABELS:
            raise DataError(
                f"the number of labels is {len(labels):,}; a model needs {MIN_LABELS} to "
                f"{MAX_LABELS:,}",
                option="label_column",
            )

    def tables(self) -> Iterator[pa.Table]:
        """Yield the parts, tables of ``corpus.SCHEMA`` without metadata; then the counts are whole.

        Raises:
            DataError: a label has no name to train on.
        """
        for index in range(self.parts):
            path = self._path(index)
            with pa.OSFile(str(path)) as file:
                frame = pl.DataFrame(pa.ipc.open_stream(file).read_all())
            remove_file(path)
            held = frame.group_by("key").agg(pl.col("split").max().alias("held"))
            frame = self._without_leaks(frame.join(held, on="key", how="left"))
            table = self._table(frame)
            if self._lists is not None:
                table = pa.concat_tables([self._lists_of(index, held, table), table])
            yield table
        untrained = [label for label, i in self._labels.items() if i not in self._trained]
        missing = [label for label in untrained if label not in self._list_labels]
        if missing:
            more = ", …" if missing[_MOST_LISTED:] else ""
            raise DataError(
                f"{len(missing):,} labels have no name to train on: "
                f"{', '.join(map(ascii, missing[:_MOST_LISTED]))}{more}; add names of them, or "
                "leave these labels out",
                option="split_column" if any(t.columns.split for _, t in self._tables) else "",
            )

    def _without_leaks(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Drop rows of a name that the split column puts into a part that is held out as well."""
        leaks = frame.filter((pl.col("split") > 0) & (pl.col("split") < pl.col("held")))
        leaked = leaks.group_by("table", "held").agg(pl.col("rows").sum()).sort("table", "held")
        for table, held, rows in leaked.rows():
            self.counts[self._tables[table][0]].drop(_LEAKS[held], rows)
        return frame.filter((pl.col("split") == 0) | (pl.col("split") == pl.col("held")))

    def _table(self, frame: pl.DataFrame) -> pa.Table:
        """Add up the rows of each name, label and source, in the order of their first ones."""
        frame = (
            frame.group_by("name", "given", "label", "table")
            .agg(
                pl.col("weight", "rows").sum(),
                pl.col("first").min(),
                pl.col("key", "hash", "held").first(),
            )
            .sort("first", "given")
        )
        for table, kept, rows in frame.group_by("table").agg(pl.len(), pl.col("rows").sum()).rows():
            counts = self.counts[self._tables[table][0]]
            counts.kept += kept
            counts.merged += rows - kept
        frame = frame.with_columns(fold=_FOLD)
        is_trained = ~pl.col("fold").is_in((TEST_FOLD, VALIDATION_FOLD))
        self._trained.update(frame.filter(is_trained)["label"].unique())
        files = [file.name for _, table in self._tables for file in table.source.files]
        file_rows = [rows for _, table in self._tables for rows in table.source.file_rows]
        starts = np.cumsum([0, *file_rows[:-1]])  # the number of each file's first row
        file = np.searchsorted(starts, frame["first"].to_numpy(), side="right") - 1
        columns = pa.table(
            {
                "name": frame["name"].to_arrow(),
                "name_normalised": frame["key"].to_arrow(),
                "language": pa.array(list(self._labels)).take(frame["label"].to_arrow()),
                "part": pc.if_else(frame["given"].to_arrow(), "given", "surname"),
                "source": pa.array([n for n, _ in self._tables]).take(frame["table"].to_arrow()),
                "source_file": pa.array(files).take(pa.array(file)),
                "line": frame["first"].to_numpy() - starts[file] + 1,
                "weight": frame["weight"].to_numpy().astype(np.float32),
                "fold": frame["fold"].to_arrow(),
                "dropped": pa.nulls(len(frame), pa.string()),
            }
        )
        return table_of(columns)

    def _lists_of(self, index: int, held: pl.DataFrame, table: pa.Table) -> pa.Table:
        """Return the rows of the lists that belong to a part: where the split column of a table
        says in which part a name is, that counts, and a word that is a name is no other word."""
        assert self._lists is not None
        mine = part_of(self._lists["hash"].to_numpy(), self.parts) == index
        key, usable = pl.col("name_normalised"), pl.col("fold").is_not_null()
        names = pl.Series(table["name_normalised"])
        also = usable & (pl.col("part") == "other") & key.is_in(names)
        lists = (
            self._lists.filter(pl.Series(mine))
            .join(held, left_on=key, right_on="key", how="left", maintain_order="left")
            .with_columns(
                fold=pl.when(usable & ~also).then(_FOLD),
                dropped=pl.when(also).then(pl.lit("also_a_name")).otherwise("dropped"),
            )
        )
        return table_of(lists.to_arrow())

    def _path(self, index: int) -> Path:
        return self._scratch / f"merge-{index:05d}.arrows"


def part_of(hashes: npt.NDArray[np.uint64], parts: int) -> npt.NDArray[np.int64]:
    """Return the part of a corpus that each of N key hashes belongs to, int64 ``(N,)``; not a
    function of the fold."""
    return (hashes // np.uint64(FOLDS) % np.uint64(parts)).astype(np.int64)
