"""Characters to ids, by the same code for training and scoring.

Id 0 is padding (``PAD``). The symbols follow from 1 in the order of ``Vocabulary.symbols``, then,
with ``boundaries``, an id each for the begin and the end of a name. A character that is not a
symbol becomes ``UNKNOWN``, ``'_'``: the seed notebook's out-of-vocabulary symbol; under rules that
keep accents, its letter with fewer accents is looked for first.

``Vocabulary.encode`` works on the bytes of an Arrow string array: ASCII names are mapped by one
table look-up over the whole buffer, others by one over their code points. Names whose characters
depend on each other (white space to collapse, accents to compose) are normalised first. The tables
are computed with ``normalise``, so there are no other rules.
"""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.errors import ConfigError
from charrnn.model.normalise import (
    ACCENTS,
    LATIN,
    SEED,
    Normalisation,
    beside_any,
    map_characters,
    normalise,
    normalise_array,
    string_buffers,
    transliterate,
    transliterate_array,
)

PAD = 0
UNKNOWN = "_"
IDEOGRAPH = "一"  # a symbol that also stands for the ideographs that are none,
SIMPLIFIED, JAPANESE = "们", "込"  # and those for ones that only China, or only Japan, writes
GIVEN = "\ue000"  # put before a given name; a symbol of the models that know given names
MAX_IDS = 255  # of a vocabulary, without PAD: one byte each
_HAN = "CJK"
_LEAST_SHARE = 0.01  # of a script's names: with fewer, one of up to 100 labels does not use it
_NAMES_A_SYMBOL = 5000  # a character that fewer names of its script have takes no id
# Kinds of ASCII bytes and of ids. _SLOW: the name is to be normalised.
_LETTER, _OTHER, _UNKNOWN, _SPACE, _SLOW = range(5)
_OF_EACH = ("starts", "lengths", "unknown", "letters")  # what ``Encoded`` has a value of for a name

