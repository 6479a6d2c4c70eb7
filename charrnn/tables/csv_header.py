"""The start of a CSV file: its delimiter, its column names, and what is wrong with them."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from charrnn.tables.column_names import like_header, usual
from charrnn.tables.csv_format import CsvFormat, CsvFormatError

MAX_COLUMNS = 16_384  # as many as a spreadsheet has
MAX_HEADER_BYTES = 2**20
_DELIMITERS = ",;\t|"  # the ones that can be detected
_SAMPLE_RECORDS = 100  # records that are looked at
_MAX_TITLE_LINES = 20
_EXCEL_LINE = re.compile(rb'(")?sep=(?P<delimiter>[^\r\n"\0\x80-\xff])(?(1)")\r?\n', re.IGNORECASE)
_NO_HEADER = "if the header line is missing, add one"


@dataclass(frozen=True)
class Header:
    """What the start of a CSV file tells."""

    delimiter: str  # one ASCII character
    columns: list[str]  # their names, of which at most one is empty
    skip: int = 0  # bytes of the stream before the header line, a byte order mark among them
    lines: int = 0  # before the header line


def read_header(head: bytes, form: CsvFormat) -> Header:
    """Return delimiter and column names of a file.

    If ``form`` has no delimiter, it is the one that an Excel line (``sep=;``) above the header
    names; else it is detected: the candidate in the header, outside quotes, with which most of the
    first records have as many fields as the header.

    Args:
        head: the start of the file as UTF-8, up to a line end or the end of the file.

    Raises:
        CsvFormatError: the header is not valid, or the delimiter is ambiguous.
    """
    skip = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    lines, delimiter = 0, form.delimiter
    if excel := _EXCEL_LINE.match(head, skip):
        skip, lines = excel.end(), 1
        delimiter = delimiter or excel["delimiter"].decode()
        if delimiter == form.quote_character:
            raise CsvFormatError("line 1 names the quote character as delimiter")
    head = head[skip:]
    where = f"line {1 + lines}"
    text = _header_line(head, where)
    delimiter = delimiter or _detect_delimiter(text, head, form)
    try:
        columns = next(_rows([text], delimiter, form, strict=True), [])
    except csv.Error:
        raise CsvFormatError(f"{where} has a broken quote in a column name") from None
    _check_columns(columns, where, head, form)
    if len(columns) == 1 and not like_header(columns) and (title := _title(head, form)):
        raise CsvFormatError(f"{where} has 1 field{title}")
    return Header(delimiter, columns, skip, lines)


def _header_line(head: bytes, where: str) -> str:
    line = head.split(b"\n", 1)[0].rstrip(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise CsvFormatError(
            f"{where}, byte {error.start:,} is not UTF-8", option="encoding"
        ) from None
    if "\r" in text:
        raise CsvFormatError(
            f"{where} has a carriage return without line feed; if lines end with CR alone, convert "
            "them: tr '\\r' '\\n' < FILE > NEW"
        )
    return text


def _check_columns(columns: list[str], where: str, head: bytes, form: CsvFormat) -> None:
    """Raise CsvFormatError unless the names of the columns are valid."""
    if not columns:
        raise CsvFormatError(
            f"{where} is empty; expected the names of the columns; remove blank lines above them"
        )
    if len(columns) > MAX_COLUMNS:
        raise CsvFormatError(
            f"{where} has {len(columns):,} columns, at most {MAX_COLUMNS:,} are read; is it CSV?"
        )
    counts = Counter(columns)
    unnamed = counts.pop("", 0)
    if unnamed > 1:
        hint = _title(head, form) or "; name them (at most one column may be without a name)"
        raise CsvFormatError(
            f"{where} leaves {unnamed:,} of {len(columns):,} columns unnamed{hint}"
        )
    repeated = sorted(column for column, count in counts.items() if count > 1)
    if repeated:
        shown = [repr(column) for column in repeated if usual(column)][:5]
        mostly = 2 * sum(map(usual, columns)) >= len(columns)
        what = ", ".join(shown) if mostly and len(shown) == len(repeated) else (
            f"{len(repeated):,} of its {len(columns):,} cells"
        )  # fmt: skip
        raise CsvFormatError(
            f"{where} repeats {what}; every column needs a unique name; {_NO_HEADER}"
        )


def explain_fields(head: bytes, form: CsvFormat, header: Header) -> str:
    """Return why all records have another number of fields than the header, and a fix that loses no
    row; "" if the first ones do not all have the same. ``head`` is that of ``read_header``."""
    head = head[header.skip :]
    count, first = len(header.columns), header.lines + 1
    if title := _title(head, form):
        return f"line {first} has {count} field{'s' * (count > 1)}{title}"
    rows = _sample(head, header.delimiter, form)[1:]
    fields = {len(row) for row in rows}
    if fields != {count + 1}:
        return ""
    here = f"{first}s"
    if not any(row[-1] for row in rows):
        return (
            f"every row ends with a delimiter that the header (line {first}) lacks; add it there: "
            f"sed '{here}/\\r*$/{_typed(header.delimiter)}&/' FILE > NEW"
        )
    if len(rows) < 2:
        return ""
    return (
        f"line {first}, the header, has {count} fields and the rows below {count + 1}; if it lacks "
        "a name for their first column, as R writes it, add one: "
        f"sed '{here}/^/row{_typed(header.delimiter)}/' FILE > NEW"
    )


def _title(head: bytes, form: CsvFormat) -> str:
    """Return the end of a message that says how many lines above the header are a title; "" if
    there are none: the first lines have fewer cells than all below, and what follows them looks
    like a header and they do not."""
    for delimiter in [form.delimiter] if form.delimiter else _DELIMITERS:
        rows = _sample(head, delimiter, form, blank=True)
        filled = [sum(map(bool, row)) for row in rows]
        for k in range(1, min(len(rows) - 1, 1 + _MAX_TITLE_LINES)):
            width = len(rows[k])
            if width < 2 or filled[k] < width or max(filled[:k]) >= width:
                continue
            below = [len(row) for row in rows[k + 1 :] if row]
            if (
                below
                and set(below) == {width}
                and like_header(rows[k])
                and not like_header(rows[0])
            ):
                lines = "it is" if k == 1 else f"lines 1 to {k} are"
                return (
                    f", and line {k + 1} looks like the header of all below; if {lines} a title, "
                    "remove it: "
                    f"tail -n +{k + 1} FILE > NEW"
                )
    return ""


def _typed(delimiter: str) -> str:
    """Return a delimiter as it is typed in a sed command."""
    return {"\t": "\\t", "/": "\\/", "&": "\\&", "\\": "\\\\"}.get(delimiter, delimiter)


def _sample(
    head: bytes, delimiter: str, form: CsvFormat, *, blank: bool = False
) -> list[list[str]]:
    """Return the first records, at most ``_SAMPLE_RECORDS`` below the header; ``blank`` ones too,
    if asked."""
    lines = io.StringIO(head.decode(errors="replace"), newline="")
    try:
        records = list(islice(_rows(lines, delimiter, form), 1 + _SAMPLE_RECORDS))
    except (csv.Error, ValueError):
        return []
    return [row for row in records if row or blank]


def _detect_delimiter(header: str, head: bytes, form: CsvFormat) -> str:
    quote = form.quote_character
    unquoted = "".join(header.split(quote)[::2]) if quote else header
    counts = {c: unquoted.count(c) for c in _DELIMITERS if c in unquoted}
    if len(counts) < 2:
        return next(iter(counts), ",")
    matches = dict[str, int]()  # records that have as many fields as the header
    for candidate in counts:
        first, *records = _sample(head, candidate, form) or [[]]
        matches[candidate] = sum(len(record) == len(first) for record in records)
    best, second = sorted(counts, key=lambda c: (matches[c], counts[c]), reverse=True)[:2]
    if matches[best] == matches[second] and (matches[best] or counts[best] == counts[second]):
        raise CsvFormatError(
            f"line 1 may be delimited by {best!r} or by {second!r}, and the lines below fit both; "
            "set the delimiter",
            option="delimiter",
        )
    return best


def _rows(lines: Any, delimiter: str, form: CsvFormat, **options: Any) -> Iterator[list[str]]:
    quote = form.quote_character
    return csv.reader(
        lines,
        delimiter=delimiter,
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        **options,
    )
