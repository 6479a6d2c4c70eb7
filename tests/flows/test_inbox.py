"""The inbox flow: which files it scores, which it leaves, and what it says of those that fail."""

import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from commands import CANARY, Command, commands_of, complaint
from flat import score

import flows.inbox
from charrnn.files import hold
from charrnn.model.version import ModelVersion, save_version, set_alias
from charrnn.recipes import inbox as recipe
from charrnn.recipes import score as score_recipe
from charrnn.runs import inbox as memory
from charrnn.runs import plan as planning
from charrnn.runs.verify import verify_run

OUTPUT = Path("outputs/predictions")


@pytest.fixture(autouse=True)
def _working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_version: ModelVersion
) -> None:
    """A folder with a champion, an inbox, and a clock that does not make tests wait."""
    monkeypatch.chdir(tmp_path)
    save_version(tmp_path / "outputs/models", tiny_version)
    set_alias(tmp_path / "outputs/models", "champion", "v0001")
    Path("data/inbox").mkdir(parents=True)
    monkeypatch.setattr(recipe.time, "sleep", lambda seconds: None)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_of(flows.inbox.app, monkeypatch, capsys)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files for which a scoring run is started."""
    started: list[str] = []
    score_one = flows.inbox.score

    def counted(**options: Any) -> str:
        started.append(Path(options["source"]).name)
        return score_one(**options)

    monkeypatch.setattr(flows.inbox, "score", counted)
    return started


def drop(name: str, content: str = f"id,name\n1,{CANARY}\n2,Burghof\n") -> Path:
    path = Path("data/inbox") / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def runs(name: str) -> list[Path]:
    return list((OUTPUT / name / "runs").iterdir())


def test_every_file_is_scored_by_a_run_of_its_own(command: Command, scored: list[str]) -> None:
    drop("a.csv")
    drop("many/1.csv")
    drop("many/2.csv")
    pl.DataFrame({"name": ["Katoro"]}).write_parquet("data/inbox/b.parquet")
    code, out, error = command()
    assert code == 0, error
    assert scored == ["a.csv", "b.parquet", "many"]
    rows = [verify_run(OUTPUT / name / "latest").rows for name in ("a", "b~parquet", "many~folder")]
    assert rows == [2, 1, 4]
    assert CANARY not in out + error


def test_only_new_and_changed_files_are_scored_again(command: Command, scored: list[str]) -> None:
    for name in ("a.csv", "b.csv"):
        drop(name)
    command()
    scored.clear()
    assert command()[0] == 0
    assert scored == []

    drop("b.csv", "id,name\n1,Changed\n")
    drop("c.csv")
    os.utime("data/inbox/a.csv")  # touched, but the bytes are the same
    code, out, _ = command()
    assert code == 0
    assert scored == ["b.csv", "c.csv"]
    assert len(runs("b")) == 2
    assert [line.split()[0] for line in out.splitlines() if "already scored" in line] == ["a.csv"]


@pytest.fixture
def digested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose bytes are read; how old the files are does not count."""
    read: list[str] = []
    run_key = planning.run_key

    def noted(source: str, *arguments: Any, **options: Any) -> Any:
        read.append(Path(source).name)
        return run_key(source, *arguments, **options)

    monkeypatch.setattr(recipe, "run_key", noted)
    monkeypatch.setattr(score_recipe, "run_key", noted)
    monkeypatch.setattr(memory, "_OLD_ENOUGH", 0.0)
    return read


def test_a_file_that_looks_the_same_is_not_read_again(
    command: Command, digested: list[str]
) -> None:
    drop("a.csv")
    drop("many/1.csv")
    command()
    digested.clear()
    assert command()[0] == 0
    assert digested == []
    drop("many/2.csv")
    command()
    assert set(digested) == {"many"}


def test_a_file_rewritten_with_its_time_put_back_is_read_again(
    command: Command, digested: list[str]
) -> None:
    path = drop("a.csv", "name\nKatoro\n")
    command()
    before = path.stat()
    with path.open("r+") as file:
        file.write("name\nKatori\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_ino) == (before.st_size, before.st_ino)
    command()
    assert len(runs("a")) == 2


def test_a_file_that_changed_just_now_is_read_again(command: Command, digested: list[str]) -> None:
    memory._OLD_ENOUGH = 60.0  # the fixture puts it back
    drop("a.csv")
    command()
    digested.clear()
    command()
    assert digested == ["a.csv"]


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"asked": 1, "files": 2}'])
def test_other_options_and_a_damaged_memory_read_again(
    command: Command, digested: list[str], scored: list[str], damaged: str
) -> None:
    drop("a.csv")
    command()
    command("data/inbox", "--names", "omit")
    assert scored == ["a.csv", "a.csv"]
    command("data/inbox", "--names", "omit")
    digested.clear()
    [noted] = OUTPUT.glob(".inbox-*")
    noted.write_text(damaged)
    assert command("data/inbox", "--names", "omit")[0] == 0
    assert digested == ["a.csv"]
    assert scored == ["a.csv", "a.csv"]


