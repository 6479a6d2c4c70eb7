"""Raw text to normalised text, by the same pure function for training and scoring.

A ``Normalisation`` is data, stored in every model version, so names are always normalised by the
rules their model was trained with. Three are predefined:

* ``SEED``: the seed notebook's ``unicodeToAscii`` (canonical decomposition, combining marks
  stripped): ``'Ślusàrski'`` → ``'Slusarski'``. Letters without a decomposition, such as ``ł`` and
  ``ß``, stay and become unknown characters.
* ``LATIN``: compatibility decomposition, marks stripped, lower-cased, then letters without a
  decomposition and look-alike punctuation folded to ASCII: ``'Straße'`` → ``'strasse'``,
  ``'O’Neill'`` → ``"o'neill"``. Folds and duplicates are defined by it (``training.corpus``).
* ``ACCENTS``: letters keep their accents, as composed characters, and letters such as ``ł`` and
  ``ß`` stay: ``'Dvořák'`` → ``'dvořák'``, ``'O’Neill'`` → ``"o'neill"``. Hangul syllables are
  written as jamo, katakana as hiragana, so that a few dozen symbols cover them.

All drop characters without a glyph (controls, zero-width marks) and combining marks that are not
part of a composed character, and collapse white space.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_BLOCK = 2**18  # texts that are normalised at a time: some 500 bytes each are needed
# Look-alikes of the punctuation in the training names.
_PUNCTUATION = str.maketrans(
    dict.fromkeys("‘’‚‛ʻʼʽʾʿ′`´ꞌ＇", "'") | dict.fromkeys("‐‑‒–—―−﹣－", "-")
)
# Forms of one letter: the sigma at the end of a word, and katakana. Full-width letters and
# ligatures are forms that Unicode itself decomposes.
_LETTER_FORMS = {point: point - 0x60 for point in (*range(0x30A1, 0x30F7), 0x30FD, 0x30FE)}
_LETTER_FORMS |= str.maketrans("ςヷヸヹヺ", "σわゐゑを")
# Letters that Unicode does not decompose, by ICU's Latin-ASCII rules.
_LETTERS = str.maketrans("øłđðħıĸŋŧəƒɓɗƙƴ", "olddhikntafbdky") | str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "þ": "th"}
)
_HANGUL = re.compile("[\uac00-\ud7a3]+")  # syllables, which the composed form makes of jamo
# Marks that write vowels: Indic scripts, Thai, Lao, Tibetan, Myanmar; Khmer.
_VOWEL_SIGN = re.compile("[\u0900-\u109f\u1780-\u17ff]")
_ACCENTED = ("LATIN", "GREEK")  # scripts whose accents writers leave out; of Cyrillic only ё
_INVISIBLE = frozenset(("Mn", "Me", "Cf", "Cc"))  # Unicode categories: marks, formats, controls


@dataclass(frozen=True)
class Normalisation:
    """Text rules, stored with a model.

    Args:
        form: Unicode normalisation form. NFD and NFKD take letters and accents apart, and accents
            are dropped; NFKC keeps the accents that Unicode composes with their letter.
        lowercase: whether letters are lower-cased.
        fold: characters that Unicode does not decompose: "none" are mapped; "punctuation":
            apostrophes and hyphens to ASCII, and forms of one letter to one (final sigma,
            katakana); "plain": these, and Latin and Greek letters without their accents, and ``ё``
            to ``е``; "ascii": punctuation, and Latin letters such as ``ł`` and ``ß``, to ASCII.
        jamo: whether Hangul syllables are written as jamo, in the form NFKC.
        vowel_signs: whether to keep the combining marks of Indic and South-East Asian scripts,
            where they write vowels; all others that Unicode does not compose are dropped.
    """

    form: Literal["NFD", "NFKD", "NFKC"] = "NFKD"
    lowercase: bool = True
    fold: Literal["none", "punctuation", "plain", "ascii"] = "ascii"
    jamo: bool = True
    vowel_signs: bool = False

    @property
    def composes(self) -> bool:
        """Whether letters keep their accents."""
        return self.form == "NFKC"


SEED = Normalisation(form="NFD", lowercase=False, fold="none")
LATIN = Normalisation()
ACCENTS = Normalisation(form="NFKC", fold="punctuation")


def normalise(text: str, rules: Normalisation = LATIN) -> str:
    """Return the canonical form of ``text`` under ``rules``: idempotent, possibly empty, not longer
    than the Unicode decomposition of ``text``.

    >>> normalise(" Ślusàrski\u200b ")
    'slusarski'
    >>> normalise("Straße", SEED)
    'Straße'
    >>> normalise("S\u0301LUSA\u0300RSKI", ACCENTS)
    'ślusàrski'
    """
    fold = _fold(rules.fold)
    source = unicodedata.normalize("NFC", text) if rules.composes else text
    # Fold first: the compatibility form would turn ´ into a space and a mark.
    formed = unicodedata.normalize("NFD" if rules.form == "NFD" else "NFKD", source.translate(fold))
    if rules.lowercase:
        formed = formed.lower()
    if rules.composes:  # after lower-casing: ǰ has no capital
        formed = unicodedata.normalize(rules.form, formed)
    visible = "".join(
        " " if c.isspace() else c
        for c in formed
        if c.isspace()
        or unicodedata.category(c) not in _INVISIBLE
        or (rules.vowel_signs and _VOWEL_SIGN.match(c))
    )
    # Again: letters that were capital or composed until now, and marks that a joiner kept apart.
    visible = unicodedata.normalize(rules.form, visible.translate(fold))
    if rules.composes and rules.jamo:
        visible = _HANGUL.sub(lambda match: unicodedata.normalize("NFD", match[0]), visible)
    return " ".join(visible.split())


@cache
def _fold(name: str) -> Mapping[int, int | str]:
    """Return what the characters become that a ``Normalisation.fold`` maps, by code point."""
    if name == "ascii":
        return _PUNCTUATION | _LETTERS
    forms = _PUNCTUATION | _LETTER_FORMS if name != "none" else {}
    if name != "plain":
        return forms
    capitals = {c.upper(): c.translate(_LETTERS).upper() for c in map(chr, _LETTERS) if c != "ß"}
    letters = _LETTERS | str.maketrans(capitals)
    plain: dict[int, int | str] = {}
    for c in map(chr, (*range(0xC0, 0x400), *range(0x1E00, 0x2000), *map(ord, "Ёё"))):
        if c in "Ёё" or unicodedata.name(c, "").split(" ")[0] in _ACCENTED:
            apart = unicodedata.normalize("NFKD", c)
            plain[ord(c)] = "".join(x for x in apart if x.isalpha()).translate(letters) or c
    return plain | forms


def normalise_array(
    texts: pa.LargeStringArray, rules: Normalisation = LATIN
) -> pa.LargeStringArray:
    """Return ``normalise`` of each of N texts without nulls, large_string ``(N,)``: by a look-up
    over the code points; texts whose characters depend on each other one by one.

    >>> normalise_array(pa.array(["Novak", " Ślusàrski"], pa.large_string())).to_pylist()
    ['novak', 'slusarski']
    """
    blocks = [texts.slice(first, _BLOCK) for first in range(0, len(texts), _BLOCK)]
    return pa.concat_arrays([_normalised(block, rules) for block in blocks or [texts]])


def _normalised(texts: pa.LargeStringArray, rules: Normalisation) -> pa.LargeStringArray:
    """Return ``normalise_array`` of one block."""
    mapped, slow = map_characters(texts, partial(beside_any, rules=rules))
    slow |= pc.match_substring_regex(mapped, "^ | $|  ").to_numpy(zero_copy_only=False)
    if not slow.any():
        return mapped
    others = texts.filter(pa.array(slow)).dictionary_encode()
    composed = pc.utf8_normalize(others.dictionary, form="NFC")
    if rules.composes and not composed.equals(others.dictionary):
        normalised = _normalised(composed, rules)  # many do not depend on each other any more
    else:
        one_by_one = [normalise(text, rules) for text in composed.to_pylist()]
        normalised = pa.array(one_by_one, pa.large_string())
    return pc.replace_with_mask(mapped, pa.array(slow), normalised.take(others.indices))


@cache
def beside_any(character: str, rules: Normalisation) -> str | None:
    """Return what a character becomes beside any others; None where it depends on them."""
    text = normalise(f"a{character}a", rules)[1:-1]
    depends = (
        normalise(f"a{character}", rules) != f"a{text}"
        or normalise(f"{character}a", rules) != f"{text}a"
        or (text != " " and any(map(str.isspace, text)))
        or (text == " " and character != " ")
        or any(unicodedata.combining(c) for c in text)  # marks may be reordered
        or (rules.composes and unicodedata.normalize("NFKD", character)[0] in _composing())
    )
    return None if depends and character != " " else text


@cache
def _composing() -> frozenset[str]:
    """Return the characters that Unicode composes with a character before them, but for jamo."""
    apart = (unicodedata.normalize("NFD", chr(point)) for point in range(0xC0, 0x20000))
    return frozenset(c for text in apart for c in text[1:] if not "\u1100" <= c <= "\u11ff")


def map_characters(
    texts: pa.LargeStringArray, mapped: Callable[[str], str | bytes | None]
) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Return each of N texts without nulls with every character replaced by what ``mapped`` returns
    for it, large_string or large_binary ``(N,)``; and which of them have one that it returns None
    for, bool ``(N,)``. ``mapped`` is called once for each distinct character."""
    points = np.frombuffer(string_buffers(texts)[1].decode().encode("utf-32-le"), np.uint32)
    code = np.zeros(points.max(initial=0) + 1, np.int32)
    code[points] = 1
    distinct = np.flatnonzero(code)
    code[distinct] = np.arange(len(distinct))
    codes = code[points]
    found = [mapped(chr(point)) for point in distinct.tolist()]
    kind = pa.large_binary() if any(isinstance(p, bytes) for p in found) else pa.large_string()
    pieces = pa.array(found, kind).fill_null("").take(pa.array(codes))
    ends, data = string_buffers(pieces)
    edges = np.concatenate(([0], np.cumsum(pc.utf8_length(texts).to_numpy())))
    unmapped = np.zeros(len(texts), bool)
    if None in found:
        is_none = np.array([piece is None for piece in found])[codes]
        unmapped = np.diff(np.concatenate(([0], np.cumsum(is_none)))[edges]) > 0
    buffers = [None, pa.py_buffer(ends[edges].tobytes()), pa.py_buffer(data)]
    return pa.Array.from_buffers(kind, len(texts), buffers), unmapped


