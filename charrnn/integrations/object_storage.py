"""Copy inputs from object storage, and published runs to it.

Object storage has neither rename nor locks, which publishing needs. So an input is first copied to
the run's destination, and a run is first published locally, then uploaded: ``SHA256SUMS`` first,
``manifest.json`` last, then ``latest.json`` beside the runs, which names it.

**Readers must ignore a prefix without manifest.json.** The last eight digits of its name are from
the digest of ``SHA256SUMS``: equal prefixes have equal content, so an upload can be repeated.

Stores are accessed through fsspec: ``s3://`` needs the extra ``s3``, ``gs://`` the extra ``gcs``.
Credentials and endpoints are those that s3fs and gcsfs find.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from charrnn.errors import (
    CharrnnError,
    ConfigError,
    DataError,
    InputMissingError,
    StorageError,
    is_uri,
    missing_package,
    storage_error,
)
from charrnn.files import (
    SUMS,
    check_sums,
    entries_of,
    is_system_file,
    json_bytes,
    own_folders,
    read_file,
    remove_tree,
    scratch_file,
    writing_to,
)
from charrnn.runs.manifest import FetchedRecord
from charrnn.tables.discovery import MAGIC, Skipped, has_hidden, sort_names
from charrnn.tables.hive import is_partition
from charrnn.tables.kinds import TABLES, other_kind, table_name
from charrnn.tables.unchanged import changed

_EXTRAS = {"s3": "s3", "gs": "gcs", "memory": ""}  # supported scheme → extra
# Keys of fsspec's ``info`` that identify an object's content, by store; the first one present.
_STATE_KEYS = ("ETag", "etag", "generation", "LastModified", "last_modified", "mtime", "created")


def fetch(uri: str, destination: Path) -> tuple[Path, tuple[FetchedRecord, ...]]:
    """Copy an object, the matches of a glob, or all tables below a prefix into
    ``destination/.fetched-…``; return the file, glob or folder to score, and the objects copied.

    The copy has the folders of the store, and empty files in place of objects of other kinds, so
    that ``tables.discovery`` finds, and names, there what it would find in a folder.

    Copies of an interrupted run are reused if the objects are unchanged; other ``.fetched-``
    folders are removed (the caller holds the destination's lock).

    Raises:
        InputMissingError: there is no such object.
        DataError: an object changed while it was copied.
        ConfigError: the scheme is not supported, or its package is missing.
        StorageError: the store cannot be reached, or refuses a request.
    """
    with _reaching(uri):
        store, named = _open(uri)
        tables, others, base = _discover(store, named, uri)
        objects = tuple(_identify(store, path) for path in tables)
    content = [*(asdict(file) for file in objects), *others]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    folder = destination / f".fetched-{digest[:16]}"
    for other in own_folders(destination, ".fetched-"):
        if other != folder:
            remove_tree(other)
    for path, file in zip(tables, objects, strict=True):
        copy = folder / _inside(path, base)
        if not copy.exists():
            _download(store, path, copy, file)
    for path in others:  # empty, for their names
        copy = folder / _inside(path, base)
        if not copy.exists():
            with scratch_file(copy):
                pass
    return folder / _inside(named, base), objects


def fetch_input(source: str, destination: Path) -> tuple[str, tuple[FetchedRecord, ...]]:
    """Copy an input from object storage beside the run; leave a local one where it is."""
    if not is_uri(source):
        return source, ()
    copied, remote = fetch(source, destination)
    return str(copied), remote


def remove_copies(source: str, remote: tuple[FetchedRecord, ...]) -> None:
    """Remove what ``fetch_input`` copied."""
    for folder in (Path(source), *Path(source).parents) if remote else ():
        if folder.name.startswith(".fetched-"):
            remove_tree(folder)


def check_remote_unchanged(files: Sequence[FetchedRecord]) -> None:
    """Raise DataError if an object has changed since it was copied."""
    for file in files:
        with _reaching(file.uri):
            store, path = _open(file.uri)
            try:
                now = _identify(store, path)
            except FileNotFoundError:
                now = None
        if now != file:
            raise changed(file.uri)


def upload_run(run: Path, uri: str) -> str:
    """Copy a published run below ``uri``, its manifest last, and name it in ``latest.json``; return
    the URI of the copy. A run that was uploaded before is not copied again.

    Raises:
        DataError: the local run is damaged, or another one has its URI.
        ConfigError: the scheme is not supported, or its package is missing.
        StorageError: the store cannot be reached, or refuses a request; readers ignore what was
            copied.
    """
    digest = check_sums(run, DataError)
    name = f"{run.name}-{digest[:8]}"
    manifest = read_file(run / "manifest.json")
    with _reaching(uri):
        store, base = _open(uri)
        place = f"{base}/runs/{name}"
        if not store.exists(f"{place}/manifest.json"):
            names = entries_of(run) - {SUMS, "manifest.json"}
            others = sorted(name for name in names if not is_system_file(Path(name).name))
            for file in (SUMS, *others):
                store.put_file(str(run / file), f"{place}/{file}")
                size, expected = store.info(f"{place}/{file}")["size"], (run / file).stat().st_size
                if size != expected:
                    raise StorageError(
                        f"{place}/{file} has {size:,} bytes after an upload of {expected:,}; "
                        "nothing is visible, run this again"
                    )
            with suppress(FileExistsError):  # a concurrent upload was first; compared below
                store.pipe_file(f"{place}/manifest.json", manifest, mode="create")
        if store.cat_file(f"{place}/manifest.json") != manifest:
            raise DataError(f"{place}/manifest.json differs from that of {run}; remove one of them")
        store.pipe_file(f"{base}/latest.json", json_bytes({"run": name}))
        return str(store.unstrip_protocol(place))


def download_run(uri: str, folder: Path) -> Path:
    """Copy a run, or the latest run below ``uri``, into ``folder``; return the copy's folder.

    Raises:
        InputMissingError: there is no manifest, so no complete run.
    """
    with _reaching(uri):
        store, place = _open(uri)
        if not store.exists(f"{place}/manifest.json") and store.exists(f"{place}/latest.json"):
            place = f"{place}/runs/{json.loads(store.cat_file(f'{place}/latest.json'))['run']}"
        if not store.exists(f"{place}/manifest.json"):
            raise InputMissingError(f"{uri} is not a run: it has no manifest.json")
        copy = folder / PurePosixPath(place).name
        for path in store.find(place):
            _download(store, path, copy / _inside(path, place), _identify(store, path))
    return copy


def _discover(store: Any, path: str, uri: str) -> tuple[list[str], list[str], str]:
    """Return the tables that a URI names and the other objects, sorted, and the prefix below which
    their copies lie as they do: folders with columns in their names are kept."""
    if MAGIC.search(path):
        top = re.split(r"[^/]*[*?\[]", path)[0].rstrip("/")
        matches = store.glob(path, detail=True)
        given = [name for name, info in matches.items() if info["type"] != "directory"]
        below = [p for name in matches.keys() - set(given) for p in store.find(name)]
    elif store.isfile(path):
        top, given, below = path.rpartition("/")[0], [path], []
        if table_name(PurePosixPath(path).name) is None:
            raise DataError(f"{uri} is not a {TABLES}; {other_kind(path)[1]}")
    else:
        top, given, below = path, [], store.find(path)
    names = [_inside(p, top).as_posix() for p in below if p != top]
    inner, skipped = sort_names(names)
    tables = {p for p in given if table_name(PurePosixPath(p).name)} | {f"{top}/{n}" for n in inner}
    if not tables:
        beside = f"; {Skipped.of(skipped)}" if skipped else ""
        raise InputMissingError(f"{uri} has no {TABLES}{beside}")
    seen = [f"{top}/{n}" for n in names if not has_hidden(n)]
    others = {*given, *seen} - tables
    while is_partition(PurePosixPath(top).name):
        top = top.rpartition("/")[0]
    return sorted(tables), sorted(others), top


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


def _identify(store: Any, path: str) -> FetchedRecord:
    info = store.info(path)
    state = next((str(info[key]) for key in _STATE_KEYS if info.get(key)), "")
    return FetchedRecord(store.unstrip_protocol(path), int(info["size"]), state)


def _download(store: Any, path: str, copy: Path, file: FetchedRecord) -> None:
    """Copy an object; raise DataError if it changed meanwhile, StorageError if it is incomplete."""
    with writing_to(copy, mode=0o600) as temporary:
        with _reaching(file.uri):
            store.get_file(path, f"/dev/fd/{temporary.fileno()}")  # not by a name that can change
            now = _identify(store, path)
        if now != file:
            raise DataError(f"{file.uri} changed while it was copied; run this again")
        if temporary.seek(0, os.SEEK_END) != file.size:
            raise StorageError(f"{file.uri} arrived incomplete; run this again")


def _inside(path: str, base: str) -> Path:
    """Return the path of an object relative to ``base``; raise DataError if it leads out of it."""
    name = path.removeprefix(base).lstrip("/")
    if ".." in PurePosixPath(name).parts:
        raise DataError(f"{path} has '..' in its name; rename it")
    return Path(name)


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    """Raise errors of the store's library as CharrnnErrors that name the URI."""
    try:
        yield
    except CharrnnError:
        raise
    except FileNotFoundError:
        raise InputMissingError(f"{uri} does not exist") from None
    except Exception as error:  # each library has its own classes
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise  # the local disk is full; see ``writing_to``
        raise storage_error(f"{uri} cannot be reached", error) from error