Ids = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """The ids of N names, not padded.

    Attributes:
        flat: uint8; the ids of all names, in no particular order, then at least 8 + max(lengths)
            zeros, so that reads past a name's end stay inside.
        starts: int64 ``(N,)``; index into ``flat`` of each name's first id.
        lengths: int64 ``(N,)``; characters after normalising, 0 for null and empty names.
        unknown: int64 ``(N,)``; how many of them are not in the vocabulary.
        letters: int64 ``(N,)``; how many of them are letters of the vocabulary.
        vocabulary: the vocabulary of the ids.
    """

    flat: Ids
    starts: Counts
    lengths: Counts
    unknown: Counts
    letters: Counts
    vocabulary: Vocabulary = field(repr=False)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def given(self) -> npt.NDArray[np.bool_]:
        """Which names begin with ``GIVEN``, bool ``(N,)``."""
        mark = self.vocabulary.given
        begins: npt.NDArray[np.bool_] = (self.lengths > 0) & (self.flat[self.starts] == mark)
        return begins & (mark > 0)

    def take(self, rows: Counts) -> Encoded:
        """Return the names of these row numbers."""
        return replace(self, **{column: getattr(self, column)[rows] for column in _OF_EACH})

    def replaced(self, rows: Counts, others: Encoded) -> Encoded:
        """Return the same names, but for those of the row numbers, which ``others`` are."""
        new = {column: getattr(self, column).copy() for column in _OF_EACH}
        for column in _OF_EACH:
            new[column][rows] = getattr(others, column)
        new["starts"][rows] += len(self.flat)
        zeros = np.zeros(self.lengths.max(initial=0) + 8, np.uint8)
        return replace(self, flat=np.concatenate((self.flat, others.flat, zeros)), **new)

    def marked(self, first: int, mark: str) -> Encoded:
        """Return the same names with a symbol of the vocabulary put before all from row ``first``
        on."""
        starts, lengths = self.starts.copy(), self.lengths.copy()
        own = lengths[first:] + 1
        ends = np.cumsum(own)
        starts[first:] = len(self.flat) + ends - own
        lengths[first:] = own
        shift = self.starts[first:] - 1 - (ends - own)  # from a place in marked to one in flat
        marked = self.flat[np.arange(own.sum()) + np.repeat(shift, own)]
        marked[ends - own] = self.vocabulary.symbols.index(mark) + 1
        zeros = np.zeros(lengths.max(initial=0) + 8, np.uint8)
        flat = np.concatenate((self.flat, marked, zeros))
        return replace(self, flat=flat, starts=starts, lengths=lengths)

    def padded(self, rows: Counts | None = None) -> tuple[Ids, Counts]:
        """Return ``(ids, lengths)`` of the chosen rows (all when None), input of ``CharRNN``.

        ``ids`` is uint8 ``(B, T)`` with T = max(1, longest chosen name) and ``PAD`` behind each
        name's end; ``lengths`` is int64 ``(B,)``. Both include the boundary ids.
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
    """Return the eight bytes of ``flat`` from each of N indices on, the first byte lowest, as
    uint64 ``(N,)``; only the first ``left`` of them, the others are 0. ``at`` and ``left`` are
    ``(N,)``; at least eight bytes must follow each index.

    >>> flat = np.arange(1, 13, dtype=np.uint8)
    >>> [hex(n) for n in load_u64(flat, at=np.array([0, 4]), left=np.array([3, 8]))]
    ['0x30201', '0xc0b0a0908070605']
    """
    words = np.ndarray(len(flat) - 7, "<u8", flat, strides=(1,))
    eights: npt.NDArray[np.uint64] = words[at]
    eights &= _FIRST_BYTES.take(left, mode="clip")
    return eights


_FIRST_BYTES = np.array([2 ** (8 * n) - 1 for n in range(9)], np.uint64)


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a model, in the order of their ids, and the text rules applied before.

    Args:
        symbols: distinct characters, ``'_'`` (unknown) among them; ids 1, 2, … in this order.
        normalisation: text rules applied before the look-up.
        boundaries: whether a begin and an end id are put around each name.

    Raises:
        ConfigError: symbols repeat, lack ``'_'``, do not fit in one byte, or are neither printable
            nor ``GIVEN``.

    >>> LATIN_VOCABULARY.encode_one("Müller")
    [13, 21, 12, 12, 5, 18]
    >>> LATIN_VOCABULARY.decode([13, 21, 12, 12, 5, 18])
    'muller'
    """

    symbols: str
    normalisation: Normalisation = LATIN
    boundaries: bool = False

    def __post_init__(self) -> None:
        if self.size > MAX_IDS:
            raise ConfigError(f"vocabulary must have ≤ {MAX_IDS} ids (one byte), got {self.size}")
        if len(set(self.symbols)) != len(self.symbols):
            raise ConfigError(f"vocabulary symbols must be distinct, got {self.symbols!r}")
        if UNKNOWN not in self.symbols:
            raise ConfigError(
                f"vocabulary symbols must contain {UNKNOWN!r} (unknown), got {self.symbols!r}"
            )
        odd = [symbol for symbol in self.symbols if not symbol.isprintable() and symbol != GIVEN]
        if odd:
            raise ConfigError(
                f"vocabulary symbols must be printable or the mark of given names, got {odd[0]!a}"
            )

    @classmethod
    def of_names(
        cls,
        names: Sequence[str],
        label_ids: Sequence[int] | npt.NDArray[np.int64],
        normalisation: Normalisation = ACCENTS,
        *,
        boundaries: bool = True,
        least: int = 3,
        coverage: float = 0.0,
    ) -> Self:
        """Return a vocabulary of the characters of N names, in the order of their code points.

        ``'_'`` is a symbol in any case, as is ``GIVEN`` where a name has it. A script that one
        label uses gets one symbol, its most frequent character: the script tells the label, and its
        letters would take the ids of those that tell labels apart. Of the others, characters in at
        least ``least`` names, and in one of ``_NAMES_A_SYMBOL`` of their script, are symbols while
        there are ids, first those of the script that most labels use, and of a script the most
        frequent. Ideographs are more than there are ids: ``SIMPLIFIED`` is the symbol of those
        that are not in JIS X 0208, ``JAPANESE`` of those of it that are in neither GB 2312 nor
        Big5, ``IDEOGRAPH`` of all others; and the ids that are left go to those whose frequency
        differs most from label to label. Where Hangul syllables have no id, jamo are symbols,
        which spell them.

        Args:
            label_ids: int ``(N,)``.
            coverage: share of the characters, each counted once for a name, that must be symbols
                while there are ids, however few names have them.

        >>> names = ["Dvořák", "Novák", "Wójcik", "Wójcicki", "山田", "山本"]
        >>> Vocabulary.of_names(names, [0, 0, 1, 1, 2, 2], least=2).symbols
        '_cijkovwáó山'
        """
        free = MAX_IDS - 2 * boundaries
        normalised = [normalise(name, normalisation) for name in names]
        symbols = _distinguishing(normalised, label_ids, least, coverage, free)
        return cls("".join(sorted(symbols)), normalisation, boundaries)

    @property
    def size(self) -> int:
        """Number of ids without ``PAD``: the network's ``vocabulary_size``."""
        return len(self.symbols) + 2 * self.boundaries

    @property
    def begin(self) -> int:
        """Id of the begin mark; in use with ``boundaries``."""
        return len(self.symbols) + 1

    @property
    def end(self) -> int:
        """Id of the end mark; in use with ``boundaries``."""
        return len(self.symbols) + 2

    @property
    def given(self) -> int:
        """Id of ``GIVEN``; 0, which is no id of a name, without that symbol."""
        return self.symbols.find(GIVEN) + 1

    @cached_property
    def unknown_id(self) -> int:
        """Id of a character that is not in the vocabulary."""
        return self._ids[UNKNOWN]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols, start=1)}

    @cached_property
    def _script_ids(self) -> dict[str, int]:
        """The ids of symbols that stand for any character of their script, by script: the only one
        of a script, and ``IDEOGRAPH``; see ``_standing_for`` for others."""
        counts = Counter(map(_script, self.symbols))
        alone = {_script(c): i for c, i in self._ids.items() if counts[_script(c)] == 1}
        if IDEOGRAPH in self._ids:
            alone[_script(IDEOGRAPH)] = self._ids[IDEOGRAPH]
        return {script: i for script, i in alone.items() if script}

    def _ids_of(self, character: str) -> bytes:
        """Return the ids of one normalised character: usually one, its own. Where the rules keep
        accents and it is no symbol: those of the character without its last accent or, when it has
        none, of its ASCII letters."""
        own = self._ids.get(character)
        if own is not None or not self.normalisation.composes or character == " ":
            return bytes([own or self.unknown_id])
        apart = unicodedata.normalize("NFD", character)
        if _is_syllable(character) and self._ids.keys() >= set(apart):
            plainer = apart
        elif len(apart) > 1:
            plainer = unicodedata.normalize("NFC", apart[:-1])
        else:
            plainer = normalise(character, LATIN)
        if plainer == character:
            of_script = self._script_ids.get(_script(character), self.unknown_id)
            return bytes([self._ids.get(_standing_for(character), of_script)])
        return b"".join(map(self._ids_of, plainer))

    @cached_property
    def _byte_tables(self) -> tuple[bytes, bytes]:
        """The id and the kind of each byte, 256 bytes each; those of bytes ≥ 128 are not used,
        since names that are not ASCII take another tier."""
        ids, kinds = bytearray(256), bytearray(256)
        for byte in range(128):
            own = self._ids_beside_any(chr(byte))
            if own is not None and len(own) == 1:
                ids[byte], kinds[byte] = own[0], self._id_kinds[own[0]]
            else:
                kinds[byte] = _SLOW
        return bytes(ids), bytes(kinds)

    @cached_property
    def _id_kinds(self) -> Ids:
        """The kind of each id, uint8 ``(256,)``; a space that is no symbol is ``_UNKNOWN``."""
        table = np.full(256, _OTHER, np.uint8)
        table[self._ids.get(" ", 0)] = _SPACE
        letters = [i for symbol, i in self._ids.items() if symbol.isalpha()]
        table[[*letters, *self._script_ids.values()]] = _LETTER  # a mark may stand for letters
        table[self.unknown_id] = _UNKNOWN
        return table

    def encode_one(self, text: str, *, latin: bool = False) -> list[int]:
        """Return the ids of one name, without boundary ids: the reference for ``encode``. With
        ``latin``, a name with unknown characters is transliterated first."""
        ids = [*b"".join(map(self._ids_of, normalise(text, self.normalisation)))]
        if latin and self.unknown_id in ids and not text.isascii():
            mark = GIVEN if text.startswith(GIVEN) else ""
            return self.encode_one(mark + transliterate(text.removeprefix(mark)))
        return ids

    def decode(self, ids: npt.ArrayLike) -> str:
        """Return the normalised text of one name's ids ``(T,)``; padding and boundary ids are
        dropped."""
        return "".join(
            self.symbols[i - 1] for i in np.asarray(ids).tolist() if 1 <= i <= len(self.symbols)
        )

    def encode(self, names: pa.Array, *, latin: bool = False) -> Encoded:
        """Encode an Arrow array of N strings (string, large_string or string_view); a null is
        encoded as an empty name. For ``latin`` see ``encode_one``."""
        array = names.cast(pa.large_string())
        array = array.fill_null("") if array.null_count else array
        offsets, data = string_buffers(array)
        foreign = np.zeros(len(array), bool)
        if not data.isascii():
            foreign = ~np.asarray(pc.string_is_ascii(array))
        if 2 * foreign.sum() > len(foreign):  # then one look-up for all names is faster
            encoded = self._encode_characters(array)
        else:
            ids, kinds = (np.frombuffer(data.translate(t), np.uint8) for t in self._byte_tables)
            encoded, others = self._counted(ids, kinds, offsets)
            if (others | foreign).any():
                rows = np.flatnonzero(others | foreign)
                of_rows = self._encode_characters(array.take(pa.array(rows)))
                encoded = encoded.replaced(rows, of_rows)
        if latin and (foreign & (encoded.unknown > 0)).any():
            rows = np.flatnonzero(foreign & (encoded.unknown > 0))
            texts = array.take(pa.array(rows))
            letters = transliterate_array(texts)
            marked = pc.replace_substring_regex(letters, "^", GIVEN)
            letters = pc.if_else(pc.starts_with(texts, GIVEN), marked, letters)
            encoded = encoded.replaced(rows, self._encode_characters(letters))
        return encoded

    def _encode_characters(self, names: pa.Array, *, normalised: bool = False) -> Encoded:
        """Encode names without nulls, a large_string array, by code point."""
        mapped, depend = map_characters(names, self._ids_of if normalised else self._ids_beside_any)
        offsets, data = string_buffers(mapped)
        ids = np.frombuffer(data, np.uint8)
        encoded, spaced = self._counted(ids, self._id_kinds[ids], offsets)
        rows = np.flatnonzero(depend | spaced)
        if normalised or not len(rows):
            return encoded
        texts = normalise_array(names.take(pa.array(rows)), self.normalisation)
        return encoded.replaced(rows, self._encode_characters(texts, normalised=True))

    def _ids_beside_any(self, character: str) -> bytes | None:
        """Return the ids of what a character becomes beside any others; None where it depends on
        them."""
        text = beside_any(character, self.normalisation)
        return None if text is None else b"".join(map(self._ids_of, text))

    def _counted(
        self, ids: Ids, kinds: Ids, offsets: Counts
    ) -> tuple[Encoded, npt.NDArray[np.bool_]]:
        """Return N names from their ids, one name after the other, of these kinds, between
        ``offsets`` ``(N + 1,)``; and which of them may not be normalised, bool ``(N,)``: those with
        a ``_SLOW`` byte, or with a space at an edge or beside another."""
        starts, ends = offsets[:-1], offsets[1:]
        lengths, N = ends - starts, len(ends)
        at = np.flatnonzero(kinds != _LETTER)
        if len(at) < N // 4:  # then a search for each is faster
            name = np.searchsorted(ends, at, side="right")
        else:
            name = np.repeat(np.arange(N), lengths)[at]
        kind = kinds[at]
        unknown = np.bincount(name[kind == _UNKNOWN], minlength=N)
        letters = lengths - np.bincount(name, minlength=N)
        is_space = kind == self._id_kinds[self._ids.get(" ", self.unknown_id)]
        spaces, names = at[is_space], name[is_space]
        extra = (spaces == starts[names]) | (spaces == ends[names] - 1)
        extra[1:] |= np.diff(spaces) == 1
        odd = np.zeros(N, bool)
        odd[names[extra]] = odd[name[kind == _SLOW]] = True
        flat = np.concatenate((ids, np.zeros(lengths.max(initial=0) + 8, np.uint8)))
        return Encoded(flat, starts, lengths, unknown, letters, self), odd


