"""Names in the output, private files, and purging."""

import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flat import files_of, read_manifest, score

from charrnn.cli import KEY_VARIABLE
from charrnn.errors import BusyError, ConfigError, InputMissingError
from charrnn.files import hold, write_sums
from charrnn.recipes import score as recipe
from charrnn.recipes.requests import PurgeRequest
from charrnn.runs.plan import RunPlan
from charrnn.runs.retention import OldRuns, old_runs, purge
from charrnn.runs.verify import verify_run
from charrnn.scoring.names import hide_names
from flows.score import app

KEY = "0123456789abcdef"
NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def run_score(
    models: Path, names_table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Score the table of names in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    pq.write_table(names_table, "people.parquet")

    def run(**options: Any) -> Path:
        return Path(score("people.parquet", model="v0001", models=str(models), **options))

    return run


def output(run: Path) -> pa.Table:
    return pq.read_table(run / "rows")


# --- names in the output ------------------------------------------------------------------------


def test_omitted_names_are_nowhere_and_all_else_is_as_it_was(
    run_score: Callable[..., Path],
) -> None:
    whole, bare = output(run_score()), output(run := run_score(names="omit"))
    assert bare.equals(whole.drop_columns("name"))
    assert verify_run(run).rows == 12
    assert not [p for p in files_of(run) if b"Katoro" in p.read_bytes()]


def test_hashed_names_are_equal_where_names_are(run_score: Callable[..., Path]) -> None:
    whole, hashed = output(run_score()), output(run := run_score(names="hash"))
    assert hashed.drop_columns("name").equals(whole.drop_columns("name"))
    assert hashed.column_names == whole.column_names
    pairs = list(zip(whole["name"].to_pylist(), hashed["name"].to_pylist(), strict=True))
    assert len({name for name, _ in pairs}) == len({digest for _, digest in pairs})
    assert len(set(pairs)) == len({name for name, _ in pairs})
    assert all((name is None) == (digest is None) for name, digest in pairs)
    assert all(digest is None or len(digest) == 32 for _, digest in pairs)
    assert not [p for p in files_of(run) if b"Katoro" in p.read_bytes()]
    assert KEY not in (run / "manifest.json").read_text()


def test_hash_is_keyed_and_the_same_in_every_run(
    run_score: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = run_score(names="hash")
    assert run_score(names="hash") == one, "the same key is the same run"
    assert output(run_score(names="hash", force=True)).equals(output(one))
    monkeypatch.setenv(KEY_VARIABLE, KEY[::-1])
    other = run_score(names="hash")
    assert other != one
    ours, theirs = (set(output(run)["name"].to_pylist()) - {None} for run in (one, other))
    assert not ours & theirs


def test_hash_is_blake2b_keyed() -> None:
    found = hide_names(pa.table({"n": ["Katoro"]}), "n", "hash", KEY.encode())["n"].to_pylist()
    # printf Katoro through Python's hashlib.blake2b(key=b"0123456789abcdef", digest_size=16)
    assert found == ["9e55dfc10b6b18e270194e641bc91633"]
    with pytest.raises(ConfigError, match="16 to 64 bytes, got 0"):
        hide_names(pa.table({"n": ["Katoro"]}), "n", "hash")


def test_the_key_is_read_once_for_all_partitions_and_shown_nowhere(
    run_score: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []

    def plan_then_forget(*arguments: Any) -> RunPlan:
        plans.append(plan_run(*arguments))
        monkeypatch.delenv(KEY_VARIABLE)
        return plans[-1]

    whole = output(run_score(names="hash"))
    plan_run = recipe.plan_run
    monkeypatch.setattr(recipe, "plan_run", plan_then_forget)
    run = run_score(names="hash", partition_rows=1, force=True)
    assert output(run).equals(whole)
    assert KEY not in repr(plans)
    assert KEY.encode() not in b"".join(p.read_bytes() for p in files_of(run))


@pytest.mark.parametrize("key", ["", "short", "x" * 65])
def test_hash_without_a_good_key_is_refused_before_any_work(
    run_score: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(ConfigError, match=f"got {len(key)}") as refused:
        run_score(names="hash")
    assert refused.value.option == "name_key"
    assert not key or key not in str(refused.value)
    assert not Path("outputs/predictions/people").exists()


# --- private files ------------------------------------------------------------------------------


def test_private_files_are_their_owners_alone(run_score: Callable[..., Path]) -> None:
    before = os.umask(0o022)
    try:
        run = run_score(private=True, output="out.csv")
        assert os.umask(0o022) == 0o022, "the umask is as it was"
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (*files_of(run), Path("out.csv"))} == {0o600}
    assert stat.S_IMODE(run.stat().st_mode) == 0o700


# --- purge --------------------------------------------------------------------------------------


def aged(run: Path, name: str) -> Path:
    """Give a run another time."""
    manifest = {**read_manifest(run), "created": name}
    (run / "manifest.json").write_text(json.dumps(manifest))
    write_sums(run)
    return run.rename(run.with_name(f"run={name}{run.name[20:]}"))


@pytest.fixture
def runs(run_score: Callable[..., Path]) -> list[Path]:
    """A run of 2001, one of 2002 and one of today, which ``latest`` points to."""
    old, middle = (
        aged(run_score(), "20010101T000000Z"),
        aged(run_score(top_k=1), "20020101T000000Z"),
    )
    return [old, middle, run_score(top_k=2)]


def test_purge_lists_first_and_removes_what_is_old_with_yes(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    app(["purge", "--older-than", "1"])
    listed = capsys.readouterr().out
    assert [line for line in listed.splitlines() if "predictions" in line] == [
        str(run) for run in runs[:2]
    ]
    assert "2 runs; --yes removes them" in listed
    assert all(run.is_dir() for run in runs)
    app(["purge", "--older-than", "1", "--yes"])
    assert [run.is_dir() for run in runs] == [False, False, True]
    destination = runs[2].parents[1]
    assert verify_run(destination / "latest").rows == 12
    assert sorted(p.name for p in destination.iterdir()) == [".lock", "latest", "runs"]
    assert [p.name for p in runs[2].parent.iterdir()] == [runs[2].name]


def test_purge_of_everything_takes_the_latest_link_too(runs: list[Path]) -> None:
    freed = purge(old_runs(Path("outputs"), 0, LATER)).freed
    assert freed
    assert sorted(p.name for p in runs[0].parents[1].rglob("*")) == [".lock", "runs"]


def test_purge_can_keep_the_newest_run_of_a_destination(runs: list[Path]) -> None:
    old = old_runs(Path("outputs"), 0, LATER, keep_newest=True)
    assert (old.folders, old.newest) == (runs[:2], runs[2:])


def test_purge_takes_left_overs_of_unfinished_runs(runs: list[Path]) -> None:
    left = runs[0].parents[1] / ".staging-0123456789abcdef"
    left.mkdir()
    assert left not in old_runs(Path("outputs"), 1, LATER).folders
    os.utime(left, (0, 0))
    assert left in old_runs(Path("outputs"), 1, LATER).folders


def test_purge_waits_for_nobody_and_removes_nothing_that_is_in_use(runs: list[Path]) -> None:
    old = OldRuns(runs[:1])
    with hold(runs[0].parents[1] / ".lock", "somebody"):
        purge(old)
    assert (old.folders, old.freed) == ([], 0)
    assert isinstance(old.failures[0], BusyError)
    assert "somebody" in str(old.failures[0])
    assert read_manifest(runs[0])


def test_purge_of_nonsense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        old_runs(tmp_path / "nowhere", 1, NOW)
    for days in (-1, float("nan")):
        with pytest.raises(ConfigError):
            PurgeRequest(folder=tmp_path, older_than=days)
