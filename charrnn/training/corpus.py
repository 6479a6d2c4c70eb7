"""The training corpus: from lists of names to one table with folds.

Every line becomes one row of the table, junk included, since the seed protocol uses all rows. Rows
that the honest protocol leaves out have a reason in ``dropped`` and no fold.

Two lines are one name where they agree as the model's Latin text rules normalise them, names in
other scripts transliterated first (``name_key``). All lines of one name are in one fold: a name,
its spelling without accents and its transliteration are never on two sides of a split.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from charrnn.errors import DataError, InputMissingError, OutputError
from charrnn.files import (
    closing_reader,
    publish_folder,
    remove_file,
    withdraw_folder,
    write_parquet,
)
from charrnn.model.labels import LANGUAGE, check_labels, label_key
from charrnn.model.normalise import string_buffers
from charrnn.model.vocabulary import GIVEN
from charrnn.training.frequencies import filled_frequencies
from charrnn.training.label_files import LabelFile, Source, content_digest, lines_of
from charrnn.training.mapped import Column, Texts, blocks_of, column_of
from charrnn.training.name_keys import FOLDS, IDEOGRAPHS, drop_reason, key_hashes, name_keys

MAX_ROWS = 4_000_000  # of a corpus table, or of one part of it, which is held in memory
_MAX_TABLE_BYTES = 2**29  # of its cells, uncompressed
PARTS = "part-{:05d}.parquet"  # of a corpus that is a folder

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("name_normalised", pa.string(), nullable=False),
        pa.field("language", pa.string()),  # null where part is "other"
        pa.field("part", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("line", pa.int32(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),  # see Corpus.weights
        pa.field("fold", pa.int8()),
        pa.field("dropped", pa.string()),
    ]
)
_DIGEST_KEY = b"charrnn.content_sha256"
_TABLE_KEY = b"charrnn.table_digest"  # metadata: SHA-256 of the cells
_SOURCES_KEY = b"charrnn.sources"  # metadata: the sources with their counts, as JSON
_PART_KEY = b"charrnn.part"  # metadata: which part of how many
_LABEL_NAME_KEY = b"charrnn.label_name"  # metadata: what the labels are; without it, languages
_FREQUENT = 0.001  # share of the people of a label, where a list tells
_BETWEEN_NAMES = re.compile("[ ,.&-]+")


@dataclass(frozen=True)
class SourceCounts:
    """A source and its rows by label and part; the label of words that are no names is ``""``."""

    source: Source
    rows: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Corpus:
    """A corpus table of N names, and of M words that are no names; large columns are mapped files.

    Attributes:
        names: as in the files, large_string ``(N,)``; before a given name stands the mark
            ``GIVEN``.
        normalised: what two spellings of a name have in common, see ``name_key``; large_string
            ``(N,)``.
        label_ids: indices into ``labels``, int32 ``(N,)``.
        folds: int8 ``(N,)``; -1 where the row is left out of the honest protocol.
        weights: how often each row counts, float32 ``(N,)``. In lists, 1; but where some of them
            tell the frequencies of names, those per million people of the label
            (``frequencies.filled_frequencies``).
        labels: sorted.
        label_name: what the labels are, such as country.
        counted: all sources are labelled tables (see ``Source``).
        digest: ``content_digest`` of the lists.
        outliers: words that are no names, large_string ``(M,)``.
        outlier_folds: their folds, int8 ``(M,)``; -1 where one is left out.
        part_rows: numbers of consecutive rows that have no name in common with the others; empty
            where only all rows are such a part.
        scratch: folder for the files of large columns; see ``mapped.Column``.
    """

    names: pa.LargeStringArray
    normalised: pa.LargeStringArray
    label_ids: npt.NDArray[np.int32]
    folds: npt.NDArray[np.int8]
    weights: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    digest: str
    outliers: pa.LargeStringArray
    outlier_folds: npt.NDArray[np.int8]
    label_name: str = LANGUAGE
    counted: bool = False
    part_rows: tuple[int, ...] = ()
    scratch: Path | None = None

    def parts(self) -> Iterator[Self]:
        """Yield corpora of consecutive rows, no two of which have a name in common."""
        first = 0
        for rows in self.part_rows or (len(self.names),):
            own = slice(first, first + rows)
            yield replace(
                self,
                names=self.names[own],
                normalised=self.normalised[own],
                label_ids=self.label_ids[own],
                folds=self.folds[own],
                weights=self.weights[own],
                part_rows=(),
            )
            first += rows

    @property
    def given(self) -> npt.NDArray[np.bool_]:
        """Which of the names are given names, bool ``(N,)``."""
        return given_names(self.names)


def given_names(names: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
    """Return which of N names have the mark of given names, bool ``(N,)``."""
    marked: npt.NDArray[np.bool_] = pc.starts_with(names, GIVEN).to_numpy(zero_copy_only=False)
    return marked


def build_table(files: Sequence[LabelFile]) -> pa.Table:
    """Return the corpus table (``SCHEMA``), one row per line, in file and line order; its metadata
    holds the sources and their counts.

    Words that are no names are left out of the honest protocol where they are one, too.

    Raises:
        DataError: a file is not text (names file and line), there are more than ``MAX_ROWS`` lines,
            two labels differ by case or Unicode form only, or there is not one usable name.
    """
    check_label_keys(file.label for file in files if file.label is not None)
    files = sorted(files, key=lambda file: not file.listed)
    frames, count = list[pl.DataFrame](), 0
    for file in files:
        frames.append(_lines(file))
        if (count := count + len(frames[-1])) > MAX_ROWS:
            raise DataError(f"the language files have more than {MAX_ROWS:,} lines")
    rows = pl.concat(frames)
    keys = name_keys(rows["name"].to_arrow())
    rows = rows.with_columns(
        pl.Series("name_normalised", keys), pl.Series("hash", key_hashes(keys))
    )
    name, key, is_other = pl.col("name"), pl.col("name_normalised"), pl.col("part") == "other"
    # The key of ideographs is their Mandarin reading, which many names have.
    own_key = pl.when(name.str.contains(IDEOGRAPHS)).then(name).otherwise(key)
    weights = filled_frequencies(rows.with_columns(own_key.alias("key")))
    # Frequent names are in the folds that are trained on: they are few, and in many rows of a
    # table, and a test is to tell how names are answered that were not learned.
    is_frequent = (pl.col("share") >= _FREQUENT).any().over("name_normalised")
    folds = (
        pl.when(is_frequent).then(pl.col("hash") % (FOLDS - 2)).otherwise(pl.col("hash") % FOLDS)
    )
    rows = rows.with_columns(weights.alias("weight"), folds.alias("fold")).filter("listed")
    also = pl.when(is_other & key.is_in(_names_among_others(rows))).then(pl.lit("also_a_name"))
    rows = rows.with_columns(dropped=pl.coalesce(drop_reason(key, is_other), also))
    if rows.filter(pl.col("language").is_not_null(), pl.col("dropped").is_null()).is_empty():
        raise DataError("the language files hold no usable name")
    rows = rows.with_columns(fold=pl.when(pl.col("dropped").is_null()).then("fold"))
    sources = list(dict.fromkeys(file.source for file in files))
    return with_metadata(table_of(rows.to_arrow()), content_digest(files), sources)


def _lines(file: LabelFile) -> pl.DataFrame:
    """Return the lines of a file with their numbers and shares, and what the file says of all."""
    lines = lines_of(file)
    columns = {
        "name": lines,
        "line": range(1, len(lines) + 1),
        "share": file.frequencies or [None] * len(lines),
    }
    schema = {"name": pl.String, "line": pl.Int32, "share": pl.Float64}
    return pl.DataFrame(columns, schema).with_columns(
        pl.col("share").fill_nan(None),
        pl.lit(file.label, pl.String).alias("language"),
        part=pl.lit(file.part),
        source=pl.lit(file.source.name),
        source_file=pl.lit(file.name),
        listed=pl.lit(file.listed),
    )


def _names_among_others(rows: pl.DataFrame) -> list[str]:
    """Return the keys of words that are no names which are names, too, or only made of names."""
    is_other = pl.col("part") == "other"
    names = set(rows.filter(~is_other)["name_normalised"])
    words = rows.filter(is_other)["name_normalised"].unique()

    def is_name(word: str) -> bool:
        return word in names or names.issuperset(filter(None, _BETWEEN_NAMES.split(word)))

    return [word for word in words if word and is_name(word)]


def table_of(columns: pa.Table) -> pa.Table:
    """Return these columns as a table of ``SCHEMA``."""
    return columns.select(SCHEMA.names).cast(SCHEMA).combine_chunks()


def with_metadata(
    table: pa.Table,
    content: str,
    sources: Sequence[Source],
    part: tuple[int, int] = (0, 1),
    label_name: str = LANGUAGE,
) -> pa.Table:
    """Return a table of ``SCHEMA`` with what is needed to prove it when it is read.

    Args:
        content: SHA-256 of what the corpus was made from.
        part: which part of how many the table is.
        label_name: what the labels are, such as country.
    """
    metadata = {
        _DIGEST_KEY: content.encode(),
        _PART_KEY: b"%d/%d" % part,
        _SOURCES_KEY: _counts_as_json(sources, table),
    }
    if label_name != LANGUAGE:
        metadata[_LABEL_NAME_KEY] = label_name.encode()
    digest = _table_digest(table, metadata)
    return table.replace_schema_metadata({**metadata, _TABLE_KEY: digest})


def check_label_keys(labels: Iterable[str]) -> None:
    """Raise DataError where two labels differ by case or Unicode form only."""
    seen: dict[str, str] = {}
    for label in labels:
        first = seen.setdefault(label_key(label), label)
        if first != label:
            raise DataError(
                f"the labels {first!a} and {label!a} differ by case or Unicode form "
                "only; write them alike"
            )


def _counts_as_json(sources: Sequence[Source], table: pa.Table) -> bytes:
    """Return the sources with their versions, licences and rows by label and part, as JSON."""
    counted = table.group_by(["source", "language", "part"], use_threads=False)
    by_source: dict[str, dict[str, dict[str, int]]] = {}
    for row in counted.aggregate([([], "count_all")]).to_pylist():
        of_label = by_source.setdefault(row["source"], {}).setdefault(row["language"] or "", {})
        of_label[row["part"]] = row["count_all"]
    described = [SourceCounts(source, by_source.get(source.name, {})) for source in sources]
    return json.dumps([asdict(one) for one in described]).encode()


def sources_of(table: pa.Table) -> list[SourceCounts]:
    """Return the sources of a corpus table with their counts, from its metadata."""
    described = json.loads((table.schema.metadata or {}).get(_SOURCES_KEY, b"[]"))
    return [SourceCounts(Source(**one["source"]), one["rows"]) for one in described]


def write_table(table: pa.Table, path: Path) -> bool:
    """Write a corpus that is one table atomically; return False, without writing, if ``path`` holds
    an equal one already.

    Raises:
        OutputError: ``path`` is a folder that is no corpus.
    """
    if _digests_at(path) == [table.schema.metadata[_TABLE_KEY]]:
        return False
    if _is_corpus_folder(path):
        withdraw_folder(path, path.parent)
    write_parquet(path, table)
    return True


def write_parts(parts: Iterable[pa.Table], target: Path, staging: Path) -> bool:
    """Write a corpus as a folder of its parts, tables of ``with_metadata`` that are made one by
    one: a new folder ``staging`` on the same file system, which becomes ``target`` by one rename.
    Return False, without a change, if ``target`` holds equal parts already.

    Raises:
        OutputError: ``target`` is a folder that is no corpus.
    """
    is_folder, digests = _is_corpus_folder(target), []
    for index, table in enumerate(parts):
        digests.append(table.schema.metadata[_TABLE_KEY])
        write_parquet(staging / PARTS.format(index), table)
    if _digests_at(target) == digests:
        return False
    if is_folder:
        withdraw_folder(target, target.parent)
    else:
        remove_file(target)
    publish_folder(staging, target)
    return True


def _is_corpus_folder(target: Path) -> bool:
    """Whether there is a corpus of several parts; raise OutputError for another folder."""
    is_folder = target.is_dir()
    if is_folder and not (target / PARTS.format(0)).is_file():
        raise OutputError(f"cannot write {target}: it is a folder; name a file", option="target")
    return is_folder


def _digests_at(target: Path) -> list[bytes]:
    """Return the digests of the parts of the corpus at ``target``, proven; empty for none."""
    try:
        return [_read_table(path).schema.metadata[_TABLE_KEY] for path in _parts_at(target)]
    except (DataError, InputMissingError):
        return []  # unreadable, so it is replaced


def _parts_at(target: Path) -> list[Path]:
    """Return the files of a corpus."""
    if not target.exists():
        raise InputMissingError(f"{target} does not exist; run ingest first")
    return sorted(target.glob("part-*.parquet")) if target.is_dir() else [target]


def load_corpus(path: Path, scratch: Path | None = None) -> Corpus:
    """Read a corpus that ``write_table`` or ``write_parts`` wrote, part by part.

    Args:
        scratch: folder for the files of large columns; see ``mapped.Column``.

    Raises:
        InputMissingError: there is no file; run ingest first.
        DataError: it is no corpus, or not a whole one.
    """
    files = _parts_at(path)
    if not files:
        raise DataError(f"{path} is a folder, and no corpus; run ingest again")
    corpus = _joined(_proven_parts(path, files), scratch)
    try:
        check_labels(corpus.labels)
    except ValueError as error:
        raise DataError(f"{path}: {error}; run ingest again") from None
    return corpus


def _proven_parts(path: Path, files: Sequence[Path]) -> Iterator[pa.Table]:
    """Yield the parts of a corpus; raise DataError where these are not all."""
    content = None
    for index, file in enumerate(files):
        table = _read_table(file)
        metadata = table.schema.metadata
        content = content or metadata[_DIGEST_KEY]
        is_part = metadata.get(_PART_KEY) == b"%d/%d" % (index, len(files))
        if not is_part or metadata[_DIGEST_KEY] != content:
            raise DataError(f"{path} is not a whole corpus; run ingest again")
        yield table


def _joined(parts: Iterable[pa.Table], scratch: Path | None) -> Corpus:
    """Return the corpus of its parts, of which there is at least one."""
    names, normalised, outliers = Texts(scratch), Texts(scratch), Texts(scratch)
    label_ids, weights = Column(np.int32, scratch), Column(np.float32, scratch)
    folds, outlier_folds = Column(np.int8, scratch), Column(np.int8, scratch)
    found, part_rows = dict[str, int](), list[int]()
    for part in parts:
        is_name = pc.is_valid(part["language"])
        others, table = part.filter(pc.invert(is_name)), part.filter(is_name)
        mark = pc.if_else(pc.equal(table["part"], "given"), GIVEN, "")
        names.append(_large(pc.binary_join_element_wise(mark, table["name"], "")))
        normalised.append(_large(table["name_normalised"]))
        languages = table["language"].combine_chunks().dictionary_encode()
        own = [found.setdefault(label, len(found)) for label in languages.dictionary.to_pylist()]
        label_ids.append(np.array(own, np.int32)[languages.indices])
        weights.append(table["weight"].to_numpy())
        folds.append(_folds(table))
        outliers.append(_large(others["name"]))
        outlier_folds.append(_folds(others))
        part_rows.append(len(table))
    labels, as_found = tuple(sorted(found)), label_ids.whole()
    place = {label: i for i, label in enumerate(labels)}
    position = np.array([place[label] for label in found], np.int32)
    metadata, counted = part.schema.metadata, [s.source.counted for s in sources_of(part)]
    return Corpus(
        names=names.whole(),
        normalised=normalised.whole(),
        label_ids=column_of(
            (position[as_found[rows]] for rows in blocks_of(len(as_found))), np.int32, scratch
        ),
        folds=folds.whole(),
        weights=weights.whole(),
        labels=labels,
        digest=metadata[_DIGEST_KEY].decode(),
        outliers=outliers.whole(),
        outlier_folds=outlier_folds.whole(),
        label_name=metadata.get(_LABEL_NAME_KEY, LANGUAGE.encode()).decode(),
        counted=bool(counted) and all(counted),
        part_rows=tuple(part_rows),
        scratch=scratch,
    )


def _large(texts: pa.ChunkedArray) -> pa.LargeStringArray:
    return texts.cast(pa.large_string()).combine_chunks()


def _folds(table: pa.Table) -> npt.NDArray[np.int8]:
    """Return the folds of N rows, -1 for none, ``(N,)``."""
    folds: npt.NDArray[np.int8] = table["fold"].fill_null(-1).to_numpy().astype(np.int8)
    return folds


def _read_table(path: Path) -> pa.Table:
    """Read a corpus table and prove its cells by the digest in it; its sizes, as the footer says
    them, are checked first.

    Raises:
        DataError: it is not a corpus table, or damaged.
    """
    try:
        if not path.is_file():
            raise DataError(f"{path} is not a file; run ingest again")
        with closing_reader(pq.ParquetFile(path, page_checksum_verification=True)) as file:
            footer = file.metadata
            groups = (footer.row_group(i) for i in range(footer.num_row_groups))
            size = sum(group.total_byte_size for group in groups)
            if footer.num_rows > MAX_ROWS or size > _MAX_TABLE_BYTES:
                raise DataError(f"{path} is too large for a corpus table; run ingest again")
            if not file.schema_arrow.equals(SCHEMA):
                names = ", ".join(file.schema_arrow.names[:20])
                raise DataError(
                    f"{path} has columns {names}; a corpus table has {', '.join(SCHEMA.names)}; "
                    "run ingest again"
                )
            table = _read_batches(file, path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable Parquet file; run ingest again") from error
    metadata = dict(table.schema.metadata or {})
    digest = metadata.pop(_TABLE_KEY, b"")
    # Page checksums do not cover the footer, which holds the digests.
    if (
        not re.fullmatch(b"[0-9a-f]{64}", metadata.get(_DIGEST_KEY, b""))
        or any(table[f.name].null_count for f in SCHEMA if not f.nullable)
        or digest != _table_digest(table, metadata)
    ):
        raise DataError(f"{path} is damaged; run ingest again")
    return table


def _read_batches(file: pq.ParquetFile, path: Path) -> pa.Table:
    """Read all rows in small batches; raise DataError when they take more than they may."""
    batches, size = [], 0
    for batch in file.iter_batches(batch_size=4096):
        size += batch.nbytes
        if size > _MAX_TABLE_BYTES:
            raise DataError(f"{path} is too large for a corpus table; run ingest again")
        batches.append(batch)
    return pa.Table.from_batches(batches, file.schema_arrow)


def _table_digest(table: pa.Table, metadata: Mapping[bytes, bytes]) -> bytes:
    """Return a digest over every cell of a corpus table and over its other metadata."""
    digest = hashlib.sha256(json.dumps(sorted(map(ascii, metadata.items()))).encode())
    for column in table.columns:
        digest.update(np.packbits(column.is_valid().to_numpy()).tobytes())
        if pa.types.is_string(column.type):
            offsets, data = string_buffers(_large(column.fill_null("")))
            digest.update(offsets.tobytes())
            digest.update(data)
        else:
            digest.update(column.fill_null(0).to_numpy().tobytes())
    return digest.hexdigest().encode()
