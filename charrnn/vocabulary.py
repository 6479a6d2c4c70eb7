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

__all__ = ["LATIN_VOCABULARY", "PAD", "SEED_VOCABULARY", "UNKNOWN", "Encoded", "Vocabulary"]

import string
import sys
import unicodedata
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view

from charrnn.errors import ConfigError
from charrnn.text import LATIN, SEED, Normalisation, normalise, transliterate

PAD = 0
UNKNOWN = "_"
_MOST_IDS = 4  # of one character, for the table of code points
_UNSEEN, _IN_CONTEXT = 255, 254  # instead of a number of ids

Ids = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """The ids of N names, not yet padded.

    Attributes:
        flat: uint8; the ids of all names, in no order that matters, and as many zeros behind them
            as the longest name has characters.
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
        ids = np.zeros((len(lengths), max(1, longest + 2 * marks)), np.uint8)  # PAD is 0
        if longest:
            plain = sliding_window_view(self.flat, longest)[starts]  # runs on behind a name's end
            inside = np.arange(longest, dtype=np.int32) < lengths.astype(np.int32)[:, None]
            np.multiply(plain, inside, out=ids[:, marks : marks + longest])
        if not marks:
            return ids, lengths
        ids[:, 0] = self.vocabulary.begin
        ids[np.arange(len(lengths)), lengths + 1] = self.vocabulary.end
        return ids, lengths + 2


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
    def _byte_ids(self) -> Ids:
        """Ids of single bytes, 0 where a name with that byte has to go the slow way."""
        table = np.zeros(256, np.uint8)
        for byte in range(128):
            # Between two letters, so that squeezing white space does not hide a space.
            middle = normalise(f"a{chr(byte)}a", self.normalisation)[1:-1]
            if len(middle) == 1:
                table[byte] = self._ids.get(middle, self.unknown_id)
        for byte in b"\t\n\v\f\r\x1c\x1d\x1e\x1f":
            table[byte] = 0
        return table

    @cached_property
    def _letter_ids(self) -> npt.NDArray[np.bool_]:
        table = np.zeros(256, bool)
        for symbol, i in self._ids.items():
            table[i] = symbol.isalpha()
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
        offsets, data = _buffers(array)
        starts, ends = offsets[:-1], offsets[1:]
        flat = np.frombuffer(data.tobytes().translate(self._byte_ids.tobytes()), np.uint8)
        slow = self._slow_names(data, flat, starts, ends)
        lengths = ends - starts
        if slow.size:
            ids, slow_starts, slow_lengths = self._encode_characters(
                array.take(pa.array(slow)), latin
            )
            starts, lengths = starts.copy(), lengths.copy()
            starts[slow], lengths[slow] = len(flat) + slow_starts, slow_lengths
            flat = np.concatenate((flat, ids))
        flat = np.concatenate((flat, np.zeros(lengths.max(initial=0), np.uint8)))
        return Encoded(
            flat=flat,
            starts=starts,
            lengths=lengths,
            unknown=_count_in_spans(flat == self.unknown_id, starts, lengths),
            letters=lengths - _count_in_spans(~self._letter_ids[flat], starts, lengths),
            vocabulary=self,
        )

    def _encode_characters(self, names: pa.Array, latin: bool) -> tuple[Ids, Counts, Counts]:
        """Return ids, and where in them each name starts and how many are its own."""
        offsets, data = _buffers(names)
        begins = np.append(0, np.cumsum(data & 0xC0 != 0x80))[offsets]  # of names, in characters
        starts, lengths = begins[:-1], np.diff(begins)
        points = np.frombuffer(data.tobytes().decode().encode("utf-32-le"), np.uint32)
        known_count, known_ids = self._characters
        for point in np.unique(points[known_count[points] == _UNSEEN]).tolist():
            self._learn(point)
        count = known_count[points]
        space = points == 0x20
        alone = count == _IN_CONTEXT
        alone[1:] |= space[1:] & space[:-1]
        doubtful = _count_in_spans(alone, starts, lengths) > 0
        filled = np.flatnonzero(lengths)
        doubtful[filled] |= space[starts[filled]] | space[begins[filled + 1] - 1]
        # A character without ids may part two spaces, or stand between one and a name's edge.
        spaced = _count_in_spans(space, starts, lengths) > 0
        doubtful |= spaced & (_count_in_spans(count == 0, starts, lengths) > 0)
        count[alone] = 0
        ends = np.cumsum(count)
        flat = np.zeros(ends[-1] if len(ends) else 0, np.uint8)
        for i in range(int(count.max(initial=0))):
            longer = np.flatnonzero(count > i)
            flat[ends[longer] - count[longer] + i] = known_ids[points[longer], i]
        edges = np.append(0, ends)[begins]
        starts, lengths = edges[:-1], np.diff(edges)
        if latin:
            doubtful |= _count_in_spans(flat == self.unknown_id, starts, lengths) > 0
        slow = np.flatnonzero(doubtful)
        texts = names.take(pa.array(slow)).to_pylist()
        encoded = [bytes(self.encode_one(text or "", latin=latin)) for text in texts]
        lengths[slow] = np.fromiter(map(len, encoded), np.int64, len(encoded))
        starts[slow] = len(flat) + np.cumsum(lengths[slow]) - lengths[slow]
        return np.concatenate((flat, np.frombuffer(b"".join(encoded), np.uint8))), starts, lengths

    @cached_property
    def _characters(self) -> tuple[Ids, Ids]:
        """For every code point the number of its ids, and these; filled as they are met."""
        points = sys.maxunicode + 1
        return np.full(points, _UNSEEN, np.uint8), np.zeros((points, _MOST_IDS), np.uint8)

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
        ) or c == " "
        if free:
            ids[point, : len(known)] = known
        count[point] = len(known) if free else _IN_CONTEXT  # last: another thread may look

    @staticmethod
    def _slow_names(data: Ids, flat: Ids, starts: Counts, ends: Counts) -> Counts:
        """Return the sorted rows that need ``normalise``: a byte without an id of its own, or a
        space at a name's edge or beside another space."""
        doubtful = flat == 0
        space = data == 0x20
        doubtful[1:] |= space[1:] & space[:-1]
        slow = np.zeros(len(ends), bool)
        slow[np.searchsorted(ends, np.flatnonzero(doubtful), side="right")] = True
        filled = np.flatnonzero(ends > starts)
        slow[filled] |= space[starts[filled]] | space[ends[filled] - 1]
        return np.flatnonzero(slow)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Vocabulary:
        """Rebuild what ``to_json`` returned."""
        return cls(**{**fields, "normalisation": Normalisation(**fields["normalisation"])})


