"""Folders that look like runs: crafted by others, broken, or of a clock that was ahead."""

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from recording import Proof

from charrnn.cli import console
from charrnn.errors import DataError
from charrnn.files import write_sums
from charrnn.recipes.monitor import monitor
from charrnn.recipes.requests import MonitorRequest
from charrnn.reports.history import history_page, read_histories
from charrnn.runs.history import _runs_before
from charrnn.runs.manifest import newest_first, read_manifest, read_run
from charrnn.runs.retention import old_runs, purge
from charrnn.runs.verify import verify_run

pytestmark = pytest.mark.usefixtures("working_folder")
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def run(people: Path, run_score: Callable[..., Path]) -> Path:
    return run_score(people)


@pytest.fixture
def app() -> Callable[..., Any]:
    return console()


def copy_of(run: Path, name: str, **changes: Any) -> Path:
    """A second run beside ``run``, with fields of its manifest changed and its digests right."""
    other = run.with_name(name)
    shutil.copytree(run, other)
    rewrite(other, {**json.loads((run / "manifest.json").read_bytes()), **changes})
    return other


def rewrite(run: Path, manifest: Any) -> None:
    (run / "manifest.json").write_text(json.dumps(manifest))
    write_sums(run)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 200_000, b'{"schema_version": null}', b"\xff\xfe", b"null", b'"x"',
     b'{"schema_version": 1e999}', b'{"schema_version": 99}', b'{"a": ' * 100_000],
)  # fmt: skip
def test_a_manifest_that_is_none_is_passed_over_with_a_line(
    run: Path, people: Path, run_score: Callable[..., Path], content: bytes
) -> None:
    other = run.with_name("run=20990101T000000Z-aaaaaaaa")
    other.mkdir()
    (other / "manifest.json").write_bytes(content)
    with pytest.raises(DataError):
        verify_run(other)
    assert run_score(people, force=True).is_dir()
    page = monitor(MonitorRequest(folder=Path("outputs/predictions")))
    assert any(f"passed over: {other}" in line for line in page.lines())
    assert other in [Path(line.split()[2].split("/manifest")[0])
                     for line in old_runs(run.parents[1], 0, LATER).left]  # fmt: skip


def test_a_fifo_as_manifest_is_not_waited_for(run: Path) -> None:
    other = run.with_name("run=20990101T000000Z-aaaaaaaa")
    other.mkdir()
    os.mkfifo(other / "manifest.json")
    with pytest.raises(DataError, match="not a regular file"):
        read_manifest(other)
    assert [found for found, _ in newest_first(run.parents[1], [])] == [run]


@pytest.mark.parametrize(
    "name", ["../rows/part-00000.parquet", "/etc/passwd", "part-00000.parquet"]
)
def test_parts_outside_a_run_are_not_its_parts(run: Path, name: str) -> None:
    manifest = json.loads((run / "manifest.json").read_bytes())
    manifest["parts"][0]["name"] = name
    rewrite(run, manifest)
    with pytest.raises(DataError, match="part has no name of one"):
        verify_run(run)


def test_a_link_in_place_of_a_part_is_not_a_part(run: Path, tmp_path: Path) -> None:
    part = run / "rows/part-00000.parquet"
    part.rename(tmp_path / "elsewhere.parquet")
    part.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(DataError):
        verify_run(run)


@pytest.mark.parametrize(
    "name",
    [
        "run=99999999T999999Z-aaaaaaaa",
        "run=20261324T020000Z-1f3a9c4e",
        "run=00000000T000000Z-00000000",
    ],
)
def test_purge_leaves_and_names_what_is_only_named_like_a_run(run: Path, name: str) -> None:
    other = run.with_name(name)
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    old = old_runs(Path("outputs"), 0, LATER)
    assert old.folders == [run]
    assert str(other) in " ".join(old.left)
    assert purge(old).folders == [run]
    assert (other / "thesis.txt").read_text() == "mine"


