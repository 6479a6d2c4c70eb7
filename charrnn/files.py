"""Atomic and durable file operations; no other module creates, renames or removes a file.

A file is written under a temporary name, ``.NAME.tmp`` in the same folder, fsynced and renamed, and
the folder is fsynced (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014, explains
why). A reader sees the old file or the complete new one, also after a power failure. The writer
locks the temporary file, so two writers of a path take turns, and the next one reuses what a killed
writer left. Locks are ``flock``, which the kernel releases when their process ends.

Local POSIX file systems only: ``publish_folder`` and ``hold`` rely on rename and flock.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from charrnn.errors import BusyError, CharrnnError, ModelError, OutputError, StorageError

SUMS = "SHA256SUMS"  # in the format of sha256sum(1)
# Numbers of the errors that another destination avoids.
_WRONG_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
_HOLDER_TRIES = 100  # times 10 ms: the holder of a lock writes its name just after taking it


@contextmanager
def writing_to(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``: on success it is fsynced and renamed to ``path``, on
    failure removed. Other writers of ``path``, in this process or another, wait.

    Raises:
        OutputError: the folder cannot be created or written.
        StorageError: the disk is full or fails.
    """
    temporary = _temporary_of(path)
    with translate_os_errors(path):
        make_folder(path.parent)
        with _open_exclusively(temporary) as file:
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
    return path.with_name(f".{path.name}.tmp")


def _open_exclusively(temporary: Path) -> BinaryIO:
    """Open ``temporary``, empty and locked, as soon as no other writer holds it."""
    while True:
        file = temporary.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        if _is_at(file, temporary):
            file.truncate(0)  # left by a killed writer
            return file
        file.close()  # the other writer has renamed or removed it


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether ``path`` still names the open ``file``."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def replace_file(temporary: Path, path: Path) -> None:
    """Fsync ``temporary`` and rename it to ``path``, replacing a file of that name."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def open_growing(path: Path, *, keep: bool) -> BinaryIO:
    """Open a file to append to it, such as a download; unless ``keep``, its content is dropped."""
    with translate_os_errors(path):
        return cast(BinaryIO, path.open("ab" if keep else "wb"))


@contextmanager
def scratch_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that only this run reads: not fsynced, and removed on failure."""
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
    """Yield a ``ParquetWriter`` for ``path``, which is replaced as in ``writing_to``. Pages have
    checksums; they are compressed with zstd unless ``options`` name another ``compression``."""
    merged = {"compression": "zstd", **options, "write_page_checksum": True}
    with writing_to(path) as temporary, pq.ParquetWriter(temporary, schema, **merged) as writer:
        yield writer


def json_bytes(document: Any) -> bytes:
    """Return ``document`` as indented UTF-8 JSON with a final newline; ValueError for NaN."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that the names in it survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_folder(staging: Path, final: Path) -> None:
    """Rename the finished folder ``staging`` to ``final``: all files become visible at once.

    Raises:
        FileExistsError: ``final`` exists; nothing is changed.
    """
    if os.path.lexists(final):  # which rename would replace if it is empty
        raise FileExistsError(str(final))
    try:
        with translate_os_errors(final):
            sync_folder(staging)
            staging.rename(final)
            for parent in dict.fromkeys((final.parent, staging.parent)):
                sync_folder(parent)
    except StorageError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOTEMPTY:
            raise FileExistsError(str(final)) from None  # created by another process just now
        raise


def swap_link(link: Path, target: str) -> None:
    """Point a symbolic link at ``target``, atomically; the caller holds the folder's lock."""
    temporary = _temporary_of(link)
    with translate_os_errors(link):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
        sync_folder(link.parent)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, durably; no error if it exists."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with translate_os_errors(folder):
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file; no error if it is missing."""
    with translate_os_errors(path):
        path.unlink(missing_ok=True)


def withdraw_folder(folder: Path, to: Path) -> None:
    """Remove a published folder: rename it to the hidden ``.purged-NAME`` in ``to``, then delete
    that.

    Raises:
        StorageError: a file could not be removed.
    """
    hidden = folder if folder.name.startswith(".") else to / f".purged-{folder.name}"
    with translate_os_errors(folder):
        folder.rename(hidden)
        for parent in dict.fromkeys((to, folder.parent)):
            sync_folder(parent)
    remove_tree(hidden)
    if hidden.exists():
        raise StorageError(f"{hidden} could not be removed; delete it by hand")


def remove_tree(folder: Path) -> None:
    """Remove a folder with its content as far as possible; no error if it is missing."""
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def hold(lock: Path, holder: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on the file ``lock`` while the block runs. If the block fails, a
    folder that was created for the lock and has nothing else in it is removed.

    Args:
        holder: what the lock says about its holder to other processes.
        wait: wait until the lock is free; for locks that are held for moments.

    Raises:
        BusyError: another process holds the lock; the message has its ``holder``.
    """
    file, folder_created = _take_lock(lock, wait=wait)
    with file:
        try:
            with translate_os_errors(lock):
                file.truncate(0)
                file.write(holder.encode())
            yield
        except BaseException:
            if folder_created:
                _remove_unused(lock)
            raise
        finally:
            with suppress(OSError):
                file.truncate(0)


