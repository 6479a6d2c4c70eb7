"""Atomic and durable file operations; no other module creates, renames or removes a file.

A file is written under a temporary name, ``.NAME.tmp`` in the same folder, fsynced and renamed, and
the folder is fsynced (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014, explains
why). The writer locks the temporary file (``flock``, which ends with the process), so the next one
can tell what a killed writer left, and removes it.

Others may write to the same folder. So a folder is opened one name after the other and kept open
while something in it is checked and changed; a file is created where nothing is, and never opened
through a link or as anything but a regular file; what another user put under one of our names is
left alone, and named. Calls that a signal interrupts (EINTR) are repeated; a close is not, since
Linux has closed the file then.

Files are written on local file systems of Linux only; elsewhere they are read.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from charrnn.errors import BusyError, CharrnnError, ModelError, OutputError, StorageError

SUMS = "SHA256SUMS"  # in the format of sha256sum(1)
# Numbers of the errors that another destination avoids.
_WRONG_PLACE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV, errno.ENXIO,
)  # fmt: skip
# Numbers of the errors of a failing disk or a busy machine, which may not come the next time.
_TRANSIENT = (
    errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT,
)  # fmt: skip
_PAUSE = 0.01  # seconds between two looks at a lock
_HOLDER_TRIES = 100  # times a pause: the holder of a lock writes its name just after taking it
_WAIT_TRIES = 6000  # times a pause: after a minute, a lock that is held for moments is stuck
_MOST_TEMPORARIES = 100  # writers of one file at the same time, and names that others have taken
_MOST_LINKS = 40  # on the way to a folder, as in Linux
_MOST_BYTES = 2**30  # of a file that is read whole: weights, checkpoints, manifests
_LONGEST_NAME = 240  # bytes; a temporary name is longer by a few, and file systems allow 255
_O_PATH, _O_DIRECTORY, _O_NOFOLLOW, _O_NONBLOCK, _O_NOCTTY, _O_BINARY = (
    getattr(os, f"O_{name}", 0)  # 0 where a system lacks it: files are read there, none written
    for name in ("PATH", "DIRECTORY", "NOFOLLOW", "NONBLOCK", "NOCTTY", "BINARY")
)
_FOLDER = _O_PATH | _O_DIRECTORY | _O_NOFOLLOW
_FILE = _O_NOFOLLOW | _O_NONBLOCK | _O_NOCTTY | _O_BINARY  # a FIFO is not waited for
_NEW = os.O_CREAT | os.O_EXCL | _O_NOFOLLOW
# Folders with these names are made by this program alone, so a link there is somebody else's.
_OURS = (".staging", ".fetched-", ".purged-", ".training")
# What operating systems and network storage put into folders by themselves.
_SYSTEM_FILE = re.compile(
    r"\.DS_Store|\._.*|\.AppleDouble|Thumbs\.db|desktop\.ini|@eaDir|@tmp|[.@#]snapshot|#recycle"
    r"|\.@__thumb|\.nfs[0-9a-f]+|\.fuse_hidden\w+|\.smbdelete\w+|lost\+found|\.directory"
    r"|\.Trash-\d+|\$RECYCLE\.BIN|System Volume Information",
    re.IGNORECASE,
)

T = TypeVar("T")
C = TypeVar("C", BinaryIO, pq.ParquetFile)


def is_system_file(name: str) -> bool:
    """Whether operating systems or network storage put files or folders of this name anywhere.

    >>> is_system_file(".DS_Store"), is_system_file("@eaDir"), is_system_file("notes.txt")
    (True, True, False)
    """
    return _SYSTEM_FILE.fullmatch(name) is not None


def existing_folder(path: Path) -> Path:
    """Return ``path`` or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def is_transient(error: OSError) -> bool:
    """Whether the disk or the machine failed, rather than the entry itself: what was not read may
    be sound, so it is no reason to pass it over."""
    return error.errno in _TRANSIENT


