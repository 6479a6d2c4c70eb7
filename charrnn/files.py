"""The one seam through which everything durable is written.

The rules, from FileOutputCommitter and ALICE (Pillai et al., OSDI 2014): write under another name
in the same folder, fsync the file, rename it, fsync the folder. A reader sees the old file or the
whole new one, also after a power cut. Locks are ``flock``: they die with the process that holds
them, so nobody has to clean up after a kill.

Local POSIX file systems only; ``publish_folder`` and ``hold`` rely on rename and flock.
"""

from __future__ import annotations

__all__ = [
    "TEMPORARY",
    "check_sums",
    "explained",
    "hold",
    "json_bytes",
    "publish_folder",
    "remove_tree",
    "replace_file",
    "sha256_of",
    "swap_link",
    "sync_folder",
    "unique_suffix",
    "write_bytes",
    "write_sums",
    "writing_to",
]

import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from charrnn.errors import BusyError, CharrnnError, ModelError, OutputError, StorageError

TEMPORARY = ".tmp"  # suffix of files being written; whoever holds the lock may remove them
SUMS = "SHA256SUMS"


@contextmanager
def writing_to(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is fsynced and renamed to ``path``,
    on failure removed. ``path`` holds its old content until then.

    Raises:
        OutputError: the folder cannot be created or written.
        StorageError: the disk is full or fails.
    """
    temporary = path.with_name(f"{path.name}.{unique_suffix()}{TEMPORARY}")
    try:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            replace_file(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def unique_suffix() -> str:
    """Return a text that no other process or thread gets, for names of temporary files."""
    return uuid.uuid4().hex[:12]


def replace_file(temporary: Path, path: Path) -> None:
    """Make ``temporary`` durable and give it the name ``path``, replacing what was there."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically and durably."""
    with writing_to(path) as temporary:
        temporary.write_bytes(content)


def json_bytes(document: Any) -> bytes:
    """Return ``document`` as readable JSON with a final newline; NaN is refused."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that the names in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_folder(staging: Path, final: Path) -> None:
    """Rename the finished folder ``staging`` to ``final``: one step makes everything visible.

    Raises:
        FileExistsError: ``final`` exists already; nothing was changed.
    """
    if os.path.lexists(final):  # rename would replace an empty folder
        raise FileExistsError(str(final))
    try:
        with explained(final):
            sync_folder(staging)
            staging.rename(final)
            sync_folder(final.parent)
    except StorageError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOTEMPTY:
            raise FileExistsError(str(final)) from None  # somebody was faster
        raise


def swap_link(link: Path, target: str) -> None:
    """Point the symbolic link ``link`` at ``target``, atomically."""
    temporary = link.with_name(f"{link.name}.{unique_suffix()}{TEMPORARY}")
    with explained(link):
        temporary.symlink_to(target)
        temporary.replace(link)
        sync_folder(link.parent)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it; missing is fine."""
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def hold(lock: Path, holder: str) -> Iterator[None]:
    """Hold an exclusive lock while the block runs; ``holder`` tells others who we are.

    Raises:
        BusyError: somebody else holds it; the message names them.
    """
    with explained(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise BusyError(
                f"{lock.parent} is being written by {file.read().strip() or 'another process'}; "
                "wait for it to end, then run this again"
            ) from None
        file.truncate(0)
        file.write(holder)
        file.flush()
        yield


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` over every other file in ``folder``; ``sha256sum -c`` reads it."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != SUMS)
    write_bytes(folder / SUMS, "".join(f"{sha256_of(folder / n)}  {n}\n" for n in names).encode())


def check_sums(folder: Path, error: type[CharrnnError] = ModelError) -> str:
    """Prove every file of ``folder`` against its ``SHA256SUMS``; return that file's own digest,
    which stands for the whole folder.

    Raises:
        ``error``: a file is missing, unlisted or changed; all of them are named.
    """
    try:
        sums = (folder / SUMS).read_bytes()
    except OSError:
        raise error(f"{folder} has no readable {SUMS}; it is not whole") from None
    listed = {}
    *lines, end = sums.decode(errors="replace").split("\n")
    for line in lines:
        digest, separator, name = line.partition("  ")
        if not separator or "/" in name or name in listed:
            raise error(f"{folder / SUMS} is damaged")
        listed[name] = digest
    if end:
        raise error(f"{folder / SUMS} is damaged")
    present = {p.name for p in folder.iterdir() if p.name != SUMS}
    problems = [f"{n} is missing" for n in sorted(listed.keys() - present)]
    problems += [f"{n} is not listed" for n in sorted(present - listed.keys())]
    problems += [
        f"{n} has changed" for n in sorted(listed.keys() & present)
        if not (folder / n).is_file() or sha256_of(folder / n) != listed[n]
    ]  # fmt: skip
    if problems:
        raise error(f"{folder} fails its {SUMS}: {'; '.join(problems)}")
    return hashlib.sha256(sums).hexdigest()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into one of ours that names the path and the fix."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(_nearest(path)).free
            raise StorageError(
                f"no space left while writing {path} ({free / 1e6:.0f} MB free); nothing was "
                "published, free some space and run this again"
            ) from error
        if error.errno in (
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOTDIR,
            errno.EISDIR,
            errno.EEXIST,
        ):
            raise OutputError(
                f"cannot write {path}: {error.strerror}; choose another folder"
            ) from error
        raise StorageError(f"writing {path} failed: {error.strerror or error}") from error


def _nearest(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())
