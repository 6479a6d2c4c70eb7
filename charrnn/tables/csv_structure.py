"""Find the records of a CSV byte stream, and check its quotes, without parsing cells.

Only quotes, delimiters and line ends are looked at, by RFC 4180 with one exception that parsers
share: a quote inside an unquoted cell (``5" disk``) is an ordinary character.

The stream is read in pieces that begin with a record. In almost every piece each quote opens a
cell, closes one, or is doubled inside one; then a byte is inside a quoted cell if the number of
quotes up to it is odd. numpy computes and checks this parity for 64 bytes per word, as Langdale and
Lemire do in "Parsing Gigabytes of JSON per Second" (2019). A piece that fails the check is read
quote by quote.
"""

import codecs

import numpy as np
import numpy.typing as npt

MAX_RECORD_BYTES = 8 * 2**20  # line end included; a longer record is refused
REASONS = ("ragged_row", "invalid_utf8", "bare_return")  # why a record is rejected
_RAGGED, _INVALID_UTF8, _BARE_RETURN = (np.uint8(i) for i in range(1, 4))  # index in REASONS, + 1
_PIECE_BYTES = 128 * 1024  # read together; fits into a processor's cache
_MAX_REJECTED = 1_000_000  # records; bounds the memory that their list takes
_LINE_FEED, _RETURN = 0x0A, 0x0D
_DOS_END = b"\x1a"
Mask = npt.NDArray[np.bool_]  # one value per byte of a piece
Bits = npt.NDArray[np.uint64]  # the same, 64 bytes per word, the first byte in the lowest bit
Positions = npt.NDArray[np.int64]


