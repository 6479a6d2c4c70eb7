"""What all spellings of a name have in common, its fold, its script, and why a text is no name."""

import hashlib
import unicodedata

import numpy as np
import numpy.typing as npt
import polars as pl
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


def drop_reason(key: pl.Expr, no_name: pl.Expr | None = None) -> pl.Expr:
    """Return why keys are left out, one of ``REASONS``; null for no reason. Words that are
    ``no_name`` may have any character."""
    stray = ~key.str.contains(_NAME)
    if no_name is not None:
        stray &= ~no_name
    cases = (key == "", key == _PAGE_FURNITURE, key.str.len_chars() > MAX_NAME, stray)
    return pl.coalesce(
        pl.when(case).then(pl.lit(reason)) for reason, case in zip(REASONS, cases, strict=True)
    )


def script_of(text: str) -> str:
    """Return the script of a text's first letter, as the first word of its Unicode name.

    >>> script_of("-Иванов"), script_of("7")
    ('Cyrillic', 'Other')
    """
    letter = next(filter(str.isalpha, text), "")
    if letter.isascii() and letter:
        return "Latin"
    return unicodedata.name(letter, "other").split(" ")[0].capitalize() if letter else "Other"
