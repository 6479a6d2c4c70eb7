"""Formats of CSV files: the options, decoding, and detection of encodings."""

import codecs
import io
import math
import re
from dataclasses import asdict, dataclass
from typing import Annotated, Any, BinaryIO, Literal

from charrnn.errors import ConfigError, DataError, TextPattern, check_fields

# Read by pydantic: the string below a field is its description in Prefect's form, and a field that
# a record does not have is refused.
DOCSTRINGS = {"use_attribute_docstrings": True, "extra": "forbid"}
_MAX_UNDECODED = 2**20  # bytes that a decoder may hold back; bounds its memory and its time
# Text codecs that no text file uses: they decode escapes, or cannot decode in pieces.
_UNUSABLE_CODECS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"}
_BYTE_ORDER_MARKS = {  # UTF-32 first: its little-endian mark begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class CsvFormat:
    """Format of the CSV files of an input.

    Raises:
        ConfigError: a value is not valid.
    """

    __pydantic_config__ = DOCSTRINGS

    delimiter: Annotated[str, TextPattern(r"^([ -~]?|\t|\\t|tab)$")] = ""
    """Delimiter of CSV cells, one ASCII character, or tab; detected from the first lines if
    empty."""
    encoding: str = "utf-8"
    """Encoding of CSV files, such as cp1252 or utf-16."""
    quote: Literal['"', "'", "none"] = '"'
    """Quote character of CSV cells: ", ' or none."""
    multiline: bool = False
    """Accept line breaks inside quoted CSV cells."""
    on_bad_line: Literal["refuse", "reject"] = "refuse"
    """Refuse a CSV file that has a line with too many or too few cells, or bytes that are not
    text in its encoding; or reject these lines, which leaves them out and counts them."""
    max_rejected: Annotated[str, TextPattern(r"^([0-9]+|[0-9]*\.?[0-9]+%)$")] = "0"
    """How many lines of all files may be rejected: a number, or a share such as 0.1%. If more are
    bad, nothing is published."""

    def __post_init__(self) -> None:
        check_fields(self)
        delimiter = _typed_character(self.delimiter)
        object.__setattr__(self, "delimiter", delimiter)
        if delimiter and (len(delimiter) > 1 or not delimiter.isascii() or delimiter in "\r\n\0"):
            raise ConfigError(
                f"delimiter must be one ASCII character, or tab or \\\\t, got {delimiter!r}",
                option="delimiter",
            )
        if delimiter == self.quote:
            raise ConfigError(
                f"delimiter and quote must differ, both are {delimiter!r}", option="delimiter"
            )
        if not _is_text_codec(self.encoding):
            raise ConfigError(
                f"encoding must be one of text files, such as utf-8, cp1252, latin-1 or utf-16, "
                f"got {self.encoding!r}",
                option="encoding",
            )
        if not 0 <= self.rejects_allowed <= (1 if "%" in self.max_rejected else math.inf):
            raise ConfigError(
                "max_rejected must be a number of rows or a share from 0% to 100%, "
                f"got {self.max_rejected!r}",
                option="max_rejected",
            )

    @property
    def rejects_allowed(self) -> int | float:
        """``max_rejected`` as a number of rows (int) or a share of all rows (float); NaN if it is
        neither.

        >>> CsvFormat(max_rejected="20").rejects_allowed
        20
        >>> CsvFormat(max_rejected="0.1%").rejects_allowed
        0.001
        """
        try:
            share = self.max_rejected.endswith("%")
            return float(self.max_rejected[:-1]) / 100 if share else int(self.max_rejected)
        except ValueError:
            return math.nan

    @property
    def codec(self) -> str:
        """Canonical name of the encoding: ``utf-8`` for ``UTF8``, ``utf_8`` and ``utf-8-sig``."""
        return codecs.lookup(self.encoding).name.removesuffix("-sig")

    @property
    def quote_character(self) -> str:
        """The quote character, "" if ``quote`` is none."""
        return "" if self.quote == "none" else self.quote

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, for fingerprints and manifests."""
        return {**asdict(self), "encoding": self.codec}


class CsvFormatError(DataError):
    """A problem of a CSV file; the caller puts the file's name before the message."""


class Recoded(io.IOBase):
    """A binary stream that converts another stream from ``encoding`` to UTF-8.

    A byte order mark at the start is removed. ``read`` raises CsvFormatError, with line and byte,
    if the bytes are not valid in that encoding.
    """

    def __init__(self, raw: BinaryIO, encoding: str) -> None:
        self._raw = raw
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._bytes = 0  # read so far
        self._line = 1  # of the next character, from 1
        self._at_start = True

    def read(self, size: int = -1) -> bytes:
        """Read at most ``size`` bytes of the stream and return them as UTF-8; b"" at the end."""
        text, at_end = "", False
        while not (text or at_end):
            chunk = self._raw.read(size)
            at_end = not chunk
            state = self._decoder.getstate()
            try:
                text = self._decoder.decode(chunk, at_end)
            except UnicodeDecodeError as error:
                self._decoder.setstate(state)
                before = self._decoder.decode(error.object[len(state[0]) : error.start])
                line = self._line + before.count("\n")
                byte = self._bytes - len(state[0]) + error.start
                raise CsvFormatError(
                    f"line {line}, byte {byte:,} is not {self._encoding}", option="encoding"
                ) from None
            except ValueError as error:  # of some decoders, such as utf-16 without its mark
                raise CsvFormatError(str(error), option="encoding") from None
            self._bytes += len(chunk)
            if len(self._decoder.getstate()[0]) > _MAX_UNDECODED:
                raise CsvFormatError(
                    f"line {self._line} has over {_MAX_UNDECODED:,} bytes that are no complete "
                    f"text in {self._encoding}",
                    option="encoding",
                )
        if self._at_start and text:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        self._line += text.count("\n")
        return text.encode()

    def close(self) -> None:
        """Close this stream and the underlying one."""
        self._raw.close()
        super().close()


def detect_encoding(head: bytes, declared: str) -> str:
    """Return the encoding of a file that begins with ``head``, by its byte order mark or its zero
    bytes; "" if it is the declared one, or not detected."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return "" if declared.startswith(encoding) else encoding
    zeros = [head[i::2].count(0) for i in (0, 1)]  # at even and at odd offsets
    if declared != "utf-8" or sum(zeros) < len(head) / 10:
        return ""
    if sum(zeros) > 0.6 * len(head):
        return "utf-32"
    return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"


def _typed_character(text: str) -> str:
    """Return the character that ``tab`` or an escape (``\\t``, ``\\x1f``) means, as shells pass
    them on literally; any other text unchanged."""
    if text == "tab":
        return "\t"
    if not re.fullmatch(r"\\([trnabfv\\]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[0-7]{3})", text):
        return text
    return codecs.decode(text, "unicode_escape")


def _is_text_codec(encoding: str) -> bool:
    try:
        info = codecs.lookup(encoding)
        text = getattr(info, "_is_text_encoding", True) and info.incrementaldecoder is not None
    except (LookupError, ValueError):
        return False
    return bool(text) and info.name.replace("_", "-") not in _UNUSABLE_CODECS