def string_buffers(array: pa.Array) -> tuple[npt.NDArray[np.int64], bytes]:
    """Return the offsets ``(N + 1,)``, from 0, and the bytes of a large_string or large_binary
    array without nulls."""
    _, offset_buffer, data_buffer = array.buffers()
    if len(array) == 0 or offset_buffer is None:
        return np.zeros(len(array) + 1, np.int64), b""
    offsets = np.frombuffer(offset_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)[offsets[0] : offsets[-1]]
    return offsets - offsets[0], data.tobytes()


def transliterate(text: str) -> str:
    """Return ``text`` in Latin letters, character by character, by the AnyAscii tables.

    Approximate: ideographs are read as Mandarin, and vowels that a script does not write are
    missing.

    >>> transliterate("Иванов"), transliterate("김민수")
    ('Ivanov', 'Gim Min Su')
    """
    from anyascii import anyascii

    composed = unicodedata.normalize("NFC", text)  # a mark alone has no letters
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", anyascii(composed))


def transliterate_array(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Return ``transliterate`` of each of N texts without nulls, large_string ``(N,)``."""
    from anyascii import anyascii

    letters, _ = map_characters(pc.utf8_normalize(texts, form="NFC"), anyascii)
    return pc.replace_substring_regex(letters, "([a-z])([A-Z])", r"\1 \2")
