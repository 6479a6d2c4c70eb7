"""Find the records of a CSV byte stream, and check its quotes, without parsing cells.

Only quotes, delimiters and line ends are looked at, by RFC 4180 with one exception that parsers
share: a quote inside an unquoted cell (``5" disk``) is an ordinary character.

The stream is read in pieces that begin with a record. In almost every piece each quote opens a
cell, closes one, or is doubled inside one; then a byte is inside a quoted cell if the number of
quotes up to it is odd. A piece in which that is not so is read quote by quote.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_RECORD_BYTES = 8 * 2**20  # line end included; a longer record is refused
REASONS = ("ragged_row", "invalid_utf8", "bare_return")  # why a record is rejected
_RAGGED, _INVALID_UTF8, _BARE_RETURN = (np.uint8(i) for i in range(1, 4))  # index in REASONS, + 1
_PIECE_BYTES = 128 * 1024  # read together; fits into a processor's cache
_MAX_REJECTED = 1_000_000  # records; bounds the memory that their list takes
_LINE_FEED, _RETURN = 0x0A, 0x0D
_DOS_END = b"\x1a"
Codes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]  # one value per byte of a piece, or per record
Positions = npt.NDArray[np.int64]  # of bytes in a piece, ascending


@dataclass
class Structure:
    """Records and quotes of the bytes fed so far.

    If ``columns`` are given, a record after the header is *rejected*, that is recorded and left out
    of what ``feed`` returns, if it has another number of fields, bytes that are not UTF-8, or a
    carriage return without line feed. Blank lines are never rejected.
    """

    delimiter: str  # one ASCII character
    quote: str = '"'  # "" if quotes are ordinary characters
    multiline: bool = False  # accept line feeds inside quoted cells
    columns: int = 0  # expected fields per record; 0 rejects nothing
    line: int = 1  # of the next byte, from 1
    offset: int = 0  # of the next byte in the stream

    records: int = 0  # header, blank lines and rejected records included
    blank: int = 0  # blank lines
    line_breaks: int = 0  # line feeds inside quoted cells
    unterminated: bool = False  # whether the last record has no line end
    problem: str = ""  # what is wrong and in which line, without any cell; reading stops then
    option: str = ""  # field name of the option that could resolve ``problem``
    first_fields: int = 0  # number of fields of the first ragged record
    first_invalid: int = -1  # byte offset of the first byte that is not UTF-8

    def __post_init__(self) -> None:
        self._delimiter = ord(self.delimiter)
        self._quote = self.quote.encode()
        self._pending = b""  # start of a record that has not ended yet
        self._rejected: list[tuple[Positions, Positions, npt.NDArray[np.uint8]]] = []
        self._rejected_count = 0

    def feed(self, chunk: bytes) -> bytes | memoryview:
        """Read the next bytes of the stream; return the complete records, rejected ones left out.
        The start of an incomplete record is kept for the next call."""
        data = self._pending + chunk
        if not self.offset and data.startswith(codecs.BOM_UTF8):
            data, self.offset = data[3:], 3
        accepted: list[bytes] = []
        start, size = 0, _PIECE_BYTES
        while start < len(data) and not self.problem:
            complete = self._read_piece(data[start : start + size], accepted)
            start += complete
            if complete:
                size = _PIECE_BYTES
            elif size >= MAX_RECORD_BYTES and len(data) - start >= MAX_RECORD_BYTES:
                self.fail(
                    f"line {self.line} begins a record longer than {MAX_RECORD_BYTES:,} bytes; "
                    "is a quote not closed, or is this not a CSV file?"
                )
            elif start + size >= len(data):
                break
            else:
                size *= 2
        self._pending = data[start:]
        return b"".join(accepted) if self.columns else memoryview(data)[:start]

    def finish(self) -> bytes:
        """End the stream; return the last record if it had no line end, with one added. Ctrl-Z at
        the very end is the end of a DOS text file, not text."""
        last, self._pending = self._pending.rstrip(_DOS_END), b""
        if not last or self.problem:
            return b""
        self.unterminated = True
        last += b"\n"
        accepted: list[bytes] = []
        if not self._read_piece(last, accepted, final=True):
            self.fail(
                f"line {self.line} {self._explained('has a quote that is never closed', last)}"
            )
        return b"".join(accepted) if self.columns else last

    def fail(self, problem: str, option: str = "") -> None:
        """Set ``problem`` and ``option``, unless there is a problem already."""
        if not self.problem:
            self.problem, self.option = problem, option

    def rejected(self) -> tuple[Positions, Positions, npt.NDArray[np.uint8]]:
        """Return the rejected records in the order of the stream, three arrays ``(rejected,)``:
        line (from 1), row of the file (from 0), both int64, and uint8 index into ``REASONS``."""
        empty = np.empty(0, np.int64)
        parts = [(empty, empty, np.empty(0, np.uint8)), *self._rejected]
        lines, records, reasons = (np.concatenate(column) for column in zip(*parts, strict=True))
        return lines, records, reasons

    def _read_piece(self, piece: bytes, accepted: list[bytes], *, final: bool = False) -> int:
        """Read the complete records at the start of ``piece`` and return their number of bytes.

        Args:
            accepted: gets the records that are not rejected, if ``columns`` are checked.
            final: the piece is the last record, with a line feed that is not in the stream.
        """
        if b"\0" in piece:
            self._fail_at(piece, piece.index(b"\0"), "has a NUL byte; is it damaged, or UTF-16?")
            return 0
        codes = np.frombuffer(piece, np.uint8)
        inside = self._inside(piece, codes)
        if inside is None:
            return 0
        feeds = codes == _LINE_FEED
        ends, breaks = np.flatnonzero(feeds & ~inside), np.flatnonzero(feeds & inside)
        if final:  # the last line feed was added
            breaks = breaks[breaks < len(piece) - 1]
        if breaks.size and not self.multiline:
            what = "has a line break inside a quoted cell; close the quote, or accept such cells"
            explained = self._explained(what, piece)
            option = "multiline" if explained == what else ""
            self._fail_at(piece, int(breaks[0]), explained, option)
            return 0
        if not ends.size:
            return 0
        complete = int(ends[-1]) + 1
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends - starts
        blank = (lengths == 0) | ((lengths == 1) & (codes[starts] == _RETURN))
        if self.columns:
            accepted.append(self._reject(piece[:complete], starts, ends, blank, inside[:complete]))
        line_breaks = int(np.searchsorted(breaks, complete))
        self.blank += int(blank.sum())
        self.records += len(ends)
        self.line_breaks += line_breaks
        self.line += len(ends) + line_breaks
        self.offset += complete
        return complete

    def _inside(self, piece: bytes, codes: Codes) -> Mask | None:
        """Return which bytes are inside a quoted cell, opening quote included, closing quote not;
        None after a problem.

        The parity of the quotes is the answer if every opening quote follows a cell's end or a
        quote, and every closing quote precedes one (by induction from the start of the piece).
        """
        if not self._quote or self._quote not in piece:
            return np.zeros(len(piece), np.bool_)
        quotes = codes == self._quote[0]
        inside = _odd(quotes)
        edges = quotes | (codes == self._delimiter) | (codes == _LINE_FEED) | (codes == _RETURN)
        opening, closing = quotes & inside, quotes & ~inside
        if not ((opening[1:] & ~edges[:-1]).any() or (closing[:-1] & ~edges[1:]).any()):
            return inside
        cell_quotes = self._cell_quotes(piece)
        return None if cell_quotes is None else _odd(cell_quotes)

    def _cell_quotes(self, piece: bytes) -> Mask | None:
        """Return the quotes that open or close a cell, found one by one; None after a problem."""
        quote, edges = self._quote, bytes([self._delimiter, _LINE_FEED, _RETURN])
        cell_quotes = np.zeros(len(piece), np.bool_)
        opening = piece.find(quote)
        while opening >= 0:
            if opening and piece[opening - 1] not in edges:  # inside an unquoted cell
                opening = piece.find(quote, opening + 1)
                continue
            closing = piece.find(quote, opening + 1)
            while closing >= 0 and piece[closing + 1 : closing + 2] == quote:
                closing = piece.find(quote, closing + 2)
            cell_quotes[opening] = True
            if closing < 0:
                break
            if piece[closing + 1 : closing + 2] and piece[closing + 1] not in edges:
                self._fail_at(
                    piece, closing, self._explained("has text after a closing quote", piece)
                )
                return None
            cell_quotes[closing] = True
            opening = piece.find(quote, closing + 1)
        return cell_quotes

    def _reject(
        self, piece: bytes, starts: Positions, ends: Positions, blank: Mask, inside: Mask
    ) -> bytes:
        """Record the rejected records of ``piece``; return the others."""
        codes = np.frombuffer(piece, np.uint8)
        reasons = self._reject_reasons(piece, starts, ends, blank, inside)
        bad = np.flatnonzero(reasons)
        if not bad.size:
            return piece
        records = self.records + bad - 1
        if self.columns > 1:
            records -= self.blank + np.cumsum(blank)[bad]
        lines = self.line + np.searchsorted(np.flatnonzero(codes == _LINE_FEED), starts[bad])
        self._rejected.append((lines, records, reasons[bad] - 1))
        self._rejected_count += bad.size
        if self._rejected_count > _MAX_REJECTED:
            self.fail(f"more than {_MAX_REJECTED:,} rows are bad; check delimiter, quote, encoding")
        edges = np.concatenate([[0], np.stack([starts[bad], ends[bad] + 1], 1).ravel()])
        stops = np.append(edges[1::2], len(piece))
        return b"".join(piece[a:b] for a, b in zip(edges[::2], stops, strict=True))

    def _reject_reasons(
        self, piece: bytes, starts: Positions, ends: Positions, blank: Mask, inside: Mask
    ) -> npt.NDArray[np.uint8]:
        """Return why each record of ``piece`` is rejected, uint8 ``(records,)``: 0 if it is not,
        else 1 + an index into ``REASONS``."""
        codes = np.frombuffer(piece, np.uint8)

        def unquoted(byte: int) -> Positions:
            return np.flatnonzero((codes == byte) & ~inside)

        delimiters = unquoted(self._delimiter)
        fields = 1 + np.searchsorted(delimiters, ends) - np.searchsorted(delimiters, starts)
        ragged = (fields != self.columns) & ~blank
        ragged[0] &= self.records > 0  # the header is never rejected
        if ragged.any() and not self.first_fields:
            self.first_fields = int(fields[ragged.argmax()])
        reasons = np.where(ragged, _RAGGED, np.uint8(0))
        if b"\r" in piece:
            returns = unquoted(_RETURN)
            bare = returns[codes[returns + 1] != _LINE_FEED]  # a piece ends with a line feed
            reasons[np.searchsorted(ends, bare)] = _BARE_RETURN
        for index, position in _invalid_utf8(piece, starts, ends):
            reasons[index] = _INVALID_UTF8
            if self.first_invalid < 0:
                self.first_invalid = self.offset + position
        if not self.records:
            reasons[0] = 0  # the header
        return reasons

    def _explained(self, what: str, piece: bytes) -> str:
        """Return what is wrong with a quote; if quotes are escaped by backslashes, say that."""
        quote = self._quote.decode()
        if b"\\" + self._quote not in piece:
            return what
        typed = quote if quote == '"' else "\\x27"
        return (
            f"has quotes escaped by a backslash (\\{quote}), expected doubled ones "
            f"({quote}{quote}), as in RFC 4180; convert it: "
            f"perl -pe 's/\\\\([\\\\{typed}])/$1 eq chr({ord(quote)}) ? $1.$1 : $1/ge' FILE > NEW"
        )

    def _fail_at(self, piece: bytes, position: int, what: str, option: str = "") -> None:
        line = self.line + piece.count(b"\n", 0, position)
        self.fail(f"line {line} {what}", option)


def _odd(mask: Mask) -> Mask:
    """Return at which positions the number of set ones up to and including it is odd: a prefix XOR
    of 64 at once, as in Langdale and Lemire, "Parsing Gigabytes of JSON per Second" (2019)."""
    words = np.zeros(-(-len(mask) // 64), np.uint64)
    packed = np.packbits(mask, bitorder="little")
    words.view(np.uint8)[: len(packed)] = packed
    for shift in (1, 2, 4, 8, 16, 32):
        words ^= words << np.uint64(shift)
    odd = np.bitwise_xor.accumulate(words >> np.uint64(63))  # parity at the end of each word
    words[1:] ^= np.uint64(0) - odd[:-1]  # inverts the words that begin with odd parity
    bits = np.unpackbits(words.view(np.uint8), count=len(mask), bitorder="little")
    return bits.view(np.bool_)


def _invalid_utf8(piece: bytes, starts: Positions, ends: Positions) -> Iterator[tuple[int, int]]:
    """Yield each record that is not UTF-8, and the position of its first byte that is not."""
    try:
        codecs.utf_8_decode(piece, "strict", True)
    except UnicodeDecodeError:
        for index, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            try:
                piece[start:end].decode()
            except UnicodeDecodeError as error:
                yield index, start + error.start
