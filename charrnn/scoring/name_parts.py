"""Names of several words: a given name and a surname, told apart by rules.

Only names that hold a space, a comma or U+001F are looked into. Their words become flat arrays,
each distinct word is looked up once in the tables below, and the rest is arithmetic on the arrays:
there is no Python per name. docs/output.md has the rules as a table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.model.normalise import string_buffers
from charrnn.model.vocabulary import Counts
from charrnn.scoring.options import NameOrder

SEPARATOR = "\x1f"  # between the surname and the given name of two columns, joined into one

Mask = npt.NDArray[np.bool_]
Kinds = npt.NDArray[np.uint8]
# What a word may be, as bits. ASIDE: an initial, or a word in brackets or quotes.
_TITLE, _SUFFIX, _PARTICLE, _CONNECTOR, _ASIDE, _ALSO_GIVEN, _PATRONYMIC = (
    1 << bit for bit in range(7)
)

# Words in lower case; a full stop at a word's end is ignored.
TITLES = """
    dr prof professor professorin mr mrs ms miss mx sir dame prof.dr dr.med dr.-ing dipl-ing
    dipl.-ing herr herrn frau fräulein fru fröken hr mme mlle monsieur madame mademoiselle
    señor señora señorita srta dott dott.ssa dottor dottoressa signor signora signorina
    sig.ra sig.na mevr mevrouw dhr drs mgr judr mudr phdr rndr paeddr inż shri smt д-р г-н
    г-жа проф
""".split()  # noqa: SIM905
# Titles only with the full stop: without it they are names, or parts of names.
TITLES_WITH_STOP = """
    sr. sra. ing. mag. dipl. med. rer. nat. h.c. phil. jur. habil. mult. av. avv. arch.
    geom. rag. sig. lic. eng. rev. hon. fr. capt. col. gen. lt. maj. sgt. mw. ir. bc. κ.
""".split()  # noqa: SIM905
SUFFIXES = """
    jr sr junior júnior senior ii iii iv phd ph.d md m.d esq dds d.d.s dvm m.b.a cpa jd j.d
    llb ll.b llm ll.m msc m.sc bsc b.sc m.a b.a rn csc
""".split()  # noqa: SIM905
PARTICLES = """
    van von vom vander vanden der den de del della dello dei degli delle di da das do dos du
    d' des la las le les lo los el al ul ur bin bint binti ibn ben abu abd zu zum zur am und
    und ter ten te 't op af av o' ó ní uí nic mac mc fitz st ste saint san santa