def _distinguishing(
    names: Sequence[str],
    label_ids: Sequence[int] | npt.NDArray[np.int64],
    least: int,
    coverage: float,
    free: int,
) -> set[str]:
    """Return at most ``free`` symbols for normalised names; see ``Vocabulary.of_names``."""
    counts: Counter[str] = Counter()  # names by character
    labels: dict[str, Counter[int]] = {}  # names by label, by script
    for name, label_id in zip(names, label_ids, strict=True):
        characters = set(name)
        counts.update(characters)
        for script in set(map(_script, characters)):
            labels.setdefault(script, Counter())[int(label_id)] += 1
    least_share = _LEAST_SHARE * min(1, 100 / max(1, len(set(map(int, label_ids)))))
    uses = {  # number of labels; a few names do not make a script one of a label's
        script: sum(n >= least_share * by_label.total() for n in by_label.values())
        for script, by_label in labels.items()
    }
    falling = sorted(counts.values(), reverse=True)
    last = np.searchsorted(np.cumsum(falling), coverage * counts.total())
    least = min([least, *falling[last : last + 1]])
    share = 0 if coverage else 1 / _NAMES_A_SYMBOL
    frequent = [
        c
        for c, n in counts.items()
        if n >= max(least, share * labels[_script(c)].total()) and c.isprintable()
    ]
    frequent.sort(key=lambda c: (-uses[_script(c)], -counts[c], c))
    first, others = {UNKNOWN, GIVEN} & {UNKNOWN, *counts}, list[str]()
    represented = set[str]()  # scripts with one symbol
    for c in frequent:
        script = _script(c)
        if not script or (uses[script] > 1 and script != _HAN):
            others.append(c)
        elif script not in represented:
            represented.add(script)
            first.add(c if uses[script] == 1 else IDEOGRAPH)
    if IDEOGRAPH in first:
        ideographs = [c for c in frequent if _script(c) == _HAN]
        first.update(map(_standing_for, ideographs))
        others += _telling_ideographs(names, label_ids, ideographs)
    others = [c for c in others if c not in first]
    syllables = {c for c in counts if _is_syllable(c) and uses[_script(c)] > 1}
    if syllables.difference(others[: free - len(first)]):  # the others are spelled
        first.update(*(unicodedata.normalize("NFD", c) for c in syllables))
    return first.union(others[: free - len(first)])


