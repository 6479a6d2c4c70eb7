"""P7: runs that a failing disk or a full machine keeps from being read are told, never passed over
in silence: an error where it matters which runs there are, a line otherwise."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import Command, commands_of
from recording import Proof

from charrnn import cli
from charrnn.errors import InputMissingError, StorageError
from charrnn.files import hold
from charrnn.recipes.monitor import monitor
from charrnn.recipes.requests import MonitorRequest
from charrnn.runs.folders import named_runs, run_at
from charrnn.runs.manifest import read_run
from charrnn.runs.publish import finished_run

pytestmark = pytest.mark.usefixtures("working_folder")
DESTINATION = Path("outputs/predictions/people")
PURGE = ("purge", "--older-than", "0", "--newest")
WHAT = "runs that cannot be read for a failing disk: an error, or a line"


@pytest.fixture
def run(people: Path, run_score: Callable[..., Path]) -> Path:
    return run_score(people)


@pytest.fixture
def charrnn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command ``charrnn``."""
    return commands_of(cli.console(), monkeypatch, capsys, lambda app: cli.run(app, sys.argv[1:]))


@contextmanager
def failing(place: str, number: int = errno.EIO) -> Iterator[None]:
    """Let calls on paths that end with ``place`` fail."""

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def fail(path: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(path, str | os.PathLike) and os.fspath(path).endswith(place):
                raise OSError(number, os.strerror(number), os.fspath(path))
            return call(path, *arguments, **options)

        return fail

    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "lstat", "stat", "listdir", "scandir"):
            patch.setattr(os, name, wrapped(getattr(os, name)))
        yield


NUMBERS = pytest.mark.parametrize("number", [errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ESTALE])


@NUMBERS
@pytest.mark.parametrize(
    "place", ["manifest.json", "rows/part-00000.parquet", "people/runs", "RUN"]
)
def test_a_run_that_may_be_the_same_is_not_scored_again(
    run: Path, people: Path, run_score: Callable[..., Path], number: int, place: str, proof: Proof
) -> None:
    fingerprint = read_run(run).fingerprint
    with failing(run.name if place == "RUN" else place, number):
        with pytest.raises(StorageError, match="cannot be read"):
            finished_run(DESTINATION, fingerprint)
        with pytest.raises(StorageError):
            run_score(people)
    assert run_score(people) == run
    assert list(run.parent.iterdir()) == [run]
    proof("P7", WHAT, 1)


def test_a_run_that_is_not_permitted_to_be_read_is_no_reason_to_stop(
    run: Path, people: Path, run_score: Callable[..., Path]
) -> None:
    fingerprint = read_run(run).fingerprint
    with failing(f"{run.name}/manifest.json", errno.EACCES):
        assert finished_run(DESTINATION, fingerprint) is None
    with failing("people/runs", errno.EACCES):
        assert named_runs(DESTINATION) == {}


@NUMBERS
def test_latest_is_not_led_past_a_run_that_cannot_be_read(
    run: Path, people: Path, run_score: Callable[..., Path], number: int, proof: Proof
) -> None:
    newer = run_score(people, top_k=2)
    assert run_at(DESTINATION) == newer
    with failing(f"{newer.name}/manifest.json", number), pytest.raises(StorageError):
        run_score(people)  # recognised, and the other one may be newer
    assert run_at(DESTINATION) == newer
    proof("P7", WHAT, 1)


def test_the_run_before_is_told_where_it_cannot_be_compared_with(
    run: Path, people: Path, charrnn: Command, models: Path, proof: Proof
) -> None:
    for place in (f"{run.name}/manifest.json", "people/runs"):
        with failing(place):
            code, out, error = charrnn("score", people, "--model", "v0001", "--models", models,
                                       "--device", "cpu", "--force")  # fmt: skip
        expected = 74 if place == "people/runs" else 0  # where the new one is published
        assert code == expected, error
        assert f"{place} cannot be read: Input/output error" in out + error
    proof("P7", WHAT, 2)


