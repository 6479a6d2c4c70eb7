"""What a file is by its first bytes, whatever its name says."""

import re

HEAD_BYTES = 4096  # that are looked at

_SIGNATURES: tuple[tuple[int, bytes | tuple[bytes, ...], str], ...] = (  # offset, bytes, kind
    (0, b"PAR1", "Parquet"),
    (0, b"PARE", "encrypted Parquet"),
    (0, b"ARROW1", "Arrow IPC (Feather)"),
    (0, b"FEA1", "Feather"),
    (0, b"\xff\xff\xff\xff", "an Arrow IPC stream"),
    (0, b"ORC", "ORC"),
    (0, b"Obj\x01", "Avro"),
    (0, b"\xd0\xcf\x11\xe0", "an old Excel or Word file"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (8, b"DUCK", "a DuckDB database"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ", "xz"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a Python pickle"),
    (0, (b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), "a picture"),
    (0, b"\x7fELF", "a program"),
)
_OFFICE = (  # name inside a zip, kind
    (b"xl/", "an Excel workbook"),
    (b"word/", "a Word document"),
    (b"ppt/", "a PowerPoint file"),
    (b"opendocument.spreadsheet", "an OpenDocument spreadsheet"),
    (b"opendocument", "an OpenDocument file"),
    (b"[Content_Types].xml", "an Office file (Excel, Word)"),
    (b"", "a zip archive"),
)
_TEXT = (  # pattern of text, kind
    (rb"(?i)<!doctype html|<html|<head|<table|<script|<body", "HTML, a web page"),
    (rb"<\?xml|<!--|<[A-Za-z][\w:.-]*[\s>]", "XML or HTML"),
    (rb'\{\s*("[^"]*"\s*:|\})|\[\s*([\[{]|\])', "JSON"),
    (rb"%PDF-", "a PDF"),
    (rb"\{\\rtf", "a text document (RTF)"),
    (rb"%!PS", "PostScript"),
    (rb"version https://git-lfs\.github\.com/", "a Git LFS pointer; run git lfs pull"),
    (rb"-----BEGIN PGP", "encrypted (PGP)"),
    (rb"MIME-Version:", "a web page saved as an archive (MIME)"),
    (rb"SQLite format 3", "an SQLite database"),
)
COMPRESSED = {"gzip": "gz", "zstd": "zst", "bzip2": "bz2"}  # kind → suffix


def kind_of(head: bytes) -> str:
    """Return what a file that begins with ``head`` is, such as ``an Excel workbook``; "" if it may
    be plain text.

    >>> kind_of(b"PAR1\\x15\\x04"), kind_of(b"id,name\\n")
    ('Parquet', '')
    """
    head = head[:HEAD_BYTES]
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return next(kind for part, kind in _OFFICE if part in head)
    binary = re.search(rb"[\x00-\x08\x0e-\x19\x1c-\x1f\x80-\xff]", head)
    for offset, signature, kind in _SIGNATURES if binary else ():
        if head[offset:].startswith(signature) and not head.startswith(b"\xff\xfe"):
            return kind
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for pattern, kind in _TEXT if re.match(pattern, text)), "")
