"""Lists of names in files: found, read, and proven unchanged by a digest.

A language file is ``LABEL.txt``, UTF-8, one name per line. Files come from a folder or from a zip
in the tutorial's layout (``data/names/*.txt``, nested or not). A zip is never extracted to disk:
its members are checked first and then read into memory, up to a maximum size. Lists of installed
packages (``training.name_packages``) take the same form.
"""

import codecs
import hashlib
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from charrnn.errors import DataError, InputMissingError
from charrnn.files import open_file
from charrnn.model.labels import MAX_LABELS, MIN_LABELS, label_key, label_problem
from charrnn.tables.csv_format import detect_encoding
from charrnn.training.archive import (
    EXPECTED,
    MAX_ARCHIVE_BYTES,
    choose_language_files,
    read_archive,
)

MAX_LINE = 10_000  # characters; a longer line is not one name

# ``content_digest`` of the 18 files (20,074 lines) of the PyTorch tutorial.
TUTORIAL_DIGEST = "4cb4ce50cd85cb333e89a3ce9ad5d8f9a149a015823242e6217011c0ef280625"

_LINE_END = re.compile("\r\n|\n|\r")
_ODD_LINE_END = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]")


Part = Literal["surname", "given", "other"]
"""What a line is: a surname, a given name, or a word that is no name."""


@dataclass(frozen=True)
class Source:
    """Where names come from; version and licence are those of a package. ``counted``: from a
    labelled table, so that the shares of its labels say how common they are; the length of a list
    does not."""

    name: str = ""
    version: str = ""
    licence: str = ""
    counted: bool = False


TUTORIAL = Source("tutorial")


@dataclass(frozen=True)
class LabelFile:
    """One list of names.

    Attributes:
        label: None for words that are no names.
        name: of the file.
        content: its bytes.
        frequencies: of each line's name, its share among the people of the label; empty where the
            list does not say.
        listed: whether its lines are names of the label; if not, they only tell how common they
            are, where another list of the label has them.
    """

    label: str | None
    name: str
    content: bytes
    part: Part = "surname"
    source: Source = Source()
    frequencies: tuple[float, ...] = ()
    listed: bool = True

    @classmethod
    def of(
        cls,
        label: str | None,
        name: str,
        part: Part,
        source: Source,
        names: Sequence[str],
        shares: Sequence[float],
        listed: bool,
    ) -> Self:
        """Return a list of N names with their shares among the people of the label, some or all of
        them NaN."""
        content = "".join(f"{text}\n" for text in names).encode()
        known = () if all(map(math.isnan, shares)) else tuple(shares)
        return cls(label, name, content, part, source, known, listed)


def find_label_files(
    source: Path, min_labels: int = MIN_LABELS
) -> tuple[list[LabelFile], list[str]]:
    """Read the language files of a folder or a zip, sorted by label; also return the paths of the
    files left out, which are no language files (see ``archive.choose_language_files``).

    Args:
        min_labels: fewer language files are refused.

    Raises:
        InputMissingError: nothing is at ``source``.
        DataError: no language files, a file name that gives no label or the label of another file,
            or an archive that is damaged, unsafe or too large.
    """
    if not source.exists():
        raise InputMissingError(
            f"{source} does not exist; {EXPECTED}, or the name of a source, such as faker"
        )
    contents, left_out = _read_folder(source) if source.is_dir() else read_archive(source)
    if not contents:
        raise DataError(
            f"{source} holds no .txt files; expected one per language, such as Greek.txt"
        )
    files = [
        (unicodedata.normalize("NFC", PurePosixPath(name).stem.strip()), name, content)
        for name, content in contents
    ]
    problems = [f"{name!r} {p}" for label, name, _ in files if (p := label_problem(label))]
    if problems:
        raise DataError(
            f"{source}: a file name gives its label, and {problems[0]}"
            + (f" (and {len(problems) - 1} more)" if problems[1:] else "")
            + "; rename it"
        )
    keys = Counter(label_key(label) for label, _, _ in files)
    clashes = sorted(name for label, name, _ in files if keys[label_key(label)] > 1)
    if clashes:
        raise DataError(
            f"{source}: file names give one label twice (but for case and Unicode form): "
            f"{', '.join(clashes[:10])}; join or rename them"
        )
    if not min_labels <= len(files) <= MAX_LABELS:
        raise DataError(
            f"{source} has {len(files)} language files; expected {min_labels} to {MAX_LABELS}"
        )
    return [LabelFile(*file) for file in sorted(files)], left_out


