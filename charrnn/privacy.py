"""Privacy: names are personal data, so they can be left out, replaced, locked away and removed."""

from __future__ import annotations

__all__ = [
    "KEY_VARIABLE",
    "check_name_key",
    "hide_names",
    "name_key",
    "old_runs",
    "private_files",
    "purge",
]

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pyarrow as pa

from charrnn.errors import ConfigError, InputMissingError
from charrnn.files import hold, remove_file, withdraw_folder
from charrnn.runs import RUN_NAME
from charrnn.tables import as_large_string

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


@contextmanager
def private_files(private: bool) -> Iterator[None]:
    """Let files that are made in the block be readable by their owner only (0600, folders 0700);
    holds for the whole process."""
    if not private:
        yield
        return
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def old_runs(root: Path, days: float, *, keep_latest: bool = False) -> list[Path]:
    """Return the runs under ``root`` (a destination or a folder of them), and left-overs of
    unfinished ones, that are older than ``days``, sorted.

    Args:
        keep_latest: leave the run that ``latest`` points to.

    Raises:
        ConfigError: ``days`` is negative. InputMissingError: there is no such folder.
    """
    if not days >= 0:
        raise ConfigError(f"runs cannot be older than {days} days; give 0 or more")
    if not root.is_dir():
        raise InputMissingError(f"{root} does not exist")
    before = datetime.now(UTC) - timedelta(days=days)
    found = []
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        latest = keep_latest and (folder.parent / "latest").resolve() == folder.resolve()
        if RUN_NAME.fullmatch(folder.name) and not folder.is_symlink() and not latest:
            made = datetime.strptime(folder.name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        elif re.match(r"\.(staging|fetched|purged)-", folder.name):
            made = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        else:
            continue
        if made < before:
            found.append(folder)
    return sorted(found)


def purge(runs: Sequence[Path]) -> int:
    """Remove runs, each under its destination's lock and out of sight in one step, and ``latest``
    links that would point nowhere; return how many bytes were freed.

    Raises:
        BusyError: a run of one of the destinations is being written.
        StorageError: something could not be removed.
    """
    freed = 0
    for run in runs:
        with hold(run.parent / ".lock", "a purge"):
            freed += sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
            withdraw_folder(run)
            latest = run.parent / "latest"
            if latest.is_symlink() and not latest.exists():
                remove_file(latest)
    return freed
