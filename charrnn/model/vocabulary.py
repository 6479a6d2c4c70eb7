"""Characters to ids, once, for training and scoring alike.

Id 0 is padding (``PAD``); the symbols follow from 1 in the order of ``Vocabulary.symbols``, then,
where ``boundaries`` is set, one id each for the begin and the end of a name. A character that is
not a symbol becomes ``UNKNOWN``, ``'_'``: the seed notebook's out-of-vocabulary symbol.

``Vocabulary.encode`` works on the bytes of an Arrow string array: a name of plain ASCII is mapped
by one table look-up over the whole buffer, a name with other characters by one over its code
points, and only names where characters act on each other (white space to squeeze, a Greek sigma
that may be final) pass through Python. The tables are filled by ``normalise`` itself, so the fast
paths have no rules of their own.
"""

from __future__ import annotations

__all__ = [
    "LATIN_VOCABULARY",
    "PAD",
    "SEED_VOCABULARY",
    "UNKNOWN",
    "Counts",
    "Encoded",
    "Ids",
    "Vocabulary",
    "batches",
    "load_u64",
]

import string
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.errors import ConfigError
from charrnn.model.normalise import LATIN, SEED, Normalisation, normalise, transliterate

PAD = 0
UNKNOWN = "_"
_MOST_IDS = 4  # of one character, for the table of code points
_UNSEEN, _IN_CONTEXT, _SPACE = 255, 254, 253  # of a code point, instead of a number of ids
_LETTER, _SIGN, _STRANGE, _BLANK, _SLOW = range(5)  # kinds of bytes: _STRANGE has no id of its own

Ids = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """The ids of N names, not yet padded.

    Attributes:
        flat: uint8; the ids of all names, in no order that matters, and behind them zeros, eight
            more than the longest name has characters.
        starts: int64 ``(N,)``; where in ``flat`` a name begins.
        lengths: int64 ``(N,)``; its number of characters after normalising, 0 for null and empty.
        unknown: int64 ``(N,)``; how many of them are not in the vocabulary.
        letters: int64 ``(N,)``; how many of them are letters of the vocabulary.
        vocabulary: whose ids these are.
    """

    flat: Ids
    starts: Counts
    lengths: Counts
    unknown: Counts
    letters: Counts
    vocabulary: Vocabulary = field(repr=False)

    def __len__(self) -> int:
        return len(self.lengths)

    def padded(self, rows: Counts | None = None) -> tuple[Ids, Counts]:
        """Return ``(ids, lengths)`` of the chosen rows (all when None), ready for the model.

        ``ids`` is uint8 ``(B, T)`` with ``T`` the longest of the chosen names, at least 1, and
        ``PAD`` behind each name's end; ``lengths`` is int64 ``(B,)``. Boundary ids are included.
        """
        starts = self.starts if rows is None else self.starts[rows]
        lengths = self.lengths if rows is None else self.lengths[rows]
        longest = int(lengths.max(initial=0))
        marks = 1 if self.vocabulary.boundaries else 0
        wide = np.zeros((len(lengths), longest + 8 + 2 * marks), np.uint8)  # PAD is 0
        for i in range(0, longest, 8):
            eight = np.ndarray(len(wide), "<u8", wide, marks + i, (wide.shape[1],))
            eight[:] = load_u64(self.flat, starts + i, lengths - i)
        ids = wide[:, : max(1, longest + 2 * marks)]
        if not marks:
            return ids, lengths
        ids[:, 0] = self.vocabulary.begin
        ids[np.arange(len(lengths)), lengths + 1] = self.vocabulary.end
        return ids, lengths + 2


def load_u64(flat: Ids, at: Counts, left: Counts) -> npt.NDArray[np.uint64]:
    """Return the eight bytes of ``flat`` from each of N places on, the first one lowest, uint64
    ``(N,)``; 0 for those that are not among the first ``left``. Eight bytes must be there."""
    words = np.ndarray(len(flat) - 7, "<u8", flat, strides=(1,))
    found: npt.NDArray[np.uint64] = words[at]
    found &= _FIRST_BYTES.take(left, mode="clip")
    return found