""".split()  # noqa: SIM905
# Between two halves of a surname, in lower case only: a capital is an initial.
CONNECTORS = ("y", "e", "i")
# Particles that are given names where nothing but one word follows.
GIVEN_PARTICLES = ("al", "ben", "mac", "abu")

_ASIDE_PATTERN = (
    r"""^(?:(?:[\p{Lu}\p{Ll}]\.-?)*[\p{Lu}\p{Ll}]\.?|\p{Lu}\p{Ll}\.|["“„«(\[].*["”“»)\]])$"""
)
# East Slavic: where only the last word is one, surname and given name are before it.
_PATRONYMIC_PATTERN = (
    r"(?:[оеё]вич|[ьм]ич|[ое]вна|ична|[iії]вна|йович|[oe]vich|yich|[oe]vna|ichna|[oy]vych|[iy]vna)$"
)
_EAST_ASIAN = r"[\p{Han}\p{Hangul}\p{Hiragana}\p{Katakana}]"
# Other spaces and commas than ASCII's, and what replaces them.
_ODD = [*zip("\u00a0\u2002\u2003\u2009\u202f\u3000", " " * 6, strict=True),
        *zip("，،、", ",,,", strict=True)]  # fmt: skip
_ASCII = bytes(range(128))
_COMMA, _SPACE, _UNIT = b", \x1f"
_GAPS = np.array([chr(byte).isspace() or byte == _COMMA for byte in range(128)] + [False] * 128)
_MOST_STEPS = 8  # particles and connectors that a surname may have: bounds the work for a cell


@dataclass(frozen=True)
class NameParts:
    """The U texts to score for D names, and which of them are each name's.

    Attributes:
        texts: large_string ``(U,)``: surnames, then given names.
        first_given: index of the first given name, U where there is none.
        surname, given: int64 ``(D,)``: indices into ``texts``, -1 where a name lacks the part. None
            where the texts are the D names themselves, and no name has a given name.
    """

    texts: pa.Array
    first_given: int
    surname: Counts | None = None
    given: Counts | None = None

    @classmethod
    def of(cls, names: pa.Array, order: NameOrder, *, knows_given: bool) -> NameParts:
        """Return the parts of a large_string array ``(D,)`` without nulls.

        Args:
            knows_given: whether the model knows given names; if not, they are left out, and
                ``auto`` leaves names whole.
        """
        whole = not knows_given and order == "auto"
        given, surname = split_names(names, "surname" if whole else order)
        if not knows_given or given.null_count == len(given):
            texts = surname.fill_null("") if surname.null_count else surname
            return cls(texts, len(texts))
        has_given = given.is_valid().to_numpy(zero_copy_only=False)
        alone, pairs = np.flatnonzero(~has_given), np.flatnonzero(has_given)
        surnames = surname.take(pa.array(pairs)).dictionary_encode()
        givens = given.drop_null().dictionary_encode()
        first_paired, first_given = len(alone), len(alone) + len(surnames.dictionary)
        surname_at, given_at = np.empty(len(names), np.int64), np.full(len(names), -1)
        surname_at[alone] = np.arange(len(alone))
        codes = surnames.indices.cast(pa.int64()).fill_null(-1 - first_paired)
        surname_at[pairs] = first_paired + codes.to_numpy()
        given_at[pairs] = first_given + givens.indices.to_numpy()
        texts = [surname.take(pa.array(alone)), surnames.dictionary, givens.dictionary]
        return cls(pa.concat_arrays(texts), first_given, surname_at, given_at)


def join_parts(
    surnames: pa.Array | pa.ChunkedArray | None, givens: pa.Array | pa.ChunkedArray | None
) -> pa.Array | pa.ChunkedArray:
    """Return one name per row for the columns of its parts, large_string ``(N,)`` each, or None:
    ``surname + U+001F + given name``. A name is null where all its parts are."""
    columns = [None if c is None else _without_separator(c) for c in (surnames, givens)]
    parts = [pa.scalar("", pa.large_string()) if c is None else c for c in columns]
    joined = pc.binary_join_element_wise(
        *parts, pa.scalar(SEPARATOR, pa.large_string()), null_handling="replace"
    )
    nulls = [c.is_null() for c in columns if c is not None]
    missing = nulls[0] if len(nulls) == 1 else pc.and_(*nulls)
    return pc.if_else(missing, pa.scalar(None, pa.large_string()), joined)


def _without_separator(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    if not pc.any(pc.match_substring(column, SEPARATOR)).as_py():
        return column
    return pc.replace_substring(column, SEPARATOR, " ")


def split_names(names: pa.Array, order: NameOrder = "auto") -> tuple[pa.Array, pa.Array]:
    """Split D names, a large_string array ``(D,)`` without nulls, into given names and surnames,
    large_string ``(D,)`` each; null where a name lacks the part.

    A name of one word is a surname. U+001F separates a surname and a given name that come from two
    columns, whatever the order. Titles before a part, suffixes behind it, and initials are left out
    unless nothing else is there.

    Args:
        order: ``surname`` leaves names whole, ``comma`` splits at a comma only; ``auto`` takes the
            surname to be last, or first before a comma, in Chinese, Japanese and Korean script and
            in names of three words or more that end in an East Slavic patronymic.

    >>> names = ["Dr. Ada van der Zee", "Zee, Ada B.", "Okafor"]
    >>> [part.to_pylist() for part in split_names(pa.array(names, pa.large_string()))]
    [['Ada', 'Ada', None], ['van der Zee', 'Zee', 'Okafor']]
    """
    names, rows = _with_several_words(names, separator_only=order == "surname")
    no_given = pa.nulls(len(names), pa.large_string())
    if not len(rows):
        return no_given, names
    chosen = names.take(pa.array(rows)) if len(rows) < len(names) else names
    words = _Words.of(chosen)
    words = words.without(_left_out(words))
    is_given = _is_given(words, _surname_first(chosen, words, order), positions=order != "comma")
    given, surname = (words.join(mask) for mask in (is_given, ~is_given))
    neither = pc.and_(given.is_null(), surname.is_null())
    surname = pc.if_else(neither, pa.scalar("", pa.large_string()), surname)
    replaced = np.zeros(len(names), bool)
    replaced[rows] = True
    mask = pa.array(replaced)
    return tuple(pc.replace_with_mask(a, mask, b) for a, b in ((no_given, given), (names, surname)))


def _with_several_words(names: pa.Array, *, separator_only: bool) -> tuple[pa.Array, Counts]:
    """Return the names, with odd spaces and commas replaced by ASCII's, and the rows of those that
    may hold a space, a comma or U+001F; with ``separator_only`` of those with U+001F, as they
    are."""
    offsets, data = string_buffers(names)
    if separator_only:
        if SEPARATOR.encode() not in data:
            return names, offsets[:0]
        return names, _rows_of(np.flatnonzero(np.frombuffer(data, np.uint8) == _UNIT), offsets)
    beyond = data.translate(None, _ASCII)  # in which a search is fast where most is ASCII
    odd = [(other, plain) for other, plain in _ODD if beyond and other.encode() in beyond]
    for other, plain in odd:
        names = pc.replace_substring(names, other, plain)
    if odd:
        offsets, data = string_buffers(names)
    content = np.frombuffer(data, np.uint8)
    gap = content <= _SPACE  # all controls as well: one comparison is faster than a table
    gap |= content == _COMMA
    return names, _rows_of(np.flatnonzero(gap), offsets)


def _rows_of(positions: Counts, offsets: Counts) -> Counts:
    """Return the distinct rows in whose bytes the ascending positions lie."""
    rows = np.searchsorted(offsets[1:], positions, side="right")
    return rows[np.diff(rows, prepend=-1) > 0]


@dataclass(frozen=True)
class _Words:
    """The W words of N names, in order.

    Attributes:
        texts: large_string ``(W,)``.
        kinds: bits ``_TITLE`` and so on, uint8 ``(W,)``.
        name: which name each is of, ascending, int64 ``(W,)``.
        section: how many commas and U+001F are before it in all names, ascending, int64 ``(W,)``.
        behind: whether U+001F is before it in its name, bool ``(W,)``.
        joined: whether each name holds U+001F, bool ``(N,)``.
    """

    texts: pa.Array
    kinds: Kinds
    name: Counts
    section: Counts
    behind: Mask
    joined: Mask

    @classmethod
    def of(cls, names: pa.Array) -> _Words:
        """Return the words of a large_string array ``(N,)`` without nulls or empty names."""
        offsets, content = string_buffers(names)
        data = np.frombuffer(content, np.uint8)
        in_word = np.zeros(len(data) + 2, bool)  # with a gap before and behind
        in_word[1:-1] = ~_GAPS[data]
        edge = np.zeros(len(data) + 1, bool)
        edge[offsets] = True
        begins = np.flatnonzero(in_word[1:] & (edge | ~in_word[:-1]))
        ends = np.flatnonzero(in_word[:-1] & (edge | ~in_word[1:]))
        starts = np.concatenate(([0], np.cumsum(ends - begins)))
        letters = data[in_word[1:-1]]
        buffers = [None, pa.py_buffer(starts), pa.py_buffer(letters)]
        texts = pa.Array.from_buffers(pa.large_string(), len(begins), buffers)
        name = np.cumsum(edge, dtype=np.int32)[begins].astype(np.int64) - 1  # no name is empty
        units = np.flatnonzero(data == _UNIT)
        commas = np.flatnonzero(data == _COMMA)
        unit_row = np.searchsorted(units, offsets)  # units before each name's edges
        before = np.searchsorted(units, begins)
        section = np.searchsorted(commas, begins) + before
        joined = np.diff(unit_row) > 0
        return cls(texts, _kinds(texts), name, section, before > unit_row[name], joined)

    def without(self, words: Mask) -> _Words:
        """Return the other words than those chosen, bool ``(W,)``."""
        if not words.any():
            return self
        chosen = ~words
        return replace(
            self,
            texts=self.texts.filter(pa.array(chosen)),
            kinds=self.kinds[chosen],
            name=self.name[chosen],
            section=self.section[chosen],
            behind=self.behind[chosen],
        )

    def join(self, chosen: Mask) -> pa.Array:
        """Return the chosen words of each name with spaces between, large_string ``(N,)``; null
        where there is none."""
        counts = np.bincount(self.name[chosen], minlength=len(self.joined))
        offsets = pa.array(np.concatenate(([0], np.cumsum(counts))))
        lists = pa.LargeListArray.from_arrays(offsets, self.texts.filter(pa.array(chosen)))
        joined = pc.binary_join(lists, pa.scalar(" ", pa.large_string()))
        return pc.if_else(pa.array(counts > 0), joined, pa.scalar(None, pa.large_string()))


def _kinds(words: pa.Array) -> Kinds:
    """Return what each of W words may be, uint8 ``(W,)``."""
    coded = words.dictionary_encode()
    distinct = coded.dictionary
    kinds = np.zeros(len(distinct), np.uint8)
    folded = pc.utf8_lower(pc.replace_substring(distinct, "’", "'"))
    bare = pc.utf8_rtrim(folded, ".")
    for bit, found, listed in (
        (_TITLE, bare, TITLES),
        (_TITLE, folded, TITLES_WITH_STOP),
        (_SUFFIX, bare, SUFFIXES),
        (_PARTICLE, bare, PARTICLES),
        (_ALSO_GIVEN, bare, GIVEN_PARTICLES),
        (_CONNECTOR, distinct, CONNECTORS),
    ):
        kinds[_mask(pc.is_in(found, pa.array(listed, pa.large_string())))] |= bit
    aside = _mask(pc.match_substring_regex(distinct, _ASIDE_PATTERN))
    kinds[aside & (kinds == 0)] = _ASIDE
    kinds[_mask(pc.match_substring_regex(folded, _PATRONYMIC_PATTERN))] |= _PATRONYMIC
    taken: Kinds = kinds[coded.indices.to_numpy()]
    return taken


def _mask(values: pa.Array) -> Mask:
    mask: Mask = values.to_numpy(zero_copy_only=False)
    return mask


def _left_out(words: _Words) -> Mask:
    """Return which words are left out, bool ``(W,)``: titles before a section, suffixes behind it,
    and asides; but none of a name's first section where that would leave nothing of it."""
    is_first = np.diff(words.section, prepend=-1) != 0  # in its section
    first_of_name = np.diff(words.name, prepend=-1) != 0
    is_first |= first_of_name
    section = np.cumsum(is_first) - 1
    left_out: Mask = (words.kinds & _ASIDE) > 0
    if not len(section):
        return left_out
    starts = np.flatnonzero(is_first)
    ends = np.append(starts[1:], len(section)) - 1
    other = (words.kinds & _TITLE) == 0
    count = np.cumsum(other)
    left_out |= count - (count - other)[starts][section] == 0  # titles up to the word
    other = (words.kinds & _SUFFIX) == 0
    count = np.cumsum(other)
    left_out |= count[ends][section] - count + other == 0  # suffixes from the word on
    kept = np.add.reduceat(~left_out, starts, dtype=np.int64)
    vanishes = first_of_name[starts] & (kept == 0)
    left_out &= ~vanishes[section]
    return left_out


