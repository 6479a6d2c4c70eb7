"""The training corpus: from lists of names to one table with folds, and its splits.

A language file is ``LABEL.txt``, UTF-8, one name per line. Files come from a folder or from a zip
in the tutorial's layout (``data/names/*.txt``, nested or not). A zip is never extracted to disk:
its members are checked first and then read into memory, up to a maximum size. Lists of installed
packages (``training.name_packages``) take the same form.

Every line becomes one row of the table, junk included, since the seed protocol uses all rows. Rows
that the honest protocol leaves out have a reason in ``dropped`` and no fold.

Two lines are one name where they agree as the model's Latin text rules normalise them, names in
other scripts transliterated first (``name_key``). All lines of one name are in one fold: a name,
its spelling without accents and its transliteration are never on two sides of a split.
"""

import codecs
import hashlib
import json
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from charrnn.errors import DataError, InputMissingError
from charrnn.files import closing_reader, open_file, writing_parquet
from charrnn.model.labels import MAX_LABELS, MIN_LABELS, check_labels, label_key, label_problem
from charrnn.model.normalise import ACCENTS, LATIN, normalise, transliterate
from charrnn.model.vocabulary import GIVEN
from charrnn.tables.csv_format import detect_encoding
from charrnn.training.archive import (
    EXPECTED,
    MAX_ARCHIVE_BYTES,
    choose_language_files,
    read_archive,
)

FOLDS = 10
TEST_FOLD, VALIDATION_FOLD = 9, 8  # of the honest split
MAX_ROWS = 4_000_000  # of a corpus table, which is held in memory
_MAX_TABLE_BYTES = 2**29  # of its cells, uncompressed
MAX_LINE = 10_000  # characters; a longer line is not one name
MAX_NAME = 256  # characters after normalising; scoring refuses longer names, too

# ``content_digest`` of the 18 files (20,074 lines) of the PyTorch tutorial.
TUTORIAL_DIGEST = "4cb4ce50cd85cb333e89a3ce9ad5d8f9a149a015823242e6217011c0ef280625"

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("name_normalised", pa.string(), nullable=False),
        pa.field("language", pa.string()),  # null where part is "other"
        pa.field("part", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("line", pa.int32(), nullable=False),
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
_LINE_END = re.compile("\r\n|\n|\r")
_ODD_LINE_END = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]")
_PAGE_FURNITURE = "to the first page"  # a web page's link text, left in the Russian file


Part = Literal["surname", "given", "other"]
"""What a line is: a surname, a given name, or a word that is no name."""


@dataclass(frozen=True)
class Source:
    """Where lists of names come from; version and licence are those of a package."""

    name: str = ""
    version: str = ""
    licence: str = ""


TUTORIAL = Source("tutorial")


@dataclass(frozen=True)
class LabelFile:
    """One list of names: its label (None for words that are no names), its file name and its
    bytes."""

    label: str | None
    name: str
    content: bytes
    part: Part = "surname"
    source: Source = Source()


@dataclass(frozen=True)
class SourceCounts:
    """A source and its rows by label and part; the label of words that are no names is ``""``."""

    source: Source
    rows: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Corpus:
    """A corpus table of N names, and of M words that are no names, in memory.

    Attributes:
        names: as in the files; before a given name stands the mark ``GIVEN``.
        normalised: what two spellings of a name have in common, see ``name_key``.
        label_ids: indices into ``labels``, int64 ``(N,)``.
        folds: int8 ``(N,)``; -1 where the row is left out of the honest protocol.
        labels: sorted.
        digest: ``content_digest`` of the lists.
        sources: name of each name's source.
        outliers: words that are no names.
        outlier_folds: their folds, int8 ``(M,)``; -1 where one is left out.
    """

    names: list[str]
    normalised: list[str]
    label_ids: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int8]
    labels: tuple[str, ...]
    digest: str
    sources: list[str]
    outliers: list[str]
    outlier_folds: npt.NDArray[np.int8]


