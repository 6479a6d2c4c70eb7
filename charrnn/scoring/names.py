"""Names are personal data: keep them in the output, replace them, or leave them out."""

import hashlib
from collections.abc import Iterable

import pyarrow as pa

from charrnn.errors import ConfigError
from charrnn.scoring.options import NamePolicy
from charrnn.tables.columns import as_large_string


def key_digest(policy: NamePolicy, key: bytes) -> str:
    """Return a digest of the key, 16 hex digits, for a run's fingerprint; "" if names are not
    hashed.

    Raises:
        ConfigError: names are hashed, and the key does not have 16 to 64 bytes.
    """
    if policy != "hash":
        return ""
    _check_length(key)
    return hashlib.blake2b(b"fingerprint", key=key, digest_size=8).hexdigest()


def hide_names(
    table: pa.Table, columns: Iterable[str], policy: NamePolicy, key: bytes = b""
) -> pa.Table:
    """Return the table with the names in ``columns`` kept, left out, or replaced by 32 hex digits
    each, null by null.

    The digits are BLAKE2b with ``key`` (RFC 7693), a keyed hash: equal names stay equal, also
    between runs with one key, and nobody without the key can find a name by hashing candidates.
    Raises as ``key_digest`` does.
    """
    if policy == "keep":
        return table
    if policy == "omit":
        return table.drop_columns(list(columns))
    _check_length(key)  # BLAKE2b without a key could be reversed by trying names
    for column in columns:
        position = table.column_names.index(column)
        coded = as_large_string(table.column(position)).combine_chunks().dictionary_encode()
        digests = [
            hashlib.blake2b(name.encode(), key=key, digest_size=16).hexdigest()
            for name in coded.dictionary.to_pylist()
        ]
        hashed = pa.array(digests, pa.string()).take(coded.indices)
        table = table.set_column(position, column, hashed)
    return table


def _check_length(key: bytes) -> None:
    if not 16 <= len(key) <= 64:
        raise ConfigError(
            f"hashing names needs a secret key of 16 to 64 bytes, got {len(key)}; make one with "
            "`openssl rand -hex 32`",
            option="name_key",
        )
