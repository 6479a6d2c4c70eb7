"""A case: an input that was once answered wrongly, what is run on it, and how to tell the right
answer from a wrong one."""

import contextlib
import io
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import polars as pl

from charrnn.cli import console, run
from charrnn.errors import redact
from charrnn.runs.verify import verify_run

_APP = cache(console)  # built once: that takes as long as most commands
TINY = ("--model", "pretrained-tiny", "--workers", "1", "--device", "cpu")


@dataclass(frozen=True)
class Done:
    """What came of the last command of a case.

    Attributes:
        folder: where it ran.
        before: paths of the files that were there before, below ``folder``.
    """

    folder: Path
    code: int
    out: str
    err: str
    before: frozenset[str]

    @property
    def said(self) -> str:
        """All that was printed."""
        return self.out + self.err

    def runs(self) -> list[Path]:
        """Return the published runs, whole ones; a hidden folder is none."""
        found = (p.parent for p in self.folder.rglob("manifest.json") if not p.parent.is_symlink())
        return [
            p for p in found
            if not any(q.name.startswith(".") or q.is_symlink() for q in (p, *p.parents))
        ]  # fmt: skip

    def _is_new(self, path: Path) -> bool:
        return str(path.relative_to(self.folder)) not in self.before

    def rows(self) -> pl.DataFrame:
        """Return the rows of the newest run."""
        newest = max(self.runs(), key=lambda run: run.stat().st_mtime_ns)
        return pl.read_parquet(sorted(newest.glob("rows/part-*.parquet")), hive_partitioning=False)

    def outcome(self) -> str:
        """Return what a person sees, on one line: exit code, and rows or complaint."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        complaints = [line for line in lines if line.startswith("error: ")] or lines[-1:]
        text = complaints[0].removeprefix("error: ") if complaints else ""
        if self.code == 0:
            rows = sum(verify_run(run).rows for run in self.runs() if self._is_new(run))
            text = f"{rows:,} rows" if rows else ""
            notes = [line for line in self.said.splitlines() if line.startswith("note: ")]
            text = "; ".join(filter(None, [text, *notes]))
        text = text.replace(f"{self.folder}/", "").replace(str(self.folder), ".")
        return f"exit {self.code}" + (f": {text}" if text else "")


Check = Callable[[Done], str]  # "" where all is right, otherwise what is not


@dataclass(frozen=True)
class Case:
    """An input and what is run on it.

    Attributes:
        name: as in the list of cases.
        part: A silent loss, B crash, C names shown, D message that misleads, E inconvenience.
        kind: what it is one of.
        files: path → content, below the working folder; text is written as UTF-8.
        commands: what is run, in turn; all but the last must succeed.
        old: what came of it at commit 5b9e523.
        right: tells whether the answer is right.
        make: makes what ``files`` cannot.
        call: is run after the commands instead of a last command; its exceptions count as shown.
    """

    name: str
    part: str
    kind: str
    old: str
    right: Check
    commands: tuple[tuple[str, ...], ...] = ()
    files: dict[str, str | bytes] = field(default_factory=dict)
    make: Callable[[Path], None] | None = None
    call: Callable[[Path], None] | None = None

    @property
    def shown_command(self) -> str:
        """The last command as a person types it."""
        if self.call is not None:
            return f"`{self.call.__name__}`"
        words = [word for word in self.commands[-1] if word not in TINY[1::2] + TINY[::2]]
        return f"`{' '.join(os.fsencode(w).decode(errors='backslashreplace') for w in words)}`"


def run_case(case: Case, folder: Path) -> Done:
    """Make the input in an empty folder and run the case there, in this process."""
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    (folder / "home").mkdir(exist_ok=True)
    if case.make is not None:
        case.make(folder)
    with inside(folder):
        for arguments in case.commands[: None if case.call else -1]:
            code, _, err = run_command(*arguments)
            assert code == 0, f"{case.name}: {' '.join(arguments)} gave {code}: {err}"
        before = frozenset(str(p.relative_to(folder)) for p in folder.rglob("*"))
        code, out, err = (
            _called(case.call, folder) if case.call else run_command(*case.commands[-1])
        )
    return Done(folder, code, out, err, before)


def run_command(*arguments: str) -> tuple[int, str, str]:
    """Run ``charrnn ARGUMENTS`` in this process; return exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    before = signal.getsignal(signal.SIGTERM), os.umask(0o022)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run(_APP(), list(arguments))
    except SystemExit as stop:
        code = stop.code
    finally:
        signal.signal(signal.SIGTERM, before[0])
        os.umask(before[1])
    return int(code) if isinstance(code, int) else 0, out.getvalue(), err.getvalue()


