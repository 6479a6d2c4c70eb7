"""Find the files of an input: a file, what lies below a folder, or the matches of a glob.

Whatever is found is read, named as not read (``Skipped``), or refused because it cannot be read;
only names that begin with a dot or an underscore are passed over. Links are followed; a file that
is reached in several ways is read once, and so is a folder.
"""

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path

from charrnn.errors import ConfigError, DataError, InputMissingError, did_you_mean, is_uri
from charrnn.tables.hive import FolderColumns, folder_columns, is_partition
from charrnn.tables.kinds import TABLES, other_kind, path_text, table_name

MAGIC = re.compile(r"[*?\[]")  # what makes a path a glob
_MOST_NAMED = 20  # skipped files that are named in a manifest
_MOST_SHOWN = 5  # and in a line
_MOST_LETTERS = 60  # of a name in that line
_RUN_NAME = re.compile(r"run=\d{8}T\d{6}Z-[0-9a-f]{8}(-.+)?")
_SPECIAL = {
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
_BROKEN = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)


@dataclass(frozen=True)
class FoundFile:
    """A file of an input."""

    path: Path
    name: str  # its path below the folder that was given, as ``kinds.path_text`` writes it
    columns: FolderColumns = ()  # those that its folders' names hold; see ``hive``


@dataclass(frozen=True)
class Skipped:
    """What was found beside the files of an input and is not read."""

    # How many files (and folders, such as scoring runs) of each kind.
    kinds: dict[str, int] = field(default_factory=dict)
    first: tuple[str, ...] = ()  # the first of them, at most 20, such as ``"a.xlsx (Excel)"``

    @classmethod
    def of(cls, entries: Iterable[tuple[str, str, str]]) -> "Skipped":
        """Make the record of (name, kind, what is said about it) of each file."""
        ordered = sorted(set(entries))
        kinds = Counter(kind for _, kind, _ in ordered)
        return cls(
            dict(sorted(kinds.items())),
            tuple(f"{name} ({what})" for name, _, what in ordered[:_MOST_NAMED]),
        )

    def __add__(self, other: "Skipped") -> "Skipped":
        kinds = Counter(self.kinds) + Counter(other.kinds)
        first = sorted((*self.first, *other.first))[:_MOST_NAMED]
        return Skipped(dict(sorted(kinds.items())), tuple(first))

    @property
    def count(self) -> int:
        """Number of files."""
        return sum(self.kinds.values())

    def __str__(self) -> str:
        """Say it in one line, such as ``2 files were not read: a.xlsx (Excel), …``; "" for none."""
        if not self.count:
            return ""
        shown = [n if len(n) <= _MOST_LETTERS else f"{n[:_MOST_LETTERS]}…" for n in self.first]
        more = self.count - min(_MOST_SHOWN, len(shown))
        files = "1 file was" if self.count == 1 else f"{self.count:,} files were"
        rest = f" and {more:,} more" if more else ""
        return f"{files} not read: {', '.join(shown[:_MOST_SHOWN])}{rest}"


@dataclass(frozen=True)
class Found:
    """The files of an input, sorted, at least one, and what was skipped beside them."""

    files: tuple[FoundFile, ...]
    skipped: Skipped = field(default_factory=Skipped)

    @property
    def paths(self) -> list[Path]:
        """Paths of the files."""
        return [file.path for file in self.files]


class NoTableError(InputMissingError):
    """There is a folder or a glob, but no table in it."""


class UnreadableError(InputMissingError):
    """A file or folder may not be read, or fails to be."""

    def __init__(self, path: str | Path, error: OSError) -> None:
        super().__init__(
            f"{path} cannot be read: {error.strerror}; allow this user to read it, or move it away"
        )


def discover(source: str) -> Found:
    """Return the files of ``source``: of a file itself, of a glob its matches, of a folder all
    tables below it.

    Raises:
        InputMissingError: there is no such file, or none that is a table, or something cannot be
            read.
        DataError: a file that was given by its name is no table.
        ConfigError: ``source`` is a URI.
    """
    if is_uri(source):
        raise ConfigError(
            f"{source.split('://')[0]}:// inputs are not supported; give a local path"
        )
    path = Path(source)
    if os.path.lexists(path):
        status = _status(path)
        if status is None or not stat.S_ISDIR(status.st_mode):
            return Found((_given(path),))
        found = _search(path, [path], ())
    else:
        found = _search(*_expand(path))
    if not found.files:
        beside = f"; {found.skipped}" if found.skipped.count else ""
        raise NoTableError(f"{source} has no {TABLES}{beside}")
    return found


