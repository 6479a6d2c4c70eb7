"""Look after published runs: prove them again, remove old ones."""

from pathlib import Path
from tempfile import TemporaryDirectory

from charrnn.errors import is_uri
from charrnn.files import system_files
from charrnn.integrations.object_storage import download_run
from charrnn.recipes.requests import PurgeRequest, VerifyRequest
from charrnn.recipes.runner import Runner
from charrnn.runs.folders import run_at
from charrnn.runs.retention import old_runs
from charrnn.runs.retention import purge as remove
from charrnn.runs.verify import verify_run


def verify(request: VerifyRequest) -> list[str]:
    """Prove a run again from its bytes, or the newest run of a destination; return a line that says
    so, and one about files that the system put into its folder.

    Raises:
        DataError: something does not add up. InputMissingError: there is no such run.
    """
    if is_uri(request.run):
        with TemporaryDirectory() as folder:
            manifest = verify_run(download_run(request.run, Path(folder)))
        name, added = request.run, list[str]()
    else:
        run = run_at(Path(request.run))
        manifest = verify_run(run)
        name, added = str(run), system_files(run)
    whole = f"{name} is whole: {manifest.rows:,} rows in {len(manifest.parts)} parts"
    return [whole, *([f"passed over {', '.join(added)}"] if added else ())]


def purge(request: PurgeRequest, runner: Runner) -> list[str]:
    """List old runs, and remove them if the request says so; return what was or would be done."""
    old = old_runs(
        request.folder, request.older_than, runner.now(), keep_latest=request.keep_latest
    )
    if request.yes:
        done = f"removed     {len(old.folders)} runs, {remove(old.folders) / 1e6:,.1f} MB"
    else:
        done = f"would go    {len(old.folders)} runs; --yes removes them"
    return [*map(str, old.folders), *old.left, done]