def _buffers(array: pa.Array) -> tuple[Counts, Ids]:
    """Return the offsets ``(N + 1,)``, from 0, and the bytes of a large_string array. The span of
    a null may hold bytes in Arrow's layout, so nulls are filled with empty strings first."""
    filled = array.fill_null("") if array.null_count else array
    _, offset_buffer, data_buffer = filled.buffers()
    if len(filled) == 0 or offset_buffer is None:
        return np.zeros(len(filled) + 1, np.int64), np.zeros(0, np.uint8)
    offsets = np.frombuffer(offset_buffer, np.int64)[
        filled.offset : filled.offset + len(filled) + 1
    ]
    data = np.frombuffer(data_buffer or b"", np.uint8)[offsets[0] : offsets[-1]]
    return offsets - offsets[0], data


def _count_in_spans(flags: npt.NDArray[np.bool_], starts: Counts, lengths: Counts) -> Counts:
    """Return how many flags are set in each of the spans, int64 ``(N,)``; meant for few flags."""
    set_at = np.flatnonzero(flags)
    before: Counts = np.searchsorted(set_at, starts)
    through: Counts = np.searchsorted(set_at, starts + lengths)
    return through - before


# The seed notebook's 58 symbols: letters, " .,;'" and "_" for anything else.
SEED_VOCABULARY = Vocabulary(symbols=string.ascii_letters + " .,;'" + UNKNOWN, normalisation=SEED)
LATIN_VOCABULARY = Vocabulary(
    symbols=string.ascii_lowercase + " '-." + UNKNOWN, normalisation=LATIN, boundaries=True
)