def _is_syllable(character: str) -> bool:
    """Return whether a character is a Hangul syllable, which jamo spell."""
    return "\uac00" <= character <= "\ud7a3"


def _telling_ideographs(
    names: Sequence[str], label_ids: Sequence[int] | npt.NDArray[np.int64], ideographs: list[str]
) -> list[str]:
    """Return ideographs by how much more of a label's names in ideographs have them than of any
    other label's."""
    written, having = Counter[int](), {c: Counter[int]() for c in ideographs}
    for name, label_id in zip(names, label_ids, strict=True):
        if found := having.keys() & set(name):
            written[int(label_id)] += 1
            for c in found:
                having[c][int(label_id)] += 1

    def lead(c: str) -> float:
        shares = sorted((n / written[label] for label, n in having[c].items()), reverse=True)
        return shares[0] - sum(shares[1:2])

    return sorted(ideographs, key=lambda c: (-lead(c), c))


def _standing_for(character: str) -> str:
    """Return the symbol that stands for an ideograph that is none, or another character itself.

    >>> [_standing_for(c) for c in "张沢山é"]
    ['们', '込', '一', 'é']
    """
    if _script(character) != _HAN:
        return character
    if not _is_in("shift_jis", character):
        return SIMPLIFIED
    return IDEOGRAPH if _is_in("gb2312", character) or _is_in("big5", character) else JAPANESE


