"""Score what lies in a folder: every new or changed file, as a run of its own.

python flows/inbox.py data/inbox
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flows.command import new_app, run, say
from flows.score import score
from flows.tracking import discreet, flow, note_table, run_named

if TYPE_CHECKING:
    from charrnn.versions import ModelVersion

Names = Literal["keep", "hash", "omit"]


@flow(name="inbox", flow_run_name=run_named("score what is new in", "folder"))
def inbox(
    folder: str = "data/inbox",
    *,
    name_column: str = "name",
    model: str = "champion",
    output: str = "outputs/predictions",
    device: str = "auto",
    models: str = "outputs/models",
    names: Names = "keep",
    private: bool = False,
    settle_seconds: float = 10.0,
) -> list[str]:
    """Score every new or changed file of a folder, one run each; what is published stays as it is.

    A file is a table (Parquet, CSV), or a folder of tables, which is one input. Names that begin
    with a dot or an underscore are passed over, and so are other kinds. A file that cannot be
    scored does not stop the others; at the end it makes this run fail.

    Args:
        folder: where the files arrive.
        name_column: the column that holds the names.
        model: pretrained, pretrained-tiny, an alias such as champion, or a version such as v0007.
        output: the runs of people.csv go to the folder people in here.
        device: auto, cpu, cuda or cuda:N.
        models: folder of the model versions.
        names: what becomes of the names in the output: keep, hash (by the secret in the
            environment variable CHARRNN_NAME_KEY) or omit.
        private: make files that only their owner can read.
        settle_seconds: a file whose size or time changes within this many seconds is still being
            written; it is left for the next run.

    Returns:
        The folders of the runs that this run published.
    """
    from charrnn.errors import BusyError, DataError
    from charrnn.tables import source_name
    from charrnn.versions import resolve

    version = resolve(model, Path(models))  # once: all files get the same one
    seen = entries(Path(folder))
    destinations = {path: Path(output) / source_name(str(path)) for path in seen}
    new = [p for p in seen if not is_scored(p, destinations[p], version, name_column, names)]
    if new:
        time.sleep(settle_seconds)
    outcomes = dict.fromkeys(seen, "already scored")
    published, failures = [], []
    for path in new:
        if look(path) != seen[path]:
            outcomes[path] = "still being written, left for the next run"
            continue
        try:
            published.append(
                score(
                    str(path),
                    name_column=name_column,
                    model=version.name,
                    output=str(destinations[path]),
                    device=device,
                    models=models,
                    names=names,
                    private=private,
                )
            )
            outcomes[path] = f"scored: {published[-1]}"
        except BusyError:
            outcomes[path] = "being scored by another run"
        except Exception as error:
            reason = discreet(error)
            outcomes[path] = f"failed: {reason}"
            failures.append(f"{path.name}: {reason}")
    show = [{"file": path.name, "outcome": outcome} for path, outcome in outcomes.items()]
    note_table("inbox", show, f"What became of the files in {folder}")
    for row in show:
        say(f"{row['file']:<24}  {row['outcome']}")
    if failures:
        raise DataError(f"{len(failures)} of {len(seen)} files failed; {'; '.join(failures)}")
    return published


def entries(folder: Path) -> dict[Path, list[tuple[Path, int, int]]]:
    """Return what in the folder can be scored, sorted, with how each looks now.

    Raises:
        InputMissingError: there is no such folder.
    """
    from charrnn.errors import InputMissingError

    if not folder.is_dir():
        raise InputMissingError(f"the folder {folder} does not exist")
    shown = sorted(path for path in folder.iterdir() if path.name[0] not in "._")
    return {path: seen for path in shown if (seen := look(path))}


def look(path: Path) -> list[tuple[Path, int, int]]:
    """Return the tables that ``path`` is or holds, each with its size and its time in ns."""
    from charrnn.errors import CharrnnError
    from charrnn.tables import discover

    try:
        return [(p, p.stat().st_size, p.stat().st_mtime_ns) for p in discover(str(path))]
    except (CharrnnError, FileNotFoundError):  # of another kind, or gone since
        return []


def is_scored(
    path: Path, destination: Path, version: "ModelVersion", name_column: str, names: Names
) -> bool:
    """Whether these bytes are published already, scored by this version with these options.

    Where it cannot be told, such as of a file that changes, they count as new.
    """
    from charrnn.answers import ScoreOptions
    from charrnn.errors import CharrnnError
    from charrnn.planning import order_of
    from charrnn.runs import finished_run
    from charrnn.tables import PARTITION_ROWS

    options = ScoreOptions(name_column=name_column)
    try:
        order = order_of(str(path), version, options, partition_rows=PARTITION_ROWS, names=names)
    except (CharrnnError, FileNotFoundError):
        return False
    return finished_run(destination, order.fingerprint) is not None


app = new_app(
    "  python flows/inbox.py\n"
    "  python flows/inbox.py /srv/names --model pretrained --settle-seconds 0"
)
app.default(inbox)

if __name__ == "__main__":
    run(app)
