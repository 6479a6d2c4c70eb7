"""The zip reader under fuzzing: it gives plain language files within its caps, or refuses."""

import tempfile
from pathlib import Path

from charrnn.errors import DataError
from charrnn.training import archive, corpus
from charrnn.training.archive import MAX_ARCHIVE_BYTES
from charrnn.training.corpus import build_table
from charrnn.training.label_files import find_label_files

MODULES = [archive, corpus]
TOKENS = [b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"../", b"/", b"\\", b".txt",
          b"names/", b"Greek.txt", b"\0", b"\xff\xff", b"\x08\x00", b"\x0c\x00", b"\n"]  # fmt: skip


def check(data: bytes) -> None:
    """Raise AssertionError where the reader breaks its promise."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        path = Path(name) / "data.zip"
        path.write_bytes(data)
        try:
            files = find_label_files(path)[0]
            build_table(files)
        except DataError:
            files = []
        assert sum(len(file.content) for file in files) <= MAX_ARCHIVE_BYTES
        assert len({file.label.casefold() for file in files}) == len(files)
        assert not [f for f in files if "/" in f.label or f.label in ("", ".", "..")]
        left = [str(p.relative_to(name)) for p in Path(name).rglob("*")]
        assert left == ["data.zip"], "reading wrote something"


if __name__ == "__main__":
    from tests.fuzz.loop import main

    main("zip", check, MODULES, TOKENS)