@dataclass(frozen=True)
class Examples:
    """Names with their label ids, int64 ``(N,)``; before a given name stands the mark ``GIVEN``.
    ``outliers`` are words of the same folds that are no names."""

    names: list[str]
    label_ids: npt.NDArray[np.int64]
    outliers: list[str] = field(default_factory=list)

    @property
    def given(self) -> npt.NDArray[np.bool_]:
        """Which of the names are given names, ``(N,)``."""
        return np.array([name.startswith(GIVEN) for name in self.names], bool)

    @property
    def surnames(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """The S surnames, and their label ids, int64 ``(S,)``."""
        rows = np.flatnonzero(~self.given)
        return [self.names[i] for i in rows.tolist()], self.label_ids[rows]


@dataclass(frozen=True)
class Split:
    """Train, validation (may be empty) and test examples of one protocol."""

    train: Examples
    validation: Examples
    test: Examples


def read_label_files(source: Path) -> list[LabelFile]:
    """Return the language files of ``find_label_files``."""
    return find_label_files(source)[0]


def find_label_files(
    source: Path, min_labels: int = MIN_LABELS
) -> tuple[list[LabelFile], list[str]]:
    """Read the language files of a folder or a zip, sorted by label; also return the paths of the
    files left out, which are no language files (see ``archive.choose_language_files``).

    Args:
        min_labels: fewer language files are refused.

    Raises:
        InputMissingError: nothing is at ``source``.
        DataError: no language files, a file name that gives no label or the label of another file,
            or an archive that is damaged, unsafe or too large.
    """
    if not source.exists():
        raise InputMissingError(
            f"{source} does not exist; {EXPECTED}, or one of tutorial, faker and mimesis"
        )
    contents, left_out = _read_folder(source) if source.is_dir() else read_archive(source)
    if not contents:
        raise DataError(
            f"{source} holds no .txt files; expected one per language, such as Greek.txt"
        )
    labels = [_label_of(name) for name, _ in contents]
    files = [LabelFile(a, name, data) for a, (name, data) in zip(labels, contents, strict=True)]
    problems = [
        f"{f.name!r} {p}" for a, f in zip(labels, files, strict=True) if (p := label_problem(a))
    ]
    if problems:
        raise DataError(
            f"{source}: a file name gives its label, and {problems[0]}"
            + (f" (and {len(problems) - 1} more)" if problems[1:] else "")
            + "; rename it"
        )
    keys = Counter(map(label_key, labels))
    clashes = sorted(f.name for a, f in zip(labels, files, strict=True) if keys[label_key(a)] > 1)
    if clashes:
        raise DataError(
            f"{source}: file names give one label twice (but for case and Unicode form): "
            f"{', '.join(clashes[:10])}; join or rename them"
        )
    if not min_labels <= len(files) <= MAX_LABELS:
        raise DataError(
            f"{source} has {len(files)} language files; expected {min_labels} to {MAX_LABELS}"
        )
    return sorted(files, key=lambda file: str(file.label)), left_out


def _label_of(name: str) -> str:
    """Return the label that a file name gives, in the composed Unicode form."""
    return unicodedata.normalize("NFC", PurePosixPath(name).stem.strip())


def _read_folder(folder: Path) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Return (file name, bytes) of the language files below a folder, linked folders included, and
    the files left out."""
    files, size = [], 0
    chosen, left_out = choose_language_files(_files_below(folder))
    for name in chosen:
        path = folder / name
        try:
            with open_file(path, links=True) as file:
                content = file.read(MAX_ARCHIVE_BYTES - size + 1)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        size += len(content)
        if size > MAX_ARCHIVE_BYTES:
            raise DataError(f"{folder}: at most {MAX_ARCHIVE_BYTES:,} bytes of names are read")
        files.append((path.name, content))
    return files, left_out


def _files_below(folder: Path) -> Iterator[str]:
    """Yield the relative paths of all files below a folder; a folder linked twice is read once."""
    seen = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    for here, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        state = Path(here).stat()
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        yield from (Path(here, name).relative_to(folder).as_posix() for name in names)


def content_digest(files: Sequence[LabelFile]) -> str:
    """Return one SHA-256 over labels and contents, the same for a folder and its zip. Files of
    several sources have a digest over those of the sources, in their order."""
    by_source: dict[str, list[LabelFile]] = {}
    for file in files:
        by_source.setdefault(file.source.name, []).append(file)
    digests = {name: _digest_of_source(of_source) for name, of_source in by_source.items()}
    if len(digests) == 1:
        return next(iter(digests.values()))
    return hashlib.sha256("".join(f"{n}\0{d}\n" for n, d in digests.items()).encode()).hexdigest()


def _digest_of_source(files: Sequence[LabelFile]) -> str:
    lines = []
    for file in files:
        content = hashlib.sha256(file.content).hexdigest()
        part = "" if file.part == "surname" else f"{file.part}\0"
        lines.append(f"{file.label or ''}\0{part}{content}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def check_digest(files: Sequence[LabelFile], expected: str) -> None:
    """Raise DataError unless the files have this content digest; "" expects nothing."""
    digest = content_digest(files)
    if expected and digest != expected:
        raise DataError(
            f"the language files have content digest {digest}, expected {expected}; if the change "
            "is intended, give the first digest",
            option="digest",
        )


def build_table(files: Sequence[LabelFile]) -> pa.Table:
    """Return the corpus table (``SCHEMA``), one row per line, in file and line order; its metadata
    holds the sources and their counts.

    Words that are no names are left out of the honest protocol where they are one, too.

    Raises:
        DataError: a file is not text (names file and line), there are more than ``MAX_ROWS`` lines,
            two labels differ by case or Unicode form only, or there is not one usable name.
    """
    _check_label_keys(files)
    rows: list[tuple[str | int | None, ...]] = []
    for file in files:
        for number, name in enumerate(_lines(file), start=1):
            key = name_key(name)
            dropped = _reason_to_drop(key, file.part)
            fold = None if dropped else fold_of(key)
            origin = (file.label, file.part, file.source.name, file.name, number)
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
    languages = table["language"].to_pylist()
    labels = tuple(sorted(set(languages)))
    try:
        check_labels(labels)
    except ValueError as error:
        raise DataError(f"{path}: {error}; run ingest again") from None
    position = {label: i for i, label in enumerate(labels)}
    names, parts = table["name"].to_pylist(), table["part"].to_pylist()
    return Corpus(
        names=[GIVEN + n if part == "given" else n for n, part in zip(names, parts, strict=True)],
        normalised=table["name_normalised"].to_pylist(),
        label_ids=np.array([position[label] for label in languages], np.int64),
        folds=_folds(table),
        labels=labels,
        digest=content.decode(),
        sources=table["source"].to_pylist(),
        outliers=others["name"].to_pylist(),
        outlier_folds=_folds(others),
    )


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


def honest_split(
    corpus: Corpus,
    test_fold: int = TEST_FOLD,
    validation_fold: int = VALIDATION_FOLD,
    *,
    spellings: bool = False,
) -> Split:
    """Return the leak-free split: each name of a label once, without junk, by fold.

    A name is a ``normalised`` text as surname or as given name. All its spellings are in one fold,
    so no name is in two parts. Folds other than the default ones are for rotation.

    Args:
        spellings: whether training sees other spellings (accents, another script) as examples of
            their own, for models whose text rules tell them apart. Validation and test have each
            name once in any case: its first spelling in Latin letters, or else its first.
    """
    rows = _distinct_names(corpus)
    folds = corpus.folds[rows]
    if spellings:
        more = _distinct_spellings(corpus)
        held_out = np.isin(corpus.folds[more], (test_fold, validation_fold))
        training = more[~held_out]
    else:
        training = rows[(folds != test_fold) & (folds != validation_fold)]
    of_fold = corpus.outlier_folds
    learned = (of_fold >= 0) & (of_fold != test_fold) & (of_fold != validation_fold)
    return Split(
        train=_examples(corpus, training, learned),
        validation=_examples(corpus, rows[folds == validation_fold], of_fold == validation_fold),
        test=_examples(corpus, rows[folds == test_fold], of_fold == test_fold),
    )


def _distinct_names(corpus: Corpus) -> npt.NDArray[np.int64]:
    """Return one row per name of a label, in the order of their first rows."""
    chosen: dict[tuple[str, int, bool], int] = {}
    for i, (name, label) in enumerate(
        zip(corpus.normalised, corpus.label_ids.tolist(), strict=True)
    ):
        if corpus.folds[i] < 0:
            continue
        key = (name, label, corpus.names[i].startswith(GIVEN))
        first = chosen.setdefault(key, i)
        if first != i and not _is_latin(corpus.names[first]) and _is_latin(corpus.names[i]):
            chosen[key] = i
    return np.fromiter(chosen.values(), np.int64, len(chosen))


def _distinct_spellings(corpus: Corpus) -> npt.NDArray[np.int64]:
    """Return one row per spelling of a name of a label, as ``ACCENTS`` tells them apart."""
    chosen: dict[tuple[str, int], int] = {}
    for i, (name, label) in enumerate(zip(corpus.names, corpus.label_ids.tolist(), strict=True)):
        if corpus.folds[i] >= 0:
            chosen.setdefault((normalise(name, ACCENTS), label), i)
    return np.fromiter(chosen.values(), np.int64, len(chosen))


def _is_latin(name: str) -> bool:
    return name.isascii() or normalise(name.removeprefix(GIVEN), LATIN).isascii()


def seed_split(corpus: Corpus, seed: int) -> Split:
    """Return the notebook's split: all rows, random 80/20, with duplicates in both parts (leaky)
    and without a validation part."""
    order = np.random.default_rng(seed).permutation(len(corpus.names))
    test = math.floor(0.2 * len(order))
    return Split(
        train=_examples(corpus, np.sort(order[test:])),
        validation=_examples(corpus, order[:0]),
        test=_examples(corpus, np.sort(order[:test])),
    )


def _examples(
    corpus: Corpus,
    rows: npt.NDArray[np.int64],
    outliers: npt.NDArray[np.bool_] | None = None,
) -> Examples:
    chosen = [] if outliers is None else np.flatnonzero(outliers).tolist()
    return Examples(
        [corpus.names[i] for i in rows.tolist()],
        corpus.label_ids[rows],
        [corpus.outliers[i] for i in chosen],
    )


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


def _lines(file: LabelFile) -> list[str]:
    """Split a file at LF, CRLF or CR, without a byte order mark; the lines are not changed. A file
    with the mark of UTF-16 or UTF-32 is read as such.

    Raises:
        DataError: the file is not text, has a line that is no name by its length, or ends lines
            with other characters.
    """
    text = _text_of(file).removeprefix("\ufeff")
    lines = _LINE_END.split(text)
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE:
            raise DataError(
                f"{file.name} line {number} has {len(line):,} characters; expected one name per "
                "line"
            )
        if odd := _ODD_LINE_END.search(line):
            raise DataError(
                f"{file.name} line {number} holds U+{ord(odd.group()):04X}, which ends a line in "
                "some programs; expected one name per line, ended by LF, CRLF or CR"
            )
    return lines


def _text_of(file: LabelFile) -> str:
    """Decode a file as UTF-8, or as its byte order mark says."""
    head = file.content[:4096]
    encoding = detect_encoding(head, "utf-8")
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # or that of UTF-32-LE
    if encoding and not head.startswith(marks) and head.count(0) > len(head) / 4:
        name = encoding.upper().replace("UTF-16-", "UTF-16")
        raise DataError(
            f"{file.name} is not UTF-8, it looks like {name}; convert it with "
            f"`iconv -f {name} -t UTF-8 {file.name}`"
        )
    encoding = encoding if head.startswith(marks) else "utf-8"
    try:
        text = file.content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise DataError(
                f"{file.name} is {encoding.upper()} by its mark, but byte {error.start:,} is not"
            ) from None
        line = len(_LINE_END.findall(file.content[: error.start].decode("latin-1"))) + 1
        raise DataError(
            f"{file.name} line {line} is not UTF-8; convert it with "
            f"`iconv -f LATIN1 -t UTF-8 {file.name}`"
        ) from None
    if "\0" in text:
        line = len(_LINE_END.findall(text[: text.index("\0")])) + 1
        raise DataError(f"{file.name} line {line} holds a NUL character; is it UTF-16?")
    return text
