"""What a file is by its name: a table that is read and written here, or something else.

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


def other_kind(name: str) -> str:
    """Return the kind of a file that is no table, such as ``Excel``; "" if it is not known."""
    return _KIND_OF.get(_last_suffix(name), ("", ""))[0]


def remedy(name: str) -> str:
    """Return what makes a file readable that is no table."""
    return _KIND_OF.get(_last_suffix(name), ("", _RENAME))[1]


def _last_suffix(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def path_text(path: str | Path) -> str:
    """Return a path as text that every file format holds, reversibly: a byte that is not UTF-8
    becomes ``\\xff``, and a backslash two of them.

    >>> path_text(os.fsdecode(b"b\\xff.csv"))
    'b\\\\xff.csv'
    """
    return os.fsencode(path).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