_FIRST_BYTES = np.array([2 ** (8 * n) - 1 for n in range(9)], np.uint64)


@dataclass(frozen=True)
class Vocabulary:
    """The ordered symbols of a model and the text rules that go with them.

    Args:
        symbols: distinct characters, ``'_'`` (unknown) among them; ids 1, 2, … in this order.
        normalisation: text rules applied before the look-up.
        boundaries: whether names are encoded with a begin and an end id around them.

    Raises:
        ConfigError: symbols repeat, lack ``'_'``, or do not fit in one byte.
    """

    symbols: str
    normalisation: Normalisation = LATIN
    boundaries: bool = False

    def __post_init__(self) -> None:
        if len(set(self.symbols)) != len(self.symbols):
            raise ConfigError("vocabulary symbols repeat; each character may appear once")
        if UNKNOWN not in self.symbols:
            raise ConfigError(f"vocabulary symbols lack {UNKNOWN!r}, the unknown character")
        if self.size > 255:
            raise ConfigError(f"vocabulary has {self.size} ids; at most 255 fit in a byte")

    @property
    def size(self) -> int:
        """Number of ids, ``PAD`` not counted: the model's input size."""
        return len(self.symbols) + 2 * self.boundaries

    @property
    def begin(self) -> int:
        """Id of the begin mark, where ``boundaries`` is set."""
        return len(self.symbols) + 1

    @property
    def end(self) -> int:
        """Id of the end mark, where ``boundaries`` is set."""
        return len(self.symbols) + 2

    @cached_property
    def unknown_id(self) -> int:
        """Id of a character that is not in the vocabulary."""
        return self._ids[UNKNOWN]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols, start=1)}

    @cached_property
    def _byte_tables(self) -> tuple[bytes, bytes]:
        """For every byte its id, and its kind. A name with a ``_SLOW`` byte needs ``normalise``;
        so does one with a byte above ASCII, and these have no kind."""
        ids, kinds = bytearray(256), bytearray(256)
        for byte in range(128):
            # Between two letters, so that squeezing white space does not hide a space.
            middle = normalise(f"a{chr(byte)}a", self.normalisation)[1:-1]
            if len(middle) == 1 and byte not in b"\t\n\v\f\r\x1c\x1d\x1e\x1f":
                ids[byte] = self._ids.get(middle, self.unknown_id)
                kinds[byte] = _BLANK if byte == 0x20 else self._id_kinds[ids[byte]]
            else:
                kinds[byte] = _SLOW
        return bytes(ids), bytes(kinds)

    @cached_property
    def _id_kinds(self) -> Ids:
        """For every id its kind: ``_LETTER``, ``_SIGN`` or ``_STRANGE``."""
        table = np.full(256, _SIGN, np.uint8)
        table[[i for symbol, i in self._ids.items() if symbol.isalpha()]] = _LETTER
        table[self.unknown_id] = _STRANGE
        return table

    def encode_one(self, text: str, *, latin: bool = False) -> list[int]:
        """Return the ids of one name, without boundary ids: the reference for ``encode``. With
        ``latin``, a name with unknown characters is transliterated first."""
        ids = [self._ids.get(c, self.unknown_id) for c in normalise(text, self.normalisation)]
        if latin and self.unknown_id in ids and not text.isascii():
            return self.encode_one(transliterate(text))
        return ids

    def decode(self, ids: npt.ArrayLike) -> str:
        """Return the normalised text of one name's ids; padding and boundary ids are dropped."""
        return "".join(
            self.symbols[i - 1] for i in np.asarray(ids).tolist() if 1 <= i <= len(self.symbols)
        )

    def encode(self, names: pa.Array, *, latin: bool = False) -> Encoded:
        """Encode an Arrow array of N strings (string, large_string or string_view); a null
        encodes like an empty name. For ``latin`` see ``encode_one``."""
        array = names.cast(pa.large_string())
        array = array.fill_null("") if array.null_count else array
        offsets, data = _buffers(array)
        starts, ends = offsets[:-1], offsets[1:]
        (flat, kinds), lengths = map(data.translate, self._byte_tables), ends - starts
        ids = [np.frombuffer(flat, np.uint8)]
        at, name, kind = _exceptions(np.frombuffer(kinds, np.uint8), _LETTER, ends)
        unknown, letters = self._tally(name, kind, lengths)
        slow = np.zeros(len(ends), bool)
        slow[name[kind == _SLOW]] = True
        slow[_squeezable(at, name, kind == _BLANK, starts, ends)] = True
        if not data.isascii():
            slow |= ~np.asarray(pc.string_is_ascii(array))
        if slow.any():
            rows, starts = np.flatnonzero(slow), starts.copy()
            some, *found = self._encode_characters(array.take(pa.array(rows)), latin)
            starts[rows], lengths[rows], unknown[rows], letters[rows] = found
            starts[rows] += len(ids[0])
            ids.append(some)
        ids.append(np.zeros(lengths.max(initial=0) + 8, np.uint8))
        return Encoded(np.concatenate(ids), starts, lengths, unknown, letters, self)

    def _encode_characters(
        self, names: pa.Array, latin: bool
    ) -> tuple[Ids, Counts, Counts, Counts, Counts]:
        """Return ids, and of each name where in them it starts, how many are its own, and how many
        of these are unknown, and letters."""
        points = np.frombuffer(_buffers(names)[1].decode().encode("utf-32-le"), np.uint32)
        lengths = np.array(pc.utf8_length(names))
        ends = np.cumsum(lengths)
        known_count, known_ids = self._characters
        for point in np.unique(points[known_count[points] == _UNSEEN]).tolist():
            self._learn(point)
        count, flat = known_count[points], known_ids[0][points]
        at, name, kind = _exceptions(count, 1, ends)
        blank, doubtful, gone = kind == _SPACE, *np.zeros((2, len(ends)), bool)
        doubtful[name[kind == _IN_CONTEXT]] = True
        doubtful[_squeezable(at, name, blank, ends - lengths, ends)] = True
        # A character without ids may part two spaces, or stand between one and a name's edge.
        gone[name[kind == 0]] = True
        doubtful[name[blank & gone[name]]] = True
        if not blank.all():
            kind[blank], kind[kind == _IN_CONTEXT] = 1, 0
            count[at] = kind
            flat = np.repeat(flat, count)
            more = kind.astype(np.int64) - 1
            first = at + np.cumsum(more) - more  # where the ids of these characters begin
            for i in range(1, _MOST_IDS):
                longer = kind > i
                flat[first[longer] + i] = known_ids[i][points[at[longer]]]
            lengths += np.bincount(name, more, len(ends)).astype(np.int64)
            ends = np.cumsum(lengths)
        _, name, kind = _exceptions(self._id_kinds[flat], _LETTER, ends)
        unknown, letters = self._tally(name, kind, lengths)
        starts = ends - lengths
        if latin:
            doubtful |= unknown > 0
        if doubtful.any():
            slow = np.flatnonzero(doubtful)
            texts = names.take(pa.array(slow)).to_pylist()
            encoded = [bytes(self.encode_one(text, latin=latin)) for text in texts]
            some = np.frombuffer(b"".join(encoded), np.uint8)
            lengths[slow] = np.fromiter(map(len, encoded), np.int64, len(encoded))
            ends = np.cumsum(lengths[slow])
            starts[slow] = len(flat) + ends - lengths[slow]
            _, name, kind = _exceptions(self._id_kinds[some], _LETTER, ends)
            unknown[slow], letters[slow] = self._tally(name, kind, lengths[slow])
            flat = np.concatenate((flat, some))
        return flat, starts, lengths, unknown, letters

    def _tally(self, name: Counts, kind: Ids, lengths: Counts) -> tuple[Counts, Counts]:
        """Return how many ids of each name are unknown, and how many are letters, given the names
        and the kinds of those that are no letters."""
        strange = kind == _STRANGE
        if self._byte_tables[0][0x20] == self.unknown_id:
            strange |= kind == _BLANK
        unknown = np.bincount(name[strange], minlength=len(lengths))
        return unknown, lengths - np.bincount(name, minlength=len(lengths))

    @cached_property
    def _characters(self) -> tuple[Ids, Ids]:
        """For every code point the number of its ids, and these, ``(_MOST_IDS, code points)``;
        filled as they are met."""
        points = sys.maxunicode + 1
        return np.full(points, _UNSEEN, np.uint8), np.zeros((_MOST_IDS, points), np.uint8)

    def _learn(self, point: int) -> None:
        """Enter what ``normalise`` makes of a character, if that does not depend on others."""
        count, ids = self._characters
        c = chr(point)
        found = normalise(f"a{c}a", self.normalisation)[1:-1]
        known = [self._ids.get(symbol, self.unknown_id) for symbol in found]
        free = (
            normalise(f"a{c}", self.normalisation) == f"a{found}"
            and normalise(f"{c}a", self.normalisation) == f"{found}a"
            and not any(unicodedata.combining(symbol) for symbol in found)  # they swap places
            and not any(map(str.isspace, found))
            and len(found) <= _MOST_IDS
        )
        if free or c == " ":
            ids[: len(known), point] = known
        # The count comes last, since another thread may look.
        count[point] = _SPACE if c == " " else len(known) if free else _IN_CONTEXT

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Vocabulary:
        """Rebuild what ``to_json`` returned."""
        return cls(**{**fields, "normalisation": Normalisation(**fields["normalisation"])})