def test_purge_follows_no_link(run: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.txt").write_text("mine")
    destination = run.parents[1]
    (destination / ".staging-0123456789abcdef").symlink_to(victim)
    run.with_name("run=20200101T000000Z-aaaaaaaa").symlink_to(victim)
    (destination / "loop").symlink_to(destination)
    old = old_runs(Path("outputs"), 0, LATER)
    assert old.folders == [run]
    assert len(old.left) == 2
    assert purge(old).freed
    assert (victim / "thesis.txt").read_text() == "mine"


def test_purge_goes_on_where_one_destination_is_in_use(
    run: Path, run_score: Callable[..., Path], tmp_path: Path
) -> None:
    people = tmp_path / "others.csv"
    people.write_text("name\nKato\n")
    other = run_score(people)
    lock = run.parents[1] / ".lock"
    lock.unlink()
    lock.mkdir()  # cannot be held
    old = old_runs(Path("outputs"), 0, LATER)
    assert purge(old).folders == [other]
    assert [str(lock) in str(error) for error in old.failures] == [True]
    assert run.is_dir()
    assert not other.exists()


def test_a_run_of_a_clock_that_was_ahead_is_not_the_run_before(run: Path) -> None:
    manifest = read_run(run)
    other = {"name": "a.csv", "size": 1, "sha256": "0" * 64, "rows": 12}
    name = f"run=20400101T000000Z-{manifest.fingerprint[:8]}"
    copy_of(run, name, created="20400101T000000Z", inputs=[other])
    assert not list(_runs_before(manifest, run.parents[1], []))


def test_verify_takes_a_destination_its_latest_and_a_run(
    run: Path, app: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (run, run.parents[1], run.parents[1] / "latest", f"{run}/", f"{run.parents[1]}/"):
        app(["verify", str(path)])
        said = path if "latest" in str(path) else run
        assert f"{str(said).rstrip('/')} is whole" in capsys.readouterr().out


def test_links_of_the_history_begin_no_scheme(
    tmp_path: Path, run_score: Callable[..., Path]
) -> None:
    people = tmp_path / "people.csv"
    people.write_text("name\nKato\n")
    run_score(people, output="outputs/predictions/javascript:alert(1)")
    run_score(people, output='outputs/predictions/a%20"#?<b>')
    page = history_page(read_histories(Path("outputs/predictions"), 3)[0], ".").decode()
    assert 'href="javascript%3Aalert' in page
    assert 'href="a%2520%22%23%3F%3Cb%3E/runs/' in page
    assert 'href="javascript:' not in page


def test_rows_of_an_earlier_try_do_not_count_in_rows_per_second(run: Path) -> None:
    assert read_run(run).reused_rows == 0
    assert pq.read_metadata(run / "rows/part-00000.parquet").num_rows == read_run(run).rows


def test_purge_leaves_a_left_over_that_holds_what_no_run_writes(run: Path, proof: Proof) -> None:
    destination = run.parents[1]
    for name, content in ((".staging-0123456789abcdef", "letter.txt"),
                          (f".purged-{run.name}", "letter.txt"), (".purged-notes", "report.html"),
                          (".staging-1123456789abcdef", "part-00000.json")):  # fmt: skip
        (destination / name).mkdir()
        (destination / name / content).write_text("x")
    old = old_runs(destination, 0, LATER)
    assert [path.name for path in old.folders] == [".staging-1123456789abcdef", run.name]
    purge(old)
    assert not old.failures
    left = sorted(path.name for path in destination.glob(".*-*"))
    assert left == [".purged-notes", f".purged-{run.name}", ".staging-0123456789abcdef"]
    proof("P11", "left-overs with files of others: purge leaves them", 3)


@pytest.mark.parametrize("status", ["scored", "abstained", "unscored"])
def test_a_manifest_without_one_of_the_statuses_is_damaged(
    people: Path, run_score: Callable[..., Path], run: Path, status: str
) -> None:
    manifest = json.loads((run / "manifest.json").read_bytes())
    count = manifest["statuses"].pop(status)
    other = next(iter(manifest["statuses"]))
    manifest["statuses"][other] += count
    rewrite(run, manifest)
    with pytest.raises(DataError, match="statuses are not those of rows"):
        read_manifest(run)
    assert run_score(people) != run  # scored again, beside it
