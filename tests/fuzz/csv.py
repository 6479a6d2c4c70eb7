"""The CSV reader under fuzzing: it reads a table as Python's csv does, or refuses it.

The first byte of an input chooses the format, the others are the file.
"""

import csv
import io
import itertools
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from charrnn.errors import DataError
from charrnn.tables import csv_format, csv_header, csv_structure, kinds
from charrnn.tables import csv_staging as staging
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.discovery import discover
from charrnn.tables.row_groups import cut, read_groups
from charrnn.tables.source import Source, fingerprint, open_source

FORMATS = [
    CsvFormat(delimiter, encoding, quote, multiline, on_bad_line)  # type: ignore[arg-type]
    for encoding, delimiter, quote, multiline, on_bad_line in itertools.product(
        ("utf-8", "utf-16-le"), ("", ";"), ('"', "'", "none"), (False, True), ("refuse", "reject")
    )
]
MODULES = [csv_format, csv_header, csv_structure, kinds, staging]
TOKENS = [b'"', b'""', b"'", b",", b";", b"\n", b"\r\n", b"\r", b"\n\n", b"\0", b"\xff",
          b"\xc3\xa9",
          b',"', b'",', b'"\n"', b"a,b\n", b"\xef\xbb\xbf", b"\xff\xfe", b"1", b"name"]  # fmt: skip


def oracle(
    content: bytes, form: CsvFormat, delimiter: str, columns: int
) -> tuple[list[list[str]], int] | None:
    """Rows, and the number of bad ones, as Python's csv has them; None where it refuses."""
    try:
        text = content.decode(form.codec, "surrogateescape" if form.codec == "utf-8" else "strict")
        none = form.quote == "none"
        reader = csv.reader(
            io.StringIO(text.removeprefix("\ufeff"), newline=""),
            delimiter=delimiter,
            quotechar=None if none else form.quote,
            quoting=csv.QUOTE_NONE if none else csv.QUOTE_MINIMAL,
            strict=True,
        )
        rows = list(reader)
    except (csv.Error, UnicodeDecodeError):
        return None
    if "\0" in text:
        return None
    body = [row or [""] for row in rows[1:]] if columns == 1 else [row for row in rows[1:] if row]
    good = [
        row
        for row in body
        if len(row) == columns and not any("\udc80" <= c <= "\udcff" for c in "".join(row))
    ]
    if form.on_bad_line == "refuse" and len(good) < len(body):
        return None
    return good, len(body) - len(good)


def read(path: Path, form: CsvFormat) -> tuple[Source, list[list[str]]]:
    """Return the source and its rows, "" for null as Python's csv has it."""
    source = open_source(
        fingerprint(discover(str(path))),
        path.parent / "staging",
        partition_rows=2**20,
        csv=replace(form, max_rejected="1000000000"),
    )
    table = pa.concat_tables([read_groups(part.groups) for part in cut(source.tables, 2**20)])
    columns = table.to_pydict().values()
    return source, [[cell or "" for cell in row] for row in zip(*columns, strict=True)]


def difference(path: Path, form: CsvFormat, delimiter: str = "") -> tuple[str, Source | None]:
    """Return how what is read from ``path`` differs from the oracle's, "" for not at all; and the
    source, None where it is refused."""
    try:
        source, rows = read(path, form)
    except DataError as error:
        return ("the message has two lines" if "\n" in str(error) else ""), None
    content = path.read_bytes()
    # A row with a carriage return of its own is two rows to the oracle, and one reject to us.
    if len(source.rejects) and re.search(rb"\r\0*[^\n\0]|\r\0?$", content):
        return "", source
    found: Any = delimiter or form.delimiter or staging._read_header(path, form)[0].delimiter
    expected = oracle(content, form, found, len(source.schema))
    if expected is None:
        return "accepted what the oracle refuses", source
    if (rows, len(source.rejects)) != expected:
        return "rows, cells or rejects differ from the oracle's", source
    return "", source


def check(data: bytes) -> None:
    """Raise AssertionError where the reader breaks its promise."""
    form = FORMATS[(data[0] if data else 0) % len(FORMATS)]
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        path = Path(name) / "people.csv"
        path.write_bytes(data[1:])
        wrong, source = difference(path, form)
        assert not wrong, f"{form}: {wrong}"
        left = [p.name for p in path.parent.rglob("*") if p.is_file()]
        assert source or left == ["people.csv"], "a refused file leaves something behind"


if __name__ == "__main__":
    from tests.fuzz.loop import main

    main("csv", check, MODULES, TOKENS)
