"""The one seam through which everything durable is written.

The rules, from FileOutputCommitter and ALICE (Pillai et al., OSDI 2014): write under another name
in the same folder, fsync the file, rename it, fsync the folder. A reader sees the old file or the
whole new one, also after a power cut. Locks are ``flock``: they die with the process that holds
them, so nobody has to clean up after a kill.

A path has one temporary name, ``.NAME.tmp``, and whoever writes to it holds a lock on it. So what a
killed writer left is taken over by the next one, and two writers of one path take turns.

Nothing else in this package creates, renames or removes a file; ``tests/faults`` counts on it: it
fails and kills every operation of a run in turn. Local POSIX file systems only;
``publish_folder`` and ``hold`` rely on rename and flock.
"""

from __future__ import annotations

__all__ = [
    "SUMS",
    "TEMPORARY",
    "check_sums",
    "hold",
    "json_bytes",
    "make_folder",
    "open_part",
    "private_files",
    "publish_folder",
    "read_proven",
    "remove_file",
    "remove_tree",
    "replace_file",
    "scratch_file",
    "sha256_of",
    "swap_link",
    "sync_folder",
    "translate_os_errors",
    "withdraw_folder",
    "write_bytes",
    "write_sums",
    "writing_parquet",
    "writing_to",
]

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from charrnn.errors import BusyError, CharrnnError, ModelError, OutputError, StorageError

TEMPORARY = ".tmp"  # suffix of a file being written; see ``_temporary_of``
SUMS = "SHA256SUMS"