class Structure:
    """Records and quotes of the bytes fed so far.

    Args:
        delimiter: one ASCII character.
        quote: the quote character; "" if quotes are ordinary characters.
        multiline: accept line feeds inside quoted cells.
        columns: expected fields per record; 0 rejects nothing. A record after the header is
            *rejected*, that is recorded and left out of what ``feed`` returns, if it has another
            number of fields, bytes that are not UTF-8, or a carriage return without line feed.
            Blank lines are never rejected.
        line: of the first byte that is fed, from 1.
        offset: of the first byte that is fed, in the stream.

    Attributes:
        records: number of records, including header, blank lines and rejected records.
        blank: number of blank lines.
        line_breaks: number of line feeds inside quoted cells.
        unterminated: whether the last record has no line end.
        problem: what is wrong and in which line, without any cell; "" if nothing is. Reading stops
            at the first problem.
        option: field name of the option that could resolve ``problem``, or "".
        first_fields: number of fields of the first ragged record.
        first_invalid: byte offset of the first byte that is not UTF-8, -1 if there is none.
    """

    def __init__(
        self,
        delimiter: str,
        quote: str = '"',
        *,
        multiline: bool = False,
        columns: int = 0,
        line: int = 1,
        offset: int = 0,
    ) -> None:
        self.records = 0
        self.blank = 0
        self.line_breaks = 0
        self.unterminated = False
        self.problem = ""
        self.option = ""
        self.first_fields = 0
        self.first_invalid = -1
        self._delimiter = ord(delimiter)
        self._quote = quote.encode()
        self._multiline = multiline
        self._columns = columns
        self._line = line  # line of the next byte, from 1
        self._offset = offset  # of the next byte in the stream
        self._pending = b""  # start of a record that has not ended yet
        self._rejected: list[tuple[Positions, Positions, npt.NDArray[np.uint8]]] = []
        self._rejected_count = 0

    def feed(self, chunk: bytes) -> bytes | memoryview:
        """Read the next bytes of the stream; return the complete records, rejected ones left out.
        The start of an incomplete record is kept for the next call."""
        data = self._pending + chunk
        if not self._offset and data.startswith(codecs.BOM_UTF8):
            data, self._offset = data[3:], 3
        accepted: list[bytes] = []
        start, size = 0, _PIECE_BYTES
        while start < len(data) and not self.problem:
            complete = self._read_piece(data[start : start + size], accepted)
            start += complete
            if complete:
                size = _PIECE_BYTES
            elif size >= MAX_RECORD_BYTES and len(data) - start >= MAX_RECORD_BYTES:
                self.fail(
                    f"line {self._line} begins a record longer than {MAX_RECORD_BYTES:,} bytes; "
                    "is a quote not closed, or is this not a CSV file?"
                )
            elif start + size >= len(data):
                break
            else:
                size *= 2
        self._pending = data[start:]
        return b"".join(accepted) if self._columns else memoryview(data)[:start]

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
                f"line {self._line} {self._explained('has a quote that is never closed', last)}"
            )
        return b"".join(accepted) if self._columns else last

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
        feeds = _bits(codes == _LINE_FEED)
        returns = _bits(codes == _RETURN) if b"\r" in piece else None
        record_ends, inside, breaks = feeds, None, 0
        if self._quote and self._quote in piece:
            inside = self._inside(piece, codes, feeds if returns is None else feeds | returns)
            if inside is None:
                return 0
            broken = feeds & inside
            if final:
                broken &= _below(len(piece) - 1, len(feeds))  # the last line feed was added
            if not self._multiline and broken.any():
                what = (
                    "has a line break inside a quoted cell; close the quote, or accept such cells"
                )
                explained = self._explained(what, piece)
                option = "multiline" if explained == what else ""
                self._fail_at(piece, int(_mask(broken).argmax()), explained, option)
                return 0
            record_ends = feeds & ~inside
        words = record_ends.nonzero()[0]
        if not words.size:
            return 0
        last = int(words[-1])
        complete = 64 * last + int(record_ends[last]).bit_length()
        if inside is not None:
            breaks = _count(broken & _below(complete, len(broken)))
        if self._columns:
            quoted = None if inside is None else _mask(inside)[:complete]
            accepted.append(self._reject(piece[:complete], _mask(record_ends)[:complete], quoted))
        records = _count(record_ends)
        self.blank += _blank_lines(record_ends, returns)
        self.records += records
        self.line_breaks += breaks
        self._line += records + breaks
        self._offset += complete
        return complete

    def _inside(self, piece: bytes, codes: npt.NDArray[np.uint8], line_ends: Bits) -> Bits | None:
        """Return which bytes are inside a quoted cell, opening quote included, closing quote not;
        None after a problem.

        The parity of the quotes is the answer if every opening quote follows a cell's end or a
        quote, and every closing quote precedes one (by induction from the start of the piece).
        """
        quotes = _bits(codes == self._quote[0])
        inside = _odd(quotes)
        edges = quotes | line_ends | _bits(codes == self._delimiter)
        edges |= ~_below(len(piece), len(edges))  # the byte after the piece is unknown
        misplaced = (quotes & inside & ~_shift_left(edges, first=True)) | (
            quotes & ~inside & ~_shift_right(edges, last=True)
        )
        if not misplaced.any():
            return inside
        cell_quotes = self._cell_quotes(piece)
        return None if cell_quotes is None else _odd(_bits(cell_quotes))

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

    def _reject(self, piece: bytes, record_ends: Mask, inside: Mask | None) -> bytes:
        """Record the rejected records of ``piece``; return the others."""
        codes = np.frombuffer(piece, np.uint8)
        ends = np.flatnonzero(record_ends)
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends - starts
        blank = (lengths == 0) | ((lengths == 1) & (codes[starts] == _RETURN))
        reasons = self._reject_reasons(piece, starts, ends, blank, inside)
        bad = np.flatnonzero(reasons)
        if not bad.size:
            return piece
        records = self.records + bad - 1
        if self._columns > 1:
            records -= self.blank + np.cumsum(blank)[bad]
        lines = self._line + np.searchsorted(np.flatnonzero(codes == _LINE_FEED), starts[bad])
        self._rejected.append((lines, records, reasons[bad] - 1))
        self._rejected_count += bad.size
        if self._rejected_count > _MAX_REJECTED:
            self.fail(f"more than {_MAX_REJECTED:,} rows are bad; check delimiter, quote, encoding")
        edges = np.concatenate([[0], np.stack([starts[bad], ends[bad] + 1], 1).ravel()])
        stops = np.append(edges[1::2], len(piece))
        return b"".join(piece[a:b] for a, b in zip(edges[::2], stops, strict=True))

    def _reject_reasons(
        self, piece: bytes, starts: Positions, ends: Positions, blank: Mask, inside: Mask | None
    ) -> npt.NDArray[np.uint8]:
        """Return why each record of ``piece`` is rejected, uint8 ``(records,)``: 0 if it is not,
        else 1 + an index into ``REASONS``."""
        codes = np.frombuffer(piece, np.uint8)

        def unquoted(byte: int) -> Positions:
            matches = codes == byte
            return np.flatnonzero(matches if inside is None else matches & ~inside)

        delimiters = unquoted(self._delimiter)
        fields = 1 + np.searchsorted(delimiters, ends) - np.searchsorted(delimiters, starts)
        ragged = (fields != self._columns) & ~blank
        ragged[0] &= self.records > 0  # the header is never rejected
        if ragged.any() and not self.first_fields:
            self.first_fields = int(fields[ragged.argmax()])
        reasons = np.where(ragged, _RAGGED, np.uint8(0))
        if b"\r" in piece:
            returns = unquoted(_RETURN)
            bare = returns[codes[returns + 1] != _LINE_FEED]  # a piece ends with a line feed
            reasons[np.searchsorted(ends, bare)] = _BARE_RETURN
        for start in _invalid_utf8(piece, ends):
            reasons[np.searchsorted(ends, start)] = _INVALID_UTF8
            if self.first_invalid < 0:
                self.first_invalid = self._offset + start
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
        line = self._line + piece.count(b"\n", 0, position)
        self.fail(f"line {line} {what}", option)