def _is_in(encoding: str, character: str) -> bool:
    return bool(character.encode(encoding, "ignore"))


@cache
def _script(character: str) -> str:
    """Return the first word of the Unicode name of a letter or a mark, such as ``THAI``; of other
    characters ``""``."""
    is_letter = character.isalpha() or unicodedata.category(character).startswith("M")
    return unicodedata.name(character, "").split(" ")[0] if is_letter else ""


# The seed notebook's 58 symbols: letters, " .,;'" and "_" for anything else.
SEED_VOCABULARY = Vocabulary(symbols=string.ascii_letters + " .,;'" + UNKNOWN, normalisation=SEED)
LATIN_VOCABULARY = Vocabulary(
    symbols=string.ascii_lowercase + " '-." + UNKNOWN, normalisation=LATIN, boundaries=True
)


def batches(lengths: Counts, batch_size: int) -> Iterator[Counts]:
    """Yield row numbers, int64 ``(B,)``, in batches of equal length and at most ``batch_size``
    rows, shortest names first; every row appears once.

    >>> [rows.tolist() for rows in batches(np.array([2, 1, 2, 2]), batch_size=2)]
    [[1], [0, 2], [3]]
    """
    order = np.argsort(lengths, kind="stable")
    edges = np.flatnonzero(np.diff(lengths[order])) + 1
    for start, stop in zip([0, *edges], [*edges, len(order)], strict=True):
        for first in range(start, stop, batch_size):
            yield order[first : min(first + batch_size, stop)]
