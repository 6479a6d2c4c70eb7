"""Read the structure of a CSV byte stream: where records end, and whether its quotes are sound.

This is the second opinion that ``staging`` holds a CSV parser against. It never looks at what a
cell says, only at quotes, delimiters and line feeds, by the rules of RFC 4180 with one leniency
that parsers share: a quote inside an unquoted cell (``5" disk``) is an ordinary character.

The stream is taken apart in pieces that begin with a record. Almost always every quote of a piece
either opens a cell, closes one, or is doubled inside one; then a byte is inside a quoted cell where
the number of quotes up to it is odd. numpy counts that and checks it, for all bytes at once, and
64 of them in a word, as Langdale and Lemire do in "Parsing Gigabytes of JSON per Second" (2019).
Only in a piece where it does not hold is one quote looked at after the other.
"""

from __future__ import annotations

__all__ = ["LONGEST", "REASONS", "Structure"]

import codecs

import numpy as np
import numpy.typing as npt

LONGEST = 8 * 2**20  # bytes of the longest record that is accepted, its line end included
REASONS = ("ragged_row", "invalid_utf8", "bare_return")  # why a record is rejected
_PIECE = 128 * 1024  # bytes looked at together: what stays in a processor's cache
_MOST_REJECTED = 1_000_000
_FEED, _RETURN = 0x0A, 0x0D
_BOM = b"\xef\xbb\xbf"
_ALL = np.uint64(2**64 - 1)
Mask = npt.NDArray[np.bool_]  # one value for each byte of a piece,
Bits = npt.NDArray[np.uint64]  # and the same with 64 of them in a word
Positions = npt.NDArray[np.int64]