def test_a_history_tells_of_destinations_that_cannot_be_read(
    run: Path, tmp_path: Path, run_score: Callable[..., Path], proof: Proof
) -> None:
    others = tmp_path / "others.csv"
    others.write_text("name\nKatoro\n")
    run_score(others)
    request = MonitorRequest(folder=Path("outputs/predictions"))
    for place in (f"{run.name}/manifest.json", "people/runs"):
        with failing(place):
            lines = monitor(request).lines()
        assert [line for line in lines if "passed over" in line and place in line]
    with failing("manifest.json"), pytest.raises(InputMissingError, match="Input/output error"):
        monitor(request)
    proof("P7", WHAT, 3)


def test_an_inbox_goes_on_with_other_files(
    tmp_path: Path, charrnn: Command, models: Path, proof: Proof
) -> None:
    Path("inbox").mkdir()
    for name in ("a", "b"):
        Path(f"inbox/{name}.csv").write_text(f"name\nKatoro{name}\n")
    command = ("inbox", "--folder", "inbox", "--settle-seconds", "0", "--model", "v0001",
               "--models", models, "--device", "cpu")  # fmt: skip
    assert charrnn(*command)[0] == 0
    Path("inbox/b.csv").write_text("name\nBurghof\n")
    with failing("predictions/a/runs"):
        code, out, error = charrnn(*command)
    assert code == 65
    assert "a/runs cannot be read: Input/output error" in error
    assert "b.csv                     scored: " in out
    assert charrnn(*command)[0] == 0
    proof("P7", WHAT, 1)


def test_an_inbox_tells_what_was_passed_over_among_runs(
    charrnn: Command, models: Path, proof: Proof
) -> None:
    Path("inbox").mkdir()
    Path("inbox/a.csv").write_text("name\nKatoro\n")
    other = Path("outputs/predictions/a/runs/run=20200101T000000Z-aaaaaaaa")
    other.mkdir(parents=True)
    code, out, error = charrnn("inbox", "--folder", "inbox", "--settle-seconds", "0", "--model",
                               "v0001", "--models", models, "--device", "cpu")  # fmt: skip
    assert code == 0, error
    scored, passed_over = out.splitlines()
    assert scored.startswith("a.csv ")
    assert passed_over == f"{'':24}  passed over: {other} is not a run: it has no manifest.json"
    proof("P15", "an inbox tells what it passed over among runs", 1)


@pytest.mark.parametrize("yes", [True, False])
def test_a_purge_that_fails_tells_what_it_did(
    run: Path, tmp_path: Path, run_score: Callable[..., Path], charrnn: Command, yes: bool,
    proof: Proof,
) -> None:  # fmt: skip
    others = tmp_path / "others.csv"
    others.write_text("name\nKatoro\n")
    other = run_score(others)
    with failing(f"{run.name}/manifest.json"):
        code, out, error = charrnn(*PURGE, *(["--yes"] if yes else []))
    assert code == 74
    assert error == f"error: {run}/manifest.json cannot be read: Input/output error\n"
    assert out.splitlines()[0] == str(other)
    assert out.splitlines()[1].startswith("removed     1 runs" if yes else "would go    1 runs")
    assert other.exists() != yes
    assert run.exists()
    proof("P7", "a purge in part: what was removed, then the error", 1)


def test_a_purge_of_a_destination_in_use_tells_what_it_removed_elsewhere(
    run: Path, tmp_path: Path, run_score: Callable[..., Path], charrnn: Command, proof: Proof
) -> None:
    others = tmp_path / "others.csv"
    others.write_text("name\nKatoro\n")
    other, second = run_score(others), run_score(others, top_k=2)
    with hold(DESTINATION / ".lock", "somebody"):
        code, out, error = charrnn(*PURGE, "--yes")
    assert code == 75
    assert "somebody" in error
    assert out.splitlines()[:2] == sorted([str(other), str(second)])
    assert out.splitlines()[2].startswith("removed     2 runs")
    assert run.exists()
    proof("P7", "a purge in part: what was removed, then the error", 1)
