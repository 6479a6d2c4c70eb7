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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from charrnn.errors import DataError, InputMissingError
from charrnn.files import closing_reader, writing_parquet
from charrnn.model.labels import check_labels, label_key
from charrnn.model.normalise import LATIN, normalise, transliterate
from charrnn.model.vocabulary import GIVEN
from charrnn.training.label_files import LabelFile, Part, Source, content_digest, lines_of

FOLDS = 10
MAX_ROWS = 4_000_000  # of a corpus table, which is held in memory
_MAX_TABLE_BYTES = 2**29  # of its cells, uncompressed
MAX_NAME = 256  # characters after normalising; scoring refuses longer names, too

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("name_normalised", pa.string(), nullable=False),
        pa.field("language", pa.string()),  # null where part is "other"
        pa.field("part", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("line", pa.int32(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),  # 1 for a line of a list
        pa.field("fold", pa.int8()),
        pa.field("dropped", pa.string()),
    ]
)
_DIGEST_KEY = b"charrnn.content_sha256"
_TABLE_KEY = b"charrnn.table_digest"  # metadata: SHA-256 of the cells
_SOURCES_KEY = b"charrnn.sources"  # metadata: the sources with their counts, as JSON
# A name is letters with spaces and ' - . , between them; other characters mark it as junk.
_NAME = re.compile(r"[^\W\d_]+(?:[ '\-.,]+[^\W\d_]+)*[ '\-.,]*", re.UNICODE)
_BETWEEN_NAMES = re.compile("[ ,.&-]+")
_PAGE_FURNITURE = "to the first page"  # a web page's link text, left in the Russian file


@dataclass(frozen=True)
class SourceCounts:
    """A source and its rows by label and part; the label of words that are no names is ``""``."""

    source: Source
    rows: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Corpus:
    """A corpus table of N names, and of M words that are no names, in memory.

    Attributes:
        names: as in the files, large_string ``(N,)``; before a given name stands the mark
            ``GIVEN``.
        normalised: what two spellings of a name have in common, see ``name_key``; large_string
            ``(N,)``.
        label_ids: indices into ``labels``, int32 ``(N,)``.
        folds: int8 ``(N,)``; -1 where the row is left out of the honest protocol.
        weights: how often each row counts, float32 ``(N,)``; 1 for a line of a list.
        sources: name of each name's source, dictionary of strings ``(N,)``.
        labels: sorted.
        digest: ``content_digest`` of the lists.
        outliers: words that are no names, large_string ``(M,)``.
        outlier_folds: their folds, int8 ``(M,)``; -1 where one is left out.
    """

    names: pa.LargeStringArray
    normalised: pa.LargeStringArray
    label_ids: npt.NDArray[np.int32]
    folds: npt.NDArray[np.int8]
    weights: npt.NDArray[np.float32]
    sources: pa.DictionaryArray
    labels: tuple[str, ...]
    digest: str
    outliers: pa.LargeStringArray
    outlier_folds: npt.NDArray[np.int8]

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
    _check_label_keys(files)
    rows: list[tuple[str | float | None, ...]] = []
    for file in files:
        for number, name in enumerate(lines_of(file), start=1):
            key = name_key(name)
            dropped = _reason_to_drop(key, file.part)
            fold = None if dropped else fold_of(key)
            origin = (file.label, file.part, file.source.name, file.name, number, 1.0)
            rows.append((name, key, *origin, fold, dropped))
        if len(rows) > MAX_ROWS:
            raise DataError(f"the language files have more than {MAX_ROWS:,} lines")
    table = pa.table(
        [
            pa.array(values, f.type)
            for values, f in zip(zip(*rows, strict=True), SCHEMA, strict=True)
        ]
        if rows
        else [pa.array([], f.type) for f in SCHEMA],
        schema=SCHEMA,
    )
    table = _without_names_among_others(table)
    names = pc.is_valid(table["language"])
    if not pc.any(pc.and_(names, pc.is_null(table["dropped"]))).as_py():
        raise DataError("the language files hold no usable name")
    content = content_digest(files).encode()
    metadata = {
        _DIGEST_KEY: content,
        _TABLE_KEY: _table_digest(table, content),
        _SOURCES_KEY: _counts_as_json(files, table),
    }
    return table.replace_schema_metadata(metadata)


def _check_label_keys(files: Sequence[LabelFile]) -> None:
    """Raise DataError where labels of two sources differ by case or Unicode form only."""
    labels: dict[str, str] = {}
    for file in files:
        if file.label is not None:
            first = labels.setdefault(label_key(file.label), file.label)
            if first != file.label:
                raise DataError(
                    f"the labels {first!r} and {file.label!r} differ by case or Unicode form only; "
                    "rename one"
                )


