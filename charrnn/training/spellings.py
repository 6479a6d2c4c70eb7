"""Spellings of a name beside its own: training shows them to a model that knows accents, since
tables hold ``Dvorak`` and ``MUELLER`` as well as ``Dvořák`` and ``Müller``."""

import unicodedata
from functools import cache

from charrnn.model.normalise import ACCENTS, LATIN, Normalisation, normalise

# Letters that are written as two where there are no accents: as in machine-readable passports (ICAO
# Doc 9303), and đ as in Djokovic. All other letters lose their accent only.
_TRANSCRIBED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "đ": "dj"})
_ACCENTED = ("LATIN", "GREEK")  # scripts whose accents writers leave out
_CEDILLA = str.maketrans("șț", "şţ")  # as older character sets write Romanian


def other_spellings(name: str, rules: Normalisation = ACCENTS) -> list[str]:
    """Return up to four other spellings of ``name``, normalised, distinct and in a fixed order;
    none where ``rules`` drop accents.

    They are the name without accents (``LATIN``'s rules for Latin letters; Greek tonos, Cyrillic
    ``ё``), transcribed (``ü`` → ``ue``), with cedillas for commas, and from its capitals, where
    ``ı`` becomes ``i``. A mark before the name (``GIVEN``) stays.

    >>> other_spellings("Müller"), other_spellings("Dvořák"), other_spellings("Novak")
    (['muller', 'mueller'], ['dvorak'], [])
    """
    if not rules.composes:
        return []
    own = normalise(name, rules)
    others = (
        "".join(map(_plain, own)),
        "".join(map(_plain, own.translate(_TRANSCRIBED))),
        own.translate(_CEDILLA),
        normalise(own.upper(), rules),
    )
    return [text for text in dict.fromkeys(others) if text != own]


@cache
def _plain(character: str) -> str:
    """Return a normalised character as it is written without accents, which marks of other scripts
    are not: ``か`` is not a spelling of ``が``."""
    if character.isascii():
        return character
    script = unicodedata.name(character, "").split(" ")[0]
    return normalise(character, LATIN) if script in _ACCENTED or character == "ё" else character
