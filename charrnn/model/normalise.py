"""Raw text to normalised text, by one pure function for training and scoring alike.

A :class:`Normalisation` is data: it is stored inside every model version, so a model can never be
scored with another model's text rules. Two are named:

* ``SEED``: the seed notebook's ``unicodeToAscii`` (canonical decomposition, combining marks
  stripped): ``'Ślusàrski'`` → ``'Slusarski'``. Letters without a decomposition, such as ``ł`` and
  ``ß``, stay and become unknown characters.
* ``LATIN``: compatibility decomposition, marks stripped, lower-cased, then letters without a
  decomposition and look-alike punctuation folded to ASCII: ``'Straße'`` → ``'strasse'``,
  ``'O’Neill'`` → ``"o'neill"``. ``LATIN`` also decides folds and duplicates (see ``corpus``).

Both drop characters that have no glyph (controls, zero-width marks) and squeeze white space.
"""

from __future__ import annotations

__all__ = ["LATIN", "SEED", "Normalisation", "normalise", "transliterate"]

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

# Letters and marks that Unicode does not decompose. Latin letters follow common transliteration
# practice (ICU's Latin-ASCII rules); punctuation maps to the one form the data set uses.
_FOLD = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ħ": "h",
        "ı": "i",
        "ĸ": "k",
        "ŋ": "n",
        "ŧ": "t",
        "ə": "a",
        "ƒ": "f",
        "ɓ": "b",
        "ɗ": "d",
        "ƙ": "k",
        "ƴ": "y",
        **dict.fromkeys("‘’‚‛ʻʼʽʾʿ′`´ꞌ＇", "'"),
        **dict.fromkeys("‐‑‒–—―−﹣－", "-"),
    }
)
_INVISIBLE = frozenset(("Mn", "Me", "Cf", "Cc"))


@dataclass(frozen=True)
class Normalisation:
    """Text rules, stored with a model. ``form`` is a Unicode normalisation form."""

    form: Literal["NFD", "NFKD"] = "NFKD"
    lowercase: bool = True
    fold: bool = True


SEED = Normalisation(form="NFD", lowercase=False, fold=False)
LATIN = Normalisation()


def normalise(text: str, rules: Normalisation = LATIN) -> str:
    """Return the canonical form of ``text`` under ``rules``; idempotent, never longer than
    Unicode's decomposition makes it, possibly empty."""
    # Fold first: the compatibility form would turn ´ into a space and a mark.
    source = text.translate(_FOLD) if rules.fold else text
    decomposed = unicodedata.normalize(rules.form, source)
    if rules.lowercase:
        decomposed = decomposed.lower()
    kept = "".join(
        " " if c.isspace() else c
        for c in decomposed
        if c.isspace() or unicodedata.category(c) not in _INVISIBLE
    )
    if rules.fold:
        kept = kept.translate(_FOLD)  # capital letters, now lower-cased, and decomposed ones
    kept = unicodedata.normalize(rules.form, kept)  # marks that a joiner kept apart
    return " ".join(kept.split())


def transliterate(text: str) -> str:
    """Return ``text`` in Latin letters, character by character, by the AnyAscii tables: ``Иванов``
    → ``Ivanov``, ``김민수`` → ``Gim Min Su``. Ideographs are read as Mandarin, and vowels that a
    script does not write are missing: an aid, not a reading."""
    from anyascii import anyascii

    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", anyascii(text))
