"""Raw text to normalised text, by the same pure function for training and scoring.

A ``Normalisation`` is data, stored in every model version, so names are always normalised by the
rules their model was trained with. Two are predefined:

* ``SEED``: the seed notebook's ``unicodeToAscii`` (canonical decomposition, combining marks
  stripped): ``'Ślusàrski'`` → ``'Slusarski'``. Letters without a decomposition, such as ``ł`` and
  ``ß``, stay and become unknown characters.
* ``LATIN``: compatibility decomposition, marks stripped, lower-cased, then letters without a
  decomposition and look-alike punctuation folded to ASCII: ``'Straße'`` → ``'strasse'``,
  ``'O’Neill'`` → ``"o'neill"``. Folds and duplicates are defined by it (``training.corpus``).

Both drop characters without a glyph (controls, zero-width marks) and collapse white space.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

# Letters and marks that Unicode does not decompose. Letters follow ICU's Latin-ASCII rules;
# punctuation is mapped to the form used in the training names.
_FOLD = str.maketrans("øłđðħıĸŋŧəƒɓɗƙƴ", "olddhikntafbdky") | str.maketrans(
    {
        **{"ß": "ss", "æ": "ae", "œ": "oe", "þ": "th"},
        **dict.fromkeys("‘’‚‛ʻʼʽʾʿ′`´ꞌ＇", "'"),
        **dict.fromkeys("‐‑‒–—―−﹣－", "-"),
    }
)
_INVISIBLE = frozenset(("Mn", "Me", "Cf", "Cc"))  # Unicode categories: marks, formats, controls


@dataclass(frozen=True)
class Normalisation:
    """Text rules, stored with a model.

    Args:
        form: Unicode normalisation form; both decompose.
        lowercase: whether letters are lower-cased.
        fold: whether letters and punctuation without a decomposition are mapped to ASCII.
    """

    form: Literal["NFD", "NFKD"] = "NFKD"
    lowercase: bool = True
    fold: bool = True


SEED = Normalisation(form="NFD", lowercase=False, fold=False)
LATIN = Normalisation()


def normalise(text: str, rules: Normalisation = LATIN) -> str:
    """Return the canonical form of ``text`` under ``rules``: idempotent, possibly empty, not longer
    than the Unicode decomposition of ``text``.

    >>> normalise(" Ślusàrski\u200b ")
    'slusarski'
    >>> normalise("Straße", SEED)
    'Straße'
    """
    # Fold first: the compatibility form would turn ´ into a space and a mark.
    source = text.translate(_FOLD) if rules.fold else text
    decomposed = unicodedata.normalize(rules.form, source)
    if rules.lowercase:
        decomposed = decomposed.lower()
    visible = "".join(
        " " if c.isspace() else c
        for c in decomposed
        if c.isspace() or unicodedata.category(c) not in _INVISIBLE
    )
    if rules.fold:
        visible = visible.translate(_FOLD)  # letters that were capital or composed until now
    visible = unicodedata.normalize(rules.form, visible)  # marks that a joiner kept apart
    return " ".join(visible.split())


def transliterate(text: str) -> str:
    """Return ``text`` in Latin letters, character by character, by the AnyAscii tables.

    Approximate: ideographs are read as Mandarin, and vowels that a script does not write are
    missing.

    >>> transliterate("Иванов"), transliterate("김민수")
    ('Ivanov', 'Gim Min Su')
    """
    from anyascii import anyascii

    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", anyascii(text))
