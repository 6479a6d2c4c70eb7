"""Ctrl-C and SIGTERM on real processes: answered at once, ended soon, and the rerun is right."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from recording import Proof

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