def _surname_first(names: pa.Array, words: _Words, order: NameOrder) -> Mask:
    """Return in which of N names the surname is before the given name, bool ``(N,)``."""
    first: Mask = np.full(len(names), order == "surname-given")
    if order == "auto":
        beyond = np.flatnonzero(~_mask(pc.string_is_ascii(names)))
        first[beyond] = _mask(pc.match_substring_regex(names.take(pa.array(beyond)), _EAST_ASIAN))
        patronymic = (words.kinds & _PATRONYMIC) > 0
        is_last = np.diff(words.name, append=-1) != 0
        alone = np.bincount(words.name[patronymic], minlength=len(names)) == 1
        long = np.bincount(words.name, minlength=len(names)) >= 3
        ending = words.name[is_last & patronymic]
        first[ending] |= (alone & long)[ending]
    return first


def _is_given(words: _Words, surname_first: Mask, *, positions: bool) -> Mask:
    """Return which words belong to a given name, bool ``(W,)``.

    Args:
        surname_first: bool ``(N,)``.
        positions: whether names without a comma are split as well.
    """
    N = len(words.joined)
    count = np.bincount(words.name, minlength=N)
    first = np.cumsum(count) - count  # index of each name's first word
    after_first = words.section != words.section[first[words.name]]  # a comma is before it
    has_comma = np.zeros(N, bool)
    has_comma[words.name[after_first]] = True
    by_position = ~(words.joined | has_comma) & (count > 1) & positions
    place = np.arange(len(words.name)) - first[words.name]
    edge = count.copy()  # place in its name of the first word that is on the other side
    for chosen, edge_of in ((~surname_first, _surname_start), (surname_first, _surname_end)):
        rows = np.flatnonzero(by_position & chosen)
        edge[rows] = edge_of(words.kinds, first[rows], count[rows])
    is_behind = place >= edge[words.name]
    given = by_position[words.name] & (is_behind == surname_first[words.name])
    is_given: Mask = np.where(words.joined[words.name], words.behind, given | after_first)
    return is_given


