"""Ctrl-C and SIGTERM on real processes: answered at once, ended soon, and the rerun is right."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from recording import Proof

from charrnn import cli
from charrnn.files import sha256_of
from charrnn.model.version import ModelVersion, save_version
from charrnn.runs.verify import verify_run

ROOT = Path(__file__).parents[1]
# A command that goes on whatever a signal's handler raises.
_DEAF = """
import sys, time
from charrnn import cli
app = cli.new_app("")
@app.default
def work():
    said = False
    while True:
        try:
            if not said:
                said = True
                sys.stderr.write("working\\n")
                sys.stderr.flush()
            time.sleep(60)
        except BaseException:
            pass
cli.run(app, [], stop_seconds=float(sys.argv[1]))
"""


def started(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, text=True,
                            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)  # fmt: skip


def line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


STOPS = pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "term")]
)


@STOPS
def test_a_command_that_does_not_stop_is_ended(
    number: signal.Signals, code: int, word: str, tmp_path: Path, proof: Proof
) -> None:
    process = started("-c", _DEAF, "1.5", folder=tmp_path)
    assert line(process) == "working\n"
    process.send_signal(number)
    assert line(process).startswith(f"note: {word}")
    while not (said := line(process)).startswith("error: "):
        assert said
    assert "finished work is kept" in said
    process.communicate(timeout=20)
    assert process.returncode == code
    proof("P4", "a command that does not react to a signal: told at once, ended", 1)


@STOPS
def test_a_second_signal_ends_it_now(
    number: signal.Signals, code: int, word: str, tmp_path: Path, proof: Proof
) -> None:
    """The first one is told at once: the command itself would end ten minutes later."""
    process = started("-c", _DEAF, "600", folder=tmp_path)
    assert line(process) == "working\n"
    process.send_signal(number)
    assert line(process).startswith(f"note: {word}")
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == code
    proof("P4", "a second Ctrl-C stops now", 1)


@STOPS
def test_nothing_is_said_after_the_last_word(
    number: signal.Signals, code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The thread that waits for signals may come to speak after the command has ended."""
    stop = cli._Stop()
    stop.received.append(number)
    assert stop.say_stopped(number) == code
    stop.say_waiting(2.5)
    assert stop.say_stopped(number) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {word}")


@pytest.mark.parametrize("signals", [1, 2])
@pytest.mark.parametrize(
    "after", [1.5, *(pytest.param(after, marks=pytest.mark.slow) for after in (0.5, 2.5))]
)
def test_a_stopped_run_is_right_when_it_is_run_again(
    after: float, signals: int, tmp_path: Path, tiny_version: ModelVersion, proof: Proof
) -> None:
    names = [f"{a}{b}{c}ro" for a in "kmtsrpbd" for b in "aeiouyäö" for c in "lnmrst"] * 300
    pl.DataFrame({"id": range(len(names)), "name": names}).write_csv(tmp_path / "in.csv")
    save_version(tmp_path / "outputs/models", tiny_version)
    command = ("-m", "charrnn.cli", "score", "in.csv", "--model", "v0001", "--workers", "1",
               "--partition-rows", "4000", "-o", "out.csv")  # fmt: skip
    process = started(*command, folder=tmp_path)
    time.sleep(after)
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    process.communicate(timeout=60)
    assert process.returncode in (0, 143, -signal.SIGTERM)
    again = started(*command, folder=tmp_path)
    error = again.communicate(timeout=120)[1]
    assert again.returncode == 0, error
    assert verify_run(tmp_path / "outputs/predictions/in/latest").rows == len(names)
    assert pl.read_csv(tmp_path / "out.csv")["id"].to_list() == list(range(len(names)))
    assert not list((tmp_path / "outputs/predictions/in").glob(".staging-*"))
    proof("P4", "a run stopped once or twice by a signal, and run again", 1)


# Ingest, training and inbox: large enough to be met in the midst of their work.


