"""Privacy: names are personal data, so they can be left out, replaced, locked away and removed."""

from __future__ import annotations

__all__ = ["KEY_VARIABLE", "Names", "check_name_key", "hide_names", "name_key"]

import hashlib
import os
from typing import Literal

import pyarrow as pa

from charrnn.errors import ConfigError
from charrnn.tables.columns import as_large_string

Names = Literal["keep", "hash", "omit"]
KEY_VARIABLE = "CHARRNN_NAME_KEY"


def check_name_key(names: Names) -> str:
    """Return what stands for the key in a fingerprint (a run with another key is another run);
    "" where no key is needed.

    Raises:
        ConfigError: ``names`` is none of its values, or ``hash`` has no key.
    """
    if names not in ("keep", "hash", "omit"):
        raise ConfigError(f"names are {names!r}; give keep, hash or omit")
    key = name_key(names)
    return hashlib.blake2b(b"fingerprint", key=key, digest_size=8).hexdigest() if key else ""


def name_key(names: Names) -> bytes:
    """Return the secret in ``CHARRNN_NAME_KEY`` where names are hashed, b"" where they are not.

    Raises:
        ConfigError: it is missing, too short or too long.
    """
    return _checked(os.environ.get(KEY_VARIABLE, "").encode()) if names == "hash" else b""


def hide_names(table: pa.Table, column: str, names: Names, key: bytes = b"") -> pa.Table:
    """Return the table with its names kept, left out, or replaced by 32 hex digits each.

    The digits are BLAKE2b keyed with ``key`` (RFC 7693, a MAC): equal names stay equal, also
    between runs with one key, and without the key nobody can try names out. Null stays null.

    Args:
        key: from ``name_key``; needed for ``hash`` only.
    """
    position = table.column_names.index(column)
    if names == "keep":
        return table
    if names == "omit":
        return table.remove_column(position)
    _checked(key)  # without one, anybody could try names out
    coded = as_large_string(table.column(position)).combine_chunks().dictionary_encode()
    digests = [
        hashlib.blake2b(name.encode(), key=key, digest_size=16).hexdigest()
        for name in coded.dictionary.to_pylist()
    ]
    hashed = pa.array(digests, pa.string()).take(coded.indices)
    return table.set_column(position, column, hashed)


def _checked(key: bytes) -> bytes:
    if not 16 <= len(key) <= 64:
        raise ConfigError(
            f"hashing names needs a secret of 16 to 64 bytes in {KEY_VARIABLE}, such as "
            f"`openssl rand -hex 32` makes; it has {len(key)}"
        )
    return key