class Structure:
    """The structure of what has been fed so far.

    Args:
        quote: the quote character; "" where quotes are ordinary characters.
        multiline: accept line feeds inside quoted cells.
        columns: where given, a record (never the first) that has another number of fields, bytes
            that are not UTF-8 or a carriage return of its own is *rejected*: recorded and left out
            of what ``feed`` returns. Blank lines are no records of several columns.

    Attributes:
        records: records seen, header, blank lines and rejected ones included.
        blank: records that are an empty line.
        line_breaks: line feeds inside quoted cells.
        unterminated: the last record lacks its line end.
        problem: what is wrong and in which line, without any cell; "" while all is well. Nothing
            more is taken once it is set.
        first_fields: fields of the first record rejected for their number.
        first_invalid: place in the stream of the first byte that is not UTF-8, -1 for none.
    """

    def __init__(
        self, delimiter: str, quote: str = '"', *, multiline: bool = False, columns: int = 0
    ) -> None:
        self.records = 0
        self.blank = 0
        self.line_breaks = 0
        self.unterminated = False
        self.problem = ""
        self.first_fields = 0
        self.first_invalid = -1
        self._delimiter = ord(delimiter)
        self._quote = quote.encode()
        self._multiline = multiline
        self._columns = columns
        self._line = 1  # physical line of the next byte
        self._taken = 0  # bytes before it
        self._pending = b""  # of a record that has not ended yet
        self._rejected: list[tuple[Positions, Positions, npt.NDArray[np.uint8]]] = []
        self._rejects = 0

    def feed(self, chunk: bytes) -> bytes | memoryview:
        """Take the next bytes of the stream; return the records that are whole by now."""
        data = self._pending + chunk
        if not self._taken and data.startswith(_BOM):
            data, self._taken = data[len(_BOM) :], len(_BOM)
        kept: list[bytes] = []
        at, size = 0, _PIECE
        while at < len(data) and not self.problem:
            whole = self._take(data[at : at + size], kept)
            at += whole
            if whole:
                size = _PIECE
            elif size >= LONGEST and len(data) - at >= LONGEST:
                self.problem = self.problem or (
                    f"line {self._line} begins a record longer than {LONGEST:,} bytes; is a quote "
                    "left open, or is this no CSV file?"
                )
            elif at + size >= len(data):
                break
            else:
                size *= 2
        self._pending = data[at:]
        return b"".join(kept) if self._columns else memoryview(data)[:at]

    def finish(self) -> bytes:
        """Take the end of the stream; return the last record, with the line end it may lack."""
        last, self._pending = self._pending, b""
        if not last or self.problem:
            return b""
        self.unterminated = True
        last += b"\n"
        kept: list[bytes] = []
        if not self._take(last, kept, final=True):
            self.problem = self.problem or f"line {self._line} holds a quote that is never closed"
        return b"".join(kept) if self._columns else last

    def rejected(self) -> tuple[Positions, Positions, npt.NDArray[np.uint8]]:
        """Return, of every rejected record: its line, which row of the file it would have been
        (from 0), and its reason as an index into ``REASONS``; in the order of the stream."""
        empty = np.empty(0, np.int64)
        parts = [(empty, empty, np.empty(0, np.uint8)), *self._rejected]
        lines, records, reasons = (np.concatenate(column) for column in zip(*parts, strict=True))
        return lines, records, reasons

    def _take(self, piece: bytes, kept: list[bytes], *, final: bool = False) -> int:
        """Take the whole records at the start of ``piece``; return their number of bytes."""
        if b"\0" in piece:
            self._complain(piece, piece.index(b"\0"), "holds a NUL byte; is it UTF-16?")
            return 0
        window = np.frombuffer(piece, np.uint8)
        feeds = _bits(window == _FEED)
        returns = _bits(window == _RETURN) if b"\r" in piece else None
        outside, inside, breaks = feeds, None, 0
        if self._quote and self._quote in piece:
            inside = self._inside(piece, window, feeds if returns is None else feeds | returns)
            if inside is None:
                return 0
            broken = feeds & inside
            if final:
                broken &= _below(len(piece) - 1, len(feeds))  # the last line feed is ours
            if not self._multiline and broken.any():
                what = (
                    "has a line break inside a quoted cell; close the quote, or give --multiline "
                    "if that is meant"
                )
                self._complain(piece, int(_mask(broken).argmax()), what)
                return 0
            outside = feeds & ~inside
        ends = outside.nonzero()[0]
        if not ends.size:
            return 0
        last = int(ends[-1])
        whole = 64 * last + int(outside[last]).bit_length()
        if inside is not None:
            breaks = _count(broken & _below(whole, len(broken)))
        if self._columns:
            shown = None if inside is None else _mask(inside)[:whole]
            kept.append(self._sift(piece[:whole], _mask(outside)[:whole], shown))
        records = _count(outside)
        self.blank += _blank_lines(outside, returns)
        self.records += records
        self.line_breaks += breaks
        self._line += records + breaks
        self._taken += whole
        return whole

    def _inside(self, piece: bytes, window: npt.NDArray[np.uint8], line_ends: Bits) -> Bits | None:
        """Return which bytes are inside a quoted cell (its opening quote is, its closing quote is
        not); None after a problem.

        The parity of the quotes says it if every quote opens a cell, closes one or is doubled in
        one, that is, if those that open have the end of a cell or a quote before them, and those
        that close have one behind them: by induction from the start of the piece.
        """
        quotes = _bits(window == self._quote[0])
        inside = _odd(quotes)
        edges = quotes | line_ends | _bits(window == self._delimiter)
        edges |= ~_below(len(piece), len(edges))  # whatever comes behind the piece
        astray = (quotes & inside & ~_shift_left(edges, first=True)) | (
            quotes & ~inside & ~_shift_right(edges, last=True)
        )
        if astray.any():
            walked = self._walk(piece)
            return None if walked is None else _odd(_bits(walked))
        return inside

    def _walk(self, piece: bytes) -> Mask | None:
        """Return the quotes that open or close a cell, found one by one; None after a problem."""
        quote, edges = self._quote, bytes([self._delimiter, _FEED, _RETURN])
        switches = np.zeros(len(piece), np.bool_)
        at = piece.find(quote)
        while at >= 0:
            if at and piece[at - 1] not in edges:  # an ordinary character of an unquoted cell
                at = piece.find(quote, at + 1)
                continue
            closing = piece.find(quote, at + 1)
            while closing >= 0 and piece[closing + 1 : closing + 2] == quote:
                closing = piece.find(quote, closing + 2)
            switches[at] = True
            if closing < 0:
                break
            if piece[closing + 1 : closing + 2] and piece[closing + 1] not in edges:
                self._complain(piece, closing, "has text behind a closing quote")
                return None
            switches[closing] = True
            at = piece.find(quote, closing + 1)
        return switches

    def _sift(self, piece: bytes, outside: Mask, inside: Mask | None) -> bytes:
        """Note the records of ``piece`` that are to be rejected; return the others."""
        window = np.frombuffer(piece, np.uint8)
        ends = np.flatnonzero(outside)
        starts = np.concatenate([[0], ends[:-1] + 1])

        def unquoted(byte: int) -> Positions:
            found = window == byte
            return np.flatnonzero(found if inside is None else found & ~inside)

        length = ends - starts
        blank = (length == 0) | ((length == 1) & (window[starts] == _RETURN))
        delimiters = unquoted(self._delimiter)
        fields = 1 + np.searchsorted(delimiters, ends) - np.searchsorted(delimiters, starts)
        ragged = (fields != self._columns) & ~blank
        ragged[0] &= self.records > 0  # the header is never rejected
        if ragged.any() and not self.first_fields:
            self.first_fields = int(fields[ragged.argmax()])
        reasons = ragged.astype(np.uint8)
        if b"\r" in piece:
            returns = unquoted(_RETURN)
            bare = returns[window[returns + 1] != _FEED]  # a piece ends with a line feed
            reasons[np.searchsorted(ends, bare)] = 3
        for start in _invalid(piece, ends):
            reasons[np.searchsorted(ends, start)] = 2
            if self.first_invalid < 0:
                self.first_invalid = self._taken + start
        if not self.records:
            reasons[0] = 0  # the header
        bad = np.flatnonzero(reasons)
        if not bad.size:
            return piece
        records = self.records + bad - 1
        if self._columns > 1:
            records -= self.blank + np.cumsum(blank)[bad]
        lines = self._line + np.searchsorted(np.flatnonzero(window == _FEED), starts[bad])
        self._rejected.append((lines, records, reasons[bad] - 1))
        self._rejects += bad.size
        if self._rejects > _MOST_REJECTED:
            self.problem = (
                f"over {_MOST_REJECTED:,} rows are bad; are delimiter, quote and encoding right?"
            )
        edges = np.concatenate([[0], np.stack([starts[bad], ends[bad] + 1], 1).ravel()])
        stops = np.append(edges[1::2], len(piece))
        return b"".join(piece[a:b] for a, b in zip(edges[::2], stops, strict=True))

    def _complain(self, piece: bytes, position: int, what: str) -> None:
        line = self._line + piece.count(b"\n", 0, position)
        self.problem = f"line {line} {what}"


