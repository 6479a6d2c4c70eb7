"""Zip archives of language files: download, and safety checks before reading."""

import stat
import time
import unicodedata
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from charrnn.errors import ConfigError, DataError, InputMissingError
from charrnn.files import (
    closing_reader,
    make_folder,
    open_growing,
    remove_file,
    replace_file,
    restart,
    translate_os_errors,
)

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError)
MAX_ARCHIVE_MEMBERS = 10_000
MAX_ARCHIVE_BYTES = 256 * 2**20  # uncompressed; everything is read into memory
MAX_ARCHIVE_RATIO = 200  # uncompressed to compressed size of a member; text has about 3
MAX_BYTES = 64 * 2**20  # of an archive as stored: bounds the list of its members as well
EXPECTED = "expected a folder of LABEL.txt files, one name per line, or a zip of one"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile reads others without a size limit


def read_archive(path: Path) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Return (file name, bytes) of the language files in a zip, and the members left out.

    Raises:
        DataError: the file is no zip, or damaged or too large, or one of its members is unsafe.
    """
    if not path.is_file():
        raise DataError(f"{path} is neither a folder nor a file; {EXPECTED}")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise DataError(f"{path} has {size:,} bytes; at most {MAX_BYTES:,} are read")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members)
            files = {m.filename: m for m in members if not m.is_dir()}
            chosen, left_out = choose_language_files(files)
            return [(n.rpartition("/")[2], _content(archive, files[n])) for n in chosen], left_out
    except _DAMAGED as error:
        with closing_reader(path.open("rb")) as file:
            is_zip = file.read(2) == b"PK" or path.suffix.lower() == ".zip"
        if is_zip:
            raise DataError(f"{path} is not a readable zip archive; download it again") from error
        raise DataError(
            f"{path} is not a zip archive; {EXPECTED}, or a labelled table (.parquet, .csv)"
        ) from None


def choose_language_files(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the language files among relative paths, and the files left out, both sorted.

    A language file has the suffix .txt in any case. Where a folder is called ``names``, as in the
    tutorial's layout, only those in it are; else all are, in subfolders too. Hidden files, and
    those that begin with an underscore, are in neither.

    Raises:
        DataError: several folders are called ``names``.

    >>> choose_language_files(["Greek.txt", "more/Polish.TXT", "notes.md"])
    (['Greek.txt', 'more/Polish.TXT'], ['notes.md'])
    """
    visible = [n for n in names if not any(part[0] in "._" for part in PurePosixPath(n).parts)]
    text = [n for n in visible if PurePosixPath(n).suffix.lower() == ".txt"]
    chosen = [n for n in text if PurePosixPath(n).parent.name == "names"]
    if len(folders := sorted({str(PurePosixPath(n).parent) for n in chosen})) > 1:
        raise DataError(f"several folders are called names: {', '.join(folders[:5])}; give one")
    chosen = chosen or text
    return sorted(chosen), sorted(set(visible) - set(chosen))


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Read a member up to its declared size; ``ZipFile.read`` would decompress all of a member with
    a false size. Its checksum is verified at the end."""
    with archive.open(member) as file:
        return file.read(member.file_size)


def _check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_ARCHIVE_MEMBERS:
        raise DataError(
            f"{path} has {len(members)} members; at most {MAX_ARCHIVE_MEMBERS} are read"
        )
    total = sum(m.file_size for m in members)
    if total > MAX_ARCHIVE_BYTES:
        raise DataError(
            f"{path} unpacks to {total:,} bytes; at most {MAX_ARCHIVE_BYTES:,} are read"
        )
    seen: set[str] = set()
    for member in members:
        name = member.orig_filename
        parts = PurePosixPath(name).parts
        mode = member.external_attr >> 16
        problem = (
            "leaves the archive" if name.startswith("/") or ".." in parts
            else "has a backslash, colon or control character"
            if any(c in "\\:" or unicodedata.category(c) == "Cc" for c in name)
            else "is encrypted" if member.flag_bits & 1
            else "is not a regular file" if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)
            else "appears twice" if name.casefold() in seen
            else "is compressed by another method than deflate"
            if member.compress_type not in _METHODS
            else "has a compression ratio above 200:1"
            if member.file_size > 2**20
            and member.file_size > MAX_ARCHIVE_RATIO * max(1, member.compress_size)
            else None
        )  # fmt: skip
        if problem:
            raise DataError(f"{path}: member {name!r} {problem}; the archive is refused")
        seen.add(name.casefold())


_CHUNK = 2**16  # bytes read at once
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def fetch(
    url: str,
    target: Path,
    *,
    max_bytes: int = MAX_BYTES,
    attempts: int = 3,
    wait: float = 1.0,
    timeout: float = 30.0,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> Path:
    """Download ``url`` to ``target`` and return it; an existing ``target`` is not downloaded again.

    Bytes received before a failure stay in ``target.part``; the next attempt (in this call or a
    later one) requests the rest only.

    Args:
        max_bytes: largest file that is accepted.
        attempts: how often the download is tried.
        wait: seconds between two attempts, doubled each time.
        timeout: seconds without an answer after which an attempt fails.
        on_bytes: called with the number of bytes received.

    Raises:
        ConfigError: the address is not https (http is accepted for this machine itself).
        DataError: the file is larger than ``max_bytes``.
        InputMissingError: every attempt failed.
    """
    _check_address(url)
    if target.exists():
        return target
    make_folder(target.parent)
    partial = target.with_name(target.name + ".part")
    problem: Exception | None = None
    for attempt in range(attempts):
        if attempt:
            time.sleep(wait * 2 ** (attempt - 1))
        try:
            _fetch_rest(url, partial, max_bytes, timeout, on_bytes)
            with translate_os_errors(target):
                replace_file(partial, target)
            return target
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # range not satisfiable: the partial file is outdated
                remove_file(partial)
            problem = error
        except (urllib.error.URLError, ConnectionError, TimeoutError, HTTPException) as error:
            problem = error
    raise InputMissingError(
        f"{url} could not be downloaded after {attempts} attempts ({problem}); download it by "
        "other means and give the zip or an unpacked folder",
        option="sources",
    ) from problem


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ConfigError(f"{url} is not an https address")


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to addresses that ``fetch`` accepts."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> Any:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_CheckedRedirects)


def _fetch_rest(
    url: str, partial: Path, max_bytes: int, timeout: float, on_bytes: Callable[[int], None]
) -> None:
    with open_growing(partial) as file:
        have = file.tell()
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        with _OPENER.open(request, timeout=timeout) as response:
            sent = response.headers.get("Content-Range", "").removeprefix("bytes ")
            resumed = response.status == 206 and sent.partition("-")[0] == str(have)
            if response.status == 206 and not resumed:
                raise ConnectionError("the server sent a range that was not requested")
            expected = response.headers.get("Content-Length")
            size = have if resumed else 0
            total = size + int(expected) if expected else None
            if not resumed:
                restart(file)
            while chunk := response.read(_CHUNK):
                size += len(chunk)
                if size > max_bytes:
                    remove_file(partial)
                    raise DataError(f"{url} is larger than {max_bytes:,} bytes; it is refused")
                with translate_os_errors(partial):
                    file.write(chunk)
                on_bytes(len(chunk))
        if total is not None and size != total:
            raise ConnectionError(f"got {size} of {total} bytes")
