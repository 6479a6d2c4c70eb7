"""The training corpus: from language files to one table with folds, and its splits.

A language file is ``LABEL.txt``, UTF-8, one name per line. Files come from a folder or from a zip
in the tutorial's layout (``data/names/*.txt``, nested or not). A zip is never extracted to disk:
its members are checked first and then read into memory, up to a maximum size.

Every line becomes one row of the table, junk included, since the seed protocol uses all rows. Rows
that the honest protocol leaves out have a reason in ``dropped`` and no fold.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from charrnn.errors import DataError, InputMissingError
from charrnn.files import writing_parquet
from charrnn.model.normalise import LATIN, normalise
from charrnn.training.archive import read_archive

FOLDS = 10
TEST_FOLD, VALIDATION_FOLD = 9, 8  # of the honest split
MAX_LABELS = 1000  # language files; more are a mistake in the folder rather than languages

# ``content_digest`` of the 18 files (20,074 lines) of the PyTorch tutorial.
TUTORIAL_DIGEST = "4cb4ce50cd85cb333e89a3ce9ad5d8f9a149a015823242e6217011c0ef280625"

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("name_normalised", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("line", pa.int32(), nullable=False),
        pa.field("fold", pa.int8()),
        pa.field("dropped", pa.string()),
    ]
)
_DIGEST_KEY = b"charrnn.content_sha256"
_TABLE_KEY = b"charrnn.table_digest"  # metadata: SHA-256 of the cells
# A name is letters with spaces and ' - . , between them; other characters mark it as junk.
_NAME = re.compile(r"[^\W\d_]+(?:[ '\-.,]+[^\W\d_]+)*[ '\-.,]*", re.UNICODE)
_PAGE_FURNITURE = "to the first page"  # a web page's link text, left in the Russian file


@dataclass(frozen=True)
class LabelFile:
    """One language file: its label, its file name and its bytes."""

    label: str
    name: str
    content: bytes


@dataclass(frozen=True)
class Corpus:
    """A corpus table of N rows in memory.

    Attributes:
        names: as in the files.
        normalised: normalised names.
        label_ids: indices into ``labels``, int64 ``(N,)``.
        folds: int8 ``(N,)``; -1 where the row is left out of the honest protocol.
        labels: sorted.
        digest: ``content_digest`` of the language files.
    """

    names: list[str]
    normalised: list[str]
    label_ids: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int8]
    labels: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Examples:
    """Names with their label ids, int64 ``(N,)``."""

    names: list[str]
    label_ids: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Train, validation (may be empty) and test examples of one protocol."""

    train: Examples
    validation: Examples
    test: Examples


def read_label_files(source: Path) -> list[LabelFile]:
    """Read the language files of a folder or a zip, sorted by label.

    Raises:
        InputMissingError: nothing is at ``source``.
        DataError: no language files, or an archive that is damaged, unsafe or too large.
    """
    if not source.exists():
        raise InputMissingError(f"{source} does not exist; give a folder of .txt files or a zip")
    if source.is_dir():
        contents = [(p.name, p.read_bytes()) for p in _text_files(source)]
    else:
        contents = read_archive(source)
    if not contents:
        raise DataError(
            f"{source} holds no .txt files; expected one per language, such as Greek.txt"
        )
    files = [LabelFile(PurePosixPath(name).stem.strip(), name, data) for name, data in contents]
    unlabelled = [file.name for file in files if not file.label]
    if unlabelled:
        raise DataError(f"{source}: file name {unlabelled[0]!r} gives no label")
    folded = Counter(file.label.casefold() for file in files)
    clashes = sorted(file.name for file in files if folded[file.label.casefold()] > 1)
    if clashes:
        raise DataError(f"{source}: file names give one label twice: {', '.join(clashes)}")
    if not 2 <= len(files) <= MAX_LABELS:
        raise DataError(f"{source} has {len(files)} language files; expected 2 to {MAX_LABELS}")
    return sorted(files, key=lambda file: file.label)