def _called(call: Callable[[Path], None], folder: Path) -> tuple[int, str, str]:
    """Call a function of the library; an exception is shown as the command line would."""
    try:
        call(folder)
    except Exception as error:
        shown = redact(error)
        return shown.exit_code, "", f"error: {shown}\n"
    return 0, "", ""


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder, with a home folder in it."""
    here, home = Path.cwd(), os.environ.get("HOME")
    os.chdir(folder)
    os.environ["HOME"] = str(folder / "home")
    try:
        yield
    finally:
        os.chdir(here)
        if home is not None:
            os.environ["HOME"] = home


# --- What is right --------------------------------------------------------------------------------


def refused(*codes: int, says: tuple[str, ...] = (), never: tuple[str, ...] = ()) -> Check:
    """One line of complaint with one of these exit codes and these words, and nothing published."""

    def right(done: Done) -> str:
        if done.code not in codes:
            return f"exit code {done.code}, expected {codes}: {done.err}"
        complaints = [line for line in done.err.splitlines() if line.startswith("error: ")]
        if len(complaints) != 1:
            return f"{len(complaints)} complaints: {done.err}"
        missing = [word for word in says if word.casefold() not in done.err.casefold()]
        if missing:
            return f"does not say {missing}: {done.err}"
        if any(done._is_new(run) for run in done.runs()):
            return "a run was published"
        return silent(*never)(done)

    return right


def silent(*words: str) -> Check:
    """Nothing that was printed has these words."""
    return lambda done: next(
        (f"{word!r} is shown: {done.said}" for word in words if word in done.said), ""
    )


def scored(rows: int, *more: Check, says: tuple[str, ...] = ()) -> Check:
    """Exit code 0 and this many rows in the newest run, which verifies; these words were said."""

    def right(done: Done) -> str:
        if done.code != 0:
            return f"exit code {done.code}, expected 0: {done.err}"
        if not done.runs():
            return "no run was published"
        found = [verify_run(run).rows for run in done.runs() if done._is_new(run)]
        if done.rows().height != rows:
            return f"{found} rows, expected {rows}"
        missing = [word for word in says if word.casefold() not in done.said.casefold()]
        return f"does not say {missing}: {done.said}" if missing else every(*more)(done)

    return right


def succeeds(*more: Check, says: tuple[str, ...] = ()) -> Check:
    """Exit code 0, and these words were said."""

    def right(done: Done) -> str:
        if done.code != 0:
            return f"exit code {done.code}, expected 0: {done.err}"
        missing = [word for word in says if word.casefold() not in done.said.casefold()]
        return f"does not say {missing}: {done.said}" if missing else every(*more)(done)

    return right


def column(name: str, values: list[object]) -> Check:
    """The rows of the newest run have these values in a column."""

    def right(done: Done) -> str:
        frame = done.rows()
        if name not in frame.columns:
            return f"no column {name!r} in {frame.columns}"
        found = frame[name].to_list()
        return "" if found == values else f"{name!r} is {found}, expected {values}"

    return right


def file_has(path: str, *words: str) -> Check:
    """A file was written, and has these words in it."""

    def right(done: Done) -> str:
        if not (done.folder / path).is_file():
            return f"no file {path}"
        text = (done.folder / path).read_bytes()
        missing = [word for word in words if word.encode() not in text]
        return f"{path} lacks {missing}" if missing else ""

    return right


def absent(*patterns: str) -> Check:
    """Nothing is there by these patterns."""

    def right(done: Done) -> str:
        found = [str(p) for pattern in patterns for p in done.folder.glob(pattern)]
        return f"{found} is there" if found else ""

    return right


def every(*checks: Check) -> Check:
    """All of these hold."""
    return lambda done: next((wrong for check in checks if (wrong := check(done))), "")


def either(*checks: Check) -> Check:
    """One of these holds."""

    def right(done: Done) -> str:
        wrong = [check(done) for check in checks]
        return "" if "" in wrong else "; nor: ".join(wrong)

    return right