def discover_each(folder: Path) -> tuple[list[Path], Skipped]:
    """Return what lies directly in ``folder`` and can be an input of its own, sorted: tables, and
    folders (with tables or not); and what else there is. Raises InputMissingError for no folder."""
    if not folder.is_dir():
        raise InputMissingError(f"the folder {folder} does not exist", option="folder")
    tree = _Tree(folder)
    shown = [e for e in _entries(folder) if not is_hidden(e.name, _is_folder(e))]
    tables = tree.regular([Path(e.path) for e in shown if not _is_folder(e)])
    folders = [Path(e.path) for e in sorted(shown, key=os.DirEntry.is_symlink) if _is_folder(e)]
    own, others = sort_names([tree.name(path) for path in tables])
    tables = tree.once([path for path in tables if tree.name(path) in set(own)])
    inputs = [*tables, *(path for path in folders if tree.enter(path))]
    return sorted(inputs), Skipped.of([*tree.skipped, *others])


def sort_names(names: Sequence[str]) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Tell the tables among files by their paths below a folder, which contain "/" between folders.
    Hidden ones are left out, and so are scoring runs, which are output. Return the tables, and the
    other files as ``Skipped.of`` takes them."""
    inside: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        inside.setdefault(folder, set()).add(file)
    runs = {folder for folder, files in inside.items() if _is_run(folder, files)}
    tables: list[str] = []
    skipped: list[tuple[str, str, str]] = []
    for name in names:
        *folders, file = name.split("/")
        if has_hidden(name):
            continue
        above = ("/".join(folders[: n + 1]) for n in range(len(folders)))
        run = "" if "" in runs else next((folder for folder in above if folder in runs), None)
        if run is not None:
            skipped.append((f"{run or '.'}/", "scoring run", "scoring run"))
        elif table_name(file):
            tables.append(name)
        else:
            skipped.append(_other(name))
    return tables, skipped


def is_hidden(name: str, is_folder: bool) -> bool:
    """Whether a name is passed over, as readers of Hive tables do: ``_year=2024`` is a folder with
    a column."""
    return name[0] == "." or (name[0] == "_" and not (is_folder and is_partition(name)))


def has_hidden(path: str) -> bool:
    """Whether a file, or a folder that it is in, is passed over; see ``is_hidden``."""
    *folders, file = path.split("/")
    return is_hidden(file, False) or any(is_hidden(folder, True) for folder in folders)


def _other(name: str) -> tuple[str, str, str]:
    kind = other_kind(name)[0] or "unknown kind"
    return name, kind, kind


def _is_run(folder: str, files: set[str]) -> bool:
    """Whether a folder is a scoring run: complete, or not yet (of an upload)."""
    named = _RUN_NAME.fullmatch(folder.rpartition("/")[2]) is not None
    return "SHA256SUMS" in files and (named or "manifest.json" in files)


def _given(path: Path) -> FoundFile:
    """Return a file that was given by its path; refuse what is no table."""
    tree = _Tree(path.parent)
    if not tree.regular([path]):
        kind = tree.skipped[0][1]
        error = InputMissingError if kind == "broken link" else DataError
        raise error(f"{path} is a {kind}; give a {TABLES}")
    if table_name(path.name) is None:
        kind, fix = other_kind(path.name)
        what = f"{path} ({kind})" if kind else f"{path}"
        raise DataError(f"{what} is not a {TABLES}; {fix}")
    return FoundFile(path, path_text(path.name), folder_columns(_partitions_above(path.parent)))


def _partitions_above(folder: Path) -> list[str]:
    """Return the names of ``folder`` and of those above it, as long as they hold a column."""
    parts = Path(os.path.abspath(folder)).parts  # noqa: PTH100  links stay
    return list(takewhile(is_partition, reversed(parts)))[::-1]


def _search(base: Path, tops: Sequence[Path], skipped: Sequence[tuple[str, str, str]]) -> Found:
    """Return the tables among ``tops`` and below the folders among them; names are relative to
    ``base``."""
    tree = _Tree(base)
    tree.skipped.extend(skipped)
    folders = [top for top in tops if top.is_dir()]
    given = tree.regular([top for top in tops if not top.is_dir()])
    below = tree.regular(
        Path(entry.path)
        for _, entries in tree.walk(folders)
        for entry in entries
        if not _is_folder(entry) and not is_hidden(entry.name, False)
    )
    by_name = {tree.name(path): path for path in below}
    tables, others = sort_names(list(by_name))
    others += [_other(tree.name(path)) for path in given if not table_name(path.name)]
    candidates = [path for path in given if table_name(path.name)]
    candidates += [by_name[name] for name in tables]
    above = _partitions_above(base)
    files: list[FoundFile] = []
    for path in sorted(tree.once(candidates)):
        folders_of = path.relative_to(base).parent.parts
        files.append(FoundFile(path, tree.name(path), folder_columns([*above, *folders_of])))
    return Found(tuple(files), Skipped.of([*tree.skipped, *others]))


def _expand(pattern: Path) -> tuple[Path, list[Path], list[tuple[str, str, str]]]:
    """Return the fixed part of a glob, its matches, and what was skipped on the way. A part that
    exists as it is written is no pattern; ``*`` matches no name that begins with a dot."""
    base, parts = Path(pattern.anchor), list(pattern.parts[bool(pattern.anchor) :])
    while parts and os.path.lexists(base / parts[0]):
        base /= parts.pop(0)
    matches, tree = [base], _Tree(base)
    for part in parts:
        if part == "**":
            matches = [folder for folder, _ in _Tree(base, tree.skipped).walk(matches)]
        else:
            folders = [path for path in matches if _is_folder(path)]
            matches = [match for folder in folders for match in _named(folder, part)]
    if not (matches and any(map(MAGIC.search, parts))):
        beside = _entries(pattern.parent) if _status(pattern.parent) else []
        hint = did_you_mean(pattern.name, [entry.name for entry in beside])
        hint = hint or "; a table is a file, a folder or a glob"
        raise InputMissingError(f"{pattern} does not exist{hint}")
    return base, list(dict.fromkeys(matches)), tree.skipped


def _named(folder: Path, pattern: str) -> list[Path]:
    """Return what lies in ``folder`` and matches one part of a glob."""
    names = [pattern] if os.path.lexists(folder / pattern) else []
    if MAGIC.search(pattern):
        matching = [e.name for e in _entries(folder) if fnmatchcase(e.name, pattern)]
        names += [name for name in matching if name[0] != "." or pattern[0] == "."]
    return [folder / name for name in names]


class _Tree:
    """Files and folders below ``base``, each once, those before others that a link leads to.
    ``skipped`` is what is not read, as ``Skipped.of`` takes it."""

    def __init__(self, base: Path, skipped: list[tuple[str, str, str]] | None = None) -> None:
        self.base = base
        self.skipped = [] if skipped is None else skipped
        self._linked = {base: False}  # whether a folder is reached by a link
        above = filter(None, map(_status, base.resolve().parents))
        # What was seen by now: device and inode → its name.
        self._seen = {(s.st_dev, s.st_ino): "a folder above" for s in above}

    def name(self, path: Path) -> str:
        """Return a path as it is shown."""
        return path_text(path.relative_to(self.base))

    def walk(self, folders: Sequence[Path]) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
        """Yield the folders and all below them, with the sorted entries of each."""
        pending = [folder for folder in folders if not self.by_link(folder)][::-1]
        links = [folder for folder in folders if self.by_link(folder)]
        while pending or links:
            folder = pending.pop() if pending else links.pop(0)
            if not self.enter(folder):
                continue
            entries = _entries(folder)
            for entry in entries:
                if _is_folder(entry) and not is_hidden(entry.name, True):
                    (links if entry.is_symlink() else pending).append(Path(entry.path))
            yield folder, entries

    def by_link(self, path: Path) -> bool:
        """Whether a link leads to ``path`` from ``base``."""
        if path == self.base:
            return False
        if path.parent not in self._linked:
            self._linked[path.parent] = self.by_link(path.parent)
        return self._linked[path.parent] or path.is_symlink()

    def enter(self, path: Path, kind: str = "folder") -> bool:
        """Whether this file or folder was not seen before; skip it otherwise."""
        status = _status(path)
        if status is None:
            return False
        identity = status.st_dev, status.st_ino
        name = f"{self.name(path)}{'/' if kind == 'folder' else ''}"
        first = identity not in self._seen
        earlier = self._seen.setdefault(identity, name)
        if earlier != name:
            self.skipped.append((name, "duplicate", f"same {kind} as {earlier}"))
        return first

    def regular(self, paths: Iterable[Path]) -> list[Path]:
        """Return those of ``paths`` that are files with bytes; skip links that lead nowhere, and
        what would wait for a writer."""
        files: list[Path] = []
        for path in paths:
            status = _status(path)
            if status is not None and stat.S_ISREG(status.st_mode):
                files.append(path)
                continue
            kind = "broken link" if path.is_symlink() else "removed meanwhile"
            if status is not None:
                kind = _SPECIAL.get(stat.S_IFMT(status.st_mode), "special file")
            self.skipped.append((self.name(path), kind, kind))
        return files

    def once(self, paths: Sequence[Path]) -> list[Path]:
        """Return each file by one of its ``paths``, the first without a link, and skip the rest."""
        ordered = sorted(set(paths), key=lambda path: (self.by_link(path), path))
        return [path for path in ordered if self.enter(path, "file")]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UnreadableError(folder, error) from error


def _is_folder(entry: os.DirEntry[str] | Path) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, for one; ``_Tree.regular`` says what it is
        return False


def _status(path: Path) -> os.stat_result | None:
    """Return the status of what a path leads to; None if that is nothing."""
    try:
        return path.stat()
    except ValueError:  # a path with a null character
        return None
    except OSError as error:
        if error.errno in _BROKEN:
            return None
        raise UnreadableError(path, error) from error
