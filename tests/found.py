"""Input files as a run finds and fingerprints them."""

from collections.abc import Sequence
from pathlib import Path

from charrnn.tables.discovery import Found, FoundFile
from charrnn.tables.kinds import path_text
from charrnn.tables.source import InputFile, fingerprint


def fingerprint_files(paths: Sequence[Path]) -> tuple[InputFile, ...]:
    """Fingerprint files one by one, whatever lies beside them."""
    return fingerprint(Found(tuple(FoundFile(path, path_text(path.name)) for path in paths)))
