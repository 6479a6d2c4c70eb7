"""What all spellings of a name have in common, its fold, its script, and why a text is no name."""

import hashlib
import unicodedata

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.model.normalise import (
    LATIN,
    normalise,
    normalise_array,
    transliterate,
    transliterate_array,
)

FOLDS = 10
IDEOGRAPHS = "[\u3400-\u9fff]"  # a regular expression
MAX_NAME = 256  # characters after normalising; scoring refuses longer names, too
REASONS = ("empty", "page_furniture", "too_long", "stray_character")
_PAGE_FURNITURE = "to the first page"  # a web page's link text, left in the Russian file
# A name is letters with spaces and ' - . , between them; other characters mark it as junk.
_NAME = r"^[\pL '.,-]*\pL[\pL '.,-]*$"


def name_key(name: str) -> str:
    """Return what all spellings of a name have in common: the name normalised by ``LATIN``,
    transliterated first where it is in another script.

    >>> name_key("Иванов"), name_key("Dvořák"), name_key("O’Neill")
    ('ivanov', 'dvorak', "o'neill")
    """
    normalised = normalise(name, LATIN)
    return normalised if normalised.isascii() else normalise(transliterate(name), LATIN)


def name_keys(names: pa.LargeStringArray) -> pa.LargeStringArray:
    """Return ``name_key`` of each of N names without nulls, large_string ``(N,)``."""
    keys = normalise_array(names, LATIN)
    foreign = pc.invert(pc.string_is_ascii(keys))
    latin = normalise_array(transliterate_array(names.filter(foreign)), LATIN)
    return pc.replace_with_mask(keys, foreign, latin)


def key_hashes(keys: pa.LargeStringArray) -> npt.NDArray[np.uint64]:
    """Return the BLAKE2b hash of each of N keys, uint64 ``(N,)``; modulo ``FOLDS`` it is the fold
    that a name and all its spellings belong to."""
    texts = keys.cast(pa.large_binary()).to_pylist()
    digests = b"".join([hashlib.blake2b(text, digest_size=8).digest() for text in texts])
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def drop_reasons(
    keys: pa.LargeStringArray, no_names: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int8]:
    """Return why each of N keys is left out, index in ``REASONS``, int8 ``(N,)``; -1 for no reason.

    Args:
        no_names: bool ``(N,)``, words that are no names, which may have any character.
    """
    stray = ~_array(pc.match_substring_regex(keys, _NAME))
    cases = [
        _array(pc.equal(keys, "")),
        _array(pc.equal(keys, _PAGE_FURNITURE)),
        _array(pc.greater(pc.utf8_length(keys), MAX_NAME)),
        stray if no_names is None else stray & ~no_names,
    ]
    return np.select(cases, range(len(cases)), -1).astype(np.int8)


def script_of(text: str) -> str:
    """Return the script of a text's first letter, as the first word of its Unicode name.

    >>> script_of("-Иванов"), script_of("7")
    ('Cyrillic', 'Other')
    """
    letter = next(filter(str.isalpha, text), "")
    if letter.isascii() and letter:
        return "Latin"
    return unicodedata.name(letter, "other").split(" ")[0].capitalize() if letter else "Other"


def _array(values: pa.Array) -> npt.NDArray[np.bool_]:
    array: npt.NDArray[np.bool_] = values.to_numpy(zero_copy_only=False)
    return array
