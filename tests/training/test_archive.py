"""Downloads from a real server in a thread: resumed, capped, refused, never half done."""

import errno
import gc
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from recording import Proof

from charrnn.errors import ConfigError, DataError, InputMissingError, OutputError, StorageError
from charrnn.training.archive import fetch

CONTENT = bytes(range(256)) * 1000


@dataclass
class Behaviour:
    """What the server does, and what it has seen."""

    url: str = ""
    ranges: bool = True
    length: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes to send before hanging up, per request
    status: int = 200
    location: str = ""
    seen: list[str | None] = field(default_factory=list)  # Range header of every request


def handler_of(behaviour: Behaviour) -> type[BaseHTTPRequestHandler]:
    def answer(self: BaseHTTPRequestHandler) -> None:
        asked = self.headers["Range"]
        behaviour.seen.append(asked)
        self.close_connection = True
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        start = start if behaviour.ranges else 0
        if behaviour.status != 200:
            self.send_response(behaviour.status)
            self.send_header("Location", behaviour.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if behaviour.length:
            self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = start + behaviour.cuts.pop(0) if behaviour.cuts else len(CONTENT)
        self.wfile.write(CONTENT[start:stop])

    def log_message(self: BaseHTTPRequestHandler, *words: object) -> None:
        pass

    return type(
        "Handler", (BaseHTTPRequestHandler,), {"do_GET": answer, "log_message": log_message}
    )


def serve(address: str, behaviour: Behaviour) -> Iterator[Behaviour]:
    with ThreadingHTTPServer((address, 0), handler_of(behaviour)) as server:
        behaviour.url = f"http://{address}:{server.server_port}/data.zip"
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield behaviour
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True, scope="module")
def _objects_of_other_tests() -> Iterator[None]:
    """Left out of the collections below, which thereby take no time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _own_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No proxy, and a socket that was left open is reported by the test that left it."""
    monkeypatch.setenv("no_proxy", "*")
    yield
    gc.collect()


@pytest.fixture
def server() -> Iterator[Behaviour]:
    yield from serve("127.0.0.1", Behaviour())


@pytest.fixture
def elsewhere() -> Iterator[Behaviour]:
    """A server at an address that only https would be allowed for."""
    try:
        yield from serve("127.0.0.2", Behaviour())
    except OSError:
        pytest.skip("this machine has no second loopback address, 127.0.0.2")


def test_a_file_is_downloaded_whole(server: Behaviour, tmp_path: Path) -> None:
    target, sizes = tmp_path / "new" / "data.zip", []
    assert fetch(server.url, target, on_bytes=sizes.append) == target
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    assert sum(sizes) == len(CONTENT)
    assert server.seen == [None]


def test_an_existing_file_is_used_as_it_is(server: Behaviour, tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"mine")
    fetch(server.url, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == b"mine"
    assert server.seen == []


def test_a_part_is_resumed_where_it_ends(server: Behaviour, tmp_path: Path) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT[:1000])
    fetch(server.url, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert server.seen == ["bytes=1000-"]
    assert not (tmp_path / "data.zip.part").exists()


def test_a_cut_connection_is_resumed_in_the_same_call(server: Behaviour, tmp_path: Path) -> None:
    server.cuts = [70_000, 100_000]
    fetch(server.url, tmp_path / "data.zip", wait=0)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert server.seen == [None, "bytes=70000-", "bytes=170000-"]


def test_what_arrived_is_kept_for_the_next_call(server: Behaviour, tmp_path: Path) -> None:
    server.cuts = [70_000]
    with pytest.raises(InputMissingError, match="got 70000 of 256000 bytes"):
        fetch(server.url, tmp_path / "data.zip", attempts=1)
    assert [p.name for p in tmp_path.iterdir()] == ["data.zip.part"]
    fetch(server.url, tmp_path / "data.zip", attempts=1)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert server.seen == [None, "bytes=70000-"]


def test_a_server_without_ranges_sends_everything_again(server: Behaviour, tmp_path: Path) -> None:
    server.ranges = False
    server.cuts = [70_000]
    fetch(server.url, tmp_path / "data.zip", wait=0)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert server.seen == [None, "bytes=70000-"]


def test_a_server_without_a_length_is_read_to_its_end(server: Behaviour, tmp_path: Path) -> None:
    server.length = False
    fetch(server.url, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) + 5000])
