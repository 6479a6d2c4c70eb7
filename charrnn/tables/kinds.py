"""What a file is, by its name and by its first bytes: a table, or something else.

Suffixes count in any case: ``PEOPLE.CSV.GZ`` is a CSV file.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TABLES = ".parquet, .pq, .csv or .tsv file (.csv and .tsv also with .gz, .zst or .bz2)"
_TABLE = re.compile(
    r"(?P<stem>.*)\.(?:(?P<parquet>parquet|pq)|(?P<csv>csv|tsv)(?:\.(?P<compression>gz|zst|bz2))?)",
    re.IGNORECASE | re.DOTALL,
)
_RENAME = "if it is a table of text, give it the suffix .csv or .tsv"
_UNPACK = "unpack it"
_SAVE = "save the sheet as CSV"
_CONVERT = "convert it to Parquet or CSV"
# Kind of file → its suffixes, and what makes it readable. What is not listed is of unknown kind.
_OTHER_KINDS = {
    "Excel": ("xlsx xls xlsm xlsb", _SAVE),
    "OpenDocument": ("ods odt", _SAVE),
    "JSON": ("json jsonl ndjson geojson", _CONVERT),
    "text": ("txt text tab psv dat asc log md rst", _RENAME),
    "compressed": ("gz gzip zst zstd bz2 xz lzma lz4 br snappy z", _UNPACK),
    "archive": ("zip tar tgz tbz txz 7z rar", _UNPACK),
    "Arrow": ("arrow arrows feather ipc", _CONVERT),
    "Avro": ("avro", _CONVERT),
    "ORC": ("orc", _CONVERT),
    "XML": ("xml html htm xhtml", _CONVERT),
    "YAML": ("yaml yml toml ini", _CONVERT),
    "database": ("sqlite sqlite3 db duckdb mdb accdb dbf sql", _CONVERT),
    "statistics": ("sav dta sas7bdat xpt por rds rdata", _CONVERT),
    "NumPy": ("npy npz mat h5 hdf hdf5 nc zarr", _CONVERT),
    "Python": ("pickle pkl joblib", _CONVERT),
    "document": ("pdf doc docx rtf ppt pptx numbers", _CONVERT),
    "picture": ("png jpg jpeg gif svg tif tiff", _CONVERT),
    "unfinished": ("tmp part partial crdownload filepart download", "wait until it is complete"),
}
_KIND_OF = {
    suffix: (kind, fix) for kind, (suffixes, fix) in _OTHER_KINDS.items()
    for suffix in suffixes.split()
}  # fmt: skip
HEAD_BYTES = 4096  # that ``kind_of`` looks at
_SIGNATURES: tuple[tuple[int, bytes | tuple[bytes, ...], str], ...] = (  # offset, bytes, kind
    (0, b"PAR1", "Parquet"),
    (0, b"PARE", "encrypted Parquet"),
    (0, b"ARROW1", "Arrow IPC (Feather)"),
    (0, b"FEA1", "Feather"),
    (0, b"\xff\xff\xff\xff", "an Arrow IPC stream"),
    (0, b"ORC", "ORC"),
    (0, b"Obj\x01", "Avro"),
    (0, b"\xd0\xcf\x11\xe0", "an old Excel or Word file"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (8, b"DUCK", "a DuckDB database"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ", "xz"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a Python pickle"),
    (0, (b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), "a picture"),
    (0, b"\x7fELF", "a program"),
)
_OFFICE = (  # name inside a zip, kind
    (b"xl/", "an Excel workbook"),
    (b"word/", "a Word document"),
    (b"ppt/", "a PowerPoint file"),
    (b"opendocument.spreadsheet", "an OpenDocument spreadsheet"),
    (b"opendocument", "an OpenDocument file"),
    (b"[Content_Types].xml", "an Office file (Excel, Word)"),
    (b"", "a zip archive"),
)
_TEXT = (  # pattern of text, kind
    (rb"(?i)<!doctype html|<html|<head|<table|<script|<body", "HTML, a web page"),
    (rb"<\?xml|<!--|<[A-Za-z][\w:.-]*[\s>]", "XML or HTML"),
    (rb'\{\s*("[^"]*"\s*:|\})|\[\s*([\[{]|\])', "JSON"),
    (rb"%PDF-", "a PDF"),
    (rb"\{\\rtf", "a text document (RTF)"),
    (rb"%!PS", "PostScript"),
    (rb"version https://git-lfs\.github\.com/", "a Git LFS pointer; run git lfs pull"),
    (rb"-----BEGIN PGP", "encrypted (PGP)"),
    (rb"MIME-Version:", "a web page saved as an archive (MIME)"),
    (rb"SQLite format 3", "an SQLite database"),
)
COMPRESSED = {"gzip": "gz", "zstd": "zst", "bzip2": "bz2"}  # kind → suffix


@dataclass(frozen=True)
class TableName:
    """The name of a table, taken apart."""

    stem: str  # the name without its suffix
    suffix: str  # as it is written, such as ``.CSV.gz``
    format: Literal["parquet", "csv"]  # what its bytes are
    delimiter: str  # of the cells, where the suffix tells; "" otherwise
    compression: str  # of the whole file, ``gz``, ``zst`` or ``bz2``; "" for none


def table_name(name: str) -> TableName | None:
    """Take the name of a table apart; None where it is none.

    >>> table_name("people.2024.TSV.gz")
    TableName(stem='people.2024', suffix='.TSV.gz', format='csv', delimiter='\\t', compression='gz')
    >>> table_name("people.xlsx")
    """
    match = _TABLE.fullmatch(name)
    if match is None:
        return None
    stem, csv = match["stem"], (match["csv"] or "").lower()
    return TableName(
        stem=stem,
        suffix=name[len(stem) :],
        format="csv" if csv else "parquet",
        delimiter="\t" if csv == "tsv" else "",
        compression=(match["compression"] or "").lower(),
    )


def other_kind(name: str) -> tuple[str, str]:
    """Return the kind of a file that is no table, such as ``Excel``, "" if it is not known; and
    what makes it readable."""
    _, dot, suffix = name.rpartition(".")
    return _KIND_OF.get(suffix.lower() if dot else "", ("", _RENAME))


def kind_of(head: bytes) -> str:
    """Return what a file that begins with ``head`` is, such as ``an Excel workbook``; "" if it may
    be plain text.

    >>> kind_of(b"PAR1\\x15\\x04"), kind_of(b"id,name\\n")
    ('Parquet', '')
    """
    head = head[:HEAD_BYTES]
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return next(kind for part, kind in _OFFICE if part in head)
    binary = re.search(rb"[\x00-\x08\x0e-\x19\x1c-\x1f\x80-\xff]", head)
    for offset, signature, kind in _SIGNATURES if binary else ():
        if head[offset:].startswith(signature) and not head.startswith(b"\xff\xfe"):
            return kind
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for pattern, kind in _TEXT if re.match(pattern, text)), "")


def path_text(path: str | Path) -> str:
    """Return a path as text that every file format holds, reversibly: a byte that is not UTF-8
    becomes ``\\xff``, and a backslash two of them.

    >>> path_text(os.fsdecode(b"b\\xff.csv"))
    'b\\\\xff.csv'
    """
    return os.fsencode(path).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