@contextmanager
def writing_to(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is fsynced and renamed to ``path``,
    on failure removed. ``path`` holds its old content until then. Another writer of ``path``, in
    this process or not, waits.

    Raises:
        OutputError: the folder cannot be created or written.
        StorageError: the disk is full or fails.
    """
    temporary = _temporary_of(path)
    with translate_os_errors(path):
        make_folder(path.parent)
        with _open_alone(temporary) as file:
            try:
                yield temporary
                os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
        sync_folder(path.parent)


def _temporary_of(path: Path) -> Path:
    return path.with_name(f".{path.name}{TEMPORARY}")


def _open_alone(temporary: Path) -> BinaryIO:
    """Open ``temporary``, empty and locked, once no other writer has it."""
    while True:
        file = temporary.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        if _is_at(file, temporary):
            file.truncate(0)  # of what a killed writer left
            return file
        file.close()  # the other writer has renamed or removed it meanwhile


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether ``path`` still names the open ``file``."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def replace_file(temporary: Path, path: Path) -> None:
    """Make ``temporary`` durable and give it the name ``path``, replacing what was there."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def open_part(path: Path, *, keep: bool) -> BinaryIO:
    """Open a file that grows over several calls, such as a download, at its end; unless ``keep``,
    from its beginning."""
    with translate_os_errors(path):
        return cast(BinaryIO, path.open("ab" if keep else "wb"))


@contextmanager
def scratch_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for what only this run reads again: it need not outlive a power cut, so
    nobody waits for the disk. On failure it is removed."""
    with translate_os_errors(path):
        make_folder(path.parent)
        remove_file(path)
        try:
            with path.open("xb") as file:
                yield file
        except BaseException:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically and durably."""
    with writing_to(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def writing_parquet(path: Path, schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
    """Yield a writer of a Parquet file that takes the place of ``path`` as in ``writing_to``. Its
    pages carry checksums; ``options`` of ``ParquetWriter`` come on top, zstd where none says
    otherwise."""
    chosen = {"compression": "zstd", **options, "write_page_checksum": True}
    with writing_to(path) as temporary, pq.ParquetWriter(temporary, schema, **chosen) as writer:
        yield writer


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
        with translate_os_errors(final):
            sync_folder(staging)
            staging.rename(final)
            sync_folder(final.parent)
    except StorageError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOTEMPTY:
            raise FileExistsError(str(final)) from None  # somebody was faster
        raise


def swap_link(link: Path, target: str) -> None:
    """Point the symbolic link ``link`` at ``target``, atomically; the caller holds the lock of its
    folder."""
    temporary = _temporary_of(link)
    with translate_os_errors(link):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
        sync_folder(link.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably; one that exists is fine."""
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    with translate_os_errors(folder):
        for new in reversed(missing):
            new.mkdir(exist_ok=True)
            sync_folder(new.parent)


def remove_file(path: Path) -> None:
    """Remove a file; missing is fine."""
    with translate_os_errors(path):
        path.unlink(missing_ok=True)


def withdraw_folder(folder: Path) -> None:
    """Remove a published folder: out of sight in one step, as ``.purged-NAME``, then for good.

    Raises:
        StorageError: a file could not be removed.
    """
    hidden = folder if folder.name.startswith(".") else folder.with_name(f".purged-{folder.name}")
    with translate_os_errors(folder):
        folder.rename(hidden)
        sync_folder(folder.parent)
    remove_tree(hidden)
    if hidden.exists():
        raise StorageError(f"{hidden} could not be removed; remove it by hand")


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it; missing is fine."""
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def hold(lock: Path, holder: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock while the block runs; ``holder`` tells others who we are. A folder
    that was made for the lock goes again where the block fails and leaves nothing else in it.

    Args:
        wait: until it is free; for work of moments only.

    Raises:
        BusyError: somebody else holds it; the message names them.
    """
    file, made = _take_lock(lock, wait=wait)
    with file:
        try:
            with translate_os_errors(lock):
                file.truncate(0)
                file.write(holder.encode())
            yield
        except BaseException:
            if made:
                _remove_unused(lock)
            raise
        finally:
            with suppress(OSError):
                file.truncate(0)


def _take_lock(lock: Path, *, wait: bool) -> tuple[BinaryIO, bool]:
    """Return the lock's file, locked, and whether its folder was not there before."""
    made = False
    while True:
        made = made or not lock.parent.exists()
        make_folder(lock.parent)
        with translate_os_errors(lock):
            try:
                file: BinaryIO = lock.open("ab+", buffering=0)
            except FileNotFoundError:
                if lock.is_symlink():
                    raise
                continue  # who made the folder has removed it meanwhile
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            with file:
                other = _read_holder(file)
            raise BusyError(
                f"{lock.parent} is being written by {other or 'another process'}; "
                "wait for it to end, then run this again"
            ) from None
        if _is_at(file, lock):
            return file, made
        file.close()


def _remove_unused(lock: Path) -> None:
    """Remove a lock that we hold, and its folder, if there is nothing else in it. Whoever waits for
    the lock, or opens it in this moment, finds that it is not at its place and takes a new one."""
    with suppress(OSError):
        if [path.name for path in lock.parent.iterdir()] == [lock.name]:
            lock.unlink()
            lock.parent.rmdir()


def _read_holder(file: BinaryIO) -> str:
    """Return who holds a lock; it is taken a moment before that is written."""
    for _ in range(100):
        file.seek(0)
        if other := file.read().decode(errors="replace").strip():
            return other
        time.sleep(0.01)
    return ""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """Write ``SHA256SUMS``, which ``sha256sum -c`` reads, over ``names`` or else over every other
    file in ``folder``; return name → digest."""
    if names is None:
        names = (p.name for p in folder.iterdir() if p.is_file() and p.name != SUMS)
    sums = {name: sha256_of(folder / name) for name in sorted(names)}
    write_bytes(folder / SUMS, "".join(f"{sums[n]}  {n}\n" for n in sums).encode())
    return sums


def check_sums(folder: Path, error: type[CharrnnError] = ModelError) -> str:
    """Prove every file of ``folder`` against its ``SHA256SUMS``; return that file's own digest,
    which stands for the whole folder.

    Raises:
        ``error``: a file is missing, unlisted or changed; all of them are named.
    """
    return _check(folder, error, sha256_of)


def read_proven(folder: Path) -> tuple[str, dict[str, bytes]]:
    """Read the files of a folder that fits into memory, and prove what was read as ``check_sums``
    does. Return the digest of all, and name → content: the very bytes that were proven, whatever
    becomes of the files meanwhile.

    Raises:
        ModelError: a file is missing, unlisted or changed; all of them are named.
    """
    contents: dict[str, bytes] = {}

    def digest_of(path: Path) -> str:
        contents[path.name] = path.read_bytes()
        return hashlib.sha256(contents[path.name]).hexdigest()

    return _check(folder, ModelError, digest_of), contents


def _check(folder: Path, error: type[CharrnnError], digest_of: Callable[[Path], str]) -> str:
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
        if not (folder / n).is_file() or digest_of(folder / n) != listed[n]
    ]  # fmt: skip
    if problems:
        raise error(f"{folder} fails its {SUMS}: {'; '.join(problems)}")
    return hashlib.sha256(sums).hexdigest()


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into one of ours that names the path and the fix."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(_nearest(path)).free
            raise StorageError(
                f"no space left while writing {path} ({free / 1e6:.0f} MB free); nothing half "
                "written is visible, free some space and run this again"
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
