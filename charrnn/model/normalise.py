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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

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
_FOLDS: dict[str, Mapping[int, int | str]] = {
    "none": {},
    "punctuation": _PUNCTUATION | _LETTER_FORMS,
    "ascii": _PUNCTUATION | _LETTERS,
}
_CONTEXTUAL = "[^ -~]|^ | $|  "  # in a text that is not normalised byte by byte
_HANGUL = re.compile("[\uac00-\ud7a3]+")  # syllables, which the composed form makes of jamo
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
            katakana); "ascii": punctuation, and Latin letters such as ``ł`` and ``ß``, to ASCII.
    """

    form: Literal["NFD", "NFKD", "NFKC"] = "NFKD"
    lowercase: bool = True
    fold: Literal["none", "punctuation", "ascii"] = "ascii"

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
    fold = _FOLDS[rules.fold]
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
        if c.isspace() or unicodedata.category(c) not in _INVISIBLE
    )
    # Again: letters that were capital or composed until now, and marks that a joiner kept apart.
    visible = unicodedata.normalize(rules.form, visible.translate(fold))
    if rules.composes:
        visible = _HANGUL.sub(lambda match: unicodedata.normalize("NFD", match[0]), visible)
    return " ".join(visible.split())


def normalise_array(
    texts: pa.LargeStringArray, rules: Normalisation = LATIN
) -> pa.LargeStringArray:
    """Return ``normalise`` of each of N texts without nulls, large_string ``(N,)``: one look-up
    over the bytes of texts in ASCII; of the others each distinct one once.

    >>> normalise_array(pa.array(["Novak", " Ślusàrski"], pa.large_string())).to_pylist()
    ['novak', 'slusarski']
    """
    _, offsets, data = texts.buffers()
    table = bytes(_normalised_byte(byte, rules) for byte in range(256))
    mapped = pa.py_buffer((data.to_pybytes() if data else b"").translate(table))
    fast = pa.LargeStringArray.from_buffers(len(texts), offsets, mapped, offset=texts.offset)
    slow = pc.match_substring_regex(texts, _CONTEXTUAL)
    others = texts.filter(slow).dictionary_encode()
    one_by_one = [normalise(text, rules) for text in others.dictionary.to_pylist()]
    normalised = pa.array(one_by_one, pa.large_string()).take(others.indices)
    return pc.replace_with_mask(fast, slow, normalised)


def _normalised_byte(byte: int, rules: Normalisation) -> int:
    """Return the byte that a printable ASCII byte becomes between two letters; others stay."""
    return ord(normalise(f"a{chr(byte)}a", rules)[1:-1]) if 0x20 <= byte < 0x7F else byte


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