def test_a_part_that_does_not_fit_is_fetched_anew(
    size: int, server: Behaviour, tmp_path: Path
) -> None:
    (tmp_path / "data.zip.part").write_bytes(b"x" * size)
    fetch(server.url, tmp_path / "data.zip", wait=0)
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert server.seen == [f"bytes={size}-", None]


@pytest.mark.parametrize("part", [0, 1000])
@pytest.mark.parametrize("length", [True, False])
def test_a_file_over_the_cap_is_refused(
    part: int, length: bool, server: Behaviour, tmp_path: Path
) -> None:
    server.length = length
    (tmp_path / "data.zip.part").write_bytes(CONTENT[:part])
    with pytest.raises(DataError, match=r"larger than 255,999 bytes"):
        fetch(server.url, tmp_path / "data.zip", max_bytes=len(CONTENT) - 1, wait=0)
    assert list(tmp_path.iterdir()) == []
    assert len(server.seen) == 1


def test_a_file_of_exactly_the_cap_is_accepted(server: Behaviour, tmp_path: Path) -> None:
    fetch(server.url, tmp_path / "data.zip", max_bytes=len(CONTENT))
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_refusal_is_missing_input_after_all_attempts(
    status: int, server: Behaviour, tmp_path: Path
) -> None:
    server.status = status
    with pytest.raises(InputMissingError, match=f"after 3 attempts .*{status}.*unpacked folder"):
        fetch(server.url, tmp_path / "data.zip", wait=0)
    assert server.seen == [None] * 3
    assert list(tmp_path.iterdir()) == []


def test_nobody_listening_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="after 2 attempts"):
        fetch("http://127.0.0.1:9/data.zip", tmp_path / "data.zip", attempts=2, wait=0)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/data.zip",
        "http://127.0.0.1.example.org/data.zip",
        "http://localhost@example.org/data.zip",
        "http://127.0.0.2/data.zip",
        "ftp://127.0.0.1/data.zip",
        "file:///etc/passwd",
        "data.zip",
        "",
    ],
)
def test_an_address_that_is_not_https_is_refused(url: str, tmp_path: Path, proof: Proof) -> None:
    with pytest.raises(ConfigError, match="not an https address"):
        fetch(url, tmp_path / "new" / "data.zip")
    assert list(tmp_path.iterdir()) == []
    proof("P11", "addresses of downloads that are not https: refused", 1)


def test_a_redirect_on_this_machine_is_followed(server: Behaviour, tmp_path: Path) -> None:
    for other in serve("127.0.0.1", Behaviour()):
        server.status, server.location = 302, other.url
        fetch(server.url, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


def test_a_redirect_away_from_https_is_refused(
    server: Behaviour, elsewhere: Behaviour, tmp_path: Path
) -> None:
    server.status, server.location = 302, elsewhere.url
    with pytest.raises((ConfigError, InputMissingError), match=r"127\.0\.0\."):
        fetch(server.url, tmp_path / "data.zip", wait=0)
    assert elsewhere.seen == []
    assert list(tmp_path.iterdir()) == []


def failing(code: int) -> Callable[[int], None]:
    def fsync(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    return fsync


def test_a_full_disk_is_a_storage_error(
    server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(StorageError, match=r"no space left while writing .*data\.zip"):
        fetch(server.url, tmp_path / "data.zip", wait=0)
    assert not (tmp_path / "data.zip").exists()


def test_a_target_below_a_file_is_an_output_error(server: Behaviour, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OutputError, match="cannot write"):
        fetch(server.url, tmp_path / "file" / "data.zip", wait=0)
