"""Score what lies in a folder: every new or changed file, as a run of its own.

python flows/inbox.py data/inbox
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.command import new_app, run, say
from flows.score import score
from flows.tracking import flow, note_table, redact, run_named

if TYPE_CHECKING:
    from charrnn.model.version import ModelVersion

Names = Literal["keep", "hash", "omit"]
Look = list[tuple[str, int, int, int, int]]  # of each table: path, size, two times in ns, inode

# Seconds, many times what file systems round times to: a file that changed this long ago cannot
# change once more without another time (that of its inode; nobody can set it back).
_OLD_ENOUGH = 3.0


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
    from charrnn.files import private_files
    from charrnn.model.version import resolve
    from charrnn.runs.publish import finished_run
    from charrnn.tables.source import source_name

    version = resolve(model, Path(models))  # once: all files get the same one
    seen = entries(Path(folder))
    destinations = {path: Path(output) / source_name(str(path)) for path in seen}
    with private_files(private):
        memory = Path(output) / f".inbox-{source_name(folder)}.json"
        wanted = fingerprints(seen, memory, version, name_column, names)
    new = [p for p in seen if not (wanted[p] and finished_run(destinations[p], wanted[p]))]
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
            reason = redact(error)
            outcomes[path] = f"failed: {reason}"
            failures.append(f"{path.name}: {reason}")
    show = [{"file": path.name, "outcome": outcome} for path, outcome in outcomes.items()]
    note_table("inbox", show, f"What became of the files in {folder}")
    for row in show:
        say(f"{row['file']:<24}  {row['outcome']}")
    if failures:
        raise DataError(f"{len(failures)} of {len(seen)} files failed; {'; '.join(failures)}")
    return published


def entries(folder: Path) -> dict[Path, Look]:
    """Return what in the folder can be scored, sorted, with how each looks now.

    Raises:
        InputMissingError: there is no such folder.
    """
    from charrnn.errors import InputMissingError

    if not folder.is_dir():
        raise InputMissingError(f"the folder {folder} does not exist")
    shown = sorted(path for path in folder.iterdir() if path.name[0] not in "._")
    return {path: seen for path in shown if (seen := look(path))}


def look(path: Path) -> Look:
    """Return how the tables look that ``path`` is or holds."""
    from charrnn.errors import CharrnnError
    from charrnn.tables.source import discover

    try:
        found = [(table, table.stat()) for table in discover(str(path))]
        return [(str(t), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for t, s in found]
    except (CharrnnError, FileNotFoundError):  # of another kind, or gone since
        return []


def fingerprints(
    seen: dict[Path, Look], memory: Path, version: "ModelVersion", name_column: str, names: Names
) -> dict[Path, str]:
    """Return the fingerprint of the run that each file asks for, "" where it cannot be told, such
    as of a file that changes.

    It takes all bytes of a file. So what was found is noted in ``memory``, and holds as long as the
    file looks the same, and model, options and release are the same.
    """
    from charrnn.files import json_bytes, write_bytes
    from charrnn.runs.plan import fingerprint
    from charrnn.scoring.names import check_name_key

    options = {"name_column": name_column, "names": names, "name_key": check_name_key(names)}
    asked = fingerprint((), version.digest, options)
    known = _read_memory(memory, asked)
    found, noted = {}, {}
    for path, looks in seen.items():
        note = {"look": [list(table) for table in looks], "fingerprint": ""}
        before = known.get(str(path), {})
        if before.get("look") == note["look"]:
            note = before
        else:
            note["fingerprint"] = _fingerprint(path, version, name_column, names)
        found[path] = str(note["fingerprint"])
        changed = max(max(table[2:4]) for table in looks)
        if found[path] and changed < time.time_ns() - _OLD_ENOUGH * 1e9:
            noted[str(path)] = note
    if noted != known:
        write_bytes(memory, json_bytes({"asked": asked, "files": noted}))
    return found


def _read_memory(memory: Path, asked: str) -> dict[str, dict[str, Any]]:
    """Return what was noted for the same ``asked``; nothing where it cannot be read."""
    try:
        document = json.loads(memory.read_bytes())
        return dict(document["files"]) if document["asked"] == asked else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _fingerprint(path: Path, version: "ModelVersion", name_column: str, names: Names) -> str:
    from charrnn.errors import CharrnnError
    from charrnn.runs.plan import order_of
    from charrnn.scoring.options import ScoreOptions
    from charrnn.tables.row_groups import PARTITION_ROWS

    options = ScoreOptions(name_column=name_column)
    try:
        order = order_of(str(path), version, options, partition_rows=PARTITION_ROWS, names=names)
    except (CharrnnError, FileNotFoundError):
        return ""
    return order.fingerprint


app = new_app(
    "  python flows/inbox.py\n"
    "  python flows/inbox.py /srv/names --model pretrained --settle-seconds 0"
)
app.default(inbox)

if __name__ == "__main__":
    run(app)