def _bits(mask: Mask) -> Bits:
    """Pack a mask into words of 64 bits; bits after its end are 0."""
    words = np.zeros(-(-len(mask) // 64), np.uint64)
    packed = np.packbits(mask, bitorder="little")
    words.view(np.uint8)[: len(packed)] = packed
    return words


def _mask(bits: Bits) -> Mask:
    """Unpack words of 64 bits; the inverse of ``_bits``, padded to a whole word."""
    return np.unpackbits(bits.view(np.uint8), bitorder="little").view(np.bool_)


def _below(position: int, words: int) -> Bits:
    """Return ``words`` words whose bits are set at the positions below ``position``."""
    bits = np.zeros(words, np.uint64)
    bits[: position // 64] = np.uint64(2**64 - 1)
    if position % 64:
        bits[position // 64] = (1 << position % 64) - 1
    return bits


def _shift_left(bits: Bits, *, first: bool = False) -> Bits:
    """Move every bit to the next position; ``first`` is the new first bit."""
    moved = bits << np.uint64(1)
    moved[1:] |= bits[:-1] >> np.uint64(63)
    moved[0] |= np.uint64(first)
    return moved


def _shift_right(bits: Bits, *, last: bool = False) -> Bits:
    """Move every bit to the previous position; ``last`` is the new last bit."""
    moved = bits >> np.uint64(1)
    moved[:-1] |= bits[1:] << np.uint64(63)
    moved[-1] |= np.uint64(last) << np.uint64(63)
    return moved


def _odd(bits: Bits) -> Bits:
    """Return the positions at which the number of set bits up to and including it is odd: a prefix
    XOR, by six shifts in each word and a scan over the words."""
    words, moved = bits.copy(), np.empty_like(bits)
    for shift in (1, 2, 4, 8, 16, 32):
        words ^= np.left_shift(words, np.uint64(shift), out=moved)
    odd = np.bitwise_xor.accumulate(words >> np.uint64(63))  # parity at the end of each word
    words[1:] ^= np.uint64(0) - odd[:-1]  # inverts the words that begin with odd parity
    return words


def _blank_lines(record_ends: Bits, returns: Bits | None) -> int:
    """Count the blank lines of a piece, from its record ends and its carriage returns."""
    starts = _shift_left(record_ends, first=True)
    blank = record_ends & starts
    if returns is not None:
        blank |= record_ends & _shift_left(returns & starts)
    return _count(blank)


def _count(bits: Bits) -> int:
    return int(np.bitwise_count(bits).sum())


def _invalid_utf8(piece: bytes, ends: Positions) -> list[int]:
    """Return the offset of the first byte that is not UTF-8 of every record that has one."""
    try:
        codecs.utf_8_decode(piece, "strict", True)
    except UnicodeDecodeError:
        pass
    else:
        return []
    # Bytes that are not UTF-8 become code points of their own, so one pass finds all of them.
    text = piece.decode(errors="surrogateescape").encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(text, np.uint32)
    invalid = (points >= 0xDC80) & (points <= 0xDCFF)
    sizes = 1 + (points > 0x7F) + (points > 0x7FF).astype(np.int64) + (points > 0xFFFF)
    sizes[invalid] = 1
    offsets = (np.cumsum(sizes) - sizes)[invalid]
    _, first = np.unique(np.searchsorted(ends, offsets), return_index=True)
    return [int(offset) for offset in offsets[first]]