def _buffers(array: pa.Array) -> tuple[Counts, bytes]:
    """Return the offsets ``(N + 1,)``, from 0, and the bytes of a large_string array without
    nulls."""
    _, offset_buffer, data_buffer = array.buffers()
    if len(array) == 0 or offset_buffer is None:
        return np.zeros(len(array) + 1, np.int64), b""
    offsets = np.frombuffer(offset_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)[offsets[0] : offsets[-1]]
    return offsets - offsets[0], data.tobytes()


def _exceptions(kinds: Ids, usual: int, ends: Counts) -> tuple[Counts, Counts, Ids]:
    """Return where ``kinds`` of names' bytes, one name behind the other, are not the usual one:
    places, the number of the name that ends at the first of ``ends`` behind them, and kinds."""
    at = np.flatnonzero(kinds != usual)
    if len(at) < len(ends) // 4:
        name = np.searchsorted(ends, at, side="right")
    else:
        name = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))[at]
    return at, name, kinds[at]


def _squeezable(
    at: Counts, name: Counts, blank: npt.NDArray[np.bool_], starts: Counts, ends: Counts
) -> Counts:
    """Return the names, some twice, with a space at an edge or beside another space."""
    space, owner = at[blank], name[blank]
    found = (space == starts[owner]) | (space == ends[owner] - 1)
    found[1:] |= np.diff(space) == 1
    squeezed: Counts = owner[found]
    return squeezed


# The seed notebook's 58 symbols: letters, " .,;'" and "_" for anything else.
SEED_VOCABULARY = Vocabulary(symbols=string.ascii_letters + " .,;'" + UNKNOWN, normalisation=SEED)
LATIN_VOCABULARY = Vocabulary(
    symbols=string.ascii_lowercase + " '-." + UNKNOWN, normalisation=LATIN, boundaries=True
)


def batches(lengths: Counts, batch_size: int) -> Iterator[Counts]:
    """Yield row numbers, int64, in batches of one length and at most ``batch_size`` rows, shortest
    names first; every row appears once."""
    order = np.argsort(lengths, kind="stable")
    edges = np.flatnonzero(np.diff(lengths[order])) + 1
    for start, stop in zip([0, *edges], [*edges, len(order)], strict=True):
        for first in range(start, stop, batch_size):
            yield order[first : min(first + batch_size, stop)]