def _bits(mask: Mask) -> Bits:
    """Return a mask with 64 of its values in a word, the first one lowest, 0 behind its end."""
    words = np.zeros(-(-len(mask) // 64), np.uint64)
    packed = np.packbits(mask, bitorder="little")
    words.view(np.uint8)[: len(packed)] = packed
    return words


def _mask(bits: Bits) -> Mask:
    """Return what ``_bits`` was given, up to the end of its last word."""
    return np.unpackbits(bits.view(np.uint8), bitorder="little").view(np.bool_)


def _below(place: int, words: int) -> Bits:
    """Return bits that are set at all places below ``place``."""
    bits = np.zeros(words, np.uint64)
    bits[: place // 64] = _ALL
    if place % 64:
        bits[place // 64] = (1 << place % 64) - 1
    return bits


def _shift_left(bits: Bits, *, first: bool = False) -> Bits:
    """Return bits moved to the next place; ``first`` comes in at the first one."""
    moved = bits << np.uint64(1)
    moved[1:] |= bits[:-1] >> np.uint64(63)
    moved[0] |= np.uint64(first)
    return moved


def _shift_right(bits: Bits, *, last: bool = False) -> Bits:
    """Return bits moved to the place before; ``last`` comes in at the last one."""
    moved = bits >> np.uint64(1)
    moved[:-1] |= bits[1:] << np.uint64(63)
    moved[-1] |= np.uint64(last) << np.uint64(63)
    return moved


def _odd(marks: Bits) -> Bits:
    """Return where the number of marks so far, the one here included, is odd: bit by bit a sum
    over all before, in a word of 64 bits six shifts."""
    words, moved = marks.copy(), np.empty_like(marks)
    for shift in (1, 2, 4, 8, 16, 32):
        words ^= np.left_shift(words, np.uint64(shift), out=moved)
    odd = np.bitwise_xor.accumulate(words >> np.uint64(63))  # at the end of each word
    words[1:] ^= np.uint64(0) - odd[:-1]  # all bits of a word that begins odd
    return words


def _blank_lines(ends: Bits, returns: Bits | None) -> int:
    """Return how many records of a piece are an empty line, given the places of the line feeds
    that end a record, and those of carriage returns."""
    before = _shift_left(ends, first=True)  # a record begins here
    blank = ends & before
    if returns is not None:
        blank |= ends & _shift_left(returns & before)
    return _count(blank)


def _count(bits: Bits) -> int:
    return int(np.bitwise_count(bits).sum())


def _invalid(piece: bytes, ends: Positions) -> list[int]:
    """Return the place of the first byte that is not UTF-8 of every record that has one."""
    found: list[int] = []
    view, at = memoryview(piece), 0
    while not piece.isascii():
        try:
            codecs.utf_8_decode(view[at:], "strict", True)
        except UnicodeDecodeError as error:
            found.append(at + error.start)
            at = int(ends[np.searchsorted(ends, found[-1])]) + 1
        else:
            break
    return found