def _surname_start(kinds: Kinds, first: Counts, count: Counts) -> Counts:
    """Return the place of the first word of the surname of N names in which it is last, int64
    ``(N,)``: the last word, with the particles before it, and across connectors."""
    start = count - 1
    rows = np.arange(len(start))
    for _ in range(_MOST_STEPS):
        rows = rows[start[rows] > 0]
        before = kinds[first[rows] + start[rows] - 1]
        across = (before & _CONNECTOR > 0) & (start[rows] > 1)
        step = np.where(before & _PARTICLE, 1, np.where(across, 2, 0))
        start[rows] -= step
        rows = rows[step > 0]
        if not len(rows):
            break
    also_given = (kinds[first] & _ALSO_GIVEN) > 0
    start[also_given & (start == 0) & (count == 2)] = 1
    return start


def _surname_end(kinds: Kinds, first: Counts, count: Counts) -> Counts:
    """Return the place behind the last word of the surname of N names in which it is first, int64
    ``(N,)``: the particles before the first other word, this word, and on across connectors."""
    end = np.ones(len(count), np.int64)
    rows = np.arange(len(end))
    for _ in range(_MOST_STEPS):
        rows = rows[end[rows] < count[rows]]
        last, after = kinds[first[rows] + end[rows] - 1], kinds[first[rows] + end[rows]]
        across = (after & _CONNECTOR > 0) & (end[rows] + 1 < count[rows])
        step = np.where(last & _PARTICLE, 1, np.where(across, 2, 0))
        end[rows] += step
        rows = rows[step > 0]
        if not len(rows):
            break
    return end
