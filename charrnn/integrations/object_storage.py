"""Object storage: inputs are copied from it, finished runs are copied to it.

Rename and lock, on which the local commit rests, do not exist there. So nothing is computed on
object storage: an input is copied beside the run first, and a run is published locally first, then
uploaded as

    s3://bucket/people/20261124T020000Z-1f3a9c4e-5d0c77aa/SHA256SUMS       first: "this is a run"
                                                         /part-00000.parquet …, report.html
                                                         /manifest.json    last: "it is whole"
    s3://bucket/people/latest.json                        {"run": "20261124T020000Z-1f3a9c4e-…"}

**Readers take a prefix only if it has a manifest.json.** The last eight digits are those of the
digest of ``SHA256SUMS``, which stands for every byte of the run: equal prefixes have equal content,
so that uploading again, after a kill or twice at once, can only write what is there already.

The stores are fsspec's: ``s3://`` takes the extra ``s3``, ``gs://`` the extra ``gcs``. Credentials
and endpoints come from where those libraries look for them (``AWS_ENDPOINT_URL``, …).
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from charrnn.errors import (
    CharrnnError,
    ConfigError,
    DataError,
    InputMissingError,
    StorageError,
    missing_package,
    storage_error,
)
from charrnn.files import SUMS, check_sums, json_bytes, remove_tree, writing_to
from charrnn.tables.source import SUFFIXES

_EXTRAS = {"s3": "s3", "gs": "gcs", "memory": ""}  # what may be used, and the extra it takes
_STATE = ("ETag", "etag", "generation", "LastModified", "last_modified", "mtime", "created")


@dataclass(frozen=True)
class RemoteFile:
    """One object as it was when it was found; ``state`` is its ETag, generation or time."""

    uri: str
    size: int
    state: str


def fetch(uri: str, destination: Path) -> tuple[Path, tuple[RemoteFile, ...]]:
    """Copy what ``uri`` names (an object, all Parquet and CSV objects of a prefix, or a glob) into
    ``destination/.fetched-…``; return the file or folder to score, and what was copied.

    Copies that are there from an interrupted run are used again while the objects are the same;
    other ``.fetched-`` folders are removed (the caller holds the destination's lock).

    Raises:
        InputMissingError: it names nothing. DataError: an object changed while it was copied.
        ConfigError: the library for this kind of storage is missing. StorageError: it fails.
    """
    with _reaching(uri):
        store, paths, base = _discover(uri)
        found = tuple(_identify(store, path) for path in paths)
    digest = hashlib.sha256(json.dumps([asdict(file) for file in found]).encode()).hexdigest()
    folder = destination / f".fetched-{digest[:16]}"
    for other in destination.glob(".fetched-*"):
        if other != folder:
            remove_tree(other)
    for path, file in zip(paths, found, strict=True):
        copy = folder / _inside(path, base)
        if not copy.exists():
            _download(store, path, copy, file)
    single = len(paths) == 1 and paths[0] == base
    return (folder / PurePosixPath(base).name if single else folder), found


def check_remote_unchanged(files: Sequence[RemoteFile]) -> None:
    """Raise DataError when an object is no longer what it was when it was copied."""
    for file in files:
        with _reaching(file.uri):
            store, path = _open(file.uri)
            try:
                now = _identify(store, path)
            except FileNotFoundError:
                now = None
        if now != file:
            raise DataError(
                f"{file.uri} changed while it was being scored; nothing was published, run this "
                "again when nobody writes to it"
            )


def upload_run(run: Path, uri: str) -> str:
    """Copy a published run below ``uri``, its manifest last, and point ``latest.json`` at it;
    return the URI of the copy. A run that is there already is not copied again.

    Raises:
        DataError: the run is damaged here, or something else has its place there.
        ConfigError: the library for this kind of storage is missing. StorageError: it fails; what
            was copied so far is no run to any reader.
    """
    digest = check_sums(run, DataError)
    name = f"{run.name}-{digest[:8]}"
    manifest = (run / "manifest.json").read_bytes()
    with _reaching(uri):
        store, base = _open(uri)
        place = f"{base}/{name}"
        if not store.exists(f"{place}/manifest.json"):
            others = sorted(p.name for p in run.iterdir() if p.name not in (SUMS, "manifest.json"))
            for file in (SUMS, *others):
                store.put_file(str(run / file), f"{place}/{file}")
                there, here = store.info(f"{place}/{file}")["size"], (run / file).stat().st_size
                if there != here:
                    raise StorageError(
                        f"{place}/{file} has {there:,} bytes after an upload of {here:,}; nothing "
                        "is visible, run this again"
                    )
            with suppress(FileExistsError):  # uploaded twice at once; compared below
                store.pipe_file(f"{place}/manifest.json", manifest, mode="create")
        if store.cat_file(f"{place}/manifest.json") != manifest:
            raise DataError(f"{place}/manifest.json is not that of {run}; remove one of them")
        store.pipe_file(f"{base}/latest.json", json_bytes({"run": name}))
        return str(store.unstrip_protocol(place))


def download_run(uri: str, folder: Path) -> Path:
    """Copy a run, or the latest run below ``uri``, into ``folder``; return the copy's folder.

    Raises:
        InputMissingError: there is no manifest, so no (whole) run.
    """
    with _reaching(uri):
        store, place = _open(uri)
        if not store.exists(f"{place}/manifest.json") and store.exists(f"{place}/latest.json"):
            place = f"{place}/{json.loads(store.cat_file(f'{place}/latest.json'))['run']}"
        if not store.exists(f"{place}/manifest.json"):
            raise InputMissingError(f"{uri} is not a run: it has no manifest.json")
        copy = folder / PurePosixPath(place).name
        for path in store.find(place):
            _download(store, path, copy / _inside(path, place), _identify(store, path))
    return copy


def _discover(uri: str) -> tuple[Any, list[str], str]:
    """Return the store, the paths in it that ``uri`` names, sorted, and the folder they are in."""
    store, path = _open(uri)
    if re.search(r"[*?\[]", path):
        base = re.split(r"[^/]*[*?\[]", path)[0].rstrip("/")
        paths = [p for p in store.glob(path) if p.endswith(SUFFIXES)]
    elif store.isfile(path):
        if not path.endswith(SUFFIXES):
            raise DataError(f"{uri} is not a {', '.join(SUFFIXES)} file")
        return store, [path], path
    else:
        base = path.rstrip("/")
        below = store.find(base)
        # A folder with digests is a run, whole or not; it lies there as output.
        runs = tuple(p.removesuffix(SUMS) for p in below if p.endswith(f"/{SUMS}"))
        paths = [
            p for p in below
            if p.endswith(SUFFIXES) and not p.startswith(runs) and not _hidden(p, base)
        ]  # fmt: skip
    if not paths:
        raise InputMissingError(f"{uri} names no {', '.join(SUFFIXES)} object")
    return store, sorted(paths), base


def _open(uri: str) -> tuple[Any, str]:
    """Return fsspec's file system for ``uri``, and the path in it."""
    from fsspec.core import url_to_fs

    scheme = uri.split("://")[0]
    if scheme not in _EXTRAS:
        raise ConfigError(f"{scheme}:// is not supported; use s3:// or gs://, or give a local path")
    try:
        store, path = url_to_fs(uri, use_listings_cache=False)
    except ImportError:
        raise missing_package(f"{scheme}://", _EXTRAS[scheme]) from None
    return store, path.rstrip("/")


def _identify(store: Any, path: str) -> RemoteFile:
    facts = store.info(path)
    state = next((str(facts[key]) for key in _STATE if facts.get(key)), "")
    return RemoteFile(store.unstrip_protocol(path), int(facts["size"]), state)


def _download(store: Any, path: str, copy: Path, file: RemoteFile) -> None:
    """Copy an object, whole, and prove that it was one and the same from the first byte to the
    last."""
    with writing_to(copy) as temporary:
        with _reaching(file.uri):
            store.get_file(path, str(temporary))
            now = _identify(store, path)
        if now != file:
            raise DataError(f"{file.uri} changed while it was copied; run this again")
        if temporary.stat().st_size != file.size:
            raise StorageError(f"{file.uri} arrived incomplete; run this again")


def _inside(path: str, base: str) -> Path:
    """Return where an object lies below ``base``, as a relative path that stays inside."""
    name = PurePosixPath(path).name if path == base else path.removeprefix(base).lstrip("/")
    if ".." in PurePosixPath(name).parts:
        raise DataError(f"{path} has '..' in its name; rename it")
    return Path(name)


def _hidden(path: str, base: str) -> bool:
    return any(part[0] in "._" for part in _inside(path, base).parts)


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    """Turn what the store's library raises into one of ours that names the URI."""
    try:
        yield
    except CharrnnError:
        raise
    except FileNotFoundError:
        raise InputMissingError(f"{uri} does not exist") from None
    except Exception as error:  # each library has its own
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise  # the disk here, not the store
        raise storage_error(f"{uri} cannot be reached", error) from error
