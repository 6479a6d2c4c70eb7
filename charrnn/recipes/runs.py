"""Look after published runs: prove them again, remove old ones."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from charrnn.errors import InputMissingError, is_uri
from charrnn.files import system_files
from charrnn.integrations.object_storage import download_run
from charrnn.recipes.requests import PREDICTIONS, PurgeRequest, VerifyRequest
from charrnn.recipes.runner import Runner
from charrnn.runs.folders import run_at
from charrnn.runs.retention import OldRuns, old_runs
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


def purge(request: PurgeRequest, runner: Runner) -> OldRuns:
    """List old runs, and remove them if the request says so; see ``OldRuns.check``."""
    old = old_runs(request.folder, request.older_than, runner.now(), keep_newest=not request.newest)
    return remove(old) if request.yes else old