def _retried(call: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Call a function of ``os`` until no signal interrupts it; Python itself repeats only some."""
    while True:
        try:
            return call(*arguments, **options)
        except InterruptedError:
            continue


def close_descriptor(descriptor: int) -> None:
    """Close a descriptor that was read from. Where closing fails, what was read is no less read;
    where a signal interrupts it, Linux has closed it."""
    with suppress(OSError):
        os.close(descriptor)


@contextmanager
def _opened(
    name: str | Path, flags: int, mode: int = 0o666, *, folder: int | None = None
) -> Iterator[int]:
    """Open an entry of ``folder`` for the block."""
    descriptor = os.open(name, flags, mode, dir_fd=folder)
    try:
        yield descriptor
    finally:
        close_descriptor(descriptor)


@contextmanager
def closing_reader(file: C) -> Iterator[C]:
    """Close a file that was read from after the block; see ``close_descriptor``."""
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


@contextmanager
def _closing(file: BinaryIO) -> Iterator[BinaryIO]:
    """Close a file after the block; the block has flushed what counts."""
    try:
        yield file
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    with suppress(InterruptedError):
        file.close()


@contextmanager
def _folder(path: Path, *, create: bool = False) -> Iterator[int]:
    """Open a folder, as a descriptor to be used as ``dir_fd``."""
    try:
        descriptor = _open_folder(path, create=create)
    except FileNotFoundError:
        if not create:
            raise
        # A refused command has just removed the empty folders that it had made on the way.
        descriptor = _open_folder(path, create=True)
    try:
        yield descriptor
    finally:
        close_descriptor(descriptor)


def _open_folder(path: Path, *, create: bool) -> int:
    """Open a folder one name after the other, so that nobody can exchange what was checked.

    Links on the way are followed if they belong to this user, to root or to the owner of the
    folder they are in. A folder with a name of ours is no link, and this user's. Raises OutputError
    where that is not so.
    """
    if not _O_PATH:
        raise OutputError(
            f"cannot write {path}: runs and models are written on Linux only; use WSL or a "
            "container, or score in Python (charrnn.Scorer)"
        )
    names, links = list(reversed(path.parts)), 0
    here = os.open("/" if path.is_absolute() else ".", _O_PATH | _O_DIRECTORY)
    try:
        while names:
            name = names.pop()
            try:
                found = os.open(name, _FOLDER, dir_fd=here)
            except FileNotFoundError:
                if not create:
                    raise
                with suppress(FileExistsError):
                    _retried(os.mkdir, name, dir_fd=here)
                    _sync(here)
                names.append(name)
                continue
            except NotADirectoryError:
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None
                names += reversed(Path(_link_target(name, here, path)).parts)
                continue
            parent, here = here, found
            try:
                if name.startswith(_OURS) and not _is_mine(os.fstat(here), parent):
                    raise _foreign(path, f"leads through {name}, which belongs to another user")
            finally:
                close_descriptor(parent)
    except BaseException:
        close_descriptor(here)
        raise
    return here


def _link_target(name: str, folder: int, path: Path) -> str:
    """Return where a link on the way to ``path`` leads, if it is to be followed."""
    with _opened(name, _O_PATH | _O_NOFOLLOW, folder=folder) as link:
        status = os.fstat(link)
        if not stat.S_ISLNK(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        if name.startswith(_OURS):
            raise _foreign(path, f"leads through {name}, which is a link")
        if status.st_uid not in (os.geteuid(), 0, os.fstat(folder).st_uid):
            raise _foreign(path, f"leads through {name}, a link that belongs to another user")
        return os.readlink("", dir_fd=link)


def _foreign(path: Path, what: str) -> OutputError:
    return OutputError(f"{path} {what}; it is left alone, remove it or choose another folder")


_own_uids: dict[int, int] = {}  # device → owner of what this process creates there


def _is_mine(status: os.stat_result, folder: int) -> bool:
    """Whether an entry of ``folder`` belongs to this user. Network storage may give all files to
    one user of its own; so where the numbers differ, a file is created and looked at."""
    if status.st_uid == os.geteuid():
        return True
    if status.st_dev not in _own_uids:
        name = f".probe-{secrets.token_hex(8)}.tmp"
        try:
            with _opened(name, os.O_WRONLY | _NEW, 0o600, folder=folder) as probe:
                _own_uids[status.st_dev] = os.fstat(probe).st_uid
        except OSError:
            return False
        _retried(os.unlink, name, dir_fd=folder)
    return status.st_uid == _own_uids[status.st_dev]


def _status(name: str, folder: int) -> os.stat_result | None:
    """Return the status of an entry itself, None if there is none."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_at(descriptor: int, name: str, folder: int) -> bool:
    """Whether ``name`` still names the open file."""
    status = _status(name, folder)
    return status is not None and os.path.samestat(os.fstat(descriptor), status)


def _lock(descriptor: int) -> bool:
    """Lock an open file, if nobody else has."""
    import fcntl  # Windows has none

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(folder: int) -> None:
    """Fsync a folder, so that the names in it survive a power failure."""
    with _opened(".", os.O_RDONLY | _O_DIRECTORY, folder=folder) as descriptor:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # network storage without it
                raise


@contextmanager
def open_file(path: Path, *, mine: bool = False, links: bool = False) -> Iterator[BinaryIO]:
    """Open a regular file for reading, and nothing else: a FIFO is refused, not waited for.

    Args:
        mine: refuse a file that belongs to another user or has a second name.
        links: follow a link at ``path`` itself.
    """
    flags = os.O_RDONLY | (_FILE & ~_O_NOFOLLOW if links else _FILE)
    with _opened(path, flags) as descriptor:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if mine:
            with _folder(path.parent) as folder:
                if status.st_nlink > 1 or not _is_mine(status, folder):
                    raise PermissionError(errno.EPERM, "another user's file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file


def read_file(path: Path, *, mine: bool = False, links: bool = False) -> bytes:
    """Return the content of a regular file; see ``open_file``."""
    with open_file(path, mine=mine, links=links) as file:
        if os.fstat(file.fileno()).st_size > _MOST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read()


@contextmanager
def writing_to(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Yield a temporary file beside ``path``, open for writing and reading: on success it is
    fsynced and renamed to ``path``, on failure removed. Of several writers, the last one stays.

    Args:
        mode: of the file, less the umask.

    Raises:
        OutputError: the folder cannot be created or written, or ``path`` is no file.
        StorageError: the disk is full or fails.
    """
    with translate_os_errors(path), _folder(path.parent, create=True) as folder:
        _check_replaceable(path, folder)
        temporary, name = _create_temporary(path, folder, mode)
        with _closing(temporary):
            try:
                yield temporary
                temporary.flush()
                os.fsync(temporary.fileno())
                if not _is_at(temporary.fileno(), name, folder):
                    raise OutputError(f"cannot write {path}: another process removed {name}")
                _retried(os.replace, name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    if _is_at(temporary.fileno(), name, folder):
                        os.unlink(name, dir_fd=folder)
                raise
        _sync(folder)


def _check_replaceable(path: Path, folder: int) -> None:
    """Raise OutputError if something other than a file or a link has the name; in a folder of ours
    only a folder is in the way."""
    status = _status(path.name, folder)
    replaced: tuple[int, ...] = (stat.S_IFREG, stat.S_IFLNK)
    if any(folder.name.startswith(_OURS) for folder in path.parents):
        replaced += (stat.S_IFIFO, stat.S_IFSOCK)
    if status and stat.S_IFMT(status.st_mode) not in replaced:
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise OutputError(f"cannot write {path}: it is {kind}; choose another name")


def _create_temporary(path: Path, folder: int, mode: int) -> tuple[BinaryIO, str]:
    """Create a temporary file for ``path``, locked; return it and its name. Names of writers that
    are at work, and of files that are not ours, are passed over."""
    for number in range(_MOST_TEMPORARIES):
        name = _temporary_name(path.name, number)
        if not _remove_left_over(name, folder):
            continue
        with suppress(FileExistsError):
            file = os.fdopen(os.open(name, os.O_RDWR | _NEW, mode, dir_fd=folder), "w+b")
            if _lock(file.fileno()) and _is_at(file.fileno(), name, folder):
                _remove_left_over(_temporary_name(path.name, number + 1), folder)
                return file, name
            _close_quietly(file)  # another writer took it for a left-over
    raise _foreign(path.parent / name, "and those with smaller numbers are not ours or in use")


def _temporary_name(name: str, number: int) -> str:
    encoded = os.fsencode(name)
    if len(encoded) > _LONGEST_NAME:
        name = hashlib.sha256(encoded).hexdigest()
    return f".{name}.{number}.tmp" if number else f".{name}.tmp"


def _close_quietly(file: BinaryIO) -> None:
    with suppress(InterruptedError):
        file.close()


def _remove_left_over(name: str, folder: int) -> bool:
    """Remove the temporary file of a killed writer; False if the name has another user's file, a
    folder, or the file of a writer that is at work."""
    status = _status(name, folder)
    if status is None:
        return True
    if stat.S_ISDIR(status.st_mode) or not _is_mine(status, folder):
        return False
    if not stat.S_ISREG(status.st_mode):  # such as a link, which is not followed
        _retried(os.unlink, name, dir_fd=folder)
        return True
    try:
        with _opened(name, os.O_RDONLY | _FILE, folder=folder) as descriptor:
            if not _lock(descriptor):
                return False
            if _is_at(descriptor, name, folder):
                _retried(os.unlink, name, dir_fd=folder)
    except OSError:
        return False
    return True


def replace_file(temporary: Path, path: Path) -> None:
    """Fsync ``temporary`` and rename it to ``path``, replacing a file of that name."""
    with _folder(temporary.parent) as source, _folder(path.parent) as folder:
        _check_replaceable(path, folder)
        with _closing(_open_own(temporary, source)) as file:
            os.fsync(file.fileno())
        _retried(os.replace, temporary.name, path.name, src_dir_fd=source, dst_dir_fd=folder)
        _sync(folder)


def _open_own(path: Path, folder: int) -> BinaryIO:
    """Open a file of ours to go on writing it; raises OutputError if it is somebody else's."""
    try:
        descriptor = os.open(path.name, os.O_RDWR | _FILE, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _foreign(path, "is a link") from None
        raise
    try:
        _check_plain(path, os.fstat(descriptor))
        if not _is_mine(os.fstat(descriptor), folder):
            raise _foreign(path, "belongs to another user")
        return os.fdopen(descriptor, "r+b")
    except BaseException:
        close_descriptor(descriptor)
        raise


def _check_plain(path: Path, status: os.stat_result) -> None:
    """Raise OutputError unless this is a regular file with one name."""
    if stat.S_ISLNK(status.st_mode):
        raise _foreign(path, "is a link")
    if not stat.S_ISREG(status.st_mode):
        raise _foreign(path, "is not a regular file")
    if status.st_nlink > 1:
        raise _foreign(path, "is a hard link to another file")


@contextmanager
def open_growing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that grows from call to call, such as a download, at its end; see ``restart``.
    An empty one is removed afterwards.

    Raises:
        OutputError: it is a link or another user's file.
    """
    with translate_os_errors(path):
        with _folder(path.parent, create=True) as folder:
            with suppress(FileExistsError):
                close_descriptor(os.open(path.name, os.O_WRONLY | _NEW, 0o666, dir_fd=folder))
            file = _open_own(path, folder)
        file.seek(0, os.SEEK_END)
    with _closing(file):
        try:
            yield file
            file.flush()
        finally:
            if not os.fstat(file.fileno()).st_size:
                remove_file(path)


def restart(file: BinaryIO) -> None:
    """Drop the content of a file from ``open_growing``."""
    os.ftruncate(file.fileno(), 0)
    file.seek(0)


@contextmanager
def scratch_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that only this run reads: its mode is 0600, it is not fsynced, and it is
    removed on failure."""
    with translate_os_errors(path), _folder(path.parent, create=True) as folder:
        with suppress(FileNotFoundError):
            _retried(os.unlink, path.name, dir_fd=folder)
        descriptor = os.open(path.name, os.O_WRONLY | _NEW, 0o600, dir_fd=folder)
        try:
            with _closing(os.fdopen(descriptor, "wb")) as file:
                yield file
                file.flush()
        except BaseException:
            with suppress(OSError):
                os.unlink(path.name, dir_fd=folder)
            raise


def unnamed_file(folder: Path) -> IO[bytes]:
    """Return a new file without a name in ``folder``, made if missing; it ends with the process."""
    with translate_os_errors(folder), _folder(folder, create=True):
        return tempfile.TemporaryFile(dir=folder)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically and durably."""
    with writing_to(path) as temporary:
        temporary.write(content)


@contextmanager
def writing_parquet(
    path: Path, schema: pa.Schema, *, mode: int = 0o666, **options: Any
) -> Iterator[pq.ParquetWriter]:
    """Yield a ``ParquetWriter`` for ``path``, which is replaced as in ``writing_to``. Pages have
    checksums; they are compressed with zstd unless ``options`` name another ``compression``."""
    merged = {"compression": "zstd", **options, "write_page_checksum": True}
    with (
        writing_to(path, mode=mode) as temporary,
        pq.ParquetWriter(temporary, schema, **merged) as writer,
    ):
        yield writer


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table to ``path``; see ``writing_parquet``."""
    with writing_parquet(path, table.schema) as writer:
        writer.write_table(table)


def json_bytes(document: Any) -> bytes:
    """Return ``document`` as indented UTF-8 JSON with a final newline; ValueError for NaN."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def publish_folder(staging: Path, final: Path) -> None:
    """Rename the finished folder ``staging`` to ``final``: all files become visible at once.

    Raises:
        FileExistsError: ``final`` exists; nothing is changed.
    """
    try:
        with (
            _folder(final.parent) as folder,
            _folder(staging.parent) as source,
            _folder(staging) as opened,
        ):
            if _status(final.name, folder):  # which rename would replace if it is empty
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            _sync(opened)
            if not _is_at(opened, staging.name, source):
                raise _foreign(staging, "was exchanged by another process")
            _retried(os.rename, staging.name, final.name, src_dir_fd=source, dst_dir_fd=folder)
            _sync(folder)
            _sync(source)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(str(final)) from None  # maybe by another process just now
        with translate_os_errors(final):
            raise


def swap_link(link: Path, target: str) -> None:
    """Point a symbolic link at ``target``, atomically; the caller holds the folder's lock.

    Raises:
        OutputError: something else than a link has the name.
    """
    with translate_os_errors(link), _folder(link.parent) as folder:
        status = _status(link.name, folder)
        if status and not stat.S_ISLNK(status.st_mode):
            raise OutputError(f"cannot write {link}: it is no link; move it away")
        for number in range(_MOST_TEMPORARIES):
            temporary = _temporary_name(link.name, number)
            if _remove_left_over(temporary, folder):
                break
        _retried(os.symlink, target, temporary, dir_fd=folder)
        _retried(os.replace, temporary, link.name, src_dir_fd=folder, dst_dir_fd=folder)
        _sync(folder)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, durably; no error if it exists."""
    with translate_os_errors(folder), _folder(folder, create=True):
        pass


def remove_file(path: Path) -> None:
    """Remove a file, or a link itself; no error if it is missing."""
    with translate_os_errors(path), suppress(FileNotFoundError), _folder(path.parent) as folder:
        _retried(os.unlink, path.name, dir_fd=folder)


def clear_folder(
    folder: Path, keep: Collection[str], removable: re.Pattern[str], aside: Path
) -> None:
    """Leave only the entries ``keep`` in a folder of ours, and what the system puts there: files
    whose name matches ``removable`` are removed, all else is moved to the folder ``aside``."""
    with translate_os_errors(folder), _folder(aside) as other, _folder(folder) as opened:
        for name in sorted({path.name for path in folder.iterdir()} - set(keep)):
            status = _status(name, opened)
            if status is None or is_system_file(name):
                continue
            if removable.fullmatch(name) and not stat.S_ISDIR(status.st_mode):
                _retried(os.unlink, name, dir_fd=opened)
                continue
            moved = f"_found-{secrets.token_hex(4)}-{name}"
            _retried(os.rename, name, moved, src_dir_fd=opened, dst_dir_fd=other)


def own_folders(parent: Path, prefix: str) -> list[Path]:
    """Return the folders in ``parent`` whose name starts with ``prefix``, sorted; links and what
    belongs to another user are left out."""
    names = sorted(path.name for path in parent.glob(f"{prefix}*"))
    if not names:
        return []
    with _folder(parent) as folder:
        found = {name: _status(name, folder) for name in names}
        return [
            parent / name
            for name, status in found.items()
            if status and stat.S_ISDIR(status.st_mode) and _is_mine(status, folder)
        ]


def withdraw_folder(folder: Path, to: Path) -> None:
    """Remove a published folder: rename it to the hidden ``.purged-NAME`` in ``to``, then delete
    that.

    Raises:
        OutputError: it is a link.
        StorageError: a file could not be removed.
    """
    hidden = folder if folder.name.startswith(".") else to / f".purged-{folder.name}"
    with (
        translate_os_errors(folder),
        _folder(folder.parent) as parent,
        _folder(hidden.parent) as target,
    ):
        status = _status(folder.name, parent)
        if status and not stat.S_ISDIR(status.st_mode):
            raise _foreign(folder, "is no folder")
        if hidden != folder and _status(hidden.name, target):  # what an earlier purge had to leave
            hidden = to / f"{hidden.name}.{secrets.randbelow(10**9)}"
        _retried(os.rename, folder.name, hidden.name, src_dir_fd=parent, dst_dir_fd=target)
        _sync(target)
        _sync(parent)
        _remove_tree(hidden.name, target)
        if _status(hidden.name, target):
            raise StorageError(f"{hidden} could not be removed; delete it by hand")


def remove_tree(folder: Path) -> None:
    """Remove a folder with its content as far as possible; no error if it is missing. A link is
    neither followed nor removed."""
    with suppress(OSError), _folder(folder.parent) as parent:
        _remove_tree(folder.name, parent)


def _remove_tree(name: str, parent: int) -> bool:
    """Remove a folder with its content as far as possible; False if it is no folder.
    (``shutil.rmtree`` closes a folder twice where a signal interrupts the first time.)"""
    flags = os.O_RDONLY | _O_DIRECTORY | _O_NOFOLLOW
    try:
        with _opened(name, flags, folder=parent) as folder:
            for entry in os.listdir(folder):  # noqa: PTH208 (a descriptor)
                if not _remove_tree(entry, folder):
                    with suppress(OSError):
                        _retried(os.unlink, entry, dir_fd=folder)
    except OSError:
        return False
    with suppress(OSError):
        _retried(os.rmdir, name, dir_fd=parent)
    return True


@contextmanager
def hold(lock: Path, holder: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on the file ``lock`` while the block runs. If the block fails, a lock
    that was created for it is removed, and so are folders that were created for the lock and have
    nothing else in them. After success it stays, empty.

    Args:
        holder: what the lock says about its holder to other processes.
        wait: wait until the lock is free; for locks that are held for moments.

    Raises:
        BusyError: another process holds the lock; the message has its ``holder``.
        OutputError: ``lock`` is a link or no regular file, or the file system has no locks.
    """
    file, created = _take_lock(lock, wait=wait)
    with _closing(file):
        try:
            with translate_os_errors(lock):
                _say(file, holder)
            yield
        except BaseException:
            _remove_created(created)
            raise
        finally:
            with suppress(OSError):
                _say(file, "")


def _say(file: BinaryIO, holder: str) -> None:
    """Write the holder into a lock; that of another user is left as it is."""
    if file.writable():
        os.ftruncate(file.fileno(), 0)
        file.seek(0)
        file.write(holder.encode())


def _take_lock(lock: Path, *, wait: bool) -> tuple[BinaryIO, list[Path]]:
    """Return the lock's file, locked, and what was created for it: itself, then folders, its own
    first."""
    created = list[Path]()
    for attempt in range(_WAIT_TRIES):
        created = created or [p for p in (lock, *lock.parents) if not os.path.lexists(p)]
        with translate_os_errors(lock), _folder(lock.parent, create=True) as folder:
            try:
                file = _open_lock(lock, folder)
            except (FileNotFoundError, FileExistsError):
                continue  # another process has just removed, or created it
            try:
                locked = _lock(file.fileno())
            except OSError as error:
                _close_quietly(file)
                raise OutputError(
                    f"{lock} cannot be locked: {error.strerror}; choose a folder on another "
                    "file system"
                ) from error
            if locked and _is_at(file.fileno(), lock.name, folder):
                return file, created
        with _closing(file):
            if not locked and (not wait or attempt == _WAIT_TRIES - 1):
                raise BusyError(
                    f"{lock.parent} is being written by {_read_holder(file)}; "
                    "wait for it to end, then run this again"
                )
        if not locked:
            time.sleep(_PAUSE)
    raise BusyError(f"{lock} is removed again and again; wait a moment, then run this again")


def _open_lock(lock: Path, folder: int) -> BinaryIO:
    """Open a lock's file, or create it. Another user's is opened only to be locked."""
    status = _status(lock.name, folder)
    if status is None:
        descriptor = os.open(lock.name, os.O_RDWR | _NEW, 0o666, dir_fd=folder)
        return cast(BinaryIO, os.fdopen(descriptor, "r+b", buffering=0))
    _check_plain(lock, status)
    mine = _is_mine(status, folder)
    try:
        flags = (os.O_RDWR if mine else os.O_RDONLY) | _FILE
        descriptor = os.open(lock.name, flags, dir_fd=folder)
    except PermissionError:
        raise _foreign(lock, "belongs to another user" if not mine else "is not readable") from None
    try:
        _check_plain(lock, os.fstat(descriptor))
        if mine and _Privacy.blocks:
            os.fchmod(descriptor, 0o600)
        return cast(BinaryIO, os.fdopen(descriptor, "r+b" if mine else "rb", buffering=0))
    except BaseException:
        close_descriptor(descriptor)
        raise


def _remove_created(created: Sequence[Path]) -> None:
    """Remove a lock that this process created and holds, and the folders that were created for it,
    up to the first that has something else in it. A process that has opened the lock notices by
    ``_is_at``, and creates a new one."""
    with suppress(OSError):
        for path in created[:1]:
            remove_file(path)
        for path in created[1:]:
            with _folder(path.parent) as folder:
                os.rmdir(path.name, dir_fd=folder)


def _read_holder(file: BinaryIO) -> str:
    """Return what a lock says about its holder."""
    for _ in range(_HOLDER_TRIES):
        file.seek(0)
        if holder := file.read(200).decode(errors="replace").strip():
            return holder
        time.sleep(_PAUSE)
    return "another process"


def sha256_of(path: Path, *, links: bool = True) -> str:
    """Return the SHA-256 of a regular file's bytes as 64 hex digits; see ``open_file``."""
    with open_file(path, links=links) as file:
        return sha256_of_open(file)


def sha256_of_open(file: BinaryIO) -> str:
    """Return the SHA-256 of all bytes of an open file as 64 hex digits."""
    file.seek(0)
    return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()


def sha256_of_each(paths: Sequence[Path], *, links: bool = True) -> list[str]:
    """Return the SHA-256 of every file, several files at a time (about 1 GB/s a core)."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1, len(paths) or 1)) as pool:
        return list(pool.map(partial(sha256_of, links=links), paths))


def write_sums(folder: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """Write ``SHA256SUMS`` of the files ``names`` in ``folder``, by default of all; return name →
    digest."""
    present = (n for n in entries_of(folder) if n != SUMS and not is_system_file(Path(n).name))
    listed = sorted(present if names is None else names)
    digests = sha256_of_each([folder / name for name in listed], links=False)
    sums = dict(zip(listed, digests, strict=True))
    write_bytes(folder / SUMS, "".join(f"{sums[n]}  {n}\n" for n in sums).encode())
    return sums


def entries_of(folder: Path) -> set[str]:
    """Return the paths of what is in a folder and in the folders in it, below it: of files, of
    links, and of folders that are empty or hold nothing of ours."""
    entries = set[Path]()
    for path in folder.iterdir():
        inside = list[Path]()
        if path.is_dir() and not path.is_symlink() and not is_system_file(path.name):
            with suppress(OSError):
                inside = list(path.iterdir())
        entries.update(inside or [path])
    return {path.relative_to(folder).as_posix() for path in entries}


def check_sums(
    folder: Path,
    error: type[CharrnnError] = ModelError,
    digest_of: Callable[[Path], str] | None = None,
) -> str:
    """Verify every file of ``folder``, and of folders in it, against its ``SHA256SUMS``; return the
    SHA-256 of that file, which identifies the content of the whole folder. What operating systems
    put into folders by themselves (see ``is_system_file``) is passed over unless it is listed.

    Raises:
        ``error``: files are missing, unlisted or changed; the message lists all of them.
    """
    digest_of = digest_of or partial(sha256_of, links=False)
    try:
        sums = read_file(folder / SUMS)
    except OSError:
        raise error(f"{folder} has no readable {SUMS}; it is incomplete") from None
    *lines, end = sums.decode(errors="replace").split("\n")
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if end or len(listed) < len(lines) or not all(listed):
        raise error(f"{folder / SUMS} is damaged")
    present = entries_of(folder) - {SUMS}
    present -= {name for name in present - listed.keys() if is_system_file(Path(name).name)}
    problems = [f"{n} is missing" for n in sorted(listed.keys() - present)]
    problems += [f"{n} is not listed" for n in sorted(present - listed.keys())]
    for name in sorted(listed.keys() & present):
        try:
            if digest_of(folder / name) != listed[name]:
                problems.append(f"{name} has changed")
        except OSError as failure:
            problems.append(f"{name} cannot be read: {failure.strerror}")
    if problems:
        raise error(f"{folder} fails its {SUMS}: {'; '.join(problems)}")
    return hashlib.sha256(sums).hexdigest()


def system_files(folder: Path) -> list[str]:
    """Return what operating systems put into a folder by themselves, sorted; see ``entries_of``."""
    return sorted(name for name in entries_of(folder) if is_system_file(Path(name).name))


def read_verified(folder: Path) -> tuple[str, dict[str, bytes]]:
    """Read all files of a folder, each once, and verify the bytes read as ``check_sums`` does;
    return the digest of the folder, and name → content. Raises as ``check_sums`` does."""
    contents: dict[str, bytes] = {}

    def digest_of(path: Path) -> str:
        content = contents[path.relative_to(folder).as_posix()] = read_file(path)
        return hashlib.sha256(content).hexdigest()

    return check_sums(folder, ModelError, digest_of), contents


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Raise an OSError of the block as StorageError or OutputError, with path and fix."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            existing = next(p for p in (path, *path.parents) if os.path.lexists(p))
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


class _Privacy:
    """How many blocks of ``private_files`` run in this process, and the umask before them."""

    lock = threading.Lock()
    blocks = 0
    umask = 0


@contextmanager
def private_files(private: bool) -> Iterator[None]:
    """If ``private``, create files in the block with mode 0600 and folders with 0700, by the umask
    of the whole process, until the last of several such blocks has ended."""
    if not private:
        yield
        return
    with _Privacy.lock:
        if not _Privacy.blocks:
            _Privacy.umask = os.umask(0o077)
        _Privacy.blocks += 1
    try:
        yield
    finally:
        with _Privacy.lock:
            _Privacy.blocks -= 1
            if not _Privacy.blocks:
                os.umask(_Privacy.umask)


def make_private(folder: Path) -> None:
    """Take the rights of group and others from a folder of this user and the files in it and in
    the folders in it, if this is in a block of ``private_files``; an earlier run may have written
    them without."""
    if not _Privacy.blocks:
        return
    inner = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    for path in (folder, *inner):
        with translate_os_errors(path), _folder(path.parent) as parent, _folder(path) as opened:
            _restrict(path.name, parent, _O_DIRECTORY)
            for entry in path.iterdir():
                _restrict(entry.name, opened, 0)


def _restrict(name: str, folder: int, flags: int) -> None:
    """Take the rights of group and others from a file or folder, if it is this user's."""
    status = _status(name, folder)
    kinds = (stat.S_IFREG, stat.S_IFDIR)
    if not status or stat.S_IFMT(status.st_mode) not in kinds or not status.st_mode & 0o077:
        return
    if _is_mine(status, folder):
        with _opened(name, os.O_RDONLY | _FILE | flags, folder=folder) as opened:
            os.fchmod(opened, stat.S_IMODE(os.fstat(opened).st_mode) & 0o700)
