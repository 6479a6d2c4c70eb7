"""CSV files that are made to cost time or memory, for tests and benches.

Each function of ``CASES`` writes one file of about ``size`` bytes (unpacked) and is called as
``case(path_without_suffix, size)``; it returns the path. The cost must grow with ``size`` alone.
"""

import bz2
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

Case = Callable[[Path, int], Path]
_BLOCK = 2**20
CASES: dict[str, Case] = {}


def _blocks(unit: bytes, size: int) -> Iterator[bytes]:
    block = unit * max(1, _BLOCK // len(unit))
    for _ in range(max(1, size // len(block))):
        yield block


def _plain(name: str, unit: bytes, start: bytes = b"id,name\n", end: bytes = b"") -> None:
    def write(path: Path, size: int) -> Path:
        path = path.with_suffix(".csv")
        with path.open("wb") as file:
            file.write(start)
            file.writelines(_blocks(unit, size))
            file.write(end)
        return path

    CASES[name] = write


_plain("all quotes", b'"')
_plain("one long line of quotes", b'"', b'id,name\n1,"', b'"\n')
_plain("doubled quotes", b'""', b'id,name\n1,"', b'"\n')
_plain("one long line", b"x", b"id,name\n1,", b"\n")
_plain("no line end", b"x", b"")
_plain("empty lines", b"\n")
_plain("empty lines, one column", b"\n", b"name\n")
_plain("empty quoted cells", b'"",""\n')
_plain(
    "lines of delimiters",
    b"," * 15_999 + b"\n",
    b",".join(b"c%d" % i for i in range(16_000)) + b"\n",
)
_plain(
    "100,000 columns", b"," * 99_999 + b"\n", b",".join(b"c%d" % i for i in range(100_000)) + b"\n"
)
_plain("header of one repeated name", b"a,", b"")
_plain("carriage returns", b"\r", end=b"\n")
_plain("cells with a carriage return", b"1,a\rb\n")
_plain("quotes in unquoted cells", b'1,a"b"c"d"e"f"g"h\n')
_plain("quotes of both kinds in turn", b'"1",a"b\n')
_plain("runs of quotes in unquoted cells", b"1,a" + b'"' * 5000 + b"\n")
_plain("invalid UTF-8 everywhere", b"1,\xff\n")
_plain("invalid UTF-8 in every byte", b"\xff")
_plain("backslashes", b'1,"\\\\"\n')


def _packed(name: str, suffix: str, pack: Callable[[bytes], bytes], unit: bytes) -> None:
    def write(path: Path, size: int) -> Path:
        path = path.with_suffix(f".csv.{suffix}")
        block = pack(next(_blocks(unit, size)))  # members and frames may follow each other
        with path.open("wb") as file:
            file.write(pack(b"id,name\n"))
            file.writelines(block for _ in range(max(1, size // _BLOCK)))
        return path

    CASES[name] = write


def _zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


_packed("gzip that unpacks a thousandfold", "gz", gzip.compress, b"1,\n")
_packed("bzip2 that unpacks a thousandfold", "bz2", bz2.compress, b"1,\n")
_packed("zstd that unpacks a thousandfold", "zst", _zstd, b"1,\n")


def _members(path: Path, size: int) -> Path:
    """Gzip members of one row each."""
    path = path.with_suffix(".csv.gz")
    pack = zlib.compressobj(wbits=31)
    row = pack.compress(b"1,A\n") + pack.flush()
    with path.open("wb") as file:
        file.write(gzip.compress(b"id,name\n"))
        for block in _blocks(row, size):
            file.write(block)
    return path


CASES["gzip members of one row"] = _members