def _read_folder(folder: Path) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Return (file name, bytes) of the language files below a folder, linked folders included, and
    the files left out."""
    files, size = [], 0
    chosen, left_out = choose_language_files(files_below(folder))
    for name in chosen:
        path = folder / name
        try:
            with open_file(path, links=True) as file:
                content = file.read(MAX_ARCHIVE_BYTES - size + 1)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        size += len(content)
        if size > MAX_ARCHIVE_BYTES:
            raise DataError(f"{folder}: at most {MAX_ARCHIVE_BYTES:,} bytes of names are read")
        files.append((path.name, content))
    return files, left_out


def files_below(folder: Path) -> Iterator[str]:
    """Yield the relative paths of all files below a folder; a folder linked twice is read once."""
    seen = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    for here, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        state = Path(here).stat()
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        yield from (Path(here, name).relative_to(folder).as_posix() for name in names)


def content_digest(files: Sequence[LabelFile]) -> str:
    """Return one SHA-256 over labels and contents, the same for a folder and its zip. Files of
    several sources have a digest over those of the sources, in their order."""
    by_source: dict[str, list[LabelFile]] = {}
    for file in files:
        by_source.setdefault(file.source.name, []).append(file)
    digests = {name: _digest_of_source(of_source) for name, of_source in by_source.items()}
    if len(digests) == 1:
        return next(iter(digests.values()))
    return hashlib.sha256("".join(f"{n}\0{d}\n" for n, d in digests.items()).encode()).hexdigest()


def _digest_of_source(files: Sequence[LabelFile]) -> str:
    lines = []
    for file in files:
        frequencies = "".join(f"{share:.6e}\n" for share in file.frequencies)
        content = hashlib.sha256(file.content + frequencies.encode()).hexdigest()
        part = "" if file.part == "surname" else f"{file.part}\0"
        part += "" if file.listed else "frequencies only\0"
        lines.append(f"{file.label or ''}\0{part}{content}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def check_digest(files: Sequence[LabelFile], expected: str) -> None:
    """Raise DataError unless the files have this content digest; "" expects nothing."""
    digest = content_digest(files)
    if expected and digest != expected:
        raise DataError(
            f"the language files have content digest {digest}, expected {expected}; if the change "
            "is intended, give the first digest",
            option="digest",
        )


def lines_of(file: LabelFile) -> list[str]:
    """Split a file at LF, CRLF or CR, without a byte order mark; the lines are not changed. A file
    with the mark of UTF-16 or UTF-32 is read as such.

    Raises:
        DataError: the file is not text, has a line that is no name by its length, or ends lines
            with other characters.
    """
    text = _text_of(file).removeprefix("\ufeff")
    lines = _LINE_END.split(text)
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE:
            raise DataError(
                f"{file.name} line {number} has {len(line):,} characters; expected one name per "
                "line"
            )
        if odd := _ODD_LINE_END.search(line):
            raise DataError(
                f"{file.name} line {number} holds U+{ord(odd.group()):04X}, which ends a line in "
                "some programs; expected one name per line, ended by LF, CRLF or CR"
            )
    return lines


def _text_of(file: LabelFile) -> str:
    """Decode a file as UTF-8, or as its byte order mark says."""
    head = file.content[:4096]
    encoding = detect_encoding(head, "utf-8")
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # or that of UTF-32-LE
    if encoding and not head.startswith(marks) and head.count(0) > len(head) / 4:
        name = encoding.upper().replace("UTF-16-", "UTF-16")
        raise DataError(
            f"{file.name} is not UTF-8, it looks like {name}; convert it with "
            f"`iconv -f {name} -t UTF-8 {file.name}`"
        )
    encoding = encoding if head.startswith(marks) else "utf-8"
    try:
        text = file.content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise DataError(
                f"{file.name} is {encoding.upper()} by its mark, but byte {error.start:,} is not"
            ) from None
        line = len(_LINE_END.findall(file.content[: error.start].decode("latin-1"))) + 1
        raise DataError(
            f"{file.name} line {line} is not UTF-8; convert it with "
            f"`iconv -f LATIN1 -t UTF-8 {file.name}`"
        ) from None
    if "\0" in text:
        line = len(_LINE_END.findall(text[: text.index("\0")])) + 1
        raise DataError(f"{file.name} line {line} holds a NUL character; is it UTF-16?")
    return text
