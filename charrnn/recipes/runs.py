"""Look after published runs: prove them again, remove old ones."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from charrnn.errors import CharrnnError, InputMissingError, is_uri
from charrnn.files import system_files
from charrnn.integrations.object_storage import download_run
from charrnn.recipes.requests import PREDICTIONS, PurgeRequest, VerifyRequest
from charrnn.recipes.runner import Runner
from charrnn.runs.folders import run_at
from charrnn.runs.retention import old_runs
from charrnn.runs.retention import purge as remove
from charrnn.runs.verify import verify_run


def run_asked(path: Path) -> Path:
    """Return the run at ``path`` (see ``run_at``).

    Raises:
        InputMissingError: there is none; the message says which one may be meant.
    """
    run = run_at(path)
    try:
        (run / "manifest.json").lstat()
    except (FileNotFoundError, NotADirectoryError):
        hint = f"give the folder of a run, or of a destination such as {PREDICTIONS}/people"
        if (PREDICTIONS / run.stem).is_dir():
            hint = f"did you mean {PREDICTIONS / run.stem}?"
        raise InputMissingError(f"{run} is not a run: it has no manifest.json; {hint}") from None
    except OSError:  # who reads it says why
        pass
    return run


@dataclass(frozen=True)
class Verified:
    """A run that is whole: its rows and parts, and the files in its folder that are passed over,
    since operating systems put them there."""

    run: str
    rows: int
    parts: int
    passed_over: list[str]

    def lines(self) -> list[str]:
        """Return a line that says so, and one about what is passed over."""
        whole = f"{self.run} is whole: {self.rows:,} rows in {self.parts} parts"
        others = [f"passed over {', '.join(self.passed_over)}"] if self.passed_over else []
        return [whole, *others]


def verify(request: VerifyRequest) -> Verified:
    """Prove a run again from its bytes, or the newest run of a destination.

    Raises:
        DataError: something does not add up. InputMissingError: there is no such run.
    """
    if is_uri(request.run):
        with TemporaryDirectory() as folder:
            manifest = verify_run(download_run(request.run, Path(folder)))
        name, added = request.run, list[str]()
    else:
        run = run_asked(Path(request.run))
        manifest = verify_run(run)
        name, added = str(run), system_files(run)
    return Verified(name, manifest.rows, len(manifest.parts), added)


@dataclass(frozen=True)
class Purged:
    """What a purge did, or would do.

    Attributes:
        folders: of the runs that are removed, or would be.
        newest: old runs that are kept, since each is the newest of its destination.
        left: a sentence for each folder that is named like a run and is left alone.
        freed: bytes; None where nothing was to be removed yet.
        failures: why runs could not be removed, or folders not be read.
    """

    folders: list[Path]
    newest: list[Path]
    left: list[str]
    freed: int | None
    failures: list[CharrnnError]

    def lines(self) -> list[str]:
        """Return a line per run, one per folder that is left, and the sums."""
        done = f"would go    {len(self.folders)} runs; --yes removes them"
        if self.freed is not None:
            done = f"removed     {len(self.folders)} runs, {self.freed / 1e6:,.1f} MB"
        kept = f"kept        {len(self.newest)} runs, each the newest of its destination (--newest)"
        return [*map(str, self.folders), *self.left, *([kept] if self.newest else ()), done]

    def check(self) -> None:
        """Raise the first failure, with the number of the others."""
        if self.failures:
            first, more = self.failures[0], len(self.failures) - 1
            others = f"; {more:,} more failures like this one" if more else ""
            raise type(first)(f"{first}{others}")


def purge(request: PurgeRequest, runner: Runner) -> Purged:
    """List old runs, and remove them if the request says so; see ``Purged.check``."""
    old = old_runs(request.folder, request.older_than, runner.now(), keep_newest=not request.newest)
    folders, freed = remove(old) if request.yes else (old.folders, None)
    return Purged(folders, old.newest, old.left, freed, old.failures)