def languages(folder: Path, names: int) -> None:
    draw = random.Random(1)
    syllables = {"Alpha": "ka ro mi ta shi", "Beta": "stein burg mann hof", "Gamma": "ovsk iy ev"}
    (folder / "languages").mkdir()
    for label, parts in syllables.items():
        lines = ["".join(draw.choices(parts.split(), k=draw.randint(2, 9))) for _ in range(names)]
        (folder / f"languages/{label}.txt").write_text("\n".join(lines) + "\n")


def inbox(folder: Path) -> None:
    (folder / "inbox").mkdir()
    names = [f"{a}{b}{c}ro" for a in "kmtsrpbd" for b in "aeiouyäö" for c in "lnmrst"] * 200
    for name in ("a", "b"):
        table = pl.DataFrame({"id": range(len(names)), "name": names})
        table.write_csv(folder / f"inbox/{name}.csv")


def corpus(folder: Path) -> None:
    languages(folder, 1000)
    assert finish("ingest", "languages", folder=folder)[0] == 0


def finish(*command: str, folder: Path) -> tuple[int, str]:
    process = started("-m", "charrnn.cli", *command, folder=folder)
    error = process.communicate(timeout=300)[1]
    return process.returncode, error


def published(folder: Path) -> list[str]:
    """Return what a reader sees, with digests of what has the same bytes every time."""
    runs = [verify_run(run).rows for run in sorted(folder.glob("outputs/predictions/*/latest"))]
    files = [*folder.glob("data/names.parquet"), *folder.glob("outputs/models/*/weights.*")]
    return [*map(str, runs), *(sha256_of(path) for path in sorted(files))]


TRAIN = ("train", "--preset", "seed", "--epochs", "3", "--seeds", "0", "--no-baselines",
         "--device", "cpu")  # fmt: skip
WORK: dict[str, tuple[Callable[[Path], None], tuple[str, ...], str]] = {
    "ingest": (lambda folder: languages(folder, 60_000), ("ingest", "languages"), "data/.lock"),
    "train": (corpus, TRAIN, "outputs/models/.training*/*"),
    "inbox": (inbox, ("inbox", "--folder", "inbox", "--settle-seconds", "0", "--model",
                      "pretrained-tiny", "--workers", "1", "--partition-rows", "4000"),
              "outputs/predictions/*/.staging-*/part-*.json"),
}  # fmt: skip


@pytest.mark.slow
@STOPS
@pytest.mark.parametrize("name", WORK)
def test_other_commands_stop_within_seconds_and_are_right_when_run_again(
    name: str, number: signal.Signals, code: int, word: str, tmp_path: Path, proof: Proof
) -> None:
    prepare, command, sign = WORK[name]
    for place in ("stopped", "whole"):
        (tmp_path / place).mkdir()
        prepare(tmp_path / place)
    process = started("-m", "charrnn.cli", *command, folder=tmp_path / "stopped")
    while process.poll() is None and not list((tmp_path / "stopped").glob(sign)):
        time.sleep(0.01)
    process.send_signal(number)
    sent = time.monotonic()
    error = process.communicate(timeout=60)[1]
    assert process.returncode == code, error
    assert error.splitlines()[-1].startswith(f"error: {word}")
    assert time.monotonic() - sent < 10  # seconds; 2.5 on an idle machine
    again = (*command, "--resume") if name == "train" else command
    for place, argv in (("stopped", again), ("whole", command)):
        returned, error = finish(*argv, folder=tmp_path / place)
        assert returned == 0, error
    assert published(tmp_path / "stopped") == published(tmp_path / "whole") != []
    left = [path.name for path in (tmp_path / "stopped").rglob(".*") if path.name[-5:] != ".lock"]
    assert [name for name in left if not name.startswith(".inbox-")] == []
    proof("P1, P2, P4", "SIGTERM or Ctrl-C to ingest, training and inbox, then once more", 1)