def _without_names_among_others(table: pa.Table) -> pa.Table:
    """Drop, with a reason, the words of part "other" that are names, too, or only made of names."""
    if not pc.any(pc.equal(table["part"], "other")).as_py():
        return table
    keys = table["name_normalised"].to_pylist()
    other = pc.equal(table["part"], "other").to_pylist()
    names = {key for key, is_other in zip(keys, other, strict=True) if not is_other}

    def is_name(key: str) -> bool:
        return key in names or names.issuperset(filter(None, _BETWEEN_NAMES.split(key)))

    also = pa.array([a and bool(k) and is_name(k) for k, a in zip(keys, other, strict=True)])
    dropped = pc.if_else(also, pc.coalesce(table["dropped"], "also_a_name"), table["dropped"])
    fold = pc.if_else(also, pa.scalar(None, pa.int8()), table["fold"])
    columns = {"dropped": dropped, "fold": fold}
    return pa.table([columns.get(f.name, table[f.name]) for f in SCHEMA], schema=SCHEMA)


def _counts_as_json(files: Sequence[LabelFile], table: pa.Table) -> bytes:
    """Return the sources with their versions, licences and rows by label and part, as JSON."""
    counted = table.group_by(["source", "language", "part"], use_threads=False)
    by_source: dict[str, dict[str, dict[str, int]]] = {}
    for row in counted.aggregate([([], "count_all")]).to_pylist():
        of_label = by_source.setdefault(row["source"], {}).setdefault(row["language"] or "", {})
        of_label[row["part"]] = row["count_all"]
    sources = dict.fromkeys(file.source for file in files)
    described = [SourceCounts(source, by_source.get(source.name, {})) for source in sources]
    return json.dumps([asdict(one) for one in described]).encode()


def sources_of(table: pa.Table) -> list[SourceCounts]:
    """Return the sources of a corpus table with their counts, from its metadata."""
    described = json.loads((table.schema.metadata or {}).get(_SOURCES_KEY, b"[]"))
    return [SourceCounts(Source(**one["source"]), one["rows"]) for one in described]


def name_key(name: str) -> str:
    """Return what all spellings of a name have in common: the name normalised by ``LATIN``,
    transliterated first where it is in another script.

    >>> name_key("Иванов"), name_key("Dvořák"), name_key("O’Neill")
    ('ivanov', 'dvorak', "o'neill")
    """
    normalised = normalise(name, LATIN)
    return normalised if normalised.isascii() else normalise(transliterate(name), LATIN)


def fold_of(normalised: str) -> int:
    """Return the fold, 0 to 9, that a normalised name and all its duplicates belong to."""
    digest = hashlib.blake2b(normalised.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % FOLDS


def write_table(table: pa.Table, path: Path) -> bool:
    """Write the corpus table atomically; return False, without writing, if ``path`` holds an equal
    table already."""
    if path.is_file():
        try:
            if _read_table(path).equals(table, True):
                return False
        except DataError:
            pass  # unreadable, so it is replaced
    with writing_parquet(path, table.schema) as writer:
        writer.write_table(table)
    return True


def load_corpus(path: Path) -> Corpus:
    """Read a table that ``write_table`` wrote.

    Raises:
        InputMissingError: there is no file; run ingest first.
        DataError: it is not a corpus table.
    """
    if not path.exists():
        raise InputMissingError(f"{path} does not exist; run ingest first")
    table = _read_table(path)
    content = (table.schema.metadata or {}).get(_DIGEST_KEY, b"")
    is_name = pc.is_valid(table["language"])
    others, table = table.filter(pc.invert(is_name)), table.filter(is_name)
    languages = table["language"].combine_chunks().dictionary_encode()
    found = languages.dictionary.to_pylist()
    labels = tuple(sorted(found))
    try:
        check_labels(labels)
    except ValueError as error:
        raise DataError(f"{path}: {error}; run ingest again") from None
    position = {label: i for i, label in enumerate(labels)}
    ids = np.array([position[label] for label in found], np.int32)
    mark = pc.if_else(pc.equal(table["part"], "given"), GIVEN, "")
    return Corpus(
        names=_large(pc.binary_join_element_wise(mark, table["name"], "")),
        normalised=_large(table["name_normalised"]),
        label_ids=ids[languages.indices],
        folds=_folds(table),
        weights=table["weight"].to_numpy(),
        sources=table["source"].combine_chunks().dictionary_encode(),
        labels=labels,
        digest=content.decode(),
        outliers=_large(others["name"]),
        outlier_folds=_folds(others),
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
    metadata = table.schema.metadata or {}
    content = metadata.get(_DIGEST_KEY, b"")
    # Page checksums do not cover the footer, which holds the digests.
    if (
        not re.fullmatch(b"[0-9a-f]{64}", content)
        or any(table[f.name].null_count for f in SCHEMA if not f.nullable)
        or metadata.get(_TABLE_KEY) != _table_digest(table, content)
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


def _table_digest(table: pa.Table, content: bytes) -> bytes:
    """Return a digest over every cell of a corpus table and over its content digest."""
    digest = hashlib.sha256(content)
    for column in table.columns:
        digest.update(json.dumps(column.to_pylist()).encode())
    return digest.hexdigest().encode()


def _reason_to_drop(key: str, part: Part) -> str | None:
    if not key:
        return "empty"
    if key == _PAGE_FURNITURE:
        return "page_furniture"
    if len(key) > MAX_NAME:
        return "too_long"
    if part != "other" and not _NAME.fullmatch(key.lstrip(" '-.,")):
        return "stray_character"
    return None