def content_digest(files: Sequence[LabelFile]) -> str:
    """Return one SHA-256 over labels and contents, the same for a folder and its zip."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.label):
        content = hashlib.sha256(file.content).hexdigest()
        digest.update(f"{file.label}\0{content}\n".encode())
    return digest.hexdigest()


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
    """Return the corpus table (``SCHEMA``), one row per line, in file and line order.

    Raises:
        DataError: a file is not UTF-8 (names file and line) or there is not one usable name.
    """
    rows: list[tuple[str, str, str, str, int, int | None, str | None]] = []
    for file in files:
        for number, name in enumerate(_lines(file), start=1):
            normalised = normalise(name, LATIN)
            dropped = _reason_to_drop(normalised)
            fold = None if dropped else fold_of(normalised)
            rows.append((name, normalised, file.label, file.name, number, fold, dropped))
    if not any(row[-1] is None for row in rows):
        raise DataError("the language files hold no usable name")
    columns = [
        pa.array(values, field.type)
        for values, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)
    ]
    table = pa.table(columns, schema=SCHEMA)
    content = content_digest(files).encode()
    metadata = {_DIGEST_KEY: content, _TABLE_KEY: _table_digest(table, content)}
    return table.replace_schema_metadata(metadata)


def fold_of(normalised: str) -> int:
    """Return the fold, 0 to 9, that a normalised name and all its duplicates belong to."""
    digest = hashlib.blake2b(normalised.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % FOLDS


def write_table(table: pa.Table, path: Path) -> bool:
    """Write the corpus table atomically; return False, without writing, if ``path`` holds an equal
    table already."""
    if path.is_file():
        try:
            if pq.read_table(path, page_checksum_verification=True).equals(table, True):
                return False
        except (pa.ArrowException, OSError):
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
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable Parquet file; run ingest again") from error
    if not table.schema.equals(SCHEMA):
        raise DataError(
            f"{path} has columns {', '.join(table.column_names)}; a corpus table has "
            f"{', '.join(SCHEMA.names)}; run ingest again"
        )
    metadata = table.schema.metadata or {}
    content = metadata.get(_DIGEST_KEY, b"")
    # Page checksums do not cover the footer, which holds the digests.
    if metadata.get(_TABLE_KEY) != _table_digest(table, content):
        raise DataError(f"{path} is damaged; run ingest again")
    languages = table["language"].to_pylist()
    labels = tuple(sorted(set(languages)))
    position = {label: i for i, label in enumerate(labels)}
    return Corpus(
        names=table["name"].to_pylist(),
        normalised=table["name_normalised"].to_pylist(),
        label_ids=np.array([position[label] for label in languages], np.int64),
        folds=table["fold"].fill_null(-1).to_numpy().astype(np.int8),
        labels=labels,
        digest=content.decode(),
    )


def load_labelled(path: Path, labels: Sequence[str]) -> Examples:
    """Read a Parquet table with the columns ``name`` and ``language``; rows with a null are left
    out.

    Raises:
        InputMissingError: there is no file.
        DataError: a column is missing, no row is left, or a language is none of ``labels``.
    """
    if not path.exists():
        raise InputMissingError(f"{path} does not exist")
    schema = pq.read_schema(path)
    missing = [c for c in ("name", "language") if c not in schema.names]
    if missing:
        raise DataError(f"{path} lacks column {', '.join(missing)}; it has {schema.names}")
    table = pq.read_table(path, columns=["name", "language"]).drop_null()
    languages = table["language"].to_pylist()
    unknown = sorted(set(languages) - set(labels))
    if unknown or not languages:
        raise DataError(
            f"{path} has {len(languages)} labelled rows"
            + (f" and labels the model does not know: {', '.join(unknown)}" if unknown else "")
        )
    position = {label: i for i, label in enumerate(labels)}
    label_ids = np.array([position[label] for label in languages], np.int64)
    return Examples(table["name"].to_pylist(), label_ids)


def _table_digest(table: pa.Table, content: bytes) -> bytes:
    """Return a digest over every cell of a corpus table and over its content digest."""
    digest = hashlib.sha256(content)
    for column in table.columns:
        digest.update(json.dumps(column.to_pylist()).encode())
    return digest.hexdigest().encode()


def honest_split(
    corpus: Corpus, test_fold: int = TEST_FOLD, validation_fold: int = VALIDATION_FOLD
) -> Split:
    """Return the leak-free split: unique (normalised name, label) pairs without junk, by fold.

    All rows of a normalised name are in one fold, so no name is in two parts. Folds other than the
    default ones are for rotation.
    """
    seen: set[tuple[str, int]] = set()
    unique: list[int] = []
    for i, (name, label) in enumerate(
        zip(corpus.normalised, corpus.label_ids.tolist(), strict=True)
    ):
        if corpus.folds[i] >= 0 and (name, label) not in seen:
            seen.add((name, label))
            unique.append(i)
    rows = np.array(unique)
    folds = corpus.folds[rows]
    return Split(
        train=_examples(corpus, rows[(folds != test_fold) & (folds != validation_fold)]),
        validation=_examples(corpus, rows[folds == validation_fold]),
        test=_examples(corpus, rows[folds == test_fold]),
    )


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


def _examples(corpus: Corpus, rows: npt.NDArray[np.int64]) -> Examples:
    return Examples([corpus.names[i] for i in rows.tolist()], corpus.label_ids[rows])


def _reason_to_drop(normalised: str) -> str | None:
    if not normalised:
        return "empty"
    if normalised == _PAGE_FURNITURE:
        return "page_furniture"
    if not _NAME.fullmatch(normalised.lstrip(" '-.,")):
        return "stray_character"
    return None


def _lines(file: LabelFile) -> list[str]:
    """Split a file at LF or CRLF, without a byte order mark; the lines are not changed."""
    content = file.content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file.name} line {line} is not UTF-8; convert it with "
            f"`iconv -f LATIN1 -t UTF-8 {file.name}`"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{file.name} line {line} holds a NUL character; is it UTF-16?")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _text_files(folder: Path) -> list[Path]:
    """Return the .txt files of a folder, or of the ``names`` folder in the tutorial's layout."""
    for place in (folder / "data" / "names", folder / "names", folder):
        files = sorted(p for p in place.glob("*.txt") if p.is_file() and p.name[0] not in "._")
        if files:
            return files
    return []
