"""Read the structure of a CSV byte stream: where records end, and whether its quotes are sound.

This is the second opinion that ``staging`` holds a CSV parser against. It never looks at what a
cell says, only at quotes, delimiters and line feeds, by the rules of RFC 4180 with one leniency
that parsers share: a quote inside an unquoted cell (``5" disk``) is an ordinary character.

Almost always every quote either opens a cell, closes one, or is doubled inside one; numpy checks
that for a whole chunk at once. A chunk where it does not hold is walked cell by cell.
"""

from __future__ import annotations

__all__ = ["Structure"]

import re

import numpy as np
import numpy.typing as npt

_QUOTE, _FEED, _RETURN = 0x22, 0x0A, 0x0D
Positions = npt.NDArray[np.int64]


class Structure:
    """The structure of what has been fed so far.

    Attributes:
        blank: records that are an empty line.
        multiline: line feeds inside quoted cells.
        problem: what is wrong and in which line, without any cell; "" while all is well. Nothing
            more is counted once it is set.
    """

    def __init__(self, delimiter: str) -> None:
        self.blank = 0
        self.multiline = 0
        self.first_multiline = 0
        self.problem = ""
        self._delimiter = ord(delimiter)
        self._cell_end = np.zeros(256, bool)
        self._cell_end[[self._delimiter, _FEED, _RETURN]] = True
        self._outside_feeds = 0
        self._line = 1  # physical line of the next byte
        self._inside = False  # of a quoted cell
        self._opened = 0  # the line it was opened in
        self._before = b"\n"  # the last bytes seen; the stream starts like a line does
        self._held = b""  # quotes at a chunk's end wait for the byte behind them
        self._started = False

    @property
    def records(self) -> int:
        """Records seen, header and blank lines included, an unfinished last one too."""
        return self._outside_feeds + (self._before[-1] != _FEED or self._inside)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        if not self._started and chunk:
            self._started = True
            chunk = chunk.removeprefix(b"\xef\xbb\xbf")
        data = self._held + chunk
        ready = data.rstrip(b'"')
        self._held = data[len(ready) :]
        self._take(ready)

    def finish(self) -> None:
        """Take the end of the stream."""
        held, self._held = self._held, b""
        self._take(held)
        if self._inside and not self.problem:
            self.problem = f"the quote opened in line {self._opened} is never closed"

    def _take(self, data: bytes) -> None:
        if not data or self.problem:
            return
        offset = len(self._before)
        window = np.frombuffer(self._before + data, np.uint8)
        feeds = np.flatnonzero(window[offset:] == _FEED) + offset
        if b"\0" in data:
            self._complain(feeds, data.index(b"\0") + offset, "holds a NUL byte; is it UTF-16?")
            return
        quotes = np.flatnonzero(window[offset:] == _QUOTE) + offset
        if not self._all_switch(window, quotes):
            walked = self._walk(window, feeds, offset)
            if walked is None:
                return
            quotes = walked
        # Inside or outside a quoted cell: the parity of the quotes that open or close one.
        inside = (np.searchsorted(quotes, feeds) + self._inside) % 2 == 1
        outside = feeds[~inside]
        if inside.any():
            self.first_multiline = self.first_multiline or self._line_of(feeds, feeds[inside][0])
            self.multiline += int(inside.sum())
        previous = window[outside - 1]
        after_return = outside[(previous == _RETURN) & (outside >= 2)]
        self.blank += int((previous == _FEED).sum() + (window[after_return - 2] == _FEED).sum())
        self._outside_feeds += len(outside)
        opening = quotes[self._inside :: 2]
        opening = opening[window[opening - 1] != _QUOTE]  # not those that double one
        if opening.size:
            self._opened = self._line_of(feeds, opening[-1])
        self._inside = bool((len(quotes) + self._inside) % 2)
        self._line += len(feeds)
        self._before = (self._before + data)[-2:]

    def _all_switch(self, window: npt.NDArray[np.uint8], quotes: Positions) -> bool:
        """Whether every quote opens a cell, closes one or is doubled in one, if each switches
        between inside and outside. By induction that is then what they do."""
        opening = (np.arange(len(quotes)) + self._inside) % 2 == 0
        before = window[quotes[opening] - 1]
        if quotes.size and opening[0] and before[0] == _QUOTE:
            return False  # its neighbour was settled before: this is no doubled quote
        at = quotes[~opening] + 1
        behind = window[at[at < len(window)]]  # at the end of the stream, nothing is behind
        return bool(
            (self._cell_end[before] | (before == _QUOTE)).all()
            and (self._cell_end[behind] | (behind == _QUOTE)).all()
        )

    def _walk(
        self, window: npt.NDArray[np.uint8], feeds: Positions, offset: int
    ) -> Positions | None:
        """Return the quotes that open or close a cell, found cell by cell; None after a problem."""
        data = window.tobytes()
        ends = re.compile(b"[" + re.escape(bytes([self._delimiter])) + b"\r\n]")
        switches: list[int] = []
        inside, at = self._inside, offset
        cell_starts = not inside and bool(self._cell_end[data[at - 1]])
        while at < len(data):
            if inside:
                closing = data.find(b'"', at)
                if closing < 0:
                    break
                behind = data[closing + 1 : closing + 2]
                if behind == b'"':
                    at = closing + 2
                    continue
                if behind and not self._cell_end[behind[0]]:
                    self._complain(feeds, closing, "has text behind a closing quote")
                    return None
                switches.append(closing)
                inside, cell_starts, at = False, False, closing + 1
            elif cell_starts and data[at] == _QUOTE:
                switches.append(at)
                inside, at = True, at + 1
            else:
                end = ends.search(data, at)
                if end is None:
                    break
                cell_starts, at = True, end.end()
        return np.array(switches, np.int64)

    def _complain(self, feeds: Positions, position: int, what: str) -> None:
        self.problem = f"line {self._line_of(feeds, position)} {what}"

    def _line_of(self, feeds: Positions, position: int | np.int64) -> int:
        return self._line + int(np.searchsorted(feeds, position))
