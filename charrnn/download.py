"""Fetch one file over HTTPS: resumed where the server allows it, capped, atomic."""

from __future__ import annotations

__all__ = ["fetch"]

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from charrnn.errors import ConfigError, DataError, InputMissingError
from charrnn.files import explained, make_folder, open_part, remove_file, replace_file

MAX_BYTES = 256 * 2**20
_CHUNK = 2**16
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
    """Download ``url`` to ``target`` and return it; an existing ``target`` is used as it is.

    What arrived before a failure stays in ``target.part``, and the next attempt (in this call or a
    later one) asks for the rest only. ``wait`` seconds, doubled each time, lie between attempts.

    Raises:
        ConfigError: the address is not https (http is accepted for this machine itself).
        DataError: the file is larger than ``max_bytes``.
        InputMissingError: every attempt failed; says how to go on without a network.
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
            with explained(target):
                replace_file(partial, target)
            return target
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # the part does not fit the file any more
                remove_file(partial)
            problem = error
        except (urllib.error.URLError, ConnectionError, TimeoutError, HTTPException) as error:
            problem = error
    raise InputMissingError(
        f"{url} could not be downloaded after {attempts} attempts ({problem}); download it by "
        "other means and give the zip or an unpacked folder as SOURCE"
    ) from problem


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ConfigError(f"{url} is not an https address")


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follow a redirect only to an address that could have been given."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> Any:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_CheckedRedirects)


def _fetch_rest(
    url: str, partial: Path, max_bytes: int, timeout: float, on_bytes: Callable[[int], None]
) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with _OPENER.open(request, timeout=timeout) as response:
        start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        resumed = response.status == 206 and start == str(have)
        if response.status == 206 and not resumed:
            raise ConnectionError("the server sent another part than was asked for")
        expected = response.headers.get("Content-Length")
        size = have if resumed else 0
        total = size + int(expected) if expected else None
        with open_part(partial, keep=resumed) as file:
            while chunk := response.read(_CHUNK):
                size += len(chunk)
                if size > max_bytes:
                    remove_file(partial)
                    raise DataError(f"{url} is larger than {max_bytes:,} bytes; it is refused")
                with explained(partial):
                    file.write(chunk)
                on_bytes(len(chunk))
    if total is not None and size != total:
        raise ConnectionError(f"got {size} of {total} bytes")