def test_a_run_that_was_removed_is_made_again(
    command: Command, digested: list[str], scored: list[str]
) -> None:
    drop("a.csv")
    command()
    shutil.rmtree(runs("a")[0])
    command()
    assert scored == ["a.csv", "a.csv"]


def test_what_the_score_command_published_is_not_scored_again(
    command: Command, scored: list[str]
) -> None:
    path = drop("a.csv")
    score(str(path), model="champion")
    assert command()[0] == 0
    assert scored == []


def test_a_new_champion_scores_again(
    command: Command, scored: list[str], tiny_version: ModelVersion
) -> None:
    drop("a.csv")
    command()
    hotter = save_version(Path("outputs/models"), tiny_version.__class__(
        **{**tiny_version.__dict__, "temperature": 0.9}
    ))  # fmt: skip
    set_alias(Path("outputs/models"), "champion", hotter.name)
    command()
    assert scored == ["a.csv", "a.csv"]


def test_a_file_that_is_being_written_is_left_for_the_next_run(
    command: Command, scored: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    drop("done.csv")
    growing = drop("growing.csv")

    def meanwhile(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            with growing.open("a") as file:
                file.write("3,Katoro\n")

    monkeypatch.setattr(recipe.time, "sleep", meanwhile)
    code, out, _ = command("--settle-seconds", "7")
    assert (code, waits) == (0, [7.0])
    assert scored == ["done.csv"]
    assert "growing.csv" in out
    assert "still being written" in out

    assert command()[0] == 0
    assert scored == ["done.csv", "growing.csv"]
    assert verify_run(OUTPUT / "growing/latest").rows == 3
    command()
    assert len(waits) == 2  # nothing new: nothing to wait for


def test_a_file_that_goes_away_is_left(
    command: Command, scored: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop("a.csv")
    monkeypatch.setattr(recipe.time, "sleep", lambda seconds: path.unlink())
    assert command()[0] == 0
    assert scored == []


def test_hidden_files_and_other_kinds_are_passed_over(command: Command, scored: list[str]) -> None:
    for name in (".people.csv.part", "_SUCCESS", "_tmp.csv", "notes.txt", ".hidden/a.csv"):
        drop(name)
    Path("data/inbox/empty").mkdir()
    assert command()[0] == 0
    assert scored == []


def test_a_bad_file_does_not_stop_the_others_and_fails_the_run(command: Command) -> None:
    drop("a.csv", f"id,surname\n1,{CANARY}\n")
    drop("b.csv")
    drop("c.csv", f'id,name\n1,"{CANARY}\n')
    code, out, error = command()
    line = complaint(code, 65, error)
    assert line.startswith("error: 2 of 3 files failed; a.csv: ")
    assert "; c.csv: " in line
    assert "b.csv" not in line
    assert verify_run(OUTPUT / "b/latest").rows == 2
    assert CANARY not in out


def test_a_file_that_another_run_holds_is_no_failure(command: Command) -> None:
    drop("a.csv")
    drop("b.csv")
    with hold(OUTPUT / "a/.lock", "another run"):
        code, out, error = command()
    assert code == 0, error
    assert "being scored by another run" in out
    assert verify_run(OUTPUT / "b/latest").rows == 2
    assert command()[0] == 0
    assert verify_run(OUTPUT / "a/latest").rows == 2


def test_a_fault_of_ours_is_told_without_its_message(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop("a.csv")
    drop("b.csv")
    score_one = flows.inbox.score

    def faulty(**options: Any) -> str:
        if options["source"].endswith("a.csv"):
            raise KeyError(CANARY)
        return score_one(**options)

    monkeypatch.setattr(flows.inbox, "score", faulty)
    code, out, error = command()
    assert "1 of 2 files failed; a.csv: internal error: unexpected KeyError" in complaint(
        code, 65, error
    )
    assert CANARY not in out
    assert verify_run(OUTPUT / "b/latest").rows == 2


def test_a_folder_that_does_not_exist_is_missing_input(command: Command) -> None:
    code, _, error = command("nowhere")
    assert "the folder nowhere does not exist" in complaint(code, 66, error)


def test_options_reach_the_runs(command: Command) -> None:
    drop("a.csv", f"id,surname\n1,{CANARY}\n")
    code, _, error = command(
        "data/inbox", "--name-column", "surname", "--names", "omit", "--private",
        "--output", "runs", "--model", "v0001", "--device", "cpu", "--models", "outputs/models",
    )  # fmt: skip
    assert code == 0, error
    published = Path("runs/a/latest")
    manifest = verify_run(published)
    assert manifest.options.scoring.name_column == "surname"
    assert manifest.options.names == "omit"
    assert (published / "manifest.json").stat().st_mode & 0o077 == 0
