"""P4, P5, P6: what is reused and what is not, one writer, and an input that moves."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import complaint
from harness import Server
from launcher import MUTATIONS
from recording import Proof

from charrnn.files import write_sums
from charrnn.model.version import PRETRAINED
from charrnn.runs.verify import verify_run

EIGHT = "rounds of 8 processes on one destination: one winner each"
PARTS = 20
SCORE = (
    "score",
    "people.parquet",
    "--models",
    "models",
    "--model",
    "v0001",
    "--workers",
    "1",
    "--partition-rows",
    "10",
    "--device",
    "cpu",
    "-o",
    "scored",
)


@pytest.fixture
def folder(memory: Path) -> Path:
    """A table in 20 partitions and a model."""
    return make_folder(memory)


def make_folder(memory: Path) -> Path:
    """Make what ``SCORE`` needs."""
    folder = memory / "resume"
    shutil.rmtree(folder, ignore_errors=True)
    draw = random.Random(5)
    names = ["".join(draw.choices("abcdefgh", k=6)) for _ in range(10 * PARTS)]
    folder.mkdir()
    pq.write_table(pa.table({"name": names}), folder / "people.parquet", row_group_size=10)
    packaged = (
        Path(__file__).parents[2] / "charrnn/model/pretrained" / PRETRAINED["pretrained-tiny"]
    )
    shutil.copytree(packaged, folder / "models/v0001")
    return folder


def scored_parts(done: dict[str, Any]) -> list[str]:
    """Return the parts that a run has scored, in order."""
    assert done["code"] == 0, done["err"]
    return [
        Path(o).name
        for o in done["operations"]
        if o.startswith("replace") and o.endswith(".parquet")
    ]


def operation_of(done: dict[str, Any], start: str, end: str) -> int:
    """Return the number of the operation that reads so."""
    return next(
        i for i, o in enumerate(done["operations"]) if o.startswith(start) and o.endswith(end)
    )


@pytest.mark.parametrize("what", ["part-00007.parquet", "part-00007.json", "manifest.json"])
def test_going_on_scores_what_has_no_receipt(
    what: str, server: Server, folder: Path, proof: Proof
) -> None:
    clean = server.run(Path(shutil.copytree(folder, folder / "clean")), *SCORE, plan={})
    assert len(scored_parts(clean)) == PARTS
    at = operation_of(clean, "replace", what)
    assert server.run(folder, *SCORE, plan={"at": at, "do": "kill"})["code"] == -9
    done = scored_parts(server.run(folder, *SCORE, plan={}))
    expected = {"part-00007.parquet": 13, "part-00007.json": 13, "manifest.json": 0}[what]
    assert len(done) == expected
    runs = [next((f / "scored").glob("runs/run=2*")) for f in (folder, folder / "clean")]
    for part in range(PARTS):
        one, other = ((run / f"rows/part-{part:05d}.parquet").read_bytes() for run in runs)
        assert one == other
    proof("P4", "parts after a kill: only those without a receipt are scored again", PARTS)


def change_input(folder: Path) -> tuple[str, ...]:
    names = pq.read_table(folder / "people.parquet")["name"].to_pylist()
    names[3] = names[3][:-1] + "z"
    pq.write_table(pa.table({"name": names}), folder / "people.parquet", row_group_size=10)
    return SCORE


def change_model(folder: Path) -> tuple[str, ...]:
    path = folder / "models/v0001/model.json"
    text = path.read_text()
    at = text.index('"temperature": ') + len('"temperature": 1.')
    path.write_text(text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :])
    write_sums(path.parent)
    return SCORE


def change_option(folder: Path) -> tuple[str, ...]:
    return (*SCORE, "--top-k", "2")


@pytest.mark.parametrize("change", [change_input, change_model, change_option])
def test_one_byte_of_difference_reuses_nothing(
    change: Callable[[Path], tuple[str, ...]], server: Server, folder: Path, proof: Proof
) -> None:
    clean = server.run(Path(shutil.copytree(folder, folder / "clean")), *SCORE, plan={})
    at = operation_of(clean, "replace", "manifest.json")
    server.run(folder, *SCORE, plan={"at": at, "do": "kill"})
    assert len(list(folder.glob("scored/.staging-*/part-*.json"))) == PARTS
    argv = change(folder)
    assert len(scored_parts(server.run(folder, *argv, plan={}))) == PARTS
    assert not list(folder.glob("scored/.staging-*"))
    proof("P4", "parts of another input, model or option: none is reused", PARTS)


def test_eight_processes_at_once_are_one_writer(server: Server, folder: Path, proof: Proof) -> None:
    assert rounds_of_eight(server, folder, 3) == []
    proof("P5", EIGHT, 3)


def rounds_of_eight(server: Server, folder: Path, rounds: int) -> list[str]:
    """Start eight commands on one destination, again and again; the first to hold it lingers until
    the others have ended. Return what was not as it must be."""
    assert server.run(folder, *SCORE)["code"] == 0
    argv = (*SCORE, "--force")
    operations = server.run(folder, *argv, plan={})["operations"]
    at = operations.index("write scored/.lock") + 1
    problems = []
    for _ in range(rounds):
        before = {run.name for run in (folder / "scored").glob("runs/run=2*")}
        command = {"cwd": str(folder), "argv": argv, "plan": {"at": at, "do": "linger"}}
        eight = server.together([command] * 8)
        winners = [one for one in eight if one["code"] == 0]
        losers = [one for one in eight if one["code"] == 75]
        if (len(winners), len(losers)) != (1, 7):
            problems.append(f"exit codes {[one['code'] for one in eight]}")
            continue
        problems += [
            one["err"]
            for one in losers
            if f"process {winners[0]['pid']} on" not in complaint(75, 75, one["err"])
        ]
        new = {run.name for run in (folder / "scored").glob("runs/run=2*")} - before
        if len(new) != 1 or verify_run(folder / "scored/latest").rows != 10 * PARTS:
            problems.append(f"{len(new)} new runs")
    return problems


MOMENTS = (  # the operation before which the input changes
    ("mkdir", "staging"),  # after its digest was taken
    ("replace", "part-00000.parquet"),  # after it was copied
    ("replace", "manifest.json"),  # after it was scored
    ("replace", "SHA256SUMS"),  # before the last look
)
MOVES = [(moment, how) for moment in MOMENTS for how in MUTATIONS if how != "chmod"]


@pytest.mark.parametrize(("moment", "how"), MOVES, ids=lambda x: x if isinstance(x, str) else x[1])
def test_input_that_changes_meanwhile_is_noticed(
    moment: tuple[str, str], how: str, server: Server, folder: Path, proof: Proof
) -> None:
    people = folder / "people.csv"
    content = "name\n" + "".join(f"na{i % 7}a\n" for i in range(100))
    people.write_text(content)
    argv = ("score", "people.csv", *SCORE[2:])
    done = server.run(Path(shutil.copytree(folder, folder / "clean")), *argv, plan={})
    assert done["code"] == 0, done["err"]
    start, part = moment
    at = next(i for i, o in enumerate(done["operations"]) if o.startswith(start) and part in o)
    plan = {"at": at, "do": "mutate", "how": how, "path": str(people)}
    before = people.stat()
    done = server.run(folder, *argv, plan=plan)
    assert "people.csv" in complaint(done["code"], 65, done["err"])
    assert list((folder / "scored").glob("[!.]*")) == []
    if how == "rewrite":
        now = people.stat()
        assert (now.st_size, now.st_mtime_ns, now.st_ino) == (
            before.st_size,
            before.st_mtime_ns,
            before.st_ino,
        )
    people.write_text(content)
    done = server.run(folder, *argv)
    assert done["code"] == 0, done["err"]
    proof("P6", "changes of the input while it is scored", 1)


def test_input_that_gets_another_mode_has_not_changed(server: Server, folder: Path) -> None:
    clean = server.run(Path(shutil.copytree(folder, folder / "clean")), *SCORE, plan={})
    at = operation_of(clean, "replace", "SHA256SUMS")
    before = (folder / "people.parquet").stat().st_ctime_ns
    plan = {"at": at, "do": "mutate", "how": "chmod", "path": str(folder / "people.parquet")}
    done = server.run(folder, *SCORE, plan=plan)
    assert done["code"] == 0, done["err"]
    assert (folder / "people.parquet").stat().st_ctime_ns != before