def _take_lock(lock: Path, *, wait: bool) -> tuple[BinaryIO, bool]:
    """Return the lock's file, locked, and whether its folder was created for it."""
    folder_created = False
    while True:
        folder_created = folder_created or not lock.parent.exists()
        make_folder(lock.parent)
        with translate_os_errors(lock):
            try:
                file: BinaryIO = lock.open("ab+", buffering=0)
            except FileNotFoundError:
                if lock.is_symlink():
                    raise
                continue  # another process has just removed the folder
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            with file:
                holder = _read_holder(file)
            raise BusyError(
                f"{lock.parent} is being written by {holder or 'another process'}; "
                "wait for it to end, then run this again"
            ) from None
        if _is_at(file, lock):
            return file, folder_created
        file.close()


def _remove_unused(lock: Path) -> None:
    """Remove a lock that this process holds, and its folder, if there is nothing else in it. A
    process that has opened the lock notices by ``_is_at``."""
    with suppress(OSError):
        if [path.name for path in lock.parent.iterdir()] == [lock.name]:
            lock.unlink()
            lock.parent.rmdir()


def _read_holder(file: BinaryIO) -> str:
    """Return what a lock says about its holder, "" if nothing."""
    for _ in range(_HOLDER_TRIES):
        file.seek(0)
        if holder := file.read().decode(errors="replace").strip():
            return holder
        time.sleep(0.01)
    return ""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_each(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of every file, several files at a time (about 1 GB/s a core)."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1, len(paths) or 1)) as pool:
        return list(pool.map(sha256_of, paths))


def write_sums(folder: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """Write ``SHA256SUMS`` of the files ``names`` in ``folder``, by default of all; return name →
    digest."""
    present = (p.name for p in folder.iterdir() if p.is_file() and p.name != SUMS)
    listed = sorted(present if names is None else names)
    sums = dict(zip(listed, sha256_of_each([folder / name for name in listed]), strict=True))
    write_bytes(folder / SUMS, "".join(f"{sums[n]}  {n}\n" for n in sums).encode())
    return sums


def check_sums(
    folder: Path,
    error: type[CharrnnError] = ModelError,
    digest_of: Callable[[Path], str] = sha256_of,
) -> str:
    """Verify every file of ``folder`` against its ``SHA256SUMS``; return the SHA-256 of that file,
    which identifies the content of the whole folder.

    Raises:
        ``error``: files are missing, unlisted or changed; the message lists all of them.
    """
    try:
        sums = (folder / SUMS).read_bytes()
    except OSError:
        raise error(f"{folder} has no readable {SUMS}; it is incomplete") from None
    *lines, end = sums.decode(errors="replace").split("\n")
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if end or len(listed) < len(lines) or any(not name or "/" in name for name in listed):
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


def read_verified(folder: Path) -> tuple[str, dict[str, bytes]]:
    """Read all files of a folder, each once, and verify the bytes read as ``check_sums`` does;
    return the digest of the folder, and name → content. Raises as ``check_sums`` does."""
    contents: dict[str, bytes] = {}

    def digest_of(path: Path) -> str:
        contents[path.name] = path.read_bytes()
        return hashlib.sha256(contents[path.name]).hexdigest()

    return check_sums(folder, ModelError, digest_of), contents


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Raise an OSError of the block as StorageError or OutputError, with path and fix."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            existing = next(p for p in (path, *path.parents) if p.exists())
            free = shutil.disk_usage(existing).free
            raise StorageError(
                f"no space left while writing {path} ({free / 1e6:.0f} MB free); nothing "
                "incomplete is visible, free some space and run this again"
            ) from error
        if error.errno in _WRONG_PLACE:
            raise OutputError(
                f"cannot write {path}: {error.strerror}; choose another folder"
            ) from error
        raise StorageError(f"writing {path} failed: {error.strerror or error}") from error


@contextmanager
def private_files(private: bool) -> Iterator[None]:
    """If ``private``, create files in the block with mode 0600 and folders with 0700, by the umask
    of the whole process."""
    if not private:
        yield
        return
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
