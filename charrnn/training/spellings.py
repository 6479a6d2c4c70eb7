"""Spellings of a name beside its own: training shows them to a model that knows accents, since
tables hold ``Dvorak`` and ``MUELLER`` as well as ``Dvořák`` and ``Müller``."""

import random
import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.model.normalise import ACCENTS, Normalisation, normalise
from charrnn.model.vocabulary import GIVEN

JOINED = 400  # full names of a label: about as many as its surnames
# Kana, ideographs and Hangul syllables
_UNSPACED = re.compile("[\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3]+")

# Letters that are written as two where there are no accents: as in machine-readable passports (ICAO
# Doc 9303), and đ as in Djokovic. All other letters lose their accent only.
_TRANSCRIBED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "đ": "dj"})
_CEDILLA = str.maketrans("șț", "şţ")  # as older character sets write Romanian


def other_spellings(name: str, rules: Normalisation = ACCENTS) -> list[str]:
    """Return up to four other spellings of ``name``, normalised, distinct and in a fixed order;
    none where ``rules`` drop accents, but for the name in capitals where they keep these.

    They are the name without accents (``Normalisation.fold`` "plain"), transcribed (``ü`` →
    ``ue``), with cedillas for commas, and from its capitals, where ``ı`` becomes ``i``. A mark
    before the name (``GIVEN``) stays.

    >>> other_spellings("Müller"), other_spellings("Dvořák"), other_spellings("Novak")
    (['muller', 'mueller'], ['dvorak'], [])
    """
    if not rules.composes:
        return []
    own, plain = normalise(name, rules), replace(rules, fold="plain")
    others = [normalise(own.upper(), rules)]
    if rules.fold == "punctuation":
        transcribed = own.translate(_TRANSCRIBED)
        others = [normalise(own, plain), normalise(transcribed, plain), own.translate(_CEDILLA),
                  *others]  # fmt: skip
    return [text for text in dict.fromkeys(others) if text != own]


def has_other_spellings(names: pa.LargeStringArray, rules: Normalisation) -> npt.NDArray[np.bool_]:
    """Return which of N normalised names may have other spellings, ``(N,)``: those with a character
    that has, since characters are respelled one by one; all where ``rules`` keep capitals."""
    if not rules.lowercase:
        return np.ones(len(names), np.bool_)
    others = names.filter(pc.invert(pc.string_is_ascii(names)))
    characters = set("".join(others.unique().to_pylist())) - {GIVEN}
    respelled = sorted(c for c in characters if not c.isascii() and other_spellings(c, rules))
    if not respelled:
        return np.zeros(len(names), np.bool_)
    pattern = f"[{''.join(map(re.escape, respelled))}]"
    found: npt.NDArray[np.bool_] = np.asarray(pc.match_substring_regex(names, pattern))
    return found


def unspaced(names: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
    """Return which of N names ``joined_names`` joins, bool ``(N,)``: in kana, ideographs or Hangul
    syllables alone."""
    pattern = f"^{GIVEN}?{_UNSPACED.pattern}$"
    found: npt.NDArray[np.bool_] = np.asarray(pc.match_substring_regex(names, pattern))
    return found


def joined_names(
    names: pa.LargeStringArray,
    label_ids: npt.NDArray[np.integer],
    weights: npt.NDArray[np.float32],
) -> list[tuple[str, int]]:
    """Return full names as Chinese, Japanese and Korean are written, the given name behind the
    surname without a space: ``JOINED`` random pairs of each label that has both in such a script,
    with their label ids. Of N names with label ids ``(N,)``, they are drawn by their ``weights``,
    ``(N,)``."""
    columns = (names, label_ids, weights)
    parts: dict[int, tuple[dict[str, float], dict[str, float]]] = {}
    for name, label_id, weight in zip(*(c.tolist() for c in columns), strict=True):
        text = name.removeprefix(GIVEN)
        if _UNSPACED.fullmatch(text):
            parts.setdefault(label_id, ({}, {}))[text != name][text] = weight
    draw = random.Random(0)
    return [
        (surname + given, label_id)
        for label_id, of_label in sorted(parts.items())
        if all(of_label)
        for surname, given in zip(
            *(draw.choices(list(part), list(part.values()), k=JOINED) for part in of_label),
            strict=True,
        )
    ]
